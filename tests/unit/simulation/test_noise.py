"""Noise: standard deviation, spectrum, and independence of everything but the seed and the image's number."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.fourier.shells import power_spectrum
from vitreous.model.particles import ImageName
from vitreous.simulation.noise import Noise, falling_power, noise_amplitude, noise_images

BOX = 32
IMAGES = 400


def places(index: np.ndarray, stack: int = 0) -> ImageName:
    """Images with these numbers of one of two stacks."""
    return ImageName(index, np.full(len(index), stack, np.int32), ("a.mrcs", "b.mrcs"))


def test_image_depends_on_the_seed_and_its_number_only():
    noise = Noise(1.0, seed=3)
    together = noise_images(noise, places(np.arange(10)), BOX)
    assert np.array_equal(noise_images(noise, places(np.array([7, 2])), BOX), together[[7, 2]])
    assert not np.array_equal(noise_images(Noise(1.0, seed=4), places(np.arange(10)), BOX), together)
    assert noise_images(noise, places(np.array([2**40])), BOX).shape == (1, BOX, BOX)
    assert not np.array_equal(noise_images(noise, places(np.arange(10), stack=1), BOX), together)


def test_images_are_independent():
    """Neighbouring streams do not correlate: the largest of 4950 coefficients of 1024 pixels stays below 5 standard
    errors.
    """
    images = noise_images(Noise(1.0, seed=1), places(np.arange(100)), BOX).reshape(100, -1)
    assert np.abs(np.corrcoef(images) - np.eye(100)).max() < 5 / BOX


@pytest.mark.parametrize("power", [None, falling_power(BOX, 3.0), np.linspace(2, 0, BOX // 2 + 1)])
def test_standard_deviation_is_the_asked_one_for_every_spectrum(power):
    images = noise_images(Noise(2.5, power, seed=8), places(np.arange(IMAGES)), BOX)
    # Coloured noise has fewer independent values, not below a tenth of the pixels here: five standard errors of its
    # variance.
    assert abs(images.var() / 2.5**2 - 1) < 5 * np.sqrt(2 / (IMAGES * BOX**2 / 10))


def test_spectrum_is_the_asked_one():
    power = falling_power(BOX, 3.0)
    measured = power_spectrum(noise_images(Noise(1.0, power, seed=8), places(np.arange(IMAGES)), BOX), 2).mean(axis=0)
    ratio = measured[2:] / power[2:]
    # Shell s holds about pi s independent terms of relative variance 1 in each image: five standard errors of the
    # smallest shell.
    assert np.abs(ratio / ratio.mean() - 1).max() < 5 / np.sqrt(np.pi * 2 * IMAGES)
    # The same test with the spectrum the other way round must fail.
    wrong = measured[2:] * power[2:]
    assert np.abs(wrong / wrong.mean() - 1).max() > 0.5


def test_amplitude_has_mean_square_one():
    for box in (31, 32):
        amplitude = noise_amplitude(np.linspace(3, 0.1, box // 2 + 1), box)
        full = np.concatenate([amplitude, amplitude[:, 1 : (box + 1) // 2]], axis=1)
        assert (full.astype(float) ** 2).mean() == pytest.approx(1, abs=1e-6)  # float32 values


def test_falling_power_is_half_at_its_length():
    power = falling_power(100, 1.0, length=10.0)
    assert power[0] == 1 and power[10] == pytest.approx(0.5, abs=1e-12)


def test_bad_noise_is_refused():
    with pytest.raises(DataProblem, match="standard deviation"):
        Noise(-1.0)
    with pytest.raises(DataProblem, match="spectrum"):
        Noise(1.0, np.array([1.0, -1.0]))
