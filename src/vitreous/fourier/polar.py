"""Fourier transforms of images on rings: in polar coordinates turning an image is moving along the rings.

A real image has X(k, theta + pi) = conj X(k, theta), so that half a circle holds everything: `values` [..., ring, half]. The real part repeats
after half a turn, the imaginary part changes its sign. Their sum is a real function on the whole circle,

    x(theta) = Re X(theta) + Im X(theta),    Re X = (x(theta) + x(theta + pi)) / 2,    Im X = (x(theta) - x(theta + pi)) / 2

whose even Fourier coefficients are those of Re X and whose odd ones those of Im X. So for two images, over the whole circle,

    sum Re(conj(A) X) = sum a x = (1/M) sum_m c_m Re(conj(a_m) x_m),    c_m = 1 for m = 0 and M/2, else 2

and the correlation of an image with all turns of another is one Fourier series with the coefficients conj(x_m) a_m, which are sums over rings.
`angular_spectrum` gives x_m. A ring at k cycles per box of an image whose content lies within a diameter of D pixels has coefficients up to about
m = pi k D / box (`angular_band`).

The value at each point is exact (non-uniform FFT). A sum over all Fourier pixels becomes the sum over the points with weights 2 pi k / M, the area of a
point in pixels (`PolarGrid.weight`); the error of that quadrature is the aliasing of what lies more than a box apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.fourier.nonuniform import transform_at, transform_at_adjoint

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

# Bessel functions J_m(x) have died away (below 1e-3) this far beyond m = x, for the x of images (up to some hundred).
MARGIN = 8
EPS = 1e-4  # of the non-uniform FFT: far below the noise of any image


@dataclass(frozen=True)
class PolarGrid:
    """Rings of `first` to `last` cycles per box with `angles` points each, an even number, of images of `box` pixels.

    Angles run from +x towards +y, `2 pi j / angles`; the first half of them is stored. `extent` in pixels: the diameter that holds the content.
    """

    box: int
    first: int
    last: int
    angles: int
    extent: float

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last < (self.box + 1) // 2 or self.angles % 2 or self.angles < 4:
            raise SettingsProblem(
                f"rings {self.first} to {self.last} of {self.angles} points for a box of {self.box}",
                "rings from 1 to below box / 2, an even number of points",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rings, stored points per ring)."""
        return self.last - self.first + 1, self.angles // 2

    @cached_property
    def ring(self) -> np.ndarray:
        """Cycles per box of each ring, int [r]: also the number of its shell."""
        return np.arange(self.first, self.last + 1)

    @cached_property
    def frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """(kx, ky) [r, half] in cycles per box."""
        theta = 2 * np.pi * np.arange(self.angles // 2) / self.angles
        return self.ring[:, None] * np.cos(theta), self.ring[:, None] * np.sin(theta)

    @cached_property
    def weight(self) -> Float[np.ndarray, " r"]:
        """Fourier pixels per point, `2 pi k / angles`: a sum over whole circles with it is a sum over the Fourier plane."""
        return 2 * np.pi * self.ring / self.angles

    @property
    def band(self) -> int:
        """How many angular coefficients, m = 0 included, the content has."""
        return min(self.angles // 2, angular_band(self.last, self.extent, self.box))

    def within(self, last: int) -> PolarGrid:
        """The rings up to `last`, with as many points."""
        return replace(self, last=min(last, self.last))


def angular_band(ring: float, extent: float, box: int) -> int:
    """The number of angular coefficients, m = 0 included, that a ring needs for content within a diameter `extent` (pixels)."""
    return int(np.ceil(np.pi * ring * min(extent, box) / box)) + MARGIN


def polar_grid(box: int, last: int, *, extent: float, first: int = 1, turns: int = 1) -> PolarGrid:
    """A grid with `last` rings that holds images of this extent: few points on each ring, a number that transforms fast.

    With `turns`: the product of points and of `whole_turns(points, turns)` is made small, for images that are turned by so many angles or more.
    """
    import scipy.fft

    last = min(last, (box + 1) // 2 - 1)
    least = angular_band(last, extent, box)
    fast = [half for half in range(least, least * 5 // 4 + 2) if scipy.fft.next_fast_len(half, real=True) == half]
    half = min(fast, key=lambda half: (half * whole_turns(2 * half, turns), half))
    return PolarGrid(box, first, last, 2 * half, extent)


def whole_turns(points: int, least: int) -> int:
    """How many turns, at least `least`, divide the circle such that each moves a ring of `points` by whole points: a divisor of `points`; else `least`."""
    return next((count for count in range(least, points + 1) if points % count == 0), least)


def to_polar(images: Float[np.ndarray, "n y x"], grid: PolarGrid, *, threads: int = 1) -> Complex[np.ndarray, "n r h"]:
    """The transforms of images at the points of the grid, zero phase at the origin N // 2."""
    kx, ky = grid.frequencies
    points = np.stack([kx.ravel(), ky.ravel()], axis=-1) / grid.box
    return transform_at(images, points, eps=EPS, threads=threads).reshape(len(images), *grid.shape)


def from_polar(values: Complex[np.ndarray, "n r h"], grid: PolarGrid) -> Float[np.ndarray, "n y x"]:
    """Images from their transforms on the rings: the quadrature of the inverse transform, exact up to the missing rings and aliasing."""
    kx, ky = grid.frequencies
    points = np.stack([kx.ravel(), ky.ravel()], axis=-1) / grid.box
    weighted = values * (2 * grid.weight / grid.box**2).astype(np.float32)[:, None]  # 2: the other half of the circle
    flat = weighted.reshape(len(values), -1)
    # One thread: a second gains little on so few points, and waits for the cores of workers.
    sums = transform_at_adjoint(flat, points, (grid.box, grid.box), eps=EPS, threads=1)
    return np.ascontiguousarray(np.real(sums))


def whole_circle(values: Complex[np.ndarray, "... h"]) -> Float[np.ndarray, "... m"]:
    """x(theta) = Re X + Im X on the whole circle."""
    real, imaginary = np.real(values), np.imag(values)
    return np.concatenate([real + imaginary, real - imaginary], axis=-1)


def half_circle(circle: Float[np.ndarray, "... m"]) -> Complex[np.ndarray, "... h"]:
    """X on the stored half of the circle: the inverse of `whole_circle`."""
    near, far = np.split(circle, 2, axis=-1)
    values = np.empty(near.shape, dtype=np.complex128 if circle.dtype == np.float64 else np.complex64)
    values.real, values.imag = (near + far) / 2, (near - far) / 2
    return values


def angular_spectrum(values: Complex[np.ndarray, "... h"], band: int) -> Complex[np.ndarray, "... b"]:
    """The first `band` Fourier coefficients x_m of `whole_circle(values)`."""
    import scipy.fft

    return np.asarray(scipy.fft.rfft(whole_circle(values), axis=-1, workers=1))[..., :band]


def from_angular_spectrum(spectrum: Complex[np.ndarray, "... b"], angles: int) -> Complex[np.ndarray, "... h"]:
    """Values on half a circle from the first Fourier coefficients; the others are 0."""
    import scipy.fft

    return half_circle(np.asarray(scipy.fft.irfft(spectrum, n=angles, axis=-1, workers=1)))
