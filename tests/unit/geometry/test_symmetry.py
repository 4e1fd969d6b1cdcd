"""Point groups: closure, axes, settings; asymmetric units: one representative of each orientation, uniformly."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vitreous.errors import SettingsProblem
from vitreous.geometry import rotations as rot
from vitreous.geometry import symmetry
from vitreous.geometry.symmetry import asymmetric_unit, point_group
from vitreous.reference import rotations as reference

ORDERS = {
    "C1": 1,
    "C2": 2,
    "C7": 7,
    "D1": 2,
    "D2": 4,
    "D3": 6,
    "D7": 14,
    "T": 12,
    "O": 24,
    "I": 60,
    "I1": 60,
    "I2": 60,
    "I3": 60,
    "I4": 60,
}
GROUPS = list(ORDERS)
# Products of up to a dozen generators, a few roundings of 1.1e-16 each.
ROUNDING = 1e-14
GOLDEN = (1 + np.sqrt(5)) / 2


def same_set(first, second, tolerance=ROUNDING) -> bool:
    """Whether two sets of matrices have the same members."""
    distance = np.abs(first[:, None] - second[None]).max(axis=(2, 3))
    return len(first) == len(second) and distance.min(0).max() < tolerance and distance.min(1).max() < tolerance


def folds(name: str) -> dict[int, int]:
    counts: dict[int, int] = {}
    for axis in point_group(name).axes:
        counts[axis.fold] = counts.get(axis.fold, 0) + 1
    return counts


def has_axis(name: str, fold: int, direction) -> bool:
    unit = np.array(direction) / np.linalg.norm(direction)
    return any(axis.fold == fold and abs(np.dot(axis.direction, unit)) > 1 - 1e-12 for axis in point_group(name).axes)


def test_examples_in_docstrings_run():
    assert doctest.testmod(symmetry).failed == 0


@pytest.mark.parametrize("name", GROUPS)
def test_operators_form_a_group_of_rotations(name):
    group = point_group(name)
    s = group.operators
    assert group.order == ORDERS[name] and s.shape == (group.order, 3, 3) and s.dtype == np.float64
    np.testing.assert_array_equal(s[0], np.eye(3))
    np.testing.assert_allclose(s @ np.swapaxes(s, 1, 2), np.broadcast_to(np.eye(3), s.shape), atol=ROUNDING)
    np.testing.assert_allclose(np.linalg.det(s), 1, atol=ROUNDING)
    for operator in s:
        assert same_set(s @ operator, s, 2 * ROUNDING)
    assert same_set(np.swapaxes(s, 1, 2), s)


GENERATORS = {
    "C7": [("z", 2 * np.pi / 7)],
    "D3": [("z", 2 * np.pi / 3), ("x", np.pi)],
    "D7": [("z", 2 * np.pi / 7), ("x", np.pi)],
    "O": [("z", np.pi / 2), ("x", np.pi / 2)],
}


@pytest.mark.parametrize("name", GENERATORS)
def test_groups_with_elementary_generators_by_brute_multiplication(name):
    brute = reference.group_closure([reference.elementary(*turn) for turn in GENERATORS[name]])
    assert same_set(point_group(name).operators, brute)


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("T", [(3, (0, 0, 1)), (3, (0, np.sqrt(8), -1))]),
        ("I1", [(3, (1, 1, 1)), (5, (0, 1, GOLDEN))]),
        ("I2", [(3, (1, 1, 1)), (5, (0, GOLDEN, 1))]),
        ("I", [(3, (1, 1, 1)), (5, (0, GOLDEN, 1))]),
    ],
)
def test_polyhedral_groups_by_brute_multiplication_of_other_turns(name, turns):
    brute = reference.group_closure([reference.rodrigues(axis, 2 * np.pi / fold) for fold, axis in turns])
    assert same_set(point_group(name).operators, brute)


@pytest.mark.parametrize(("name", "scipy_name"), [("C7", "C7"), ("D1", "D1"), ("D3", "D3"), ("O", "O")])
def test_agreement_with_scipy_where_the_setting_is_the_same(name, scipy_name):
    assert same_set(point_group(name).operators, Rotation.create_group(scipy_name).as_matrix())


def test_i3_and_i4_are_i1_and_i2_turned_about_y():
    # The 5-fold axis of I1 is atan(golden ratio) from z towards x; turned back to z it gives one of I3 and I4.
    def turned(name, angle):
        turn = reference.elementary("y", angle)
        return turn @ point_group(name).operators @ turn.T

    assert same_set(turned("I1", -np.arctan(GOLDEN)), point_group("I4").operators)
    assert same_set(turned("I1", np.arctan(GOLDEN)), point_group("I3").operators)
    assert same_set(turned("I2", -np.arctan(1 / GOLDEN)), point_group("I3").operators)
    assert not same_set(point_group("I3").operators, point_group("I4").operators, 0.1)
    quarter = reference.elementary("z", np.pi / 2)
    assert same_set(quarter @ point_group("I1").operators @ quarter.T, point_group("I2").operators)
    assert not same_set(point_group("I1").operators, point_group("I2").operators, 0.1)


def test_axes():
    assert folds("C1") == {} and folds("C7") == {7: 1} and folds("D2") == {2: 3} and folds("D7") == {7: 1, 2: 7}
    assert folds("T") == {3: 4, 2: 3} and folds("O") == {4: 3, 3: 4, 2: 6} and folds("I") == {5: 6, 3: 10, 2: 15}
    # Each turn but the identity belongs to one axis.
    for name in GROUPS:
        assert sum((axis.fold - 1) for axis in point_group(name).axes) == ORDERS[name] - 1
    assert point_group("D7").axes[0] == symmetry.SymmetryAxis(7, (0.0, 0.0, 1.0))


def test_settings():
    assert has_axis("C7", 7, (0, 0, 1)) and has_axis("D7", 7, (0, 0, 1)) and has_axis("D7", 2, (1, 0, 0))
    assert not has_axis("D7", 2, (0, 1, 0))
    assert (
        has_axis("T", 3, (0, 0, 1))
        and has_axis("T", 2, (0, np.sqrt(2), 1))
        and not has_axis("T", 2, (0, -np.sqrt(2), 1))
    )
    assert all(has_axis("O", 4, axis) for axis in np.eye(3))
    for name in ("I1", "I2"):
        assert all(has_axis(name, 2, axis) for axis in np.eye(3))
    assert (
        has_axis("I1", 5, (GOLDEN, 0, 1))
        and has_axis("I2", 5, (1, 0, GOLDEN))
        and not has_axis("I1", 5, (1, 0, GOLDEN))
    )
    assert has_axis("I3", 5, (0, 0, 1)) and has_axis("I3", 5, (-2, 0, 1)) and not has_axis("I3", 5, (2, 0, 1))
    assert has_axis("I4", 5, (0, 0, 1)) and has_axis("I4", 5, (2, 0, 1))
    assert same_set(point_group("I").operators, point_group("I2").operators, 1e-300)


def test_names_are_read_in_either_case():
    assert point_group("c4").name == "C4" and point_group(" d2 ").name == "D2" and point_group("i1").name == "I1"
    assert point_group("C99").order == 99


@pytest.mark.parametrize(
    "name", ["", "C", "C0", "D0", "C100", "C-1", "I5", "I0", "T1", "O2", "Q", "C1.5", "C 4", "Th", "D2h", "C04"]
)
def test_other_names_are_refused_with_the_list_of_valid_ones(name):
    with pytest.raises(
        SettingsProblem, match=r"expected one of C1 \.\.\. C99, D1 \.\.\. D99, T, O, I \(= I2\), I1, I2, I3, I4"
    ):
        point_group(name)


def test_operators_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        point_group("D2").operators[0, 0, 0] = 2


# ---- asymmetric units


def special_rotations(name: str) -> np.ndarray:
    """Rotations that look along axes and along edges between them, where ties must be broken."""
    directions = [np.array(axis.direction) for axis in point_group(name).axes] + [
        *np.eye(3),
        np.array([1, 1, 0.0]),
        np.array([1, 0, 1.0]),
    ]
    directions += [a + b for a in directions[:6] for b in directions[:4] if np.linalg.norm(a + b) > 0.1]
    made = []
    for x, y, z in directions:
        tilt, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        made += [[azimuth, tilt, psi] for psi in (0.0, 0.3, np.pi / 2, 2.0)]
    return rot.matrix_from_euler(np.array(made))


@pytest.mark.parametrize("name", GROUPS)
def test_every_orientation_has_exactly_one_representative(name):
    group, unit = point_group(name), asymmetric_unit(point_group(name))
    matrices = np.concatenate([rot.random_rotations(20, np.random.default_rng(0)), special_rotations(name)])
    reduced = unit.reduce(matrices)
    # An equivalent orientation of the original ...
    assert rot.angular_distance(matrices, reduced, symmetry=group.operators).max() < ROUNDING
    # ... inside ...
    assert unit.contains(reduced).all() and unit.in_asymmetric_unit(rot.view_direction(reduced)).all()
    # ... unchanged if reduced again, and the same for all equivalents.
    np.testing.assert_array_equal(unit.reduce(reduced), reduced)
    for operator in group.operators[:: max(1, group.order // 6)]:
        np.testing.assert_allclose(unit.reduce(matrices @ operator), reduced, atol=ROUNDING)
    # Of the n equivalents exactly one is inside; where an axis is looked along, the copies are equal as directions.
    equivalents = group.equivalents(matrices)
    np.testing.assert_array_equal(unit.contains(equivalents).sum(axis=-1), 1)
    inside = unit.in_asymmetric_unit(rot.view_direction(equivalents)).sum(axis=-1)
    np.testing.assert_array_equal(inside, unit.multiplicity(rot.view_direction(matrices)))


@given(st.sampled_from(GROUPS), st.integers(0, 2**32 - 1))
def test_reducing_any_equivalent_gives_the_same(name, seed):
    rng = np.random.default_rng(seed)
    group, unit = point_group(name), asymmetric_unit(point_group(name))
    matrix = rot.random_rotations(1, rng)[0]
    operator = group.operators[rng.integers(group.order)]
    np.testing.assert_allclose(unit.reduce(matrix @ operator), unit.reduce(matrix), atol=ROUNDING)


@pytest.mark.parametrize("name", GROUPS)
def test_the_unit_holds_its_share_and_is_filled_uniformly(name):
    group, unit = point_group(name), asymmetric_unit(point_group(name))
    sample = rot.random_rotations(6000, np.random.default_rng(1))
    n = group.order
    share = unit.in_asymmetric_unit(rot.view_direction(sample)).mean()
    assert abs(share - 1 / n) <= 4.5 * np.sqrt((1 / n) * (1 - 1 / n) / len(sample))
    # Spread over the copies of the unit by random operators, the reduced sample is uniform again.
    reduced = unit.reduce(sample)
    spread = reduced @ group.operators[np.random.default_rng(2).integers(n, size=len(sample))]
    sigma = 1 / np.sqrt(len(sample))
    assert np.abs(spread.mean(axis=0)).max() < 4.5 * np.sqrt(1 / 3) * sigma
    # Within the unit, the density of the directions: equal areas of the sphere hold equal numbers.
    views, kept = (
        rot.view_direction(reduced),
        rot.view_direction(rot.random_rotations(40_000, np.random.default_rng(3))),
    )
    kept = kept[unit.in_asymmetric_unit(kept)]
    spread_of_mean = np.sqrt(kept.var(axis=0).max() * (1 / len(kept) + 1 / len(views)))
    assert np.abs(views.mean(axis=0) - kept.mean(axis=0)).max() < 4.5 * spread_of_mean


def test_the_shape_of_the_units_of_c_and_d():
    rng = np.random.default_rng(4)
    view = rot.view_direction(rot.random_rotations(3000, rng))
    azimuth = np.arctan2(view[:, 1], view[:, 0])
    inside = asymmetric_unit(point_group("C3")).in_asymmetric_unit(view)
    np.testing.assert_array_equal(inside, np.abs(azimuth) < np.pi / 3)
    inside = asymmetric_unit(point_group("D3")).in_asymmetric_unit(view)
    np.testing.assert_array_equal(inside, (np.abs(azimuth) < np.pi / 3) & (view[:, 2] > 0))
    assert asymmetric_unit(point_group("C1")).in_asymmetric_unit(view).all()
    inside = asymmetric_unit(point_group("O")).in_asymmetric_unit(view)
    x, y, z = view.T
    np.testing.assert_array_equal(inside, (np.abs(y) < x) & (x < z))


def test_equivalents_stand_on_the_side_of_the_object():
    group = point_group("D2")
    matrix = rot.random_rotations(1, np.random.default_rng(5))[0]
    np.testing.assert_allclose(group.equivalents(matrix), [matrix @ s for s in group.operators], atol=ROUNDING)
    # A set of points with the symmetry of the group projects alike along all of them.
    points = np.concatenate([s @ np.array([[1.0, 2, 3], [0.3, -0.2, 0.5]]).T for s in group.operators], axis=1)

    def picture(r):
        return np.sort_complex((r @ points)[0] + 1j * (r @ points)[1])

    for equivalent in group.equivalents(matrix):
        np.testing.assert_allclose(picture(equivalent), picture(matrix), atol=ROUNDING)
    assert np.abs(picture(group.operators[1] @ matrix) - picture(matrix)).max() > 0.1


def test_multiplicity_is_the_fold_of_the_axis():
    unit = asymmetric_unit(point_group("O"))
    directions = np.array([[0, 0, 1.0], [1, 0, 0], [1, 1, 1], [1, 0, 1], [0.1, 0.2, 0.9]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_array_equal(unit.multiplicity(directions), [4, 4, 3, 2, 1])
