"""What one half set may know of the other: nothing but what is named here.

Shared are (a) the maps up to `JOINED` angstrom, (b) the Fourier shell correlation of the half maps and the mean weight of each shell, which set
the regularisation and the band, (c) the steps
of the search, from the mean movement of all particles, (d) the contrast of each micrograph relative to the others, (e) the spectrum and the norms before the first
iteration, which are those of all images. With these held still the images of one half set change nothing at all of the other, to the last bit.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, blobs, particles_of
from threadpoolctl import threadpool_limits

from vitreous.alignment import map_averages
from vitreous.alignment.map_averages import JOINED, regularised
from vitreous.alignment.refine3d import Task, refine3d
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.engine.workers import LocalWorkers
from vitreous.fourier.transforms import forward
from vitreous.geometry.rotations import random_rotations
from vitreous.model.particles import LoadedImages, Particles

BOX, COUNT = 32, 120
ONE = LocalWorkers(1)
SETTINGS = RefineSettings(
    iterations=3, diameter=104.0, start_resolution=30.0, order=1, finest_order=3, shift_range=8.0, finest=14.0, seed=1
)
OBJECT = blobs(np.random.default_rng(5))


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def simulated() -> Particles:
    rng = np.random.default_rng(2)
    signal = OBJECT.images(random_rotations(COUNT, rng), rng.uniform(-1, 1, (COUNT, 2)), BOX)
    particles, _ = particles_of(signal, snr=0.2, rng=rng)
    names = replace(particles.names, path_code=(np.arange(COUNT) // 30).astype(np.int32), paths=("a", "b", "c", "d"))
    return replace(particles, names=names, half_set=(np.arange(COUNT) % 2 + 1).astype(np.int8))


@pytest.fixture(scope="module")
def particles() -> Particles:
    return simulated()


def with_other_images(particles: Particles, half: int) -> Particles:
    """The images of one half set replaced by noise of the same variance, turned upside down in order."""
    pixels = particles.images.read(slice(None)).copy()
    rows = particles.half_set == half
    rng = np.random.default_rng(3)
    pixels[rows] = 0.5 * pixels[rows][::-1] + rng.normal(0, pixels.std(), pixels[rows].shape)
    return replace(particles, images=LoadedImages(pixels.astype(np.float32)))


@pytest.fixture(scope="module")
def begun(particles) -> Refinement:
    """A refinement that has gone through two iterations."""
    task = Task.of(particles, SETTINGS)
    state = task.start(OBJECT.density(BOX)[None], ONE)
    for _ in range(2):
        state = task.iterate(state, ONE, lambda done, total: None)
    return state


def held_still(monkeypatch, state: Refinement) -> None:
    """(a) no joining, (b) one curve, (c) one account of each step, (d) one contrast."""
    monkeypatch.setattr(map_averages, "JOINED", -1.0)  # not even shell 0

    class Curve:
        correlation = np.clip(np.linspace(1.2, -0.2, BOX // 2 + 1), 0, 1)

    def solved_alone(halves):
        return SimpleNamespace(half_maps=[regularised(half, np.full(BOX // 2 + 1, 0.1)) for half in halves])

    monkeypatch.setattr(map_averages, "fourier_shell_correlation", lambda *_: Curve)
    monkeypatch.setattr(map_averages, "solve", solved_alone)
    monkeypatch.setattr(Task, "step", lambda *_: replace(state.steps[-1], seconds=0.0))
    monkeypatch.setattr(Task, "scale", lambda *_: state.scale)


def of_half(state: Refinement, half: int) -> list[np.ndarray]:
    """Everything that is one half set's."""
    rows = state.half_set == half
    part = state.assignment.rows(rows)
    columns = [part.pose.euler, part.pose.shift, part.probability, part.entropy, part.log_evidence, part.norm]
    return [state.half_maps[half - 1], state.references[half - 1], state.noise[half - 1], *columns]


@pytest.mark.parametrize("changed", [1, 2])
def test_images_of_one_half_change_no_bit_of_the_other(particles, begun, monkeypatch, changed):
    """Three iterations, from the state of two."""
    held_still(monkeypatch, begun)
    settings = replace(SETTINGS, iterations=5)
    start = replace(begun, iteration=2, converged=False)
    one = refine3d(particles, begun.references[0], settings, state=start, workers=ONE)
    other = refine3d(with_other_images(particles, changed), begun.references[0], settings, state=start, workers=ONE)
    for before, after in zip(of_half(one, 3 - changed), of_half(other, 3 - changed)):
        np.testing.assert_array_equal(before, after)
    assert all(not np.array_equal(a, b) for a, b in zip(of_half(one, changed)[:5], of_half(other, changed)[:5]))


def test_what_is_found_of_one_half_in_an_iteration_is_its_own(particles, begun):
    """Nothing held still: poses, noise and inserted slices of half 1 are the same bits whatever the images of half 2 are."""
    states, sums = [], []
    for images in (particles, with_other_images(particles, 2)):
        task = Task.of(images, replace(SETTINGS, iterations=9))
        compared = task.compared_ring(begun)
        matching = task.matching(begun, task.grid(compared + 2), task.search(begun, compared))
        sums.append(ONE.sum_over(matching, task.pieces()))
        states.append(task.iterate(begun, ONE, lambda done, total: None))
    np.testing.assert_array_equal(*(found.volumes[0, 0] for found in sums))
    assert not np.array_equal(*(found.volumes[1, 0] for found in sums))
    np.testing.assert_array_equal(*(state.noise[0] for state in states))
    rows = begun.half_set == 1
    for name in ("euler", "shift"):
        np.testing.assert_array_equal(*(getattr(state.assignment.pose, name)[rows] for state in states))
    # And what is shared: the curve, and with it the reference.
    assert not np.array_equal(*(state.fsc for state in states))
    assert not np.array_equal(*(state.references[0] for state in states))


def test_low_resolution_is_all_that_passes_from_map_to_map(particles, begun, monkeypatch):
    """With one curve, and a sphere that cuts nothing, the reference of half 1 changes in the joined shells only."""
    monkeypatch.setattr(map_averages, "noise_to_signal", lambda curve: np.full(BOX // 2 + 1, 0.1))
    monkeypatch.setattr(map_averages, "soft_sphere", lambda *_, **__: np.ones((BOX,) * 3, dtype=np.float32))
    task = Task.of(particles, SETTINGS)
    states = [
        Task.of(images, SETTINGS).iterate(begun, ONE, lambda done, total: None)
        for images in (particles, with_other_images(particles, 2))
    ]
    change = np.abs(forward(states[0].references[0, 0], 3) - forward(states[1].references[0, 0], 3))
    kz, ky, kx = np.meshgrid(*[np.fft.fftfreq(BOX, 1 / BOX)] * 2, np.arange(BOX // 2 + 1), indexing="ij")
    shell = np.rint(np.sqrt(kx**2 + ky**2 + kz**2))
    joined = shell <= BOX * PIXEL_SIZE / JOINED
    size = np.abs(forward(states[0].references[0, 0], 3)).max()
    assert change[joined].max() > 1e-2 * size
    assert change[~joined].max() < 1e-5 * size  # single precision
    assert joined.sum() < 0.02 * joined.size and task.width / JOINED < 4
