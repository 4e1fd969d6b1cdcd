"""What the maximisation needs of a set of particles: sums over their posteriors, and what was found out about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.model.pose import Pose

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int


@dataclass(frozen=True)
class NoiseSums:
    """Per noise group and ring, over whole circles: `power` sum |X|^2, `cross` sum Re(conj(C A) X) and `model` sum |C A|^2 over the posterior, [g, r]; particles [g]."""

    power: Float[np.ndarray, "g r"]
    cross: Float[np.ndarray, "g r"]
    model: Float[np.ndarray, "g r"]
    count: Float[np.ndarray, " g"]

    @staticmethod
    def of_group(groups: int, group: int, count: int, *sums: np.ndarray) -> NoiseSums:
        """The sums of `count` particles of one group."""
        rows = np.zeros((3, groups, len(sums[0])))
        rows[:, group] = sums
        number = np.zeros(groups)
        number[group] = count
        return NoiseSums(rows[0], rows[1], rows[2], number)

    def __add__(self, other: NoiseSums) -> NoiseSums:
        return NoiseSums(
            self.power + other.power, self.cross + other.cross, self.model + other.model, self.count + other.count
        )

    def variance(self, angles: int, passed: float) -> Float[np.ndarray, "g r"]:
        """sigma^2 = mean |X - C A|^2 / passed: noise variance of unmasked images, of which the mask lets the share `passed` through."""
        residual = self.power - 2 * self.cross + self.model
        return np.maximum(residual, 1e-3 * self.power) / (np.maximum(self.count, 1)[:, None] * angles * passed)


@dataclass(frozen=True)
class ClassSums:
    """Per half of the particles: `data` [2, k, r, h] sum of C X w / sigma^2, turned and moved back; `weight` [2, k, r, h] sum of C^2 w / sigma^2.

    `mass` [k]: particles in each class. `rows` [n] names the particles of `assignment`.
    """

    data: Complex[np.ndarray, "2 k r h"]
    weight: Float[np.ndarray, "2 k r h"]
    mass: Float[np.ndarray, " k"]
    noise: NoiseSums
    rows: Int[np.ndarray, " n"]
    assignment: Assignment

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(
            self.data + other.data,
            self.weight + other.weight,
            self.mass + other.mass,
            self.noise + other.noise,
            np.concatenate([self.rows, other.rows]),
            joined([self.assignment, other.assignment]),
        )


def joined(parts: Sequence[Assignment]) -> Assignment:
    """Assignments one after another."""
    names = [name for name in Assignment.__dataclass_fields__ if name != "pose"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    euler = np.concatenate([part.pose.euler for part in parts])
    return Assignment(pose=Pose(euler, np.concatenate([part.pose.shift for part in parts])), **columns)
