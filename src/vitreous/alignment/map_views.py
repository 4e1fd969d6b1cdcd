"""Maps seen from the directions of a HEALPix grid: views that divide into finer ones.

A view is numbered `class * directions + pixel` (nested numbering). Its frame is Ry(tilt) Rz(rot) Q, Q a small rotation that
moves the whole grid, another one in each iteration; an image with in-plane angle psi has the orientation `Rz(psi) Ry(tilt) Rz(rot) Q`. Children
are read in the frame nearest to their parent's, turned by their `twist`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.polar import PolarGrid
from vitreous.geometry.orientation_grid import direction_count, healpix_directions, twist
from vitreous.geometry.rotations import compose, matrix_from_euler
from vitreous.geometry.symmetry import PointGroup, asymmetric_unit
from vitreous.reconstruction.projection import FourierVolume

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int


@lru_cache(maxsize=8)
def _directions(order: int) -> np.ndarray:
    return healpix_directions(order)


@dataclass(frozen=True)
class MapViews:
    """Views of order `order` of one or more maps, and their children of `order + 1`.

    `volumes` (k of them, on the images' scale); `population` [k]; `turn` [3, 3] is Q; `directions` counts the directions that share the prior, at `order`.
    """

    volumes: tuple[FourierVolume, ...]
    population: Float[np.ndarray, " k"]
    turn: Float[np.ndarray, "3 3"]
    order: int
    directions: int

    def children(self, view: int) -> Int[np.ndarray, " v"]:
        number, pixel = divmod(view, direction_count(self.order))
        return number * direction_count(self.order + 1) + 4 * pixel + np.arange(4)

    def slices(
        self, views: np.ndarray, psi: Float[np.ndarray, " p"], grid: PolarGrid
    ) -> Complex[np.ndarray, "p v r h"]:
        frames = self.frames(views, psi)
        numbers = self.classes(views)
        result = np.empty((len(psi), len(views), *grid.shape), dtype=np.complex64)
        for number in np.unique(numbers):
            chosen = frames[:, numbers == number]
            read = sliced(self.volumes[number], chosen.reshape(-1, 3, 3), grid)
            result[:, numbers == number] = read.reshape(*chosen.shape[:2], *grid.shape)
        return result

    def classes(self, views: np.ndarray) -> Int[np.ndarray, " v"]:
        """The map of each child view."""
        return views // direction_count(self.order + 1)

    def log_prior(self, views: np.ndarray) -> Float[np.ndarray, " v"]:
        return np.log(np.maximum(self.population[self.classes(views)], 1e-12)) - np.log(4 * self.directions)

    def twist(self, views: np.ndarray) -> Float[np.ndarray, " v"]:
        """In-plane angle of each child's frame, as it is read, in its own canonical frame."""
        pixel = views % direction_count(self.order + 1)
        return twist(_directions(self.order + 1)[pixel], _directions(self.order)[pixel // 4])

    def frames(self, views: np.ndarray, psi: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p v 3 3"]:
        """Orientation of each child view as its slice is read, turned by each in-plane angle."""
        directions = _directions(self.order + 1)[views % direction_count(self.order + 1)]
        twist = self.twist(views)
        return np.stack([oriented(directions, twist + angle, self.turn) for angle in psi])


def oriented(direction: Float[np.ndarray, "n 2"], psi: Float[np.ndarray, " n"], turn: np.ndarray) -> np.ndarray:
    """Rz(psi) Ry(tilt) Rz(rot) Q of directions (rot, tilt), [n, 3, 3]."""
    return compose(matrix_from_euler(np.concatenate([direction, psi[:, None]], axis=1)), turn)


def orientation_of(views: np.ndarray, psi: np.ndarray, order: int, turn: np.ndarray) -> Float[np.ndarray, "n 3 3"]:
    """Orientations of images with in-plane angle `psi` in the canonical frames of views of this order."""
    return oriented(_directions(order)[views % direction_count(order)], psi, turn)


def unit_pixels(order: int, group: PointGroup) -> Int[np.ndarray, " v"]:
    """Directions of an order in the asymmetric unit."""
    from vitreous.geometry.rotations import view_direction

    frames = oriented(_directions(order), np.zeros(direction_count(order)), np.eye(3))
    return np.flatnonzero(asymmetric_unit(group).in_asymmetric_unit(view_direction(frames)))


def sliced(volume: FourierVolume, frames: Float[np.ndarray, "n 3 3"], grid: PolarGrid) -> Complex[np.ndarray, "n r h"]:
    """Slices of a volume on the rings of a grid."""
    from vitreous.reconstruction.insertion_kernel import extract

    kx, ky = (np.ascontiguousarray(k.ravel(), dtype=np.float32) for k in grid.frequencies)
    basis = np.ascontiguousarray(frames[:, :2, :].reshape(-1, 6).T * volume.padding, dtype=np.float32)
    slices = np.empty((len(frames), kx.size), dtype=np.complex64)
    extract(np.ascontiguousarray(volume.data, dtype=np.complex64), kx, ky, basis, slices)
    return slices.reshape(len(frames), *grid.shape)
