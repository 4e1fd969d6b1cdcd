"""Measuring a detector: MTF from the image of an edge, noise power from flat fields, and the DQE from both.

    DQE(k) = (mean counts)^2 MTF(k)^2 / (electrons per pixel * noise power(k))

with the mean counts of a flat field, its noise power per pixel, and the electrons that fell on each of its pixels,
which the counts cannot tell: they have to be measured by other means, such as a Faraday cup. This is what a facility
does with its camera (Ruskin et al. 2013, doi:10.1016/j.jsb.2013.10.016, and the references there), and what the tests
do with `recording.record`.

The edge must be straight and a little slanted against the pixels, by some 2 to 10 degrees, so that its pixels lie at
all distances from it: they then sample the profile across the edge many times finer than the pixel, free of aliasing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.shells import power_spectrum

if TYPE_CHECKING:
    from jaxtyping import Float

BINS_PER_PIXEL = 8  # of the edge profile
FIT_HALF_WIDTH = 16  # pixels on either side of the edge that say where it is


def mtf_of_edge(
    image: Float[np.ndarray, "y x"], cycles_per_pixel: Float[np.ndarray, " k"], *, half_width: int | None = None
) -> Float[np.ndarray, " k"]:
    """MTF along the normal of the one straight edge in `image`, at frequencies in cycles per pixel.

    Pixels are binned by their distance from the edge, in eighths of a pixel; the profile's derivative is the line
    spread function and its transform, divided by its value at 0 and corrected for bins and differences, the MTF. Used
    are `half_width` pixels on either side (by default all that every row has): more catch long tails of the response,
    fewer let in less noise. Both sides must be evenly lit. Raises DataProblem if there is no edge, or if it runs along
    the pixels.
    """
    image = np.asarray(image, dtype=float)
    if image.ndim != 2 or min(image.shape) < 4 * FIT_HALF_WIDTH or not np.isfinite(image).all():
        raise DataProblem(
            f"an edge image of shape {image.shape}", f"finite pixels, {4 * FIT_HALF_WIDTH} or more each way"
        )
    image = _edge_upright(image)
    offset, slope = find_edge(image)
    distance = _distance(image.shape, offset, slope)
    room = int(min(distance[:, -1].min(), -distance[:, 0].max()))
    width = room if half_width is None else half_width
    if not 0 < width <= room:
        raise SettingsProblem(f"{width} pixels on either side of the edge", f"1 to {room}, which every row has")
    line_spread, positions = _line_spread(image, distance, width)
    waves = np.exp(-2j * np.pi * np.multiply.outer(np.asarray(cycles_per_pixel, dtype=float), positions))
    bin_size = 1 / BINS_PER_PIXEL
    # A mean over a bin, and a difference of neighbours instead of a derivative: each is a sinc.
    return np.abs(waves @ line_spread) / abs(line_spread.sum()) / np.sinc(np.multiply(cycles_per_pixel, bin_size)) ** 2


def find_edge(image: Float[np.ndarray, "y x"]) -> tuple[float, float]:
    """The edge `x = offset + slope * (y - middle row)` of an upright edge, in pixels.

    Where the edge is in a row follows from how many of its pixels would have to be bright, from the levels far off on
    either side, to make up its sum: noise of the whole row averages out, and a blur that is even moves nothing. A
    straight line is fitted to the rows, twice: over all columns, then near the edge.
    """
    rows, columns = image.shape
    y = np.arange(rows) - rows // 2
    low, high = np.median(image[:, : columns // 8]), np.median(image[:, -(columns // 8) :])
    noise = np.std(image[:, : columns // 8] - low)
    if not abs(high - low) > max(noise, 1e-12 * abs(low)) * 8 / np.sqrt(columns):
        raise DataProblem("an image whose two sides are equally bright", "one edge between a dark and a bright side")
    bright = (image - low) / (high - low)
    at = columns - 0.5 - bright.sum(axis=1)
    slope, offset = np.polyfit(y, at, 1)
    for _ in range(2):
        start = np.rint(offset + slope * y).astype(int) - FIT_HALF_WIDTH
        if start.min() < 0 or start.max() + 2 * FIT_HALF_WIDTH >= columns:
            raise DataProblem(
                "an edge that leaves the image through its sides", "one that all rows cross", "cut out a smaller part"
            )
        near = np.take_along_axis(bright, start[:, None] + np.arange(2 * FIT_HALF_WIDTH + 1), axis=1)
        at = start + 2 * FIT_HALF_WIDTH + 0.5 - near.sum(axis=1)
        slope, offset = np.polyfit(y, at, 1)
    if abs(slope) * rows < 2:
        raise DataProblem(
            f"an edge that crosses {abs(slope) * rows:.2g} columns of pixels",
            "2 or more",
            "slant the edge by some degrees",
        )
    return float(offset), float(slope)


def noise_power(flats: Float[np.ndarray, "n y x"]) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Noise power per pixel of flat fields, and its frequencies in cycles per pixel from 0 to 0.5.

    Mean of |F|^2 / (number of pixels) over each ring of frequencies, after the mean over the flat fields was removed
    from each and with it whatever is the same in all (gain, dark current, uneven light). Two or more are needed. White
    noise of variance v gives v. The value at 0 is the variance of the total of a flat field per pixel, and suffers
    most from a beam that flickers.
    """
    flats = np.asarray(flats, dtype=float)
    if flats.ndim != 3 or len(flats) < 2 or not np.isfinite(flats).all():
        raise DataProblem(f"flat fields of shape {flats.shape}", "two or more images [n, y, x] of finite pixels")
    mean = flats.mean(axis=0)
    power = np.mean([power_spectrum(flat - mean, 2) for flat in flats], axis=0) * (len(flats) / (len(flats) - 1))
    return np.arange(len(power)) / min(flats.shape[1:]), power


