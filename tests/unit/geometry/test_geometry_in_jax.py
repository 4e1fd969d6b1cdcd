"""The same functions on JAX arrays: equal under jit and vmap, single and double, with finite and right gradients
everywhere.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.arrays import namespace
from vitreous.geometry import quaternions as quat
from vitreous.geometry import rotations as rot
from vitreous.geometry.symmetry import asymmetric_unit, point_group

D2 = point_group("D2")
RNG = np.random.default_rng(0)
MATRICES = rot.random_rotations(4, RNG)
FIXED = rot.random_rotations(3, RNG)


def joined(*arrays):
    """Several results as one vector, in the namespace of the first."""
    xp = namespace(arrays[0])
    return xp.concatenate([xp.ravel(xp.asarray(a)) for a in arrays])


def distances(m):
    other = FIXED[:2].astype(m.dtype)
    symmetric = rot.angular_distance(other[1], m, symmetry=D2.operators)
    return joined(rot.angular_distance(m, other[0]), rot.angular_distance(m, m), symmetric)


def quaternions(m):
    """The quaternion q of m, slerp from q to q, and the mean of q alone."""
    q = quat.quaternion_from_matrix(m)
    return joined(q, quat.slerp(q, q, 0.3), quat.mean(q[None, :]))


# Each takes one rotation matrix and gives an array.
OF_A_MATRIX = {
    "euler_solutions": lambda m: joined(*rot.euler_solutions(m)),
    "euler_order_from_matrix XYZ": lambda m: rot.euler_order_from_matrix(m, "XYZ"),
    "euler_order_from_matrix zxz": lambda m: rot.euler_order_from_matrix(m, "zxz", second=True),
    "axis_angle_from_matrix": lambda m: joined(*rot.axis_angle_from_matrix(m)),
    "rotation_vector_from_matrix": rot.rotation_vector_from_matrix,
    "rotation_6d": lambda m: rot.matrix_from_rotation_6d(rot.rotation_6d_from_matrix(m)),
    "angular_distance": distances,
    "project_to_so3": rot.project_to_so3,
    "quaternions": quaternions,
    "matrix_from_quaternion": lambda m: quat.matrix_from_quaternion(joined(m[1], m[0, :1])),
    "reduce": asymmetric_unit(D2).reduce,
    "matrix_from_euler": lambda m: rot.matrix_from_euler(m[0]),
    "matrix_from_euler_order": lambda m: rot.matrix_from_euler_order(m[0], "yxz"),
    "matrix_from_axis_angle": lambda m: rot.matrix_from_axis_angle(m[0], m[0, 0]),
    "rotate": lambda m: rot.rotate(m, m[0]),
}
SPECIAL = {
    "identity": np.eye(3),
    "180 degrees about x": np.diag([1.0, -1.0, -1.0]),
    "180 degrees about z": np.diag([-1.0, -1.0, 1.0]),
    "gimbal lock, tilt 0": rot.matrix_from_euler(np.array([0.4, 0.0, 0.0])),
    "gimbal lock, tilt 180": rot.matrix_from_euler(np.array([0.4, np.pi, 0.0])),
    "gimbal lock of XYZ": rot.matrix_from_euler_order(np.array([0.4, np.pi / 2, 0.0]), "XYZ"),
    "120 degrees": np.roll(np.eye(3), 1, axis=0),
}


PLACES = [f"ordinary {k}" for k in range(len(MATRICES))] + list(SPECIAL)
STACK = np.concatenate([MATRICES, np.stack(list(SPECIAL.values()))])
# Compile quickly; the code runs once.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@cache
def program(name):
    """Values and Jacobians (with respect to the nine entries) of a function on a stack of matrices."""

    def both(matrix):
        return OF_A_MATRIX[name](matrix), jax.jacrev(OF_A_MATRIX[name])(matrix)

    return jax.jit(jax.vmap(both), compiler_options=QUICK)


@cache
def evaluated(name):
    """Values and Jacobians at all places, float64."""
    with jax.enable_x64(True):
        values, jacobians = program(name)(jnp.asarray(STACK))
        assert values.dtype == jacobians.dtype == jnp.float64
        return np.asarray(values), np.asarray(jacobians)


@pytest.mark.parametrize("name", OF_A_MATRIX)
def test_jax_gives_what_numpy_gives_under_jit_and_vmap(name):
    function, count = OF_A_MATRIX[name], len(MATRICES)
    want = np.stack([function(matrix) for matrix in MATRICES])
    assert isinstance(function(MATRICES[0]), np.ndarray | np.generic)
    # XLA may order the same few operations differently; angles near poles amplify by at most about 100.
    np.testing.assert_allclose(evaluated(name)[0][:count], want, atol=1e-13)
    assert jax.eval_shape(function, jax.ShapeDtypeStruct((3, 3), jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize("name", OF_A_MATRIX)
def test_gradients_are_finite_at_the_singular_places(name):
    values, jacobians = evaluated(name)
    bad = [
        place
        for k, place in enumerate(PLACES)
        if not (np.isfinite(values[k]).all() and np.isfinite(jacobians[k]).all())
    ]
    assert bad == []


def tangents(name, place):
    """Derivatives along the three turns `R exp(t e_k)`: by JAX and by central differences of the NumPy function."""
    matrix, jacobian = STACK[place], evaluated(name)[1][place]
    exact, numeric = [], []
    for axis in np.eye(3):
        turn = rot.matrix_from_rotation_vector(1e-5 * axis)
        generator = np.cross(np.eye(3), axis)  # [axis]x
        exact.append((jacobian * (matrix @ generator)).sum(axis=(-2, -1)))
        numeric.append((OF_A_MATRIX[name](matrix @ turn) - OF_A_MATRIX[name](matrix @ turn.T)) / 2e-5)
    return np.array(exact), np.array(numeric)


@pytest.mark.parametrize("name", OF_A_MATRIX)
def test_gradients_are_right_at_an_ordinary_rotation(name):
    exact, numeric = tangents(name, 1)
    # Central differences: truncation 1e-10 times third derivatives, rounding 1e-16 / 1e-5.
    np.testing.assert_allclose(exact, numeric, atol=1e-7)


@pytest.mark.parametrize("name", ["rotation_vector_from_matrix", "quaternions", "project_to_so3", "rotation_6d"])
def test_gradients_are_right_at_the_identity(name):
    exact, numeric = tangents(name, PLACES.index("identity"))
    np.testing.assert_allclose(exact, numeric, atol=1e-7)


def test_the_logarithm_has_unit_derivative_at_the_identity():
    exact, _ = tangents("rotation_vector_from_matrix", PLACES.index("identity"))
    np.testing.assert_allclose(exact, np.eye(3), atol=1e-14)


def test_the_derivative_of_the_projection_where_it_is_no_rotation():
    matrices = np.stack(
        [np.diag([3.0, 2.0, -0.5]), *RNG.standard_normal((len(STACK) - 1, 3, 3))]
    )  # a reflection, and any
    with jax.enable_x64(True):
        exact = np.asarray(program("project_to_so3")(jnp.asarray(matrices))[1])
    for row, column in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[row, column] = 1e-6
        numeric = (rot.project_to_so3(matrices + step) - rot.project_to_so3(matrices - step)) / 2e-6
        # Rounding 1e-16 / 1e-6, times the inverse of the smallest sum of two singular values, above 0.1 here.
        np.testing.assert_allclose(exact[..., row, column], numeric, atol=1e-7)


def test_means_in_jax():
    weights = np.array([0.5, 1.0, 2.0])
    with jax.enable_x64(True):
        got = jax.jit(rot.mean_geodesic, compiler_options=QUICK)(jnp.asarray(FIXED), weights)
        gradient = jax.jit(jax.grad(lambda m: rot.mean_geodesic(m, weights)[0, 1]), compiler_options=QUICK)
        slope = gradient(jnp.asarray(np.stack([np.eye(3)] * 3)))
    np.testing.assert_allclose(got, rot.mean_geodesic(FIXED, weights), atol=1e-13)
    # Where all members are equal, the mean turns with each by its weight.
    np.testing.assert_allclose(slope[:, 0, 1] - slope[:, 1, 0], weights / weights.sum(), atol=1e-12)
    shape = jax.ShapeDtypeStruct((3, 3, 3), jnp.float32)
    assert (
        jax.eval_shape(rot.mean_geodesic, shape).dtype == jax.eval_shape(rot.mean_chordal, shape).dtype == jnp.float32
    )


def test_slerp_derivatives():
    start, end = quat.normalise(RNG.standard_normal((2, 4)))
    targets = np.stack([end, start, quat.normalise(start + 1e-9 * end)])
    derivatives = jax.vmap(jax.jacrev(quat.slerp, argnums=(0, 2)), (None, 0, None))
    with jax.enable_x64(True):
        by_start, by_fraction = jax.jit(derivatives, compiler_options=QUICK)(start, jnp.asarray(targets), 0.3)
    numeric = (quat.slerp(start, targets, 0.3 + 1e-5) - quat.slerp(start, targets, 0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(by_fraction, numeric, atol=1e-9)
    assert np.all(np.isfinite(by_start))
    # At equal ends, moving the start across itself moves the blend by 1 - fraction of it.
    across = np.eye(4) - np.outer(start, start)
    np.testing.assert_allclose(across @ np.asarray(by_start)[1] @ across, 0.7 * across, atol=1e-12)


def test_asymmetric_unit_in_jax():
    unit = asymmetric_unit(D2)
    directions = rot.view_direction(rot.random_rotations(100, np.random.default_rng(1))).astype(np.float32)
    got = jax.jit(unit.in_asymmetric_unit)(jnp.asarray(directions))
    np.testing.assert_array_equal(got, unit.in_asymmetric_unit(directions))
    reduced = jax.jit(unit.reduce)(jnp.asarray(MATRICES, dtype=jnp.float32))
    assert reduced.dtype == jnp.float32
    np.testing.assert_allclose(reduced, unit.reduce(MATRICES), atol=1e-6)
