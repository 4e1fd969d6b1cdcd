"""Training cryoDRGN's model: epochs over particles in random order, Adam, rings that open, a state that can be saved after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.errors import SettingsProblem
from vitreous.heterogeneity import drgn
from vitreous.heterogeneity.coordinate_network import NetworkSettings, draw_network
from vitreous.heterogeneity.drgn import Batch, Rows, Weights
from vitreous.heterogeneity.latent_encoder import draw_encoder
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.network_decoder import NetworkDecoder, amplitude_at
from vitreous.heterogeneity.network_training import (
    OPENING,
    batches,
    changes,
    falling_adam,
    filled_up,
    leaves,
    like,
    refuse_loss,
    train_epochs,
)
from vitreous.heterogeneity.particle_slices import ParticleSlices
from vitreous.heterogeneity.perceptron import draw_perceptron
from vitreous.heterogeneity.ring_opening import opened
from vitreous.heterogeneity.row_table import RowTable
from vitreous.heterogeneity.slice_source import SliceSource
from vitreous.heterogeneity.subspace_slices import SubspaceSlices
from vitreous.reconstruction.projection import PADDING, FourierVolume

ENCODER_FROM = 0.05  # of the epochs, where the encoder starts from known latents: the decoder learns what they mean before they may change
POSES_FROM = 0.25  # of the epochs: before, the latent would be blamed on the poses
# (fraction of the epochs from which it holds, coordinates of the latent that are open, the others being 0). What the first one can tell by a curved
# path through the eigenvolumes is not left to the next: a motion along one arc has one coordinate, where a linear subspace needs several.
LATENTS_OPEN = ((0.0, 1), (0.3, 2), (0.4, 4), (0.5, math.inf))
STILL_CLOSED = 0.1  # of their first weights: little is shaken when they open
MIXTURE_WIDTH, MIXTURE_LAYERS = 64, 2
ENCODED_TOGETHER = 512


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained. `radius` (cycles per box) is that of the finest ring used; `rate` is Adam's first for the networks (`falling_adam`),
    `latent_rate` for latents of the particles' own, `pose_rate` for poses, in radian. `particle_radius` in voxels. `share` of a batch's pixels, drawn
    anew for every batch, is looked at."""

    network: NetworkSettings
    radius: float
    particle_radius: float
    epochs: int = 20
    batch: int = 16
    rate: float = 5e-4
    latent_rate: float = 0.05
    pose_rate: float = 1e-3
    beta: float = 1.0
    share: float = 1.0
    autodecoder: bool = False
    refine_poses: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("radius", "particle_radius", "epochs", "batch", "rate", "latent_rate", "pose_rate", "share"):
            if not getattr(self, name) > 0:
                raise SettingsProblem(f"{name.replace('_', ' ')} {getattr(self, name)}", "a positive number")
        if self.beta < 0 or self.share > 1:
            raise SettingsProblem(f"beta {self.beta}, share {self.share}", "beta at least 0, share at most 1")

    def open_in(self, epoch: int) -> np.ndarray:
        """1 for each coordinate of the latent [d] that is open in epoch `epoch`, 0 for the others."""
        return (np.arange(self.network.latent) < opened(LATENTS_OPEN, epoch, self.epochs)).astype(np.float32)

    def radius_of(self, epoch: int) -> float:
        """Radius of the rings that epoch `epoch` (from 0) looks at."""
        return self.radius * opened(OPENING, epoch, self.epochs)


@dataclass(frozen=True)
class EpochRecord:
    """An epoch in numbers: mean over the particles, in nat a particle: `loss = beta kl - gain`."""

    loss: float
    gain: float
    kl: float
    radius: float
    pixels: int


