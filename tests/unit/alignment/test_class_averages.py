"""The maximisation of class averages: signal-to-noise from halves, Wiener's filter, centring, and empty classes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import blobs, correlation, in_plane

from vitreous.alignment.class_averages import (
    LEAST_SNR,
    best_fit,
    centred,
    half_averages,
    masked,
    maximised,
    reseeded,
    signal_to_noise,
    smoothed,
)
from vitreous.fourier.polar import from_polar, polar_grid, to_polar

BOX, RADIUS, CLASSES = 32, 11.0, 4
GRID = polar_grid(BOX, 13, extent=2 * (RADIUS + 3))
STRAIGHT = in_plane(np.zeros(1))


def truth(shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Averages [k, y, x] of blobs about (-shift)."""
    rng = np.random.default_rng(0)
    origin = np.array([shift])
    return np.concatenate([blobs(rng, reach=6.5).images(STRAIGHT, origin, BOX) for _ in range(CLASSES)]).astype(
        np.float32
    )


def sums_of(
    averages: np.ndarray, weight: np.ndarray | float, *, noise: float = 1.0, mass=(50.0,) * CLASSES, seed: int = 1
) -> SimpleNamespace:
    """Sums N = D (A + n) of two halves with half of the weight D [r] each: E|n|^2 = noise / (D / 2), noise in the images' unit."""
    rng = np.random.default_rng(seed)
    values = to_polar(averages, GRID)
    half = np.broadcast_to(np.asarray(weight) / 2, GRID.shape[:1])[:, None] * np.ones((2, *values.shape))
    white = rng.normal(size=(2, *values.shape, 2)) @ np.array([1, 1j]) / np.sqrt(2)
    data = half * values + white * np.sqrt(noise * half)
    return SimpleNamespace(
        data=data.astype(np.complex64), weight=half.astype(np.float32), mass=np.asarray(mass, dtype=float)
    )


def test_signal_to_noise_is_measured_between_the_halves():
    """SSNR of the average of both: its power over that of its noise, which is noise / D."""
    weight = 0.03
    power = (np.abs(to_polar(truth(), GRID)) ** 2).mean(axis=2)
    expected = power * weight
    found = signal_to_noise(sums_of(truth(), weight), GRID)
    inner = slice(2, 6)
    # Correlations of some 40 points, and three rings joined where the power falls from ring to ring.
    ratio = np.exp(np.log(found[:, inner] / expected[:, inner]).mean())
    assert 0.7 < ratio < 1.4
    clearer = signal_to_noise(sums_of(truth(), 4 * weight), GRID)
    assert 2.5 < np.exp(np.log(clearer[:, inner] / found[:, inner]).mean()) < 6  # four times, and the same error
    assert signal_to_noise(sums_of(truth(), 1e6 * weight), GRID).max() < 2000  # a correlation of 0.999 at most


def test_noise_has_no_signal():
    found = signal_to_noise(sums_of(np.zeros((CLASSES, BOX, BOX)), 0.03), GRID)
    assert np.median(found) == LEAST_SNR
    assert (found[:, 6:] == LEAST_SNR).all()  # once gone it stays gone


def test_correlation_that_returns_does_not_count():
    sums = sums_of(truth(), 10.0)
    sums.data[1, 0, 5:9] *= -1  # rings where the halves disagree
    found = signal_to_noise(sums, GRID)
    assert (found[0, 9:] == LEAST_SNR).all() and (found[1, 5:7] > 1).all()
    assert (found[0, :3] > 10).all()


def test_neighbouring_rings_are_joined():
    np.testing.assert_allclose(smoothed(np.array([[4.0, 0.0, 0.0, 8.0]])), [[3.0, 1.0, 2.0, 6.0]])


def test_averages_of_many_particles_are_the_truth():
    model = maximised(sums_of(truth(), 1e4), GRID, tau_fudge=1.0, radius=RADIUS)
    for found, expected in zip(model.averages, centred(truth(), GRID, RADIUS)):
        assert correlation(found, expected) > 0.99
        # On the scale of the images: `expected` went through the rings, and the mean that they do not hold, once more.
        assert 0.93 < (found * expected).sum() / (expected * expected).sum() < 1.07
    assert model.signal_to_noise.shape == (CLASSES, GRID.shape[0])


def test_the_filter_is_better_than_none_and_than_more():
    """Squared distance to the truth: least with the power of the signal as it is (Wiener)."""
    averages = masked(truth(), RADIUS)
    sums = sums_of(averages, 0.02)

    def error(images: np.ndarray) -> float:
        return float(((images - centred(averages, GRID, RADIUS)) ** 2).sum())

    def filtered(fudge: float) -> float:
        return error(maximised(sums, GRID, tau_fudge=fudge, radius=RADIUS).averages)

    without = error(centred(masked(from_polar(best_fit(sums), GRID), RADIUS), GRID, RADIUS))
    assert filtered(1.0) < 0.9 * without
    assert filtered(1.0) < 0.9 * filtered(1 / 30)


def test_classes_without_particles_have_no_average():
    sums = sums_of(truth(), 1.0, mass=(50, 0.2, 50, 50))
    sums.data[:, 1], sums.weight[:, 1] = 0, 0
    model = maximised(sums, GRID, tau_fudge=1.0, radius=RADIUS)
    assert np.isfinite(model.averages).all()
    assert not model.averages[1].any() and model.averages[0].any()
    assert not best_fit(sums)[1].any() and np.isfinite(half_averages(sums)).all()


@pytest.mark.parametrize(("shift", "moved"), [((0.6, -0.5), 1.0), ((-3.0, 2.0), 1.0)])
def test_averages_are_brought_to_the_centre_a_pixel_at_a_time(shift, moved):
    def centre(images: np.ndarray) -> np.ndarray:
        place = np.arange(BOX) - BOX // 2
        bright = np.maximum(images - 0.2 * images.max(axis=(1, 2), keepdims=True), 0)
        total = bright.sum(axis=(1, 2))
        return np.stack([(bright.sum(axis=1) @ place) / total, (bright.sum(axis=2) @ place) / total], axis=1)

    images = masked(truth(shift), RADIUS)
    before, after = centre(images), centre(centred(images, GRID, RADIUS))
    step = np.minimum(np.hypot(*before.T), moved)
    expected = before * (1 - step / np.hypot(*before.T))[:, None]
    np.testing.assert_allclose(
        after, expected, atol=0.15
    )  # the mask cuts other parts, and the bright part is not linear
    assert (np.hypot(*after.T) < np.hypot(*before.T)).all()


def test_an_empty_class_takes_one_half_of_a_large_one():
    sums = sums_of(truth(), 1.0, mass=(10, 0, 90, 50))
    averages = masked(truth(), RADIUS)
    found = reseeded(averages, sums, GRID, RADIUS, least=5.0)
    np.testing.assert_array_equal(found[[0, 3]], averages[[0, 3]])
    for place in (1, 2):
        assert correlation(found[place], averages[2]) > 0.9
    assert correlation(found[1], averages[1]) < 0.9
    assert not np.array_equal(found[1], found[2])  # they differ by noise
    np.testing.assert_array_equal(averages, masked(truth(), RADIUS))


def test_nothing_is_taken_from_small_classes():
    averages = masked(truth(), RADIUS)
    for mass in ((20, 20, 20, 20), (10, 0, 12, 11)):
        found = reseeded(averages, sums_of(truth(), 1.0, mass=mass), GRID, RADIUS, least=5.0)
        np.testing.assert_array_equal(found, averages)
