from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.detection.detector import Mode
from vitreous.detection.detectors import detector, detector_names, voltages_of
from vitreous.detection.measurement import noise_power
from vitreous.detection.recording import dose_per_pixel, expected_counts, record, sparse_dose
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.reference import detection as reference

ALL = [(name, voltage) for name in detector_names() for voltage in voltages_of(name) or (300e3,)]


def grid(shape):
    return np.meshgrid(np.fft.fftfreq(shape[1]), np.fft.fftfreq(shape[0]))


@pytest.mark.parametrize("key", [("k2", 300e3), ("falcon2", 300e3), ("ideal", None)], ids=str)
def test_expected_counts_are_the_definition(key, rng):
    camera, shape = detector(*key), (12, 15)
    intensity = rng.uniform(0.5, 1.5, shape)
    before = intensity.copy()
    expected = camera.gain * 7.5 * reference.convolve(intensity, camera.mtf(*grid(shape)))
    np.testing.assert_allclose(expected_counts(intensity, 7.5, camera), expected, atol=1e-12)
    np.testing.assert_array_equal(intensity, before)
    assert camera.gain == {"k2": camera.dqe_at_zero, "falcon2": 1.0, "ideal": 1.0}[camera.name]


@pytest.mark.parametrize("key", ALL, ids=str)
def test_signal_passes_the_mtf(key, rng):
    """A wave comes out with the amplitude of the MTF: not of the DQE, not of its root (physics.md (f) 13, 14)."""
    camera, box, order, dose = detector(*key), 64, 20, 1e6
    wave = np.cos(2 * np.pi * order * np.arange(box) / box)
    counts = record(np.broadcast_to(1 + 0.5 * wave, (box, box)), dose, camera, rng)
    amplitude = 2 * np.mean(counts * wave) / (0.5 * camera.gain * dose)
    k = np.array(order / box)
    # Deviation of such a mean: sqrt(2 NTF^2 / (DQE(0) dose)) / (0.5 * 64) = 6e-5 at most
    assert amplitude == pytest.approx(float(camera.mtf(k)), abs=3e-4)
    for other in (camera.dqe(k), np.sqrt(camera.mtf(k))):
        assert abs(amplitude - other) > 0.01


@pytest.mark.parametrize("dose", [0.05, 0.9, 20.0])
@pytest.mark.parametrize("mode", Mode)
def test_flat_field_mean_and_variance(mode, dose, rng):
    """Before the NTF: mean `gain dose`, variance `gain^2 dose / DQE(0)`, within 3 standard errors (physics.md (c) 10)."""
    camera = replace(detector("k3", 300e3), mode=mode)
    n = 512
    counts = record(np.ones((n, n)), dose, camera, rng)
    mean, variance = camera.gain * dose, camera.gain**2 * dose / camera.dqe_at_zero
    assert abs(counts.mean() - mean) < 3 * np.sqrt(variance) / n
    # The variance of a variance is (mu4 - v^2) / N, taken from the sample itself
    centred = counts - counts.mean()
    error = np.sqrt((np.mean(centred**4) - np.mean(centred**2) ** 2) / n**2)
    assert abs(counts.var() - variance) < 3 * error
    # Would fail with all electrons counted, or with energies that do not vary
    assert abs(counts.var() - dose) > 10 * error


@pytest.mark.parametrize("mode", Mode)
def test_statistics_are_those_of_single_electrons(mode, rng):
    """Sums over electrons drawn together have the distribution of electrons drawn one by one."""
    from scipy.stats import ks_2samp

    camera = replace(detector("k2-fl2", 300e3), mode=mode)
    drawn = record(np.ones((50, 50)), 3.0, camera, rng)
    definition = reference.count_electrons if mode is Mode.COUNTING else reference.integrate_electrons
    single = definition(np.full((50, 50), 3.0), camera.dqe_at_zero, rng)
    assert ks_2samp(drawn.ravel(), single.ravel()).pvalue > 0.01
    # Other electrons are told apart: energies without spread, none missed
    other = record(np.ones((50, 50)), 3.0, detector("ideal"), rng)
    assert ks_2samp(other.ravel(), single.ravel()).pvalue < 1e-6


@pytest.mark.parametrize("key", [("k2", 300e3), ("falcon3", 300e3), ("falcon2", 300e3), ("k3", 200e3)], ids=str)
def test_noise_spectrum_is_the_square_of_the_ntf(key, rng):
    camera, dose = detector(*key), 4.0
    flats = np.stack([record(np.ones((256, 256)), dose, camera, rng) for _ in range(24)])
    k, power = noise_power(flats)
    expected = camera.gain**2 * dose / camera.dqe_at_zero * camera.ntf(k) ** 2
    # Rings of 8 shells, the innermost of 75 independent terms in each of 24 images left out: 2 % are 3 deviations there
    rings = [slice(s, s + 8) for s in range(8, 128, 8)]
    weights = np.arange(len(k))
    ratio = [np.sum((power * weights)[r]) / np.sum((expected * weights)[r]) for r in rings]
    np.testing.assert_allclose(ratio, 1, atol=0.02)
    if not camera.is_white:  # the MTF in the place of the NTF would show
        wrong = expected * (camera.mtf(k) / camera.ntf(k)) ** 2
        assert abs(np.sum((power * weights)[rings[-1]]) / np.sum((wrong * weights)[rings[-1]]) - 1) > 0.1


