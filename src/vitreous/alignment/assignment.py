"""Assignment: what an alignment has found out about each particle, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.model.pose import Pose

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class Assignment:
    """Of each of n particles: the most probable class and pose, and how sure they are.

    `class_index` [n] counts from 0; -1 where a particle has not been looked at yet. `pose` holds the most probable orientation and origin. `probability` [n] is the
    largest posterior probability of a single (class, orientation, shift). `entropy` [n] of the posterior over (class, orientation, shift), in nat:
    exp(entropy) is the number of alternatives in play. `log_evidence` [n] is the log of the likelihood summed over all alternatives with their
    prior, relative to an image of noise alone (so that it is above 0 where the particle is seen). `class_probability` [n] is the posterior probability
    of the class named. `angle_deviation` [n] (radian) and `shift_deviation` [n] (angstrom) are standard deviations of the posterior about the pose
    named, within the class named. `norm` [n] is the factor by which the image's noise differs from that of its group (1: not at all).
    """

    class_index: Int[np.ndarray, " n"]
    pose: Pose
    probability: Float[np.ndarray, " n"]
    entropy: Float[np.ndarray, " n"]
    log_evidence: Float[np.ndarray, " n"]
    class_probability: Float[np.ndarray, " n"]
    angle_deviation: Float[np.ndarray, " n"]
    shift_deviation: Float[np.ndarray, " n"]
    norm: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.class_index)

    def rows(self, selection: np.ndarray | slice) -> Assignment:
        """The assignments of the selected particles."""
        names = [item.name for item in fields(self) if item.name != "pose"]
        columns = {name: getattr(self, name)[selection] for name in names}
        return Assignment(pose=self.pose.rows(selection), **columns)

    def with_rows(self, rows: np.ndarray, part: Assignment) -> Assignment:
        """These assignments with those of `rows` replaced by `part`."""
        changed = {}
        for item in fields(self):
            if item.name == "pose":
                continue
            column = getattr(self, item.name).copy()
            column[rows] = getattr(part, item.name)
            changed[item.name] = column
        euler, shift = self.pose.euler.copy(), self.pose.shift.copy()
        euler[rows], shift[rows] = part.pose.euler, part.pose.shift
        return replace(self, pose=Pose(euler, shift), **changed)


def unassigned(count: int, pose: Pose | None = None) -> Assignment:
    """Assignments before the first iteration: no class, angles 0, origins 0 (or those of `pose`), nothing known."""
    pose = pose or Pose(np.zeros((count, 3)), np.zeros((count, 2)))
    nothing = np.full(count, -1, dtype=np.int32)
    zeros: list[Any] = [np.zeros(count) for _ in range(6)]
    return Assignment(nothing, pose, *zeros, norm=np.ones(count))
