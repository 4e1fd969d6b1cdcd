"""The detector and the dose, as definitions."""

from __future__ import annotations

import numpy as np


def convolve(image: np.ndarray, transfer: np.ndarray) -> np.ndarray:
    """An image [y, x] filtered by a transfer function on all frequencies of `numpy.fft`, as a sum over shifted copies.

    `out(r) = sum_s h(s) image(r - s)`, with h the inverse transform of the transfer function; the image wraps round.
    """
    spread = np.fft.ifft2(transfer).real
    out = np.zeros(image.shape)
    for y, x in np.ndindex(*image.shape):
        out += spread[y, x] * np.roll(image, (y, x), axis=(0, 1))
    return out


def count_electrons(expected: np.ndarray, efficiency: float, rng: np.random.Generator) -> np.ndarray:
    """Counts one electron at a time: `expected` arrive on average, each is seen with probability `efficiency`."""
    counts = np.zeros(expected.shape)
    for pixel in np.ndindex(*expected.shape):
        for _ in range(rng.poisson(expected[pixel])):
            counts[pixel] += rng.random() < efficiency
    return counts


def integrate_electrons(expected: np.ndarray, dqe_at_zero: float, rng: np.random.Generator) -> np.ndarray:
    """Adds up energies one electron at a time: Gamma distributed, mean 1, variance `1/DQE(0) - 1`."""
    variance = 1 / dqe_at_zero - 1
    sums = np.zeros(expected.shape)
    for pixel in np.ndindex(*expected.shape):
        for _ in range(rng.poisson(expected[pixel])):
            sums[pixel] += rng.gamma(1 / variance, variance)
    return sums


def exposure_weight(k: float, exposure: float) -> float:
    """`exp(-N / (2 Ne))`, `Ne = 0.245 k^-1.665 + 2.81`: amplitude left at k (1/angstrom) after N e/A^2 at 300 kV."""
    return float(np.exp(-exposure / (2 * (0.245 * k**-1.665 + 2.81))))


def frame_weight(k: float, start: float, end: float) -> float:
    """Mean of `exposure_weight` over a frame, as the mean of many moments."""
    moments = start + (np.arange(20_000) + 0.5) / 20_000 * (end - start)
    return float(np.mean([exposure_weight(k, moment) for moment in moments]))


def smear(image: np.ndarray, start: np.ndarray, end: np.ndarray, pixel_size: float, moments: int = 2000) -> np.ndarray:
    """Mean of an image while it moves from `start` to `end` = (x, y) in angstrom, wrapping round; no Nyquist terms."""
    ky, kx = np.meshgrid(*(np.fft.fftfreq(n, pixel_size) for n in image.shape), indexing="ij")
    below_nyquist = (abs(kx) < 0.499 / pixel_size) & (abs(ky) < 0.499 / pixel_size)
    transform = np.fft.fft2(image) * below_nyquist
    total = np.zeros(image.shape)
    for fraction in (np.arange(moments) + 0.5) / moments:
        x, y = start + fraction * (end - start)
        total += np.fft.ifft2(transform * np.exp(-2j * np.pi * (kx * x + ky * y))).real
    return total / moments
