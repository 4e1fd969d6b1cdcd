"""The two steps of expectation-maximisation in a linear subspace, over particles a few hundred at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engine.chunks import chunks
from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import LocalWorkers
from vitreous.heterogeneity.fourier_ball import REACH, FourierBall
from vitreous.heterogeneity.particle_slices import ParticleSlices
from vitreous.heterogeneity.slice_source import SliceSource
from vitreous.reconstruction.direct_inversion import LEAST_WEIGHT
from vitreous.reconstruction.projection import PADDING

if TYPE_CHECKING:
    from jaxtyping import Float

TOGETHER = 256  # particles in a chunk
AT_ONCE = (
    4  # layers that are worked on side by side, at most; how they are cut does not depend on the number of workers
)
VOLUMES_OF_EQUATIONS = 0.2  # the normal equations that are in memory take so many padded transforms for each component


@dataclass(frozen=True)
class Moments:
    """The posterior of n particles: `mean` [n, k], `covariance` [n, k, k], and the log evidence beyond the consensus `gain` [n]."""

    mean: np.ndarray
    covariance: np.ndarray
    gain: np.ndarray

    @staticmethod
    def of(parts: Sequence[Moments]) -> Moments:
        """Those of several sets of particles, one after the other."""
        return Moments(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("mean", "covariance", "gain"))
        )

    def whitened(self) -> Moments:
        """The moments of `L^-1 z`, L L' the mean second moment of z: latents whose prior the particles bear out."""
        second = self.covariance.mean(axis=0, dtype=np.float64) + self.mean.T.astype(np.float64) @ self.mean / len(
            self.mean
        )
        inverse = np.linalg.inv(np.linalg.cholesky(second + 1e-9 * np.eye(len(second)))).astype(np.float32)
        return Moments(self.mean @ inverse.T, inverse @ self.covariance @ inverse.T, self.gain)


def expectation(
    source: SliceSource,
    rows: np.ndarray,
    ball: FourierBall,
    maps: np.ndarray,
    scale: float,
    workers: LocalWorkers,
    progress: Progress = silent,
) -> Moments:
    """The posterior of each particle's latent, given maps [k, z, y, x] on the ball's box whose transforms times `scale` are those of the images.

    With the slices u_j, `G_jl = Re sum C^2 conj(u_j) u_l` and `g_j = Re sum conj(C u_j) r`: precision `1 + 2 G`, mean `2 (1 + 2 G)^-1 g`, and
    `log p(y) - log p(y | z = 0) = g' (1 + 2 G)^-1 (2 g) - log det (1 + 2 G) / 2`.
    """
    values, pixels = ball.values(maps, scale), pixels_within(source, ball.radius)
    task = ExpectationTask(source, ball, values, pixels)
    parts = workers.map_over(task, list(chunks(rows, TOGETHER)), progress=progress)
    return Moments.of(parts)


@dataclass(frozen=True)
class ExpectationTask:
    """The E-step of one chunk."""

    source: SliceSource
    ball: FourierBall
    values: np.ndarray
    pixels: np.ndarray

    def __call__(self, rows: np.ndarray) -> Moments:
        from vitreous.heterogeneity.subspace_kernel import moments

        slices, grid = next(self.source.stream([rows])), self.source.grid
        count, components = len(rows), self.values.shape[1] // 2
        gram = np.empty((count, components, components), np.float32)
        projection = np.empty((count, components), np.float32)
        kx, ky = (k[self.pixels].astype(np.float32) for k in (grid.kx, grid.ky))
        residual = np.ascontiguousarray(slices.values[:, self.pixels])
        transfer = np.ascontiguousarray(slices.transfer[:, self.pixels])
        moments(self.values, self.ball.index, residual, transfer, padded(slices), kx, ky, gram, projection)
        precision = np.eye(components) + 2 * gram.astype(np.float64)
        covariance = np.linalg.inv(precision)
        mean = np.einsum("ijl,il->ij", covariance, 2 * projection.astype(np.float64))
        gain = np.einsum("ij,ij->i", projection, mean) - np.linalg.slogdet(precision)[1] / 2
        return Moments(mean.astype(np.float32), covariance.astype(np.float32), gain)


