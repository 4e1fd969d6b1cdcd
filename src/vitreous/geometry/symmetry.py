"""Point groups of rotations (C, D, T, O, I) in RELION's settings, and their asymmetric units.

A map V with the symmetry of a group is unchanged under each of its operators, V(r) = V(S r). Projections along R and
along `R S` are then the same image: `R @ S` are the equivalent orientations of R, and `S^T d` the equivalent viewing
directions of d.

Settings: Cn has its axis along z; Dn its n-fold along z and a 2-fold along x; T a 3-fold along z and a 2-fold in the
yz plane; O its 4-folds along x, y, z. Icosahedral: I1 and I2 have 2-folds along x, y, z and a 5-fold in the xz plane,
58.28 (I1) or 31.72 degrees (I2) from z towards x; I3 and I4 have a 5-fold along z and another in the xz plane, 63.43
degrees from z towards -x (I3) or towards x (I4). I is I2. The operator sets are those that RELION 3.1.3 prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import axis_angle_from_matrix, compose, matrix_from_axis_angle, view_direction

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Array = Any  # NumPy or JAX

MAX_FOLD = 99
GOLDEN = (1 + 5**0.5) / 2
# (fold, axis) of two turns that generate the group.
POLYHEDRAL = {
    "T": ((3, (0, 0, 1)), (2, (0, 2**0.5, 1))),
    "O": ((4, (0, 0, 1)), (3, (1, 1, 1))),
    "I1": ((2, (0, 0, 1)), (5, (GOLDEN, 0, 1))),
    "I2": ((2, (0, 0, 1)), (5, (1, 0, GOLDEN))),
    "I3": ((5, (0, 0, 1)), (2, (1, 0, -GOLDEN))),
    "I4": ((5, (0, 0, 1)), (2, (1, 0, GOLDEN))),
}
VALID_NAMES = f"C1 ... C{MAX_FOLD}, D1 ... D{MAX_FOLD}, T, O, I (= I2), I1, I2, I3, I4"


@dataclass(frozen=True)
class SymmetryAxis:
    """An axis of rotation: the turns by multiples of 360/fold degrees about `direction` (a unit vector; its negative
    is the same axis).
    """

    fold: int
    direction: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class PointGroup:
    """A finite group of rotations. `operators` [n, 3, 3], float64, read-only, the identity first."""

    name: str
    operators: np.ndarray

    @property
    def order(self) -> int:
        """The number of operators: how many equivalent orientations each orientation has, itself included."""
        return len(self.operators)

    @cached_property
    def axes(self) -> tuple[SymmetryAxis, ...]:
        """All axes of rotation, highest fold first, each once, named by the direction whose last non-zero component is
        positive.
        """
        if self.order == 1:
            return ()
        directions = axis_angle_from_matrix(self.operators[1:])[0]
        for component in range(3):
            # Applied for x, then y, then z: the last non-zero component has the last word.
            directions = directions * np.where(directions[:, component : component + 1] < -1e-9, -1.0, 1.0)
        directions = np.where(np.abs(directions) < 1e-9, 0.0, directions)
        _, index, counts = np.unique(directions.round(6), axis=0, return_index=True, return_counts=True)
        found = [
            SymmetryAxis(int(n) + 1, (float(x), float(y), float(z))) for n, (x, y, z) in zip(counts, directions[index])
        ]
        return tuple(sorted(found, key=lambda axis: (-axis.fold, *(-c for c in reversed(axis.direction)))))

    def equivalents(self, matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch n 3 3"]:
        """The equivalent orientations `R @ S`, one for each operator; the first is R itself."""
        return compose(matrix[..., None, :, :], self.operators.astype(float_dtype(matrix)))


def point_group(name: str) -> PointGroup:
    """The group of this name: C1, c4, D2, T, O, I, I1 ... (upper or lower case).

    >>> point_group("D2").order, point_group("I").order
    (4, 60)

    Raises SettingsProblem for any other name.
    """
    return _point_group(str(name).strip().upper())


@lru_cache(maxsize=64)
def _point_group(name: str) -> PointGroup:
    cyclic = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if cyclic:
        operators = _cyclic(int(cyclic[2]))
        if cyclic[1] == "D":
            operators = np.concatenate([operators, operators @ np.diag([1.0, -1.0, -1.0])])
    elif name == "I" or name in POLYHEDRAL:
        turns = POLYHEDRAL["I2" if name == "I" else name]
        operators = _closure(
            [matrix_from_axis_angle(np.array(axis, float), np.array(2 * np.pi / fold)) for fold, axis in turns]
        )
    else:
        raise SettingsProblem(f"point group '{name}'", f"one of {VALID_NAMES}", "a map without symmetry is C1")
    operators = operators + 0.0
    operators.setflags(write=False)
    return PointGroup(name, operators)


def _cyclic(fold: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(fold) / fold
    return matrix_from_axis_angle(np.array([0.0, 0.0, 1.0]), angles)


def _closure(generators: list[np.ndarray]) -> np.ndarray:
    """All products of the generators: each new element is multiplied by each generator until none is new."""
    elements = [np.eye(3)]
    for element in elements:
        for generator in generators:
            candidate = element @ generator
            if np.abs(np.array(elements) - candidate).max(axis=(1, 2)).min() > 1e-6:
                elements.append(candidate)
    return np.array(elements)


# ---- asymmetric units ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AsymmetricUnit:
    """One representative of each set of equivalent orientations: that whose viewing direction is nearest to `centre`.

    On the sphere of viewing directions this is a region of area 4 pi / n, bounded by great circles through the axes:
    for Cn the sector |rot| <= 180/n degrees, for Dn its upper half (tilt <= 90), for T, O and I the triangle made of
    one highest axis and two neighbouring vertices, with a 2-fold axis in the middle of its base. Equivalent points of
    the boundary are told apart by a fixed second direction, and the in-plane angles that an axis makes equivalent by a
    fixed linear function of the matrix, so that every orientation has exactly one representative, up to rounding.
    """

    group: PointGroup
    centre: np.ndarray

    def reduce(self, matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
        """The representative `R @ S` of each rotation. The same for R and for any `R @ S`; unchanged if R is one
        already.
        """
        xp = namespace(matrix)
        equivalents = self.group.equivalents(matrix)
        choice = self._choice(equivalents)
        return xp.take_along_axis(equivalents, choice[..., None, None, None], axis=-3)[..., 0, :, :]

    def contains(self, matrix: Float[Array, "*batch 3 3"]) -> Bool[Array, "*batch"]:
        """Whether each rotation is the representative of its set."""
        return self._choice(self.group.equivalents(matrix)) == 0

    def in_asymmetric_unit(self, direction: Float[Array, "*batch 3"]) -> Bool[Array, "*batch"]:
        """Whether each viewing direction (unit vector in the object's frame) is the representative of its equivalents.

        It is for the viewing direction of every reduced rotation.
        """
        xp = namespace(direction)
        orbit = self._orbit(direction)
        tied, second = self._ranking(orbit)
        return tied[..., 0] & (second[..., 0] >= xp.max(second, axis=-1) - _tolerance(direction))

    def multiplicity(self, direction: Float[Array, "*batch 3"]) -> Int[Array, "*batch"]:
        """How many operators leave the direction where it is: the fold of the axis it lies on, 1 off all axes."""
        xp = namespace(direction)
        offset = xp.max(xp.abs(self._orbit(direction) - direction[..., None, :]), axis=-1)
        return xp.sum(offset < _tolerance(direction), axis=-1)

    def _orbit(self, direction: Any) -> Any:
        """The equivalent directions `S^T d` [..., n, 3]; the first is d."""
        operators = self.group.operators.astype(float_dtype(direction))
        return sum(direction[..., None, k, None] * operators[:, k, :] for k in range(3))

    def _ranking(self, orbit: Any) -> tuple[Any, Any]:
        """Which of the equivalent directions are nearest to the centre, and the second score of those (the others have
        -inf).
        """
        xp = namespace(orbit)
        first = _dot(orbit, self.centre)
        tied = first >= xp.max(first, axis=-1, keepdims=True) - _tolerance(orbit)
        return tied, xp.where(tied, _dot(orbit, SECOND_DIRECTION), -float("inf"))

    def _choice(self, equivalents: Any) -> Any:
        """Index of the representative among the equivalents [..., n, 3, 3]."""
        xp = namespace(equivalents)
        _, second = self._ranking(view_direction(equivalents))
        tied = second >= xp.max(second, axis=-1, keepdims=True) - _tolerance(equivalents)
        third = sum(_dot(equivalents[..., row, :], IN_PLANE_FUNCTION[row]) for row in range(2))
        return xp.argmax(xp.where(tied, third, -float("inf")), axis=-1)


# Neither lies on an axis or a mirror plane of any group above, so that ties after them are without extent.
SECOND_DIRECTION = np.array([0.287, 0.913, 0.289])
IN_PLANE_FUNCTION = np.array([[0.618, 0.241, 0.133], [-0.207, 0.577, 0.319]])


@lru_cache(maxsize=64)
def asymmetric_unit(group: PointGroup) -> AsymmetricUnit:
    """The asymmetric unit of a group, around a point half-way between its highest axis next to z and the 2-fold axis
    next to that.
    """
    if not group.axes:
        return AsymmetricUnit(group, np.array([0.0, 0.0, 1.0]))
    top = np.array(max(group.axes, key=lambda axis: (axis.fold, round(axis.direction[2], 6), axis.direction)).direction)
    lines = [np.array(axis.direction) for axis in group.axes if axis.fold == 2]
    twofolds = [sign * line for line in lines for sign in (1, -1) if abs(line @ top) < 1 - 1e-6]
    if twofolds:
        centre = top + max(twofolds, key=lambda line: (round(float(line @ top), 6), *np.round(line, 6)))
    else:
        centre = np.array([1.0, 0.0, 0.0]) if abs(top[2]) > 0.5 else np.array([0.0, 0.0, 1.0])
    return AsymmetricUnit(group, centre / np.linalg.norm(centre))


def _dot(vectors: Any, constant: np.ndarray) -> Any:
    return sum(vectors[..., k] * float(constant[k]) for k in range(3))


def _tolerance(array: Any) -> float:
    """Scores nearer to each other than this are ties: rounding of a few operations, with room for inputs that are not
    quite rotations.
    """
    return 1e-9 if float_dtype(array) == np.float64 else 3e-6
