"""Euler angles against RELION: its printed pairs of matrix and angles, and the poses of a published refinement as
another program read them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.geometry import rotations as rot

DATA = Path(__file__).resolve().parents[2] / "../shared/data/metadata/relion30"

# `relion_refine --sym T --print_symmetry_ops`, RELION 3.1.3: matrices and Euler angles (rot, tilt, psi) in degrees.
PRINTED = [
    ([[-0.5, 0.86602539, 0], [-0.86602539, -0.5, 0], [0, 0, 1]], (0, 0, 120)),
    ([[-0.5, -0.86602539, 0], [0.86602539, -0.5, 0], [0, 0, 1]], (0, 0, -120)),
    ([[-1, 0, 0], [0, 0.33333, 0.94281], [0, 0.94281, -0.33333]], (90, 109.471, 90)),
    ([[0.5, 0.28867, 0.8165], [0.86603, -0.16667, -0.4714], [0, 0.94281, -0.33333]], (90, 109.471, -150)),
    ([[0.5, -0.28867, -0.8165], [-0.86603, -0.16667, -0.4714], [0, 0.94281, -0.33333]], (90, 109.471, -30)),
    ([[0.5, 0.86603, 0], [0.28867, -0.16667, 0.94281], [0.8165, -0.4714, -0.33333]], (-30, 109.471, 90)),
    ([[0.5, -0.86603, 0], [-0.28867, -0.16667, 0.94281], [-0.8165, -0.4714, -0.33333]], (-150, 109.471, 90)),
    ([[-0.5, -0.28867, -0.8165], [0.28867, 0.83333, -0.4714], [0.8165, -0.4714, -0.33333]], (-30, 109.471, -30)),
]
# Six printed digits of both, through sines and cosines.
DIGITS = 1.5e-5


@pytest.mark.parametrize(("matrix", "euler"), PRINTED)
def test_matrices_of_relion(matrix, euler):
    matrix, euler = np.array(matrix, float), np.radians(np.array(euler, float))
    np.testing.assert_allclose(rot.matrix_from_euler(euler), matrix, atol=DIGITS)
    if euler[1] > 0:
        np.testing.assert_allclose(rot.euler_from_matrix(matrix), euler, atol=DIGITS)
    else:
        # At tilt 0 RELION writes the whole angle as psi; here rot takes it, and the matrix is the same.
        np.testing.assert_allclose(rot.euler_from_matrix(matrix), [euler[2], 0, 0], atol=DIGITS)
    # The transpose is another rotation unless the turn is by 180 degrees.
    if np.abs(matrix - matrix.T).max() > 0.1:
        assert np.abs(rot.matrix_from_euler(-euler[::-1]) - matrix).max() > 0.1


def test_poses_of_a_published_refinement():
    star, expected = (DATA / f"FinalRefinement-OriginalParticles-PfCRT{end}" for end in (".star", "_expected.npz"))
    if not star.is_file():
        pytest.skip("the folder shared/data/metadata is absent")
    lines = star.read_text().splitlines()
    labels = [line.split()[0] for line in lines if line.startswith("_rln")]
    rows = [line.split() for line in lines if ".mrcs" in line]
    columns = [labels.index(f"_rlnAngle{name}") for name in ("Rot", "Tilt", "Psi")]
    euler = np.radians([[float(row[column]) for column in columns] for row in rows])
    want = np.load(expected)["rotation"]
    got = rot.matrix_from_euler(euler)
    assert got.shape == want.shape == (5, 3, 3)
    # The stored matrices are single precision.
    np.testing.assert_allclose(got, want, atol=5e-7)
    # Transposed, or with the angles in another order or sense, they are far off.
    assert np.abs(rot.transpose(got) - want).max() > 0.5
    assert np.abs(rot.matrix_from_euler(-euler) - want).max() > 0.5
    assert np.abs(rot.matrix_from_euler(euler[:, ::-1]) - want).max() > 0.5
