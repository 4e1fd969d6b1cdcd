"""The noise of particle images, as it is around the particles: known before anything is known of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vitreous.engine.chunks import chunk_size, chunks
from vitreous.errors import DataProblem
from vitreous.fourier.shells import shell_index
from vitreous.fourier.transforms import forward
from vitreous.heterogeneity.consensus import NOISE_IMAGES, filled
from vitreous.model.particles import Particles

FALL = 3.0  # pixels over which the window rises around the disc
LEAST_AREA = 0.05  # of the box, that must lie outside of the disc


@dataclass(frozen=True)
class BackgroundNoise:
    """`sigma` [g, s]: the noise of each optics group, `sqrt E|F|^2` of whole transforms in each shell, NaN for a group without particles.
    `signal`: the standard deviation of the pixels inside the disc that the noise does not explain."""

    sigma: np.ndarray
    signal: float


def background_noise(particles: Particles, radius: float) -> BackgroundNoise:
    """Measured outside of a disc of `radius` pixels, in up to NOISE_IMAGES evenly spaced images of each group.

    The power of an image times a window w, less its mean there, divided by the mean of w^2: an estimate of the power of the whole image's noise,
    blurred over the few pixels that the window's transform is wide. Raises DataProblem where too little lies outside.
    """
    assert particles.images is not None
    box = particles.images.shape[-1]
    line = np.arange(box) - box // 2
    distance = np.hypot(line[:, None], line)
    window = np.clip((distance - radius) / FALL, 0, 1)
    area = float(np.mean(window**2))
    if area < LEAST_AREA:
        raise DataProblem(
            f"a particle of {2 * radius:.0f} px in images of {box} px, around which there is no room to measure the noise",
            f"a disc that leaves {LEAST_AREA:.0%} of the image free",
            "give a smaller --diameter, or extract larger boxes",
        )
    shell = shell_index((box, box)).ravel()
    last = box // 2
    sigma, inside, outside = np.full((len(particles.optics), last + 1), np.nan), [], []
    for group in np.unique(particles.optics_index):
        members = np.flatnonzero(particles.optics_index == group)
        power, seen = np.zeros(shell.max() + 1), 0
        for rows in chunks(members[:: max(1, len(members) // NOISE_IMAGES)], chunk_size(box)):
            images = particles.images.read(rows).astype(np.float64)
            mean = (images * window).sum(axis=(1, 2), keepdims=True) / window.sum()
            transforms = forward((images - mean) * window, 2)
            whole = (np.abs(transforms) ** 2).sum(axis=0).ravel()
            power += np.bincount(shell, weights=whole)
            seen += len(rows)
            inside.append(((images - mean) ** 2)[:, distance < radius].mean(axis=1))
            outside.append(((images - mean) ** 2)[:, window == 1].mean(axis=1))
        spectrum = power / np.bincount(shell) / seen / area
        sigma[group] = filled(np.sqrt(spectrum[: last + 1]), np.arange(last + 1) > 0)
    extra = float(np.mean(np.concatenate(inside)) - np.mean(np.concatenate(outside)))
    least = 0.01 * float(np.mean(np.concatenate(outside)))
    return BackgroundNoise(sigma, math.sqrt(max(extra, least)))
