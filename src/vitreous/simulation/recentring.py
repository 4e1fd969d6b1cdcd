"""Images cut out anew around a part of the particle, by whole pixels, so that nothing is interpolated.

A part at c in the object (angstrom from the map's origin) stands at R c - o in an image of orientation R and origin o,
from the middle of the box. The new box is centred on the nearest pixel to that, w pixels off the old middle, and the new
origin, of size half a pixel at most, says what is left:

    w = round((R c - o) / p),        o' = o - R c + p w        (x and y)

In a map moved by -c the part is at the origin, and with o' the images are its images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import crop_real, pad_real
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.pose import Pose

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def centre_of_mask(mask: Float[np.ndarray, "z y x"]) -> Int[np.ndarray, " 3"]:
    """The voxel (x, y, z) nearest to a mask's centre of mass, counted from the origin N // 2."""
    total = float(mask.sum(dtype=np.float64))
    if not total > 0:
        raise DataProblem("a mask that is 0 everywhere", "a mask of the part to keep")
    size = mask.shape[0]
    axis = np.arange(size) - size // 2
    sums = [mask.sum(axis=axes, dtype=np.float64) for axes in ((0, 1), (0, 2), (1, 2))]
    return np.array([round(float((each * axis).sum()) / total) for each in sums])


def recentred_pose(
    pose: Pose, centre: Float[np.ndarray, " 3"], pixel_size: float
) -> tuple[Pose, Int[np.ndarray, "n 2"]]:
    """The poses of images cut out about the part at `centre` (x, y, z) in angstrom, and by how many pixels (x, y) the
    middle of each new box lies off that of the old.
    """
    place = (matrix_from_euler(pose.euler) @ np.asarray(centre, dtype=np.float64))[:, :2] - pose.shift
    whole = np.rint(place / pixel_size).astype(np.int64)
    return Pose(pose.euler, whole * pixel_size - place), whole


def cut_out(
    images: Float[np.ndarray, "n y x"], offset: Int[np.ndarray, "n 2"], box: int
) -> tuple[Float[np.ndarray, "n v u"], Int[np.ndarray, " n"]]:
    """Boxes of `box` pixels whose middle N // 2 lies `offset` (x, y) pixels off that of the images; and how many of their
    pixels lie outside the image. Those are 0.
    """
    if box < 2:
        raise SettingsProblem(f"a box of {box} pixels", "at least 2")
    size = images.shape[-1]
    result = np.zeros((len(images), box, box), dtype=images.dtype)
    outside = np.full(len(images), box * box)
    for number, (image, (x, y)) in enumerate(zip(images, offset)):
        left, top = size // 2 + int(x) - box // 2, size // 2 + int(y) - box // 2
        columns = slice(max(left, 0), min(left + box, size))
        rows = slice(max(top, 0), min(top + box, size))
        inside = image[rows, columns]
        if inside.size:
            result[number, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
        outside[number] -= inside.size
    return result, outside


def cut_out_volume(
    volume: Float[np.ndarray, "z y x"], centre: Int[np.ndarray, " 3"], box: int
) -> Float[np.ndarray, "w v u"]:
    """The cube of `box` voxels around the voxel `centre` (x, y, z, from the origin); 0 outside the volume."""
    size = volume.shape[0]
    reach = int(np.abs(centre).max())
    room = max(size, box) + 2 * reach
    wide = pad_real(volume, room, 3)
    moved = np.roll(wide, [-int(c) for c in centre[::-1]], axis=(0, 1, 2))
    return np.ascontiguousarray(crop_real(moved, box, 3))
