"""References of one block of cells: few in-plane angles, few children, few shifts, compared point by point.

    L = 2 Re sum conj(A) data - sum power |A|^2     over half circles (a sum over whole circles is twice that)

as one matrix product of (cells x points) with (points x references). Images have been turned and moved to the middle of their cells before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.polar import PolarGrid

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


class CellTables:
    """`slices` [p, k, r, h]: the references at each in-plane angle of a cell; `factors` [s, r, h]: those of its shifts (`shift_factors`)."""

    def __init__(self, slices: Complex[np.ndarray, "p k r h"], grid: PolarGrid, factors: Complex[np.ndarray, "s r h"]):
        self.grid, self.shape, self.factors = grid, (*slices.shape[:2], len(factors)), factors
        self.moved = (slices[:, :, None] * factors).reshape(-1, *grid.shape)
        self.power = (np.real(slices) ** 2 + np.imag(slices) ** 2).reshape(-1, *grid.shape)

    def cross(self, data: Complex[np.ndarray, "c r h"]) -> Float[np.ndarray, "c p k s"]:
        """2 Re sum conj(A) data over half circles."""
        return (as_real(data) @ (2 * as_real(self.moved)).T).reshape(len(data), *self.shape)

    def model(self, power: Float[np.ndarray, "c r h"]) -> Float[np.ndarray, "c p k"]:
        """sum power |A|^2 over half circles."""
        return (power.reshape(len(power), -1) @ self.power.reshape(len(self.power), -1).T).reshape(
            len(power), *self.shape[:2]
        )

    def log_likelihood(
        self, data: Complex[np.ndarray, "c r h"], power: Float[np.ndarray, "c r h"]
    ) -> Float[np.ndarray, "c p k s"]:
        """L of every cell, angle, child and shift."""
        table = self.cross(data)
        table -= self.model(power)[..., None]
        return table

    def gathered(
        self,
        data: Complex[np.ndarray, "c r h"],
        power: Float[np.ndarray, "c r h"],
        weights: Float[np.ndarray, "c p k s"],
    ) -> Gathered:
        """The images of the cells added up with their weights, for each reference: moved back, but not turned."""
        count = len(data)
        by_reference = weights.sum(axis=3)
        sums = as_complex(weights.reshape(count, -1).T @ as_real(data), self.grid)
        squares = (by_reference.reshape(count, -1).T @ power.reshape(count, -1)).reshape(-1, *self.grid.shape)
        agreement = np.real(self.moved) * np.real(sums) + np.imag(self.moved) * np.imag(sums)
        cross = 2 * agreement.sum(axis=(0, 2), dtype=np.float64)
        model = 2 * (self.power * squares).sum(axis=(0, 2), dtype=np.float64)
        back = (sums.reshape(*self.shape, *self.grid.shape) * np.conj(self.factors)).sum(axis=2)
        each = (
            (weights * self.cross(data)).sum(axis=(1, 2, 3), dtype=np.float64),
            2 * (by_reference * self.model(power)).sum(axis=(1, 2), dtype=np.float64),
        )
        return Gathered(back, squares.reshape(*self.shape[:2], *self.grid.shape), cross, model, each)


@dataclass(frozen=True)
class Gathered:
    """`data` [p, k, r, h] sums of weighted data, `weight` [p, k, r, h] sums of their power.

    `cross` and `model` [r]: sums over whole circles, images and posteriors of data times reference and of
    power times |reference|^2; `each` the same two sums over rings for each cell.
    """

    data: Complex[np.ndarray, "p k r h"]
    weight: Float[np.ndarray, "p k r h"]
    cross: Float[np.ndarray, " r"]
    model: Float[np.ndarray, " r"]
    each: tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]


def as_real(values: Complex[np.ndarray, "n r h"]) -> Float[np.ndarray, "n c"]:
    """The numbers of each row as (real, imaginary) pairs, without a copy."""
    return np.ascontiguousarray(values, dtype=np.complex64).reshape(len(values), -1).view(np.float32)


def as_complex(values: Float[np.ndarray, "n c"], grid: PolarGrid) -> Complex[np.ndarray, "n r h"]:
    """The inverse of `as_real`."""
    return np.ascontiguousarray(values).view(np.complex64).reshape(len(values), *grid.shape)
