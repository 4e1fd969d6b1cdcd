"""What `landscape train` reports: how the training went, what it learned that holds for other particles, and maps along the landscape."""

from __future__ import annotations

import numpy as np

from vitreous.heterogeneity.decoder import Decoder, decoded_volume
from vitreous.heterogeneity.latent_maps import PrincipalComponents, principal_components
from vitreous.jobs.curves import Points, Series, line_plot, scatter_plot
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.landscape_ground import Ground
from vitreous.jobs.landscape_input import LandscapeInput
from vitreous.jobs.landscape_training import Baseline, Trained
from vitreous.jobs.latent_table import latent_finding
from vitreous.jobs.pictures import isosurface_picture
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.jobs.surface import FRONT, SIDE
from vitreous.reconstruction.mask import automatic_mask, masked_for_display

SHOWN = 3000  # particles of a scatter plot, at most
PERCENTILES = (5, 27.5, 50, 72.5, 95)
SURFACE_SIZE = 200  # pixels
SOURCES = {
    "drgn": (
        Source("Zhong, Bepler, Berger & Davis 2021, cryoDRGN", "10.1038/s41592-020-01049-4"),
        Source("Kingma & Welling 2014, the variational autoencoder", "10.48550/arXiv.1312.6114"),
    ),
    "subspace": (
        Source("Tipping & Bishop 1999, probabilistic principal components", "10.1111/1467-9868.00196"),
        Source("Punjani & Fleet 2021, 3D variability analysis", "10.1016/j.jsb.2021.107702"),
    ),
}
BASELINE_TEXT = (
    "What a model knows shows on particles it has not seen. The gain is the log-likelihood of a held-out image under the model, less that under the one map "
    "of all particles, in nat; of a network a lower bound of it. A gain near 0 means that the images show no differences that the model has learned. A network "
    "that does not beat the linear subspace has learned nothing that needs a network."
)
TRAINING_TEXT = (
    "The loss is the bound with its sign changed, relative to the one map of all particles: below 0 the latent explains more than it costs. Steps in the curve are rings "
    "that open, images are compared up to half of the final resolution first, and coordinates of the latent that open, the first one alone at first."
)
MAPS_TEXT = (
    "Maps at the percentiles of the first principal component of the latents, the other components at their mean. They are what the model says there, not averages of "
    "particles. `vitreous landscape analyze` shows more."
)


def training_outcome(job: LandscapeInput, ground: Ground, baseline: Baseline, trained: Trained | None) -> Outcome:
    """Findings, warnings, tables and sections."""
    outcome = Outcome(title=f"Landscape of {job.particles.name}")
    outcome.findings = findings(job, ground, baseline, trained)
    outcome.warnings = warnings(job, baseline, trained)
    outcome.headline = ("particles", "latent", "gain_nat", "subspace_gain_nat")
    width = ground.box * ground.particles.pixel_size
    outcome.subtitle = (
        f"{len(ground.particles):,} particles, {ground.box} px of {ground.particles.pixel_size:.4g} Å, "
        f"compared to {width / ground.radius:.1f} Å, {'a network' if trained else 'a linear subspace'}"
    )
    outcome.tables = tables(baseline, trained)
    found = baseline if trained is None else trained
    outcome.sections = [baseline_section(job, outcome, baseline, trained), training_section(baseline, trained)]
    if found.decoder.dimensions:
        components = principal_components(found.latents.mean)
        outcome.sections += [latent_section(components), maps_section(found.decoder, components)]
    return outcome


def findings(job: LandscapeInput, ground: Ground, baseline: Baseline, trained: Trained | None) -> list[Finding]:
    gain = baseline.held_out_gain if trained is None else trained.held_out_gain
    width = ground.box * ground.particles.pixel_size
    found = [
        Finding("particles", "particles", len(ground.particles), meaning="Images with poses."),
        Finding(
            "held_out",
            "held out",
            len(ground.held_out),
            meaning="Particles that were not trained on, and judge what was learned.",
        ),
        latent_finding(job.latent),
        Finding(
            "finest_angstrom", "compared to", width / ground.radius, "Å", "The finest ring of the images that was used."
        ),
        gain_finding(
            "gain_nat", "gain", gain, "What the landscape tells of a held-out particle beyond the one map of all, nat."
        ),
    ]
    if trained is None:
        return found
    found.append(
        gain_finding(
            "subspace_gain_nat",
            "of the subspace",
            baseline.held_out_gain,
            "The same of the linear subspace, the baseline.",
        )
    )
    found.append(
        Finding("loss", "loss", trained.history[-1].loss, "nat", "Bound of the last epoch, sign changed, per particle.")
    )
    if trained.epoch_seconds:
        speed = (len(ground.particles) - len(ground.held_out)) / float(np.median(trained.epoch_seconds))
        found.append(
            Finding("particles_per_second", "speed", speed, "particles/s", "Training, by the median epoch.", 1)
        )
    return found


def gain_finding(key: str, label: str, gain: np.ndarray, meaning: str) -> Finding:
    """The mean gain, with its standard error in the meaning."""
    if len(gain) < 2:
        return Finding(key, label, None, "nat", "No particles were held out.")
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return Finding(key, label, float(gain.mean()), f"± {error:.2g} nat", meaning)


