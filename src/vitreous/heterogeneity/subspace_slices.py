"""Slices of the eigenvolumes of a subspace at the pixels of particles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.heterogeneity.fourier_ball import FourierBall, working_ball
from vitreous.heterogeneity.subspace import on_box
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.reconstruction.projection import PADDING

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


@dataclass(frozen=True)
class SubspaceSlices:
    """The transforms of k eigenvolumes in a ball, `values` as `FourierBall.values` gives them."""

    ball: FourierBall
    values: np.ndarray

    @staticmethod
    def of(decoder: SubspaceDecoder) -> SubspaceSlices:
        """Those of a fitted subspace, at frequencies below its radius."""
        ball = working_ball(decoder.box, decoder.radius)
        return SubspaceSlices(ball, ball.values(on_box(decoder.maps[1:], ball.box), (decoder.box / ball.box) ** 3))

    @property
    def components(self) -> int:
        """k."""
        return self.values.shape[1] // 2

    def at(
        self, basis: Float[np.ndarray, "n 2 3"], kx: Float[np.ndarray, " p"], ky: Float[np.ndarray, " p"]
    ) -> Complex[np.ndarray, "n p k"]:
        """The transforms at `kx basis[0] + ky basis[1]` (cycles per box, below the radius), by trilinear interpolation."""
        from vitreous.heterogeneity.subspace_kernel import slices

        found = np.empty((len(basis), len(kx), self.components), np.complex64)
        padded = np.ascontiguousarray(basis * np.float32(PADDING))
        slices(self.values, self.ball.index, padded, kx.astype(np.float32), ky.astype(np.float32), found)
        return found
