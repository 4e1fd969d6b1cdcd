"""What the maximisation of a map needs of a set of particles: slices added into transforms, and what was found out about each particle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.class_sums import NoiseSums, joined
from vitreous.fourier.polar import PolarGrid
from vitreous.reconstruction.backprojection import Accumulator, insert_slices

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int


@dataclass(frozen=True)
class MapSums:
    """`volumes` by (half, class): sums of inserted slices as `Accumulator.sums` holds them; `mass` [2, k] particles; `scale` [2, m]:
    sums of (cross, model) of each micrograph.

    `rows` [n] names the particles of `assignment`; `orientation` [n, 3, 3] their best orientations.
    """

    volumes: dict[tuple[int, int], Float[np.ndarray, "z y x 3"]]
    mass: Float[np.ndarray, "2 k"]
    scale: Float[np.ndarray, "2 m"]
    noise: tuple[NoiseSums, NoiseSums]
    rows: Int[np.ndarray, " n"]
    assignment: Assignment

    def __add__(self, other: MapSums) -> MapSums:
        volumes = dict(self.volumes)
        for key, volume in other.volumes.items():
            volumes[key] = volumes[key] + volume if key in volumes else volume
        return MapSums(
            volumes,
            self.mass + other.mass,
            self.scale + other.scale,
            (self.noise[0] + other.noise[0], self.noise[1] + other.noise[1]),
            np.concatenate([self.rows, other.rows]),
            joined([self.assignment, other.assignment]),
        )


def add_slices(
    accumulator: Accumulator,
    data: Complex[np.ndarray, "v r h"],
    weight: Float[np.ndarray, "v r h"],
    frames: Float[np.ndarray, "v 3 3"],
    operators: Float[np.ndarray, "m 3 3"],
    grid: PolarGrid,
) -> None:
    """Insert gathered slices, once for each of the operators. Points of a ring carry the Fourier pixels they stand for in both sums already."""
    values = np.ascontiguousarray(data.reshape(len(data), -1).T, dtype=np.complex64)
    weights = np.ascontiguousarray(np.maximum(weight, 0).reshape(len(data), -1).T, dtype=np.float32)
    kx, ky = (k.ravel() for k in grid.frequencies)
    for operator in operators:
        insert_slices(accumulator, values, weights, frames @ operator, (kx, ky))
