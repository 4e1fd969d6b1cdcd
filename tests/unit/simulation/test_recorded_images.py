"""Noise, counts, contrast and CTF state of images that were made without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.detection.detectors import detector
from vitreous.errors import DataProblem
from vitreous.fourier.shells import power_spectrum
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.simulation.images import Projector, simulate_images
from vitreous.simulation.noise import Noise
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.simulation.recorded_images import ParticleImages, Recording, bright_and_raw, finished_images

BOX, PIXEL_SIZE, COUNT = 32, 2.0, 70  # more than one chunk


def particles_of(contrast=Contrast.INVERTED, state=CtfState.RAW) -> Particles:
    group = OpticsGroup(
        pixel_size=PIXEL_SIZE,
        box=BOX,
        voltage=300e3,
        spherical_aberration=2.7e7,
        amplitude_contrast=0.1,
        ctf_state=state,
        wiener_snr=0.5 if state is CtfState.WIENER else None,
    )
    return draw_particles(ParticleDistribution(group, (3e3, 8e3), shift=2.0, contrast=contrast, seed=5), COUNT)


@pytest.fixture(scope="module")
def projector():
    rng = np.random.default_rng(1)
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    data = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 4) for a, b, c in rng.uniform(-5, 5, (6, 3)))
    return Projector(Volume(data.astype(np.float32), PIXEL_SIZE))


def all_of(images) -> np.ndarray:
    return np.concatenate(list(images))


@pytest.mark.parametrize("contrast", [Contrast.INVERTED, Contrast.RAW])
@pytest.mark.parametrize("state", list(CtfState))
def test_agrees_with_images_that_were_made_in_one_go(projector, contrast, state):
    """Noise, contrast and CTF state, applied to plain images, against `simulate_images`, which does all in Fourier space.

    The noise does not know the contrast: added to the bright image, it turns over with it.
    """
    particles = particles_of(contrast, state)
    plain = list(simulate_images(projector, bright_and_raw(particles)))
    noiseless = all_of(finished_images(plain, particles, None))
    assert np.abs(noiseless - all_of(simulate_images(projector, particles))).max() < 1e-5 * np.abs(noiseless).max()
    noise = Noise(0.5, seed=3)
    noisy = all_of(finished_images(plain, particles, noise))
    sign = 1 if contrast is Contrast.INVERTED else -1
    expected = all_of(simulate_images(projector, replace(particles, contrast=Contrast.INVERTED), noise))
    np.testing.assert_allclose(noisy, sign * expected, atol=2e-5 * np.abs(expected).max())


def counts_of(projector, name: str, electrons: float, contrast=Contrast.INVERTED):
    """Images of the projector as counts; the particle takes up to half of the beam away."""
    particles = particles_of(contrast)
    recording = Recording(detector(name, 300e3), electrons, seed=9)
    signal = all_of(simulate_images(projector, bright_and_raw(particles)))
    scale = 0.5 * recording.empty / np.abs(signal).max()
    images = ParticleImages(projector.times(scale), None, recording)
    return all_of(images.written(particles)), scale * signal, recording


def test_counts_are_those_of_a_perfect_detector(projector):
    """The variance of a pixel is its mean: E - signal. The mean over 71,680 pixels is known to 5 sqrt(20 / 71680)."""
    images, signal, recording = counts_of(projector, "ideal", 20.0)
    counts = recording.empty - images
    assert recording.empty == 20.0 and counts.min() >= 0
    assert (images - signal).mean() == pytest.approx(0, abs=5 * np.sqrt(20 / images.size))
    mean = recording.empty - signal
    noise = (counts - mean) / np.sqrt(mean)
    assert noise.var() == pytest.approx(1, abs=0.05)  # the signal is blurred by the pixel's MTF, which changes little
    gain = (images * signal).sum() / (signal**2).sum()
    error = np.sqrt(20 / (signal**2).sum())
    assert 0.7 < gain < 1 + 5 * error  # positive: bright stays bright; a little is lost to the MTF


def test_raw_contrast_is_the_negative_of_the_same_counts(projector):
    bright, _, _ = counts_of(projector, "ideal", 20.0)
    dark, _, _ = counts_of(projector, "ideal", 20.0, Contrast.RAW)
    assert np.array_equal(bright, -dark)


def test_a_detector_leaves_its_mark(projector):
    """Falcon 4: signal weakened by the MTF, noise coloured by the NTF, both in the same images."""
    images, signal, recording = counts_of(projector, "falcon4", 400.0)
    assert recording.empty == pytest.approx(recording.detector.dqe_at_zero * 400.0)
    noise = power_spectrum(images - images.mean(axis=0), 2).mean(axis=0)
    frequency = np.arange(len(noise)) / BOX
    expected = recording.detector.ntf(frequency) ** 2
    ratio = (noise / expected)[12:16] / (noise / expected)[14]
    assert ratio == pytest.approx(np.ones(4), abs=0.15)  # 70 images of about 80 Fourier pixels a shell
    assert expected[15] < 0.5 < signal.max()


def test_electrons_of_an_image_do_not_depend_on_the_others(projector):
    particles = particles_of()
    recording = Recording(detector("ideal"), 3.0, seed=1)
    images = ParticleImages(projector.times(0.01), None, recording)
    whole = all_of(images.written(particles))
    part = all_of(images.written(particles.rows(slice(40, 45))))
    assert np.array_equal(whole[40:45], part)
    assert not np.array_equal(whole[40:45], whole[:5])


def test_impossible_intensities_are_refused(projector):
    images = ParticleImages(projector.times(1e3), None, Recording(detector("ideal"), 3.0))
    with pytest.raises(DataProblem, match=r"cannot be recorded.*--solvent displaced"):
        all_of(images.written(particles_of()))
