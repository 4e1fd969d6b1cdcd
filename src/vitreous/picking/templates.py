"""Templates: pictures of the particle in the directions and at the angles at which it is looked for.

They come from class averages, or from a map that is projected along the directions of a HEALPix grid; each is turned in steps of
psi. Protein is bright in them, and their CTF has been corrected or was never there: the micrograph's own is applied when it is
known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import soft_disc
from vitreous.fourier.interpolation import rotate_image
from vitreous.fourier.transforms import crop_transform, forward, inverse, pad_real
from vitreous.geometry.orientation_grid import healpix_directions
from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.geometry.symmetry import asymmetric_unit, point_group
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

    from vitreous.model.volume import Volume

SAMPLES = 2.5  # working pixels in the finest detail
MARGIN = 0.25  # diameters about a template, for what the CTF spreads beyond it
EDGE = 0.1  # diameters: soft edge of the disc in which templates are kept
ENERGY = 0.97  # of a template's power, by which its size is measured
AROUND = 1.5  # sizes of the particle in the disc that is compared
SMALLEST = 6  # pixels of a template's diameter
STEEPEST, FINEST = math.radians(30.0), math.radians(5.0)  # steps of psi


@dataclass(frozen=True)
class TemplateBank:
    """t templates at every angle, ready to be seen through a CTF.

    `transforms` [n, y, xh] of images of `box` pixels of `pixel_size` angstrom, origin at box // 2; the disc of `diameter` angstrom about
    it is what is compared. Row i is the `template` [n], counted from 0, at `psi` [n] radian. Nothing finer than `resolution` is in them.
    """

    transforms: Complex[np.ndarray, "n y xh"]
    template: Int[np.ndarray, " n"]
    psi: Float[np.ndarray, " n"]
    box: int
    pixel_size: float
    diameter: float
    resolution: float

    def __len__(self) -> int:
        return len(self.template)


def template_bank(
    images: Float[np.ndarray, "t y x"],
    pixel_size: float,
    *,
    diameter: float,
    resolution: float,
    psi_step: float | None = None,
    finest_pixel_size: float = 0.0,
) -> TemplateBank:
    """Templates at pixels of about `resolution` / 2.5, but not finer than `finest_pixel_size`, turned by multiples of about `psi_step` radian.

    By default the step moves the rim by one `resolution` (5 to 30 degrees). Empty images, those of empty classes, are left out.
    Raises DataProblem if all are empty or one is not finite, SettingsProblem for a diameter that the images do not hold or that is too
    small for the resolution.
    """
    used, box = _checked(images, pixel_size, diameter, resolution)
    images = images[used]
    field = box * pixel_size
    new = 2 * int(field / max(resolution / SAMPLES, pixel_size, finest_pixel_size) / 2 + 1e-9)
    small = inverse(crop_transform(forward(images, 2), (box, box), (new, new)), (new, new)) if new < box else images
    size = field / min(new, box)
    step = np.clip(2 * resolution / diameter, FINEST, STEEPEST) if psi_step is None else psi_step
    turns = max(1, math.ceil(2 * math.pi / step - 1e-9))
    psi = np.arange(turns) * (2 * math.pi / turns)
    disc = soft_disc(small.shape[-1], diameter / 2 / size, max(1.0, EDGE * diameter / size), dtype=np.float32)
    small = np.asarray(small * disc, dtype=np.float32)
    turned = np.concatenate([rotate_image(small, np.float32(-angle), "spline", boundary="wrap") for angle in psi])
    padded = _even((1 + 2 * MARGIN) * diameter / size)
    held = pad_real(turned, padded, 2) if padded > turned.shape[-1] else turned
    return TemplateBank(
        forward(held, 2).astype(np.complex64),
        np.tile(used, turns),
        np.repeat(psi, len(used)),
        held.shape[-1],
        size,
        diameter,
        resolution,
    )


def projected_views(volume: Volume, order: int, symmetry: str = "C1") -> Float[np.ndarray, "t y x"]:
    """Projections of a map along the directions of a HEALPix grid, those of the asymmetric unit of its point group, at psi 0.

    With C1 there are 12 * 4^order of them. A direction and its opposite are mirror images, and are both there.
    """
    euler = view_angles(order, symmetry)
    box = volume.box
    grid = slice_grid(box)
    slices = project(fourier_volume(volume.data), matrix_from_euler(euler).astype(np.float32), grid)
    return inverse(half_plane(slices, grid), (box, box))


def view_angles(order: int, symmetry: str = "C1") -> Float[np.ndarray, "t 3"]:
    """(rot, tilt, psi = 0) in radian of the views of `projected_views`."""
    directions = healpix_directions(order)
    euler = np.concatenate([directions, np.zeros((len(directions), 1))], axis=1)
    group = point_group(symmetry)
    if group.order == 1:
        return euler
    inside = asymmetric_unit(group).in_asymmetric_unit(view_direction(matrix_from_euler(euler)))
    if not inside.any():
        raise SettingsProblem(
            f"a grid of order {order} for {symmetry}",
            "at least one view in the asymmetric unit",
            f"use order {order + 1}",
        )
    return euler[inside]


def diameter_of(images: Float[np.ndarray, "t y x"], pixel_size: float) -> float:
    """A diameter in angstrom for `template_bank`: 1.5 times that of the disc that holds 97 % of the power of the templates beyond that
    of their corners, as far as the images reach. What is around a particle tells it from ice as much as what is in it.
    """
    box = images.shape[-1]
    axis = np.arange(box) - box // 2
    square = (axis[:, None] ** 2 + axis**2).ravel()
    corner = square > (box // 2) ** 2
    centred = images.reshape(len(images), -1) - images.reshape(len(images), -1)[:, corner].mean(axis=1, keepdims=True)
    power = np.square(centred, dtype=np.float64).sum(axis=0)
    power = np.maximum(power - power[corner].mean(), 0.0)
    order = np.argsort(square, kind="stable")
    total = np.cumsum(power[order])
    if not total[-1] > 0:
        raise DataProblem("templates without contrast", "pictures of a particle")
    radius = math.sqrt(float(square[order][np.searchsorted(total, ENERGY * total[-1])]))
    return min(2 * AROUND * max(radius, 1.0), box - 2) * pixel_size


def _checked(images: np.ndarray, pixel_size: float, diameter: float, resolution: float) -> tuple[np.ndarray, int]:
    """Which images are not empty, and their box, or an error."""
    if images.ndim != 3 or images.shape[-1] != images.shape[-2] or 0 in images.shape:
        raise DataProblem(f"templates of shape {images.shape}", "square images [t, y, x]")
    box = images.shape[-1]
    if not np.isfinite(images).all():
        raise DataProblem("templates with NaN or infinite pixels", "finite numbers")
    used = np.flatnonzero(np.ptp(images, axis=(1, 2)) > 0)
    if not len(used):
        raise DataProblem("templates that have the same value everywhere", "pictures of a particle")
    if diameter > box * pixel_size:
        raise SettingsProblem(
            f"a diameter of {diameter:g} A in templates of {box * pixel_size:.4g} A", "one that the templates hold"
        )
    if diameter < SMALLEST * max(resolution / SAMPLES, pixel_size):
        raise SettingsProblem(
            f"templates of {diameter:.4g} A at a resolution of {resolution:g} A",
            f"a resolution of {diameter * SAMPLES / SMALLEST:.3g} A or finer",
        )
    return used, box


def _even(size: float) -> int:
    return 2 * math.ceil(size / 2 - 1e-9)
