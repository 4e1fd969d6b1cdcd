"""The size of a particle, measured on a trial map of a few images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import MASK_EDGE, InversionSettings, reconstruct
from vitreous.reconstruction.mask import automatic_mask
from vitreous.reconstruction.resampling import at_most

# Enough for a map at 20 to 30 A, where a particle's outline is plain; few enough to take well under a second.
TRIAL_PARTICLES = 600
TRIAL_BOX = 64
# The largest disc that leaves pixels beyond it to measure the background on.
LARGEST = 0.45


def particle_radius(particles: Particles, settings: InversionSettings) -> float | None:
    """Radius in pixels, about the box centre, of the particle in a trial map; None if it fills the box.

    The trial takes evenly spaced rows of both half sets and whole images. The farthest voxel of the automatic mask, before growing, is at
    the particle's outline as the mask's low-pass filter blurs it. The disc's soft edge is centred there: the radius returned is where
    the edge begins.
    """
    assert particles.half_set is not None and particles.images is not None
    chosen = [np.flatnonzero(particles.half_set == half) for half in (1, 2)]
    rows = np.sort(np.concatenate([r[:: max(1, 2 * len(r) // TRIAL_PARTICLES)] for r in chosen]))
    few = at_most(particles.rows(rows), TRIAL_BOX)
    trial = reconstruct(few, replace(settings, mask_radius=None))
    box = trial.map.shape[0]
    mask = automatic_mask(trial.map, few.pixel_size, grow_px=0, edge_px=0).values > 0.5
    centred = np.arange(box, dtype=np.float32) - box // 2
    square = centred**2
    distance = np.sqrt(square[:, None, None] + square[None, :, None] + square[None, None, :])
    outline = float(distance[mask].max(initial=0.0)) * few.pixel_size / particles.pixel_size
    return outline - MASK_EDGE / 2 if MASK_EDGE < outline < LARGEST * particles.images.shape[-1] else None
