"""The linear subspace: eigenvolumes by expectation-maximisation, two half sets with a model each.

    y_i = C_i P_i (V_0 + sum_j z_ij U_j) + n_i,   z_i ~ N(0, 1)

Probabilistic PCA (Tipping and Bishop 1999, doi:10.1111/1467-9868.00196) of volumes that are seen through projections and CTFs, as in 3D
variability analysis (Punjani and Fleet 2021, doi:10.1016/j.jsb.2021.107702). V_0 is the consensus map and stays. The E-step gives each particle a
Gaussian posterior; its second moment is made 1 by a linear map of the latents (parameter expansion, Liu, Rubin and Wu 1998,
doi:10.1093/biomet/85.4.755), which EM alone would approach slowly. The M-step solves k equations with k unknowns at every voxel of the padded
transform, regularised in each shell by what the two halves agree on, as in `direct_inversion`.

Memory: values of k components in a ball, half as large as their padded transforms, and the equations of a few layers of it at a time: for eight
components less than k + 2 padded transforms, by test; with few components the workspace of transforming one map, about four of them, is most of it.
Particles come from a SliceSource, a few hundred at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import SettingsProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.shells import shell_sum
from vitreous.fourier.transforms import forward, fourier_crop, fourier_pad
from vitreous.heterogeneity.fourier_ball import FourierBall, working_ball
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.ring_opening import opened
from vitreous.heterogeneity.slice_source import SliceSource
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.heterogeneity.subspace_steps import Moments, expectation, maximisation
from vitreous.reconstruction.direct_inversion import noise_to_signal

# (fraction of the iterations from which it holds, fraction of the final radius): coarse iterations cost little, and the first ones start from nothing.
OPENING = ((0.0, 1 / 3), (0.5, 2 / 3), (0.75, 1.0))
COARSEST = 5.0  # cycles per box, at least
MASK_EDGE = 3.0  # voxels


@dataclass(frozen=True)
class SubspaceSettings:
    """`components` k; `radius` in cycles per box, of the finest ring compared; `particle_radius` in voxels, beyond which eigenvolumes are 0."""

    components: int
    iterations: int
    radius: float
    particle_radius: float
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("components", "iterations", "radius", "particle_radius"):
            if not getattr(self, name) > 0:
                raise SettingsProblem(
                    f"a subspace with {name.replace('_', ' ')} {getattr(self, name)}", "a positive number"
                )

    def radius_of(self, iteration: int) -> float:
        """Radius of the rings that an iteration (from 0) looks at."""
        return min(self.radius, max(COARSEST, opened(OPENING, iteration, self.iterations) * self.radius))


@dataclass(frozen=True)
class SubspaceState:
    """After `iteration` iterations: `maps` [2, k, z, y, x] of both halves on the working box, the second half's turned onto the first's;
    `noise_to_signal` [k, s] by their agreement, `fsc` [k, s], and the mean log evidence beyond the consensus, nat a particle, of each iteration."""

    iteration: int
    maps: np.ndarray
    noise_to_signal: np.ndarray
    fsc: np.ndarray
    log_evidence: tuple[float, ...] = ()


@dataclass(frozen=True)
class SubspaceFit:
    """`decoder` of all particles that were fitted; `variance` [k] of the map along each eigenvolume, summed over voxels; `fsc` [k, s] of the
    eigenvolumes of the two halves; `log_evidence` of each iteration."""

    decoder: SubspaceDecoder
    variance: np.ndarray
    fsc: np.ndarray
    log_evidence: tuple[float, ...] = field(default=())


@dataclass(frozen=True)
class Fitting:
    """What does not change in a fit. `source` gives particles without their consensus; `halves` are rows of it."""

    source: SliceSource
    halves: tuple[np.ndarray, np.ndarray]
    box: int
    settings: SubspaceSettings
    workers: LocalWorkers

    def ball(self, radius: float) -> FourierBall:
        return working_ball(self.box, radius)

    def scale(self, ball: FourierBall) -> float:
        """What the transform of a map on the working box is multiplied by to be that of the whole box."""
        return (self.box / ball.box) ** 3

    def updated(self, rows: np.ndarray, moments: Moments, ball: FourierBall, ratio: np.ndarray) -> np.ndarray:
        """The maps [k, z, y, x] that the moments of these particles ask for, within the particle's sphere."""
        values = maximisation(self.source, rows, moments.whitened(), ball, ratio, self.workers)
        radius = min(self.settings.particle_radius * ball.box / self.box, ball.box / 2 - MASK_EDGE)
        maps = ball.maps(values, 1 / self.scale(ball))
        maps *= soft_sphere(ball.box, radius, MASK_EDGE, dtype=np.float32)
        return maps


