from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics import aberrations
from vitreous.optics import ctf as ctf_module
from vitreous.optics.ctf import ctf, ctf_of_particles, gamma, has_odd_phase, odd_phase
from vitreous.optics.electrons import wavelength
from vitreous.reference import ctf as reference
from vitreous.reference import optics as reference_optics

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
RNG = np.random.default_rng(0)


def grid(box, pixel_size):
    return np.meshgrid(np.fft.rfftfreq(box, pixel_size), np.fft.fftfreq(box, pixel_size))


def parameters(n, rng):
    """n particles, some without astigmatism, with phase plate, B factor and scale."""
    u = rng.uniform(-3e4, 5e4, n)
    v = np.where(np.arange(n) % 3 == 0, u, u - rng.uniform(0, 3000, n))
    return CtfParameters.of(
        u, v, rng.uniform(-7, 7, n), rng.uniform(0, 3.1, n), rng.uniform(0, 80, n), rng.uniform(0.5, 1.5, n)
    )


@settings(max_examples=30)
@given(
    st.integers(1, 7),
    st.sampled_from([16, 17]),
    st.floats(0.6, 4),
    st.sampled_from([80e3, 100e3, 200e3, 300e3]),
    st.floats(0, 4e7),
    st.floats(0, 0.3),
    st.integers(0, 1000),
)
def test_is_the_definition(n, box, pixel_size, voltage, spherical_aberration, amplitude_contrast, seed):
    kx, ky = grid(box, pixel_size)
    p = parameters(n, np.random.default_rng(seed))
    group = OpticsGroup(
        voltage=voltage, spherical_aberration=spherical_aberration, amplitude_contrast=amplitude_contrast
    )
    values = ctf_of_particles(group, p, kx, ky)
    lens = (reference_optics.wavelength(voltage), spherical_aberration, amplitude_contrast)
    expected = [
        p.scale[i]
        * reference.ctf(
            kx, ky, (p.defocus_u[i], p.defocus_v[i], p.defocus_angle[i]), lens, p.phase_shift[i], p.b_factor[i]
        )
        for i in range(n)
    ]
    # The bar of physics.md (c) 6. The definition's own phase, up to 1e4 radian, is good to 1e-12 of that.
    np.testing.assert_allclose(values, expected, atol=1e-10)


def test_even_zernike_and_magnification_are_the_definition():
    kx, ky = grid(24, 1.3)
    matrix = ((1.02, 0.01), (-0.02, 0.97))
    coefficients = (0.2, 3.0, -4.0, 5.0, 20.0, -30.0, 10.0, 15.0, -25.0)
    p = parameters(3, RNG)
    group = OpticsGroup(
        voltage=300e3,
        spherical_aberration=2.7e7,
        amplitude_contrast=0.1,
        even_zernike=coefficients,
        magnification=matrix,
    )
    (xx, xy), (yx, yy) = matrix
    x, y = xx * kx + xy * ky, yx * kx + yy * ky
    angle = np.arctan2(y, x)
    wave = reference_optics.wavelength(300e3)
    zernike = sum(
        c * reference_optics.zernike(n, m, x, y) for c, (n, m) in zip(coefficients, aberrations.even_zernike_indices(9))
    )
    for i, values in enumerate(ctf_of_particles(group, p, kx, ky)):
        along = reference.defocus_along(angle, p.defocus_u[i], p.defocus_v[i], p.defocus_angle[i])
        chi = reference.chi(np.hypot(x, y), along, wave, 2.7e7)
        envelope = p.scale[i] * np.exp(-p.b_factor[i] * (x**2 + y**2) / 4)
        phase = chi + p.phase_shift[i] + np.arcsin(0.1)
        np.testing.assert_allclose(values, envelope * np.sin(phase - zernike), atol=1e-10)
        assert np.abs(values - envelope * np.sin(phase + zernike)).max() > 0.1  # the sign of the Zernike terms matters


def test_value_at_zero_frequency():
    at_zero = ctf(0.0, 0.0, 1e4, **LENS)
    assert float(at_zero) == pytest.approx(0.1, abs=1e-15)
    assert float(ctf(0.0, 0.0, 1e4, contrast="raw", **LENS)) == pytest.approx(-0.1, abs=1e-15)
    assert float(ctf(0.0, 0.0, 1e4, phase_shift=math.pi / 2, **LENS)) == pytest.approx(math.sqrt(0.99), abs=1e-15)


