"""The benchmarks of alignment measure what they say: known turns, shifts, hands and classes come out as they were put in."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast
from vitreous.fourier.filters import soft_sphere
from vitreous.geometry.rotations import (
    angular_distance,
    matrix_from_axis_angle,
    matrix_from_euler,
    matrix_from_rotation_vector,
    random_rotations,
)
from vitreous.geometry.symmetry import point_group
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.volume import Volume
from vitreous.reconstruction import map_alignment
from vitreous.reconstruction.projection import fourier_volume

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    from alignment import (
        class_quality,
        commands,
        map_quality,
        outputs,
        picks,
        pose_quality,
        sets,
        simulated_parts,
    )
    from alignment.session import Session
    from comparison import at_least, at_most, keep_cost
    from measure import Cost, Run
    from programs import Program
finally:
    sys.path.remove(BENCHMARKS)

BOX = 32
IDENTITY = np.eye(3)


def blobs(box: int = BOX, *, seed: int = 3) -> np.ndarray:
    """A map without symmetry and of one hand: twelve Gaussian blobs."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(box) - box // 2,) * 3, indexing="ij")
    volume = np.zeros((box,) * 3)
    for centre, weight in zip(rng.uniform(-0.22, 0.22, (12, 3)) * box, rng.uniform(0.5, 2, 12)):
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        volume += weight * np.exp(-squared / (2 * 1.5**2))
    return volume


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return blobs()


# --- class averages ---------------------------------------------------------------------------------------------------


def test_correlation_knows_the_sign_but_neither_scale_nor_offset():
    rng = np.random.default_rng(0)
    image, mask = rng.standard_normal((8, 8)), np.ones((8, 8))
    assert class_quality.masked_correlation(3 * image + 5, image, mask) == pytest.approx(1, abs=1e-12)
    assert class_quality.masked_correlation(-image, image, mask) == pytest.approx(-1, abs=1e-12)
    assert class_quality.masked_correlation(np.ones((8, 8)), image, mask) == 0
    outside = image.copy()
    mask[:, 4:] = 0
    outside[:, 4:] = 100 * rng.standard_normal((8, 4))
    assert class_quality.masked_correlation(outside, image, mask) == pytest.approx(1, abs=1e-12)


def test_a_projection_finds_its_own_view_in_plane_angle_and_shift(volume):
    rotations, shifts = random_rotations(2, np.random.default_rng(1)), np.array([[1.7, -2.3], [0.0, 4.0]])
    source = fourier_volume(volume)
    images = np.stack([class_quality.projection(source, r, s) for r, s in zip(rotations, shifts)])
    found = class_quality.nearest_projections(2 * images + 1, volume, 0.9 * BOX)
    for match, rotation, shift in zip(found, rotations, shifts):
        assert match.correlation > 0.999  # the simplex stops at steps of some thousandths
        assert math.degrees(angular_distance(match.rotation, rotation)) < 1.0
        np.testing.assert_allclose(match.shift, shift, atol=0.1)


def test_an_average_of_noise_or_of_the_wrong_contrast_correlates_less(volume):
    image = class_quality.projection(fourier_volume(volume), IDENTITY, np.zeros(2))
    noise = np.random.default_rng(2).standard_normal(image.shape)
    right, wrong, nothing, empty = class_quality.nearest_projections(
        np.stack([image, -image, noise, np.zeros_like(image)]), volume, 0.9 * BOX
    )
    assert right.correlation > 0.999
    assert wrong.correlation < 0.6 and nothing.correlation < 0.6  # the best of 36,864 orientations at 81 shifts
    assert empty.correlation == 0


def test_a_projection_is_moved_to_where_its_shift_says(volume):
    source = fourier_volume(volume)
    still, moved = (class_quality.projection(source, IDENTITY, np.array(s)) for s in ([0.0, 0.0], [2.0, -1.0]))
    np.testing.assert_allclose(np.roll(still, (-1, 2), (0, 1)), moved, atol=1e-10)  # x is the last axis


