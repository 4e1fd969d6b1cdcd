"""Extraction: particle images are cut out of a micrograph, cleaned, inverted, reduced and normalised.

Coordinates (x, y) count pixels of the micrograph from 0. A box of N pixels cut about the whole pixel p holds `p - N // 2` to
`p - N // 2 + N - 1`: p is its origin, index N // 2. Nothing is interpolated. What rounding leaves of a coordinate goes into the
particle's origin, the translation in angstrom that brings it to the middle of its box (conventions.md):

    centre = coordinate - origin / pixel size        new origin = -(centre - p) * pixel size

The steps of `particle_images`, in this order: cut; inversion of contrast; dust (outliers of single pixels, before anything spreads
them); ramp (a plane fitted to the background); Fourier crop; normalisation of the background to mean 0 and deviation 1. The background
is what lies outside a circle about the origin. The ramp goes before the crop because a slope is not periodic: its jump from edge to edge
would ring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import background_statistics, normalise_background
from vitreous.fourier.transforms import fourier_crop

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Array = Any  # NumPy or JAX

DUST_PASSES = 3  # outliers found so far do not count in the deviation that judges the rest


@dataclass(frozen=True)
class Recipe:
    """What is done to each image. Lengths in pixels of the micrograph.

    `box` is cut out and reduced to `size` pixels (None: not at all). The background lies outside a circle of `radius`. `invert` turns the sign of the contrast.
    `ramp` takes a plane away. `dust` is the number of standard deviations of the background from which on a pixel is
    an outlier; None leaves all pixels. `normalise` gives the background mean 0 and deviation 1.
    """

    box: int
    radius: float
    size: int | None = None
    invert: bool = True
    ramp: bool = True
    dust: float | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        if self.box < 2:
            raise SettingsProblem(f"a box of {self.box} pixels", "at least 2")
        if self.size is not None and not 2 <= self.size <= self.box:
            raise SettingsProblem(f"a box of {self.box} pixels reduced to {self.size}", f"from 2 to {self.box} pixels")
        if not 0 < self.radius <= self.box / 2:
            raise SettingsProblem(
                f"a circle of radius {self.radius:g} in a box of {self.box} pixels", f"a radius up to {self.box / 2:g}"
            )
        if self.dust is not None and not self.dust > 0:
            raise SettingsProblem(f"dust from {self.dust:g} standard deviations on", "a positive number")

    @property
    def final_size(self) -> int:
        """Pixels a side of the images."""
        return self.size or self.box

    @property
    def final_radius(self) -> float:
        """Radius of the circle in pixels of the images."""
        return self.radius * self.final_size / self.box


# --- where to cut -----------------------------------------------------------------------------------------------------


def cut_pixels(
    coordinate: Float[np.ndarray, "n 2"],
    origin: Float[np.ndarray, "n 2"],
    pixel_size: float | Float[np.ndarray, " n"],
    *,
    recentre: bool = False,
) -> tuple[Int[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """The whole pixel (x, y) about which each box is cut, and the new origin in angstrom.

    It is the pixel nearest to the coordinate or, with `recentre`, to the particle's centre `coordinate - origin / pixel size`.
    The centre that coordinate and origin say together is the same before and after.

    >>> pixel, origin = cut_pixels(np.array([[100.4, 99.5]]), np.zeros((1, 2)), 2.0)
    >>> pixel.tolist(), np.round(origin, 6).tolist()  # the particle lies at (+0.4, -0.5) pixels
    ([[100, 100]], [[-0.8, 1.0]])
    >>> cut_pixels(np.array([[100.0, 100.0]]), np.array([[8.0, -3.0]]), 2.0, recentre=True)[0].tolist()
    [[96, 102]]
    """
    size = np.reshape(np.asarray(pixel_size, dtype=np.float64), (-1, 1))
    coordinate, origin = np.asarray(coordinate, dtype=np.float64), np.asarray(origin, dtype=np.float64)
    aim = coordinate - origin / size if recentre else coordinate
    pixel = np.floor(aim + 0.5)
    return pixel.astype(np.int64), origin - (coordinate - pixel) * size


def filled_fraction(shape: Sequence[int], pixel: Int[np.ndarray, "n 2"], box: int) -> Float[np.ndarray, " n"]:
    """The part of each box, cut about `pixel` (x, y), that lies beyond the border of a micrograph of `shape` (rows, columns)."""
    start = np.asarray(pixel) - box // 2
    size = np.array([shape[1], shape[0]])
    inside = np.clip(np.minimum(start + box, size) - np.maximum(start, 0), 0, box)
    return 1.0 - inside.prod(axis=-1) / box**2


def outside(shape: Sequence[int], pixel: Int[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether the middle of a box is no pixel of the micrograph: most of that box would be made up."""
    pixel = np.asarray(pixel)
    beyond = (pixel < 0) | (pixel >= np.array([shape[1], shape[0]]))
    return np.any(beyond, axis=-1)  # type: ignore[return-value]


