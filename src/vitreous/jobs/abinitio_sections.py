"""The report of a search for a map from nothing: the map, the maps of all starts, how they came about, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.alignment.abinitio import AbinitioSettings, Search, Start
from vitreous.alignment.start_agreement import AGREE, StartAgreement
from vitreous.jobs.abinitio_findings import HEADLINE
from vitreous.jobs.curves import Series, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import isosurface_picture, slices_picture
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.reconstruction.map_alignment import place
from vitreous.reconstruction.mask import automatic_mask, masked_for_display

SURFACE_SIZE, SLICE_SIZE = 260, 140  # pixels
SOURCES = (
    Source("Cappé & Moulines 2009, online expectation-maximisation", "10.1111/j.1467-9868.2009.00698.x"),
    Source("Scheres 2012, regularisation by the power of the signal", "10.1016/j.jmb.2011.11.010"),
    Source("Henderson 2013, maps from noise", "10.1073/pnas.1314449110"),
)


def abinitio_sections(
    outcome: Outcome,
    pixel_size: float,
    settings: AbinitioSettings,
    search: Search,
) -> list[Section]:
    """Everything after the headline; the maps have voxels of `pixel_size` angstrom."""
    numbers = outcome.numbers([finding.key for finding in outcome.findings if finding.key not in HEADLINE])
    return [
        Section("The map", MAP_TEXT, figures=best_figures(search.best, pixel_size), numbers=numbers),
        Section("The starts", STARTS_TEXT, figures=start_figures(search), tables=[starts_table(search)]),
        Section(
            "How they came about",
            EVIDENCE_TEXT,
            figures=[evidence_figure((*search.finished, *search.left))],
            sources=SOURCES,
        ),
    ]


MAP_TEXT = (
    "The map of the best start, as it was compared with the images: regularised, masked, and no finer than the finest resolution compared. It is a reference "
    "to begin a refinement with, not a result. Its hand is undetermined."
)
STARTS_TEXT = (
    "Each start began with particles in random orientations, and drew its particles by itself. Half-way the better ones of a round went on, and the others were left. "
    "What several of them found, the images hold; what one found alone may be a dead end. Below, each that was made to the end is laid over the best one: turned, "
    "moved, and mirrored where that fits better."
)
EVIDENCE_TEXT = (
    "In each iteration a fresh subset of the particles is compared with the maps in all orientations, and the maps are made anew from it and from the "
    "subsets before, whose weight falls. "
    "Finer detail is let in step by step. The curve is the mean log evidence of each subset; some of its particles have been used before, which the score avoids."
)


def best_figures(best: Start, pixel_size: float) -> list[Figure]:
    """Surface, slices and projections of each class of the best start."""
    figures = []
    for number, volume in enumerate(best.maps, start=1):
        name = "the map" if len(best.maps) == 1 else f"class {number} ({best.population[number - 1]:.0%})"
        shown, level = masked_for_display(volume, automatic_mask(volume, pixel_size))
        if level is not None:
            figures.append(
                Figure(
                    f"The surface of {name}, seen along z and after quarter turns about the vertical and the horizontal axis.",
                    png=isosurface_picture(shown, level, size=SURFACE_SIZE),
                    alt=f"Surface of {name} from three sides",
                    columns=("front", "side", "top"),
                    wide=True,
                )
            )
        figures.append(
            slices_figure(
                volume,
                f"Central slices of {name} across z, y and x, and projections along them. Protein is white.",
                name,
                220,
            )
        )
    return figures


def slices_figure(volume: np.ndarray, caption: str, name: str, size: int) -> Figure:
    return Figure(
        caption,
        png=slices_picture(volume, size=size),
        alt=f"Slices and projections of {name}",
        columns=("along z", "along y", "along x"),
        rows=("slices", "projections"),
        wide=size > SLICE_SIZE,
    )


def start_figures(search: Search) -> list[Figure]:
    """Slices and projections of every start that was made to the end, laid over the best one."""
    figures = []
    for row, start in enumerate(search.finished):
        for number, volume in enumerate(laid_over_best(row, start, search.agreement), start=1):
            name = f"start {start.number + 1}" + ("" if len(start.maps) == 1 else f", class {number}")
            caption = f"{name.capitalize()}: score {start.score:.2f} ± {start.score_error:.2g} nat"
            if row:
                pair = search.agreement.pair(row)
                hand = ", mirrored" if pair.placements[number - 1].mirrored else ""
                caption += f"; mean FSC with the best {pair.correlation:.2f}{hand}"
            figures.append(slices_figure(volume, caption + ".", name, SLICE_SIZE))
    return figures


def laid_over_best(row: int, start: Start, agreement: StartAgreement) -> list[np.ndarray]:
    """The maps of a start where they lie over the classes of the best one, in the order of these."""
    if row == 0:
        return list(start.maps)
    pair = agreement.pair(row)
    return [place(start.maps[other], placement) for other, placement in zip(pair.classes, pair.placements)]


def starts_table(search: Search) -> Table:
    """A row a start, those made to the end first, the best of them at the top: score, and mean FSC with the best."""
    headings = ("start", "iterations", "score (nat)", "± (nat)", "better than noise", "like the best")
    alike = [None, *(round(pair.correlation, 2) for pair in search.agreement.pairs), *(None for _ in search.left)]
    rows = [
        [
            start.number + 1,
            len(start.evidence),
            round(start.score, 2),
            round(start.score_error, 2),
            start.shows_signal,
            like,
        ]
        for start, like in zip((*search.finished, *search.left), alike, strict=True)
    ]
    caption = (
        "Those made to the end first, the best at the top. Scores half-way are at a coarser resolution, and lower. The last column: mean FSC after laying one over "
        f"the other, either hand; {AGREE:g} or more is the same map."
    )
    return Table(headings, rows, caption)


def evidence_figure(starts: Sequence[Start]) -> Figure:
    """The curves of all starts."""
    caption = (
        "Mean log evidence of the subset of each iteration: how much better the maps explain it than noise does. It rises where the maps get better "
        "and where finer detail enters."
    )
    series = [
        Series(f"start {start.number + 1}", np.arange(1, len(start.evidence) + 1), start.evidence)
        for start in sorted(starts, key=lambda start: start.number)
    ]
    plot = line_plot(
        series,
        x_label="iteration",
        y_label="log evidence (nat)",
        title="Log evidence of the subsets",
        description=caption,
    )
    return Figure(caption, svg=plot)
