"""The voxels of padded transforms that images of some radius can tell of, as a list, for many volumes at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from vitreous.fourier.interpolation import gridding_correction
from vitreous.reconstruction.backprojection import inverse_to_box
from vitreous.reconstruction.projection import PADDING, padded_radius

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
        count, middle = len(maps), padded_radius(self.box)
        values = np.zeros((len(self) + 1, 2 * count), np.float32)
        z, y, x = (self.voxels - np.array([middle, middle, 0], np.int16)).T
        for j, volume in enumerate(maps):
            transform: Any = self.transform(volume)
            values[:-1, j] = transform.real[z, y, x]  # negative frequencies count from the end
            values[:-1, count + j] = transform.imag[z, y, x]
        values *= np.float32(scale)
        return values

    def transform(self, volume: np.ndarray) -> np.ndarray:
        """The padded transform of a map, [P, P, x], zero frequency first, as far in x as the ball goes: that of `projection.fourier_volume`.

        Axis by axis only what is not 0 is transformed, which takes a third of the memory of a whole transform.
        """
        import scipy.fft

        size, last = PADDING * self.box, int(self.voxels[:, 2].max())
        part = (volume / gridding_correction(self.box, PADDING, "linear", 3)).astype(np.float32)
        part = np.asarray(scipy.fft.rfft(part, n=size, axis=2))[:, :, : last + 1]
        for axis in (1, 0):
            part = np.asarray(scipy.fft.fft(part, n=size, axis=axis))
        # The origin lies at index box // 2, not at 0.
        turn = np.exp(2j * np.pi * (self.box // 2) / size * np.arange(size)).astype(np.complex64)
        part *= turn[:, None, None]
        part *= turn[:, None]
        part *= turn[: last + 1]
        return part

    def maps(self, values: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """The k maps [k, z, y, x] of such values, times `scale`; voxels that are not in the list count as 0, and the last row."""
        count, size, middle = values.shape[1] // 2, PADDING * self.box, padded_radius(self.box)
        z, y, x = ((self.voxels - np.array([middle - size // 2, middle - size // 2, 0], np.int16)) % size).T
        correction = gridding_correction(self.box, PADDING, "linear", 3).astype(np.float32)
        maps = np.empty((count, *(self.box,) * 3), np.float32)
        for j in range(count):
            half = np.zeros((size, size, size // 2 + 1), np.complex64)
            half.real[z, y, x], half.imag[z, y, x] = values[:-1, j], values[:-1, count + j]
            maps[j] = inverse_to_box(half, self.box) / correction * scale
        return maps


@lru_cache(maxsize=1)  # the next one is larger, and this one is not needed again
def fourier_ball(box: int, radius: float) -> FourierBall:
    """The ball of a box and a radius in cycles per box, below box/2 or equal to it."""
    middle = padded_radius(box)
    far = min(
        int(PADDING * radius + REACH) + 1, PADDING * box // 2
    )  # pixels below the Nyquist frequency reach no further
    line, half = np.arange(-far, far + 1, dtype=np.int32) ** 2, np.arange(far + 1, dtype=np.int32) ** 2
    square = (line[:, None, None] + line[:, None] + half).ravel()
    keep = np.flatnonzero(square <= (PADDING * radius + REACH) ** 2).astype(np.int32)
    keep = keep[np.argsort(square[keep], kind="stable")]
    shell = np.rint(np.sqrt(square[keep]) / PADDING).astype(np.int16)
    z, y, x = np.unravel_index(keep, (2 * far + 1, 2 * far + 1, far + 1))
    voxels = np.stack([z + (middle - far), y + (middle - far), x], axis=-1).astype(np.int16)
    index = np.full((2 * middle + 1, 2 * middle + 1, middle + 1), len(keep), np.int32)
    index[tuple(voxels.T)] = np.arange(len(keep), dtype=np.int32)
    return FourierBall(box, radius, voxels, shell, index)


def working_ball(box: int, radius: float) -> FourierBall:
    """The ball of the smallest box that holds rings of images of `box` pixels up to `radius` cycles per box."""
    return fourier_ball(working_box(box, radius), radius)


def working_box(box: int, radius: float) -> int:
    """The smallest even box whose transform holds rings up to `radius` cycles per box, at most `box`."""
    return min(box, 2 * math.ceil(radius) + SPARE)
