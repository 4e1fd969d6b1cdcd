"""Particles as blobs: maxima of the scale-normalised Laplacian of a Gaussian, over a range of diameters.

    R(r; sigma) = -sigma^2 Laplacian (G_sigma * image),        transfer function sigma^2 |2 pi k|^2 exp(-2 pi^2 sigma^2 k^2)

With the factor sigma^2 the response to a particle is highest at the sigma that fits its size (Lindeberg 1998,
doi:10.1023/A:1008045108935). A ball of diameter D, whose image is the length of its chords, has it at sigma = 0.3010 D: that relation
names the diameters here. Noise is told from particles by the response in standard deviations of the noise's own response at the same
sigma, z = R / noise, which is what thresholds are in; the diameter is that of the highest R at the place that was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.picking.picks import Picks, curvature_ratio, local_maxima, refined
from vitreous.picking.quiet import quiet_deviation
from vitreous.picking.selection import CANDIDATE, Selected, Selection, select
from vitreous.picking.working_image import (
    WorkingImage,
    reflected,
    refuse_larger_than_image,
    refuse_smaller_than_pixels,
)

if TYPE_CHECKING:
    from jaxtyping import Float

# sigma / radius at which the response to a ball is highest: the zero of a derivative, by quadrature in the tests
SIGMA_OF_RADIUS = 0.6020257650
STEP = 1.15  # between diameters: the response to a ball falls by 1 % from one to the middle of the next
PIXELS = 16  # of the working image in the smallest diameter: the transfer function is 1e-8 of its maximum at their Nyquist frequency

REACH = 6.0  # standard deviations, beyond which the response to a point is nothing
STRONGEST = 0.999  # of the pixels are less significant than what says which contrast the strongest blobs have
REVERSED = 1.2  # times as significant, the blobs of the other contrast are what should have been picked


@dataclass(frozen=True)
class BlobSettings:
    """What is taken for a particle: the smallest and the largest `diameter` in angstrom, and the largest ratio of curvatures
    (`picks.curvature_ratio`) in `longest`: what is longer is an edge or a fibre.
    """

    diameter: tuple[float, float]
    longest: float = 12.0

    def __post_init__(self) -> None:
        low, high = self.diameter
        if not 0 < low <= high < math.inf:
            raise SettingsProblem(f"diameters from {low:g} to {high:g} A", "positive numbers, the smaller first")

    @property
    def diameters(self) -> Float[np.ndarray, " s"]:
        """Diameters that are looked for: a geometric series from the smallest to the largest."""
        low, high = self.diameter
        count = math.ceil(math.log(high / low) / math.log(STEP) - 1e-9) + 1
        return np.geomspace(low, high, count)

    @property
    def working_pixel_size(self) -> float:
        return self.diameter[0] / PIXELS


def laplacian_responses(
    values: Float[np.ndarray, "y x"], pixel_size: float, diameters: Float[np.ndarray, " s"]
) -> Float[np.ndarray, "s y x"]:
    """R of each diameter (angstrom), positive where a bright blob is. The image goes on beyond its borders as its mirror image.

    The unit is that of the image: a ball of density 1 per angstrom and radius r gives 1.2814 r.
    """
    from scipy import fft as scipy_fft

    sigmas = 0.5 * SIGMA_OF_RADIUS * np.asarray(diameters, dtype=np.float64)
    padded, inside = reflected(np.asarray(values), math.ceil(REACH * float(sigmas.max()) / pixel_size))
    kx, ky = frequencies(padded.shape, pixel_size)
    square = (2 * math.pi) ** 2 * (kx * kx + ky * ky)
    transform: Any = scipy_fft.rfft2(padded)
    responses = np.empty((len(sigmas), *values.shape), dtype=padded.dtype)
    for response, sigma in zip(responses, sigmas):
        scaled = sigma**2 * square
        filtered = transform * (scaled * np.exp(-0.5 * scaled)).astype(padded.dtype)
        whole: Any = scipy_fft.irfft2(filtered, s=padded.shape, overwrite_x=True)
        response[...] = whole[inside]
    return responses


def pick_blobs(image: WorkingImage, settings: BlobSettings, selection: Selection) -> Selected:
    """Blobs of the micrograph, the most significant first; the score is the significance.

    Raises SettingsProblem for a diameter that has no room in the micrograph, or less than two of its pixels.
    """
    refuse_larger_than_image(settings.diameter[1], image)
    refuse_smaller_than_pixels(settings.diameter[0], image)
    diameters = settings.diameters
    responses = laplacian_responses(image.values, image.pixel_size, diameters)
    significance = np.full(image.values.shape, -np.inf, dtype=np.float32)
    opposite = significance.copy()
    for response, diameter in zip(responses, diameters):
        noise = np.float32(quiet_deviation(response, diameter / image.pixel_size))
        np.maximum(significance, response / noise, out=significance)
        np.maximum(opposite, -response / noise, out=opposite)
    places = local_maxima(significance, CANDIDATE * selection.threshold)
    score = significance[tuple(places.T)].astype(np.float64)
    found = Picks(
        refined(significance, places),
        score,
        score,
        diameter=best_diameters(responses[:, places[:, 0], places[:, 1]], diameters),
    )
    blobs = found.rows(curvature_ratio(significance, places) <= settings.longest)
    selected = select(blobs, image, settings.diameter[1], selection)
    bright, dark = (float(np.quantile(one, STRONGEST)) for one in (significance, opposite))
    return replace(selected, reversed_contrast=dark > max(REVERSED * bright, selection.threshold))


def best_diameters(responses: Float[np.ndarray, "s n"], diameters: Float[np.ndarray, " s"]) -> Float[np.ndarray, " n"]:
    """The diameter of the highest response at n places, from a parabola in log(diameter) through the highest of a geometric series and its
    neighbours; not beyond the ends of the series.
    """
    scale = np.argmax(responses, axis=0)
    if len(diameters) < 3:
        return diameters[scale].astype(np.float64)
    inner = np.clip(scale, 1, len(diameters) - 2)
    column = np.arange(responses.shape[1])
    before, middle, after = (responses[inner + step, column].astype(np.float64) for step in (-1, 0, 1))
    bend = 2 * middle - before - after
    shift = np.where(bend > 0, (after - before) / np.where(bend > 0, 2 * bend, 1.0), 0.0)
    shift = np.where(scale == inner, np.clip(shift, -0.5, 0.5), 0.0)
    return diameters[scale] * (diameters[1] / diameters[0]) ** shift
