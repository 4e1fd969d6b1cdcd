"""Rotations: definitions, round trips, both Euler solutions, gimbal lock, distances, averages; NumPy, float64 and
float32.
"""

from __future__ import annotations

import doctest
import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vitreous.errors import SettingsProblem
from vitreous.geometry import rotations as rot
from vitreous.reference import rotations as reference

# Products of a few matrices of entries below 1: some ten roundings of 1.1e-16.
ROUNDING = 5e-15
ALL_ORDERS = rot.ORDERS + tuple(order.lower() for order in rot.ORDERS)
angle = st.floats(-10, 10)
vector = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: math.hypot(*v) > 1e-3)


@pytest.fixture(scope="module")
def matrices() -> np.ndarray:
    return rot.random_rotations(500, np.random.default_rng(0))


def is_rotation(matrix, tolerance=ROUNDING) -> bool:
    close = np.abs(matrix @ np.swapaxes(matrix, -1, -2) - np.eye(3)).max() < tolerance
    return bool(close and np.all(np.linalg.det(matrix) > 0))


def test_examples_in_docstrings_run():
    assert doctest.testmod(rot).failed == 0


# ---- house order


@given(angle, angle, angle)
def test_matrix_from_euler_is_the_product_of_elementary_matrices(a, b, c):
    want = reference.euler_to_matrix(a, b, c)
    got = rot.matrix_from_euler(np.array([a, b, c]))
    np.testing.assert_allclose(got, want, atol=ROUNDING)


def test_the_signs_of_each_house_angle():
    # rot takes the object's y axis (rot = 90: R = Rz(90)) to the image's x; psi does the same; tilt takes z to -x.
    quarter = np.pi / 2
    images = {
        "rot": rot.matrix_from_euler(np.array([quarter, 0, 0])) @ [0, 1, 0],
        "psi": rot.matrix_from_euler(np.array([0, 0, quarter])) @ [0, 1, 0],
        "tilt": rot.matrix_from_euler(np.array([0, quarter, 0])) @ [0, 0, 1],
    }
    np.testing.assert_allclose(images["rot"], [1, 0, 0], atol=ROUNDING)
    np.testing.assert_allclose(images["psi"], [1, 0, 0], atol=ROUNDING)
    np.testing.assert_allclose(images["tilt"], [-1, 0, 0], atol=ROUNDING)


@given(angle, st.floats(0.01, math.pi - 0.01), angle)
def test_rot_is_applied_to_the_object_and_psi_to_the_image(a, b, c):
    matrix = rot.matrix_from_euler(np.array([a, b, c]))
    view = rot.view_direction(matrix)
    np.testing.assert_allclose(view, [math.sin(b) * math.cos(a), math.sin(b) * math.sin(a), math.cos(b)], atol=ROUNDING)
    np.testing.assert_allclose(matrix.T @ [0, 0, 1], view, atol=ROUNDING)
    in_plane = rot.matrix_from_euler(np.array([0, 0, 0.4]))
    np.testing.assert_allclose(in_plane @ matrix, rot.matrix_from_euler(np.array([a, b, c + 0.4])), atol=ROUNDING)


@given(angle, angle, angle)
def test_both_solutions_rebuild_the_matrix(a, b, c):
    matrix = rot.matrix_from_euler(np.array([a, b, c]))
    first, second = rot.euler_solutions(matrix)
    assert 0 <= first[1] <= np.pi and -np.pi <= second[1] <= 0
    assert np.all(np.abs([first, second]) <= np.pi)
    # b may lie within 16 epsilon of a pole, where the pole's own angles are given: the matrix moves by that much.
    np.testing.assert_allclose(rot.matrix_from_euler(first), matrix, atol=ROUNDING + 16 * 2.3e-16)
    np.testing.assert_allclose(rot.matrix_from_euler(second), matrix, atol=ROUNDING + 16 * 2.3e-16)
    np.testing.assert_array_equal(rot.euler_from_matrix(matrix), first)