def test_views_of_one_cap_have_its_spread_whatever_the_turn_in_the_plane():
    rng = np.random.default_rng(3)
    count, classes = 20_000, 10
    tilt = np.arccos(1 - rng.random(count) * 2 / classes)  # evenly on a cap with a tenth of the sphere
    euler = np.stack([rng.uniform(0, 2 * np.pi, count), tilt, rng.uniform(0, 2 * np.pi, count)], axis=-1)
    spread = class_quality.view_spread(matrix_from_euler(euler))
    assert spread == pytest.approx(
        class_quality.ideal_spread(classes), rel=0.01
    )  # 1/sqrt(20000), and the mean direction
    assert class_quality.view_spread(matrix_from_euler(euler), mirror=True) == pytest.approx(spread, rel=0.01)


def test_mirror_images_spoil_the_spread_only_where_they_count():
    up = matrix_from_euler(np.zeros((50, 3)))
    down = matrix_from_euler(np.tile([0.0, np.pi, 0.3], (50, 1)))
    both = np.concatenate([up, down])
    assert class_quality.view_spread(both, mirror=True) == pytest.approx(0, abs=1e-6)
    assert class_quality.view_spread(both) == pytest.approx(np.pi / 2, abs=1e-6)
    mean, by_class = class_quality.mean_view_spread(both, np.repeat([0, 3], 50))
    assert mean == pytest.approx(0, abs=1e-6) and set(by_class) == {0, 3}


@pytest.mark.parametrize(("mirror", "degrees"), [(False, 90.0), (True, math.degrees(1.0))])
def test_one_class_of_views_from_everywhere_has_the_spread_of_chance(mirror, degrees):
    rotations = random_rotations(20_000, np.random.default_rng(4))
    assert math.degrees(class_quality.ideal_spread(1, mirror=mirror)) == pytest.approx(degrees, abs=1e-9)
    assert math.degrees(class_quality.view_spread(rotations, mirror=mirror)) == pytest.approx(degrees, abs=1.0)


def test_classes_in_use():
    assert class_quality.used_classes([5, 5, 5, 5, 0]) == pytest.approx(4)
    assert class_quality.used_classes([10, 0]) == pytest.approx(1)


# --- poses ------------------------------------------------------------------------------------------------------------


