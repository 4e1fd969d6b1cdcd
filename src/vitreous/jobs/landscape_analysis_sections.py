"""The report of `landscape analyze`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.heterogeneity.label_agreement import adjusted_rand_index
from vitreous.heterogeneity.latent_clusters import Clusters
from vitreous.jobs.animation import animated
from vitreous.jobs.curves import Series, Threshold, histogram, line_plot
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.landscape_analysis import NEAR_PERCENT, PERCENTILES, Analysis
from vitreous.jobs.landscape_density_section import axis_name, density_section
from vitreous.jobs.landscape_folder import Landscape
from vitreous.jobs.landscape_volumes import MOVIES, VOLUMES, Pictures, Place
from vitreous.jobs.latent_figures import latent_map
from vitreous.jobs.latent_table import latent_finding
from vitreous.jobs.pictures import png_bytes, sheet_of
from vitreous.jobs.report import Figure, Gallery, Section, Source, Table, Tile

if TYPE_CHECKING:
    from vitreous.jobs.analyze_landscape import AnalyzeLandscape

PATH_COLOURS = (1, 5)  # orange and red: seen on the dark colours of a crowded map
STRIP = 6  # pictures side by side
STATES = (
    "Clusters are not states by themselves: both methods cut any cloud into as many parts as they are asked for. Look for dips in the density "
    "between them, and refine the particles of each apart."
)


def analysis_outcome(
    job: AnalyzeLandscape, landscape: Landscape, analysis: Analysis, places: list[Place], pictures: Pictures
) -> Outcome:
    """Findings, warnings, tables and sections."""
    latents, decoder = landscape.latents, landscape.decoder
    box = job.box or decoder.box
    outcome = Outcome(title=f"Analysis of {landscape.folder.resolve().name}")
    outcome.findings = findings(landscape, analysis, places)
    outcome.warnings = warnings(landscape, analysis, pictures, job)
    outcome.headline = ("particles", "latent", "explained_percent", "clusters_agree")
    outcome.subtitle = (
        f"{len(latents):,} particles, a latent of {latents.dimensions}, maps of {box} voxels of "
        f"{decoder.pixel_size * decoder.box / box:.4g} Å"
    )
    outcome.tables = tables(analysis)
    tiles = tiles_of(places, pictures, analysis)
    outcome.sections = [
        place_section(outcome, analysis),
        density_section(analysis, len(latents)),
        cluster_section(analysis, tiles),
        component_section(job, places, pictures),
        *path_section(analysis, places, pictures),
        nuisance_section(analysis),
    ]
    if job.at:
        galleries = [Gallery(tiles["particle"])]
        outcome.sections.insert(4, Section("At chosen particles", galleries=galleries))
    return outcome


def findings(landscape: Landscape, analysis: Analysis, places: list[Place]) -> list[Finding]:
    kmeans, mixture = analysis.clusters["kmeans"], analysis.clusters["mixture"]
    explained = 100 * float(analysis.components.explained[0])
    return [
        Finding("particles", "particles", len(landscape.latents), "", "Each has a row in latents.star."),
        latent_finding(landscape.latents.dimensions),
        Finding(
            "explained_percent",
            "first component",
            explained,
            "%",
            "Of the variance of the latents along their first principal component.",
            1,
        ),
        Finding(
            "deviation",
            "uncertainty of a latent",
            float(np.median(landscape.latents.deviation)),
            "",
            "Median standard deviation of the posteriors; the prior has 1 (in a subspace: along the first coordinate).",
        ),
        Finding("clusters", "clusters", len(kmeans), "", "Of k-means, numbered along the first component."),
        Finding("mixture", "mixture components", len(mixture), "", "Gaussians that have particles."),
        Finding(
            "clusters_agree",
            "the two clusterings agree",
            adjusted_rand_index(kmeans.label, mixture.label),
            "",
            "Adjusted Rand index: 1 the same groups, 0 chance. Far below 1 the groups are the method's, not the data's.",
        ),
        Finding("maps", "maps", len(places), "", f"In {VOLUMES}, listed in volumes.star."),
    ]


def warnings(landscape: Landscape, analysis: Analysis, pictures: Pictures, job: AnalyzeLandscape) -> list[str]:
    found = [STATES]
    straight = analysis.paths.get("straight")
    if straight is not None:
        far = int((straight.distance > analysis.near).sum())
        if far:
            found.append(
                f"{far} of {len(straight.distance)} maps of the straight path are farther from any particle than {NEAR_PERCENT} % of the "
                "particles are from each other: they are guesses of the decoder."
            )
    table = analysis.nuisances
    if table.correlation.size:
        worst = np.unravel_index(table.correlation.argmax(), table.correlation.shape)
        value = float(table.correlation[worst])
        if value > max(0.3, table.chance):
            found.append(
                f"Component {worst[1] + 1} goes with '{table.names[worst[0]]}' (|Spearman| {value:.2f}): it may show how particles were "
                "imaged and aligned, not how they differ."
            )
    if landscape.latents.dimensions == 1:
        found.append("The latent is one number: there is no map of two coordinates, and no UMAP.")
    elif job.umap and analysis.umap is None:
        found.append("Too few particles for a UMAP: none was made.")
    if pictures.level is None and job.pictures == "surface":
        found.append("No contour outlines the maps: their central sections are shown.")
    return found


def tables(analysis: Analysis) -> dict[str, Any]:
    """What result.json holds besides the findings."""
    nuisances = analysis.nuisances
    return {
        "explained": analysis.components.explained,
        "clusters_of": {
            kind: {"particles": found.count, "centre": found.row + 1} for kind, found in analysis.clusters.items()
        },
        "paths": {
            "through": [row + 1 for row in analysis.through],
            "near": analysis.near,
            **{name: {"latent": path.points, "distance": path.distance} for name, path in analysis.paths.items()},
        },
        "density": [
            {
                "component": line.density.points[:, 0],
                "density": line.density.value,
                "error": line.density.error,
                "energy_kt": line.occupancy.energy,
                "energy_error_kt": line.occupancy.error,
            }
            for line in analysis.lines
        ],
        "nuisances": {
            "chance": nuisances.chance,
            "spearman": dict(zip(nuisances.names, nuisances.correlation, strict=True)),
            "explained_by_view": nuisances.by_view,
        },
    }


def tiles_of(places: list[Place], pictures: Pictures, analysis: Analysis) -> dict[str, list[Tile]]:
    """The pictures by group, each with what it is."""
    tiles: dict[str, list[Tile]] = {}
    for place, frame in zip(places, pictures.frames, strict=True):
        lines = [place.label.split(", ")[-1]]
        if place.group in analysis.clusters:
            count = int(analysis.clusters[place.group].count[place.number - 1])
            lines = [str(place.number), f"{count:,} particles"]
        tiles.setdefault(place.group, []).append(Tile(png_bytes(frame), f"Map at {place.label}", lines))
    return tiles


def place_section(outcome: Outcome, analysis: Analysis) -> Section:
    """The latents as maps and histograms."""
    scores, rows = analysis.components.scores, analysis.clusters["kmeans"].row
    figures = []
    if scores.shape[1] > 1:
        svg = latent_map(
            scores[:, :2],
            (axis_name(analysis, 0), axis_name(analysis, 1)),
            "Latents in the plane of the first two principal components",
            centres=scores[rows, :2],
        )
        figures.append(
            Figure(
                "The first two principal components of the latents. Rings: the centres of k-means, by number.", svg=svg
            )
        )
    if analysis.umap is not None:
        svg = latent_map(analysis.umap, ("UMAP 1", "UMAP 2"), "UMAP of the latents", centres=analysis.umap[rows])
        caption = "UMAP: what is near stays near. Distances, areas and gaps mean nothing. Rings: the same centres."
        figures.append(Figure(caption, svg=svg))
    for axis in range(min(scores.shape[1], 2)):
        label = axis_name(analysis, axis)
        svg = histogram(
            scores[:, axis], x_label=label, y_label="particles", title=f"Latents along component {axis + 1}"
        )
        figures.append(Figure(f"How many particles lie where along component {axis + 1}.", svg=svg))
    text = "Each particle lies where its image most probably puts it. Noise widens every cloud: compare its width with the uncertainty of a latent."
    shown = [finding.key for finding in outcome.findings if finding.key not in outcome.headline]
    return Section(
        "Where the particles lie",
        text,
        figures=figures,
        numbers=outcome.numbers(shown),
        tables=explained_table(analysis),
        sources=(Source("McInnes, Healy & Melville 2018, UMAP", "10.48550/arXiv.1802.03426"),),
    )


def explained_table(analysis: Analysis) -> list[Table]:
    explained = analysis.components.explained
    if len(explained) < 2:
        return []
    rows = [
        (number, f"{part:.1%}", f"{total:.1%}")
        for number, (part, total) in enumerate(zip(explained, np.cumsum(explained), strict=True), start=1)
    ]
    return [Table(("component", "of the variance", "with those before"), rows, "Explained variance of the latents.")]


def cluster_section(analysis: Analysis, tiles: dict[str, list[Tile]]) -> Section:
    """Maps at the centres, and who belongs to them."""
    headings = {"kmeans": "k-means", "mixture": "Gaussian mixture"}
    galleries = [Gallery(tiles[kind], headings[kind]) for kind in analysis.clusters]
    rows = [row for kind, found in analysis.clusters.items() for row in cluster_rows(headings[kind], found, analysis)]
    head = ("method", "cluster", "particles", "share", "centre", "component 1")
    table = Table(
        head, rows, "The centre is the particle nearest to the middle, by its row in particles.star.", "Clusters"
    )
    text = (
        f"{STATES}\n\nEach map is decoded at the particle nearest to a centre: where there are data. All surfaces have one contour. "
        "The command landscape filter keeps the particles of some clusters."
    )
    return Section("Clusters", text, galleries=galleries, tables=[table])


def cluster_rows(name: str, found: Clusters, analysis: Analysis) -> list[tuple]:
    total = len(found.label)
    return [
        (name, number, int(count), f"{count / total:.1%}", int(row) + 1, float(analysis.components.scores[row, 0]))
        for number, (count, row) in enumerate(zip(found.count, found.row, strict=True), start=1)
    ]


def component_section(job: AnalyzeLandscape, places: list[Place], pictures: Pictures) -> Section:
    """Maps along the principal components."""
    names = sorted({place.group for place in places if place.group.startswith("component")})
    heads = [f"{percent:.3g} %" for percent in np.linspace(*PERCENTILES, job.steps)]
    figures = []
    for name in names:
        title = f"component {name.removeprefix('component')}"
        caption = f"Maps at percentiles of {title}. As a movie: {MOVIES}/{name}.gif."
        figures.append(strip(frames_of(name, places, pictures), heads, caption, f"Maps along {title}"))
    text = (
        "The other components are at their mean. These are what the model says there, not averages of particles: where data are curved, such a line "
        "leaves them."
    )
    return Section("Along the components", text if names else "None was asked for.", figures=figures)


def frames_of(group: str, places: list[Place], pictures: Pictures) -> list[np.ndarray]:
    return [frame for place, frame in zip(places, pictures.frames, strict=True) if place.group == group]


def strip(frames: list[np.ndarray], heads: list[str], caption: str, alt: str) -> Figure:
    """Up to STRIP pictures side by side, evenly chosen, with headings."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)).tolist()
    sheet = png_bytes(sheet_of([frames[index] for index in chosen], columns=len(chosen)))
    return Figure(caption, png=sheet, alt=alt, columns=[heads[index] for index in chosen], wide=True)


