"""What was found beside what was true: pairs of places, poses in another frame and in the other hand, and a map laid over its truth."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.fourier.filters import gaussian_low_pass
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler, random_rotations
from vitreous.io.micrograph_star import Coordinates, write_coordinates
from vitreous.io.mrc_stack import write_volume
from vitreous.io.star import StarFile, write_star
from vitreous.jobs.demo_truth import pairs, pose_errors
from vitreous.jobs.truth_comparison import compare
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.pose import Pose
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.reconstruction.map_alignment import Placement, mirror, place
from vitreous.units import DEGREE

REFLECTION = np.diag([1.0, 1.0, -1.0])  # in the plane of the image
SIZE, VOXEL = 3.0, 5.0  # angstrom, of the micrographs and of the map


def test_pairs_are_one_to_one_and_within_a_micrograph():
    """A place has at most one partner, the nearest; what lies in another micrograph, or too far away, is no partner."""
    true = (np.array(["a", "a", "b"]), np.array([[0.0, 0], [100, 0], [50, 50]]))
    found = (np.array(["a", "a", "a", "b", "b"]), np.array([[2.0, 0], [1, 0], [100, 19], [0, 0], [50, 71]]))
    both = pairs(found, true, SIZE, within=60.0)
    assert sorted(zip(both.found.tolist(), both.true.tolist())) == [(1, 0), (2, 1)]
    assert sorted(both.distance) == pytest.approx([3.0, 57.0])
    assert both.recall == pytest.approx(2 / 3) and both.precision == pytest.approx(2 / 5)


def written_truth(folder, count, rng) -> Coordinates:
    optics = OpticsGroup("opticsGroup1", SIZE, 100, 300e3, 2.7e7, 0.1)
    pose = Pose(euler_from_matrix(random_rotations(count, rng)), rng.uniform(-1, 1, (count, 2)))
    pixel = rng.permutation(np.stack(np.meshgrid(*[np.arange(10) * 150 + 100] * 2), -1).reshape(-1, 2))[:count]
    zeros = np.zeros(count)
    truth = Coordinates(
        ("micrographs/m.mrc",),
        zeros.astype(int),
        pixel,
        zeros,
        pose,
        CtfParameters.of(zeros + 1e4, zeros + 1e4, zeros),
        optics,
    )
    write_coordinates(folder / "coordinates.star", truth)
    return truth


def write_refined(folder, truth, matrix, centre):
    """A particle file with these orientations, whose particles lie at `centre` (pixels of the micrograph)."""
    whole = np.rint(centre)
    origin = (whole - centre) * SIZE
    columns = {"rlnImageName": np.array([f"{i + 1}@x.mrcs" for i in range(len(centre))], dtype=object)}
    columns |= {"rlnMicrographName": np.array(["m.mrc"] * len(centre), dtype=object)}
    columns |= {f"rlnCoordinate{axis}": whole[:, i] for i, axis in enumerate("XY")}
    columns |= {f"rlnOrigin{axis}Angst": origin[:, i] for i, axis in enumerate("XY")}
    euler = euler_from_matrix(matrix) / DEGREE
    columns |= {f"rlnAngle{name}": euler[:, i] for i, name in enumerate(("Rot", "Tilt", "Psi"))}
    columns |= {"rlnOpticsGroup": np.ones(len(centre), dtype=int)}
    optics = {
        "rlnOpticsGroup": [1], "rlnOpticsGroupName": ["o"], "rlnImagePixelSize": [VOXEL], "rlnImageSize": [32],
        "rlnVoltage": [300.0], "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1], "rlnImageDimensionality": [2],
    }  # fmt: skip
    table = Table(
        {
            name: np.array(column, dtype=object if isinstance(column[0], str) else None)
            for name, column in optics.items()
        }
    )
    write_star(folder / "refined.star", StarFile({"optics": table, "particles": Table(columns)}))
    return folder / "refined.star"


@pytest.mark.parametrize("mirrored", [False, True])
def test_poses_in_another_frame_and_hand_are_right(tmp_path, mirrored):
    """A map that lies turned by R_p and moved by t, in either hand: poses that show it as it was seen have no error, and those of the other hand or of a
    turn the other way round have."""
    rng = np.random.default_rng(1)
    truth = written_truth(tmp_path, 40, rng)
    turn, shift = random_rotations(1, rng)[0], np.array([1.5, -2.0, 0.7])  # voxels
    right = matrix_from_euler(truth.pose.euler) @ turn.T  # the particle as the turned map shows it
    centre = truth.pixel - truth.pose.shift / SIZE - (right @ (shift * VOXEL))[:, :2] / SIZE
    refined = REFLECTION @ right @ REFLECTION if mirrored else right
    path = write_refined(tmp_path, truth, refined, centre)
    placement = Placement(turn, shift, False, 1.0)
    errors = pose_errors(path, tmp_path / "coordinates.star", placement, VOXEL, mirrored=mirrored)
    # Files hold angles and origins to six decimals or more.
    assert len(errors.angle) == 40 and errors.angle.max() < 1e-5 and errors.centre.max() < 1e-4
    for wrong, hand in ((Placement(turn.T, shift, False, 1.0), mirrored), (placement, not mirrored)):
        other = pose_errors(path, tmp_path / "coordinates.star", wrong, VOXEL, mirrored=hand)
        assert np.median(other.angle) > 20 * DEGREE
    moved = pose_errors(
        path, tmp_path / "coordinates.star", Placement(turn, -shift, False, 1.0), VOXEL, mirrored=mirrored
    )
    assert np.median(moved.centre) > 5


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_map_is_laid_over_its_truth_in_either_hand(tmp_path, mirrored):
    """The comparison finds turn, shift and hand again, on the grid of the map."""
    rng = np.random.default_rng(2)
    box = 32
    # A thing without symmetry: blobs in a ball, filtered to a fifth of the sampling rate.
    noise = np.zeros((box,) * 3, dtype=np.float32)
    for z, y, x in rng.integers(9, 23, (60, 3)):
        noise[z, y, x] += 1
    low = gaussian_low_pass(radial_frequency(noise.shape, 1.0), 0.2).astype(np.float32)
    true = inverse(forward(noise, 3) * low, noise.shape).astype(np.float32)
    write_volume(tmp_path / "truth_map.mrc", Volume(true, VOXEL))
    laid = Placement(random_rotations(1, rng)[0], np.array([1.2, -0.6, 0.8]), False, 1.0)
    right = place(true, laid)
    given = mirror(right) if mirrored else right
    write_volume(tmp_path / "map.mrc", Volume(np.ascontiguousarray(given), VOXEL))
    write_volume(tmp_path / "mask.mrc", Volume(np.ones_like(given), VOXEL))
    shells = box // 2 + 1
    curve = Table({"unmasked": np.ones(shells), "corrected": np.ones(shells)})
    write_star(tmp_path / "fsc.star", StarFile({"fsc": curve}))
    found = compare(tmp_path, tmp_path / "truth_map.mrc")
    assert found.mirrored is mirrored
    assert found.against_truth.correlation[1:13].min() > 0.98 and found.correlation > 0.98
    # Trilinear interpolation of padded transforms bounds the search to some tenths of a degree and of a voxel.
    assert np.abs(found.placement.rotation - laid.rotation).max() < 0.02
    assert np.abs(found.placement.shift - laid.shift).max() < 0.2
    assert found.other_hand.correlation[4:13].mean() < 0.6
    assert np.corrcoef(found.map.data.ravel(), right.ravel())[0, 1] > 0.999