# --- images -----------------------------------------------------------------------------------------------------------


def cut_boxes(micrograph: Float[Array, "y x"], pixel: Int[Array, "n 2"], box: int) -> Float[Array, "n box box"]:
    """Squares of `box` pixels about whole pixels (x, y), their origin N // 2. Beyond the border the nearest pixel of the
    micrograph is repeated, as RELION does.

    >>> image = np.arange(16.0).reshape(4, 4)
    >>> cut_boxes(image, np.array([[2, 1], [0, 3]]), 3).tolist()
    [[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [9.0, 10.0, 11.0]], [[8.0, 8.0, 9.0], [12.0, 12.0, 13.0], [12.0, 12.0, 13.0]]]
    """
    xp = namespace(micrograph, pixel)
    if micrograph.ndim != 2:
        raise DataProblem(f"a micrograph of {micrograph.ndim} axes", "one image [y, x]")
    height, width = micrograph.shape
    offset = np.arange(box) - box // 2
    if xp is np:
        whole = filled_fraction(micrograph.shape, pixel, box) == 0  # copied in one piece
        boxes = np.empty((len(pixel), box, box), dtype=micrograph.dtype)
        for cut, (x, y), inside in zip(boxes, np.asarray(pixel) - box // 2, whole):
            if inside:
                cut[:] = micrograph[y : y + box, x : x + box]
            else:
                rows, columns = (np.clip(start + np.arange(box), 0, n - 1) for start, n in ((y, height), (x, width)))
                cut[:] = micrograph[rows[:, None], columns]
        return boxes
    columns = xp.clip(pixel[:, 0, None] + offset, 0, width - 1)
    rows = xp.clip(pixel[:, 1, None] + offset, 0, height - 1)
    return micrograph[rows[:, :, None], columns[:, None, :]]


def dust_pixels(images: Float[Array, "n y x"], radius: float, limit: float) -> Bool[Array, "n y x"]:
    """Pixels that differ from the mean of the background, which lies outside `radius`, by more than `limit` of its deviations.

    Mean and deviation are those of the background without the outliers found so far, in `DUST_PASSES` passes: one
    cosmic ray does not hide a smaller one. Of an image whose background is constant no pixel is an outlier.
    """
    xp, dtype = namespace(images), float_dtype(images)
    ring = xp.asarray(_outside_circle(images.shape[-2:], radius), dtype=dtype)
    dust = xp.zeros(images.shape, dtype=bool)
    for _ in range(DUST_PASSES):
        weight = ring * xp.where(dust, 0.0, 1.0).astype(dtype)
        total = xp.maximum(weight.sum(axis=(-2, -1)), 1.0)
        mean = (images * weight).sum(axis=(-2, -1)) / total
        off = images - mean[..., None, None]
        variance = (off * off * weight).sum(axis=(-2, -1)) / total
        spread = xp.where(variance > 0, variance, math.inf)[..., None, None]
        dust = off * off > limit**2 * spread
    return dust


def without_dust(
    images: Float[Array, "n y x"], dust: Bool[Array, "n y x"], radius: float, noise: Float[Array, "n y x"]
) -> Float[Array, "n y x"]:
    """The images with the pixels of `dust` replaced by `mean + deviation * noise` of the background outside `radius`, itself
    without dust. `noise` is of deviation 1 and needs values only where there is dust."""
    xp, dtype = namespace(images), float_dtype(images)
    weight = xp.asarray(_outside_circle(images.shape[-2:], radius), dtype=dtype) * xp.where(dust, 0.0, 1.0).astype(
        dtype
    )
    total = xp.maximum(weight.sum(axis=(-2, -1), keepdims=True), 1.0)
    mean = (images * weight).sum(axis=(-2, -1), keepdims=True) / total
    variance = ((images - mean) ** 2 * weight).sum(axis=(-2, -1), keepdims=True) / total
    deviation = xp.where(variance > 0, xp.sqrt(xp.where(variance > 0, variance, 1.0)), 0.0).astype(dtype)
    return xp.where(dust, mean + deviation * noise.astype(dtype), images)


def without_ramp(images: Float[Array, "n y x"], radius: float) -> Float[Array, "n y x"]:
    """The images less the plane `a + b x + c y` that fits the background outside `radius` best (least squares).

    Raises SettingsProblem if the background is too small to hold a plane.
    """
    xp, dtype = namespace(images), float_dtype(images)
    fit, planes = (xp.asarray(part, dtype=dtype) for part in _plane_fit(tuple(images.shape[-2:]), float(radius)))
    level = images.mean(axis=(-2, -1), keepdims=True)  # of counts in the thousands float32 would lose the slope
    flat = (images - level).reshape(*images.shape[:-2], -1)
    return (flat - (flat @ fit) @ planes).reshape(images.shape)


@lru_cache(maxsize=4)
def _plane_fit(shape: tuple[int, int], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """[pixels, 3], which makes the coefficients of the plane of an image, and [3, pixels], which makes the plane of its coefficients."""
    basis = np.stack([np.ones(shape), *np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")])
    seen = (basis * _outside_circle(shape, radius)).reshape(3, -1)
    normal = seen @ seen.T
    if np.linalg.matrix_rank(normal) < 3:
        raise SettingsProblem(
            f"a plane fitted outside a circle of radius {radius:g} in a box of {shape[1]} x {shape[0]} pixels",
            "a background on all sides",
            "give a smaller circle, or leave the ramp",
        )
    return np.linalg.solve(normal, seen).T, basis.reshape(3, -1)


def particle_images(
    micrograph: Float[Array, "y x"],
    pixel: Int[Array, "n 2"],
    recipe: Recipe,
    *,
    noise: Float[Array, "n box box"] | None = None,
) -> Float[Array, "n size size"]:
    """The images of particles about whole pixels (x, y), as the recipe says. `noise` (deviation 1) takes the place of dust.

    >>> micrograph = np.random.default_rng(0).normal(100.0, 5.0, (64, 64))
    >>> images = particle_images(micrograph, np.array([[30, 20]]), Recipe(box=32, radius=12.0, size=16))
    >>> images.shape
    (1, 16, 16)
    """
    boxes = cut_boxes(micrograph, pixel, recipe.box)
    dust = None if recipe.dust is None else dust_pixels(boxes, recipe.radius, recipe.dust)
    return finished_images(boxes, recipe, dust=dust, noise=noise)


def finished_images(
    boxes: Float[Array, "n box box"],
    recipe: Recipe,
    *,
    dust: Bool[Array, "n box box"] | None = None,
    noise: Float[Array, "n box box"] | None = None,
) -> Float[Array, "n size size"]:
    """What `particle_images` does to the squares that `cut_boxes` has cut; `dust` is that of `dust_pixels`."""
    if dust is not None:
        if noise is None:
            raise SettingsProblem("dust to be replaced, and no noise", "noise of deviation 1 of the shape of the boxes")
        boxes = without_dust(boxes, dust, recipe.radius, noise)
    if recipe.invert:
        boxes = -boxes
    if recipe.ramp:
        boxes = without_ramp(boxes, recipe.radius)
    if recipe.final_size != recipe.box:
        boxes, _ = fourier_crop(boxes, recipe.final_size, 2)
    return normalise_background(boxes, recipe.final_radius) if recipe.normalise else boxes


def brightness(images: Float[Array, "n y x"], radius: float) -> Float[Array, " n"]:
    """Mean inside half the `radius` minus mean of the background outside it, in deviations of the background: above 0 where the
    particle is bright. 0 for an image whose background is constant."""
    xp, dtype = namespace(images), float_dtype(images)
    middle = ~_outside_circle(images.shape[-2:], 0.5 * radius)
    mean, deviation = background_statistics(images, radius)
    inside = (images * xp.asarray(middle / middle.sum(), dtype=dtype)).sum(axis=(-2, -1))
    return xp.where(deviation > 0, (inside - mean) / xp.where(deviation > 0, deviation, 1.0), 0.0).astype(dtype)


def _outside_circle(shape: Sequence[int], radius: float) -> np.ndarray:
    """Which pixels lie farther than `radius` from the origin: as `fourier.filters` has it."""
    y, x = (np.arange(n) - n // 2 for n in shape)
    return (y[:, None] ** 2 + x**2) > radius**2