def poses(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return random_rotations(count, rng), 3 * rng.standard_normal((count, 2))


def test_a_turned_and_moved_map_is_no_error_of_its_poses():
    true, shift = poses()
    frame, translation = random_rotations(1, np.random.default_rng(6))[0], np.array([4.0, -2.0, 1.0])
    found = true @ frame.T
    errors = pose_quality.pose_errors(found, true, shift + (found @ translation)[:, :2], shift)
    assert errors.median_angle == pytest.approx(0, abs=1e-5) and errors.median_shift == pytest.approx(0, abs=1e-9)
    assert errors.frame_angle == pytest.approx(math.degrees(angular_distance(frame, IDENTITY)), abs=1e-6)
    assert not errors.mirrored and errors.within == 1


def test_the_errors_are_those_that_were_put_in():
    true, shift = poses(2000)
    rng = np.random.default_rng(7)
    axis = rng.standard_normal((2000, 3))
    turn = matrix_from_axis_angle(axis, np.full(2000, math.radians(3.0)))
    off = 2.0 * np.stack([np.cos(a := rng.uniform(0, 2 * np.pi, 2000)), np.sin(a)], axis=-1)
    errors = pose_quality.pose_errors(turn @ true, true, shift + off, shift)
    assert errors.median_angle == pytest.approx(3.0, abs=0.1)  # the frame is known to 3 / sqrt(2000) degrees
    assert errors.median_shift == pytest.approx(2.0, abs=0.1)


def test_the_mirror_image_has_poses_of_its_own(volume):
    true, shift = poses()
    found = pose_quality.other_hand(true)
    errors = pose_quality.pose_errors(found, true, shift, shift)
    assert errors.mirrored and errors.median_angle == pytest.approx(0, abs=1e-5)
    assert pose_quality.pose_errors(found, true, shift, shift, either_hand=False).median_angle > 20
    source, mirrored = fourier_volume(volume), fourier_volume(map_alignment.mirror(volume))
    for rotation in true[:3]:  # the same image from the other hand
        image = class_quality.projection(source, rotation, np.zeros(2))
        same = class_quality.projection(mirrored, pose_quality.other_hand(rotation), np.zeros(2))
        np.testing.assert_allclose(same, image, atol=0.02 * image.max())  # trilinear interpolation


def test_equivalent_poses_of_a_point_group_are_no_errors():
    group = point_group("D2").operators
    true, shift = poses()
    found = true @ group[np.arange(len(true)) % 4]
    assert pose_quality.pose_errors(found, true, shift, shift, operators=group).median_angle < 1e-5
    assert pose_quality.pose_errors(found, true, shift, shift).median_angle > 20


def test_some_lost_particles_do_not_move_the_frame():
    true, shift = poses(300)
    found = true.copy()
    found[:100] = random_rotations(100, np.random.default_rng(8))
    errors = pose_quality.pose_errors(found, true, shift, shift)
    assert errors.median_angle < 1e-5 and errors.frame_angle < 1e-5
    assert errors.within == pytest.approx(2 / 3, abs=0.02)


# --- maps -------------------------------------------------------------------------------------------------------------


def placement(rotation: np.ndarray, shift: list[float], *, mirrored: bool = False) -> map_alignment.Placement:
    return map_alignment.Placement(rotation, np.array(shift, dtype=float), mirrored, 1.0)


def test_a_map_is_placed_as_it_is_told(volume):
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x to y
    placed = map_alignment.place(volume, placement(quarter, [2, 0, -1]))
    # V'(x, y, z) = V(y, -x, z): along the axes of an array, the index of x becomes that of y
    turned = map_alignment.mirror(np.swapaxes(volume, 1, 2).swapaxes(0, 2)).swapaxes(0, 2)
    expected = np.roll(turned, (-1, 0, 2), (0, 1, 2))
    np.testing.assert_allclose(placed, expected, atol=2e-3 * volume.max())  # the corners of the transform are left out


def test_mirroring_twice_changes_nothing(volume):
    np.testing.assert_array_equal(map_alignment.mirror(map_alignment.mirror(volume)), volume)
    middle = volume.shape[0] // 2
    np.testing.assert_array_equal(map_alignment.mirror(volume)[middle], volume[middle])
    assert map_alignment.mirror(volume)[middle + 3, 4, 5] == volume[middle - 3, 4, 5]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_moved_and_mirrored_map_is_laid_over_the_original(volume, mirrored):
    rotation = random_rotations(1, np.random.default_rng(9))[0]
    moving = map_alignment.place(volume, placement(rotation, [1.5, -2.0, 0.7], mirrored=mirrored))
    found = map_alignment.align_maps(moving, volume, shells=10, radius=13, order=2)
    assert found.mirrored is mirrored
    back = map_alignment.place(moving, found)
    sphere = soft_sphere(BOX, 12, 2)
    assert class_quality.masked_correlation(back * sphere, volume * sphere, np.ones_like(volume)) > 0.995
    assert found.score > 0.97  # interpolation in the score


def test_agreement_of_maps_has_the_hand_and_the_resolution(volume):
    rotation = matrix_from_rotation_vector(np.array([0.2, -0.1, 0.3]))
    noise = np.random.default_rng(10).standard_normal(volume.shape)
    moving = Volume(map_alignment.place(volume, placement(rotation, [1, 0, 0], mirrored=True)), 3.0)
    found = map_quality.agreement(moving, Volume(volume, 3.0), 12.0, [12.0])
    assert found.mirrored and found.fsc[12.0] > 0.97
    noisy = map_quality.agreement(Volume(moving.data + noise * volume.std(), 3.0), Volume(volume, 3.0), 12.0, [12.0])
    assert noisy.mirrored and noisy.fsc[12.0] < found.fsc[12.0]
    unturned = map_quality.placed_agreement(moving, Volume(volume, 3.0), placement(IDENTITY, [0, 0, 0]), 12.0, [12.0])
    assert unturned.fsc[12.0] < 0.5 < noisy.fsc[12.0]


def test_means_of_a_curve_on_either_side_of_a_resolution():
    first, second = np.random.default_rng(11).standard_normal((2, BOX, BOX, BOX))
    curve = map_quality.sphere_correlation(Volume(first, 2.0), Volume(first, 2.0), 10)
    assert map_quality.mean_beyond(curve, 10.0) == pytest.approx(1) == map_quality.mean_up_to(curve, 10.0)
    curve = map_quality.sphere_correlation(Volume(first, 2.0), Volume(-first, 2.0), 10)
    assert map_quality.mean_beyond(curve, 10.0) == pytest.approx(-1)
    curve = map_quality.sphere_correlation(Volume(first, 2.0), Volume(second, 2.0), 10)
    assert abs(map_quality.mean_beyond(curve, 10.0)) < 0.1  # thousands of independent voxels


# --- selections -------------------------------------------------------------------------------------------------------


def particles(index: list[int], paths: tuple[str, ...], code: list[int]) -> Particles:
    group = OpticsGroup(pixel_size=3.0, box=16, voltage=3e5, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    count = len(index)
    return Particles(
        ImageName(np.array(index, dtype=np.int64), np.array(code, dtype=np.int32), paths),
        (group,),
        np.zeros(count, dtype=np.int64),
        ctf=CtfParameters.of(np.full(count, 1e4), np.full(count, 1e4), np.zeros(count)),
        contrast=Contrast.INVERTED,
    )


def test_particles_are_known_by_number_and_stack_whatever_the_folder():
    first = particles([0, 1, 0], ("job/a.mrcs", "job/b.mrcs"), [0, 0, 1])
    second = particles([0, 1], ("elsewhere/b.mrcs", "elsewhere/a.mrcs"), [0, 1])
    assert picks.is_among(first, second).tolist() == [False, True, True]
    assert outputs.rows_of(first, second).tolist() == [2, 1]
    with pytest.raises(KeyError):
        outputs.rows_of(second, first)


def test_recall_is_of_the_good_and_precision_of_the_kept():
    good = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    found = picks.kept(np.array([1, 1, 1, 0, 1, 0], dtype=bool), good)
    assert (found.recall, found.precision, found.count) == (0.75, 0.75, 4)
    found = picks.kept(np.array([1, 0, 0, 0, 0, 0], dtype=bool), good)
    assert (found.recall, found.precision) == (0.25, 1.0)
    assert math.isnan(picks.kept(np.zeros(6, dtype=bool), good).precision)


def test_classes_are_kept_from_the_best_on():
    classes, good = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 0], dtype=bool)
    curve = picks.by_class(classes, [0.1, 0.9, 0.5], good)
    assert [(round(k.recall, 3), round(k.precision, 3)) for k in curve] == [(0.667, 1.0), (1.0, 0.75), (1.0, 0.5)]
    assert picks.precision_at(curve, 0.85) == 0.75 and picks.precision_at(curve, 0.6) == 1.0
    assert math.isnan(picks.precision_at(curve[:1], 0.85))
    np.testing.assert_allclose(picks.share_good(classes, 4, good), [0, 1, 0.5, 0])


