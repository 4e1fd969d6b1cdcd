"""The figures of `landscape filter`: what was kept, with the polygon over the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.latents import Latents
from vitreous.jobs.curves import Points, Series, Threshold, line_plot, scatter_plot
from vitreous.jobs.latent_figures import AXIS_NAMES, SHOWN, closed, latent_map, limits_of
from vitreous.jobs.latent_table import LatentTable
from vitreous.jobs.report import Figure

if TYPE_CHECKING:
    from vitreous.jobs.filter_landscape import FilterLandscape

BINS = 40


def kept_figures(job: FilterLandscape, latents: Latents, kept: np.ndarray, table: LatentTable | None) -> list[Figure]:
    """The particles kept beside the others, in the plane of the choice or along its axis."""
    if job.range:
        axis = job.range[0] - 1
        levels = [Threshold(value, "", vertical=True) for value in job.range[1:]]
        return [spread(latents.mean[:, axis], kept, f"latent {axis + 1}", levels)]
    if latents.dimensions == 1:
        return [spread(latents.mean[:, 0], kept, "latent 1", [])]
    plane = job.plane if job.polygon else "pca"
    points = job.coordinates(latents, table) if job.polygon else principal_components(latents.mean).scores[:, :2]
    axes = (f"{AXIS_NAMES[plane]} 1", f"{AXIS_NAMES[plane]} 2")
    outline = [closed(job.corners, "polygon", 5)] if job.polygon else []
    if len(points) > SHOWN:
        return [
            Figure(caption, svg=latent_map(points[rows], axes, caption, paths=outline))
            for caption, rows in (("Particles kept.", kept), ("All particles.", np.ones(len(kept), dtype=bool)))
        ]
    groups = [
        Points(label, points[rows, 0], points[rows, 1], "circle", colour)
        for label, rows, colour in (("left out", ~kept, 4), ("kept", kept, 0))
        if rows.any()
    ]
    corners = [job.corners] if job.polygon else []
    limits = [limits_of(points[:, axis], [each[:, axis] for each in corners]) for axis in (0, 1)]
    svg = scatter_plot(
        groups,
        x_label=axes[0],
        y_label=axes[1],
        title="Particles kept and left out",
        x_limits=limits[0],
        y_limits=limits[1],
        paths=outline,
    )
    return [Figure("Particles kept and left out.", svg=svg)]


def spread(values: np.ndarray, kept: np.ndarray, label: str, levels: list[Threshold]) -> Figure:
    """How many of the kept and of the others have which value."""
    edges = np.linspace(*limits_of(values, []), BINS + 1)
    curves = []
    for name, rows in (("kept", kept), ("left out", ~kept)):
        if rows.any():
            counts = np.repeat(np.histogram(values[rows], edges)[0], 2)
            x = np.repeat(edges, 2)[1:-1]
            curves.append(
                Series(name, x, counts, "line", 0) if name == "kept" else Series(name, x, counts, "dashed", 4)
            )
    svg = line_plot(curves, x_label=label, y_label="particles", title=f"Particles along {label}", thresholds=levels)
    return Figure(f"Particles kept and left out along {label}.", svg=svg)
