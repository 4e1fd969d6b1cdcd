"""Free flight between two planes, and the band to which waves are limited. Signs are those of physics.md (a).

    P_d(k) = exp(-i pi lambda d k^2)         d > 0 towards the detector (Fresnel, small angles)

Waves are limited to a disc in Fourier space, |k| < `band_limit` x Nyquist, with a hard edge. A product of two waves
that end at 2/3 of the Nyquist frequency ends at 4/3 of it, and what is folded back lies above 2/3: inside the disc
nothing is aliased. The same holds for the intensity |psi|^2. So images of waves are right up to 1/(3 pixel_size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import complex_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.model.slices import ExitWave
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex

    Array = Any  # NumPy or JAX

BAND_LIMIT = 2 / 3  # of the Nyquist frequency


def fresnel_propagator(
    shape: Sequence[int], pixel_size: float, distance: float, voltage: float, *, half: bool = False
) -> Complex[np.ndarray, "y x"]:
    """`exp(-i pi lambda d k^2)` on the grid of the transform of a wave of `shape` (y, x), zero frequency in the corner.

    `distance` d in angstrom, positive towards the detector. Complex128: whole turns do no harm. `half` gives the half
    of the transform that belongs to a real array.
    """
    turns = -wavelength(voltage) * distance / 2
    along_x, along_y = (np.exp(2j * math.pi * turns * k**2) for k in frequencies(shape, pixel_size, half=half))
    return along_y * along_x


def band(shape: Sequence[int], band_limit: float | None = BAND_LIMIT, *, half: bool = False) -> Bool[np.ndarray, "y x"]:
    """True at the frequencies below `band_limit` times Nyquist, on the grid of the transform; all for None.

    Strictly below: two waves at the very edge would fold back onto it. Raises SettingsProblem for a limit that is not
    above 0 and up to 1.
    """
    kx, ky = frequencies(shape, half=half)
    square = kx**2 + ky**2
    if band_limit is None:
        return np.ones(square.shape, dtype=bool)
    if not 0 < band_limit <= 1:
        raise SettingsProblem(
            f"a band limit of {band_limit}", "a fraction of the Nyquist frequency above 0 and up to 1, or None"
        )
    return square < (band_limit / 2) ** 2 * (1 - 1e-9)


def propagate(
    wave: ExitWave, distance: float, voltage: float, *, band_limit: float | None = None, workers: int | None = None
) -> ExitWave:
    """The wave `distance` angstrom further on (negative: further back), at the height that it has there.

    `psi(z + d) = F^-1[ P_d F psi(z) ]`.
    """
    shape = wave.wave.shape[-2:]
    factor = fresnel_propagator(shape, wave.pixel_size, distance, voltage) * band(shape, band_limit)
    return ExitWave(filtered(wave.wave, factor, workers=workers), wave.pixel_size, wave.height + distance)


def filtered(wave: Any, factor: Any, *, workers: int | None = None) -> Any:
    """`F^-1[ factor x F wave ]`, complex, for a factor that is even in k: then the place of the origin does not matter."""
    xp, dtype = namespace(wave), complex_dtype(wave)
    factor = xp.asarray(factor, dtype=dtype)
    if xp is not np:
        return xp.fft.ifft2(xp.fft.fft2(wave.astype(dtype)) * factor)
    from scipy import fft as scipy_fft

    transform: Any = scipy_fft.fft2(wave, workers=workers)
    transform = transform.astype(dtype, copy=False)
    transform *= factor
    return scipy_fft.ifft2(transform, workers=workers, overwrite_x=True)