def test_canonical_angles_come_back():
    rng = np.random.default_rng(1)
    euler = np.stack([rng.uniform(-3.1, 3.1, 500), rng.uniform(0.05, 3.09, 500), rng.uniform(-3.1, 3.1, 500)], axis=-1)
    # Dividing by sin(tilt) >= 0.05 costs a factor 20 in rot and psi.
    np.testing.assert_allclose(rot.euler_from_matrix(rot.matrix_from_euler(euler)), euler, atol=20 * ROUNDING)
    second = rot.euler_solutions(rot.matrix_from_euler(euler))[1]
    np.testing.assert_allclose(second[:, 1], -euler[:, 1], atol=ROUNDING)


@pytest.mark.parametrize(("tilt", "sense"), [(0.0, 1), (np.pi, -1)])
def test_gimbal_lock_gives_the_whole_angle_to_rot(tilt, sense):
    got = rot.euler_from_matrix(rot.matrix_from_euler(np.array([0.3, tilt, 0.5])))
    np.testing.assert_allclose(got, [0.3 + sense * 0.5, tilt, 0.0], atol=ROUNDING)
    assert got[2] == 0


@pytest.mark.parametrize("distance", [1e-15, 1e-12, 1e-9, 1e-5])
@pytest.mark.parametrize("pole", [0.0, np.pi])
def test_next_to_a_pole_the_matrix_is_still_rebuilt_to_rounding(pole, distance):
    matrix = rot.matrix_from_euler(np.array([0.3, abs(pole - distance), 0.5]))
    np.testing.assert_allclose(rot.matrix_from_euler(rot.euler_from_matrix(matrix)), matrix, atol=ROUNDING)


@given(angle, angle, angle)
def test_the_inverse_rotation_reverses_and_negates_the_angles(a, b, c):
    forward = rot.matrix_from_euler(np.array([a, b, c]))
    np.testing.assert_allclose(rot.matrix_from_euler(np.array([-c, -b, -a])), rot.transpose(forward), atol=ROUNDING)
    np.testing.assert_allclose(rot.compose(forward, rot.transpose(forward)), np.eye(3), atol=ROUNDING)


# ---- twelve orders


@pytest.mark.parametrize("order", ALL_ORDERS)
def test_every_order_is_its_definition(order):
    angles = np.random.default_rng(2).uniform(-np.pi, np.pi, (50, 3))
    want = [reference.euler_order_to_matrix(a, order) for a in angles]
    np.testing.assert_allclose(rot.matrix_from_euler_order(angles, order), want, atol=ROUNDING)


@pytest.mark.parametrize("order", ALL_ORDERS)
def test_every_order_agrees_with_scipy(order):
    rng = np.random.default_rng(3)
    angles = rng.uniform(-np.pi, np.pi, (200, 3))
    scipy = Rotation.from_euler(order, angles)
    np.testing.assert_allclose(rot.matrix_from_euler_order(angles, order), scipy.as_matrix(), atol=ROUNDING)
    got, want = rot.euler_order_from_matrix(scipy.as_matrix(), order), scipy.as_euler(order)
    # scipy's middle angle comes from an arccos-like step and is least accurate near the poles, down to about 1e-3 here.
    difference = np.angle(np.exp(1j * (got - want)))
    np.testing.assert_allclose(difference, 0, atol=1e-11)


@pytest.mark.parametrize("order", ALL_ORDERS)
@pytest.mark.parametrize("second", [False, True])
def test_both_solutions_of_every_order(order, second, matrices):
    angles = rot.euler_order_from_matrix(matrices, order, second=second)
    np.testing.assert_allclose(rot.matrix_from_euler_order(angles, order), matrices, atol=ROUNDING)
    middle, proper = angles[:, 1], order[0] == order[2]
    if proper:
        assert np.all(middle <= 0) if second else np.all(middle >= 0)
    else:
        assert np.all((np.abs(middle) >= np.pi / 2) == second)


