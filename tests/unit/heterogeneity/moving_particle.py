"""A small particle with a part that turns, and images of it of which everything is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.fourier.transforms import translate
from vitreous.geometry.rotations import euler_from_matrix, random_rotations
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.projection import half_plane, project, slice_grid
from vitreous.reconstruction.slicing import sliced

PIXEL_SIZE = 6.0
STATES = 16
BODY = np.array([[0, 0, 0], [-4, 3, 1], [-5, -3, 2], [-2, -4, -4], [-3, 2, -4]], float) / 16  # of half a box
ARM = np.array([[5, 0, 0], [8, 1, 1], [10, 0, -1]], float) / 16


def density(position: float, box: int) -> np.ndarray:
    """The particle [z, y, x] with its arm turned about z by -0.6 to 0.6 rad for positions from -1 to 1."""
    angle = 0.6 * position
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    centres = np.concatenate([BODY, ARM @ turn.T]) * box / 2
    line = np.arange(box) - box // 2
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    total = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * (box / 20) ** 2)) for a, b, c in centres)
    return np.asarray(total, np.float32)


@dataclass(frozen=True)
class MovingParticles:
    """Particles, the position of each one's arm in [-1, 1], and the maps of the STATES positions."""

    particles: Particles
    position: np.ndarray
    maps: np.ndarray
    positions: np.ndarray


def moving_particles(
    count: int, box: int = 24, snr: float = 0.5, seed: int = 0, still: bool = False
) -> MovingParticles:
    """Images with CTF, shifts and white noise; half sets alternate. `still` particles all have the arm in the middle."""
    rng = np.random.default_rng(seed)
    positions = np.linspace(-1, 1, STATES)
    maps = np.stack([density(0.0 if still else position, box) for position in positions])
    state = rng.integers(0, STATES, count)
    rotation = random_rotations(count, rng)
    grid = slice_grid(box)
    group = OpticsGroup("one", PIXEL_SIZE, box, 300e3, 2.7e7, 0.1)
    defocus = rng.uniform(8e3, 16e3, count)
    ctf = CtfParameters.of(defocus, defocus - 200, rng.uniform(0, np.pi, count))
    per_box = 1 / (box * PIXEL_SIZE)
    transfer = ctf_of_particles(group, ctf, grid.kx * per_box, grid.ky * per_box)
    slices = np.zeros((count, len(grid)), np.complex64)
    for number, volume in enumerate(maps):
        rows = np.flatnonzero(state == number)
        slices[rows] = project(sliced(volume), rotation[rows].astype(np.float32), grid)
    images = np.fft.fftshift(np.fft.irfft2(half_plane(slices * transfer, grid), s=(box, box)), axes=(1, 2))
    shift = rng.normal(0, PIXEL_SIZE, (count, 2))
    images = translate(images, -shift, PIXEL_SIZE)
    images = images + rng.normal(0, np.sqrt(images.var(axis=(1, 2)).mean() / snr), images.shape)
    particles = Particles(
        ImageName(np.arange(count), np.zeros(count, np.int32), ("moving.mrcs",)),
        (group,),
        np.zeros(count, int),
        Pose(euler_from_matrix(rotation), shift),
        ctf,
        (np.arange(count) % 2 + 1).astype(np.int8),
        images=LoadedImages(images.astype(np.float32)),
    )
    return MovingParticles(particles, positions[state], maps, positions)