@dataclass(frozen=True)
class TrainingState:
    """Everything that a training is, after `epoch` epochs: the arrays of Weights and of Adam's state, rows of particles, and what happened."""

    epoch: int
    weights: tuple[np.ndarray, ...]
    optimiser: tuple[np.ndarray, ...]
    latent: RowTable | None
    pose: RowTable | None
    history: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class TrainingData:
    """What a training sees: the particles, those `rows` of them that are trained on, the consensus as FourierVolume, the amplitude of the network,
    what the encoder knows of each particle (`features` [n, m]), and where it starts: `direct` [m, 2d] (see `draw_encoder`), or for an autodecoder the
    latents themselves; and the eigenvolumes that the decoder mixes, if any."""

    source: SliceSource
    rows: np.ndarray
    consensus: FourierVolume
    amplitude: np.ndarray
    features: np.ndarray
    direct: np.ndarray | None = None
    first_latents: Latents | None = None
    linear: SubspaceSlices | None = None


def first_state(data: TrainingData, settings: TrainingSettings) -> TrainingState:
    """The state before the first epoch."""
    import jax

    weights = first_weights(data, settings)
    optimiser = adam(data, settings).init(jax.tree.map(np.asarray, weights))
    count, latent = len(data.source), None
    if settings.autodecoder and settings.network.latent:
        latent = RowTable.of(first_rows(data, settings))
    pose = RowTable.of(np.zeros((count, 5))) if settings.refine_poses else None
    return TrainingState(0, leaves(weights), leaves(optimiser), latent, pose)


def first_weights(data: TrainingData, settings: TrainingSettings) -> Weights:
    """Weights before the first epoch, drawn from the seed."""
    rng = np.random.default_rng([settings.seed, 0])
    network = settings.network
    decoder, mixture, encoder = draw_network(network, settings.particle_radius, rng), None, None
    if data.linear is not None:
        direct = np.zeros((network.latent, data.linear.components))
        direct[0, 0] = 1
        mixture = draw_perceptron(direct, MIXTURE_WIDTH, MIXTURE_LAYERS, rng, spread=1.0)
        for first in (decoder.latent, mixture.layers[0][0]):
            first[1:] *= STILL_CLOSED
    if network.latent and not settings.autodecoder:
        size = data.features.shape[1]
        encoder = draw_encoder(size, network.latent, network.width, network.layers, rng, data.direct)
    return Weights(decoder, encoder, mixture)


def first_rows(data: TrainingData, settings: TrainingSettings) -> np.ndarray:
    """Rows (mean, log deviation) of an autodecoder: those it was given, or small random ones."""
    if data.first_latents is not None:
        start = data.first_latents
        return np.concatenate([start.mean, np.log(start.deviation)], axis=1)
    rng = np.random.default_rng([settings.seed, 1])
    mean = rng.normal(0, 0.1, (len(data.source), settings.network.latent))
    return np.concatenate([mean, np.full_like(mean, -1.0)], axis=1)


def train(
    data: TrainingData,
    settings: TrainingSettings,
    state: TrainingState | None = None,
    *,
    keep: Callable[[TrainingState], None] | None = None,
    progress: Progress = silent,
    name_of: Callable[[int], str] = str,
) -> TrainingState:
    """The state after all epochs. `keep` is called with the state after each; from any such state the rest of the training is the same to the bit.

    Raises DataProblem, before the state of the epoch is kept, at the first batch whose loss is not a finite number, and names its particles by `name_of`.
    """
    follow = partial(one_epoch, data, settings, progress=progress, name_of=name_of)
    return train_epochs(state or first_state(data, settings), settings.epochs, follow, keep)


