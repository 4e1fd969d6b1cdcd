"""RingPixels: the samples of a spectrum that a CTF is fitted to, and the smooth curves that go along with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.estimation.spectrum import FINEST, Spectrum
from vitreous.fourier.transforms import frequencies

if TYPE_CHECKING:
    from jaxtyping import Float

BESIDE_AXES = 2  # samples that close to an axis are left out: image borders and rows of bad pixels show there
ICE = (1 / 3.95, 1 / 3.40)  # 1/angstrom: where water shows, whether vitreous or crystalline
BACKGROUND_KNOTS = 14
DEPTH_KNOTS = 12


@dataclass(frozen=True)
class RingPixels:
    """Samples of the half plane between the coarsest and the finest resolution: arrays [p], frequencies in 1/angstrom.

    `background` [p, b] and `depth` [p, d] are smooth functions of the frequency (cubic B-splines), of which the background's logarithm
    and the depth of the rings are sums.
    """

    kx: Float[np.ndarray, " p"]
    ky: Float[np.ndarray, " p"]
    power: Float[np.ndarray, " p"]
    index: tuple[np.ndarray, np.ndarray]  # row and column of each sample in the spectrum
    limits: tuple[float, float]  # smallest and largest frequency
    step: float

    @property
    def k(self) -> Float[np.ndarray, " p"]:
        return np.hypot(self.kx, self.ky)

    def splines(self, count: int, k: Float[np.ndarray, " q"] | None = None) -> Float[np.ndarray, "q c"]:
        """`count` cubic B-splines between the limits, equally spaced, at the samples or at other frequencies."""
        return splines(self.k if k is None else k, self.limits, count)


def ring_pixels(spectrum: Spectrum, resolution: tuple[float, float | None]) -> RingPixels:
    """The samples between two resolutions in angstrom that are not beside an axis.

    Raises SettingsProblem if there are fewer than a fit needs.
    """
    coarsest, asked = resolution
    finest = max(FINEST if asked is None else asked, spectrum.finest)
    shape = (spectrum.box, spectrum.box)
    kx, ky = frequencies(shape, spectrum.pixel_size)
    square = kx * kx + ky * ky
    beside = (BESIDE_AXES - 0.5) * spectrum.step
    inside = (square >= coarsest**-2) & (square <= finest**-2) & (kx > beside) & (abs(ky) > beside)
    rows, columns = np.nonzero(inside & (spectrum.power > 0))
    if coarsest <= finest or len(rows) < 500:
        raise SettingsProblem(
            f"rings from {coarsest:g} to {finest:g} A in a spectrum of {spectrum.box} pixels of {spectrum.pixel_size:g} A",
            "at least 500 samples between the two",
            "give a wider --resolution, or a larger image",
        )
    return RingPixels(
        np.ascontiguousarray(np.broadcast_to(kx, inside.shape)[rows, columns]),
        np.ascontiguousarray(np.broadcast_to(ky, inside.shape)[rows, columns]),
        spectrum.power[rows, columns].astype(np.float64),
        (rows, columns),
        (1 / coarsest, 1 / finest),
        spectrum.step,
    )


def without_ice(pixels: RingPixels) -> RingPixels:
    """The samples without those of the rings of ice, which follow no lens."""
    k = pixels.k
    kept = (k < ICE[0]) | (k > ICE[1])
    return replace(
        pixels,
        kx=pixels.kx[kept],
        ky=pixels.ky[kept],
        power=pixels.power[kept],
        index=(pixels.index[0][kept], pixels.index[1][kept]),
    )


def splines(k: Float[np.ndarray, " q"], limits: tuple[float, float], count: int) -> Float[np.ndarray, "q c"]:
    """`count` cubic B-splines with equally spaced knots between the limits; they add up to 1."""
    from scipy.interpolate import BSpline

    low, high = limits
    inner = np.linspace(low, high, count - 2)
    knots = np.concatenate([[low] * 3, inner, [high] * 3])
    return BSpline.design_matrix(np.clip(k, low, high), knots, 3).toarray()
