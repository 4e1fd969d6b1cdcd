"""Measurements of simulated detectors, as a facility makes them of its cameras: flat fields and the image of an edge."""

from __future__ import annotations

import math

import numpy as np

from vitreous.detection import detectors, measurement, recording

SEED = 3
ELECTRONS = 4.0  # per pixel of a flat field
FLATS, SIZE = 40, 256
SLOPE, SOFTNESS = 0.0928, 0.35  # of the edge: its slant, and its own blur in pixels, so that it has no aliases
RING = 16  # terms of the spectrum in one ring


def dqe_errors(name: str, voltage: float) -> tuple[float, float]:
    """Largest relative errors of the noise spectrum against NTF^2, and of the DQE that was measured, over frequencies."""
    camera, rng = detectors.detector(name, voltage), np.random.default_rng(SEED)
    # a part of the signal goes hundreds of pixels far in the K2: a narrow image of the edge would lose it
    image = recording.record(edge((256, 4096 if name == "k2" else 1024)), 1e8, camera, rng)
    width = image.shape[1]
    image = image[40:-40, width // 4 : -width // 4]
    flats = np.stack([recording.record(np.ones((SIZE, SIZE)), ELECTRONS, camera, rng) for _ in range(FLATS)])

    frequency, power = measurement.noise_power(flats)
    own_blur = np.exp(-2 * (math.pi * SOFTNESS * frequency) ** 2)
    mtf = measurement.mtf_of_edge(image, frequency) / own_blur
    # rings, because neither curve is smooth within one: what is compared has been averaged alike
    measured = measurement.dqe_of_measurements(
        np.sqrt(ring_means(mtf**2)),
        ring_means(power),
        mean_counts=float(flats.mean()),
        electrons_per_pixel=ELECTRONS,
    )
    white = camera.gain**2 * ELECTRONS / camera.dqe_at_zero
    noise = ring_means(power) / (white * ring_means(camera.ntf(frequency) ** 2))
    return float(np.abs(noise - 1).max()), float(np.abs(measured / ring_means(camera.dqe(frequency)) - 1).max())


def ring_means(values: np.ndarray) -> np.ndarray:
    """Means over rings of terms of the spectrum, without the innermost; a term counts as often as it is there."""
    terms = np.arange(len(values))
    rings = [slice(start, start + RING) for start in range(RING, SIZE // 2, RING)]
    return np.array([np.average(values[ring], weights=terms[ring]) for ring in rings])


def edge(shape: tuple[int, int]) -> np.ndarray:
    """A slanted edge, from 0.5 to 1.5."""
    from scipy.special import ndtr

    y, x = np.arange(shape[0]) - shape[0] // 2, np.arange(shape[1]) - shape[1] // 2
    return 0.5 + ndtr((x - SLOPE * y[:, None]) / np.hypot(1, SLOPE) / SOFTNESS)


def flat_field_excess() -> float:
    """Variance over mean of a flat field of the ideal detector, less 1, in standard errors."""
    rng = np.random.default_rng(SEED)
    flat = recording.record(np.ones((512, 512)), ELECTRONS, detectors.detector("ideal"), rng)
    # standard error of var/mean of n Poisson numbers: sqrt(2/n) to order 1/mean
    return abs(float(flat.var() / flat.mean()) - 1) / math.sqrt(2 / flat.size)
