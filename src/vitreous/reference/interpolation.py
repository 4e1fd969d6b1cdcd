"""Interpolation as a sum over all samples, each times a kernel of its distance to the point; and the kernels.

    f(p) = sum_j f_j K(p_x - j_x) K(p_y - j_y) ...

Distances are in samples. Positions are measured from the origin, index N // 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def kernel_nearest(x: float) -> float:
    """1 for -1/2 <= x < 1/2: a point half-way takes the sample above."""
    return 1.0 if -0.5 <= x < 0.5 else 0.0


def kernel_linear(x: float) -> float:
    """1 - |x| for |x| < 1."""
    return max(0.0, 1.0 - abs(x))


def kernel_cubic(x: float) -> float:
    """Keys' cubic convolution kernel with a = -1/2, exact on parabolas (doi:10.1109/TASSP.1981.1163711, eq. 15)."""
    d = abs(x)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    if d < 2:
        return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return 0.0


def kernel_fourier(x: float, size: int) -> float:
    """The periodic interpolant of a delta: 1/N sum over |k| <= N/2 of exp(2 pi i k x / N), Nyquist shared by +-N/2."""
    frequencies = np.arange(-(size // 2), size // 2 + 1)
    share = np.where(2 * np.abs(frequencies) == size, 0.5, 1.0)
    return float(np.sum(share * np.cos(2 * np.pi * frequencies * x / size)) / size)


def kernel_transform(
    kernel: Callable[[float], float], frequency: float, *, reach: float = 2.0, steps: int = 4000
) -> float:
    """The transform of an even kernel at u cycles per sample: integral of K(x) cos(2 pi u x) dx, by midpoints."""
    x = (np.arange(steps) + 0.5) / steps * 2 * reach - reach
    values = np.array([kernel(value) for value in x])
    return float(np.sum(values * np.cos(2 * np.pi * frequency * x)) * 2 * reach / steps)


def interpolate(samples: np.ndarray, point: np.ndarray, kernel: Callable[[float], float]) -> complex:
    """The value at one point (x, y, z) from the origin, zero outside the samples."""
    total = 0j
    for index in np.ndindex(*samples.shape):
        position = [i - n // 2 for i, n in zip(index, samples.shape)][::-1]
        total += complex(samples[index]) * math.prod(kernel(p - r) for p, r in zip(point, position))
    return total


def interpolate_fourier(samples: np.ndarray, point: np.ndarray) -> complex:
    """The trigonometric interpolant of periodic samples at one point (x, y, z) from the origin."""
    total = 0j
    for index in np.ndindex(*samples.shape):
        distance = [p - (i - n // 2) for p, i, n in zip(point, index[::-1], samples.shape[::-1])]
        total += complex(samples[index]) * math.prod(
            kernel_fourier(d, n) for d, n in zip(distance, samples.shape[::-1])
        )
    return total


def barycentric_weights(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Weights of the d + 1 corners [d + 1, d] of a simplex that make up a point: they sum to 1, and to the point.

    The point is inside exactly when none is negative. Linear interpolation on a triangulation is the sum of weight
    times value.
    """
    rows = np.vstack([np.asarray(corners, dtype=float).T, np.ones(len(corners))])
    return np.linalg.solve(rows, np.append(point, 1.0))
