"""What `ctf refine` makes as large as it can, as definitions: one image, one Fourier pixel at a time. Signs: physics.md (a)."""

from __future__ import annotations

import numpy as np


def expected_transform(
    slice_values: np.ndarray, ctf: np.ndarray, odd_phase: np.ndarray, kx: np.ndarray, ky: np.ndarray, place: tuple
) -> np.ndarray:
    """Transform of the image of a particle that lies at `place` (x, y) from the centre: `C exp(i chi_odd) A exp(-2 pi i k.r)`."""
    moved = np.exp(-2j * np.pi * (kx * place[0] + ky * place[1]))
    return ctf * np.exp(1j * odd_phase) * slice_values * moved


def log_likelihood(recorded: np.ndarray, expected: np.ndarray, noise: np.ndarray) -> float:
    """Of an image under complex Gaussian noise with `mean |noise|^2 = noise[k]`, less that of an image without particle."""
    total = 0.0
    for seen, hoped, variance in zip(recorded, expected, noise):
        total += (abs(seen) ** 2 - abs(seen - hoped) ** 2) / variance
    return total


def shell_gain(recorded: np.ndarray, expected: np.ndarray) -> float:
    """The factor g that makes `sum |X - g E|^2` over the pixels of a shell least."""
    return float(np.real(np.vdot(expected, recorded)) / np.sum(np.abs(expected) ** 2))


def spread_likelihood(table: np.ndarray, offsets: np.ndarray, mean: float, spread: float) -> float:
    """log prod_i sum_d exp(L_i(d)) w(d), with Gaussian weights w of sum 1: particles scattered about a common mean."""
    weights = np.exp(-((offsets - mean) ** 2) / (2 * spread**2))
    weights = weights / weights.sum()
    total = 0.0
    for row in table:
        total += np.log(np.sum(np.exp(row - row.max()) * weights)) + row.max()
    return total
