"""Rotations of three-dimensional space: Euler angles, axis and angle, six-dimensional coordinates, distances and
averages.

A rotation is a matrix `R` [..., 3, 3] with `r_image = R @ r_object` for vectors (x, y, z). The house Euler angles are
RELION's (rot, tilt, psi), here in radian:

    R = Rz(psi) Ry(tilt) Rz(rot),   Rz(a) = [ cos a  sin a  0]    Ry(b) = [cos b  0  -sin b]
                                            [-sin a  cos a  0]            [  0    1     0  ]
                                            [   0      0    1]            [sin b  0   cos b]

These Rz and Ry are the right-handed turns by -a and -b. Everything else in this file (axis and angle, the twelve
generic orders) uses right-handed turns: `matrix_from_axis_angle((0, 0, 1), a)` takes x towards y for a > 0. All
functions take arrays with any leading axes, NumPy or JAX, and answer in their namespace and dtype.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.geometry.quaternions import constant, matrix_from_quaternion, quaternion_from_matrix

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

PROPER_ORDERS = ("ZXZ", "XYX", "YZY", "ZYZ", "XZX", "YXY")
TAIT_BRYAN_ORDERS = ("XYZ", "YZX", "ZXY", "XZY", "ZYX", "YXZ")
ORDERS = PROPER_ORDERS + TAIT_BRYAN_ORDERS


def compose(left: Float[Array, "*batch 3 3"], right: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """The matrix product `left @ right` in full precision on every device.

    A GPU may round the factors of a float32 `@` to eleven bits; sums of products written out are not touched by that.
    """
    return sum(left[..., :, k, None] * right[..., None, k, :] for k in range(3))  # type: ignore[return-value]


def transpose(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """The inverse rotation: rows and columns exchanged."""
    return namespace(matrix).swapaxes(matrix, -1, -2)


def rotate(matrix: Float[Array, "*batch 3 3"], vectors: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """`R @ v` in full precision on every device; leading axes broadcast."""
    return sum(matrix[..., :, k] * vectors[..., k, None] for k in range(3))  # type: ignore[return-value]


def view_direction(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """The direction of projection in the object's frame, `R.T @ (0, 0, 1)` = `(sin tilt cos rot, sin tilt sin rot, cos
    tilt)`.
    """
    return matrix[..., 2, :]


# ---- Euler angles, house order -------------------------------------------------------------------------------------


def matrix_from_euler(euler: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """`R = Rz(psi) Ry(tilt) Rz(rot)` of RELION's (rot, tilt, psi) in radian.

    >>> matrix_from_euler(np.array([0.0, 0.0, np.pi / 2])).round(6) + 0.0
    array([[ 0.,  1.,  0.],
           [-1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    xp = namespace(euler)
    euler = xp.asarray(euler, dtype=float_dtype(euler))
    (cr, ct, cp), (sr, st, sp) = _unstack(xp.cos(euler)), _unstack(xp.sin(euler))
    return _matrix(
        xp,
        [cp * ct * cr - sp * sr, cp * ct * sr + sp * cr, -cp * st],
        [-sp * ct * cr - cp * sr, -sp * ct * sr + cp * cr, sp * st],
        [st * cr, st * sr, ct],
    )


def euler_from_matrix(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """Canonical (rot, tilt, psi) in radian: tilt in [0, pi], rot and psi in [-pi, pi].

    Where sin(tilt) = 0 (within rounding) only rot + psi or rot - psi is defined; there psi = 0 and rot takes the whole
    angle. psi is read after rot has been undone, so that the three angles rebuild the matrix to rounding even next to
    such a pole.
    """
    return _house_euler(matrix, second=False)


def euler_solutions(matrix: Float[Array, "*batch 3 3"]) -> tuple[Float[Array, "*batch 3"], Float[Array, "*batch 3"]]:
    """Both triples (rot, tilt, psi) that give this matrix: the canonical one and `(rot + pi, -tilt, psi + pi)`,
    wrapped to [-pi, pi].
    """
    return _house_euler(matrix, second=False), _house_euler(matrix, second=True)


def _house_euler(matrix: Any, *, second: bool) -> Any:
    """The house angles are those of R = Z(-psi) Y(-tilt) Z(-rot) with right-handed turns; tilt >= 0 is the branch of
    -tilt <= 0.
    """
    xp = namespace(matrix)
    psi, tilt, rot = _unstack(_intrinsic_angles(matrix, "ZYZ", second=not second))
    # 0 - x and not -x: no negative zeros in written files.
    return xp.stack([0.0 - rot, 0.0 - tilt, 0.0 - psi], axis=-1)


# ---- Euler angles, all twelve orders -------------------------------------------------------------------------------


def matrix_from_euler_order(angles: Float[Array, "*batch 3"], order: str) -> Float[Array, "*batch 3 3"]:
    """The matrix of three right-handed turns by `angles` (a, b, c), radian.

    Upper case, intrinsic (about the axes that turn with the body): "XYZ" is `X(a) Y(b) Z(c)`. Lower case, extrinsic
    (about the fixed axes, the first turn first): "xyz" is `Z(c) Y(b) X(a)`. The letters are those of
    `scipy.spatial.transform.Rotation`. RELION's angles are `("ZYZ", (-psi, -tilt, -rot))`; Slabaugh's `Rz(phi)
    Ry(theta) Rx(psi)` is `("xyz", (psi, theta, phi))`.
    """
    xp = namespace(angles)
    letters, extrinsic = _parse_order(order)
    angles = xp.asarray(angles, dtype=float_dtype(angles))
    parts = _unstack(angles)
    first, middle, last = (
        _elementary(letter, angle) for letter, angle in zip(letters, parts[::-1] if extrinsic else parts)
    )
    return compose(compose(first, middle), last)


def euler_order_from_matrix(
    matrix: Float[Array, "*batch 3 3"], order: str, *, second: bool = False
) -> Float[Array, "*batch 3"]:
    """The angles (a, b, c) with `matrix_from_euler_order((a, b, c), order) = matrix`.

    The first solution has b in [0, pi] for orders such as ZXZ and in [-pi/2, pi/2] for orders such as XYZ; the second
    has -b or pi - b there. In gimbal lock (the outer axes coincide) the turn of the leftmost matrix is 0 and the
    rightmost takes the whole angle. Source: Slabaugh, Computing Euler angles from a rotation matrix (1999); both
    solutions and the degenerate branch.
    """
    xp = namespace(matrix)
    letters, extrinsic = _parse_order(order)
    angles = _intrinsic_angles(matrix, letters, second=second)
    return xp.flip(angles, axis=-1) if extrinsic else angles


def _parse_order(order: str) -> tuple[str, bool]:
    """The order as letters of the matrices from left to right, and whether it was given as extrinsic."""
    extrinsic = order.islower()
    letters = order[::-1].upper() if extrinsic else order
    if letters not in ORDERS:
        raise SettingsProblem(
            f"Euler order '{order}'",
            f"one of {', '.join(ORDERS)} (intrinsic) or the same in lower case (extrinsic)",
            "do not mix cases",
        )
    return letters, extrinsic


def _elementary(letter: str, angle: Any) -> Any:
    """Right-handed turn about one axis."""
    xp = namespace(angle)
    c, s = xp.cos(angle), xp.sin(angle)
    one, zero = xp.ones_like(c), xp.zeros_like(c)
    if letter == "X":
        return _matrix(xp, [one, zero, zero], [zero, c, -s], [zero, s, c])
    if letter == "Y":
        return _matrix(xp, [c, zero, s], [zero, one, zero], [-s, zero, c])
    return _matrix(xp, [c, -s, zero], [s, c, zero], [zero, zero, one])


def _intrinsic_angles(matrix: Any, letters: str, *, second: bool) -> Any:
    """Angles of `I(a) J(b) K(c)`: a from the two entries that carry only it, then b and c from `I(-a) R`, which always
    fits.
    """
    xp = namespace(matrix)
    m = xp.asarray(matrix, dtype=float_dtype(matrix))
    i, j = "XYZ".index(letters[0]), "XYZ".index(letters[1])
    k = 3 - i - j
    e = 1 if (j - i) % 3 == 1 else -1  # parity of (i, j, k)
    proper = letters[0] == letters[2]
    last = i if proper else k
    # The entries below are sin(a) and cos(a) times sin(b) for proper orders, times cos(b) for the others.
    sine, cosine = (m[..., j, i], -e * m[..., k, i]) if proper else (-e * m[..., j, k], m[..., k, k])
    if second:
        sine, cosine = -sine, -cosine
    lock = sine * sine + cosine * cosine < (16 * float(np.finfo(float_dtype(m)).eps)) ** 2
    a = xp.arctan2(xp.where(lock, 0.0, sine), xp.where(lock, 1.0, cosine))
    ca, sa = xp.cos(a), xp.sin(a)
    row_j = ca[..., None] * m[..., j, :] + e * sa[..., None] * m[..., k, :]
    row_k = ca[..., None] * m[..., k, :] - e * sa[..., None] * m[..., j, :]
    if proper:
        sine_b = -e * row_k[..., i]
        # At the poles rounding must not choose the branch: b >= 0 in the first solution, b <= 0 in the second.
        b = xp.arctan2(xp.where(lock, -xp.abs(sine_b) if second else xp.abs(sine_b), sine_b), m[..., i, i])
        c = xp.arctan2(-e * row_j[..., k], row_j[..., j])
    else:
        b = xp.arctan2(e * m[..., i, last], row_k[..., k])
        c = xp.arctan2(e * row_j[..., i], row_j[..., j])
    return xp.stack([a, b, c], axis=-1)


# ---- axis and angle, rotation vector, six coordinates --------------------------------------------------------------


def matrix_from_axis_angle(axis: Float[Array, "*batch 3"], angle: Float[Array, "*batch"]) -> Float[Array, "*batch 3 3"]:
    """Right-handed turn by `angle` (radian) about `axis` (any length but 0): `cos t I + sin t [n]x + (1 - cos t) n
    n^T`.
    """
    xp = namespace(axis, angle)
    dtype = float_dtype(axis, angle)
    axis = xp.asarray(axis, dtype=dtype)
    unit = axis / xp.sqrt(xp.sum(axis * axis, axis=-1, keepdims=True))
    return matrix_from_rotation_vector(unit * xp.asarray(angle, dtype=dtype)[..., None])


def axis_angle_from_matrix(
    matrix: Float[Array, "*batch 3 3"],
) -> tuple[Float[Array, "*batch 3"], Float[Array, "*batch"]]:
    """Unit axis and angle in [0, pi]. The identity, which has no axis, gets z; at pi, where n and -n serve alike, the
    first non-zero component of the axis is positive."""
    xp = namespace(matrix)
    quaternion = quaternion_from_matrix(matrix)
    vector = quaternion[..., 1:]
    squared = xp.sum(vector * vector, axis=-1, keepdims=True)
    none = squared == 0
    length = xp.sqrt(xp.where(none, 1.0, squared))
    z = np.array([0.0, 0.0, 1.0], dtype=float_dtype(matrix))
    angle = 2 * xp.arctan2(xp.where(none, 0.0, length), quaternion[..., :1])
    return xp.where(none, z, vector / length), angle[..., 0]


def matrix_from_rotation_vector(vector: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Right-handed turn by |v| radian about v: `I + sin t / t [v]x + (1 - cos t) / t^2 [v]x^2`, a series near 0."""
    xp = namespace(vector)
    v = xp.asarray(vector, dtype=float_dtype(vector))
    x, y, z = _unstack(v)
    squared = xp.sum(v * v, axis=-1)
    small = squared < 1e-4
    angle = xp.sqrt(xp.where(small, 1.0, squared))
    half = xp.sin(angle / 2) / (angle / 2)
    # The first omitted terms, t^6/5040 and t^6/40320, are below rounding at the threshold.
    first = xp.where(small, 1 - squared / 6 + squared * squared / 120, xp.sin(angle) / angle)
    second = xp.where(small, 0.5 - squared / 24 + squared * squared / 720, half * half / 2)
    return _matrix(
        xp,
        [1 - second * (y * y + z * z), second * x * y - first * z, second * x * z + first * y],
        [second * x * y + first * z, 1 - second * (x * x + z * z), second * y * z - first * x],
        [second * x * z - first * y, second * y * z + first * x, 1 - second * (x * x + y * y)],
    )


def rotation_vector_from_matrix(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """The logarithm: axis times angle, length in [0, pi]; accurate at 0 and at pi, with finite gradient at both."""
    xp = namespace(matrix)
    quaternion = quaternion_from_matrix(matrix)
    scalar, vector = quaternion[..., :1], quaternion[..., 1:]
    squared = xp.sum(vector * vector, axis=-1, keepdims=True)
    small = squared < 1e-6
    length = xp.sqrt(xp.where(small, 1.0, squared))
    # 2 asin(s)/s: the first omitted term, 15 s^6/168, is below 1e-18 at the threshold.
    series = 2 + squared / 3 + 3 * squared * squared / 20
    return vector * xp.where(small, series, 2 * xp.arctan2(length, scalar) / length)


def rotation_6d_from_matrix(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 6"]:
    """The first two columns of R, one after the other: a continuous coordinate of SO(3).

    Source: Zhou et al. 2019, doi:10.1109/CVPR.2019.00589.
    """
    xp = namespace(matrix)
    return xp.concatenate([matrix[..., :, 0], matrix[..., :, 1]], axis=-1)


def matrix_from_rotation_6d(coordinates: Float[Array, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """Gram-Schmidt on the vectors `coordinates[..., :3]` and `[..., 3:]`, third column by the cross product.

    The two must be neither zero nor parallel. Any six numbers but those give a rotation, and nearby numbers give
    nearby rotations: what a network should output. Source: Zhou et al. 2019, doi:10.1109/CVPR.2019.00589, equation 14.
    """
    xp = namespace(coordinates)
    first, second = coordinates[..., :3], coordinates[..., 3:]
    x = first / xp.sqrt(xp.sum(first * first, axis=-1, keepdims=True))
    rest = second - xp.sum(x * second, axis=-1, keepdims=True) * x
    y = rest / xp.sqrt(xp.sum(rest * rest, axis=-1, keepdims=True))
    return xp.stack([x, y, xp.cross(x, y)], axis=-1)


# ---- distances and averages ----------------------------------------------------------------------------------------


def angular_distance(
    first: Float[Array, "*batch 3 3"],
    second: Float[Array, "*batch 3 3"],
    *,
    symmetry: Float[Array, "n 3 3"] | None = None,
) -> Float[Array, "*batch"]:
    """The angle, in [0, pi] radian, of the turn between two rotations: the geodesic distance on SO(3).

    With D = R1^T R2: `atan2(|axial part of D|, (trace D - 1) / 2)`, accurate to rounding at 0 and at pi, where the
    arccos of the trace loses half of the digits. `symmetry` [n, 3, 3]: operators S of a point group; the smallest
    distance from R1 to any R2 S. The gradient at distance 0, a cusp, is 0.
    """
    xp = namespace(first, second)
    if symmetry is not None:
        first, second = (
            first[..., None, :, :],
            compose(second[..., None, :, :], xp.asarray(symmetry, dtype=float_dtype(first, second))),
        )
    between = compose(transpose(first), second)
    axial = _axial(between)
    squared = xp.sum(axial * axial, axis=-1)
    sine = xp.where(squared > 0, xp.sqrt(xp.where(squared > 0, squared, 1.0)), 0.0) / 2
    cosine = (between[..., 0, 0] + between[..., 1, 1] + between[..., 2, 2] - 1) / 2
    distance = xp.arctan2(sine, cosine)
    return distance if symmetry is None else xp.min(distance, axis=-1)


def project_to_so3(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """The rotation nearest to any 3 x 3 matrix in the Frobenius norm.

    With the singular value decomposition `M = U diag(s) V^T` it is `U diag(1, 1, det(U V^T)) V^T`. Not unique if the
    matrix has rank below 2, or is a reflection whose two smallest singular values are equal. Source: Kabsch 1976,
    doi:10.1107/S0567739476001873; Umeyama 1991, doi:10.1109/34.88573. The derivative is that of the polar
    decomposition, which exists where that of the singular vectors does not (equal singular values, as at every
    rotation).
    """
    xp = namespace(matrix)
    matrix = xp.asarray(matrix, dtype=float_dtype(matrix))
    held = constant(matrix)
    left, singular, right = xp.linalg.svd(held)
    sign = xp.sign(xp.linalg.det(left) * xp.linalg.det(right))
    nearest = compose(xp.concatenate([left[..., :2], left[..., 2:] * sign[..., None, None]], axis=-1), right)
    if xp is np:
        return nearest
    # A turn by zero carries the derivative: M = R S and S = V diag(s) V^T give d(omega) = (tr S - S)^-1 axial(R^T dM).
    s1, s2, s3 = singular[..., 0], singular[..., 1], singular[..., 2] * sign
    sums = xp.stack([s2 + s3, s1 + s3, s1 + s2], axis=-1)
    unique = sums > 4 * float(np.finfo(float_dtype(matrix)).eps) * s1[..., None]
    axial = rotate(right, _axial(compose(transpose(nearest), matrix - held)))
    turn = rotate(transpose(right), xp.where(unique, axial / xp.where(unique, sums, 1.0), 0.0))
    return compose(nearest, matrix_from_rotation_vector(turn))


def mean_chordal(
    rotations: Float[Array, "*batch n 3 3"], weights: Float[Array, "*batch n"] | None = None
) -> Float[Array, "*batch 3 3"]:
    """The rotation with the smallest weighted sum of squared Frobenius distances to `rotations`, over the axis n.

    It is the projection of the mean matrix on SO(3), in closed form; equal to the quaternion average of Markley et al.
    Source: Hartley et al. 2013, doi:10.1007/s11263-012-0601-0, section 5.
    """
    return project_to_so3(_weighted_mean(rotations, weights, axes=2))


def mean_geodesic(
    rotations: Float[Array, "*batch n 3 3"], weights: Float[Array, "*batch n"] | None = None, *, iterations: int = 32
) -> Float[Array, "*batch 3 3"]:
    """The rotation with the smallest weighted sum of squared angles to `rotations` (the Karcher mean), over the axis n.

    Starts at the chordal mean and repeats `R <- R exp(mean_i log(R^T R_i))`. Unique if all lie within 90 degrees of
    one rotation; converges linearly, the faster the closer they are. Source: Hartley et al. 2013,
    doi:10.1007/s11263-012-0601-0, algorithm 1.
    """

    def step(_: int, estimate: Any) -> Any:
        offsets = rotation_vector_from_matrix(compose(transpose(estimate)[..., None, :, :], rotations))
        return compose(estimate, matrix_from_rotation_vector(_weighted_mean(offsets, weights, axes=1)))

    estimate = mean_chordal(rotations, weights)
    if namespace(estimate) is np:
        return reduce(lambda current, count: step(count, current), range(iterations), estimate)
    import jax

    return jax.lax.fori_loop(0, iterations, step, estimate)


def _weighted_mean(values: Any, weights: Any, *, axes: int) -> Any:
    """Mean over the axis before the last `axes` axes."""
    xp = namespace(values, weights)
    if weights is None:
        return xp.mean(values, axis=-1 - axes)
    weights = xp.asarray(weights, dtype=float_dtype(values))
    share = weights / xp.sum(weights, axis=-1, keepdims=True)
    return xp.sum(share.reshape(share.shape + (1,) * axes) * values, axis=-1 - axes)


def random_rotations(count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` rotations drawn uniformly from SO(3), float64 [count, 3, 3]: normalised Gaussian quaternions."""
    return matrix_from_quaternion(rng.standard_normal((count, 4)))


# ---- small parts ---------------------------------------------------------------------------------------------------


def _unstack(array: Any) -> tuple[Any, Any, Any]:
    return array[..., 0], array[..., 1], array[..., 2]


def _axial(matrix: Any) -> Any:
    """The vector of the antisymmetric part, times two: `M - M^T = [axial]x`."""
    return namespace(matrix).stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        axis=-1,
    )


def _matrix(xp: Any, *rows: list[Any]) -> Any:
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)