@pytest.mark.parametrize("order", ALL_ORDERS)
@pytest.mark.parametrize("second", [False, True])
def test_gimbal_lock_of_every_order(order, second):
    locks = (0.0, np.pi) if order[0] == order[2] else (np.pi / 2, -np.pi / 2)
    for lock in locks:
        matrix = rot.matrix_from_euler_order(np.array([0.7, lock, -0.4]), order)
        angles = rot.euler_order_from_matrix(matrix, order, second=second)
        np.testing.assert_allclose(rot.matrix_from_euler_order(angles, order), matrix, atol=ROUNDING)
        leftmost = angles[2] if order.islower() else angles[0]
        assert leftmost == 0


def test_slabaugh_two_solutions_and_both_poles(matrices):
    """The angles (psi, theta, phi) of Rz(phi) Ry(theta) Rx(psi), as in Slabaugh's note."""
    for matrix in matrices[:100]:
        found = reference.slabaugh(matrix)
        ours = [rot.euler_order_from_matrix(matrix, "xyz", second=flag) for flag in (False, True)]
        # asin near +-90 degrees loses digits; 100 random rotations come within about a degree of the poles.
        for theirs, own in zip(found, ours):
            np.testing.assert_allclose(np.angle(np.exp(1j * (np.array(theirs) - own))), 0, atol=1e-11)
            np.testing.assert_allclose(reference.euler_order_to_matrix(theirs, "xyz"), matrix, atol=1e-11)
    for pole in (np.pi / 2, -np.pi / 2):
        matrix = reference.euler_order_to_matrix((0.7, pole, -0.4), "xyz")
        (theirs,) = reference.slabaugh(matrix)
        own = rot.euler_order_from_matrix(matrix, "xyz")
        np.testing.assert_allclose(own, theirs, atol=1e-8)  # the pole itself from an arcsine: half of the digits
        assert own[2] == 0


@pytest.mark.parametrize(
    ("angles_deg", "rows", "second_deg"),
    [
        ((45, 45, 45), [[0.5, -0.1464, 0.8536], [0.5, 0.8536, -0.1464], [-0.7071, 0.5, 0.5]], (-135, 135, -135)),
        (
            (50, 40, 30),
            [[0.6634, 0.1050, 0.7408], [0.3830, 0.8029, -0.4568], [-0.6428, 0.5868, 0.4924]],
            (-130, 140, -150),
        ),
    ],
)
def test_worked_examples_of_the_course(angles_deg, rows, second_deg):
    matrix = rot.matrix_from_euler_order(np.radians(np.array(angles_deg, float)), "xyz")
    np.testing.assert_allclose(matrix, rows, atol=5.1e-5)  # printed with four decimals
    np.testing.assert_allclose(np.degrees(rot.euler_order_from_matrix(matrix, "xyz")), angles_deg, atol=1e-12)
    second = rot.euler_order_from_matrix(matrix, "xyz", second=True)
    np.testing.assert_allclose(np.degrees(second), second_deg, atol=1e-12)


def test_the_house_order_among_the_twelve(matrices):
    euler = rot.euler_from_matrix(matrices)
    np.testing.assert_allclose(rot.matrix_from_euler_order(-euler[:, ::-1], "ZYZ"), matrices, atol=ROUNDING)
    np.testing.assert_allclose(rot.matrix_from_euler_order(-euler, "zyz"), matrices, atol=ROUNDING)
    assert np.abs(rot.matrix_from_euler_order(euler, "zyz") - matrices).max() > 1  # the signs matter


@pytest.mark.parametrize("order", ["", "XYx", "xyZ", "XX", "XXY", "ABC", "XYZX", "ZZZ"])
def test_unknown_order_is_refused(order):
    for call in (
        lambda: rot.matrix_from_euler_order(np.zeros(3), order),
        lambda: rot.euler_order_from_matrix(np.eye(3), order),
    ):
        with pytest.raises(SettingsProblem, match="Euler order"):
            call()


