"""Rotations by their definitions: products of elementary matrices, Hamilton's table, Rodrigues, brute closure. One at
a time, float64.
"""

from __future__ import annotations

import math

import numpy as np


def rotation_z(angle: float) -> np.ndarray:
    """RELION's Rz: the right-handed turn by -angle about z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_y(angle: float) -> np.ndarray:
    """RELION's Ry: the right-handed turn by -angle about y."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


def euler_to_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """R = Rz(psi) Ry(tilt) Rz(rot), radian."""
    return rotation_z(psi) @ rotation_y(tilt) @ rotation_z(rot)


def elementary(axis: str, angle: float) -> np.ndarray:
    """The right-handed turn about "x", "y" or "z": for z it takes x towards y."""
    c, s = math.cos(angle), math.sin(angle)
    turn = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(turn[axis], dtype=float)


def euler_order_to_matrix(angles, order: str) -> np.ndarray:
    """Intrinsic "XYZ": X(a) Y(b) Z(c), each turn about the axes as already turned. Extrinsic "xyz": Z(c) Y(b) X(a),
    about fixed axes.
    """
    matrix = np.eye(3)
    for letter, angle in zip(order, angles):
        turn = elementary(letter.lower(), angle)
        matrix = turn @ matrix if letter.islower() else matrix @ turn
    return matrix


def slabaugh(matrix: np.ndarray, threshold: float = 1e-9) -> list[tuple[float, float, float]]:
    """All (psi, theta, phi) with Rz(phi) Ry(theta) Rx(psi) = matrix: two, or in gimbal lock one of the many, that with
    phi = 0.
    """
    r = matrix
    if 1 - abs(r[2, 0]) > threshold:
        first = -math.asin(r[2, 0])
        return [
            (
                math.atan2(r[2, 1] / math.cos(theta), r[2, 2] / math.cos(theta)),
                theta,
                math.atan2(r[1, 0] / math.cos(theta), r[0, 0] / math.cos(theta)),
            )
            for theta in (first, math.pi - first)
        ]
    if r[2, 0] < 0:
        return [(math.atan2(r[0, 1], r[0, 2]), math.pi / 2, 0.0)]
    return [(math.atan2(-r[0, 1], -r[0, 2]), -math.pi / 2, 0.0)]


def rodrigues(axis, angle: float) -> np.ndarray:
    """cos t I + sin t [n]x + (1 - cos t) n n^T for the unit vector n along `axis`."""
    x, y, z = n = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * np.outer(n, n)


def quaternion_product(p, q) -> np.ndarray:
    """(w, x, y, z), term by term from Hamilton's table: ii = jj = kk = -1, ij = k, jk = i, ki = j, and ji = -k, kj =
    -i, ik = -j.
    """
    table = [  # (sign, unit) of unit a times unit b, units 0..3 = 1, i, j, k
        [(1, 0), (1, 1), (1, 2), (1, 3)],
        [(1, 1), (-1, 0), (1, 3), (-1, 2)],
        [(1, 2), (-1, 3), (-1, 0), (1, 1)],
        [(1, 3), (1, 2), (-1, 1), (-1, 0)],
    ]
    product = np.zeros(4)
    for a in range(4):
        for b in range(4):
            sign, unit = table[a][b]
            product[unit] += sign * p[a] * q[b]
    return product


def quaternion_rotate(q, vector) -> np.ndarray:
    """q v q* for a unit quaternion q: the vector as a quaternion without real part, between q and its conjugate."""
    w, x, y, z = q
    return quaternion_product(quaternion_product(q, [0.0, *vector]), [w, -x, -y, -z])[1:]


def quaternion_to_matrix(q) -> np.ndarray:
    """The matrix whose columns are the images q e q* of the three unit vectors."""
    return np.stack([quaternion_rotate(q, unit) for unit in np.eye(3)], axis=1)


def geodesic_distance(first: np.ndarray, second: np.ndarray) -> float:
    """arccos((trace(A^T B) - 1) / 2), radian. Loses half of the digits near 0 and near pi."""
    cosine = (np.trace(first.T @ second) - 1) / 2
    return math.acos(min(1.0, max(-1.0, cosine)))


def group_closure(generators) -> np.ndarray:
    """All products of the generators: multiply everything by everything until nothing new comes."""
    group = [np.eye(3), *generators]
    while True:
        products = {tuple(np.round(a @ b, 6).ravel() + 0.0): a @ b for a in group for b in group}
        if len(products) == len(group):
            return np.array(group)
        group = list(products.values())