def one_epoch(
    data: TrainingData,
    settings: TrainingSettings,
    state: TrainingState,
    *,
    progress: Progress,
    name_of: Callable[[int], str],
) -> TrainingState:
    """The state after one more epoch. The order of the particles, the pixels and all noise come from the seed and the number of the epoch."""
    structure = first_weights(data, settings)
    weights = like(state.weights, structure)
    optimiser = like(state.optimiser, adam(data, settings).init(structure))
    latent = None if state.latent is None else state.latent.copied()
    pose = None if state.pose is None else state.pose.copied()
    moves = pose is not None and state.epoch >= POSES_FROM * settings.epochs
    radius = settings.radius_of(state.epoch)
    rng = np.random.default_rng([settings.seed, 2, state.epoch])
    count, total, used = len(data.rows), np.zeros(3), 0
    groups = batches(rng.permutation(data.rows), settings.batch)
    step, opens = stepping(data, settings), settings.open_in(state.epoch)
    listens = np.float32(data.direct is None or state.epoch >= ENCODER_FROM * settings.epochs)
    for number, (rows, slices) in enumerate(zip(groups, data.source.stream(groups), strict=True)):
        pixels = chosen_pixels(data, radius, settings.share, rng)
        own = Rows(
            None if latent is None else filled_up(latent.values[rows], settings.batch),
            None if not moves or pose is None else filled_up(pose.values[rows], settings.batch),
        )
        batch = batch_of(data, slices, rows, own, pixels, settings, rng, opens)
        weights, optimiser, gradient, parts = step(weights, optimiser, own, batch, data.consensus.data, listens)
        values = np.array([float(part) for part in parts])
        if not np.isfinite(values).all():
            refuse_loss(values[0], state.epoch, number, rows, name_of)
        for table, change, rate in (
            (latent, gradient.latent, settings.latent_rate),
            (pose, gradient.pose, settings.pose_rate),
        ):
            if table is not None and change is not None:
                table.step(rows, np.asarray(change)[: len(rows)] * len(rows), rate)
        total += values * len(rows)
        used = len(pixels)
        progress(state.epoch * count + min(count, (number + 1) * settings.batch), settings.epochs * count)
    loss, gain, divergence = total / count
    record = EpochRecord(float(loss), float(gain), float(divergence), float(radius), used)
    return TrainingState(state.epoch + 1, leaves(weights), leaves(optimiser), latent, pose, (*state.history, record))


# --- parts ------------------------------------------------------------------------------------------------------------


def steps_of(data: TrainingData, settings: TrainingSettings) -> int:
    """Steps of all epochs."""
    return settings.epochs * math.ceil(len(data.rows) / settings.batch)


def adam(data: TrainingData, settings: TrainingSettings) -> Any:
    """The optimiser."""
    return falling_adam(settings.rate, steps_of(data, settings))


def stepping(data: TrainingData, settings: TrainingSettings) -> Callable[..., Any]:
    """A compiled step: (weights, state of Adam, rows, batch, transform of the consensus, 0 where the encoder stays as it is) -> (new weights and state,
    gradients of the rows, (loss, gain, KL))."""
    return _stepping(settings.rate, steps_of(data, settings), settings.beta)


