"""The potential of an atom in real space, as definitions: its mean over a voxel, and its value as a Fourier integral.

An atom is given by the amplitudes (V A^3) and the widths (angstrom^2) of its Gaussians in k, `V(k) = sum_g amplitude_g
exp(-width_g k^2 / 4)`, the B factor being part of the width.
"""

from __future__ import annotations

import math

import numpy as np


def gaussian_share(low: float, high: float, width: float) -> float:
    """The share of a Gaussian `exp(-width k^2 / 4)` between two planes at these distances from its centre.

    In real space its variance is `width / (8 pi^2)` along each axis.
    """
    scale = 1 / math.sqrt(2 * width / (8 * math.pi**2))
    return (math.erf(high * scale) - math.erf(low * scale)) / 2


def voxel_mean(low: np.ndarray, high: np.ndarray, amplitude: np.ndarray, width: np.ndarray) -> float:
    """The mean potential in volt over the box from `low` to `high` (x, y, z from the atom's centre, in angstrom)."""
    total = 0.0
    for a, w in zip(amplitude, width):
        total += a * math.prod(gaussian_share(low[axis], high[axis], w) for axis in range(3))
    return total / float(np.prod(high - low))


def potential_by_integral(radius: float, amplitude: np.ndarray, width: np.ndarray, samples: int = 4000) -> float:
    """The potential in volt at a distance from the atom, by its Fourier integral over all directions and lengths of k:

    V(r) = integral V(k) exp(2 pi i k.r) dk = integral 4 pi k^2 V(k) sin(2 pi k r) / (2 pi k r) dk
    """
    largest = 12 / math.sqrt(width.min())  # exp(-width k^2 / 4) is 2e-16 there
    k = (np.arange(samples) + 0.5) * largest / samples
    transform = sum(a * np.exp(-w * k**2 / 4) for a, w in zip(amplitude, width))
    return float(np.sum(4 * math.pi * k**2 * transform * np.sinc(2 * k * radius)) * largest / samples)
