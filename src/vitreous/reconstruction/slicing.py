"""Transforms of maps that are read many times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitreous.reconstruction.projection import FourierVolume, fourier_volume


def sliced(volume: np.ndarray) -> FourierVolume:
    """The padded transform of a map [z, y, x], in one piece of memory: reading from any other kind copies all of it each time."""
    transform = fourier_volume(volume)
    return replace(transform, data=np.ascontiguousarray(transform.data))
