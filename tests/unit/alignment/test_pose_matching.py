"""Poses of particles without noise: they come back to within the grid, in RELION's angles and origins, in every symmetry."""

from __future__ import annotations

import functools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, Blobs, blobs, particles_of
from threadpoolctl import threadpool_limits

from vitreous.alignment.map_sums import MapSums
from vitreous.alignment.pose_matching import PoseMatching, PoseSearch
from vitreous.alignment.refine3d import Task
from vitreous.alignment.refinement import RefineSettings
from vitreous.engine.workers import LocalWorkers
from vitreous.fourier.filters import soft_sphere
from vitreous.geometry.orientation_grid import mean_spacing_deg
from vitreous.geometry.rotations import (
    angular_distance,
    euler_from_matrix,
    matrix_from_rotation_vector,
    random_rotations,
)
from vitreous.geometry.symmetry import point_group
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import MASK_EDGE

BOX, COUNT = 32, 40
TURN = np.eye(3)
ONE = LocalWorkers(1)
# Noise that is assumed though there is none: that of clear particles. With much less the posterior is sharper than the cells of the first pass.
ASSUMED_SNR = 0.05


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def setup(
    name: str, *, order: int = 2, local: bool = False, file_origin: bool = False, classes: int = 1
) -> tuple[PoseMatching, np.ndarray, np.ndarray, list[Blobs], np.ndarray]:
    """Matching with true maps; true rotations, origins (pixels), objects and classes."""
    group = point_group(name)
    rng = np.random.default_rng(7)
    objects = [blobs(rng, max(5, 9 // group.order), operators=group.operators) for _ in range(classes)]
    kind = np.arange(COUNT) % classes
    rotation, origin = random_rotations(COUNT, rng), rng.uniform(-1.5, 1.5, (COUNT, 2))
    known = np.round(rng.uniform(-2, 2, (COUNT, 2))) if file_origin else np.zeros((COUNT, 2))
    origin = origin + known
    signal = np.concatenate(
        [objects[k].images(rotation[i : i + 1], origin[i : i + 1], BOX) for i, k in enumerate(kind)]
    )
    particles, _ = particles_of(signal, snr=None, rng=rng, origin=known)
    particles = replace(particles, half_set=(np.arange(COUNT) // 2 % 2 + 1).astype(np.int8))
    settings = RefineSettings(symmetry=name, classes=classes, diameter=104.0)
    task = Task.of(particles, settings)
    maps = np.stack([thing.density(BOX) for thing in objects]) * soft_sphere(
        BOX, task.radius, MASK_EDGE, dtype=np.float32
    )
    state = task.start(maps, ONE)
    variance = particles.images.read(slice(None)).var(axis=(1, 2)).mean() / ASSUMED_SNR * BOX**2
    state = replace(state, references=np.stack([maps, maps]), noise=np.full_like(state.noise, variance))
    state = replace(state, assignment=replace(state.assignment, norm=np.ones(COUNT)))
    rings = {2: (6, 9, 13), 3: (9, 13)}[order]
    search = PoseSearch(order, 4, 3.0, 2.0, 0.25, 3.0, rings, local, TURN, group)
    return task.matching(state, task.grid(13), search), rotation, origin, objects, kind


@functools.cache
def standard(name: str) -> tuple[PoseMatching, np.ndarray, np.ndarray, MapSums]:
    """The matching of one symmetry, the truth, and what was found."""
    matching, rotation, origin, _, _ = setup(name)
    return matching, rotation, origin, matched(matching)


def matched(matching: PoseMatching) -> MapSums:
    halves = [matching(np.flatnonzero(matching.half == half)) for half in (0, 1)]
    return halves[0] + halves[1]


def z(a: float) -> np.ndarray:
    return np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])


def y(b: float) -> np.ndarray:
    return np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])


def errors(found: np.ndarray, truth: np.ndarray, name: str) -> np.ndarray:
    """Angle in degrees to the nearest of the equivalent orientations."""
    mates = point_group(name).equivalents(truth)
    return np.rad2deg(angular_distance(mates, found[:, None]).min(axis=1))


@pytest.mark.parametrize("name", ["C1", "C3", "D2"])
def test_poses_come_back_to_within_the_grid(name):
    _, rotation, origin, sums = standard(name)
    order = np.argsort(sums.rows)
    euler, shift = sums.assignment.pose.euler[order], sums.assignment.pose.shift[order] / PIXEL_SIZE
    # R = Rz(psi) Ry(tilt) Rz(rot), written out.
    found = np.stack([z(psi) @ y(tilt) @ z(rot) for rot, tilt, psi in euler])
    away = errors(found, rotation, name)
    # Half a diagonal of a cell of 3.7 degrees, and for some the cell next to it.
    assert np.median(away) < 0.87 * mean_spacing_deg(4)
    assert (away < 2 * mean_spacing_deg(4)).mean() > 0.85
    right = away < 2 * mean_spacing_deg(4)
    assert np.abs(shift - origin)[right].max() < 0.8  # steps of half a pixel
    assert np.median(np.abs(shift - origin)) < 0.3
    # Every sign turned round.
    assert np.median(errors(found.swapaxes(1, 2), rotation, name)) > 20
    assert np.median(errors(np.stack([z(-psi) @ y(tilt) @ z(rot) for rot, tilt, psi in euler]), rotation, name)) > 15
    assert np.median(errors(np.stack([z(psi) @ y(-tilt) @ z(rot) for rot, tilt, psi in euler]), rotation, name)) > 15
    assert np.median(np.abs(shift + origin)) > 0.5
    assert np.median(np.abs(shift[:, ::-1] - origin)) > 0.5


def test_origins_of_the_file_are_where_the_search_begins():
    matching, _rotation, origin, _, _ = setup("C1", file_origin=True)
    sums = matched(matching)
    order = np.argsort(sums.rows)
    shift = sums.assignment.pose.shift[order] / PIXEL_SIZE
    assert np.median(np.abs(shift - origin)) < 0.3
    assert np.median(np.abs(shift - matching.home)) > 0.5


def test_a_small_turn_of_the_grid_is_taken_out_again():
    matching, rotation, _, _, _ = setup("C1")
    turn = z(0.02) @ y(0.03) @ z(-0.05)
    sums = matched(replace(matching, search=replace(matching.search, turn=turn)))
    order = np.argsort(sums.rows)
    found = np.stack([z(p) @ y(t) @ z(r) for r, t, p in sums.assignment.pose.euler[order]])
    assert np.median(errors(found, rotation, "C1")) < 0.87 * mean_spacing_deg(4)


@pytest.mark.parametrize("name", ["C1", "D2"])
def test_local_searches_find_the_pose_beside(name):
    """From poses some degrees and half a pixel away."""
    matching, rotation, origin, _, _ = setup(name, order=3, local=True)
    rng = np.random.default_rng(3)
    axis = rng.normal(size=(COUNT, 3))
    axis *= np.deg2rad(6.0) / np.linalg.norm(axis, axis=1, keepdims=True)
    beside = matrix_from_rotation_vector(axis) @ rotation
    pose = Pose(euler_from_matrix(beside), (origin + rng.uniform(-0.5, 0.5, origin.shape)) * PIXEL_SIZE)
    matching = replace(matching, assignment=replace(matching.assignment, pose=pose))
    sums = matched(matching)
    order = np.argsort(sums.rows)
    found = np.stack([z(p) @ y(t) @ z(r) for r, t, p in sums.assignment.pose.euler[order]])
    away = errors(found, rotation, name)
    assert np.median(away) < 0.87 * mean_spacing_deg(4) < 6.0
    assert (away < 2 * mean_spacing_deg(4)).mean() > 0.9
    assert np.median(np.abs(sums.assignment.pose.shift[order] / PIXEL_SIZE - origin)) < 0.3


def test_particles_go_to_their_own_map():
    matching, _, _, _, kind = setup("C1", classes=2)
    sums = matched(matching)
    order = np.argsort(sums.rows)
    assert (sums.assignment.class_index[order] == kind).mean() > 0.95
    np.testing.assert_allclose(sums.mass.sum(axis=1), COUNT / 2, atol=1e-3)  # each particle counts once, in its half
    assert set(sums.volumes) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_half_set_goes_into_its_own_sums():
    matching = standard("C1")[0]
    rows = np.flatnonzero(matching.half == 1)
    sums = matching(rows)
    assert set(sums.volumes) == {(1, 0)}
    assert sums.mass[0].sum() == 0 and not sums.noise[0].count.any() and sums.noise[1].count.sum() == len(rows)
    np.testing.assert_array_equal(sums.rows, rows)


def test_the_inserted_slices_are_the_particles():
    """Every particle puts its weight into the sums once, for each operator of the group once more."""
    matching = standard("C1")[0]
    rows = np.flatnonzero(matching.half == 0)[:8]
    one = matching(rows)
    twice = replace(matching, operators=np.stack([np.eye(3), np.diag([-1.0, -1.0, 1.0])]))(rows)
    weight = [sums.volumes[0, 0][..., 2].sum(dtype=np.float64) for sums in (one, twice)]
    # Half of the transform is stored; the plane x = 0 is in both halves.
    np.testing.assert_allclose(weight[1], 2 * weight[0], rtol=1e-3)


def test_noise_is_what_the_poses_leave():
    """Without noise in the images next to nothing is left: of the power of the images, sampled with steps of 3.7 degrees."""
    sums = standard("C1")[3]
    for half in (0, 1):
        noise = sums.noise[half]
        left = noise.power - 2 * noise.cross + noise.model
        assert 0 < left.sum() < 0.2 * noise.power.sum()
    without = sums.noise[0].power + 2 * sums.noise[0].cross + sums.noise[0].model
    assert without.sum() > 2 * sums.noise[0].power.sum()


def test_tables_are_not_sent_to_other_processes():
    matching = standard("C1")[0]
    rows = np.flatnonzero(matching.half == 0)[:6]
    first = matching(rows)
    assert matching.coarse_tables
    copy = pickle.loads(pickle.dumps(matching))
    assert not copy.coarse_tables
    np.testing.assert_array_equal(copy(rows).assignment.pose.euler, first.assignment.pose.euler)