def test_particles_are_kept_from_the_best_on():
    curve = picks.by_particle(np.array([0.2, 0.9, 0.5, 0.1]), np.array([1, 1, 0, 0], dtype=bool))
    assert [(k.recall, k.precision, k.count) for k in curve] == [
        (0.5, 1.0, 1),
        (0.5, 0.5, 2),
        (1.0, 2 / 3, 3),
        (1.0, 0.5, 4),
    ]
    assert picks.precision_at(curve, 0.85) == 2 / 3


# --- data and commands ------------------------------------------------------------------------------------------------


def test_the_subunit_fits_its_disc_and_is_brighter_than_the_ice():
    atoms = sets.small_subunit()
    assert len(atoms.element) == 62_393 and all(str(name).startswith("S") for name in np.unique(atoms.chain))
    volume = sets.subunit_map(32)
    inside = soft_sphere(32, sets.DIAMETER / 2 / volume.pixel_size, 0) > 0
    assert (volume.data[inside] ** 2).sum() > 0.99 * (volume.data**2).sum()
    assert volume.data[inside].mean() > 0


TASK = commands.Task("p.star", 5.0, 280.0, 10)


def options(command: list[str]) -> dict[str, str]:
    """The value of each option that has one."""
    pairs = zip(command, [*command[1:], "--"])
    return {word: value for word, value in pairs if word.startswith("--") and not value.startswith("--")}


