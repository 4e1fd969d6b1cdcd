"""A lopsided particle in the plane with one part that slides, and images of it of which everything is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.projection import half_plane, slice_grid

PIXEL_SIZE = 5.0
BODY = np.array(
    [[0, 0], [-2.2, 0], [-4.4, 0], [-6.6, 0], [0, 3], [-1, 5]], float
)  # pixels: a long arm and a short one, unlike at every turn
SLIDE = 3.0  # pixels to each side


@dataclass(frozen=True)
class SlidingParticles:
    """`psi` [n] radian, `origin` [n, 2] pixels, the `slide` [n] in [-1, 1] of the part that moves."""

    particles: Particles
    psi: np.ndarray
    origin: np.ndarray
    slide: np.ndarray


def particle(slide: float, psi: float, origin: np.ndarray, box: int) -> np.ndarray:
    """The image [y, x]: a body of blobs, and one that slides along a line beside it."""
    centres = np.concatenate([BODY, [[3.5, -1.5 + SLIDE * slide]]])
    turn = np.array([[np.cos(psi), np.sin(psi)], [-np.sin(psi), np.cos(psi)]])
    places = centres @ turn.T - origin + box // 2
    y, x = np.indices((box, box))
    heights = (1.0, 1.0, 1.0, 1.0, 0.9, 0.9, 1.2)
    return sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 1.3**2)) for h, (a, b) in zip(heights, places))


def sliding_particles(count: int, box: int = 24, snr: float = 1.0, seed: int = 0) -> SlidingParticles:
    """Images with CTF and white noise whose power, within the middle half of the box, is that of the signal divided by `snr`."""
    rng = np.random.default_rng(seed)
    psi, slide = rng.uniform(-np.pi, np.pi, count), rng.uniform(-1, 1, count)
    origin = rng.uniform(-1.5, 1.5, (count, 2))
    clean = np.stack([particle(*each, box) for each in zip(slide, psi, origin)])
    group = OpticsGroup("one", PIXEL_SIZE, box, 300e3, 2.7e7, 0.1)
    defocus = rng.uniform(8e3, 16e3, count)
    ctf = CtfParameters.of(defocus, defocus - 200, rng.uniform(0, np.pi, count))
    grid, per_box = slice_grid(box), 1 / (box * PIXEL_SIZE)
    transfer = ctf_of_particles(group, ctf, grid.kx * per_box, grid.ky * per_box)
    values = np.fft.rfft2(clean)[:, grid.row, grid.column] * transfer
    images = np.fft.irfft2(half_plane(values, grid), s=(box, box))
    quarter = slice(box // 4, -(box // 4))
    images = images + rng.normal(0, np.sqrt(images[:, quarter, quarter].var() / snr), images.shape)
    particles = Particles(
        ImageName(np.arange(count), np.zeros(count, np.int32), ("sliding.mrcs",)),
        (group,),
        np.zeros(count, int),
        None,
        ctf,
        images=LoadedImages(images.astype(np.float32)),
    )
    return SlidingParticles(particles, psi, origin, slide)
