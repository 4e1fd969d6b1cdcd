"""Screws, and the path between two states: ends exact, domains rigid, neighbours along the chain in their distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_axis_angle, random_rotations
from vitreous.io.bundled import load_bundled
from vitreous.specimen.domain_path import common_atoms, domain_path
from vitreous.specimen.rigid_motion import RigidMotion, superposition

TOLERANCE = 0.4  # angstrom beyond those of the two ends, by which neighbours along the chain may come nearer or go apart on the way


@pytest.fixture(scope="module")
def path():
    return domain_path(*common_atoms(load_bundled("4ake"), load_bundled("1ake")))


def random_motion(rng) -> RigidMotion:
    return RigidMotion(random_rotations(1, rng)[0], rng.standard_normal(3) * 20)


def test_fractions_of_a_screw_add_up(rng):
    motion, position = random_motion(rng), rng.standard_normal((9, 3)) * 30
    whole = position @ motion.rotation.T + motion.translation
    assert np.allclose(motion.moved(motion.moved(position, 0.25), 0.75), whole, atol=1e-9)
    assert np.allclose(motion.moved(position, 0.0), position, atol=1e-9)
    assert np.allclose(motion.returned(motion.moved(position)), position, atol=1e-9)


def test_a_screw_is_a_turn_about_an_axis_and_a_shift_along_it():
    """About (0, 0, 1) through (5, 0, 0), by 90 degrees, with a pitch of 8: half of it is known by hand."""
    turn = matrix_from_axis_angle(np.array([0.0, 0, 1]), np.float64(np.pi / 2))
    centre = np.array([5.0, 0, 0])
    motion = RigidMotion(turn, centre - turn @ centre + [0, 0, 8.0])
    assert np.allclose(motion.moved(np.array([[7.0, 0, 0]]), 0.5), [[5 + 2**0.5, 2**0.5, 4.0]])
    shift = RigidMotion(np.eye(3), np.array([3.0, 0, 4]))
    assert np.allclose(shift.moved(np.zeros((1, 3)), 0.5), [[1.5, 0, 2]]) and shift.angle == 0


def test_superposition_finds_the_motion_back(rng):
    motion, position = random_motion(rng), rng.standard_normal((30, 3)) * 10
    found = superposition(position, motion.moved(position))
    assert np.allclose(found.rotation, motion.rotation) and np.allclose(found.translation, motion.translation)
    weight = np.array([1.0] * 20 + [0.0] * 10)
    broken = np.where(weight[:, None] > 0, motion.moved(position), 0.0)
    assert np.allclose(superposition(position, broken, weight).rotation, motion.rotation)


def test_the_ends_of_the_path_are_the_two_states(path):
    first, last = load_bundled("4ake"), load_bundled("1ake")
    assert np.array_equal(path.at(0.0).position, first.position)
    # The second state as it is, but for one rigid motion: what a rigid motion leaves of it is the rounding of float32.
    end = path.at(1.0).position
    assert np.abs(superposition(last.position, end).moved(last.position) - end).max() < 1e-4


def test_domains_are_those_of_adenylate_kinase_and_move_as_rigid_bodies(path):
    """The lid (residues 122 to 159) and the AMP-binding domain (30 to 59) turn against the core; source: Muller et al. 1996, see data/README.md."""
    number = path.start.residue_number
    core, lid, binding = (path.domain[(number >= a) & (number <= b)] for a, b in ((5, 25), (126, 155), (34, 60)))
    assert len(path.motions) == 3
    assert (core == 0).all() and len(set(lid)) == len(set(binding)) == 1 and {lid[0], binding[0]} == {1, 2}
    inside = path.weight.max(axis=1) == 1
    half = path.at(0.5).position.astype(np.float64)
    for domain in range(3):
        rows = inside & (path.domain == domain)
        start, end = path.start.position[rows].astype(np.float64), path.end[rows]
        change = np.linalg.norm(path.motions[domain].moved(start) - end, axis=1)
        left = np.linalg.norm(superposition(start, half[rows]).moved(start) - half[rows], axis=1)
        # Half of the way holds half of the change within the domain, and nothing else.
        assert np.sqrt((left**2).mean()) <= 0.5 * np.sqrt((change**2).mean()) + 1e-4


def test_neighbours_along_the_chain_keep_their_distance(path):
    alpha = (
        np.searchsorted(path.start.residue_number, np.arange(1, 215)) + 1
    )  # N, CA, C, ...: the second atom of each residue

    def distances(position: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(position[alpha].astype(np.float64), axis=0), axis=1)

    ends = np.stack([distances(path.at(f).position) for f in (0.0, 1.0)])
    assert np.median(ends) == pytest.approx(3.8, abs=0.05)
    for fraction in np.linspace(0.1, 0.9, 9):
        here = distances(path.at(fraction).position)
        assert (here > ends.min(axis=0) - TOLERANCE).all() and (here < ends.max(axis=0) + TOLERANCE).all()


def test_the_path_goes_on_steadily(path):
    """Distance from the start grows with the fraction, in even steps to a fifth."""
    way = [np.sqrt(((path.at(f).position - path.start.position) ** 2).sum(axis=1).mean()) for f in np.linspace(0, 1, 6)]
    assert np.abs(np.diff(way) / np.mean(np.diff(way)) - 1).max() < 0.2


def test_where_the_second_state_stands_does_not_matter(path):
    first, last = common_atoms(load_bundled("4ake"), load_bundled("1ake"))
    motion = RigidMotion(matrix_from_axis_angle(np.array([0, 0.6, 0.8]), np.float64(2.0)), np.array([50.0, 0, -20]))
    other = domain_path(first, replace(last, position=motion.moved(last.position)))
    assert np.abs(other.at(0.5).position - path.at(0.5).position).max() < 1e-3


def test_atoms_that_one_state_lacks_are_left_out():
    first, last = load_bundled("4ake"), load_bundled("1ake")
    rng = np.random.default_rng(3)
    order, some = rng.permutation(len(last)), np.flatnonzero(first.residue_number != 40)
    a, b = common_atoms(first.rows(some), last.rows(order[: len(order) - 100]))
    assert 0 < len(a) == len(b) < len(first) and 40 not in a.residue_number
    for name in ("residue_number", "residue_name", "element"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    same, _ = common_atoms(first, last)
    assert len(same) == len(first)


def test_states_that_do_not_match_are_refused(path):
    first, last = load_bundled("4ake"), load_bundled("1ake")
    with pytest.raises(DataProblem, match="chains A and Q; expected the same chains"):
        common_atoms(first, replace(last, chain=np.full(len(last), "Q")))
    with pytest.raises(DataProblem, match="no residue in common"):
        common_atoms(first, replace(last, residue_number=last.residue_number + 1000))
    with pytest.raises(SettingsProblem, match="0 to 1"):
        path.at(1.2)
