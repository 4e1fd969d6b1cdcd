"""Pure noise aligned to a map: the map comes back (Einstein from noise), and what says that it is none.

Henderson 2013, doi:10.1073/pnas.1314449110. Noise that was turned to look like a reference adds up to the reference, in both half sets alike: their
correlation is high as far as the reference went, and says nothing. Beyond it the halves have nothing in common, and neither half's map explains the images of the
other (`alignment.held_out`). The same particles with signal in them are the control.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, blobs, particles_of
from threadpoolctl import threadpool_limits

from vitreous.alignment.held_out import held_out_evidence
from vitreous.alignment.refine3d import refine3d
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.engine.workers import LocalWorkers
from vitreous.fourier.filters import soft_sphere
from vitreous.geometry.rotations import random_rotations
from vitreous.geometry.symmetry import point_group
from vitreous.model.particles import LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.fsc import fourier_shell_correlation

pytestmark = pytest.mark.slow

BOX, COUNT, RADIUS = 32, 400, 11.0
START = 40.0
# The low-pass of the start ends softly within a shell of 3.2 (40 angstrom in a box of 128): shell 4 has a quarter of the amplitude; the
# sphere and the interpolation blur by another shell.
KNOWN, BEYOND = slice(1, 5), slice(7, 11)
SETTINGS = RefineSettings(
    iterations=3, diameter=104.0, start_resolution=START, order=2, finest_order=3, shift_range=8.0, finest=12.0, seed=1
)
ONE = LocalWorkers(1)
OBJECT = blobs(np.random.default_rng(5))


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def images_of(signal: float) -> Particles:
    """Noise of variance 1, and projections of the object of that variance."""
    rng = np.random.default_rng(3)
    origin = rng.uniform(-1, 1, (COUNT, 2))
    projections = OBJECT.images(random_rotations(COUNT, rng), origin, BOX)
    particles, _ = particles_of(projections, snr=None, rng=rng)
    seen = particles.images.read(slice(None))
    seen *= np.sqrt(signal / seen.var(axis=(1, 2)).mean())
    pixels = seen + rng.normal(size=seen.shape)
    halves = (np.arange(COUNT) % 2 + 1).astype(np.int8)
    return replace(particles, images=LoadedImages(pixels.astype(np.float32)), half_set=halves)


def reference(signal: float = 0.2) -> np.ndarray:
    """The object on the scale of the images that have this signal."""
    rng = np.random.default_rng(4)
    seen, _ = particles_of(OBJECT.images(random_rotations(COUNT, rng), np.zeros((COUNT, 2)), BOX), snr=None, rng=rng)
    return OBJECT.density(BOX)[None] * np.sqrt(signal / seen.images.read(slice(None)).var(axis=(1, 2)).mean())


def agreement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    sphere = soft_sphere(BOX, RADIUS, 4.0, dtype=np.float32)
    return fourier_shell_correlation(one * sphere, other * sphere, PIXEL_SIZE).correlation


@pytest.fixture(scope="module")
def noise() -> Particles:
    return images_of(0.0)


@pytest.fixture(scope="module")
def aligned(noise) -> Refinement:
    return refine3d(noise, reference(), SETTINGS, workers=ONE)


@pytest.fixture(scope="module")
def control() -> tuple[Particles, Refinement]:
    particles = images_of(0.2)
    return particles, refine3d(particles, reference(), SETTINGS, workers=ONE)


def test_the_danger_is_real(noise, aligned):
    """Averages of noise look like the reference because they were aligned to it: in random orientations they do not."""
    density = OBJECT.density(BOX)
    found = agreement(aligned.half_maps[:, 0].mean(axis=0), density)[KNOWN].mean()
    at_random = []
    for seed in range(3):
        euler = np.random.default_rng(seed).uniform(-np.pi, np.pi, (COUNT, 3))
        posed = replace(noise, pose=Pose(euler, noise.pose.shift))
        both = reconstruct(
            posed, InversionSettings(point_group("C1").operators, mask_radius=RADIUS), workers=ONE
        ).half_maps
        at_random.append(agreement((both[0] + both[1]) / 2, density)[KNOWN].mean())
    assert found > 0.35
    assert found > max(at_random) + 0.15


def test_half_maps_agree_as_far_as_the_reference_went_and_no_further(aligned, control):
    """The correlation of the halves shows the reference that both began with, and nothing that came from the images."""
    curve = aligned.fsc[0]
    assert curve[KNOWN].min() > 0.5  # the danger again: gold standard halves do not help below the start
    # some 400 voxels, half of them inside the sphere
    assert np.abs(curve[BEYOND]).mean() < 0.3 and curve[BEYOND].mean() < 0.25
    assert control[1].fsc[0][BEYOND].mean() > curve[BEYOND].mean() + 0.2


def test_nothing_of_the_reference_appears_beyond_what_was_shown(aligned, control):
    """The maps of noise correlate with the object only where it was in the start; those of particles beyond it."""
    density = OBJECT.density(BOX)
    beyond = [agreement(state.half_maps[:, 0].mean(axis=0), density)[BEYOND].mean() for state in (aligned, control[1])]
    assert abs(beyond[0]) < 0.2
    assert beyond[1] > 0.5


def test_images_that_were_held_out_tell(noise, aligned, control):
    """ln of a likelihood ratio whose mean is 1 for noise, whatever the map: below 0 for noise, far above for particles."""
    evidence = held_out_evidence(noise, aligned, SETTINGS, workers=ONE)
    assert not evidence.shows_signal
    assert evidence.mean < 0
    particles, state = control
    of_particles = held_out_evidence(particles, state, SETTINGS, workers=ONE)
    assert of_particles.shows_signal
    assert of_particles.mean > 2


def test_alignment_forgets_the_reference(noise, aligned):
    """What was shown fades from iteration to iteration: each map is a worse likeness."""
    density = OBJECT.density(BOX)
    first = refine3d(noise, reference(), replace(SETTINGS, iterations=1), workers=ONE)
    likeness = [agreement(state.half_maps[:, 0].mean(axis=0), density)[KNOWN].mean() for state in (first, aligned)]
    assert likeness[1] < likeness[0]
    assert aligned.steps[-1].log_likelihood < 0  # noise alone explains the images better than any map