def test_contrast_has_a_name():
    kx, ky = grid(16, 1.5)
    inverted = ctf(kx, ky, 1e4, **LENS)
    assert inverted[0, 1] > 0  # white protein: positive at low frequency at underfocus
    np.testing.assert_array_equal(ctf(kx, ky, 1e4, contrast=Contrast.RAW, **LENS), -inverted)
    np.testing.assert_array_equal(ctf(kx, ky, 1e4, contrast="inverted", **LENS), inverted)
    for wrong in (Contrast.UNKNOWN, "white", -1, True):
        with pytest.raises(SettingsProblem, match="inverted"):
            ctf(kx, ky, 1e4, contrast=wrong, **LENS)


def test_is_the_two_part_formula():
    kx, ky = grid(20, 1.0)
    chi = aberrations.defocus_phase(kx, ky, 1.5e4, wavelength=wavelength(300e3), spherical_aberration=2.7e7)
    expected = math.sqrt(1 - 0.01) * np.sin(chi) + 0.1 * np.cos(chi)
    np.testing.assert_allclose(ctf(kx, ky, 1.5e4, **LENS), expected, atol=1e-12)


def test_complex_ctf():
    """(P + Q)/2 = CTF with P = exp(i (gamma - pi/2)) and Q its conjugate: physics.md (c) 6."""
    kx, ky = grid(20, 1.0)
    p = aberrations.wave_factor(gamma(kx, ky, 1.5e4, np.array([100.0, 50.0]), **LENS) - math.pi / 2)
    np.testing.assert_allclose((p + p.conj()) / 2, ctf(kx, ky, 1.5e4, np.array([100.0, 50.0]), **LENS), atol=1e-12)


def test_weak_phase_object():
    """physics.md b5: `|exp(i chi) on exp(i phi)|^2 = 1 - 2 phi sin(chi)`, and -sin(gamma) is the raw CTF."""
    phi, k = 1e-4, 5 / 64
    x = np.arange(64)
    kx = np.fft.fftfreq(64)
    chi = aberrations.defocus_phase(kx, 0.0, 1e4, wavelength=wavelength(300e3), spherical_aberration=2.7e7)
    object_phase = phi * np.cos(2 * np.pi * k * x)
    wave = np.fft.ifft(np.fft.fft(np.exp(1j * object_phase)) * aberrations.wave_factor(chi))
    raw = float(ctf(k, 0.0, 1e4, contrast="raw", **{**LENS, "amplitude_contrast": 0.0}))
    residue = np.abs(wave) ** 2 - (1 + 2 * raw * object_phase)
    assert np.abs(residue).max() < 2e-8  # phi^2 with a factor of order one
    assert np.abs(np.abs(wave) ** 2 - (1 - 2 * raw * object_phase)).max() > 1e-4 * abs(raw)


@pytest.mark.parametrize("frequency_shape", [(), (7,), (5, 3)])
@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3)])
def test_shapes(batch, frequency_shape):
    kx, ky = RNG.uniform(-0.4, 0.4, (2, *frequency_shape))
    defocus, phase_shift = RNG.uniform(5e3, 3e4, batch), RNG.uniform(0, 1, batch)
    astigmatism = RNG.normal(0, 300, (*batch, 2))
    values = ctf(kx, ky, defocus, astigmatism, phase_shift=phase_shift, b_factor=20.0, **LENS)
    assert values.shape == batch + frequency_shape
    for index in np.ndindex(batch):
        one = ctf(kx, ky, defocus[index], astigmatism[index], phase_shift=phase_shift[index], b_factor=20.0, **LENS)
        np.testing.assert_allclose(values[index], one, atol=1e-12)
    np.testing.assert_allclose(
        gamma(kx, ky, defocus, astigmatism, phase_shift=phase_shift, **LENS).shape, batch + frequency_shape
    )


def test_open_grids_and_batched_lens():
    kx, ky = np.fft.rfftfreq(12, 2.0)[None, :], np.fft.fftfreq(12, 2.0)[:, None]
    full_x, full_y = grid(12, 2.0)
    np.testing.assert_array_equal(ctf(kx, ky, 1e4, **LENS), ctf(full_x, full_y, 1e4, **LENS))
    sweep = ctf(kx, ky, 1e4, voltage=300e3, spherical_aberration=np.array([0.0, 2.7e7]), amplitude_contrast=0.1)
    np.testing.assert_allclose(sweep[1], ctf(kx, ky, 1e4, **LENS), atol=1e-13)


