"""Pose: the orientation and the shift of each particle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """Poses of n particles in RELION's convention.

    `euler` [n, 3]: (rot, tilt, psi) in radian, `R = Rz(psi) Ry(tilt) Rz(rot)` maps object to image coordinates
    (`geometry.rotations.matrix_from_euler`). `shift` [n, 2]: origin (x, y) in angstrom, the translation that brings the particle to
    the box centre: a particle with origin (ox, oy) sits at (-ox, -oy) from the centre.
    Angles are kept as read, not as matrices, so that a file is written back with the numbers it came with.
    """

    euler: np.ndarray
    shift: np.ndarray

    def __len__(self) -> int:
        return len(self.euler)

    def rows(self, selection: np.ndarray | slice) -> Pose:
        return Pose(self.euler[selection], self.shift[selection])
