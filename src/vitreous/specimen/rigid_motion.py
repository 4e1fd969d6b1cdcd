"""Rigid motions in space, as parts of the way that a screw goes.

Every rigid motion r -> R r + t is a turn about an axis and a shift along that axis (Chasles). With the unit axis n, the angle a, the pitch
h = n . t and a point c of the axis, a fraction f of it is

    r -> R(n, f a) (r - c) + c + f h n

so that a domain that moves from one state to another does so without changing its shape, at a steady pace.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitreous.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle, project_to_so3

if TYPE_CHECKING:
    from jaxtyping import Float

SMALLEST_TURN = 1e-6  # radian: below, the axis is not defined and the motion is a shift


@dataclass(frozen=True)
class RigidMotion:
    """`rotation` [3, 3] and `translation` [3] in angstrom: r -> R r + t."""

    rotation: np.ndarray
    translation: np.ndarray

    def moved(self, position: Float[np.ndarray, "n 3"], fraction: float = 1.0) -> Float[np.ndarray, "n 3"]:
        """The positions after this fraction of the motion, float64."""
        position = np.asarray(position, dtype=np.float64)
        if fraction == 1.0:
            return position @ self.rotation.T + self.translation
        axis, angle, point, pitch = self._screw
        if angle < SMALLEST_TURN:
            return position + fraction * self.translation
        turn = matrix_from_axis_angle(axis, np.float64(fraction * angle))
        return (position - point) @ turn.T + point + fraction * pitch * axis

    def returned(self, position: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """The positions before the motion."""
        return (np.asarray(position, dtype=np.float64) - self.translation) @ self.rotation

    @property
    def angle(self) -> float:
        """By how much it turns, radian, 0 to pi."""
        return self._screw[1]

    @property
    def axis(self) -> np.ndarray:
        """The direction about which it turns, of length 1; of no meaning where it does not turn."""
        return self._screw[0]

    @cached_property
    def _screw(self) -> tuple[np.ndarray, float, np.ndarray, float]:
        """Axis, angle, the point of the axis nearest to the origin, and pitch."""
        axis, angle = (np.asarray(value, dtype=np.float64) for value in axis_angle_from_matrix(self.rotation))
        pitch = float(axis @ self.translation)
        # (1 - R) c = t - h n has one solution across the axis, which the pseudo-inverse gives.
        point = np.linalg.pinv(np.eye(3) - self.rotation, rcond=1e-9) @ (self.translation - pitch * axis)
        return axis, float(angle), point, pitch


def superposition(
    moving: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], weight: Float[np.ndarray, " n"] | None = None
) -> RigidMotion:
    """The rigid motion that brings `moving` nearest to `target`, pair by pair in least squares.

    R is the rotation nearest to sum_j w_j (target_j - target mean)(moving_j - moving mean)^T. Source: Kabsch 1976,
    doi:10.1107/S0567739476001873.
    """
    moving, target = (np.asarray(values, dtype=np.float64) for values in (moving, target))
    weight = np.ones(len(moving)) if weight is None else np.asarray(weight, dtype=np.float64)
    first, second = (np.average(values, axis=0, weights=weight) for values in (moving, target))
    rotation = project_to_so3(((target - second) * weight[:, None]).T @ (moving - first))
    return RigidMotion(rotation, second - rotation @ first)
