"""Refinement of simulated particles from a wrong start: poses and maps against the truth, determinism, resumption, two structures, faults."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, Blobs, blobs, particles_of
from threadpoolctl import threadpool_limits

from vitreous.alignment.refine3d import Task, cropped, last_shell, micrographs_of, refine3d
from vitreous.alignment.refinement import Refinement, RefineSettings, RefineStep
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.geometry.rotations import angular_distance, matrix_from_euler, random_rotations
from vitreous.geometry.symmetry import point_group
from vitreous.model.particles import LoadedImages, Particles
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.reconstruction.projection import fourier_volume

BOX, COUNT = 32, 240
GROUP = point_group("D2")
SETTINGS = RefineSettings(
    symmetry="D2",
    iterations=4,
    diameter=104.0,
    start_resolution=32.0,
    order=2,
    finest_order=4,
    shift_range=8.0,
    shift_step=4.0,
    finest=11.0,
    seed=2,
)
ONE = LocalWorkers(1)


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def the_object(seed: int = 5) -> Blobs:
    return blobs(np.random.default_rng(seed), 5, operators=GROUP.operators)


def simulated(snr: float = 0.2) -> tuple[Particles, np.ndarray, np.ndarray]:
    """Particles with half sets, their rotations and origins (pixels)."""
    rng = np.random.default_rng(6)
    rotation, origin = random_rotations(COUNT, rng), rng.uniform(-1.2, 1.2, (COUNT, 2))
    particles, _ = particles_of(the_object().images(rotation, origin, BOX), snr=snr, rng=rng)
    return replace(particles, half_set=(np.arange(COUNT) % 2 + 1).astype(np.int8)), rotation, origin


@pytest.fixture(scope="module")
def particles() -> Particles:
    return simulated()[0]


def wrong_start() -> np.ndarray:
    """The object with one blob in four moved, on another scale of sharpness; refinement sees it at 32 angstrom."""
    thing = the_object()
    place = thing.place.copy()
    place[::5] *= 0.6
    return replace(thing, place=place, width=2.0).density(BOX)[None] * (1.5 / 2.0) ** 3


@pytest.fixture(scope="module")
def states(particles) -> list[Refinement]:
    found: list[Refinement] = []
    result = refine3d(particles, wrong_start(), SETTINGS, workers=ONE, on_iteration=found.append)
    assert result is found[-1]
    return found


def same(one, other) -> bool:
    """Whether two states are the same to the last bit, but for the time they took."""
    if isinstance(one, RefineStep):
        return same(
            tuple(replace(one, seconds=0.0).__dict__.values()), tuple(replace(other, seconds=0.0).__dict__.values())
        )
    if is_dataclass(one):
        return all(same(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f")


def pose_errors(state: Refinement, rotation: np.ndarray) -> np.ndarray:
    """Degrees to the nearest equivalent of the truth."""
    found = matrix_from_euler(state.assignment.pose.euler)
    return np.rad2deg(angular_distance(GROUP.equivalents(rotation), found[:, None]).min(axis=1))


def fsc_with_truth(volume: np.ndarray) -> np.ndarray:
    sphere = soft_sphere(BOX, 11.0, 4.0, dtype=np.float32)
    return fourier_shell_correlation(volume * sphere, the_object().density(BOX) * sphere, PIXEL_SIZE).correlation


def test_poses_reach_the_truth(states):
    """SNR 0.2, seen by waves of 11 angstrom or more at a radius of 28: a wave is 22 degrees; and the wrong signs do not."""
    _, rotation, origin = simulated()
    away = pose_errors(states[-1], rotation)
    assert np.median(away) < 9.0
    assert (away < 12.0).mean() > 0.8
    assert np.median(pose_errors(states[-1], rotation.swapaxes(1, 2))) > 15
    shift = states[-1].assignment.pose.shift / PIXEL_SIZE
    right = away < 12.0
    assert np.sqrt(((shift - origin)[right] ** 2).mean()) < 0.6
    assert np.sqrt(((shift + origin)[right] ** 2).mean()) > 1.0


def test_maps_reach_the_truth(states):
    final = states[-1]
    start = fsc_with_truth(wrong_start()[0])
    both = fsc_with_truth(final.half_maps[:, 0].mean(axis=0))
    assert both[:9].min() > 0.8  # to 14 angstrom
    assert both[4:9].mean() > start[4:9].mean() + 0.05
    for half in (0, 1):
        curve = fsc_with_truth(final.half_maps[half, 0])
        assert curve[:8].min() > 0.6
        assert fsc_with_truth(final.half_maps[half, 0, ::-1])[5:8].mean() < 0.6  # the other hand, a voxel off
    assert not np.array_equal(final.half_maps[0], final.half_maps[1])


def test_the_reported_correlation_is_that_of_the_half_maps(states):
    final = states[-1]
    task = Task.of(simulated()[0], SETTINGS)
    sphere = soft_sphere(BOX, task.radius, 3.0, dtype=np.float32)
    curve = fourier_shell_correlation(final.half_maps[0, 0] * sphere, final.half_maps[1, 0] * sphere, PIXEL_SIZE)
    np.testing.assert_allclose(final.fsc[0][:10], curve.correlation[:10], atol=0.03)  # of the edge of the sphere
    # Half maps of half the particles are no better than what they agree on says: sqrt(2 F / (1 + F)) is the correlation of their mean with the truth.
    expected = np.sqrt(2 * final.fsc[0][2:8] / (1 + final.fsc[0][2:8]))
    found = fsc_with_truth(final.half_maps[:, 0].mean(axis=0))[2:8]
    assert (found > expected - 0.15).all()


def test_steps_tell_what_was_done(states):
    steps = states[-1].steps
    assert len(steps) == SETTINGS.iterations == states[-1].iteration
    assert steps[-1].resolution < steps[0].resolution or steps[0].resolution <= 12.0
    assert steps[-1].log_likelihood > steps[0].log_likelihood
    assert steps[-1].band <= steps[0].band <= SETTINGS.start_resolution * 1.01
    assert all(step.order <= SETTINGS.finest_order for step in steps)
    assert np.isnan(steps[0].angle_change) and steps[-1].angle_change < np.deg2rad(20)


def test_a_seed_gives_the_same_bits(particles, states):
    again = refine3d(particles, wrong_start(), replace(SETTINGS, iterations=1), workers=ONE)
    twice = refine3d(particles, wrong_start(), replace(SETTINGS, iterations=1), workers=ONE)
    assert same(again, twice)
    other = refine3d(particles, wrong_start(), replace(SETTINGS, iterations=1, seed=3), workers=ONE)
    assert not np.array_equal(other.half_maps, again.half_maps)


def test_resumed_is_unbroken(particles, states):
    resumed = refine3d(particles, wrong_start(), SETTINGS, state=states[1], workers=ONE)
    assert same(resumed, states[-1])


def test_workers_do_not_change_the_bits(particles, states, monkeypatch):
    monkeypatch.setattr("vitreous.alignment.refine3d.CHUNK", (50, 50))
    two = replace(SETTINGS, iterations=1)
    found = [refine3d(particles, wrong_start(), two, workers=LocalWorkers(count)) for count in (1, 2)]
    assert same(*found)


def test_half_sets_are_those_of_the_file(particles, states):
    np.testing.assert_array_equal(states[-1].half_set, particles.half_set)
    drawn = Task.of(replace(particles, half_set=None), SETTINGS).half
    assert np.bincount(drawn).tolist() == [COUNT // 2, COUNT // 2]
    assert not np.array_equal(drawn, Task.of(replace(particles, half_set=None), replace(SETTINGS, seed=9)).half)


@pytest.mark.slow
def test_two_structures_are_told_apart():
    """Half of the particles are of another object; both references are the mean of the two but for a little."""
    rng = np.random.default_rng(8)
    things = [the_object(5), the_object(9)]
    kind = np.arange(COUNT) // 2 % 2
    rotation, origin = random_rotations(COUNT, rng), rng.uniform(-1, 1, (COUNT, 2))
    signal = np.concatenate([things[k].images(rotation[i : i + 1], origin[i : i + 1], BOX) for i, k in enumerate(kind)])
    particles, _ = particles_of(signal, snr=0.3, rng=rng)
    particles = replace(particles, half_set=(np.arange(COUNT) % 2 + 1).astype(np.int8))
    maps = np.stack([thing.density(BOX) for thing in things])
    blend = np.stack([0.6 * maps[0] + 0.4 * maps[1], 0.4 * maps[0] + 0.6 * maps[1]])
    settings = replace(SETTINGS, classes=2, iterations=5, half_sets=False, finest=14.0, finest_order=3)
    final = refine3d(particles, blend, settings, workers=ONE)
    assert (final.assignment.class_index == kind).mean() > 0.9
    np.testing.assert_allclose(final.population, 0.5, atol=0.08)
    np.testing.assert_array_equal(final.references[0], final.references[1])  # one map of all
    sphere = soft_sphere(BOX, 11.0, 4.0, dtype=np.float32)
    for k in (0, 1):
        curves = [
            fourier_shell_correlation(final.references[0, k], m * sphere, PIXEL_SIZE).correlation[2:7].mean()
            for m in maps
        ]
        assert curves[k] > 0.8 and curves[k] > curves[1 - k] + 0.1


def test_images_that_break_are_named(particles):
    pixels = particles.images.read(slice(None)).copy()
    pixels[5] = 2.0
    with pytest.raises(DataProblem, match=r"image 6@p\.mrcs is constant"):
        refine3d(replace(particles, images=LoadedImages(pixels)), wrong_start(), SETTINGS, workers=ONE)
    pixels[5, 3, 3] = np.nan
    with pytest.raises(DataProblem, match=r"p\.mrcs"):
        refine3d(replace(particles, images=LoadedImages(pixels)), wrong_start(), SETTINGS, workers=ONE)


def test_numbers_that_break_on_the_way_name_the_particle(particles, states):
    references = states[0].references.copy()
    references[1, 0, 16, 16, 16] = np.nan  # of the second half: its first particle is number 2
    with pytest.raises(DataProblem, match=r"the likelihood of image 2@p\.mrcs is not a finite number"):
        refine3d(particles, wrong_start(), SETTINGS, state=replace(states[0], references=references), workers=ONE)


def test_what_cannot_be_refined(particles):
    with pytest.raises(DataProblem, match="references of shape"):
        refine3d(particles, wrong_start()[:, :30, :30, :30], SETTINGS)
    with pytest.raises(DataProblem, match="references of shape"):
        refine3d(particles, wrong_start(), replace(SETTINGS, classes=2))
    with pytest.raises(SettingsProblem, match="a mask of"):
        refine3d(particles, wrong_start(), replace(SETTINGS, diameter=300.0))
    with pytest.raises(DataProblem, match="1 particles for 1 maps"):
        refine3d(particles.rows(slice(0, 1)), wrong_start(), SETTINGS)
    with pytest.raises(DataProblem, match="one half set only"):
        refine3d(replace(particles, half_set=np.ones(COUNT, dtype=np.int8)), wrong_start(), SETTINGS)
    with pytest.raises(DataProblem, match="without images"):
        refine3d(replace(particles, images=None), wrong_start(), SETTINGS)
    with pytest.raises(SettingsProblem, match="iterations"):
        RefineSettings(iterations=0)
    with pytest.raises(SettingsProblem, match="classes"):
        RefineSettings(classes=0)


def test_the_last_shell_is_the_one_before_the_correlation_is_gone():
    assert last_shell(np.array([1.0, 0.9, 0.5, 0.1, 0.9])) == 2
    assert last_shell(np.array([1.0, 0.1, 0.9])) == 0
    assert last_shell(np.ones(5)) == 4


def test_micrographs_are_told_by_name_or_stack(particles):
    assert micrographs_of(particles).tolist() == [0] * COUNT
    names = replace(particles.names, path_code=(np.arange(COUNT) % 3).astype(np.int32), paths=("a", "b", "c"))
    np.testing.assert_array_equal(micrographs_of(replace(particles, names=names)), np.arange(COUNT) % 3)


def test_cropping_keeps_what_is_read():
    volume = fourier_volume(wrong_start()[0])
    small = cropped(volume, 5)
    assert small.data.shape == (25, 25, 13)
    assert cropped(volume, 99).data.shape == volume.data.shape