def moving(name: str, places: list[Place], pictures: Pictures) -> Figure:
    movie = animated(frames_of(name, places, pictures), "PNG")
    return Figure(
        f"The {name} path, there and back: {MOVIES}/{name}.gif.", png=movie, alt=f"Moving picture of the {name} path"
    )


def path_section(analysis: Analysis, places: list[Place], pictures: Pictures) -> list[Section]:
    """Both paths on the map, how far they are from data, and their movies."""
    if not analysis.paths:
        return []
    figures = []
    scores = analysis.components.scores
    if scores.shape[1] > 1:
        lines = []
        for colour, (name, path) in zip(PATH_COLOURS, analysis.paths.items(), strict=True):
            along = (path.points - analysis.components.centre) @ analysis.components.axes[:2].T
            lines.append(Series(name, along[:, 0], along[:, 1], "line" if name == "geodesic" else "dashed", colour))
        svg = latent_map(
            scores[:, :2], (axis_name(analysis, 0), axis_name(analysis, 1)), "Paths over the latents", paths=lines
        )
        figures.append(Figure("Whole line: the path through the data; dashed: the straight one.", svg=svg))
    figures.append(distance_figure(analysis))
    heads = [str(number) for number in range(1, len(analysis.paths["geodesic"].points) + 1)]
    for name in analysis.paths:
        caption = f"Maps along the {name} path, by frame, all at one contour."
        figures.append(strip(frames_of(name, places, pictures), heads, caption, f"Maps along the {name} path"))
    figures += [moving(name, places, pictures) for name in analysis.paths]
    stops = " and ".join(str(row + 1) for row in analysis.through)
    text = (
        f"From particle to particle ({stops}). The geodesic path goes from neighbour to neighbour in short steps: it stays where "
        "there are many particles. The straight path may leave them, "
        "and what the decoder says there has no image behind it."
    )
    sources = (
        Source("Tenenbaum, de Silva & Langford 2000, geodesic distances in data", "10.1126/science.290.5500.2319"),
        Source("Groisman, Jonckheere & Sapienza, paths that prefer dense data", "10.48550/arXiv.1810.09398"),
    )
    return [Section("Paths", text, figures=figures, sources=sources)]


