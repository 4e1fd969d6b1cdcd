"""What `landscape train` does between reading and writing: the subspace, and the network beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitreous.engine.checkpoint import load_state, save_state
from vitreous.heterogeneity.coordinate_network import NetworkSettings
from vitreous.heterogeneity.drgn import corrected_pose
from vitreous.heterogeneity.drgn_training import (
    ENCODED_TOGETHER,
    EpochRecord,
    TrainingData,
    TrainingSettings,
    TrainingState,
    bounds_of,
    decoder_of,
    latents_of,
    train,
)
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.network_decoder import NetworkDecoder, network_amplitude
from vitreous.heterogeneity.network_training import batches
from vitreous.heterogeneity.slice_source import SliceSource, bytes_prepared, prepared
from vitreous.heterogeneity.subspace import SubspaceSettings, SubspaceState, encode_subspace, fit_subspace
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.heterogeneity.subspace_slices import SubspaceSlices
from vitreous.jobs.alignment_input import particle_name
from vitreous.jobs.job import Desk
from vitreous.jobs.landscape_ground import Ground
from vitreous.jobs.landscape_input import LandscapeInput, fits_memory
from vitreous.model.pose import Pose
from vitreous.reconstruction.projection import SliceGrid
from vitreous.reconstruction.slicing import sliced

SUBSPACE_STATE, TRAINING_STATE = "subspace.npz", "training.npz"
SUBSPACE_ITERATIONS = 16  # beside a network
PIXEL_FEATURES_RADIUS = 16  # cycles per box: what an encoder of pixels sees
SMALLEST_SIZE = 1e-3  # of the first: what is kept of a coordinate along which nothing was found to vary
TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Baseline:
    """The linear subspace: every network must tell more of the particles that neither was trained on (`held_out_gain` [m], nat) than this."""

    decoder: SubspaceDecoder
    latents: Latents
    variance: np.ndarray
    fsc: np.ndarray
    log_evidence: tuple[float, ...]
    held_out_gain: np.ndarray

    def isometric(self) -> Baseline:
        """The same landscape in coordinates whose distances are those of the maps, in standard deviations of the first: z_j times |U_j| / |U_1|.

        With a prior of variance 1 all directions of the latents are alike; so scaled, that of the largest variance is what varies most.
        """
        sizes = self.decoder.sizes
        by = np.maximum(sizes / max(sizes[0], TINY), SMALLEST_SIZE)
        return replace(self, decoder=self.decoder.scaled(by), latents=self.latents.scaled(by))


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    decoder: NetworkDecoder
    latents: Latents
    history: tuple[EpochRecord, ...]
    held_out_gain: np.ndarray
    epoch_seconds: list[float] = field(default_factory=list)  # of the epochs of this process
    poses: Pose | None = None
    from_disk: bool = False


def fit_baseline(ground: Ground, source: SliceSource, job: LandscapeInput, desk: Desk) -> Baseline:
    """Fit the subspace to the particles that are trained on, and place all of them in it."""
    kept, particles, consensus = desk.folder / SUBSPACE_STATE, ground.particles, ground.consensus.map
    iterations = job.epochs if job.model == "subspace" else SUBSPACE_ITERATIONS
    settings = SubspaceSettings(job.baseline_components, iterations, ground.radius, ground.particle_radius, job.seed)
    assert particles.half_set is not None
    half_set = particles.half_set[ground.trained]
    fit = fit_subspace(
        source,
        (ground.trained[half_set == 1], ground.trained[half_set == 2]),
        settings,
        consensus,
        particles.pixel_size,
        start=load_state(kept, SubspaceState) if kept.is_file() else None,
        keep=lambda state: save_state(kept, state),
        progress=desk.progress("subspace"),
    )
    everyone = np.arange(len(particles))
    latents, gain = encode_subspace(source, everyone, fit.decoder, progress=desk.progress("latents of the subspace"))
    return Baseline(fit.decoder, latents, fit.variance, fit.fsc, fit.log_evidence, gain[ground.held_out])


def train_network(ground: Ground, source: SliceSource, baseline: Baseline, job: LandscapeInput, desk: Desk) -> Trained:
    """Train the network, from the last checkpoint where there is one."""
    data, settings = training_data(ground, baseline, source, job), training_settings(ground, job)
    kept, seconds = desk.folder / TRAINING_STATE, []
    clock = time.perf_counter()

    def keep(state: TrainingState) -> None:
        nonlocal clock
        seconds.append(time.perf_counter() - clock)
        save_state(kept, state)
        clock = time.perf_counter()

    state = train(
        data,
        settings,
        load_state(kept, TrainingState) if kept.is_file() else None,
        keep=keep,
        progress=desk.progress("train"),
        name_of=lambda row: particle_name(ground.particles, row, job.particles),
    )
    maps = baseline.decoder.maps[: None if job.latent else 1]  # the mean of the subspace is the consensus
    decoder = decoder_of(state, data, settings, maps, ground.particles.pixel_size)
    held_out = np.zeros(0) if job.autodecoder else bounds_of(state, data, settings, ground.held_out)
    return Trained(
        decoder,
        latents_of(state, data, settings),
        state.history,
        held_out,
        seconds,
        refined_poses(ground, state),
        source.on_disk,
    )


def slice_source(ground: Ground, job: LandscapeInput, desk: Desk) -> SliceSource:
    """All particles less the consensus, in memory, or in files beside the result where they are too many or `--lazy` asks for it."""
    aside = job.lazy or not fits_memory(bytes_prepared(len(ground.reader), ground.reader.grid))
    consensus = sliced(ground.consensus.map)
    return prepared(ground.reader, consensus, desk.folder if aside else None, desk.progress("read"))


def training_settings(ground: Ground, job: LandscapeInput) -> TrainingSettings:
    """Every number that the training needs."""
    return TrainingSettings(
        NetworkSettings(job.latent, job.width, job.layers, job.waves),
        radius=ground.radius,
        particle_radius=ground.particle_radius,
        epochs=job.epochs,
        batch=min(job.batch, len(ground.trained)),
        rate=job.rate,
        beta=job.beta,
        share=job.share,
        autodecoder=job.autodecoder,
        refine_poses=job.refine_poses,
        seed=job.seed,
    )


def training_data(ground: Ground, baseline: Baseline, source: SliceSource, job: LandscapeInput) -> TrainingData:
    """The particles as the network sees them. An autodecoder is trained on all: a latent that was never trained says nothing."""
    consensus = ground.consensus.map
    rows = np.arange(len(source)) if job.autodecoder else ground.trained
    common = TrainingData(
        source, rows, sliced(consensus), network_amplitude(consensus), np.zeros((len(source), 0), np.float32)
    )
    if job.latent == 0:
        return common
    common = replace(common, linear=SubspaceSlices.of(baseline.decoder))
    if job.encoder == "pixels":
        return replace(common, features=pixel_features(source))
    features, direct = subspace_features(baseline.latents, job.latent)
    return replace(common, features=features, direct=direct, first_latents=first_latents(baseline.latents, job.latent))


def subspace_features(latents: Latents, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and log deviations of the subspace's latents [n, 2k], and the matrix [2k, 2d] that takes the first d of each to the encoder's answer."""
    count = latents.dimensions
    features = np.concatenate([latents.mean, np.log(latents.deviation)], axis=1).astype(np.float32)
    direct = np.zeros((2 * count, 2 * wanted), np.float32)
    for j in range(min(count, wanted)):
        direct[j, j] = direct[count + j, wanted + j] = 1
    return features, direct


