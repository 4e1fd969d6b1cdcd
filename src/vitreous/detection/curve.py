"""Curve: a response of a detector as numbers against cycles per pixel, with where they are from. SquarePixel: the exact one.

The frequency axis of every curve is in cycles per pixel: 0 to 0.5, where 0.5 is the Nyquist frequency. A table that runs
to 1 is in fractions of Nyquist and is refused, because read on the wrong axis it still looks like a curve: say so with
`Curve.from_fraction_of_nyquist`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

NYQUIST = 0.5  # cycles per pixel
# Tables end at the Nyquist frequency or some rows beside it: 0.492 (63/128) and 0.508 (32/63) are in use.
LAST_FREQUENCY = (0.45, 0.55)
POINTS = 64  # intervals of a curve laid through a few points


class Provenance(StrEnum):
    """How far a curve can be trusted."""

    EXACT = "exact"  # it follows from the definition
    MEASURED = "measured"  # numbers of a measurement, published or distributed by the maker
    QUOTED = "quoted"  # a few published numbers read second-hand, a smooth curve between them
    DERIVED = "derived"  # computed from curves that were measured
    ASSUMED = "assumed"  # nobody published it, as far as is known here


@dataclass(frozen=True)
class Curve:
    """`value` at `frequency`, in cycles per pixel from 0 to the Nyquist frequency 0.5; the same in all directions.

    Between its points the curve is linear; beyond its last point, in the corners of the Fourier square above all, it
    keeps its last value.
    """

    frequency: tuple[float, ...]
    value: tuple[float, ...]
    provenance: Provenance
    source: str

    def __post_init__(self) -> None:
        frequency, value = np.asarray(self.frequency, dtype=float), np.asarray(self.value, dtype=float)
        if frequency.ndim != 1 or frequency.shape != value.shape or len(frequency) < 2:
            raise DataProblem(
                f"a curve of {frequency.shape} frequencies and {value.shape} values", "two lists of one length"
            )
        if not (np.isfinite(frequency).all() and np.isfinite(value).all() and (value > 0).all()):
            raise DataProblem("a curve with values that are not finite and positive", "positive numbers")
        if frequency[0] != 0 or not (np.diff(frequency) > 0).all():
            raise DataProblem(f"a curve whose frequencies begin {frequency[:3]}", "rising frequencies from 0")
        low, high = LAST_FREQUENCY
        if not low <= frequency[-1] <= high:
            raise DataProblem(
                f"a curve whose frequencies run to {frequency[-1]:g}",
                "cycles per pixel, 0 to 0.5",
                "a table that runs to 1 is in fractions of Nyquist",
            )

    @classmethod
    def from_fraction_of_nyquist(
        cls, fraction_of_nyquist: Sequence[float], value: Sequence[float], provenance: Provenance, source: str
    ) -> Curve:
        """The curve of a table whose frequencies run from 0 to 1 = Nyquist."""
        frequency = tuple(NYQUIST * float(fraction) for fraction in fraction_of_nyquist)
        return cls(frequency, tuple(map(float, value)), provenance, source)

    @classmethod
    def through(
        cls, at_zero: float, at_half_nyquist: float, at_nyquist: float, provenance: Provenance, source: str
    ) -> Curve:
        """A smooth curve through values at 0, 0.25 and 0.5 cycles per pixel.

        The monotone cubic of Fritsch and Carlson (1980, SIAM J. Numer. Anal. 17, 238), level at 0 because a response
        is an even function.
        """
        points = (at_zero, at_half_nyquist, at_nyquist)
        frequency = np.linspace(0.0, NYQUIST, POINTS + 1)
        return cls(tuple(frequency), tuple(_monotone_cubic(points, frequency)), provenance, source)

    def at(self, kx: Float[Array, " *grid"], ky: Float[Array, " *grid"] | float = 0.0) -> Float[Array, " *grid"]:
        """The value at the frequencies (kx, ky), in cycles per pixel."""
        xp = namespace(kx, ky)
        k = xp.sqrt(kx**2 + ky**2)
        return xp.interp(k, xp.asarray(self.frequency), xp.asarray(self.value)).astype(float_dtype(kx, ky))


@dataclass(frozen=True)
class SquarePixel:
    """The MTF of a pixel that adds up all that falls on its square: `sinc(kx) sinc(ky)`, sinc(x) = sin(pi x) / (pi x)."""

    provenance: Provenance = Provenance.EXACT
    source: str = "transform of a square of one pixel, sinc(kx) sinc(ky)"

    def at(self, kx: Float[Array, " *grid"], ky: Float[Array, " *grid"] | float = 0.0) -> Float[Array, " *grid"]:
        """The value at the frequencies (kx, ky), in cycles per pixel."""
        xp = namespace(kx, ky)
        return (xp.sinc(kx) * xp.sinc(ky)).astype(float_dtype(kx, ky))


def _monotone_cubic(points: tuple[float, float, float], frequency: np.ndarray) -> np.ndarray:
    step = NYQUIST / 2
    first, second = np.diff(points) / step
    inner = 2 * first * second / (first + second) if first * second > 0 else 0.0
    outer = max(min((3 * second - first) / 2, max(0.0, 3 * second)), min(0.0, 3 * second))
    slopes = (0.0, inner, outer)
    left = np.minimum(frequency // step, 1).astype(int)
    t = frequency / step - left
    start, end = np.take(points, left), np.take(points, left + 1)
    rise, fall = step * np.take(slopes, left), step * np.take(slopes, left + 1)
    return start + t**2 * (3 - 2 * t) * (end - start) + t * (1 - t) ** 2 * rise - t**2 * (1 - t) * fall
