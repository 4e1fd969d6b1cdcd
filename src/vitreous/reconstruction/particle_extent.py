"""The size of a particle, measured on a trial map of a few images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.mask import automatic_mask
from vitreous.reconstruction.resampling import at_most

# Enough for a map at 20 to 30 A, where a particle's outline is plain; few enough to take well under a second.
TRIAL_PARTICLES = 600
TRIAL_BOX = 64
# The largest disc that leaves pixels beyond it to measure the background on.
LARGEST = 0.45
# A mask's outline lies where a map blurred to d angstrom falls to about a quarter of its density. The edge of such a map is an error
# function of standard deviation d / 5, which falls to a quarter 0.67 standard deviations beyond the true edge.
OVERSHOOT = 0.67 / 5


def particle_radius(particles: Particles, settings: InversionSettings) -> float | None:
    """Radius in pixels, about the box centre, of the particle in a trial map; None if it fills the box.

    The trial takes evenly spaced rows of both half sets and whole images. The radius is that of the farthest voxel of the automatic mask,
    before growing, less what the mask's low-pass filter adds.
    """
    assert particles.half_set is not None and particles.images is not None
    chosen = [np.flatnonzero(particles.half_set == half) for half in (1, 2)]
    rows = np.sort(np.concatenate([r[:: max(1, 2 * len(r) // TRIAL_PARTICLES)] for r in chosen]))
    few = at_most(particles.rows(rows), TRIAL_BOX)
    trial = reconstruct(few, replace(settings, mask_radius=None))
    outline = map_radius(trial.map, few.pixel_size)
    radius = 0.0 if outline is None else outline / particles.pixel_size
    return radius if 0 < radius < LARGEST * particles.images.shape[-1] else None


def map_radius(volume: np.ndarray, pixel_size: float) -> float | None:
    """Radius in angstrom, about the box centre, of the particle in a map; None if nothing stands out."""
    box = volume.shape[0]
    mask = automatic_mask(volume, pixel_size, grow_px=0, edge_px=0)
    if mask.empty or mask.low_pass is None:
        return None
    centred = np.arange(box, dtype=np.float32) - box // 2
    square = centred**2
    distance = np.sqrt(square[:, None, None] + square[None, :, None] + square[None, None, :])
    outline = float(distance[mask.values > 0.5].max()) * pixel_size
    return outline - OVERSHOOT * mask.low_pass
