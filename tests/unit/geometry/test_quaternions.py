"""Quaternions: Hamilton's table, the matrix of each, the double cover, slerp, averages."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from vitreous.geometry import quaternions as quat
from vitreous.geometry import rotations as rot
from vitreous.reference import rotations as reference

# A few products of numbers of size 1, each rounded to 1.1e-16.
ROUNDING = 2e-15
ONE, UNIT_I, UNIT_J, UNIT_K = np.eye(4)
four = st.tuples(*[st.floats(-2, 2)] * 4)
unit = four.filter(lambda q: math.hypot(*q) > 1e-2).map(lambda q: np.array(q) / math.hypot(*q))
three = st.tuples(*[st.floats(-5, 5)] * 3)


@pytest.fixture(scope="module")
def units() -> np.ndarray:
    return quat.normalise(np.random.default_rng(0).standard_normal((300, 4)))


def same_rotation(p, q):
    """1 - |p.q|: zero if and only if p = q or p = -q."""
    return 1 - np.abs((p * q).sum(axis=-1))


def test_examples_in_docstrings_run():
    assert doctest.testmod(quat).failed == 0


def test_the_table_of_hamilton():
    for p in (UNIT_I, UNIT_J, UNIT_K):
        np.testing.assert_array_equal(quat.product(p, p), -ONE)
    for p, q, r in ((UNIT_I, UNIT_J, UNIT_K), (UNIT_J, UNIT_K, UNIT_I), (UNIT_K, UNIT_I, UNIT_J)):
        np.testing.assert_array_equal(quat.product(p, q), r)
        np.testing.assert_array_equal(quat.product(q, p), -r)


@given(four, four)
def test_product_is_its_definition(p, q):
    np.testing.assert_allclose(
        quat.product(np.array(p), np.array(q)), reference.quaternion_product(p, q), atol=8 * ROUNDING
    )


@given(four, four)
def test_norms_multiply_and_conjugation_reverses(p, q):
    p, q = np.array(p), np.array(q)
    product = quat.product(p, q)
    np.testing.assert_allclose(quat.norm(product), quat.norm(p) * quat.norm(q), atol=16 * ROUNDING)
    np.testing.assert_allclose(
        quat.conjugate(product), quat.product(quat.conjugate(q), quat.conjugate(p)), atol=16 * ROUNDING
    )
    np.testing.assert_allclose(quat.product(p, quat.conjugate(p)), [quat.norm(p) ** 2, 0, 0, 0], atol=16 * ROUNDING)


@given(unit, three)
def test_rotation_of_a_vector_is_q_v_q_star(q, v):
    want = reference.quaternion_rotate(q, v)
    # Vectors up to 9 long.
    np.testing.assert_allclose(quat.rotate(q, np.array(v)), want, atol=10 * ROUNDING)
    np.testing.assert_allclose(quat.matrix_from_quaternion(q) @ v, want, atol=10 * ROUNDING)
    np.testing.assert_allclose(quat.matrix_from_quaternion(q), reference.quaternion_to_matrix(q), atol=ROUNDING)


def test_the_half_angle_and_the_sense():
    # Minus 90 degrees about z, clockwise from above: (cos 45, 0, 0, -sin 45) takes x to -y.
    q = np.array([np.sqrt(0.5), 0, 0, -np.sqrt(0.5)])
    np.testing.assert_allclose(quat.rotate(q, np.array([1.0, 0, 0])), [0, -1, 0], atol=ROUNDING)
    np.testing.assert_allclose(quat.rotate(quat.conjugate(q), np.array([1.0, 0, 0])), [0, 1, 0], atol=ROUNDING)
    # 180 degrees about z: k i k* = -i.
    np.testing.assert_array_equal(quat.product(quat.product(UNIT_K, UNIT_I), quat.conjugate(UNIT_K)), -UNIT_I)
    # House psi of +90 degrees is the turn by -90 about z.
    np.testing.assert_allclose(
        quat.quaternion_from_matrix(rot.matrix_from_euler(np.array([0, 0, np.pi / 2]))), q, atol=ROUNDING
    )


@given(unit, unit)
def test_products_and_matrices_run_in_the_same_order(p, q):
    got = quat.matrix_from_quaternion(quat.product(p, q))
    np.testing.assert_allclose(got, quat.matrix_from_quaternion(p) @ quat.matrix_from_quaternion(q), atol=4 * ROUNDING)


@given(unit)
def test_double_cover_and_round_trip(q):
    matrix = quat.matrix_from_quaternion(q)
    np.testing.assert_array_equal(quat.matrix_from_quaternion(-q), matrix)
    back = quat.quaternion_from_matrix(matrix)
    np.testing.assert_allclose(quat.norm(back), 1, atol=ROUNDING)
    # Up to sign, component by component: near w = 0 rounding may choose either.
    assert min(np.abs(back - q).max(), np.abs(back + q).max()) < 4 * ROUNDING


def test_matrix_of_a_quaternion_of_any_length(units):
    np.testing.assert_allclose(
        quat.matrix_from_quaternion(units * 3.5), quat.matrix_from_quaternion(units), atol=ROUNDING
    )


def test_agreement_with_scipy(units):
    scipy = Rotation.from_quat(units, scalar_first=True)
    np.testing.assert_allclose(quat.matrix_from_quaternion(units), scipy.as_matrix(), atol=ROUNDING)
    other = units[::-1]
    product = (scipy * Rotation.from_quat(other, scalar_first=True)).as_quat(scalar_first=True)
    assert same_rotation(quat.product(units, other), product).max() < ROUNDING
    canonical = scipy.as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(quat.quaternion_from_matrix(scipy.as_matrix()), canonical, atol=ROUNDING)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (-1, 2, 0.5)])
@pytest.mark.parametrize("turn", [0.0, 1e-9, 2.0, np.pi - 1e-9, np.pi])
def test_quaternion_of_every_angle(axis, turn):
    q = quat.quaternion_from_matrix(reference.rodrigues(axis, turn))
    n = np.array(axis) / np.linalg.norm(axis)
    want = np.concatenate([[np.cos(turn / 2)], np.sin(turn / 2) * n])
    assert min(np.abs(q - want).max(), np.abs(q + want).max()) < ROUNDING


def test_canonical_sign():
    rows = np.array([[-1.0, 2, 3, 4], [0, -1, 2, 0], [0, 0, 0, -5], [0, 0, 0, 0], [2, -1, 0, 0]])
    want = np.array([[1.0, -2, -3, -4], [0, 1, -2, 0], [0, 0, 0, 5], [0, 0, 0, 0], [2, -1, 0, 0]])
    np.testing.assert_array_equal(quat.canonical(rows), want)
    np.testing.assert_array_equal(quat.canonical(-rows), want)


def test_the_zero_quaternion_has_no_direction():
    np.testing.assert_array_equal(quat.normalise(np.zeros(4)), ONE)
    assert quat.norm(np.zeros(4)) == 0


# ---- slerp


def test_slerp_turns_at_constant_speed(units):
    start, end = units[:100], units[100:200]
    whole = rot.angular_distance(quat.matrix_from_quaternion(start), quat.matrix_from_quaternion(end))
    for fraction in (0.0, 0.1, 0.5, 0.93, 1.0):
        q = quat.slerp(start, end, fraction)
        assert np.abs(quat.norm(q) - 1).max() < ROUNDING
        matrix = quat.matrix_from_quaternion(q)
        # sin t >= 0.03 here divides the rounding of the weights.
        np.testing.assert_allclose(
            rot.angular_distance(quat.matrix_from_quaternion(start), matrix), fraction * whole, atol=1e-13
        )
        np.testing.assert_allclose(
            rot.angular_distance(matrix, quat.matrix_from_quaternion(end)), (1 - fraction) * whole, atol=1e-13
        )


def test_slerp_goes_the_shorter_way_whatever_the_signs(units):
    start, end = units[0], units[1]
    for other in (end, -end):
        assert same_rotation(quat.slerp(start, other, 0.3), quat.slerp(start, end, 0.3)) < ROUNDING
        assert same_rotation(quat.slerp(-start, other, 0.3), quat.slerp(start, end, 0.3)) < ROUNDING


def test_slerp_agrees_with_scipy(units):
    for start, end in zip(units[:20], units[20:40]):
        times = np.array([0.0, 0.25, 0.8, 1.0])
        want = Slerp([0, 1], Rotation.from_quat([start, end], scalar_first=True))(times).as_quat(scalar_first=True)
        got = quat.slerp(start[None], end[None], times)
        assert same_rotation(got, want).max() < ROUNDING


@pytest.mark.parametrize("turn", [0.0, 1e-300, 1e-15, 1e-8, 1.99e-3, 2.01e-3, 3.0, np.pi])
def test_slerp_at_small_and_at_the_largest_angles(turn):
    axis = np.array([2.0, -1, 2]) / 3
    start = np.array([1.0, 0, 0, 0])
    end = np.concatenate([[np.cos(turn / 2)], np.sin(turn / 2) * axis])
    want = np.concatenate([[np.cos(0.15 * turn)], np.sin(0.15 * turn) * axis])
    # Relative accuracy of the vector part as well: 1e-13 is the first omitted term of the series at its threshold.
    np.testing.assert_allclose(quat.slerp(start, end, 0.3), want, rtol=2e-13, atol=1e-16)


def test_slerp_outside_the_interval_goes_on_turning():
    end = np.array([np.cos(0.2), np.sin(0.2), 0, 0])
    np.testing.assert_allclose(quat.slerp(ONE, end, 2.0), [np.cos(0.4), np.sin(0.4), 0, 0], atol=ROUNDING)


# ---- averages


def test_mean_ignores_signs_and_is_the_chordal_mean(units):
    rng = np.random.default_rng(2)
    weights = rng.uniform(0.1, 1, 12)
    near = quat.normalise(units[0] + 0.3 * rng.standard_normal((12, 4)))
    signs = rng.choice([-1.0, 1.0], (12, 1))
    want = quat.quaternion_from_matrix(rot.mean_chordal(quat.matrix_from_quaternion(near), weights))
    np.testing.assert_allclose(quat.mean(near, weights), want, atol=10 * ROUNDING)
    np.testing.assert_allclose(quat.mean(near * signs, weights), want, atol=10 * ROUNDING)
    scipy = Rotation.from_quat(near, scalar_first=True).mean(weights).as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(quat.mean(near, weights), scipy, atol=10 * ROUNDING)


def test_mean_of_two_is_half_way_and_of_one_is_itself(units):
    start, end = units[:50], units[50:100]
    got = quat.mean(np.stack([start, end], axis=-2))
    # The second eigenvalue comes close for rotations nearly 180 degrees apart: 1e-3 is the smallest gap here.
    assert same_rotation(got, quat.slerp(start, end, 0.5)).max() < 1e-12
    np.testing.assert_allclose(quat.mean(start[:1]), quat.canonical(start[0]), atol=ROUNDING)


def test_mean_beats_its_neighbours(units):
    members, weights = quat.normalise(units[0] + 0.4 * units[10:30]), np.linspace(0.5, 1.5, 20)
    best = quat.mean(members, weights)

    def score(q):
        return float((weights * (members @ q) ** 2).sum())

    for direction in np.concatenate([np.eye(4), -np.eye(4)]):
        across = direction - (direction @ best) * best
        assert score(quat.normalise(best + 1e-4 * across)) <= score(best) + 1e-15


def functions():
    q = quat.normalise(np.random.default_rng(3).standard_normal((6, 4)))
    return {
        "product": (lambda x: quat.product(x, x[..., ::-1]), q),
        "conjugate": (quat.conjugate, q),
        "norm": (quat.norm, q),
        "normalise": (quat.normalise, q),
        "canonical": (quat.canonical, q),
        "matrix_from_quaternion": (quat.matrix_from_quaternion, q),
        "quaternion_from_matrix": (quat.quaternion_from_matrix, quat.matrix_from_quaternion(q)),
        "rotate": (lambda x: quat.rotate(x, x[..., :3]), q),
        "slerp": (lambda x: quat.slerp(x, x[..., ::-1], 0.3), q),
        "mean": (lambda x: quat.mean(x[..., None, :] + np.eye(4, dtype=x.dtype)[0]), q),
    }


@pytest.mark.parametrize("name", functions())
def test_single_precision_shapes_and_untouched_inputs(name):
    function, argument = functions()[name]
    before = argument.copy()
    single, double = function(argument.astype(np.float32)), function(argument)
    assert single.dtype == np.float32 and double.dtype == np.float64
    # Ten roundings of 6e-8 each.
    np.testing.assert_allclose(single, double, atol=1e-6)
    folded = function(argument.reshape(2, 3, *argument.shape[1:]))
    np.testing.assert_allclose(folded.reshape(double.shape), double, atol=ROUNDING)
    np.testing.assert_array_equal(argument, before)
