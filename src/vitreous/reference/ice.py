"""Amorphous ice as a random field, as definitions. Spectra are those of the continuous field, k in 1/angstrom."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def structure_factor(points: np.ndarray, waves: np.ndarray) -> np.ndarray:
    """`S(k) = |sum_j exp(2 pi i k.r_j)|^2 / N` of points [n, 3] at wave vectors [m, 3] (of the box, if it is periodic)."""
    return np.array([abs(np.exp(2j * math.pi * (points @ wave)).sum()) ** 2 for wave in waves]) / len(points)


def mean_square_of_molecule(k: float, factors: list[float], positions: np.ndarray) -> float:
    """Debye's formula: `sum_ij f_i f_j sin(2 pi k r_ij) / (2 pi k r_ij)`, the mean over all orientations of |f(k)|^2."""
    total = 0.0
    for f, r in zip(factors, positions):
        for g, s in zip(factors, positions):
            total += f * g * np.sinc(2 * k * np.linalg.norm(r - s))
    return float(total)


def slab_covariance(k: float, thickness: float, lag: int, spectrum: Callable, steps: int = 200_000) -> float:
    """`C_m = t^2 int S3(sqrt(k^2 + kz^2)) sinc^2(kz t) cos(2 pi kz t m) dkz` as a sum over kz up to 4 1/angstrom."""
    kz = (np.arange(-steps, steps) + 0.5) * (4.0 / steps)
    values = spectrum(np.hypot(k, kz)) * np.sinc(kz * thickness) ** 2 * np.cos(2 * math.pi * kz * thickness * lag)
    return float(thickness**2 * values.sum() * (4.0 / steps))


def random_field(shape: tuple[int, int, int], voxel: float, spectrum: Callable, rng: np.random.Generator) -> np.ndarray:
    """A field [z, y, x] of this spectrum: white noise of variance 1 times `sqrt(S3(|k|) / voxel^3)` in Fourier space."""
    kz, ky, kx = np.meshgrid(*(np.fft.fftfreq(n, voxel) for n in shape), indexing="ij")
    amplitude = np.sqrt(spectrum(np.sqrt(kx**2 + ky**2 + kz**2)) / voxel**3)
    return np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * amplitude).real


def projected_slabs(field: np.ndarray, voxel: float, planes: int) -> np.ndarray:
    """The integral over z of each slab of so many planes."""
    depth, rows, columns = field.shape
    return field.reshape(depth // planes, planes, rows, columns).sum(axis=1) * voxel
