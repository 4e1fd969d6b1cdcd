"""Evidence from images that had no part in the map: positive for the particle, never for noise, whatever the map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.alignment.held_out import HeldOutEvidence, held_out_evidence
from vitreous.alignment.refine3d import refine3d
from vitreous.alignment.refinement import RefineSettings
from vitreous.engine.workers import LocalWorkers
from vitreous.model.particles import LoadedImages

COUNT = 160
SETTINGS = RefineSettings(
    diameter=96.0, order=1, finest_order=2, iterations=1, finest=20.0, shift_range=16.0, shift_step=4.0
)


@pytest.fixture(scope="module")
def particles(blob_particles):
    return replace(blob_particles.rows(slice(0, COUNT)), pose=None)


@pytest.fixture(scope="module")
def state(particles, blob_map):
    """After one iteration from the true map at 40 angstrom."""
    scaled = np.asarray(blob_map, dtype=np.float32)
    return refine3d(particles, scaled[None], SETTINGS, workers=LocalWorkers(1))


def evidence(particles, state) -> HeldOutEvidence:
    return held_out_evidence(particles, state, SETTINGS, workers=LocalWorkers(1))


def test_images_of_the_particle_are_explained_by_the_other_halfs_map(particles, state):
    found = evidence(particles, state)
    assert found.count == COUNT and found.shows_signal
    assert found.mean > 10 * found.error
    dark = replace(particles, images=LoadedImages(-particles.images.pixels))
    assert evidence(dark, state).mean < 0.5 * found.mean  # images of the opposite sign are not


def test_noise_is_explained_by_no_map(particles, state):
    """E[ln Z] <= 0 for noise: here against a good map of another particle's images, in which it had no part."""
    pixels = particles.images.pixels
    noise = np.random.default_rng(5).normal(0, pixels.std(), pixels.shape).astype(np.float32)
    found = evidence(replace(particles, images=LoadedImages(noise)), state)
    assert not found.shows_signal
    assert found.mean < 2 * found.error


def test_the_same_images_in_either_order_and_one_or_two_workers(particles, state):
    first = evidence(particles, state)
    again = held_out_evidence(particles, state, SETTINGS, workers=LocalWorkers(2))
    assert first == again


def test_a_mean_within_its_error_is_no_signal():
    assert HeldOutEvidence(1.0, 0.3, 600).shows_signal
    assert not HeldOutEvidence(1.0, 0.4, 600).shows_signal
    assert not HeldOutEvidence(-5.0, 0.1, 600).shows_signal