def fit_subspace(
    source: SliceSource,
    halves: tuple[np.ndarray, np.ndarray],
    settings: SubspaceSettings,
    consensus: np.ndarray,
    pixel_size: float,
    *,
    workers: LocalWorkers | None = None,
    start: SubspaceState | None = None,
    keep: Callable[[SubspaceState], None] | None = None,
    progress: Progress = silent,
) -> SubspaceFit:
    """Fit the eigenvolumes to the particles of two half sets.

    `source` gives slices less those of the consensus; `halves` are the rows of each half set. `keep` is called with
    the state after each iteration; from any of them the rest is the same to the bit. The result does not depend on the number of workers.
    Raises SettingsProblem for more components than a half set has particles.
    """
    for rows in halves:
        if len(rows) <= settings.components:
            raise SettingsProblem(
                f"{settings.components} components for a half set of {len(rows)} particles", "fewer components"
            )
    fitting = Fitting(source, halves, consensus.shape[0], settings, workers or LocalWorkers())
    state = start or first_state(fitting)
    while state.iteration < settings.iterations:
        moments = expectations(fitting, state, fitting.ball(settings.radius_of(state.iteration)))
        state = replace(state, maps=np.zeros(0))  # those are not needed while the new ones are made
        state = maximised(fitting, state, moments)
        progress(state.iteration, settings.iterations + 1)
        if keep is not None:
            keep(state)
    moments = expectations(fitting, state, fitting.ball(settings.radius))
    state = replace(state, maps=np.zeros(0))
    maps = whole_set(fitting, state, moments)
    progress(settings.iterations + 1, settings.iterations + 1)
    if maps.shape[-1] < consensus.shape[0]:
        maps, _ = fourier_pad(maps, consensus.shape, 3)
    variance = (maps.astype(np.float64) ** 2).sum(axis=(1, 2, 3))
    everything = np.concatenate([consensus[None], maps]).astype(np.float32)
    decoder = SubspaceDecoder(everything, pixel_size, settings.radius)
    return SubspaceFit(decoder, variance, state.fsc, state.log_evidence)


def first_state(fitting: Fitting) -> SubspaceState:
    """Maps from latents drawn at random."""
    settings, ball = fitting.settings, fitting.ball(fitting.settings.radius_of(0))
    rng = np.random.default_rng([settings.seed, 10])
    ratio = np.zeros((settings.components, ball.shells))
    maps = []
    for rows in fitting.halves:
        mean = rng.normal(size=(len(rows), settings.components)).astype(np.float32)
        nothing = np.zeros((len(rows), settings.components, settings.components), np.float32)
        maps.append(fitting.updated(rows, Moments(mean, nothing, np.zeros(len(rows))), ball, ratio))
    return SubspaceState(0, ordered(*maps), ratio, np.zeros_like(ratio))


def expectations(fitting: Fitting, state: SubspaceState, ball: FourierBall) -> list[Moments]:
    """The E-step of each half, with its own maps."""
    return [
        expectation(fitting.source, rows, ball, on_box(half, ball.box), fitting.scale(ball), fitting.workers)
        for half, rows in zip(state.maps, fitting.halves, strict=True)
    ]


def maximised(fitting: Fitting, state: SubspaceState, moments: list[Moments]) -> SubspaceState:
    """The M-step of each half, and what the halves agree on."""
    ball = fitting.ball(fitting.settings.radius_of(state.iteration))
    ratio = regularised(state, fitting.settings, ball)
    maps = [fitting.updated(rows, part, ball, ratio) for part, rows in zip(moments, fitting.halves, strict=True)]
    both = ordered(*maps)
    fsc = correlations(both)
    known = np.array([noise_to_signal(curve) for curve in fsc])
    mean = float(np.concatenate([part.gain for part in moments]).mean())
    return SubspaceState(state.iteration + 1, both, known, fsc, (*state.log_evidence, mean))