def test_mean_of_recordings_is_the_expected_counts(rng):
    camera = detector("falcon3", 200e3)
    intensity = rng.uniform(0.4, 1.6, (24, 24))
    mean = np.mean([record(intensity, 50.0, camera, rng) for _ in range(400)], axis=0)
    expected = expected_counts(intensity, 50.0, camera)
    # 400 draws of variance below gain^2 50 * 1.6 / DQE(0) = 71 per pixel: deviation 0.42, 5 of them for 576 pixels
    assert np.abs(mean - expected).max() < 5 * 0.42
    assert np.corrcoef(mean.ravel(), intensity.ravel())[0, 1] > 0.5  # not the negative


def test_readout_noise_adds_its_variance(rng):
    camera = detector("de20", 300e3)
    quiet = record(np.ones((256, 256)), 0.2, camera, np.random.default_rng(5))
    noisy = record(np.ones((256, 256)), 0.2, camera, np.random.default_rng(5), readout_noise=0.7)
    assert np.std(noisy - quiet) == pytest.approx(0.7, rel=0.01)  # 65,536 draws: 0.3 %


def test_same_stream_same_counts():
    camera, intensity = detector("k2", 300e3), np.ones((40, 30), np.float32)
    first, again, other = (record(intensity, 1.0, camera, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.dtype == np.float32 and first.shape == (40, 30)


def test_large_images_are_drawn_in_blocks_with_the_same_result(monkeypatch):
    from vitreous.detection import recording

    images = [record(np.ones((3, 20, 30)), 2.0, detector("falcon2", 300e3), np.random.default_rng(1))]
    assert images[0].shape == (3, 20, 30)
    monkeypatch.setattr(recording, "BLOCK", 64)
    camera = detector("k3", 300e3)
    small = record(np.ones((20, 30)), 2.0, camera, np.random.default_rng(1))
    monkeypatch.undo()
    np.testing.assert_array_equal(small, record(np.ones((20, 30)), 2.0, camera, np.random.default_rng(1)))


def test_doses():
    assert dose_per_pixel(40.0, 0.83) == pytest.approx(27.556)
    assert sparse_dose(1.0) is None
    message = sparse_dose(0.5, "frame")
    assert message is not None and "0.5 electrons per pixel of each frame" in message and "61 %" in message


def test_bad_input(rng):
    camera = detector("k2", 300e3)
    for dose in (0.0, -1.0, np.nan):
        with pytest.raises(SettingsProblem, match="positive"):
            record(np.ones((8, 8)), dose, camera, rng)
    with pytest.raises(SettingsProblem, match="e/A"):
        dose_per_pixel(-3.0, 1.0)
    with pytest.raises(DataProblem, match="negative or not finite"):
        record(-np.ones((8, 8)), 1.0, camera, rng)
    with pytest.raises(SettingsProblem, match="readout"):
        record(np.ones((8, 8)), 1.0, camera, rng, readout_noise=-1)
    with pytest.raises(DataProblem, match="JAX"):
        record(jnp.ones((8, 8)), 1.0, camera, rng)


# --- JAX --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [("k2", 300e3), ("ideal", None)], ids=str)
def test_expected_counts_in_jax(key, rng):
    camera, intensity = detector(*key), rng.uniform(0.5, 1.5, (16, 18))
    exact = expected_counts(intensity, 3.0, camera)
    single = jax.jit(lambda i, d: expected_counts(i, d, camera))(jnp.asarray(intensity, jnp.float32), 3.0)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=2e-6)  # a few roundings of float32
    with jax.enable_x64(True):
        double = expected_counts(jnp.asarray(intensity), 3.0, camera)
        assert double.dtype == np.float64
        np.testing.assert_allclose(double, exact, atol=1e-13)


def test_gradients_of_expected_counts(rng):
    camera = detector("falcon4", 300e3)
    target = rng.uniform(1, 3, (10, 12))

    def misfit(intensity, dose):
        return ((expected_counts(intensity, dose, camera) - target) ** 2).sum()

    intensity, dose, step = rng.uniform(0.5, 1.5, (10, 12)), 2.0, 1e-6
    direction = rng.standard_normal(intensity.shape)
    with jax.enable_x64(True):
        by_pixel, by_dose = jax.grad(misfit, argnums=(0, 1))(jnp.asarray(intensity), dose)
    slope = (misfit(intensity + step * direction, dose) - misfit(intensity - step * direction, dose)) / (2 * step)
    assert float(np.sum(np.asarray(by_pixel) * direction)) == pytest.approx(slope, rel=1e-6)
    slope = (misfit(intensity, dose + step) - misfit(intensity, dose - step)) / (2 * step)
    assert float(by_dose) == pytest.approx(slope, rel=1e-6)