def test_there_are_twelve_orders():
    possible = {"".join(p) for p in product("XYZ", repeat=3) if p[0] != p[1] and p[1] != p[2]}
    assert set(rot.ORDERS) == possible and len(rot.ORDERS) == 12
    assert set(rot.TAIT_BRYAN_ORDERS) == {"".join(p) for p in permutations("XYZ")}


# ---- axis and angle, rotation vector, 6D


@given(vector, angle)
def test_axis_angle_is_rodrigues(axis, turn):
    got = rot.matrix_from_axis_angle(np.array(axis), np.array(turn))
    np.testing.assert_allclose(got, reference.rodrigues(axis, turn), atol=ROUNDING)


def test_axis_angle_is_right_handed():
    turned = rot.matrix_from_axis_angle(np.array([0.0, 0.0, 2.0]), np.array(np.pi / 2)) @ [1, 0, 0]
    np.testing.assert_allclose(turned, [0, 1, 0], atol=ROUNDING)


def test_worked_axis_and_angle():
    # Rz(60) Rx(90): 104.478 degrees about (0.7746, 0.4472, 0.4472); cos of it is exactly -1/4.
    matrix = reference.elementary("z", np.pi / 3) @ reference.elementary("x", np.pi / 2)
    axis, turn = rot.axis_angle_from_matrix(matrix)
    np.testing.assert_allclose(turn, np.arccos(-0.25), atol=ROUNDING)
    np.testing.assert_allclose(axis, [np.sqrt(0.6), np.sqrt(0.2), np.sqrt(0.2)], atol=ROUNDING)
    turned = rot.matrix_from_axis_angle(np.array([1.0, 2.0, 2.0]), np.array(np.pi / 3)) @ [1, 0, 0]
    np.testing.assert_allclose(turned, [0.5556, 0.6885, -0.4662], atol=5.1e-5)


# Angles that are themselves hard: 0, tiny, the thresholds of the series, next to pi, pi.
HARD_ANGLES = [
    0.0,
    1e-300,
    1e-20,
    1e-12,
    1e-8,
    9.99e-4,
    1.001e-3,
    2e-3,
    0.00999,
    0.01001,
    1.0,
    3.0,
    np.pi - 1e-5,
    np.pi - 1e-9,
    np.pi - 1e-14,
    np.pi,
]


@pytest.mark.parametrize("turn", HARD_ANGLES)
def test_rotation_vector_and_axis_angle_round_trips_at_hard_angles(turn):
    axes = np.concatenate([np.eye(3), -np.eye(3), np.random.default_rng(4).standard_normal((50, 3))])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    matrix = rot.matrix_from_rotation_vector(axes * turn)
    np.testing.assert_allclose(matrix, [reference.rodrigues(a, turn) for a in axes], atol=ROUNDING)
    back = rot.rotation_vector_from_matrix(matrix)
    axis, found = rot.axis_angle_from_matrix(matrix)
    # Entries near 1 carry 1e-16; the angle and the axis follow with a small factor at every angle.
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), turn, atol=1e-14)
    np.testing.assert_allclose(found, turn, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(axis, axis=1), 1, atol=1e-14)
    sign = np.where(
        np.pi - turn < 1e-13, np.sign((axis * axes).sum(axis=1, keepdims=True)), 1.0
    )  # n and -n are one at pi
    np.testing.assert_allclose(back, sign * axes * turn, atol=2e-14)
    np.testing.assert_allclose(axis * found[:, None], sign * axes * turn, atol=2e-14)


def test_the_axis_where_there_is_none_or_two():
    axis, turn = rot.axis_angle_from_matrix(np.eye(3))
    assert axis.tolist() == [0, 0, 1] and turn == 0
    axis, turn = rot.axis_angle_from_matrix(np.diag([-1.0, 1.0, -1.0]))
    assert axis.tolist() == [0, 1, 0] and turn == np.pi


