"""Spectrum: an averaged periodogram on the half plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Spectrum:
    """Mean power of patches, in the layout of `fourier.transforms.forward`: [box, box // 2 + 1], rows in the order of frequencies().

    `pixel_size` in angstrom: the frequencies end at 1 / (2 pixel_size). The scale is arbitrary. `patches` is how many
    were averaged (0 where unknown), `window` the rms width in angstrom, along one axis, of the squared window that each was multiplied by (0: none).
    """

    power: Float[np.ndarray, "y xh"]
    pixel_size: float
    patches: int = 0
    window: float = 0.0

    @property
    def box(self) -> int:
        return self.power.shape[0]
