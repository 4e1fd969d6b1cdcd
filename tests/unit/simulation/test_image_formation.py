from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.model.microscope import Microscope
from vitreous.model.slices import PotentialSlices
from vitreous.optics.electrons import interaction_constant
from vitreous.optics.imaging import image_of_wave, linear_image, wave_transfer
from vitreous.scattering.ladder import ScatteringModel, exit_wave
from vitreous.simulation.image_formation import electrons_per_pixel, form_image

SIGMA = interaction_constant(300e3)
LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7}
MICROSCOPE = Microscope(defocus=6e3, astigmatism=(200.0, -100.0), **LENS)
WAVES = [model for model in ScatteringModel if model is not ScatteringModel.PROJECTION]


def some_slices(rng, strength, count=6, thickness=4.0):
    """Random slabs of rms `strength` V A, without frequencies beyond a quarter of Nyquist's double."""
    k = np.hypot(np.fft.fftfreq(32), np.fft.fftfreq(32)[:, None])
    values = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 32, 32))) * (k < 0.16)).real
    return PotentialSlices(strength * values / values.std(), 1.0, thickness, -(count - 1) / 2 * thickness)


@pytest.mark.parametrize("model", WAVES)
def test_every_rung_is_exit_wave_then_lens(rng, model):
    slices = some_slices(rng, 30.0)
    wave = exit_wave(slices, 300e3, model)
    kx, ky = frequencies((32, 32), 1.0, half=False)
    transfer = wave_transfer(kx, ky, 6e3 + wave.height, (200.0, -100.0), **LENS)
    np.testing.assert_allclose(form_image(slices, MICROSCOPE, model), image_of_wave(wave.wave, transfer), atol=1e-12)


def test_projection_is_the_linear_image(rng):
    slices = some_slices(rng, 30.0)
    microscope = replace(MICROSCOPE, amplitude_contrast=0.1)
    expected = linear_image(slices.projected.sum(axis=0), 1.0, 6e3, (200.0, -100.0), amplitude_contrast=0.1, **LENS)
    np.testing.assert_allclose(form_image(slices, microscope, "projection"), expected, atol=1e-13)


@pytest.mark.parametrize("model", WAVES)
def test_every_rung_becomes_the_projection_of_a_thin_weak_specimen(rng, model):
    slices = some_slices(rng, 1e-3, count=2, thickness=0.01)
    microscope = replace(MICROSCOPE, amplitude_contrast=0.07)
    image, projection = (form_image(slices, microscope, which) for which in (model, "projection"))
    contrast = np.abs(projection - 1).max()
    # order (sigma Vz)^2 / (sigma Vz) = 1e-5, and pi lambda t k^2 of 0.01 A
    assert np.abs(image - projection).max() < 1e-4 * contrast
    assert np.abs(image - (2 - projection)).max() > contrast
    without = form_image(slices, MICROSCOPE, model)
    assert np.abs(image - without).max() > 1e-3 * contrast


@pytest.mark.parametrize("model", ["ewald", "thick_phase_grating", "rytov"])
def test_rungs_with_depth_agree_for_a_thick_weak_specimen(rng, model):
    """40 slabs of 5 A and 1e-3 V A: depth matters, strength does not."""
    slices = some_slices(rng, 1e-3, count=40, thickness=5.0)
    image, exact, flat = (form_image(slices, MICROSCOPE, which) for which in (model, "multislice", "weak_phase"))
    contrast = np.abs(exact - 1).max()
    assert np.abs(image - exact).max() < 1e-3 * contrast
    assert np.abs(flat - exact).max() > 0.05 * contrast
    # the other side of the curvature: the specimen upside down
    turned = form_image(replace(slices, projected=slices.projected[::-1]), MICROSCOPE, model)
    assert np.abs(turned - exact).max() > 0.05 * contrast


@pytest.mark.parametrize("model", [*WAVES, "projection"])
def test_height_of_the_specimen_is_defocus(rng, model):
    """A specimen nearer the detector by 300 A under 6000 A is one at z = 0 under 6300 A, on every rung."""
    slices = some_slices(rng, 30.0)
    higher = form_image(replace(slices, height=slices.height + 300.0), MICROSCOPE, model)
    np.testing.assert_allclose(higher, form_image(slices, MICROSCOPE.at_height(300.0), model), atol=1e-12)
    assert np.abs(higher - form_image(slices, MICROSCOPE.at_height(-300.0), model)).max() > 1e-3


def test_absorbing_specimen_loses_electrons(rng):
    thin = PotentialSlices(np.full((3, 8, 8), 5.0 + 2.0j), 1.0, 10.0, -10.0)
    image = form_image(thin, MICROSCOPE)
    np.testing.assert_allclose(image, np.exp(-2 * SIGMA * 6.0), rtol=1e-12)


def test_coherence_by_sum_and_by_envelope(rng):
    microscope = replace(MICROSCOPE, one_over_e_mrad=0.1, focal_sigma=60.0)
    weak = some_slices(rng, 1e-4)
    by_sum, by_envelope = (form_image(weak, microscope, "multislice", coherence=c) for c in ("sum", "envelope"))
    contrast = np.abs(by_envelope - 1).max()
    assert np.abs(by_sum - by_envelope).max() < 2e-3 * contrast  # twice the bar of physics.md (c) 7: angles and focus
    assert np.abs(form_image(weak, MICROSCOPE) - by_envelope).max() > 2e-2 * contrast


def test_electrons_per_pixel():
    """30 e/A^2 on pixels of 1.5 A: 67.5 electrons."""
    np.testing.assert_allclose(electrons_per_pixel(np.array([1.0, 0.5]), 30.0, 1.5), [67.5, 33.75])


def test_requests_that_cannot_work(rng):
    slices = some_slices(rng, 1.0)
    with pytest.raises(SettingsProblem, match="multislic"):
        form_image(slices, MICROSCOPE, "multislic")
    for wrong in ({"coherence": "sum"}, {"band_limit": 0.5}):
        with pytest.raises(SettingsProblem, match="projection"):
            form_image(slices, MICROSCOPE, "projection", **wrong)


def test_single_precision_and_inputs(rng):
    slices = some_slices(rng, 30.0)
    single = replace(slices, projected=slices.projected.astype(np.float32))
    kept = single.projected.copy()
    microscope = replace(MICROSCOPE, amplitude_contrast=0.07)
    for model in ScatteringModel:
        image = form_image(single, microscope, model)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, form_image(slices, microscope, model), atol=1e-5)  # physics.md (c) 5
    np.testing.assert_array_equal(single.projected, kept)