def test_blocks_do_not_show(monkeypatch):
    kx, ky = grid(16, 1.5)
    p = parameters(50, RNG)
    group = OpticsGroup(**LENS)
    whole = ctf_of_particles(group, p, kx, ky)
    monkeypatch.setattr(ctf_module, "BLOCK", 7 * kx.size)  # 7 rows a block, the last block of 1
    np.testing.assert_allclose(ctf_of_particles(group, p, kx, ky), whole, atol=1e-12)


def test_inputs_are_unchanged():
    kx, ky = grid(16, 1.5)
    p = parameters(5, RNG)
    copies = [a.copy() for a in (kx, ky, p.defocus_u, p.phase_shift, p.b_factor, p.scale)]
    ctf_of_particles(OpticsGroup(**LENS), p, kx, ky)
    for before, after in zip(copies, (kx, ky, p.defocus_u, p.phase_shift, p.b_factor, p.scale)):
        np.testing.assert_array_equal(before, after)


def test_swapping_u_and_v_is_a_quarter_turn():
    kx, ky = grid(16, 1.5)
    group = OpticsGroup(**LENS)
    one = ctf_of_particles(group, CtfParameters.of(12000, 11000, 0.3), kx, ky)
    other = ctf_of_particles(group, CtfParameters.of(11000, 12000, 0.3 + math.pi / 2), kx, ky)
    np.testing.assert_allclose(one, other, atol=1e-12)
    assert np.abs(one - ctf_of_particles(group, CtfParameters.of(12000, 11000, -0.3), kx, ky)).max() > 0.1


def test_turning_the_frequencies_turns_the_astigmatism():
    kx, ky = RNG.uniform(-0.3, 0.3, (2, 40))
    turn = 0.7
    turned = np.cos(turn) * kx - np.sin(turn) * ky, np.sin(turn) * kx + np.cos(turn) * ky
    group = OpticsGroup(**LENS)
    one = ctf_of_particles(group, CtfParameters.of(12000, 11000, 0.3), kx, ky)
    other = ctf_of_particles(group, CtfParameters.of(12000, 11000, 0.3 + turn), *turned)
    np.testing.assert_allclose(one, other, atol=1e-11)


def test_odd_phase_of_a_group():
    kx, ky = grid(16, 1.5)
    tilt, coefficients = (1e-3, -0.5e-3), (0.5, -0.3, 4.0, 2.0, -3.0, 5.0)
    group = OpticsGroup(beam_tilt=tilt, odd_zernike=coefficients, **LENS)
    expected = aberrations.odd_zernike_phase(kx, ky, coefficients) + aberrations.beam_tilt_phase(
        kx, ky, tilt, wavelength=wavelength(300e3), spherical_aberration=2.7e7
    )
    np.testing.assert_allclose(odd_phase(group, kx, ky), expected, atol=1e-14)
    np.testing.assert_allclose(odd_phase(group, -kx, -ky), -expected, atol=1e-14)
    assert has_odd_phase(group)
    plain = OpticsGroup(**LENS)
    assert not has_odd_phase(plain)
    assert np.all(odd_phase(plain, kx, ky) == 0)
    magnified = OpticsGroup(beam_tilt=tilt, magnification=((1.1, 0.0), (0.0, 1.0)), **LENS)
    np.testing.assert_allclose(
        odd_phase(magnified, kx, ky), odd_phase(OpticsGroup(beam_tilt=tilt, **LENS), 1.1 * kx, ky), atol=1e-14
    )


@pytest.mark.parametrize("missing", ["voltage", "spherical_aberration", "amplitude_contrast"])
def test_an_incomplete_group_is_named(missing):
    group = OpticsGroup(name="seven", **{**LENS, missing: None})
    with pytest.raises(DataProblem, match=f"seven.*{missing.replace('_', ' ')}"):
        ctf_of_particles(group, CtfParameters.of(1e4, 1e4, 0.0), 0.1, 0.1)


def test_a_voltage_in_kilovolts_is_refused():
    with pytest.raises(SettingsProblem, match="volts"):
        ctf(0.1, 0.1, 1e4, **{**LENS, "voltage": 300})