def maximisation(
    source: SliceSource,
    rows: np.ndarray,
    moments: Moments,
    ball: FourierBall,
    ratio: Float[np.ndarray, "k s"],
    workers: LocalWorkers,
) -> np.ndarray:
    """The transforms [v + 1, 2k] of the components that make the expected misfit smallest, regularised by the mean weight of a shell times `ratio`.

    The voxels are worked on in layers, each worker at one, so that the equations of all never lie in memory together.
    """
    components = moments.mean.shape[1]
    numbers = components * (components + 3) // 2 + components
    budget = VOLUMES_OF_EQUATIONS * components * ball.index.size * 8 / AT_ONCE
    values = np.zeros((len(ball) + 1, 2 * components), np.float32)
    task = MaximisationTask(source, rows, moments, ball, ratio, values)
    workers.map_over(task, ball.bands(max(1, int(budget / (4 * numbers)))), at_once=AT_ONCE)
    return values


@dataclass(frozen=True)
class MaximisationTask:
    """The M-step of the voxels of one band, whose rows of `values` it writes: workers are threads of one process."""

    source: SliceSource
    rows: np.ndarray
    moments: Moments
    ball: FourierBall
    ratio: np.ndarray
    values: np.ndarray

    def __call__(self, band: slice) -> None:
        from vitreous.heterogeneity.subspace_kernel import insert, solve

        components = self.moments.mean.shape[1]
        lower = np.tril_indices(components)
        shell, grid = self.ball.shell[band], self.source.grid
        normal = np.zeros((band.stop - band.start, len(lower[0]) + 2 * components), np.float32)
        pixels = pixels_near(self.source, self.ball, int(shell[0]), int(shell[-1]))
        kx, ky = (k[pixels].astype(np.float32) for k in (grid.kx, grid.ky))
        groups = list(chunks(np.arange(len(self.rows)), TOGETHER))
        for some, slices in zip(groups, self.source.stream([self.rows[group] for group in groups]), strict=True):
            mean = self.moments.mean[some]
            second = self.moments.covariance[some] + mean[:, :, None] * mean[:, None, :]
            residual, transfer = (np.ascontiguousarray(part[:, pixels].T) for part in (slices.values, slices.transfer))
            packed = np.ascontiguousarray(second[:, lower[0], lower[1]])
            insert(normal, band.start, self.ball.index, residual, transfer, padded(slices), kx, ky, mean, packed)
        regularisation, floor = self.shell_terms(normal, shell, np.flatnonzero(lower[0] == lower[1]))
        solve(normal, shell, regularisation, floor, self.values[band])

    def shell_terms(self, normal: np.ndarray, shell: np.ndarray, diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is added to the diagonal [k, s], and the trace [s] below which a voxel counts as not seen, by the mean of the band's part of a shell."""
        count = np.maximum(np.bincount(shell, minlength=self.ball.shells), 1)
        mean = np.array(
            [np.bincount(shell, weights=normal[:, j], minlength=self.ball.shells) / count for j in diagonal]
        )
        return mean * self.ratio, LEAST_WEIGHT * mean.sum(axis=0)


def pixels_within(source: SliceSource, radius: float) -> np.ndarray:
    """The pixels of the images inside a radius, but the first, which tells of the background."""
    length = np.hypot(source.grid.kx, source.grid.ky)
    return np.flatnonzero((length < radius) & (length > 0))


def pixels_near(source: SliceSource, ball: FourierBall, first: int, last: int) -> np.ndarray:
    """Those that reach voxels of the shells `first` to `last`."""
    pixels, reach = pixels_within(source, ball.radius), REACH / PADDING + 0.5
    length = np.hypot(source.grid.kx[pixels], source.grid.ky[pixels])
    return pixels[(length >= first - reach) & (length <= last + reach)]


def padded(slices: ParticleSlices) -> np.ndarray:
    """The basis in voxels of the padded transform."""
    return np.ascontiguousarray(slices.basis * np.float32(PADDING))
