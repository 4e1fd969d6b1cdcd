"""Electron scattering by one atom, as definitions. s = k/2 in 1/angstrom appears only with scattering factors."""

from __future__ import annotations

import numpy as np

POTENTIAL_PER_FACTOR = 47.8776472  # h^2 / (2 pi m e), V A^2


def scattering_factor(s: np.ndarray, a: list[float], b: list[float]) -> np.ndarray:
    """`f(s) = sum_i a_i exp(-b_i s^2)` in angstrom: five Gaussians (Peng et al. 1996,
    doi:10.1107/S0108767395014371)."""
    return sum((ai * np.exp(-bi * s**2) for ai, bi in zip(a, b)), np.zeros_like(s))


def potential_transform(k: np.ndarray, a: list[float], b: list[float], b_factor: float = 0.0) -> np.ndarray:
    """`V(k) = 47.8776472 f(k/2) exp(-B k^2/4)` in V A^3, the Fourier integral of the atom's potential."""
    return POTENTIAL_PER_FACTOR * scattering_factor(k / 2, a, b) * np.exp(-b_factor * k**2 / 4)


def potential(radius: np.ndarray, a: list[float], b: list[float], b_factor: float = 0.0) -> np.ndarray:
    """The atom's potential in volt at a distance from its centre: each `a exp(-(b + B) k^2/4)` becomes a real-space
    Gaussian.

    `V(r) = 47.8776472 sum_i a_i (4 pi / (b_i + B))^(3/2) exp(-4 pi^2 r^2 / (b_i + B))`
    """
    total = np.zeros_like(radius)
    for ai, bi in zip(a, b):
        width = bi + b_factor
        total += ai * (4 * np.pi / width) ** 1.5 * np.exp(-4 * np.pi**2 * radius**2 / width)
    return POTENTIAL_PER_FACTOR * total


def potential_at_points(
    points: np.ndarray, positions: np.ndarray, tables: list[tuple[list[float], list[float]]], b_factors: np.ndarray
) -> np.ndarray:
    """The potential in volt of a set of atoms at each of the points [n, 3]: the sum over atoms of `potential`."""
    total = np.zeros(len(points))
    for position, (a, b), b_factor in zip(positions, tables, b_factors):
        total += potential(np.linalg.norm(points - position, axis=1), a, b, b_factor)
    return total
