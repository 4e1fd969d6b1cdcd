"""Particles with fewer pixels: what trials need, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitreous.fourier.transforms import fourier_crop
from vitreous.model.particles import LoadedImages, Particles


def at_most(particles: Particles, box: int) -> Particles:
    """The particles with images of at most `box` pixels in memory, Fourier-cropped if they are larger, and the pixel size that follows."""
    assert particles.images is not None
    own = particles.images.shape[-1]
    if own <= box:
        return replace(particles, images=LoadedImages(particles.images.read(slice(None))))
    rows = range(0, len(particles), 256)
    small = [fourier_crop(particles.images.read(slice(start, start + 256)), box, 2)[0] for start in rows]
    optics = tuple(
        replace(g, box=box, pixel_size=None if g.pixel_size is None else g.pixel_size * own / box)
        for g in particles.optics
    )
    return replace(particles, images=LoadedImages(np.concatenate(small)), optics=optics)