def warnings(job: LandscapeInput, baseline: Baseline, trained: Trained | None) -> list[str]:
    found = []
    gain = baseline.held_out_gain if trained is None else trained.held_out_gain
    if len(gain) > 1 and gain.mean() < 2 * gain.std(ddof=1) / np.sqrt(len(gain)):
        found.append(
            "Held-out particles are told no better than by one map for all: nothing that varies was found, or the poses hide it."
        )
    if trained is None or len(gain) < 2:
        return found
    difference = trained.held_out_gain - baseline.held_out_gain
    if difference.mean() < 0:
        found.append(
            "The network tells less of held-out particles than the linear subspace: train it longer, or use --model subspace."
        )
    if job.autodecoder:
        found.append("An autodecoder is trained on all particles: no gain of held-out ones can be given.")
    return found


def tables(baseline: Baseline, trained: Trained | None) -> dict:
    """What result.json holds besides the findings."""
    found: dict = {
        "subspace": {
            "variance": baseline.variance.tolist(),
            "log_evidence": list(baseline.log_evidence),
            "fsc": baseline.fsc.tolist(),
        }
    }
    if trained is not None:
        found["epochs"] = {
            name: [getattr(record, name) for record in trained.history]
            for name in ("loss", "gain", "kl", "radius", "pixels")
        }
        found["epoch_seconds"] = trained.epoch_seconds
        found["from_disk"] = trained.from_disk
    return found


def baseline_section(job: LandscapeInput, outcome: Outcome, baseline: Baseline, trained: Trained | None) -> Section:
    rows = [("one map for all", 0.0, "by definition"), row("linear subspace", baseline.held_out_gain)]
    if trained is not None:
        rows.append(row("network", trained.held_out_gain))
    numbers = outcome.numbers([f.key for f in outcome.findings if f.key not in outcome.headline])
    table = Table(("model", "gain, nat a particle", "standard error"), rows)
    return Section("What was learned", BASELINE_TEXT, numbers=numbers, tables=[table], sources=SOURCES[job.model])


def row(name: str, gain: np.ndarray) -> tuple:
    if len(gain) < 2:
        return name, "none held out", ""
    return name, f"{gain.mean():.2f}", f"{gain.std(ddof=1) / np.sqrt(len(gain)):.2g}"


def training_section(baseline: Baseline, trained: Trained | None) -> Section:
    if trained is None:
        steps, curve = np.arange(1, len(baseline.log_evidence) + 1), baseline.log_evidence
        svg = line_plot(
            [Series("log evidence", steps, curve)],
            x_label="iteration",
            y_label="nat a particle",
            title="Log evidence beyond the consensus in each iteration",
        )
        return Section(
            "The fit",
            figures=[Figure("Log evidence beyond the one map of all particles, in each iteration.", svg=svg)],
        )
    epochs = np.arange(1, len(trained.history) + 1)
    series = [
        Series(label, epochs, [getattr(record, name) for record in trained.history])
        for label, name in (("loss", "loss"), ("gain of the likelihood", "gain"), ("KL divergence", "kl"))
    ]
    svg = line_plot(
        series, x_label="epoch", y_label="nat a particle", title="Loss, gain and KL divergence in each epoch"
    )
    return Section(
        "The training",
        TRAINING_TEXT,
        figures=[Figure("Loss = KL divergence - gain, mean over the particles of an epoch.", svg=svg)],
    )


def latent_section(components: PrincipalComponents) -> Section:
    """Where the particles lie."""
    scores = components.scores[:: max(1, len(components.scores) // SHOWN)]
    explained = ", ".join(f"{part:.0%}" for part in components.explained[:4])
    text = f"Principal components of the latents hold {explained} of their variance. Clouds in this plane are not states by themselves."
    if scores.shape[1] == 1:
        scores = np.column_stack([scores[:, 0], np.random.default_rng(0).uniform(-1, 1, len(scores))])
    second = "second component" if components.scores.shape[1] > 1 else "spread out at random"
    svg = scatter_plot(
        [Points("particles", scores[:, 0], scores[:, 1])],
        x_label="first component",
        y_label=second,
        title="Latents of the particles",
    )
    return Section(
        "Where the particles lie",
        text,
        figures=[Figure("The latents in the plane of their first two principal components.", svg=svg)],
    )


def maps_section(decoder: Decoder, components: PrincipalComponents) -> Section:
    """Maps along the first principal component, drawn at one contour."""
    places = np.percentile(components.scores[:, 0], PERCENTILES)
    maps = [decoded_volume(decoder, components.latents(np.array([[place]]))[0]) for place in places]
    mask = automatic_mask(np.mean([volume.data for volume in maps], axis=0), decoder.pixel_size)
    _, level = masked_for_display(maps[len(maps) // 2].data, mask)
    figures = []
    for volume, percentile in zip(maps, PERCENTILES, strict=True):
        shown = volume.data * mask.values
        if level is None or not shown.min() < level < shown.max():
            continue
        figures.append(
            Figure(
                f"At the {percentile:g} % percentile of the first component.",
                png=isosurface_picture(shown, level, (FRONT, SIDE), size=SURFACE_SIZE),
                alt=f"Surface of the map at the {percentile:g} percent percentile, from two sides",
                columns=("front", "side"),
            )
        )
    return Section("Along the first component", MAPS_TEXT, figures=figures)
