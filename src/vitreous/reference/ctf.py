"""The contrast transfer function, as a definition. Signs: physics.md (a)."""

from __future__ import annotations

import numpy as np


def defocus_along(angle: np.ndarray, defocus_u: float, defocus_v: float, defocus_angle: float) -> np.ndarray:
    """`df(theta) = (u + v)/2 + (u - v)/2 cos 2(theta - angle)`: u along the defocus angle, v across it."""
    mean, half = (defocus_u + defocus_v) / 2, (defocus_u - defocus_v) / 2
    return mean + half * np.cos(2 * (angle - defocus_angle))


def chi(k: np.ndarray, defocus: np.ndarray, wavelength: float, spherical_aberration: float) -> np.ndarray:
    """`chi = pi lambda df k^2 - (pi/2) Cs lambda^3 k^4`, radian; used as `exp(+i chi)`; df > 0 is underfocus."""
    return np.pi * wavelength * defocus * k**2 - np.pi / 2 * spherical_aberration * wavelength**3 * k**4


def ctf(
    kx: np.ndarray,
    ky: np.ndarray,
    defocus: tuple[float, float, float],
    lens: tuple[float, float, float],
    phase_shift: float = 0.0,
    b_factor: float = 0.0,
) -> np.ndarray:
    """`CTF = sin(chi + phase_shift + asin(w)) exp(-B k^2/4)` for images whose protein is white.

    `defocus` = (u, v, angle), `lens` = (wavelength, spherical aberration, amplitude contrast w); angstrom and radian.
    Without phase shift this is `sqrt(1 - w^2) sin(chi) + w cos(chi)`. Micrographs as recorded have the opposite sign.
    """
    wavelength, spherical_aberration, amplitude_contrast = lens
    k, theta = np.hypot(kx, ky), np.arctan2(ky, kx)
    phase = chi(k, defocus_along(theta, *defocus), wavelength, spherical_aberration)
    return np.sin(phase + phase_shift + np.arcsin(amplitude_contrast)) * np.exp(-b_factor * k**2 / 4)
