"""The voxels of padded transforms that images of some radius can tell of, as a list, for many volumes at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from vitreous.fourier.interpolation import gridding_correction
from vitreous.reconstruction.backprojection import inverse_to_box
from vitreous.reconstruction.projection import PADDING, fourier_volume, padded_radius

REACH = math.sqrt(3)  # voxels: the farthest of the eight neighbours of a point
SPARE = 4  # voxels of a working box beyond the diameter of its rings


@dataclass(frozen=True)
class FourierBall:
    """The voxels with x >= 0 of a transform of `box` voxels, padded twice, within `radius` cycles per box and the reach of the kernel, from the centre outwards.

    `voxels` [v, 3]: (z, y, x) in the layout of a FourierVolume; `shell` [v] of each, in cycles per box; `index` [z, y, x]: the row of a voxel, v for
    those that are not in the list.
    """

    box: int
    radius: float
    voxels: np.ndarray
    shell: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def shells(self) -> int:
        return int(self.shell[-1]) + 1

    def bands(self, rows: int) -> list[slice]:
        """The list cut into pieces of at most `rows` voxels, each within a thin layer."""
        edges = [*range(0, len(self), rows), len(self)]
        return [slice(start, stop) for start, stop in pairwise(edges)]

    def values(self, maps: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """The transforms of k maps [k, z, y, x] times `scale`, as [v + 1, 2k]: real parts, then imaginary ones; the last row is 0."""
        count = len(maps)
        values = np.zeros((len(self) + 1, 2 * count), np.float32)
        z, y, x = self.voxels.T
        for j, volume in enumerate(maps):
            found = fourier_volume(volume).data[z, y, x] * np.float32(scale)
            values[:-1, j], values[:-1, count + j] = found.real, found.imag
        return values

    def maps(self, values: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """The k maps [k, z, y, x] of such values, times `scale`; voxels that are not in the list count as 0."""
        count, size, middle = values.shape[1] // 2, PADDING * self.box, padded_radius(self.box)
        z, y, x = (self.voxels - np.array([middle - size // 2, middle - size // 2, 0], np.int16)).T
        inside = np.flatnonzero((z >= 0) & (z < size) & (y >= 0) & (y < size) & (x <= size // 2))
        z, y, x = z[inside], y[inside], x[inside]
        correction = gridding_correction(self.box, PADDING, "linear", 3)
        maps = np.empty((count, *(self.box,) * 3), np.float32)
        for j in range(count):
            half = np.zeros((size, size, size // 2 + 1), np.complex64)
            half[z, y, x] = values[inside, j] + np.complex64(1j) * values[inside, count + j]
            maps[j] = inverse_to_box(half, self.box) / correction * scale
        return maps


@lru_cache(maxsize=4)
def fourier_ball(box: int, radius: float) -> FourierBall:
    """The ball of a box and a radius in cycles per box, below box/2 or equal to it."""
    middle = padded_radius(box)
    far = min(int(PADDING * radius + REACH) + 1, middle)
    line = np.arange(-far, far + 1)
    z, y, x = (part.ravel() for part in np.meshgrid(line, line, np.arange(far + 1), indexing="ij"))
    length = np.sqrt(x**2 + y**2 + z**2)
    keep = np.flatnonzero(length <= PADDING * radius + REACH)
    shell = np.rint(length[keep] / PADDING).astype(np.int32)
    order = np.argsort(length[keep], kind="stable")
    keep, shell = keep[order], shell[order]
    voxels = np.stack([z[keep] + middle, y[keep] + middle, x[keep]], axis=-1).astype(np.int16)
    index = np.full((2 * middle + 1, 2 * middle + 1, middle + 1), len(keep), np.int32)
    index[tuple(voxels.T)] = np.arange(len(keep), dtype=np.int32)
    return FourierBall(box, radius, voxels, shell, index)


def working_box(box: int, radius: float) -> int:
    """The smallest even box whose transform holds rings up to `radius` cycles per box, at most `box`."""
    return min(box, 2 * math.ceil(radius) + SPARE)