def dqe_of_measurements(
    mtf: Float[np.ndarray, " k"], power: Float[np.ndarray, " k"], *, mean_counts: float, electrons_per_pixel: float
) -> Float[np.ndarray, " k"]:
    """`mean_counts^2 MTF^2 / (electrons_per_pixel * noise power)`, all of it at the same frequencies.

    `mean_counts` per pixel and `electrons_per_pixel` are of one of the flat fields that gave the noise power.
    """
    if not (electrons_per_pixel > 0 and mean_counts > 0):
        raise SettingsProblem(
            f"{mean_counts:g} counts of {electrons_per_pixel:g} electrons per pixel", "two positive numbers"
        )
    return mean_counts**2 * np.asarray(mtf) ** 2 / (electrons_per_pixel * np.asarray(power))


def _edge_upright(image: np.ndarray) -> np.ndarray:
    """Turned so that the edge runs along y, with its bright side on the right."""
    rows, columns = image.shape
    across_x = image[:, columns // 2 :].mean() - image[:, : columns // 2].mean()
    across_y = image[rows // 2 :].mean() - image[: rows // 2].mean()
    if abs(across_y) > abs(across_x):
        image, across_x = image.T, across_y
    return image if across_x > 0 else image[:, ::-1]


def _distance(shape: tuple[int, ...], offset: float, slope: float) -> np.ndarray:
    """Distance of each pixel from the edge, positive on its right."""
    y, x = np.arange(shape[0]) - shape[0] // 2, np.arange(shape[1])
    return (x - offset - slope * y[:, None]) / np.hypot(1, slope)


def _line_spread(image: np.ndarray, distance: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences between neighbouring bins of the profile across the edge, and where they are, in pixels.

    A bin is where its pixels are on average, which need not be its middle.
    """
    bins = np.floor(distance * BINS_PER_PIXEL).astype(int) + width * BINS_PER_PIXEL
    count = 2 * width * BINS_PER_PIXEL
    inside = (bins >= 0) & (bins < count)
    pixels = np.bincount(bins[inside], minlength=count)
    if (pixels == 0).any():
        raise DataProblem(
            f"{np.sum(pixels == 0)} of {count} distances from the edge without a pixel",
            "pixels at all distances",
            "slant the edge by some degrees",
        )
    profile = np.bincount(bins[inside], weights=image[inside], minlength=count) / pixels
    place = np.bincount(bins[inside], weights=distance[inside], minlength=count) / pixels
    return np.diff(profile), (place[1:] + place[:-1]) / 2
