"""A hinge turns what moves by exactly its angle, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_axis_angle
from vitreous.io.bundled import load_bundled
from vitreous.model.atoms import Atoms
from vitreous.specimen.atom_selection import selected_atoms
from vitreous.specimen.hinge import Hinge, opening_hinge
from vitreous.units import DEGREE


@pytest.fixture(scope="module")
def kinase():
    atoms = load_bundled("4ake")
    return atoms, selected_atoms(atoms, "A:118-160")


@pytest.mark.parametrize("angle", [0.0, 17.0, -40.0])
def test_moving_atoms_turn_by_exactly_the_rotation_and_the_rest_stays(kinase, angle):
    atoms, moving = kinase
    hinge = Hinge(np.array([3.0, -2.0, 11.0]), np.array([1.0, 2.0, -2.0]))
    bent = hinge.bent(atoms, moving, angle * DEGREE)
    assert np.array_equal(bent.position[~moving], atoms.position[~moving])
    turn = matrix_from_axis_angle(np.array([1.0, 2.0, -2.0]) / 3, np.float64(angle * DEGREE))
    expected = [turn @ (r - hinge.point) + hinge.point for r in atoms.position[moving].astype(np.float64)]
    # Positions are float32: 40 A to 2e-6 A.
    assert np.abs(bent.position[moving] - expected).max() < 1e-5


def test_turns_add_up_and_the_axis_stays(kinase, rng):
    hinge = Hinge(rng.standard_normal(3), rng.standard_normal(3))
    position = rng.standard_normal((20, 3)) * 30
    twice = hinge.turned(hinge.turned(position, 0.4), 0.3)
    assert np.allclose(twice, hinge.turned(position, 0.7), atol=1e-12)
    on_axis = hinge.point + np.outer(rng.standard_normal(5), hinge.axis)
    assert np.allclose(hinge.turned(on_axis, 1.0), on_axis, atol=1e-12)


def box_with_lid() -> tuple[Atoms, np.ndarray]:
    """A slab of 40 x 20 x 12 A below z = 0 and a lid of 40 x 20 x 8 A above it, atoms 2 A apart."""
    grid = np.mgrid[-20:21:2, -10:11:2, -12:9:2].reshape(3, -1).T.astype(np.float64)
    count = len(grid)
    atoms = Atoms(
        grid,
        np.full(count, "C"),
        np.zeros(count),
        np.ones(count),
        np.full(count, "A"),
        np.full(count, "X"),
        np.arange(count),
    )
    return atoms, grid[:, 2] > 0


def test_the_hinge_found_is_that_of_a_lid():
    """Along the longer side, at its rim, between the two; positive angles lift the lid, and no atom of it goes down into the box."""
    atoms, moving = box_with_lid()
    hinge = opening_hinge(atoms, moving)
    assert np.abs(hinge.axis @ [1, 0, 0]) == pytest.approx(1)
    assert abs(hinge.point[1]) == pytest.approx(10, abs=0.5) and 0 <= hinge.point[2] <= 5
    for angle in (5, 20, 40):
        lid = hinge.bent(atoms, moving, angle * DEGREE).position[moving]
        assert lid[:, 2].mean() > atoms.position[moving, 2].mean() and lid[:, 2].min() > -5


@pytest.mark.parametrize("name", ["4ake", "1ake"])
def test_the_hinge_found_parts_what_touches(name):
    """The atoms of the lid of adenylate kinase that touch the rest are farther from it, on average, the more the hinge is open."""
    atoms = load_bundled(name)
    moving = selected_atoms(atoms, "A:118-160")
    hinge, tree = opening_hinge(atoms, moving), KDTree(atoms.position[~moving])
    touching = np.flatnonzero(moving)[tree.query(atoms.position[moving])[0] < 5]
    apart = [tree.query(hinge.bent(atoms, moving, a * DEGREE).position[touching])[0].mean() for a in (0, 15, 30)]
    assert apart[0] < apart[1] < apart[2]


def test_the_hinge_found_moves_with_the_model(kinase, rng):
    atoms, moving = kinase
    turn = matrix_from_axis_angle(np.array([0.6, 0.0, 0.8]), np.float64(1.1))
    shift = np.array([5.0, -9.0, 30.0])
    placed = replace(atoms, position=atoms.position @ turn.T + shift)
    before, after = opening_hinge(atoms, moving), opening_hinge(placed, moving)
    turned = before.bent(atoms, moving, 0.5).position @ turn.T + shift
    # The principal axis of some hundred contacts, from positions of float32.
    assert np.abs(after.bent(placed, moving, 0.5).position - turned).max() < 1e-2


def test_what_cannot_be_a_hinge_is_refused(kinase):
    atoms, moving = kinase
    with pytest.raises(SettingsProblem, match=r"other than \(0, 0, 0\)"):
        Hinge(np.zeros(3), np.zeros(3))
    with pytest.raises(DataProblem, match="some that move and some that stay"):
        opening_hinge(atoms, np.ones(len(atoms), bool))
    far = Hinge(np.array([200.0, 0, 0]), np.array([0.0, 0, 1])).bent(atoms, moving, np.pi)
    with pytest.raises(DataProblem, match="parts that touch; give the hinge: --axis and --point"):
        opening_hinge(far, moving)
