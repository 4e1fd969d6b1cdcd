"""Unit quaternions (w, x, y, z), Hamilton product `ij = k`: q and -q are the same rotation.

The rotation of q is the active one, `v' = q v q*`, and `matrix_from_quaternion(q) @ v` gives the same v'. Products and
matrices run in the same order: the matrix of `product(p, q)` is the matrix of p times the matrix of q (turn by q
first, then by p). All functions take and return arrays `[..., 4]` in the namespace and the dtype of their input (NumPy
or JAX).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


def product(left: Float[Array, "*batch 4"], right: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Hamilton product `left right`: `(a0 b0 - a.b, a0 b + b0 a + a x b)`; not commutative.

    >>> product(np.array([0.0, 1, 0, 0]), np.array([0.0, 0, 1, 0]))  # ij = k
    array([0., 0., 0., 1.])
    """
    xp = namespace(left, right)
    (a, b, c, d), (e, f, g, h) = _components(left), _components(right)
    return xp.stack(
        xp.broadcast_arrays(
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ),
        axis=-1,
    )


def conjugate(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """`(w, -x, -y, -z)`: the inverse of a unit quaternion."""
    xp = namespace(quaternion)
    return xp.concatenate([quaternion[..., :1], -quaternion[..., 1:]], axis=-1)


def norm(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """`sqrt(w^2 + x^2 + y^2 + z^2)`, with gradient 0 at the zero quaternion."""
    xp = namespace(quaternion)
    squared = xp.sum(quaternion * quaternion, axis=-1)
    return xp.where(squared > 0, xp.sqrt(xp.where(squared > 0, squared, 1.0)), 0.0)


def normalise(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """The unit quaternion along `quaternion`; the zero quaternion has none and becomes the identity (1, 0, 0, 0)."""
    xp = namespace(quaternion)
    length = norm(quaternion)[..., None]
    identity = np.array([1.0, 0.0, 0.0, 0.0], dtype=float_dtype(quaternion))
    return xp.where(length > 0, quaternion / xp.where(length > 0, length, 1.0), identity)


def canonical(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """The one of q and -q whose first non-zero component is positive: one name for each rotation."""
    xp = namespace(quaternion)
    sign = xp.zeros_like(quaternion[..., 0])
    for component in _components(quaternion):
        sign = xp.where(sign == 0, xp.sign(component), sign)
    return quaternion * xp.where(sign == 0, 1.0, sign)[..., None]


def matrix_from_quaternion(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """The matrix of the active rotation `v' = q v q*` of the unit quaternion along `quaternion`; q and -q give the
    same one.

    For (cos t/2, n sin t/2) it is the turn by t about n, counter-clockwise seen from the tip of n.
    """
    xp = namespace(quaternion)
    w, x, y, z = _components(normalise(quaternion))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_matrix(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 4"]:
    """The canonical unit quaternion of a rotation matrix, accurate at every angle, 180 degrees included.

    The ten sums and differences of matrix entries are the entries of 4 q q^T; the row with the largest diagonal entry
    (at least 1) is parallel to q and never small. Source: Shepperd 1978, doi:10.2514/3.55767b; Markley 2008,
    doi:10.2514/1.31730.
    """
    xp = namespace(matrix)
    m = xp.asarray(matrix)
    (a, b, c), (d, e, f), (g, h, i) = ([m[..., row, column] for column in range(3)] for row in range(3))
    outer = xp.stack(
        [
            xp.stack([1 + a + e + i, h - f, c - g, d - b], axis=-1),
            xp.stack([h - f, 1 + a - e - i, b + d, c + g], axis=-1),
            xp.stack([c - g, b + d, 1 - a + e - i, f + h], axis=-1),
            xp.stack([d - b, c + g, f + h, 1 - a - e + i], axis=-1),
        ],
        axis=-2,
    )
    largest = xp.argmax(xp.stack([outer[..., k, k] for k in range(4)], axis=-1), axis=-1)
    row = xp.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    return canonical(normalise(row))


def rotate(quaternion: Float[Array, "*batch 4"], vectors: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """`q v q*` for unit quaternions, in the form `v + 2 w (u x v) + 2 u x (u x v)` with u the vector part of q.

    >>> rotate(np.array([0.0, 0, 0, 1]), np.array([1.0, 0, 0]))  # 180 degrees about z
    array([-1.,  0.,  0.])
    """
    xp = namespace(quaternion, vectors)
    scalar, axis = quaternion[..., :1], quaternion[..., 1:]
    once = xp.cross(axis, vectors)
    return vectors + 2 * (scalar * once + xp.cross(axis, once))


def slerp(
    start: Float[Array, "*batch 4"], end: Float[Array, "*batch 4"], fraction: Float[Array, "*batch"] | float
) -> Float[Array, "*batch 4"]:
    """Great-circle interpolation from `start` (fraction 0) to the rotation of `end` (fraction 1), the shorter way
    round.

    `sin((1-f) t)/sin t start + sin(f t)/sin t end`, t the angle between the two quaternions after -end has been taken
    instead of end where that is nearer: t is at most 90 degrees, so a constant angular speed of 2t, and no division by
    a small sine except at t = 0, where the limit is linear. Source: Shoemake 1985, doi:10.1145/325165.325242.
    """
    xp = namespace(start, end, fraction)
    fraction = xp.asarray(fraction, dtype=float_dtype(start, end))[..., None]
    dot = xp.sum(start * end, axis=-1, keepdims=True)
    end = xp.where(dot < 0, -end, end)
    # t = 2 atan2(|a - b|, |a + b|) keeps its accuracy where arccos of the dot product has none.
    angle = 2 * xp.arctan2(norm(end - start), norm(end + start))[..., None]
    blend = _sine_ratio(1 - fraction, angle) * start + _sine_ratio(fraction, angle) * end
    return normalise(blend)


def mean(
    quaternions: Float[Array, "*batch n 4"], weights: Float[Array, "*batch n"] | None = None
) -> Float[Array, "*batch 4"]:
    """The average rotation over the axis n: the canonical unit q that maximises `sum_i w_i (q . q_i)^2`.

    It is the eigenvector of the largest eigenvalue of `sum_i w_i q_i q_i^T`, so the sign of each q_i does not matter;
    it equals the chordal mean of the matrices. Defined unless two eigenvalues tie (as for two rotations 180 degrees
    apart). Source: Markley et al. 2007, doi:10.2514/1.28949; Hanson 2020, doi:10.1107/S2053273320002648.
    """
    xp = namespace(quaternions, weights)
    w = xp.ones_like(quaternions[..., 0]) if weights is None else xp.asarray(weights, dtype=float_dtype(quaternions))
    weighted = (w / xp.sum(w, axis=-1, keepdims=True))[..., None] * quaternions
    moment = xp.sum(weighted[..., :, None] * quaternions[..., None, :], axis=-3)
    values, vectors = xp.linalg.eigh(constant(moment))
    top = vectors[..., 3]
    # First-order perturbation of the eigenvector: zero in value, it carries the derivative even if lower ones tie.
    change = xp.sum(moment * top[..., None, :], axis=-1)
    gap = values[..., 3:] - values[..., :3]
    along = xp.sum(vectors[..., :3] * change[..., :, None], axis=-2)
    floor = 4 * float(np.finfo(float_dtype(quaternions)).eps)
    correction = xp.sum(
        vectors[..., :3] * (xp.where(gap > floor, along / xp.where(gap > floor, gap, 1.0), 0.0))[..., None, :], axis=-1
    )
    return canonical(normalise(top + correction))


def constant(array: Any) -> Any:
    """The array as a constant for differentiation: JAX's `stop_gradient`, and the array itself in NumPy."""
    if namespace(array) is np:
        return array
    import jax

    return jax.lax.stop_gradient(array)


def _components(quaternion: Any) -> tuple[Any, Any, Any, Any]:
    return quaternion[..., 0], quaternion[..., 1], quaternion[..., 2], quaternion[..., 3]


def _sine_ratio(fraction: Any, angle: Any) -> Any:
    """`sin(fraction angle) / sin(angle)` for angles in [0, pi/2], with its limit and derivative at 0."""
    xp = namespace(fraction, angle)
    small = angle < 1e-3
    safe = xp.where(small, 1.0, angle)
    # f (1 + (1 - f^2) t^2 / 6): the next term is below 1e-13 at the threshold.
    series = fraction * (1 + (1 - fraction * fraction) * angle * angle / 6)
    return xp.where(small, series, xp.sin(fraction * safe) / xp.sin(safe))
