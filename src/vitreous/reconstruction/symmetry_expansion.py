"""Symmetry expansion: each particle once for each operator of its point group, so that its parts can be told apart.

A particle of orientation R whose object has the operators S is seen equally well along each R S
(`geometry.symmetry`). In the expanded set, the image is listed with all of them: the m-fold sum of a reconstruction
without symmetry is that of the original with symmetry, and whatever is masked in the map, one of m equal parts, is met m
times in each image, in m positions.

The copies of an image hold the same noise. They share its half set, always.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler
from vitreous.geometry.symmetry import PointGroup
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose

if TYPE_CHECKING:
    from jaxtyping import Int

SOURCE = "vitreousSourceRow"  # our own: the row of the file that was expanded, from 1
OPERATOR = "vitreousSymmetryOperator"  # our own: which operator, from 1, the identity
# Angles that a refinement was told to stay near: those of the original, and wrong for all copies but one.
ANGLE_PRIORS = ("rlnAngleRotPrior", "rlnAngleTiltPrior", "rlnAnglePsiPrior")
EXPANDED_COLUMNS = (SOURCE, OPERATOR, "sym_expand/idx", "sym_expand/src_uid")


def expand_symmetry(particles: Particles, group: PointGroup) -> Particles:
    """n particles as n * m, the copies of a particle next to each other, the original first.

    Orientations are `R @ S`; all else is that of the original: image, origin, CTF, half set, columns. Two columns say
    where a row came from (`SOURCE`, `OPERATOR`). Columns of angular priors are left out. Raises DataProblem for particles
    without orientations or half sets, and for those that have been expanded already; SettingsProblem for C1.
    """
    if group.order == 1:
        raise SettingsProblem(
            "symmetry C1, which has no copies to make", "the point group of the map, such as C2 or D7"
        )
    if particles.pose is None:
        raise DataProblem("particles without orientations", "angles for each particle")
    if particles.half_set is None:
        raise DataProblem("particles without half sets", "a half set for each, which its copies share")
    refuse_expanded(particles)
    count, order = len(particles), group.order
    rows = np.repeat(np.arange(count), order)
    expanded = particles.rows(rows)
    table = expanded.table.without(*ANGLE_PRIORS).with_columns(
        {SOURCE: rows + 1, OPERATOR: np.tile(np.arange(1, order + 1), count)}
    )
    assert expanded.pose is not None
    return replace(expanded, pose=Pose(_orientations(particles.pose, group), expanded.pose.shift), table=table)


def refuse_expanded(particles: Particles) -> None:
    """Raise DataProblem for particles that say that they have been expanded, or that list an image twice."""
    named = [name for name in EXPANDED_COLUMNS if name in particles.table]
    if named:
        raise DataProblem(
            f"particles that have been expanded already (column {named[0]})",
            "one row for each image",
            "expand the file that these were made of",
        )
    counts = occurrences(particles)
    if counts.max(initial=1) > 1:
        row = int(counts.argmax())
        raise DataProblem(
            f"image {particles.names.text(row)} in {counts[row]} rows",
            "one row for each image",
            "remove duplicates, or expand the file that was not expanded yet",
        )


def occurrences(particles: Particles) -> Int[np.ndarray, " n"]:
    """How many rows have the same image as each row."""
    both = np.stack([particles.names.path_code.astype(np.int64), particles.names.index.astype(np.int64)])
    _, place, counts = np.unique(both, axis=1, return_inverse=True, return_counts=True)
    return counts[np.ravel(place)]


def _orientations(pose: Pose, group: PointGroup) -> np.ndarray:
    """Euler angles [n * m, 3] of R @ S; those of the identity are the particle's own, not made anew."""
    euler = euler_from_matrix(group.equivalents(matrix_from_euler(pose.euler)))
    euler[:, 0] = pose.euler
    return euler.reshape(-1, 3)