def distance_figure(analysis: Analysis) -> Figure:
    series = [
        Series(name, np.arange(1, len(path.distance) + 1), path.distance, style, colour)
        for (name, path), style, colour in zip(analysis.paths.items(), ("line", "dashed"), PATH_COLOURS, strict=True)
    ]
    svg = line_plot(
        series,
        x_label="frame",
        y_label="distance from the data",
        title="Distance of each frame from the nearest particle",
        y_limits=(0.0, 1.1 * max(analysis.near, *(path.distance.max() for path in analysis.paths.values())) or 1.0),
        thresholds=[Threshold(analysis.near, f"{NEAR_PERCENT} % of the particles")],
    )
    return Figure(
        f"How far each frame is from the nearest particle; the line: how far {NEAR_PERCENT} % of the particles are, at most, from theirs.",
        svg=svg,
    )


def nuisance_section(analysis: Analysis) -> Section:
    """The table of correlations."""
    found = analysis.nuisances
    count = analysis.nuisances.correlation.shape[1]
    rows: list[Sequence[Any]] = [
        (name, *(f"{value:.2f}" for value in row)) for name, row in zip(found.names, found.correlation, strict=True)
    ]
    tables = []
    if rows:
        heads = ("|Spearman| with", *(f"component {number}" for number in range(1, count + 1)))
        tables.append(Table(heads, rows, f"Unrelated numbers exceed {found.chance:.2f} once in a thousand times."))
    if found.by_view is not None:
        row = ("viewing direction", *(f"{max(0.0, value):.2f}" for value in found.by_view))
        heads = ("part of the variance foretold by", *(f"component {number}" for number in range(1, count + 1)))
        tables.append(Table(heads, [row], "R² of a nearest-neighbour regression, on particles it has not seen."))
    text = (
        "A landscape should show how particles differ, not how they were imaged. What goes along with defocus, view or origin is suspect: wrong CTFs or poses, "
        "preferred views, or a crop that is not centred look like motion."
    )
    return Section(
        "What it should not depend on",
        text if tables else "The file tells nothing else of the particles.",
        tables=tables,
    )