def test_both_programs_are_given_the_same_sampling():
    program = Program("x", "/bin/x", "1")
    theirs, ours = (
        options(make(program, TASK, 10, Path("out"))) for make in (commands.relion_2d, commands.vitreous_2d)
    )
    fine = 2 ** int(theirs["--oversampling"])
    assert float(theirs["--psi_step"]) / fine == float(ours["--psi-step"])
    assert float(theirs["--offset_step"]) / fine * 5.0 == float(ours["--shift-step"])
    assert float(theirs["--offset_range"]) * 5.0 == float(ours["--shift-range"])
    assert (theirs["--iter"], theirs["--K"]) == (ours["--iterations"], ours["--classes"])
    theirs, ours = (
        options(make(program, TASK, "r.mrc", Path("out"), start=50.0))
        for make in (commands.relion_3d, commands.vitreous_3d)
    )
    assert int(theirs["--healpix_order"]) + int(theirs["--oversampling"]) == int(ours["--finest-order"])
    assert (theirs["--iter"], theirs["--tau2_fudge"]) == (ours["--iterations"], ours["--tau-fudge"])
    assert theirs["--ini_high"] == ours["--start-resolution"] and theirs["--particle_diameter"] == ours["--diameter"]


def test_vitreous_takes_the_options_it_is_given():
    from vitreous.jobs.classify2d import Classify2D
    from vitreous.jobs.refine3d import Refine

    program = Program("x", "/bin/x", "1")
    given = options(commands.vitreous_2d(program, TASK, 10, Path("out")))
    given |= options(commands.vitreous_3d(program, TASK, "r.mrc", Path("out"), start=50.0))
    given |= options(commands.vitreous_refine(program, TASK, "r.mrc", Path("out"), symmetry="D2", start=40.0))
    known = set(Classify2D.__dataclass_fields__) | set(Refine.__dataclass_fields__) | {"out"}
    assert {name.removeprefix("--").replace("-", "_") for name in given} <= known


def test_what_an_earlier_run_has_cost_is_kept(tmp_path):
    assert outputs.earlier_cost(tmp_path) is None
    keep_cost(tmp_path, Cost("RELION", [Run(1.0, 2.0, 3)]))
    found = outputs.earlier_cost(tmp_path)
    assert found is not None and found[0].name == "RELION" and found[0].runs == [Run(1.0, 2.0, 3)]


def test_the_last_iteration_of_relion_and_its_half_maps(tmp_path):
    assert outputs.last_iteration(tmp_path) == 0
    for number, iteration in enumerate((0, 1, 2)):
        for name in ("data.star", "half1_class001.mrc", "half2_class001.mrc"):
            path = tmp_path / f"run_it{iteration:03d}_{name}"
            path.touch()
            os.utime(path, (1000 + 30 * number, 1000 + 30 * number))
    assert outputs.last_iteration(tmp_path) == 2 and outputs.iteration_seconds(tmp_path) == [30.0, 30.0]
    stopped = outputs.earlier_cost(tmp_path)
    assert stopped is not None and stopped[0].median("wall_seconds") == 60.0 and stopped[1] == "2 iterations"
    assert [p.name for p in outputs.relion_half_maps(tmp_path)] == [
        "run_it002_half1_class001.mrc",
        "run_it002_half2_class001.mrc",
    ]
    for half in (1, 2):
        (tmp_path / f"run_half{half}_class001_unfil.mrc").touch()
    assert [p.name for p in outputs.relion_half_maps(tmp_path)] == [f"run_half{h}_class001_unfil.mrc" for h in (1, 2)]