def test_rotation_vectors_agree_with_scipy(matrices):
    scipy = Rotation.from_matrix(matrices)
    # scipy's own angles near pi are good to about 1e-14 times the conditioning of its quaternion.
    np.testing.assert_allclose(rot.rotation_vector_from_matrix(matrices), scipy.as_rotvec(), atol=1e-13)
    vectors = np.random.default_rng(5).standard_normal((200, 3)) * 3
    np.testing.assert_allclose(
        rot.matrix_from_rotation_vector(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=ROUNDING
    )


def test_six_coordinates(matrices):
    six = rot.rotation_6d_from_matrix(matrices)
    np.testing.assert_array_equal(six[:, :3], matrices[:, :, 0])
    np.testing.assert_array_equal(six[:, 3:], matrices[:, :, 1])
    np.testing.assert_allclose(rot.matrix_from_rotation_6d(six), matrices, atol=ROUNDING)
    free = np.random.default_rng(6).standard_normal((200, 6))
    made = rot.matrix_from_rotation_6d(free)
    assert is_rotation(made, 1e-13)  # nearly parallel pairs lose digits in the subtraction
    np.testing.assert_allclose((made[:, :, 0] * free[:, :3]).sum(1), np.linalg.norm(free[:, :3], axis=1), rtol=1e-14)
    scaled = free * np.repeat([[2.0, 5.0]], 3, axis=1).reshape(1, 6)
    np.testing.assert_allclose(rot.matrix_from_rotation_6d(scaled), made, atol=1e-13)


# ---- distances


def test_distance_is_the_arccos_of_the_trace_where_that_is_accurate(matrices):
    first, second = matrices[:250], matrices[250:]
    want = [reference.geodesic_distance(a, b) for a, b in zip(first, second)]
    got = rot.angular_distance(first, second)
    # arccos amplifies 1e-16 by 1/sin(angle), at most some hundreds here.
    np.testing.assert_allclose(got, want, atol=1e-12)
    scipy = (Rotation.from_matrix(first).inv() * Rotation.from_matrix(second)).magnitude()
    np.testing.assert_allclose(got, scipy, atol=1e-14)


@pytest.mark.parametrize("turn", HARD_ANGLES[2:])
def test_distance_keeps_its_digits_at_zero_and_at_pi(turn, matrices):
    step = rot.matrix_from_axis_angle(np.array([1.0, -2.0, 0.5]), np.array(turn))
    got = rot.angular_distance(matrices, rot.compose(matrices, step))
    # Rounding of the product itself moves a rotation by about 3e-16.
    np.testing.assert_allclose(got, turn, atol=2e-15)
    assert np.all(rot.angular_distance(matrices, matrices) == 0)


def test_distance_is_a_metric_that_turning_both_does_not_change(matrices):
    a, b, c, turn = matrices[:100], matrices[100:200], matrices[200:300], matrices[300]
    d = rot.angular_distance
    np.testing.assert_allclose(d(a, b), d(b, a), atol=ROUNDING)
    assert np.all(d(a, c) <= d(a, b) + d(b, c) + 1e-12)
    np.testing.assert_allclose(d(turn @ a, turn @ b), d(a, b), atol=ROUNDING)
    np.testing.assert_allclose(d(a @ turn, b @ turn), d(a, b), atol=ROUNDING)


def test_distance_up_to_symmetry(matrices):
    operators = reference.group_closure([reference.elementary("z", np.pi / 2), reference.elementary("x", np.pi)])  # D4
    a, b = matrices[:60], matrices[60:120]
    got = rot.angular_distance(a, b, symmetry=operators)
    want = np.min([rot.angular_distance(a, b @ s) for s in operators], axis=0)
    np.testing.assert_allclose(got, want, atol=ROUNDING)
    np.testing.assert_allclose(rot.angular_distance(a, a @ operators[5], symmetry=operators), 0, atol=ROUNDING)
    np.testing.assert_allclose(rot.angular_distance(a @ operators[3], b, symmetry=operators), got, atol=ROUNDING)
    # The operators stand on the side of the object: on the other side they make another image.
    assert rot.angular_distance(a, operators[5] @ a, symmetry=operators).max() > 0.3


# ---- averages


def test_projection_on_so3_is_the_nearest_rotation(matrices):
    rng = np.random.default_rng(7)
    free = rng.standard_normal((20, 3, 3))
    nearest = rot.project_to_so3(free)
    assert is_rotation(nearest)
    own = np.linalg.norm(nearest - free, axis=(1, 2))
    others = np.linalg.norm(matrices[:, None] - free, axis=(2, 3))
    assert np.all(own <= others.min(axis=0))
    np.testing.assert_allclose(rot.project_to_so3(matrices * 3.7), matrices, atol=ROUNDING)


def cluster(spread: float, count: int = 12, seed: int = 8):
    rng = np.random.default_rng(seed)
    centre = rot.random_rotations(1, rng)[0]
    return (
        centre,
        centre @ rot.matrix_from_rotation_vector(spread * rng.standard_normal((count, 3))),
        rng.uniform(0.2, 2, count),
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_means_have_the_smallest_cost(weighted):
    _, members, weights = cluster(0.4)
    weights = weights if weighted else None
    factor = np.ones(len(members)) if weights is None else weights

    def chordal_cost(r):
        return float((factor * np.square(members - r).sum(axis=(1, 2))).sum())

    def geodesic_cost(r):
        return float((factor * rot.angular_distance(members, r) ** 2).sum())

    for mean, cost in ((rot.mean_chordal, chordal_cost), (rot.mean_geodesic, geodesic_cost)):
        best = mean(members, weights)
        assert is_rotation(best)
        for axis in np.concatenate([np.eye(3), -np.eye(3)]):
            assert cost(best) < cost(best @ rot.matrix_from_rotation_vector(axis * 1e-4))
    difference = rot.angular_distance(rot.mean_chordal(members, weights), rot.mean_geodesic(members, weights))
    assert 1e-4 < difference < 0.1  # two means, not one


def test_geodesic_mean_balances_its_tangents():
    _, members, weights = cluster(0.5)
    mean = rot.mean_geodesic(members, weights)
    tangents = rot.rotation_vector_from_matrix(mean.T @ members)
    # The iteration contracts by a factor of about 0.1 a step at this spread: 32 steps reach rounding.
    np.testing.assert_allclose((weights[:, None] * tangents).sum(0) / weights.sum(), 0, atol=1e-14)


@pytest.mark.parametrize("mean", [rot.mean_chordal, rot.mean_geodesic])
def test_means_follow_turns_and_lie_half_way(mean, matrices):
    _, members, weights = cluster(0.3)
    left, right = matrices[0], matrices[1]
    np.testing.assert_allclose(mean(left @ members @ right, weights), left @ mean(members, weights) @ right, atol=1e-13)
    step = rot.matrix_from_rotation_vector(np.array([0.3, -0.2, 0.6]))
    pair = np.stack([left, left @ step @ step])
    np.testing.assert_allclose(mean(pair), left @ step, atol=1e-13)
    batch = np.stack([members, right @ members])
    np.testing.assert_allclose(mean(batch, np.stack([weights, weights]))[1], right @ mean(members, weights), atol=1e-13)
    whole = mean(members, np.array([3.0, *[1.0] * 11]))
    np.testing.assert_allclose(whole, mean(np.concatenate([members[:1]] * 2 + [members])), atol=1e-13)


def test_scipy_mean_is_the_chordal_mean():
    _, members, weights = cluster(0.5)
    want = Rotation.from_matrix(members).mean(weights).as_matrix()
    np.testing.assert_allclose(rot.mean_chordal(members, weights), want, atol=1e-13)


# ---- random, shapes, dtypes


def test_random_rotations_are_uniform_and_seeded():
    sample = rot.random_rotations(40_000, np.random.default_rng(9))
    assert is_rotation(sample)
    # The density of the angle is (1 - cos t) / pi, its mean pi/2 + 2/pi; matrix entries have mean 0 and variance 1/3.
    turn = rot.angular_distance(sample, np.eye(3))
    sigma = 1 / np.sqrt(len(sample))
    assert abs(turn.mean() - (np.pi / 2 + 2 / np.pi)) < 4 * 0.65 * sigma
    assert np.abs(sample.mean(axis=0)).max() < 4.5 * np.sqrt(1 / 3) * sigma
    assert np.abs(np.square(sample).mean(axis=0) - 1 / 3).max() < 4.5 * np.sqrt(4 / 45) * sigma
    np.testing.assert_array_equal(sample[:5], rot.random_rotations(5, np.random.default_rng(9)))


def functions():
    m = rot.random_rotations(6, np.random.default_rng(10))
    euler = rot.euler_from_matrix(m)
    return {
        "matrix_from_euler": (rot.matrix_from_euler, euler),
        "euler_from_matrix": (rot.euler_from_matrix, m),
        "matrix_from_euler_order": (lambda x: rot.matrix_from_euler_order(x, "XZY"), euler),
        "euler_order_from_matrix": (lambda x: rot.euler_order_from_matrix(x, "xzy", second=True), m),
        "axis": (lambda x: rot.axis_angle_from_matrix(x)[0], m),
        "angle": (lambda x: rot.axis_angle_from_matrix(x)[1], m),
        "matrix_from_axis_angle": (lambda x: rot.matrix_from_axis_angle(x, x[..., 0]), euler),
        "matrix_from_rotation_vector": (rot.matrix_from_rotation_vector, euler),
        "rotation_vector_from_matrix": (rot.rotation_vector_from_matrix, m),
        "rotation_6d_from_matrix": (rot.rotation_6d_from_matrix, m),
        "matrix_from_rotation_6d": (rot.matrix_from_rotation_6d, rot.rotation_6d_from_matrix(m)),
        "angular_distance": (lambda x: rot.angular_distance(x, x[..., ::-1, :, :]), m),
        "project_to_so3": (lambda x: rot.project_to_so3(2 * x), m),
        "compose": (lambda x: rot.compose(x, x), m),
        "rotate": (lambda x: rot.rotate(x, x[..., 0]), m),
        "view_direction": (rot.view_direction, m),
    }


@pytest.mark.parametrize("name", functions())
def test_single_precision_stays_single_and_agrees(name):
    function, argument = functions()[name]
    single, double = function(argument.astype(np.float32)), function(argument)
    assert single.dtype == np.float32 and double.dtype == np.float64
    # Some ten roundings of 6e-8, times at most ten where an angle is divided by the sine of another.
    np.testing.assert_allclose(single, double, atol=1e-5)


@pytest.mark.parametrize("name", functions())
def test_batches_of_any_shape_and_untouched_inputs(name):
    function, argument = functions()[name]
    if name == "angular_distance":
        function = lambda x: rot.angular_distance(x, x[0, 0] if x.ndim > 3 else x[0])
    before = argument.copy()
    flat = function(argument)
    folded = function(argument.reshape(2, 3, *argument.shape[1:]))
    np.testing.assert_allclose(folded.reshape(flat.shape), flat, atol=ROUNDING)
    np.testing.assert_array_equal(argument, before)


def test_float32_poles():
    euler = np.array([0.3, np.pi, 0.5], dtype=np.float32)
    got = rot.euler_from_matrix(rot.matrix_from_euler(euler))
    assert got.dtype == np.float32 and got[2] == 0
    np.testing.assert_allclose(got, [-0.2, np.pi, 0], atol=1e-6)
    np.testing.assert_allclose(rot.matrix_from_euler(got), rot.matrix_from_euler(euler), atol=1e-6)
