"""The report of a selection: what was kept beside what was not."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vitreous.jobs.classify2d_gallery import class_gallery
from vitreous.jobs.classify2d_sections import QUALITY, class_table
from vitreous.jobs.classify2d_tables import Classes
from vitreous.jobs.curves import Points, Series, Threshold, line_plot, scatter_plot
from vitreous.jobs.report import Figure, Section
from vitreous.jobs.select_rule import SelectionRule


def selection_sections(
    classes: Classes, kept_classes: np.ndarray, kept: np.ndarray, evidence: np.ndarray, rule: SelectionRule
) -> list[Section]:
    """Galleries side by side, quality and resolution of the classes, evidence of the particles."""
    order = classes.quality.order
    used = order[classes.quality.count[order] > 0]
    good, bad = used[kept_classes[used]], used[~kept_classes[used]]
    galleries = [class_gallery(classes, good.tolist(), "Kept")]
    if len(bad):
        galleries.append(class_gallery(classes, bad.tolist(), "Rejected"))
    text = (
        "From the best to the worst by quality. Under each its number, how many particles it has, and its resolution."
    )
    return [
        Section("Kept and rejected", text, galleries=galleries),
        Section("Classes", figures=class_figures(classes, good, bad, rule)),
        Section("Particles", figures=[evidence_figure(kept, evidence, rule)]),
        Section("Quality", QUALITY, tables=[class_table(classes, used)]),
    ]


def class_figures(classes: Classes, good: np.ndarray, bad: np.ndarray, rule: SelectionRule) -> list[Figure]:
    """Quality against population and, where there is one, against resolution."""
    levels = [] if rule.quality is None else [Threshold(rule.quality, "asked for")]
    quality = classes.quality
    figures = []
    for values, label, title in (
        (quality.count.astype(float), "particles", "Quality and population"),
        (classes.resolution, "resolution (Å)", "Quality and resolution"),
    ):
        points = [
            group
            for group in (points_of(classes, values, good, "kept"), points_of(classes, values, bad, "rejected"))
            if group
        ]
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


def evidence_figure(kept: np.ndarray, evidence: np.ndarray, rule: SelectionRule) -> Figure:
    """How the log evidence of kept and rejected particles is spread."""
    low, high = (float(value) for value in np.percentile(evidence, (0.2, 99.8)))
    edges = np.linspace(low, high if high > low else low + 1.0, 31)
    curves = []
    for label, chosen in (("kept", kept), ("rejected", ~kept)):
        if chosen.any():
            counts = np.histogram(evidence[chosen].clip(edges[0], edges[-1]), edges)[0]
            x, y = np.repeat(edges, 2)[1:-1], np.repeat(counts, 2)
            curves.append(Series(label, x, y, "line" if label == "kept" else "dashed"))
    levels = [] if rule.least_evidence is None else [Threshold(rule.least_evidence, "asked for", vertical=True)]
    caption = (
        "Log evidence of the particles: how much better each is explained by its class than by noise alone. The last bins hold what lies "
        "beyond the axis."
    )
    svg = line_plot(
        curves,
        x_label="log evidence (nat)",
        y_label="particles",
        title="Evidence of kept and rejected particles",
        description=caption,
        thresholds=levels,
    )
    return Figure(caption, svg=svg)
