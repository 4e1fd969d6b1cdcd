"""How far the CTF moves signal out of place, and which box holds it.

A defocused lens images the signal of frequency k displaced by `d(chi)/dk / 2 pi`, to both sides. Displaced by more than
half the box it leaves the box. In Fourier space the same fact reads: the CTF has less than two samples for each of its
oscillations, it is aliased.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vitreous.optics.electrons import wavelength


def delocalisation(k: Any, *, defocus: float, voltage: float, spherical_aberration: float = 0.0) -> Any:
    """Displacement in angstrom of the signal at frequency `k` (1/angstrom): `lambda df k - Cs lambda^3 k^3`."""
    wave = wavelength(voltage)
    return wave * defocus * k - (spherical_aberration * wave**3) * k**3


def largest_defocus_that_fits(box: int, pixel_size: float, wavelength: float) -> float:
    """Largest defocus in angstrom whose CTF is sampled up to Nyquist by a box of `box` pixels: `N p^2 / lambda`.

    At Nyquist, k = 1/(2p), the signal is displaced by `lambda df k`, which reaches half the box, N p / 2, at this
    defocus; the CTF then has two samples for each of its oscillations. Spherical aberration, which works against
    underfocus, is left out.

    >>> round(largest_defocus_that_fits(256, 1.0, 0.0196874890))
    13003
    """
    return box * pixel_size**2 / wavelength


def aliasing_frequency(
    box: int, pixel_size: float, *, defocus: float, voltage: float, spherical_aberration: float = 0.0
) -> float:
    """Lowest frequency in 1/angstrom at which the displacement exceeds half the box; infinite if there is none.

    Beyond it a CTF sampled on the box is aliased, and correcting the image by it fails: use a larger box.
    """
    wave, half = wavelength(voltage), box * pixel_size / 2
    cubic = -spherical_aberration * wave**3
    crossings = np.concatenate(
        [np.roots([cubic, 0.0, wave * defocus, -half]), np.roots([cubic, 0.0, wave * defocus, half])]
    )
    real = crossings[np.abs(crossings.imag) <= 1e-9 * np.abs(crossings)].real
    return float(np.min(real[real > 0], initial=math.inf))


def is_aliased(
    box: int, pixel_size: float, *, defocus: float, voltage: float, spherical_aberration: float = 0.0
) -> bool:
    """Whether the CTF oscillates faster than the box samples it anywhere below Nyquist, 1/(2 pixel_size)."""
    limit = aliasing_frequency(
        box, pixel_size, defocus=defocus, voltage=voltage, spherical_aberration=spherical_aberration
    )
    return limit < 0.5 / pixel_size
