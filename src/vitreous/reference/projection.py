"""Projection and back-projection as the sums that define them: exact, one point and one voxel at a time.

Projection-slice theorem: the transform of the image that a volume turned by R casts along z is
`F(kx, ky) = sum_r V(r) exp(-2 pi i (R^T (kx, ky, 0)) . r)`, r in voxels from the origin at index N // 2, k in cycles per box.
"""

from __future__ import annotations

import numpy as np


def positions(box: int) -> np.ndarray:
    """(x, y, z) of each voxel of a cube, [box^3, 3], in the order of its values."""
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)


def project(volume: np.ndarray, rotation: np.ndarray, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """The slice of one orientation at integer frequencies kx, ky [p]: a sum over all voxels for each."""
    box = volume.shape[0]
    points = np.stack([kx, ky, 0 * kx], axis=-1) @ rotation  # rows (R^T k)^T = k^T R
    phases = np.exp(-2j * np.pi / box * (points @ positions(box).T))
    return phases @ volume.reshape(-1)


def backproject(values: np.ndarray, rotation: np.ndarray, kx: np.ndarray, ky: np.ndarray, box: int) -> np.ndarray:
    """The transpose of `project`: each frequency adds its wave to every voxel, the real part is kept."""
    points = np.stack([kx, ky, 0 * kx], axis=-1) @ rotation
    waves = np.exp(2j * np.pi / box * (positions(box) @ points.T))
    return np.real(waves @ values).reshape(box, box, box)


def trilinear(values: np.ndarray, point: tuple[float, float, float]) -> complex:
    """A value between the samples `values` [z, y, x] at (x, y, z): 8 neighbours, each weighted by the opposite volume."""
    total = 0.0
    x0, y0, z0 = (int(np.floor(p)) for p in point)
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                corner = (x0 + dx, y0 + dy, z0 + dz)
                weight = np.prod([1 - abs(p - c) for p, c in zip(point, corner)])
                total = total + weight * values[corner[2], corner[1], corner[0]]
    return total


def rotate_and_sum(volume: np.ndarray, quarter_turns: int) -> np.ndarray:
    """The image of a volume turned about z by quarter turns, with no interpolation: the check on signs that needs no theorem.

    R = Rz(psi) with psi = 90 degrees is [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]: what lies at +y moves to +x. Odd boxes only.
    """
    image = volume.sum(axis=0)
    return np.rot90(image, k=quarter_turns, axes=(0, 1))
