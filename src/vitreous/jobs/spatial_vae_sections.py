"""What `landscape images` reports: the training, where the particles lie, and pictures along the latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.spatial_vae import ImagePlane
from vitreous.heterogeneity.spatial_vae_training import (
    Found,
    SpatialData,
    SpatialSettings,
    SpatialState,
    decoded_images,
)
from vitreous.jobs.curves import Series, line_plot
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.landscape_training_sections import latent_section
from vitreous.jobs.latent_table import latent_finding
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import Figure, Section, Source
from vitreous.model.particles import Particles
from vitreous.units import DEGREE

PERCENTILES = (5, 20, 35, 50, 65, 80, 95)
SHOWN_COMPONENTS = 4
PICTURE = 110  # pixels
UNSURE = 0.5  # of the particles, whose turn is less probable than this
SOURCES = (
    Source("Bepler, Zhong, Kelley, Brignole & Berger 2019, spatial-VAE", "10.48550/arXiv.1909.11663"),
    Source("Kingma & Welling 2014, the variational autoencoder", "10.48550/arXiv.1312.6114"),
)
TRAINING_TEXT = (
    "The loss is minus a lower bound of the log-likelihood of an image, relative to an empty one. The gain is what the picture explains of the image; what it "
    "takes to say which latent, turn and origin an image has is subtracted. The latent is shut in the first third of the epochs, and rings open in steps: both "
    "show in the curve."
)
PICTURES_TEXT = (
    "Pictures that the decoder makes at percentiles of each principal component of the latents, the other components at their mean; without CTF, all in one grey "
    "scale. They lie in one plane: a view from another side is another picture, so a latent may stand for a side view as well as for a motion."
)


@dataclass(frozen=True)
class Walk:
    """`images` [c m, y, x]: m pictures along each of c principal components, at `latents` [c m, d]."""

    images: np.ndarray
    latents: np.ndarray


def along_latents(state: SpatialState, data: SpatialData, settings: SpatialSettings, latents: Latents) -> Walk:
    """Pictures at PERCENTILES of the first components."""
    components = principal_components(latents.mean)
    places = []
    for j in range(min(SHOWN_COMPONENTS, latents.dimensions)):
        for place in np.percentile(components.scores[:, j], PERCENTILES):
            scores = np.zeros((1, j + 1))
            scores[0, j] = place
            places.append(components.latents(scores)[0])
    at = np.asarray(places, np.float32)
    return Walk(decoded_images(state, data, settings, at), at)


def images_outcome(
    name: str,
    particles: Particles,
    plane: ImagePlane,
    settings: SpatialSettings,
    state: SpatialState,
    found: Found,
    walk: Walk,
) -> Outcome:
    """Findings, warnings, tables and sections."""
    outcome = Outcome(findings(particles, plane, settings, state, found), title=f"Landscape of the images of {name}")
    outcome.headline = ("particles", "latent", "gain_nat", "turn_probability")
    outcome.subtitle = (
        f"{len(particles):,} particles, {plane.box} px of {particles.pixel_size:.4g} Å, {state.epoch} epochs, "
        f"{settings.turns} turns"
    )
    if np.mean(found.turns.probability < 0.5) > UNSURE:
        outcome.warnings.append(
            "The turn of most particles is uncertain: the images may be too noisy one by one, or the particle too round."
        )
    if state.history[-1].loss > 0:
        outcome.warnings.append(
            "The pictures explain less of the images than their turns and latents cost: nothing was found that is worth telling."
        )
    outcome.tables = {
        "epochs": {
            key: [getattr(record, key) for record in state.history]
            for key in ("loss", "gain", "kl", "pose_kl", "radius")
        },
        "decoded_latents": walk.latents.tolist(),
    }
    outcome.sections = [
        pictures_section(outcome, walk),
        training_section(state),
        latent_section(principal_components(found.latents.mean)),
    ]
    return outcome


def findings(
    particles: Particles, plane: ImagePlane, settings: SpatialSettings, state: SpatialState, found: Found
) -> list[Finding]:
    last, width = state.history[-1], plane.box * particles.pixel_size
    moved = np.sqrt(np.mean((found.turns.origin * particles.pixel_size) ** 2))
    return [
        Finding("particles", "particles", len(particles), meaning="Images."),
        latent_finding(settings.network.latent),
        Finding("loss", "loss", last.loss, "nat", "Bound of the last epoch, sign changed, per particle."),
        Finding("gain_nat", "gain", last.gain, "nat", "What the picture explains of an image beyond an empty one."),
        Finding("kl_nat", "latents cost", last.kl, "nat", "Divergence of the latents from their prior."),
        Finding(
            "pose_kl_nat", "turns cost", last.pose_kl, "nat", "Divergence of turns and origins from a uniform one."
        ),
        Finding(
            "turn_probability",
            "turn probability",
            float(np.median(found.turns.probability)),
            "",
            "Median over the particles of the probability that the turn is right within two steps.",
        ),
        Finding("turn_step_deg", "turn step", 2 * np.pi / settings.turns / DEGREE, "°", "Between angles scored."),
        Finding("origin_rms_angstrom", "origins", float(moved), "Å", "Root mean square of x and y."),
        Finding("finest_angstrom", "compared to", width / settings.radius, "Å", "The finest ring that was used."),
    ]


def pictures_section(outcome: Outcome, walk: Walk) -> Section:
    """The decoded images, a row for each component."""
    rows = len(walk.images) // len(PERCENTILES)
    figure = Figure(
        "Rows: principal components of the latents. Columns: percentiles.",
        png=image_gallery(walk.images, columns=len(PERCENTILES), size=PICTURE, same_scale=True),
        alt=f"Pictures along {rows} components of the latents",
        columns=[f"{percentile} %" for percentile in PERCENTILES],
        rows=[f"component {j + 1}" for j in range(rows)],
        wide=True,
    )
    numbers = outcome.numbers([f.key for f in outcome.findings if f.key not in outcome.headline])
    return Section("Along the latents", PICTURES_TEXT, figures=[figure], numbers=numbers, sources=SOURCES)


def training_section(state: SpatialState) -> Section:
    epochs = np.arange(1, len(state.history) + 1)
    parts = (("loss", "loss"), ("gain", "gain"), ("cost of latents", "kl"), ("cost of turns and origins", "pose_kl"))
    series = [Series(label, epochs, [getattr(record, key) for record in state.history]) for label, key in parts]
    svg = line_plot(series, x_label="epoch", y_label="nat a particle", title="Loss, gain and divergences in each epoch")
    caption = "Loss = cost of latents + cost of turns and origins - gain, mean over the particles of an epoch."
    return Section("The training", TRAINING_TEXT, figures=[Figure(caption, svg=svg)])
