"""Projection and back-projection without interpolation error, by the non-uniform FFT.

The same operators as `projection.project` and `backprojection.backproject`, to the tolerance `eps` instead of a few percent, and some
ten times slower: the reference for the fast pair on real sizes, and the choice where a few images must be exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.nonuniform import transform_at, transform_at_adjoint
from vitreous.reconstruction.projection import SliceGrid

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


def project_exactly(
    volume: Float[np.ndarray, "z y x"], rotation: Float[np.ndarray, "n 3 3"], grid: SliceGrid, *, eps: float = 1e-6
) -> Complex[np.ndarray, "n p"]:
    """Slices `F(R^T (kx, ky, 0))` of a real volume (origin at index N // 2) at the pixels of `grid`.

    `eps` is the relative tolerance: at least 1e-14 in double, 1e-6 in single precision.
    """
    return transform_at(volume, slice_points(rotation, grid), eps=eps).reshape(len(rotation), len(grid))


def backproject_exactly(
    slices: Complex[np.ndarray, "n p"], rotation: Float[np.ndarray, "n 3 3"], grid: SliceGrid, *, eps: float = 1e-6
) -> Float[np.ndarray, "z y x"]:
    """The transpose of `project_exactly` onto real volumes: waves added up, no weights, no division."""
    points = slice_points(rotation, grid)
    return np.real(transform_at_adjoint(slices.reshape(-1), points, (grid.box,) * 3, eps=eps))


def slice_points(rotation: Float[np.ndarray, "n 3 3"], grid: SliceGrid) -> Float[np.ndarray, "n*p 3"]:
    """Frequencies (x, y, z), cycles per pixel, of the pixels of each slice."""
    kx, ky = grid.kx[:, None] / grid.box, grid.ky[:, None] / grid.box
    points = kx * rotation[:, None, 0, :] + ky * rotation[:, None, 1, :]
    return points.reshape(-1, 3).astype(rotation.dtype)
