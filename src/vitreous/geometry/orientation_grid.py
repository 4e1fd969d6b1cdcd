"""Grids of orientations: HEALPix viewing directions times in-plane angles, with children, neighbours, and local grids.

Order k has 12 * 4^k directions (the pixel centres of HEALPix, in nested numbering) and 6 * 2^k in-plane angles, the
step in psi being RELION's 360 / (6 * 2^k) degrees: 72 * 8^k cells of equal volume that fill SO(3) once. Psi sits in the
middle of its interval, (j + 1/2) * step, as directions sit in the middle of their pixels. So the grids are nested: each
cell of order k has eight children in the grid of order k + 1. A cell has the number `index = pixel * (6 * 2^k) + j`.
Source: Górski et al. 2005, doi:10.1086/427976; Yershova et al. 2010, doi:10.1177/0278364909352700. Angles in radian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import (
    compose,
    matrix_from_euler,
    matrix_from_rotation_vector,
    random_rotations,
)
from vitreous.geometry.symmetry import PointGroup, asymmetric_unit
from vitreous.units import DEGREE

MAX_ORDER = 7


@dataclass(frozen=True)
class OrientationGrid:
    """Some cells of the grid of one order: `index` [n], int64."""

    order: int
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def euler(self) -> np.ndarray:
        """(rot, tilt, psi) of the cell centres, [n, 3]."""
        return euler_from_index(self.index, self.order)

    @property
    def matrix(self) -> np.ndarray:
        """Rotation matrices of the cell centres, [n, 3, 3]."""
        return matrix_from_euler(self.euler)

    def refined(self) -> OrientationGrid:
        """The grid of the next order on the same region: the eight children of every cell, in the order of their
        parents.
        """
        return OrientationGrid(self.order + 1, children(self.index, self.order).ravel())

    def randomly_turned(self, rng: np.random.Generator) -> np.ndarray:
        """The matrices [n, 3, 3] all turned by one random rotation Q of the image's frame, `Q @ R`.

        Distances within the grid and its asymmetric unit stay as they are; its bias towards special angles is gone.
        """
        return compose(random_rotations(1, rng), self.matrix)


def orientation_grid(order: int, *, symmetry: PointGroup | None = None) -> OrientationGrid:
    """All cells of an order, or those whose centre is in the asymmetric unit of a point group (about 1/n of them,
    without equivalent pairs).

    >>> len(orientation_grid(2))
    4608

    Raises SettingsProblem for an order outside 0..7, or so coarse that no cell has its centre in the asymmetric unit.
    """
    _check_order(order)
    pixels, turns = np.arange(direction_count(order)), np.arange(psi_count(order))
    if symmetry is None or symmetry.order == 1:
        return OrientationGrid(order, np.arange(pixels.size * turns.size))
    unit = asymmetric_unit(symmetry)
    direction = _vectors(healpix_directions(order))
    pixels = pixels[unit.in_asymmetric_unit(direction)]
    if pixels.size == 0:
        raise SettingsProblem(
            f"a grid of order {order} for {symmetry.name}",
            "at least one viewing direction in the asymmetric unit",
            f"use order {order + 1} or more",
        )
    index = pixels[:, None] * turns.size + turns
    on_axis = unit.multiplicity(direction[pixels]) > 1
    # A view down an axis looks the same after some in-plane turns: only there orientations are looked at one by one.
    special = index[on_axis].ravel()
    special = special[unit.contains(matrix_from_euler(euler_from_index(special, order)))]
    return OrientationGrid(order, np.sort(np.concatenate([index[~on_axis].ravel(), special])))


def healpix_directions(order: int) -> np.ndarray:
    """(rot, tilt) of the HEALPix pixel centres, [12 * 4^order, 2], nested numbering: tilt is the polar angle, rot the
    azimuth.
    """
    import healpix

    _check_order(order)
    tilt, rot = healpix.pix2ang(2**order, np.arange(direction_count(order)), nest=True)
    return np.stack([rot % (2 * np.pi), tilt], axis=-1)


def psi_grid(order: int) -> np.ndarray:
    """The in-plane angles (j + 1/2) * step, [6 * 2^order]: the grid of orientations of two-dimensional work."""
    _check_order(order)
    count = psi_count(order)
    return (np.arange(count) + 0.5) * (2 * np.pi / count)


def direction_count(order: int) -> int:
    """12 * 4^order."""
    return 12 * 4**order


def psi_count(order: int) -> int:
    """6 * 2^order."""
    return 6 * 2**order


def mean_spacing_deg(order: int) -> float:
    """The cube root of the volume of a cell, `(4 pi / directions * psi step)^(1/3)`, in degrees: 59.1 / 2^order."""
    solid_angle, step = 4 * math.pi / direction_count(order), 2 * math.pi / psi_count(order)
    return (solid_angle * step) ** (1 / 3) / DEGREE


def euler_from_index(index: np.ndarray, order: int) -> np.ndarray:
    """(rot, tilt, psi) of the centres of these cells, [..., 3]."""
    pixel, turn = np.divmod(np.asarray(index), psi_count(order))
    return np.concatenate([healpix_directions(order)[pixel], psi_grid(order)[turn][..., None]], axis=-1)


def children(index: np.ndarray, order: int) -> np.ndarray:
    """The eight cells of order + 1 nearest to each cell, [..., 8]: four pixels times two in-plane intervals.

    Every cell of order + 1 is the child of one cell. The intervals are those that continue the cell's own turn: near
    the poles the same psi means another turn where rot differs, and children of equal psi would be far from each other.
    """
    pixel, turn = np.divmod(np.asarray(index), psi_count(order))
    pixels = 4 * pixel[..., None, None] + np.arange(4)[:, None]
    turns = 2 * turn[..., None, None] + np.arange(2) + _turns_from_parent(order + 1)[pixels]
    count = psi_count(order + 1)
    return (pixels * count + turns % count).reshape(*pixel.shape, 8)


def parent(index: np.ndarray, order: int) -> np.ndarray:
    """The cell of order - 1 of which each cell is a child; order must be at least 1."""
    count = psi_count(order)
    pixel, turn = np.divmod(np.asarray(index), count)
    return pixel // 4 * psi_count(order - 1) + (turn - _turns_from_parent(order)[pixel]) % count // 2


def neighbours(index: np.ndarray, order: int) -> np.ndarray:
    """The up to 26 cells around each cell, [..., 26], padded with -1.

    Directions: the pixel itself and those that share a corner with it (8, at a few pixels 7 or 6). For each, the
    in-plane interval that comes nearest to the cell's own turn, and the two beside it.
    """
    count = psi_count(order)
    index = np.asarray(index)
    pixel, turn = np.divmod(index, count)
    around = np.concatenate([pixel[..., None], _pixel_neighbours(order)[pixel]], axis=-1)
    directions = healpix_directions(order)
    shift = _nearest_turns(twist(directions[around], directions[pixel][..., None, :]), count)
    turns = turn[..., None, None] + shift[..., None] + np.array([0, -1, 1])
    cells = np.where(around[..., None] < 0, -1, around[..., None] * count + turns % count)
    return cells.reshape(*index.shape, 27)[..., 1:]


def twist(direction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The in-plane angle psi that brings `Rz(psi) Ry(tilt) Rz(rot)` of a direction nearest to `Ry(tilt) Rz(rot)` of the target.

    It maximises the trace of `Rz(psi)^T M` with M = Ry(tilt') Rz(rot' - rot) Ry(-tilt).
    """
    turn = target[..., 0] - direction[..., 0]
    c1, c2, s1, s2 = (
        np.cos(target[..., 1]),
        np.cos(direction[..., 1]),
        np.sin(target[..., 1]),
        np.sin(direction[..., 1]),
    )
    return np.arctan2(np.sin(turn) * (c1 + c2), np.cos(turn) * (1 + c1 * c2) + s1 * s2)


