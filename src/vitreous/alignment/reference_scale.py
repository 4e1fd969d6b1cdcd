"""The factor that brings a map from elsewhere to the scale of the images, before any pose is known.

Averaged over all orientations the power of a projection is that of the map in the shell of the same frequency: slices through every direction fill
the shell. So, whatever the poses,

    mean |X(k)|^2 = a^2 C^2(k) P(k) + N(k)

with X the images inside a disc around the particle, C their CTFs, P the shell mean of |F_map|^2, and N the noise in the disc, which is measured in what the
disc leaves out. a^2 follows by least squares over the rings, each weighted by how well its power is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.conventions import Contrast
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.shells import power_spectrum, shell_mean
from vitreous.fourier.transforms import forward, frequencies
from vitreous.model.particles import Particles
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.direct_inversion import MASK_EDGE, check_pixels

if TYPE_CHECKING:
    from jaxtyping import Float

IMAGES = 600  # enough for a few per cent in the ratio of powers; read in well under a second
AT_A_TIME = 100
LEAST_RINGS = 3


@dataclass(frozen=True)
class ReferenceScale:
    """`scale` a, to multiply the map by, never below what its error allows; `sigma` its standard deviation; `seen`: whether the power that the images have in
    the disc stands out from noise (3 standard deviations).
    """

    scale: float
    sigma: float
    seen: bool


def reference_scale(
    particles: Particles,
    volume: Float[np.ndarray, "z y x"],
    *,
    radius: float,
    coarsest: float,
    finest: float,
    use_ctf: bool = True,
    contrast: Contrast = Contrast.INVERTED,
) -> ReferenceScale:
    """The scale of a map on the grid of the images.

    `radius` in pixels of the disc and the sphere around the particle, `coarsest` and `finest` resolution in angstrom of the rings compared (at least
    three). At most 600 images, evenly spread over the file, are read.
    """
    rows = np.unique(np.linspace(0, len(particles) - 1, min(IMAGES, len(particles))).round().astype(int))
    box, pixel_size = volume.shape[-1], particles.pixel_size
    first = max(1, int(np.ceil(box * pixel_size / coarsest)))
    last = min(box // 2 - 1, max(first + LEAST_RINGS - 1, int(box * pixel_size / finest)))
    rings = slice(first, last + 1)
    power = shell_power(volume, radius)[rings]
    excess, expected = [], []
    for start in range(0, len(rows), AT_A_TIME):
        part = particles.rows(rows[start : start + AT_A_TIME])
        excess.append(excess_power(part, radius)[:, rings])
        expected.append(transfer_power(part, box, use_ctf, contrast)[:, rings] * power)
    return _fit(np.concatenate(excess), np.concatenate(expected))


def shell_power(volume: Float[np.ndarray, "z y x"], radius: float) -> Float[np.ndarray, " s"]:
    """Mean |F|^2 of each shell over the pixels of an image, inside a soft sphere of `radius` voxels, solvent taken out."""
    sphere = soft_sphere(volume.shape[-1], radius, MASK_EDGE, dtype=np.float32)
    outside = 1 - sphere
    solvent = float((volume * outside).sum(dtype=np.float64) / max(float(outside.sum(dtype=np.float64)), 1e-9))
    transform = forward((np.asarray(volume, dtype=np.float32) - np.float32(solvent)) * sphere, 3)
    return shell_mean(transform.real**2 + transform.imag**2, volume.shape) / volume.shape[-1] ** 2


def excess_power(particles: Particles, radius: float) -> Float[np.ndarray, "n s"]:
    """Power spectrum of each image inside the disc, less that of as much noise as lies outside of it."""
    assert particles.images is not None
    pixels = particles.images.read(slice(None))
    check_pixels(pixels, particles)
    disc = _disc(pixels.shape[-1], radius)
    outside = 1 - disc
    background = (pixels * outside).sum(axis=(1, 2)) / outside.sum()
    pixels = pixels - background[:, None, None]
    within, without = power_spectrum(pixels * disc, 2), power_spectrum(pixels * outside, 2)
    return within - without * (float((disc**2).sum()) / float((outside**2).sum()))


def transfer_power(
    particles: Particles, box: int, use_ctf: bool, contrast: Contrast = Contrast.INVERTED
) -> Float[np.ndarray, "n s"]:
    """Mean square CTF of each ring and image; 1 where the images are to be taken as projections."""
    count = box // 2 + 1
    if not use_ctf or particles.ctf is None:
        return np.ones((len(particles), count))
    kx, ky = frequencies((box, box), particles.pixel_size)
    result = np.empty((len(particles), count))
    for index in np.unique(particles.optics_index):
        own = np.flatnonzero(particles.optics_index == index)
        group = particles.optics[index]
        transfer = ctf_of_particles(group, particles.ctf.rows(own), kx, ky, contrast=contrast, dtype=np.float32)
        result[own] = shell_mean(np.asarray(transfer) ** 2, (box, box))
    return result


def _disc(box: int, radius: float) -> np.ndarray:
    place = np.arange(box) - box // 2
    ramp = np.clip((np.hypot(place[:, None], place) - radius) / MASK_EDGE, 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * ramp)).astype(np.float32)


def _fit(excess: Float[np.ndarray, "n r"], expected: Float[np.ndarray, "n r"]) -> ReferenceScale:
    """Weighted least squares of the mean excess on the mean expectation of all rings."""
    mean, model = excess.mean(axis=0), expected.mean(axis=0)
    variance = excess.var(axis=0) / max(1, len(excess) - 1)
    weight = 1 / np.maximum(variance, 1e-12 * max(float(variance.max()), np.finfo(np.float64).tiny))
    norm = float((weight * model**2).sum())
    if not norm > 0:
        return ReferenceScale(1.0, np.inf, False)
    square, error = float((weight * model * mean).sum()) / norm, norm**-0.5
    scale = max(square, error) ** 0.5
    return ReferenceScale(scale, error / (2 * scale), square > 3 * error)
