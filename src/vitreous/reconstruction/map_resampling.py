"""A map on another grid: any pixel size, any box, the origin kept at the middle voxel.

    f(x) = sum_k F(k) exp(2 pi i k x),   |k| < 1/2 of the coarser of the two sampling rates

is the one function through all voxels that has no frequency beyond what both grids can hold. It is evaluated at the new voxels, one axis after
the other, each a matrix product: the exact (trigonometric) interpolation, without a kernel and without a choice of padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Float

SAME = 1e-6  # relative difference of pixel sizes that moves no voxel of any box by a thousandth of its size


def resampled_map(
    volume: Float[np.ndarray, "z y x"], pixel_size: float, new_box: int, new_pixel_size: float
) -> Float[np.ndarray, "v u t"]:
    """The cubic map on `new_box` voxels of `new_pixel_size` angstrom, about the same origin (index N // 2), on the same scale of grey.

    What lies beyond the map is filled with the mean of its faces, so that a solvent level other than 0 makes no step. Frequencies beyond
    the Nyquist frequency of either grid are left out. float32 stays float32.

    >>> blob = np.zeros((8, 8, 8)); blob[4, 4, 4] = 1.0
    >>> resampled_map(blob, 2.0, 12, 2.0)[6, 6, 6].round(6)  # a larger box, the same voxels
    np.float64(1.0)
    """
    if new_box < 1 or not pixel_size > 0 or not new_pixel_size > 0:
        raise SettingsProblem(
            f"a map of voxels of {pixel_size} A on {new_box} voxels of {new_pixel_size} A", "positive numbers"
        )
    box = volume.shape[-1]
    solvent = face_mean(volume)
    if abs(new_pixel_size / pixel_size - 1) < SAME:
        return _same_voxels(volume, new_box, solvent)
    kernel = interpolation_matrix(box, pixel_size, new_box, new_pixel_size).astype(volume.dtype)
    result = volume - solvent
    for _ in range(3):  # contract the first axis and append the new one: three times brings the axes back into order
        result = np.tensordot(result, kernel, axes=(0, 1))
    return result + solvent


def interpolation_matrix(box: int, pixel_size: float, new_box: int, new_pixel_size: float) -> np.ndarray:
    """[new_box, box]: values at the new samples of the periodic function through the old ones; 0 for samples beyond the old box."""
    place = (np.arange(box) - box // 2).astype(np.float64)
    new_place = (np.arange(new_box) - new_box // 2) * (new_pixel_size / pixel_size)
    highest = min((box - 1) // 2, int(np.ceil(box * min(1.0, pixel_size / new_pixel_size) / 2)) - 1)
    turns = (new_place[:, None] - place[None, :]) / box
    kernel = np.full(turns.shape, 1.0 / box)
    for k in range(1, highest + 1):
        kernel += (2.0 / box) * np.cos(2 * np.pi * k * turns)
    beyond = (new_place < place[0] - 0.5) | (new_place > place[-1] + 0.5)
    kernel[beyond] = 0.0
    return kernel


def face_mean(volume: Float[np.ndarray, "z y x"]) -> np.floating:
    """The mean of the six faces of a map: its solvent."""
    faces = [volume[0], volume[-1], volume[:, 0], volume[:, -1], volume[:, :, 0], volume[:, :, -1]]
    return volume.dtype.type(np.mean([face.mean(dtype=np.float64) for face in faces]))


def _same_voxels(volume: np.ndarray, new_box: int, solvent: np.floating) -> np.ndarray:
    """The map cropped, or continued with `solvent`, about its origin."""
    box = volume.shape[-1]
    result = np.full((new_box,) * 3, solvent, dtype=volume.dtype)
    first = new_box // 2 - box // 2  # index of the old voxel 0 in the new map
    into = slice(max(0, first), min(new_box, first + box))
    out_of = slice(max(0, -first), max(0, -first) + into.stop - into.start)
    result[into, into, into] = volume[out_of, out_of, out_of]
    return result