def _nearest_turns(angle: np.ndarray, count: int) -> np.ndarray:
    """The angle as a number of in-plane steps; half-way cases must not hang on rounding, hence the small offset."""
    return np.floor(angle * (count / (2 * np.pi)) + 0.5 - 1e-9).astype(int)


@lru_cache(maxsize=8)
def _turns_from_parent(order: int) -> np.ndarray:
    """In-plane steps between equal turns at a pixel's parent and at the pixel, [12 * 4^order]; 0 near the equator."""
    parents = np.repeat(healpix_directions(order - 1), 4, axis=0)
    return _nearest_turns(twist(healpix_directions(order), parents), psi_count(order))


@lru_cache(maxsize=8)
def _pixel_neighbours(order: int) -> np.ndarray:
    """Pixels that share a corner with each pixel, [12 * 4^order, 8], ascending, -1 where there are fewer."""
    import chealpix

    pixels = np.arange(direction_count(order))
    corners = []
    for u, v in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        corners.append(np.stack(chealpix.nest2vec_uv(2**order, pixels, u, v)[:3], axis=-1))
    # At the poles the library has no azimuth and gives x = y = nan, where 0 is meant.
    points = np.nan_to_num(np.stack(corners, axis=1).reshape(-1, 3)).round(6) + 0.0
    _, corner = np.unique(points, axis=0, return_inverse=True)
    holders: dict[int, list[int]] = {}
    for number, name in enumerate(corner.ravel()):
        holders.setdefault(int(name), []).append(number // 4)
    table = np.full((pixels.size, 8), -1)
    for pixel, names in enumerate(corner.reshape(-1, 4)):
        others = sorted({other for name in names for other in holders[int(name)]} - {pixel})
        table[pixel, : len(others)] = others
    return table


def pixel_of_direction(direction: np.ndarray, order: int) -> np.ndarray:
    """The HEALPix pixel (nested) that holds each direction (rot, tilt), [...]."""
    import healpix

    return healpix.ang2pix(2**order, direction[..., 1], direction[..., 0] % (2 * np.pi), nest=True)


def surrounding_pixels(pixel: np.ndarray, order: int) -> np.ndarray:
    """Each pixel and the up to 8 that share a corner with it, [..., 9], -1 where there are fewer."""
    pixel = np.asarray(pixel)
    return np.concatenate([pixel[..., None], _pixel_neighbours(order)[pixel]], axis=-1)


def local_grid(centre: np.ndarray, *, radius: float, step: float) -> np.ndarray:
    """Rotations within `radius` of each `centre` [..., 3, 3], about `step` apart (radian): [..., m, 3, 3], the centre
    first.

    They are `exp(v) @ centre` for the points v of a cubic lattice with |v| <= radius: v = (0, 0, a) turns the image in
    its plane, the other components tilt it. Sorted by |v|, which is the distance from the centre.
    """
    if not (step > 0 and 0 <= radius <= math.pi):
        raise SettingsProblem(f"a local grid of radius {radius} and step {step} rad", "step > 0 and 0 <= radius <= pi")
    reach = int(radius / step * (1 + 1e-9))
    line = np.arange(-reach, reach + 1)
    lattice = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    squared = (lattice**2).sum(axis=1)
    near = np.argsort(squared, kind="stable")
    near = near[squared[near] * step**2 <= radius**2 * (1 + 1e-9)]
    centre = np.asarray(centre)
    offsets = matrix_from_rotation_vector((lattice[near] * step).astype(centre.dtype))
    return compose(offsets, centre[..., None, :, :])


def _vectors(direction: np.ndarray) -> np.ndarray:
    """Unit vectors (sin tilt cos rot, sin tilt sin rot, cos tilt) of (rot, tilt)."""
    rot, tilt = direction[..., 0], direction[..., 1]
    return np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], axis=-1)


def _check_order(order: int) -> None:
    if not 0 <= order <= MAX_ORDER:
        raise SettingsProblem(
            f"a grid of order {order}",
            f"an order from 0 (60 degrees) to {MAX_ORDER} (0.47 degrees)",
            "use a local grid for finer steps",
        )
