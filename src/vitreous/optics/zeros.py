"""Where the CTF crosses zero along one direction: Thon rings. Scalars and NumPy, double precision."""

from __future__ import annotations

import math

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.optics.electrons import wavelength


def ctf_zeros(
    count: int,
    *,
    defocus: float,
    voltage: float,
    spherical_aberration: float = 0.0,
    amplitude_contrast: float = 0.0,
    phase_shift: float = 0.0,
) -> np.ndarray:
    """The first `count` frequencies k > 0 in 1/angstrom with `gamma(k) = n pi`, n any integer, in ascending order.

    `gamma = pi lambda df k^2 - (pi/2) Cs lambda^3 k^4 + phase_shift + asin(w)` is quadratic in k^2, so each n has at
    most two solutions: one below and one above the frequency where the spherical aberration turns the phase back.
    `defocus` is that of the direction asked for, in angstrom, positive for underfocus. Fewer than `count` are returned
    only when there are no more, which needs zero defocus and zero spherical aberration.

    >>> ctf_zeros(2, defocus=1e4, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.07).round(7)
    array([0.0705625, 0.1004929])
    """
    if count < 1:
        raise SettingsProblem(f"{count} zeros asked for", "a positive number")
    wave = wavelength(voltage)
    linear, quadratic = math.pi * wave * defocus, -math.pi / 2 * spherical_aberration * wave**3
    start = phase_shift + math.asin(amplitude_contrast)
    # From k = 0 the phase passes `count` multiples of pi within this range of n, whichever way it goes.
    first = math.floor(start / math.pi) - count
    orders = np.arange(first, first + 2 * count + 2)
    squares = _positive_roots(quadratic, linear, start - math.pi * orders)
    return np.sqrt(squares[:count])


def first_zero(
    *,
    defocus: float,
    voltage: float,
    spherical_aberration: float = 0.0,
    amplitude_contrast: float = 0.0,
    phase_shift: float = 0.0,
) -> float:
    """The first zero of the CTF in 1/angstrom; DataProblem if defocus and spherical aberration are both zero."""
    zeros = ctf_zeros(
        1,
        defocus=defocus,
        voltage=voltage,
        spherical_aberration=spherical_aberration,
        amplitude_contrast=amplitude_contrast,
        phase_shift=phase_shift,
    )
    if len(zeros) == 0:
        raise DataProblem("a CTF of zero defocus and zero spherical aberration", "a CTF that has zeros")
    return float(zeros[0])


def _positive_roots(quadratic: float, linear: float, constant: np.ndarray) -> np.ndarray:
    """All q > 0 with `quadratic q^2 + linear q + constant = 0` for each constant, ascending.

    In the form `2 c / (-b -+ root)` and `(-b -+ root) / (2 a)` no two nearly equal numbers are subtracted.
    """
    discriminant = linear**2 - 4 * quadratic * constant
    real = constant[discriminant >= 0]
    root = np.sqrt(discriminant[discriminant >= 0])
    safe = -(linear + math.copysign(1.0, linear) * root) / 2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # infinite roots are dropped
        roots = np.concatenate([real / safe, safe / quadratic if quadratic else np.empty(0)])
    return np.sort(roots[np.isfinite(roots) & (roots > 0)])
