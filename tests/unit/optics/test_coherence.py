from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.model.microscope import Microscope
from vitreous.model.slices import ExitWave
from vitreous.optics.coherence import coherence_envelope, quadrature_nodes, source_quadrature
from vitreous.optics.ctf import ctf, gamma
from vitreous.optics.electrons import wavelength
from vitreous.optics.envelopes import focal_spread, spatial_coherence, temporal_coherence
from vitreous.optics.imaging import image_of_wave, wave_transfer
from vitreous.optics.lens import wave_image
from vitreous.reference import imaging as reference

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7}
K = np.array([1 / 4, 1 / 3, 0.498, 1 / 2])
SPREAD = 26.754


def transferred(microscope, coherence):
    """The contrast that the image of weak gratings keeps at each of K: of a phase and of an absorbing grating, together."""
    count, pixel_size, phase = 3000, 0.5, 1e-6  # 1500 A: every K is a frequency of this box
    x = (np.arange(count) - count // 2) * pixel_size
    gratings = phase * np.cos(2 * np.pi * K[:, None] * x).sum(axis=0)[None]
    rows = np.round(K * count * pixel_size).astype(int)

    def part(kind):
        image = wave_image(ExitWave(np.exp(1j * kind * gratings), pixel_size, 0.0), microscope, coherence=coherence)
        return np.abs(np.fft.fft(image[0] - 1)[rows]) / (count * phase)

    return np.hypot(part(1), part(1j))


SOURCES = {
    "angles": ({"one_over_e_mrad": 0.1}, [0.58345, 0.42468, 0.26131, 0.26049]),
    "energies": ({"focal_sigma": SPREAD}, [0.99467, 0.98324, 0.91924, 0.91799]),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_sum_over_the_source_is_the_envelope_for_a_weak_object(source):
    """The rows of physics.md b9; its bar (c) 7 for the sum is 1e-3, and 9e-5 is reached."""
    widths, expected = SOURCES[source]
    microscope = Microscope(defocus=1e4, **LENS, **widths)
    np.testing.assert_allclose(transferred(microscope, "sum"), expected, atol=2e-4)
    np.testing.assert_allclose(transferred(microscope, "envelope"), expected, atol=1e-5)
    if source == "angles":  # the other sign of the defocus leaves 0.0206 at the third row
        opposite = Microscope(defocus=-1e4, **LENS, **widths)
        assert transferred(opposite, "envelope")[2] == pytest.approx(0.0206, abs=1e-4)


def test_both_envelopes_multiply():
    both = Microscope(defocus=1e4, aperture=0.6, one_over_e_mrad=0.1, focal_sigma=SPREAD, **LENS)
    expected = np.prod([values for _, values in SOURCES.values()], axis=0)
    np.testing.assert_allclose(transferred(both, "sum"), expected, atol=1e-3)  # the bar of physics.md (c) 7


@pytest.mark.parametrize(
    "widths", [{"one_over_e_mrad": 0.2}, {"focal_sigma": 60.0}, {"one_over_e_mrad": 0.1, "focal_sigma": 60.0}]
)
def test_the_sum_is_the_definition_for_a_strong_object(rng, widths):
    shape = (10, 12)
    grid = frequencies(shape, 1.0, half=False)
    wave = np.exp(1j * rng.normal(size=shape))
    microscope = Microscope(defocus=3000.0, astigmatism=(200.0, 100.0), beam_tilt=(1e-3, 0.0), **LENS, **widths)

    def image_of(deviation, tilt_x, tilt_y):
        return image_of_wave(
            wave, wave_transfer(*grid, 3000.0 + deviation, (200.0, 100.0), beam_tilt=(1e-3 + tilt_x, tilt_y), **LENS)
        )

    samples = 15 if len(widths) == 2 else 41
    expected = reference.incoherent_sum(
        image_of, widths.get("focal_sigma", 0.0), widths.get("one_over_e_mrad", 0.0) * 1e-3, samples
    )
    image = wave_image(ExitWave(wave, 1.0, 0.0), microscope, coherence="sum")
    # 1e-3 of the undamped contrast by the choice of the nodes, 6e-5 by the reach of the definition
    np.testing.assert_allclose(image, expected, atol=2e-3)
    coherent = wave_image(ExitWave(wave, 1.0, 0.0), Microscope(defocus=3000.0, astigmatism=(200.0, 100.0), **LENS))
    assert np.abs(coherent - expected).max() > 0.1
    if "focal_sigma" in widths:  # of waves that interfere with each other the envelope takes too much
        damped = wave_image(ExitWave(wave, 1.0, 0.0), microscope)
        assert damped.var() < expected.var()


def test_electrons_are_neither_made_nor_lost(rng):
    wave = ExitWave(np.exp(1j * rng.normal(size=(12, 12))), 1.0, 0.0)
    microscope = Microscope(defocus=3000.0, one_over_e_mrad=0.1, focal_sigma=30.0, **LENS)
    assert wave_image(wave, microscope, coherence="sum").mean() == pytest.approx(1, rel=1e-12)


def test_envelope_is_the_closed_form():
    envelope = coherence_envelope(K, 0 * K, 1e4, one_over_e_mrad=0.1, focal_sigma=SPREAD, **LENS)
    spatial = spatial_coherence(K, 1e4, one_over_e_mrad=0.1, **LENS)
    temporal = temporal_coherence(K, focal_sigma=SPREAD, voltage=300e3)
    np.testing.assert_allclose(envelope, spatial * temporal, rtol=1e-12)


def test_envelope_follows_the_gradient_of_the_phase():
    kx, ky = np.meshgrid(np.linspace(-0.3, 0.3, 7), np.linspace(-0.25, 0.3, 6))
    astigmatism, step = np.array([2000.0, -1500.0]), 1e-5

    def phase(x, y):
        return gamma(x, y, 9e3, astigmatism, amplitude_contrast=0.0, **LENS)

    slope_x = (phase(kx + step, ky) - phase(kx - step, ky)) / (2 * step)
    slope_y = (phase(kx, ky + step) - phase(kx, ky - step)) / (2 * step)
    angle = 0.1e-3
    expected = np.exp(-((np.pi * angle / wavelength(300e3)) ** 2) * (slope_x**2 + slope_y**2) / (2 * np.pi) ** 2)
    envelope = coherence_envelope(kx, ky, 9e3, astigmatism, one_over_e_mrad=0.1, **LENS)
    np.testing.assert_allclose(envelope, expected, atol=1e-7)  # differences of a phase of some hundred radian
    swapped = coherence_envelope(kx, ky, 9e3, -astigmatism, one_over_e_mrad=0.1, **LENS)
    assert np.abs(swapped - expected).max() > 0.1


def test_envelope_damps_the_ctf_of_a_weak_image(rng):
    values = ctf(*frequencies((8, 8), 2.0, half=False), 1e4, amplitude_contrast=0.0, **LENS)
    grid = frequencies((8, 8), 2.0, half=False)
    envelope = coherence_envelope(*grid, 1e4, one_over_e_mrad=0.05, **LENS)
    transfer = wave_transfer(*grid, 1e4, envelope=envelope, **LENS)
    np.testing.assert_allclose(transfer.imag, values * envelope, atol=1e-12)


def test_quadrature_has_the_moments_of_the_source():
    focus, tilt, weight = source_quadrature(one_over_e_mrad=0.1, focal_sigma=30.0, angle_nodes=4, focus_nodes=5)
    assert len(weight) == 80 and weight.sum() == pytest.approx(1, rel=1e-14)
    assert (weight * focus).sum() == pytest.approx(0, abs=1e-12)
    assert np.sqrt((weight * focus**2).sum()) == pytest.approx(30.0, rel=1e-12)
    # 1/e half-width a: rms a / sqrt 2 on each axis
    np.testing.assert_allclose(np.sqrt((weight[:, None] * tilt**2).sum(axis=0)), 0.1e-3 / np.sqrt(2), rtol=1e-12)
    assert (weight * tilt[:, 0] * tilt[:, 1]).sum() == pytest.approx(0, abs=1e-20)
    assert len(source_quadrature()[2]) == 1


def test_nodes_are_enough_and_no_more():
    for exponent in (0.1, 2.0, 12.0):
        for count, enough in ((quadrature_nodes(exponent), True), (quadrature_nodes(exponent) - 1, False)):
            points, weights = np.polynomial.hermite.hermgauss(count)
            arguments = 2 * np.linspace(0, np.sqrt(exponent), 300)
            left = np.cos(arguments[:, None] * points) @ weights / weights.sum() - np.exp(-(arguments**2) / 4)
            assert bool(np.abs(left).max() < 1e-3) is enough
    with pytest.raises(SettingsProblem, match="envelope"):
        quadrature_nodes(1e4)


def test_energy_spread_by_either_width():
    by_fwhm = focal_spread(2.7e7, fwhm_ev=0.7, voltage=300e3)
    assert by_fwhm == pytest.approx(26.754, abs=0.51e-3)  # physics.md b9
    assert by_fwhm == focal_spread(2.7e7, sigma_ev=0.7 / 2.3548200450309493, voltage=300e3)
    for both in ({}, {"sigma_ev": 0.3, "fwhm_ev": 0.7}):
        with pytest.raises(SettingsProblem, match="one of the two"):
            focal_spread(2.7e7, voltage=300e3, **both)


def test_jax_gives_the_same_sum(rng):
    import jax

    with jax.enable_x64(True):
        wave = np.exp(1j * rng.normal(size=(8, 8)))
        microscope = Microscope(defocus=3000.0, one_over_e_mrad=0.1, focal_sigma=30.0, **LENS)
        expected = wave_image(ExitWave(wave, 1.0, 0.0), microscope, coherence="sum", nodes=4)
        values = wave_image(ExitWave(jax.numpy.asarray(wave), 1.0, 0.0), microscope, coherence="sum", nodes=4)
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_settings_that_cannot_work(rng):
    from dataclasses import replace

    import jax

    wave = ExitWave(np.ones((8, 8), complex), 1.0, 0.0)
    microscope = Microscope(defocus=3000.0, one_over_e_mrad=0.1, **LENS)
    with pytest.raises(SettingsProblem, match="coherence 'exact'"):
        wave_image(wave, microscope, coherence="exact")
    with pytest.raises(SettingsProblem, match="give nodes"):
        jax.grad(lambda df: wave_image(wave, replace(microscope, defocus=df), coherence="sum").sum())(3000.0)
    with pytest.raises(SettingsProblem, match="nodes"):
        source_quadrature(one_over_e_mrad=0.1, angle_nodes=0)
    with pytest.raises(SettingsProblem, match="focal_sigma"):
        Microscope(defocus=0.0, focal_sigma=-1.0, **LENS)
