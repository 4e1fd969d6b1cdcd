"""The report of a selection: what was kept beside what was not."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vitreous.jobs.classify2d_gallery import class_gallery
from vitreous.jobs.classify2d_sections import QUALITY, class_table
from vitreous.jobs.classify2d_tables import Classes
from vitreous.jobs.curves import Points, Series, Threshold, line_plot, scatter_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.report import Figure, Section
from vitreous.jobs.select_rule import Candidates, Selection, SelectionRule


def selection_sections(
    outcome: Outcome, classes: Classes, selection: Selection, candidates: Candidates, rule: SelectionRule
) -> list[Section]:
    """Galleries side by side, quality and resolution of the classes, agreement and evidence of the particles."""
    order = classes.quality.order
    used = order[classes.quality.count[order] > 0]
    good, bad = used[selection.classes[used]], used[~selection.classes[used]]
    kept = (candidates.number[selection.particles][:, None] == classes.number).sum(axis=0)
    galleries = [class_gallery(classes, good.tolist(), "Kept", kept=kept)]
    if len(bad):
        galleries.append(class_gallery(classes, bad.tolist(), "Rejected"))
    text = "From the best to the worst by quality. Under each its number, how many of its particles were kept, and its resolution."
    return [
        Section("Kept and rejected", text, galleries=galleries),
        Section("Classes", figures=class_figures(classes, good, bad, rule)),
        Section(
            "Particles",
            PARTICLES,
            figures=particle_figures(selection, candidates, rule),
            numbers=outcome.numbers(("rejected", "separation")),
        ),
        Section("Quality", QUALITY, tables=[class_table(classes, used)]),
    ]


def class_figures(classes: Classes, good: np.ndarray, bad: np.ndarray, rule: SelectionRule) -> list[Figure]:
    """Quality against population and, where there is one, against resolution."""
    levels = [] if rule.quality is None else [Threshold(rule.quality, "asked for")]
    quality = classes.quality
    figures = []
    for values, label, title in (
        (quality.count.astype(float), "particles", "Quality and population"),
        (
            np.where(np.isfinite(classes.resolution), classes.resolution, np.nan),
            "resolution (Å)",
            "Quality and resolution",
        ),
    ):
        groups = (points_of(classes, values, good, "kept"), points_of(classes, values, bad, "rejected"))
        points = [group for group in groups if group is not None]
        if not points:
            continue
        caption = f"{title} of the classes; each mark is one."
        svg = scatter_plot(
            points,
            x_label=label,
            y_label="quality",
            title=title,
            description=caption,
            y_limits=(0.0, 1.0),
            thresholds=levels,
        )
        figures.append(Figure(caption, svg=svg))
    return figures


def points_of(
    classes: Classes, values: np.ndarray, places: np.ndarray, label: Literal["kept", "rejected"]
) -> Points | None:
    """The classes at these places by `values` and quality; None if there is none to draw."""
    if not np.isfinite(values[places]).any():
        return None
    names = [f"class {number}" for number in classes.number[places]]
    mark = "circle" if label == "kept" else "cross"
    return Points(label, values[places], classes.quality.score[places], mark, 0 if label == "kept" else 1, names)


def particle_figures(selection: Selection, candidates: Candidates, rule: SelectionRule) -> list[Figure]:
    """Agreement and evidence of kept and rejected particles."""
    levels = []
    if selection.kinds is not None and selection.kinds.told_apart:
        names = zip(selection.kinds.means, ("others", "agreeing"))
        levels = [Threshold(mean, name, vertical=True) for mean, name in names]
    agreement = spread_figure(
        selection.particles,
        candidates.agreement,
        levels,
        "agreement with the class",
        "Agreement of the particles with their class: correlation with the average of the others.",
    )
    asked = [] if rule.least_evidence is None else [Threshold(rule.least_evidence, "asked for", vertical=True)]
    evidence = spread_figure(
        selection.particles,
        candidates.evidence,
        asked,
        "log evidence (nat)",
        "Log evidence of the particles: how much better each is explained by its class than by noise alone.",
    )
    return [agreement, evidence]


def spread_figure(kept: np.ndarray, values: np.ndarray, levels: list[Threshold], label: str, caption: str) -> Figure:
    """How a number of the kept and the rejected particles is spread."""
    low, high = (float(value) for value in np.percentile(values, (0.2, 99.8)))
    edges = np.linspace(low, high if high > low else low + 1.0, 31)
    curves = []
    for index, (name, chosen) in enumerate((("kept", kept), ("rejected", ~kept))):
        if chosen.any():
            counts = np.histogram(values[chosen].clip(edges[0], edges[-1]), edges)[0]
            x, y = np.repeat(edges, 2)[1:-1], np.repeat(counts, 2)
            curves.append(Series(name, x, y, "line" if index == 0 else "dashed", index))
    caption += " The last bins hold what lies beyond the axis."
    svg = line_plot(curves, x_label=label, y_label="particles", title=label, description=caption, thresholds=levels)
    return Figure(caption, svg=svg)


PARTICLES = (
    "The automatic choice takes the agreement as a mixture of two kinds with one spread, whose shares differ from class to class, and keeps the particles "
    "that are more likely than not of the upper kind, from classes in which most are. A class whose integrated density is more than 3/2 times the "
    "median or less than 2/3 of it, or that has its variance at the edge of the mask, is left out whatever its particles say."
)