def first_latents(latents: Latents, wanted: int) -> Latents:
    """The first d coordinates, as an autodecoder starts from them; those that the subspace lacks are the prior's."""
    count, shared = len(latents), min(latents.dimensions, wanted)
    mean = np.zeros((count, wanted), np.float32)
    covariance = np.broadcast_to(np.eye(wanted, dtype=np.float32), (count, wanted, wanted)).copy()
    mean[:, :shared] = latents.mean[:, :shared]
    covariance[:, :shared, :shared] = latents.covariance[:, :shared, :shared]
    return Latents(mean, covariance)


def pixel_features(source: SliceSource) -> np.ndarray:
    """The transforms, less the consensus, times their CTF [n, 2p], real and imaginary parts in units of their root mean square, within PIXEL_FEATURES_RADIUS."""
    grid: SliceGrid = source.grid
    near = np.flatnonzero(np.hypot(grid.kx, grid.ky) < PIXEL_FEATURES_RADIUS)
    features = np.empty((len(source), 2 * len(near)), np.float32)
    groups = batches(np.arange(len(source)), ENCODED_TOGETHER)
    for rows, slices in zip(groups, source.stream(groups), strict=True):
        values: Any = slices.values[:, near] * slices.transfer[:, near]
        features[rows] = np.concatenate([values.real, values.imag], axis=1)
    return features / np.sqrt(np.mean(features**2, axis=0) + 1e-12)


def refined_poses(ground: Ground, state: TrainingState) -> Pose | None:
    """The poses with their corrections, if they were refined."""
    if state.pose is None:
        return None
    pose, width = ground.particles.pose, ground.box * ground.particles.pixel_size
    assert pose is not None
    return Pose(*corrected_pose(pose.euler, pose.shift, state.pose.values, width))
