"""Training spatial-VAE: turns and origins are scored, drawn, and the networks follow; a state that can be saved after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.errors import SettingsProblem
from vitreous.heterogeneity import spatial_vae
from vitreous.heterogeneity.coordinate_network import NetworkSettings, draw_network
from vitreous.heterogeneity.latent_encoder import draw_encoder
from vitreous.heterogeneity.latents import Latents
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
from vitreous.heterogeneity.ring_opening import opened
from vitreous.heterogeneity.slice_source import SliceSource
from vitreous.heterogeneity.spatial_vae import ImagePlane, SpatialBatch, SpatialWeights, picture, posterior
from vitreous.heterogeneity.spatial_vae_turns import (
    FoundTurns,
    TurnGrid,
    compiled_scoring,
    divergence,
    drawn,
    found_turns,
    probabilities,
    scoring_latents,
    turn_grid,
)

SCORED_TOGETHER = (
    1024  # particles between two looks at the decoder: a large set need not wait an epoch for better turns
)
POSTERIOR_BYTES = 2**27  # of the scores that are held at once
# Of the epochs: before, one picture must do for all particles. With a latent from the start, one turn is found for one part of the latents and another
# for the rest, and both stay.
LATENT_FROM = 0.3
BAND = 0.5  # of the finest radius: waves of the network's features reach it at two deviations


@dataclass(frozen=True)
class SpatialSettings:
    """How spatial-VAE is trained. `radius` (cycles per box) is that of the finest ring compared; `turns` angles and origins up to `reach` pixels in
    steps of `step` are scored. Adam's `rate` falls to 0 as a cosine."""

    network: NetworkSettings
    radius: float
    turns: int = 48
    reach: float = 3.0
    step: float = 1.0
    epochs: int = 30
    batch: int = 16
    rate: float = 2e-3
    beta: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("radius", "step", "epochs", "batch", "rate"):
            if not getattr(self, name) > 0:
                raise SettingsProblem(f"{name} {getattr(self, name)}", "a positive number")
        if self.turns < 2 or self.network.latent < 1 or self.reach < 0 or self.beta < 0:
            raise SettingsProblem(
                f"{self.turns} turns, {self.network.latent} latents, a reach of {self.reach}, beta {self.beta}",
                "at least 2 turns, 1 latent, and 0 for the others",
            )

    def radius_of(self, epoch: int) -> float:
        """Radius of the rings that epoch `epoch` (from 0) looks at."""
        return self.radius * opened(OPENING, epoch, self.epochs)


@dataclass(frozen=True)
class SpatialRecord:
    """An epoch: means over the particles, nat: `loss = beta kl + pose_kl - gain`, the divergences those of latents and of turns with origins."""

    loss: float
    gain: float
    kl: float
    pose_kl: float
    radius: float


@dataclass(frozen=True)
class SpatialState:
    """Everything that a training is, after `epoch` epochs: the arrays of the weights and of Adam's state, and what happened."""

    epoch: int
    weights: tuple[np.ndarray, ...]
    optimiser: tuple[np.ndarray, ...]
    history: tuple[SpatialRecord, ...] = ()


@dataclass(frozen=True)
class SpatialData:
    """What a training sees: the particles in units of their noise, as the file centres them, and the plane they lie in."""

    source: SliceSource
    plane: ImagePlane

    def __len__(self) -> int:
        return len(self.source)


def first_weights(data: SpatialData, settings: SpatialSettings) -> SpatialWeights:
    """Weights before the first epoch, drawn from the seed. The decoder's answer is 0 at first: no angle is better than another."""
    rng, network = np.random.default_rng([settings.seed, 0]), settings.network
    decoder = draw_network(network, BAND * settings.radius, rng)
    encoder = draw_encoder(len(data.plane.seen), network.latent, network.width, network.layers, rng)
    return SpatialWeights(decoder, encoder)


def first_state(data: SpatialData, settings: SpatialSettings) -> SpatialState:
    """The state before the first epoch."""
    import jax

    weights = first_weights(data, settings)
    optimiser = optimiser_of(settings, len(data)).init(jax.tree.map(np.asarray, weights))
    return SpatialState(0, leaves(weights), leaves(optimiser))