# --- timing and targets -----------------------------------------------------------------------------------------------


def session(folder: Path, **options: object) -> Session:
    given = {"data": folder, "relion_iterations": None, "reuse_relion": False, "repeats": 2, "threads": 1} | options
    python = Program("python", sys.executable, "3")
    return Session(argparse.Namespace(**given), python, python)


def cost(name: str, wall: float) -> Cost:
    return Cost(name, [Run(wall, 2 * wall, 1)])


@pytest.mark.parametrize(("theirs", "met"), [(19.9, False), (20.0, True)])
def test_a_speed_target_is_met_from_its_ratio_on(tmp_path, theirs, met):
    judged = session(tmp_path)
    judged.speed_target("x", cost("ours", 1.0), cost("RELION", theirs), 20)
    judged.speed_target("x", cost("ours", 1.0), None, 20)
    assert [target.met for target in judged.targets] == [met, None]


def test_times_of_different_runs_are_not_held_against_a_target(tmp_path):
    judged = session(tmp_path, reuse_relion=True)
    judged.speed_target("x", cost("ours", 1.0), cost("RELION", 99.0), 20)
    assert judged.targets[0].met is None and "not in one run" in judged.targets[0].row[2]


def test_quality_must_be_no_worse(tmp_path):
    judged = session(tmp_path)
    judged.compare_target("x", 0.9, 0.8, at_least, "{:.1f}")
    judged.compare_target("x", 0.9, 0.8, at_most, "{:.1f}")
    judged.compare_target("x", 0.9, None, at_most, "{:.1f}")
    assert [target.met for target in judged.targets] == [True, False, None]


def test_fewer_iterations_are_those_of_both_programs(tmp_path):
    assert session(tmp_path).iterations(10) == 10
    assert session(tmp_path, relion_iterations=3).iterations(10) == 3
    assert session(tmp_path, relion_iterations=30).iterations(10) == 10


def test_an_interrupted_run_is_not_gone_on_with(tmp_path):
    (left := tmp_path / "runs" / ".v.0a1b.partial").mkdir(parents=True)
    (other := tmp_path / "runs" / ".w.0a1b.partial").mkdir()
    assert session(tmp_path).folder("v") == tmp_path / "runs" / "v"
    assert not left.exists() and other.exists()


def test_the_peer_runs_once_between_ours_and_its_cost_is_kept(tmp_path):
    timed, peer = session(tmp_path), tmp_path / "relion"
    peer.mkdir()
    (log := tmp_path / "log").touch()
    commands_ = [[sys.executable, "-c", f"open({str(log)!r}, 'a').write({letter!r})"] for letter in "vr"]
    ours, theirs = timed.time(tmp_path, commands_[0], commands_[1], peer)
    assert log.read_text() == "vvrv"  # the first to warm up
    assert len(ours.runs) == 2 and theirs is not None and len(theirs.runs) == 1
    timed.options.reuse_relion = True
    again = timed.time(tmp_path, commands_[0], commands_[1], peer)[1]
    assert again is not None and again.runs == theirs.runs and log.read_text() == "vvrv" + "vvv"


def test_start_up_has_no_part_in_what_a_further_particle_costs():
    runs = [Run(10 + 0.01 * count, 0.0, 100) for count in (1000, 5000, 20_000)]
    longer, larger = simulated_parts.scaling_targets([1000, 5000, 20_000], runs)
    assert longer.met and longer.reached == "1.00 times" and larger.met
    runs[-1] = Run(2 * runs[-1].wall_seconds, 0.0, 200)
    assert [target.met for target in simulated_parts.scaling_targets([1000, 5000, 20_000], runs)] == [False, False]
