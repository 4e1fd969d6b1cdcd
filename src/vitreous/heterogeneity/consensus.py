"""The map of all particles together, and the noise that their images have beside it: where every landscape starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.local import Progress, silent
from vitreous.heterogeneity.particle_slices import SliceReader
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import MASK_EDGE, InversionSettings, reconstruct
from vitreous.reconstruction.projection import slice_grid, values_at
from vitreous.reconstruction.slicing import sliced

# Images whose residuals give the noise: 2,000 of them know the variance of a ring of 100 pixels to 0.2 %.
NOISE_IMAGES = 2000


@dataclass(frozen=True)
class Consensus:
    """`map` and `half_maps` [z, y, x] of all particles; `sigma` [g, s]: the noise of the images of each optics group, `sqrt E|F|^2` in each shell."""

    map: np.ndarray
    half_maps: tuple[np.ndarray, np.ndarray]
    sigma: np.ndarray


def consensus(particles: Particles, settings: InversionSettings, progress: Progress = silent) -> Consensus:
    """Reconstruct all particles (with half sets), and measure what their images hold besides.

    The noise is the mean of `|F - CTF x slice|^2` over the pixels of a shell and up to NOISE_IMAGES evenly spaced particles of a group. What
    varies between particles is part of it: little, as images are mostly noise. A mask keeps a fraction f of an image's pixels, so that its Fourier
    pixels are not independent: sigma^2 is divided by f, which gives the image the weight of the pixels it has.
    """
    result = reconstruct(particles, settings, progress)
    sigma = noise(particles, settings, result.map)
    return Consensus(result.map, result.half_maps, sigma)


def noise(particles: Particles, settings: InversionSettings, volume: np.ndarray) -> np.ndarray:
    """sigma [g, s] of the images beside the slices of one map; NaN for groups without particles."""
    box = volume.shape[0]
    grid = slice_grid(box)
    shells, volume_transform = int(grid.shell.max()) + 1, sliced(volume)
    reader = SliceReader(particles, settings, grid)
    sigma = np.full((len(particles.optics), shells), np.nan)
    for group in np.unique(particles.optics_index):
        members = np.flatnonzero(particles.optics_index == group)
        power, seen = np.zeros(len(grid)), np.zeros(len(grid))
        for rows in chunks(members[:: max(1, len(members) // NOISE_IMAGES)], chunk_size(box)):
            slices = reader.read(rows)
            expected = slices.transfer * values_at(volume_transform, slices.points(grid))
            known = slices.transfer != 0  # 0 where a factor could not be taken out of the images
            power += (np.abs(slices.values - expected) ** 2 * known).sum(axis=0)
            seen += known.sum(axis=0)
        total, count = (np.bincount(grid.shell, weights=part, minlength=shells) for part in (power, seen))
        sigma[group] = filled(np.sqrt(total / np.maximum(count, 1)), count > 0)
    return sigma / math.sqrt(kept_fraction(settings, box))


def kept_fraction(settings: InversionSettings, box: int) -> float:
    """The fraction of an image's pixels that the mask keeps."""
    if settings.mask_radius is None:
        return 1.0
    return min(1.0, math.pi * (settings.mask_radius + MASK_EDGE / 2) ** 2 / box**2)


def filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`values` with those that are not known, or 0, taken from the nearest that are."""
    good = np.flatnonzero(known & (values > 0))
    if len(good) == 0:
        return np.ones_like(values)
    nearest = good[np.abs(np.arange(len(values))[:, None] - good[None, :]).argmin(axis=1)]
    return values[nearest]


def whitened_reader(
    particles: Particles, settings: InversionSettings, sigma: np.ndarray, radius: float | None = None
) -> SliceReader:
    """A reader of slices in units of their noise, at the pixels within `radius` cycles per box (default: all)."""
    box = int(particles.images.shape[-1])  # type: ignore[union-attr]
    return SliceReader(particles, settings, slice_grid(box, radius), sigma)