def train(
    data: SpatialData,
    settings: SpatialSettings,
    state: SpatialState | None = None,
    *,
    keep: Callable[[SpatialState], None] | None = None,
    progress: Progress = silent,
    name_of: Callable[[int], str] = str,
) -> SpatialState:
    """The state after all epochs. `keep` is called with the state after each; from any such state the rest of the training is the same to the bit.

    Raises DataProblem, before the state of the epoch is kept, at the first batch whose loss is not a finite number, and names its particles by `name_of`.
    """
    follow = partial(one_epoch, data, settings, progress=progress, name_of=name_of)
    return train_epochs(state or first_state(data, settings), settings.epochs, follow, keep)


def one_epoch(
    data: SpatialData,
    settings: SpatialSettings,
    state: SpatialState,
    *,
    progress: Progress = silent,
    name_of: Callable[[int], str] = str,
) -> SpatialState:
    """The state after one more epoch. The order of the particles, the offset of the grid of turns and all draws come from the seed and the number of
    the epoch."""
    structure = first_weights(data, settings)
    weights = like(state.weights, structure)
    optimiser = like(state.optimiser, optimiser_of(settings, len(data)).init(structure))
    rng = np.random.default_rng([settings.seed, 1, state.epoch])
    grid = grid_of(settings, tuple(rng.uniform(-0.5, 0.5, 3)))
    step, opens = stepping(data.plane, settings, len(data)), state.epoch >= LATENT_FROM * settings.epochs
    latents = scoring_latents(settings.network.latent)[: None if opens else 1]
    radius, count = settings.radius_of(state.epoch), len(data)
    groups = batches(rng.permutation(count), scored_together(grid))
    total, done = np.zeros(4), 0
    for group, slices in zip(groups, data.source.stream(groups), strict=True):
        slices = within(slices, data.plane, radius)
        found = turn_posterior(weights, data.plane, slices, grid, latents)
        psi, origin = drawn(found, grid, rng)
        pose_kl = divergence(found)
        for part in batches(np.arange(len(group)), settings.batch):
            batch = batch_of(slices.rows(part), psi[part], origin[part], settings, rng)._replace(
                opens=np.float32(opens)
            )
            weights, optimiser, parts = step(weights, optimiser, batch)
            values = np.array([*(float(value) for value in parts), pose_kl[part].mean()])
            values[0] += values[3]
            if not np.isfinite(values).all():
                refuse_loss(values[0], state.epoch, (done + int(part[0])) // settings.batch, group[part], name_of)
            total += values * len(part)
            progress(state.epoch * count + done + int(part[-1]) + 1, settings.epochs * count)
        done += len(group)
    record = SpatialRecord(*(float(value) for value in total / count), radius=float(radius))
    return SpatialState(state.epoch + 1, leaves(weights), leaves(optimiser), (*state.history, record))


# --- parts ------------------------------------------------------------------------------------------------------------


def grid_of(settings: SpatialSettings, offset: tuple[float, ...] = (0, 0, 0)) -> TurnGrid:
    """The turns and origins that are scored."""
    return turn_grid(settings.turns, settings.reach, settings.step, (offset[0], offset[1], offset[2]))


def scored_together(grid: TurnGrid) -> int:
    """Particles whose scores are held at once."""
    return max(1, min(SCORED_TOGETHER, POSTERIOR_BYTES // (8 * len(grid))))


def within(slices: ParticleSlices, plane: ImagePlane, radius: float) -> ParticleSlices:
    """The particles with what lies beyond `radius`, and the first pixel, which tells of the background, counted as not measured."""
    frequency = np.hypot(plane.grid.kx, plane.grid.ky)
    inside = ((frequency < radius) & (frequency > 0)).astype(np.float32)
    return ParticleSlices(slices.values * inside, slices.transfer * inside, slices.basis)


def turn_posterior(
    weights: SpatialWeights, plane: ImagePlane, slices: ParticleSlices, grid: TurnGrid, latents: np.ndarray
) -> np.ndarray:
    """q [n, K, S] of these particles, scored with pictures at these latents [m, d]."""
    templates_of, scored = compiled_scoring(plane)
    templates = templates_of(weights.decoder, latents, grid.psi)
    return probabilities(scored(slices.values, slices.transfer, templates, grid.origin))


def batch_of(
    slices: ParticleSlices, psi: np.ndarray, origin: np.ndarray, settings: SpatialSettings, rng: np.random.Generator
) -> SpatialBatch:
    """Particles as a batch of `settings.batch`: a shorter one is filled up with particles of weight 0, so that shapes stay."""
    size = settings.batch
    return SpatialBatch(
        values=filled_up(slices.values, size),
        transfer=filled_up(slices.transfer, size),
        psi=filled_up(psi, size),
        origin=filled_up(origin, size),
        eps=rng.standard_normal((size, settings.network.latent), dtype=np.float32),
        weight=filled_up(np.ones(len(slices), np.float32), size),
        opens=np.float32(1),
    )


def optimiser_of(settings: SpatialSettings, count: int) -> Any:
    """Adam."""
    return falling_adam(settings.rate, steps_of(settings, count))


def steps_of(settings: SpatialSettings, count: int) -> int:
    """Steps of all epochs."""
    together = scored_together(grid_of(settings))
    whole, rest = divmod(count, together)
    return settings.epochs * (whole * math.ceil(together / settings.batch) + math.ceil(rest / settings.batch))


def stepping(plane: ImagePlane, settings: SpatialSettings, count: int) -> Callable[..., Any]:
    """A compiled step: (weights, state of Adam, batch) -> (new weights and state, (loss, gain, KL))."""
    return _stepping(plane, settings.rate, settings.beta, steps_of(settings, count))


@lru_cache(maxsize=4)
def _stepping(plane: ImagePlane, rate: float, beta: float, steps: int) -> Callable[..., Any]:
    import jax

    optimiser = falling_adam(rate, steps)

    def step(weights: SpatialWeights, state: Any, batch: SpatialBatch) -> Any:
        bound = partial(spatial_vae.loss, plane=plane, batch=batch, beta=beta)
        (loss, parts), slope = jax.value_and_grad(bound, has_aux=True)(weights)
        change, state = changes(optimiser, state, weights, slope)
        moved = jax.tree.map(lambda value, by: value + by, weights, change)
        return moved, state, (loss, *parts)

    return jax.jit(step)


# --- after the training -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What is known of each particle: its turn and origin, and its latent."""

    turns: FoundTurns
    latents: Latents


def weights_of(state: SpatialState, data: SpatialData, settings: SpatialSettings) -> SpatialWeights:
    """The trained weights."""
    return like(state.weights, first_weights(data, settings))


def infer(state: SpatialState, data: SpatialData, settings: SpatialSettings, progress: Progress = silent) -> Found:
    """Turns, origins and latents of all particles."""
    import jax

    weights, grid, plane = weights_of(state, data, settings), grid_of(settings), data.plane
    encoded = jax.jit(lambda weights, batch: posterior(weights, plane, batch))
    groups = batches(np.arange(len(data)), scored_together(grid))
    latents, turns, means, log_deviations = scoring_latents(settings.network.latent), [], [], []
    rng = np.random.default_rng(0)  # of numbers that the encoder does not look at
    for group, slices in zip(groups, data.source.stream(groups), strict=True):
        slices = within(slices, plane, settings.radius)
        found = found_turns(turn_posterior(weights, plane, slices, grid, latents), grid)
        turns.append(found)
        for part in batches(np.arange(len(group)), settings.batch):
            psi, origin = found.psi[part].astype(np.float32), found.origin[part].astype(np.float32)
            batch = batch_of(slices.rows(part), psi, origin, settings, rng)
            mean, log_deviation = (np.asarray(value)[: len(part)] for value in encoded(weights, batch))
            means.append(mean)
            log_deviations.append(log_deviation)
        progress(int(group[-1]) + 1, len(data))
    together = (np.concatenate([getattr(each, name) for each in turns]) for name in ("psi", "origin", "probability"))
    return Found(FoundTurns(*together), Latents.independent(np.concatenate(means), np.concatenate(log_deviations)))


def decoded_images(
    state: SpatialState, data: SpatialData, settings: SpatialSettings, latents: np.ndarray
) -> np.ndarray:
    """The particle [m, y, x] at these latents [m, d], upright and in the middle, without CTF."""
    weights = weights_of(state, data, settings)
    images = [picture(weights.decoder, data.plane, latent, np.float32(0)) for latent in latents.astype(np.float32)]
    return np.fft.fftshift(np.stack(images), axes=(1, 2)).astype(np.float32)