@lru_cache(maxsize=8)
def _stepping(rate: float, steps: int, beta: float) -> Callable[..., Any]:
    import jax

    optimiser = falling_adam(rate, steps)

    def step(weights: Weights, state: Any, rows: Rows, batch: Batch, consensus: Any, listens: Any) -> Any:
        volume = FourierVolume(consensus, (consensus.shape[0] - 3) // PADDING, PADDING)
        bound = partial(drgn.loss, batch=batch, consensus=volume, beta=beta)
        (loss, parts), (slope, own) = jax.value_and_grad(bound, argnums=(0, 1), has_aux=True)(weights, rows)
        change, state = changes(optimiser, state, weights, slope)
        change = change._replace(encoder=jax.tree.map(lambda by: listens * by, change.encoder))
        moved = jax.tree.map(lambda value, by: value + by, weights, change)
        return moved, state, own, (loss, *parts)

    return jax.jit(step)


def chosen_pixels(data: TrainingData, radius: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """The pixels inside `radius` but the first, which tells of the background; or a random share of them, in order."""
    grid = data.source.grid
    inside = np.flatnonzero((np.hypot(grid.kx, grid.ky) < radius) & ((grid.kx > 0) | (grid.ky > 0)))
    if share == 1:
        return inside
    return np.sort(rng.choice(inside, max(1, round(share * len(inside))), replace=False))


def batch_of(
    data: TrainingData,
    slices: ParticleSlices,
    rows: np.ndarray,
    own: Rows,
    pixels: np.ndarray,
    settings: TrainingSettings,
    rng: np.random.Generator,
    opens: np.ndarray | None = None,
) -> Batch:
    """Particles at these pixels as a batch of `settings.batch`: a shorter one is filled up with particles of weight 0, so that shapes stay. `opens` [d]: 1
    for open coordinates of the latent, by default all.

    With a share of the pixels, values and transfer are larger by its inverse square root: sums over pixels keep their mean.
    """
    size, grid = settings.batch, data.source.grid
    kx, ky = grid.kx[pixels], grid.ky[pixels]
    factor = np.float32(settings.share**-0.5)
    opens = np.ones(settings.network.latent, np.float32) if opens is None else opens
    basis, linear = filled_up(slices.basis, size), None
    if data.linear is not None:
        linear = data.linear.at(basis if own.pose is None else drgn.turned(basis, own.pose), kx, ky)
    return Batch(
        values=filled_up(slices.values[:, pixels] * factor, size),
        transfer=filled_up(slices.transfer[:, pixels] * factor, size),
        basis=basis,
        plane=np.stack([kx, ky], axis=-1).astype(np.float32),
        scale=amplitude_at(data.amplitude, np.hypot(kx, ky)),
        features=filled_up(data.features[rows], size),
        eps=rng.standard_normal((size, len(opens)), dtype=np.float32) * opens,
        weight=filled_up(np.ones(len(rows), np.float32), size),
        opens=opens,
        linear=linear,
    )


# --- after the training -----------------------------------------------------------------------------------------------


def weights_of(state: TrainingState, data: TrainingData, settings: TrainingSettings) -> Weights:
    """The trained weights."""
    return like(state.weights, first_weights(data, settings))


def latents_of(state: TrainingState, data: TrainingData, settings: TrainingSettings) -> Latents:
    """The posterior of every particle's latent."""
    if state.latent is not None:
        mean, log_deviation = np.split(state.latent.values, 2, axis=1)
    else:
        weights, size = weights_of(state, data, settings), len(data.source)
        parts = [encoded(weights, data.features[rows]) for rows in batches(np.arange(size), ENCODED_TOGETHER)]
        mean, log_deviation = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Latents.independent(mean, log_deviation)


def bounds_of(
    state: TrainingState, data: TrainingData, settings: TrainingSettings, rows: np.ndarray, draws: int = 4
) -> np.ndarray:
    """The bound [m] on the log-likelihood of these particles beyond that of the consensus, nat, as a mean over `draws` of each latent; of particles
    that were not trained on, it is what the network has learned that holds for others."""
    import jax

    weights, rng = weights_of(state, data, settings), np.random.default_rng([settings.seed, 3])
    pixels = chosen_pixels(data, settings.radius, 1.0, rng)
    whole = replace(settings, share=1.0)
    groups, found = batches(rows, settings.batch), []
    bound = jax.jit(lambda batch, own: drgn.gains(weights, own, batch, data.consensus))
    for some, slices in zip(groups, data.source.stream(groups), strict=True):
        own = Rows(
            *(
                None if table is None else filled_up(table.values[some], settings.batch)
                for table in (state.latent, state.pose)
            )
        )
        total = np.zeros(len(some))
        for _ in range(draws):
            gain, divergence = bound(batch_of(data, slices, some, own, pixels, whole, rng), own)
            total += (np.asarray(gain) - np.asarray(divergence))[: len(some)]
        found.append(total / draws)
    return np.concatenate(found) if found else np.zeros(0)


def encoded(weights: Weights, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log deviation of the latents of particles with these features."""
    nothing = np.zeros((len(features), 0), np.float32)
    some = Batch(None, None, None, None, None, features, nothing, None, np.float32(1))
    mean, log_deviation = drgn.posterior(weights, Rows(), some)
    return np.asarray(mean), np.asarray(log_deviation)


def decoder_of(
    state: TrainingState, data: TrainingData, settings: TrainingSettings, maps: np.ndarray, pixel_size: float
) -> NetworkDecoder:
    """The trained decoder; `maps` [k + 1, z, y, x] are the consensus and the eigenvolumes whose transforms were trained on."""
    weights = weights_of(state, data, settings)
    return NetworkDecoder.of(weights.decoder, weights.mixture, maps, data.amplitude, pixel_size, settings.radius)
