"""Symmetry expansion: what the copies are, that reconstruction agrees, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import angular_distance, matrix_from_euler
from vitreous.geometry.symmetry import point_group
from vitreous.model.pose import Pose
from vitreous.model.table import Table
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.symmetry_expansion import (
    OPERATOR,
    SOURCE,
    expand_symmetry,
    occurrences,
)


@pytest.mark.parametrize("name", ["C3", "D2", "O"])
def test_copies_are_the_equivalent_orientations(blob_particles, name):
    group = point_group(name)
    few = blob_particles.rows(slice(0, 40))
    expanded = expand_symmetry(few, group)
    assert len(expanded) == 40 * group.order
    original = matrix_from_euler(few.pose.euler)
    found = matrix_from_euler(expanded.pose.euler).reshape(40, group.order, 3, 3)
    # R S and not S R; angles in double precision, which Euler angles near a pole halve
    np.testing.assert_allclose(found, original[:, None] @ group.operators, atol=1e-7)
    assert np.abs(found - group.operators @ original[:, None]).max() > 0.1
    assert angular_distance(found[:, 0], original).max() == 0 and np.array_equal(
        expanded.pose.euler[:: group.order], few.pose.euler
    )


def test_all_else_is_that_of_the_original(blob_particles):
    few = replace(
        blob_particles.rows(slice(5, 25)),
        table=Table(
            {
                "rlnMicrographName": np.array([f"m{i}" for i in range(20)], dtype=object),
                "rlnAngleTiltPrior": np.arange(20.0),
            }
        ),
    )
    before = few.pose.euler.copy()
    expanded = expand_symmetry(few, point_group("C4"))
    rows = np.repeat(np.arange(20), 4)
    assert np.array_equal(expanded.pose.shift, few.pose.shift[rows])
    assert np.array_equal(expanded.half_set, few.half_set[rows])  # copies of an image never stand in both halves
    assert np.array_equal(expanded.ctf.defocus_u, few.ctf.defocus_u[rows])
    assert np.array_equal(expanded.names.index, few.names.index[rows])
    assert list(expanded.table["rlnMicrographName"]) == [f"m{i}" for i in rows]
    assert "rlnAngleTiltPrior" not in expanded.table
    assert np.array_equal(expanded.table[SOURCE], rows + 1)
    assert np.array_equal(expanded.table[OPERATOR], np.tile([1, 2, 3, 4], 20))
    np.testing.assert_array_equal(expanded.images.read(slice(0, 8)), few.images.read(rows[:8]))
    assert np.array_equal(few.pose.euler, before)


@pytest.mark.parametrize(("name", "bar"), [("D2", 2e-5), ("C3", 2e-5)])
def test_reconstruction_without_symmetry_is_that_of_the_original_with_it(blob_particles, name, bar):
    """Sums of the same terms in another order: the maps differ by the rounding of single precision."""
    few = blob_particles.rows(slice(0, 300))
    group = point_group(name)
    with_symmetry = reconstruct(few, InversionSettings(group.operators))
    expanded = reconstruct(expand_symmetry(few, group), InversionSettings(point_group("C1").operators))
    for one, other in zip((*with_symmetry.half_maps, with_symmetry.map), (*expanded.half_maps, expanded.map)):
        assert np.abs(one - other).max() < bar * np.abs(one).max()
    without = reconstruct(few, InversionSettings(point_group("C1").operators))
    assert np.abs(with_symmetry.map - without.map).max() > 0.1 * np.abs(without.map).max()


def test_faults_are_refused(blob_particles):
    few, group = blob_particles.rows(slice(0, 6)), point_group("D2")
    with pytest.raises(SettingsProblem, match="C1"):
        expand_symmetry(few, point_group("C1"))
    with pytest.raises(DataProblem, match="orientations"):
        expand_symmetry(replace(few, pose=None), group)
    with pytest.raises(DataProblem, match="half sets"):
        expand_symmetry(replace(few, half_set=None), group)
    expanded = expand_symmetry(few, group)
    with pytest.raises(DataProblem, match="expanded already"):
        expand_symmetry(expanded, group)
    # a file of another program has no such columns, but lists each image four times
    bare = replace(expanded, table=Table())
    assert (occurrences(bare) == 4).all() and (occurrences(few) == 1).all()
    with pytest.raises(DataProblem, match="in 4 rows"):
        expand_symmetry(bare, group)


def test_poses_at_the_pole_keep_their_orientation(blob_particles):
    few = blob_particles.rows(slice(0, 3))
    pole = replace(few, pose=Pose(np.array([[0.3, 0.0, 0.2], [1.0, np.pi, 0.1], [0.0, 0.0, 0.0]]), few.pose.shift))
    group = point_group("D2")
    found = matrix_from_euler(expand_symmetry(pole, group).pose.euler).reshape(3, 4, 3, 3)
    np.testing.assert_allclose(found, matrix_from_euler(pole.pose.euler)[:, None] @ group.operators, atol=1e-7)