def regularised(state: SubspaceState, settings: SubspaceSettings, ball: FourierBall) -> np.ndarray:
    """Noise to signal [k, s] that the next M-step takes: none while maps form, then that of the halves; new shells take the last known."""
    if state.iteration < OPENING[1][0] * settings.iterations:
        return np.zeros((settings.components, ball.shells))
    known = state.noise_to_signal
    missing = max(0, ball.shells - known.shape[1])
    return np.pad(known, ((0, 0), (0, missing)), mode="edge")[:, : ball.shells]


def whole_set(fitting: Fitting, state: SubspaceState, moments: list[Moments]) -> np.ndarray:
    """The eigenvolumes [k, z, y, x] of both halves together, orthogonal, the largest variance first; `moments` of each half by its own maps."""
    ball = fitting.ball(fitting.settings.radius)
    rows = np.concatenate(fitting.halves)
    ratio = regularised(state, fitting.settings, ball) / 2  # twice the particles: half the noise
    return orthogonal(fitting.updated(rows, Moments.of(moments), ball, ratio))


def encode_subspace(
    source: SliceSource,
    rows: np.ndarray,
    decoder: SubspaceDecoder,
    *,
    workers: LocalWorkers | None = None,
    progress: Progress = silent,
) -> tuple[Latents, np.ndarray]:
    """The posterior of the latents of particles in a subspace, and the log evidence [n] of each beyond that of the consensus, nat.

    `source` gives slices less those of the consensus, as for `fit_subspace`.
    """
    ball = working_ball(decoder.box, decoder.radius)
    scale = (decoder.box / ball.box) ** 3
    maps = on_box(decoder.maps[1:], ball.box)
    moments = expectation(source, rows, ball, maps, scale, workers or LocalWorkers(), progress)
    return Latents(moments.mean, moments.covariance), moments.gain


# --- parts ------------------------------------------------------------------------------------------------------------


def on_box(maps: np.ndarray, box: int) -> np.ndarray:
    """Maps [k, z, y, x] on another box over the same field."""
    size = maps.shape[-1]
    if size == box:
        return maps
    resample = fourier_crop if box < size else fourier_pad
    return np.stack([resample(volume, (box,) * 3, 3)[0] for volume in maps]).astype(np.float32)


def ordered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The maps of two halves [k, z, y, x] as [2, k, z, y, x] with orthogonal bases: each half by itself, then the second turned onto the first.

    A turn of the basis turns the latents with it, whose prior stays the same.
    """
    both = np.empty((2, *first.shape), np.float32)
    both[0], both[1] = orthogonal(first), orthogonal(second)
    flat = both.reshape(2, len(first), -1)
    left, _, right = np.linalg.svd((flat[0] @ flat[1].T).astype(np.float64))
    flat[1] = (left @ right).astype(np.float32) @ flat[1]
    return both


def orthogonal(maps: np.ndarray) -> np.ndarray:
    """The same subspace and covariance with orthogonal maps, the largest first, each with its largest deviation positive."""
    flat = maps.reshape(len(maps), -1)
    _, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    turned = vectors[:, ::-1].T.astype(np.float32) @ flat
    low, high = turned.min(axis=1), turned.max(axis=1)
    turned *= np.where(-low > high, -1, 1)[:, None].astype(np.float32)
    return turned.reshape(maps.shape)


def correlations(maps: np.ndarray) -> np.ndarray:
    """FSC [k, s] of the maps of two halves [2, k, z, y, x]."""
    curves = []
    for first, second in zip(*maps, strict=True):
        one, other = forward(first, 3), forward(second, 3)
        shape = first.shape
        cross = shell_sum((one * np.conj(other)).real, shape)
        power = np.sqrt(shell_sum(np.abs(one) ** 2, shape) * shell_sum(np.abs(other) ** 2, shape))
        curves.append(cross / np.maximum(power, np.finfo(np.float64).tiny))
    return np.array(curves)
