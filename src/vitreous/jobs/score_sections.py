"""What `landscape score` has to say: findings, the table of scores, curves, and latents drawn against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitreous.heterogeneity.map_scores import MapGrid
from vitreous.io.ensemble_truth import EnsembleTruth
from vitreous.io.mrc import read_header
from vitreous.jobs.curves import Points, Series, line_plot, scatter_plot
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.jobs.score_latents import MIXTURE
from vitreous.jobs.score_measures import Measure, ScoredMethod
from vitreous.jobs.svg import SERIES

DRAWN = 1500  # particles of a scatter plot: more only make the page heavy
HEADLINE = (
    "image_fsc_auc",
    "conformation_fsc_auc",
    "spearman_first_component",
    "adjusted_rand_index",
    "explained_variance",
)
SOURCES = (
    Source("Jeon et al. 2024, CryoBench: datasets and measures for heterogeneous reconstruction, arXiv:2408.05526"),
    Source("Glielmo et al. 2022, information imbalance", "10.1093/pnasnexus/pgac039"),
    Source("Hubert & Arabie 1985, the adjusted Rand index", "10.1007/BF01908075"),
)
SCORES_TEXT = (
    "Each measure stands between what a method that has learned nothing gets on the same particles and what the truth itself gets. In brackets: the 95 % interval "
    "if other particles had been drawn (bootstrap). Maps are judged apart from latents, because either can be good without the other: latents that order "
    "particles well may lead to blurred maps, and a few good maps may be given to the wrong particles."
)
MAPS_TEXT = (
    "Fourier shell correlation of a method's map with the true map, inside a mask around all true maps; the area under the curve up to Nyquist, as a part of the most "
    "that it can be, is the score. CryoBench gives the area over frequencies in 1/pixel: half of this number. The mean of all true maps stands for a method that "
    "gives every particle the same, perfect map: heterogeneity begins above it."
)
LATENTS_TEXT = (
    "Latents have no units and no sign, and may be bent: they are compared with the truth by who is whose neighbour, by ranks, and by how well neighbours "
    "foretell the truth."
)
UNITS = {"hinge": "hinge angle (°)", "path": "fraction of the path"}


def score_outcome(scored: list[ScoredMethod], truth: EnsembleTruth, grid: MapGrid, aligned: bool) -> Outcome:
    """Findings and the whole report."""
    outcome = Outcome(findings(scored))
    outcome.headline = headline(scored)
    outcome.subtitle = (
        f"{len(truth):,} conformations ({truth.kind or 'of an ensemble'}), {len(truth.index):,} particles"
    )
    outcome.warnings = [*matching_notes(scored, truth), *grid_notes(scored, truth, grid)]
    outcome.tables = tables(scored, grid)
    outcome.sections = [Section("Scores", SCORES_TEXT, tables=[score_table(scored)], sources=SOURCES)]
    with_maps = [one for one in scored if one.maps is not None]
    if with_maps:
        outcome.sections.append(maps_section(with_maps, truth, grid, aligned))
    outcome.sections.append(latents_section(scored, truth))
    return outcome


def headline(scored: list[ScoredMethod]) -> tuple[str, ...]:
    """All that HEADLINE names of one method; of several the first that each has."""
    known = [[key for key in HEADLINE if any(one.key == key for one in method.measures())] for method in scored]
    if len(scored) == 1:
        return tuple(known[0])
    return tuple(f"{keys[0]}_{number}" for number, keys in enumerate(known, start=1) if keys)


def findings(scored: list[ScoredMethod]) -> list[Finding]:
    """All figures of one method; of several, each with the name of its method."""
    found = [
        Finding(
            "particles" if len(scored) == 1 else f"particles_{number}",
            "particles" if len(scored) == 1 else f"{one.name}: particles",
            len(one.rows),
            "",
            "Particles that the method and the truth share.",
        )
        for number, one in enumerate(scored, start=1)
    ]
    for number, one in enumerate(scored, start=1):
        for measure in one.measures():
            key = measure.key if len(scored) == 1 else f"{measure.key}_{number}"
            label = measure.label if len(scored) == 1 else f"{one.name}: {measure.label}"
            if measure.key == "image_fsc_auc":
                label = f"{label} (homogeneous {measure.chance:.{measure.digits}f})"
            found.append(Finding(key, label, measure.number, measure.unit, measure.meaning, measure.digits))
    return found


def tables(scored: list[ScoredMethod], grid: MapGrid) -> dict[str, Any]:
    return {
        "grid": {"box": grid.box, "pixel_size_angstrom": grid.pixel_size, "frequency": grid.frequency},
        "methods": {one.name: one.as_json() for one in scored},
    }


def matching_notes(scored: list[ScoredMethod], truth: EnsembleTruth) -> list[str]:
    """What was left out on either side."""
    notes = []
    for one in scored:
        own, shared = len(one.method.latents), len(one.rows)
        if shared < max(own, len(truth.index)):
            notes.append(
                f"{one.name}: {shared:,} of its {own:,} particles are among the {len(truth.index):,} of the truth; the others do not count."
            )
        if len(one.chosen) < len(truth):
            notes.append(
                f"{one.name} has no particle of {len(truth) - len(one.chosen)} of the {len(truth)} conformations."
            )
    return notes


def grid_notes(scored: list[ScoredMethod], truth: EnsembleTruth, grid: MapGrid) -> list[str]:
    """Which maps had to be resampled."""
    if all(one.maps is None for one in scored):
        return []
    header = read_header(truth.maps[0])
    owners = [("the truth", MapGrid(header.shape[0], header.pixel_size[0] if header.pixel_size else 0.0))]
    owners += [(one.name, one.method.maps.grid) for one in scored if one.method.maps is not None]
    others = [
        f"{name} ({own.box} voxels of {own.pixel_size:.3f} Å)"
        for name, own in owners
        if own.box != grid.box or abs(own.pixel_size / grid.pixel_size - 1) > 1e-3
    ]
    if not others:
        return []
    return [
        f"Maps are compared on {grid.box} voxels of {grid.pixel_size:.3f} Å, the coarsest grid; resampled are those of {', '.join(others)}."
    ]


def score_table(scored: list[ScoredMethod]) -> Table:
    """The measures, a row each, with what chance and the truth get (on the particles of the first method)."""
    by_key: dict[str, dict[str, Measure]] = {}
    for one in scored:
        for measure in one.measures():
            by_key.setdefault(measure.key, {})[one.name] = measure
    rows = []
    for found in by_key.values():
        first = next(iter(found.values()))
        values = [found[one.name].text if one.name in found else "–" for one in scored]
        ends = ["–" if end is None else f"{end:.{first.digits}f}" for end in (first.chance, first.best)]
        rows.append([first.label, *values, *ends, first.meaning])
    names = ["value"] if len(scored) == 1 else [one.name for one in scored]
    return Table(["measure", *names, "nothing learned", "the truth itself", "what it says"], rows)


def maps_section(scored: list[ScoredMethod], truth: EnsembleTruth, grid: MapGrid, aligned: bool) -> Section:
    text = MAPS_TEXT
    if aligned:
        text += "\n\n" + " ".join(alignment_note(one) for one in scored)
    figures = [curves_figure(scored, grid), areas_figure(scored, truth)]
    return Section("Maps", text, figures=figures, tables=[conformation_table(scored, truth)])


def alignment_note(one: ScoredMethod) -> str:
    """How the maps of a method were laid over the truth."""
    placement = None if one.maps is None else one.maps.placement
    if placement is None:
        return ""
    angle = np.degrees(np.arccos(np.clip((np.trace(placement.rotation) - 1) / 2, -1, 1)))
    shift = float(np.linalg.norm(placement.shift))
    return f"The maps of {one.name} were {'mirrored, ' if placement.mirrored else ''}turned by {angle:.1f}° and moved by {shift:.1f} voxels."


def curves_figure(scored: list[ScoredMethod], grid: MapGrid) -> Figure:
    """The mean curve of each method with its band, and that of the mean of all true maps."""
    series: list[Series] = []
    for colour, one in enumerate(scored):
        assert one.maps is not None
        curves = np.stack(one.maps.image_curves or one.maps.conformation_curves)
        mean, deviation = curves.mean(axis=0), curves.std(axis=0)
        series.append(Series(one.name, grid.frequency, mean, colour=colour))
        if len(scored) <= 2:
            for end in (mean - deviation, np.minimum(mean + deviation, 1)):
                label = f"± standard deviation, {one.name}"
                series.append(Series(label, grid.frequency, end, "dotted", colour))
    first = scored[0].maps
    assert first is not None
    colour = len(scored)
    series.append(
        Series(
            "mean of all true maps", grid.frequency, first.of_images(first.mean_curves).mean(axis=0), "dashed", colour
        )
    )
    if len(scored) == 1 and first.consensus_curves:
        mean = first.of_images(first.consensus_curves).mean(axis=0)
        series.append(Series("its consensus", grid.frequency, mean, "dashed", colour + 1))
    svg = line_plot(
        one_label_each(series),
        x_label="resolution; frequency (1/Å)",
        y_label="FSC with the truth",
        title="Fourier shell correlation with the truth",
        y_limits=(min(-0.05, min(float(np.min(s.y)) for s in series)), 1.02),
        resolution_axis=True,
    )
    return Figure(
        "FSC of the maps at the latents of single images (of conformations, where a method gives no others) with their true maps: the mean.",
        svg=svg,
    )


def one_label_each(series: list[Series]) -> list[Series]:
    """Both ends of a band in one entry of the legend: the second has its curve after a gap of the first."""
    merged: dict[tuple[str, int | None], Series] = {}
    for one in series:
        key = (one.label, one.colour)
        if key in merged:
            before = merged[key]
            x, y = ([*a, np.nan, *b] for a, b in ((before.x, one.x), (before.y, one.y)))
            one = Series(one.label, x, y, one.style, one.colour)
        merged[key] = one
    return list(merged.values())


def areas_figure(scored: list[ScoredMethod], truth: EnsembleTruth) -> Figure:
    """The area of each image (of each conformation, without maps of images) against its true coordinate."""
    groups = []
    for colour, one in enumerate(scored):
        assert one.maps is not None
        index, areas = _placed(one)
        groups.append(Points(one.name, _coordinates(truth, index), areas, colour=colour))
    first = scored[0].maps
    assert first is not None
    index = np.array([chosen.conformation for chosen in scored[0].chosen])
    groups.append(Points("mean of all true maps", _coordinates(truth, index), first.mean_areas, "cross", len(scored)))
    svg = scatter_plot(
        groups,
        x_label=UNITS.get(truth.kind, "conformation"),
        y_label="area under the FSC",
        title="Area under the FSC along the ensemble",
    )
    return Figure("Area under the FSC of each image's map, by its true conformation.", svg=svg)


def conformation_table(scored: list[ScoredMethod], truth: EnsembleTruth) -> Table:
    """Area and resolution of each conformation by each method."""
    index = sorted({chosen.conformation for one in scored for chosen in one.chosen})
    columns = []
    for one in scored:
        assert one.maps is not None
        areas, resolutions = one.maps.conformation_areas, one.maps.resolutions
        columns.append(
            {chosen.conformation: (f"{areas[n]:.3f}", str(resolutions[n])) for n, chosen in enumerate(one.chosen)}
        )
    rows = [
        [truth.names[i], float(truth.values[i]), *(cell for column in columns for cell in column.get(i, ("–", "–")))]
        for i in index
    ]
    prefix = [f"{one.name}: " if len(scored) > 1 else "" for one in scored]
    headings = [heading for name in prefix for heading in (f"{name}area", f"{name}resolution")]
    return Table(["conformation", "value", *headings], rows, folded=f"The {len(rows)} conformations one by one")


def latents_section(scored: list[ScoredMethod], truth: EnsembleTruth) -> Section:
    figures = [similarity_figure(scored)]
    figures += [latent_figure(one, truth) for one in scored]
    return Section("Latents", LATENTS_TEXT, figures=figures)


def similarity_figure(scored: list[ScoredMethod]) -> Figure:
    """Neighbourhood similarity over the size of the neighbourhood, and what random latents get."""
    series = [
        Series(one.name, one.latents.similarity.count / one.latents.used, one.latents.similarity.similarity)
        for one in scored
    ]
    first = scored[0].latents
    random = Series("random latents", first.similarity.count / first.used, first.similarity.expected, "dashed", 4)
    svg = line_plot(
        [*series, random],
        x_label="size of the neighbourhood, part of all particles",
        y_label="part that is shared",
        title="Neighbourhood similarity",
        y_limits=(0.0, 1.02),
    )
    return Figure(
        "How many of a particle's nearest neighbours by latent are so by the truth, mean over the particles.", svg=svg
    )


def latent_figure(one: ScoredMethod, truth: EnsembleTruth) -> Figure:
    """The first component of the latent against the true coordinate, or the first two in the colours of the species."""
    rows = np.unique(np.linspace(0, len(one.rows) - 1, DRAWN).astype(int))
    component, index = one.latents.component, truth.index[one.true_rows]
    if truth.kind != MIXTURE:
        x = truth.values[index[rows]]
        groups = [Points("particles", x, component[rows])]
        labels = (UNITS.get(truth.kind, "true coordinate"), "first component of the latent")
    else:
        latents = one.method.latents[one.rows]
        second = second_component(latents)
        groups = [
            Points(truth.names[species], component[rows][own], second[rows][own], colour=species % len(SERIES))
            for species in range(len(truth))
            if (own := index[rows] == species).any()
        ]
        labels = ("first component of the latent", "second component")
    svg = scatter_plot(groups, x_label=labels[0], y_label=labels[1], title=f"Latents of {one.name} and the truth")
    caption = f"Latents of {one.name}: {len(rows):,} particles."
    return Figure(caption, svg=svg)


def second_component(latents: np.ndarray) -> np.ndarray:
    """The coordinate along the direction in which latents spread second most; 0 if they have but one coordinate."""
    centred = latents - latents.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, -2] if latents.shape[1] > 1 else np.zeros(len(latents))


def _placed(one: ScoredMethod) -> tuple[np.ndarray, np.ndarray]:
    """(Conformation, area) of each image, or of each conformation if no image has a map."""
    assert one.maps is not None
    index = np.array([chosen.conformation for chosen in one.chosen])
    if one.maps.image_curves:
        return np.repeat(index, [len(chosen.rows) for chosen in one.chosen]), one.maps.image_areas
    return index, one.maps.conformation_areas


def _coordinates(truth: EnsembleTruth, index: np.ndarray) -> np.ndarray:
    return (index + 1.0) if truth.kind == MIXTURE else truth.values[index].astype(np.float64)
