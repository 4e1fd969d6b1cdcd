"""The electron and the lens, as definitions. Signs: physics.md (a)."""

from __future__ import annotations

import math

import numpy as np

PLANCK = 6.62607015e-34  # J s
LIGHT_SPEED = 299_792_458.0  # m/s
ELEMENTARY_CHARGE = 1.602176634e-19  # C
ELECTRON_MASS = 9.1093837139e-31  # kg, CODATA 2022


def wavelength(voltage: float) -> float:
    """`lambda = h / p` in angstrom, with `(pc)^2 = E^2 - (mc^2)^2` and `E = eV + mc^2`."""
    rest = ELECTRON_MASS * LIGHT_SPEED**2
    total = ELEMENTARY_CHARGE * voltage + rest
    momentum = math.sqrt(total**2 - rest**2) / LIGHT_SPEED
    return PLANCK / momentum * 1e10


def interaction_constant(voltage: float) -> float:
    """`sigma = 2 pi gamma m e lambda / h^2` in radian per volt and angstrom."""
    relativistic_mass = ELECTRON_MASS + ELEMENTARY_CHARGE * voltage / LIGHT_SPEED**2
    metres = wavelength(voltage) * 1e-10
    return 2 * math.pi * relativistic_mass * ELEMENTARY_CHARGE * metres / PLANCK**2 * 1e-10


def radial_zernike(order: int, fold: int, radius: np.ndarray) -> np.ndarray:
    """`R_n^m(r) = sum_j (-1)^j (n-j)! / (j! ((n+m)/2 - j)! ((n-m)/2 - j)!) r^(n-2j)`."""
    total = np.zeros_like(radius)
    for j in range((order - fold) // 2 + 1):
        divisor = math.factorial(j) * math.factorial((order + fold) // 2 - j) * math.factorial((order - fold) // 2 - j)
        total += (-1) ** j * math.factorial(order - j) / divisor * radius ** (order - 2 * j)
    return total


def zernike(order: int, frequency: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`Z(n, m) = R_n^m(r) cos(m phi)` for m >= 0, `R_n^|m|(r) sin(|m| phi)` for m < 0; not normalised."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    turn = np.cos(frequency * angle) if frequency >= 0 else np.sin(-frequency * angle)
    return radial_zernike(order, abs(frequency), radius) * turn
