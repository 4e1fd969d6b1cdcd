"""The linear decoder: a mean map and eigenvolumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem
from vitreous.fourier.nonuniform import transform_at

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


@dataclass(frozen=True)
class SubspaceDecoder:
    """`V(z) = V_0 + sum_j z_j U_j`: a Decoder. `maps` [d + 1, z, y, x]: the mean V_0 first, then the eigenvolumes U_j. As
    they are fitted, U_j is as large as its coordinate is spread, and the prior of every z_j has variance 1. Voxels of `pixel_size` angstrom; frequencies from
    `radius` cycles per box on are not told."""

    maps: np.ndarray
    pixel_size: float
    radius: float

    def __post_init__(self) -> None:
        if self.maps.ndim != 4 or len(set(self.maps.shape[1:])) != 1:
            raise DataProblem(f"maps of shape {self.maps.shape}", "cubes [d + 1, z, y, x]")

    @property
    def box(self) -> int:
        return self.maps.shape[-1]

    @property
    def dimensions(self) -> int:
        return len(self.maps) - 1

    @property
    def sizes(self) -> np.ndarray:
        """The norm [d] of each eigenvolume."""
        return np.sqrt((self.maps[1:].astype(np.float64) ** 2).sum(axis=(1, 2, 3)))

    def scaled(self, by: np.ndarray) -> SubspaceDecoder:
        """The decoder of latents whose coordinate j is `by[j]` times as large."""
        factors = np.concatenate([[1.0], 1 / np.asarray(by, np.float64)]).astype(np.float32)
        return SubspaceDecoder(self.maps * factors[:, None, None, None], self.pixel_size, self.radius)

    def transform(self, points: Float[np.ndarray, "p 3"], latent: Float[np.ndarray, " d"]) -> Complex[np.ndarray, " p"]:
        """The transform of V(z), by a non-uniform FFT."""
        factors = np.concatenate([[1.0], latent]).astype(np.float32)
        return transform_at(np.tensordot(factors, self.maps, axes=1), points / self.box)
