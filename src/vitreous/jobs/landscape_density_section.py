"""The section on density and occupancy in the report of `landscape analyze`."""

from __future__ import annotations

import numpy as np

from vitreous.jobs.curves import Series, heat_map, line_plot
from vitreous.jobs.landscape_analysis import Analysis, LatentDensity
from vitreous.jobs.report import Figure, Section

UNKNOWN = 1.0  # kT of standard error from which no occupancy is drawn
ERROR_BAR = 1.96  # standard errors to each side: 95 %


def axis_name(analysis: Analysis, axis: int) -> str:
    """A principal component and its part of the variance, as a label."""
    return f"component {axis + 1} ({analysis.components.explained[axis]:.0%})"


def density_section(analysis: Analysis, count: int) -> Section:
    """Density and occupancy with their errors."""
    text = (
        "The density is the mean of the particles' posteriors, blurred by Scott's rule: a particle whose place is badly known counts wherever it may be. "
        "Error bars say how it would vary if other particles of the same kind had been imaged.\n\n"
        "The lower curves are -log of the density relative to its maximum, in units of kT. They are occupancy, what the images hold, not free energy: "
        "picking, selection, orientations and the width of the posteriors enter too, and the freezing may have changed what was there."
    )
    figures = []
    for axis, line in enumerate(analysis.lines):
        figures += [density_figure(analysis, line, axis), energy_figure(analysis, line, axis)]
    if analysis.plane is not None:
        figures.append(plane_figure(analysis, analysis.plane))
    return Section("Density", text, figures=figures)


def density_figure(analysis: Analysis, line: LatentDensity, axis: int) -> Figure:
    svg = banded(
        line.density.points[:, 0],
        line.density.value,
        line.density.error,
        axis_name(analysis, axis),
        "density",
        f"Density along component {axis + 1}",
    )
    return Figure(f"Density along component {axis + 1}; dotted: 95 % of its error.", svg=svg)


def energy_figure(analysis: Analysis, line: LatentDensity, axis: int) -> Figure:
    known = told(line, len(analysis.components.scores))
    energy, error = (np.where(known, each, np.nan) for each in (line.occupancy.energy, line.occupancy.error))
    label = "occupancy, -log p (kT)"
    svg = banded(
        line.density.points[:, 0],
        energy,
        error,
        axis_name(analysis, axis),
        label,
        f"Occupancy along component {axis + 1}",
    )
    caption = f"Occupancy along component {axis + 1}, where the data tell it (standard error below {UNKNOWN:g} kT); dotted: 95 % of the error."
    return Figure(caption, svg=svg)


def told(density: LatentDensity, count: int) -> np.ndarray:
    """Where the data tell the occupancy: its error is small, and it is not below that of one particle."""
    return (density.occupancy.error < UNKNOWN) & (density.occupancy.energy < np.log(count))


def banded(x: np.ndarray, y: np.ndarray, error: np.ndarray, x_label: str, y_label: str, title: str) -> str:
    """A curve between its error bars."""
    low, high = np.maximum(y - ERROR_BAR * error, 0), y + ERROR_BAR * error
    gap = [np.nan]
    ends = Series("95 %", np.concatenate([x, gap, x]), np.concatenate([low, gap, high]), "dotted", 0)
    series = [Series("estimate", x, y, "line", 0), ends]
    return line_plot(series, x_label=x_label, y_label=y_label, title=title)


def plane_figure(analysis: Analysis, plane: LatentDensity) -> Figure:
    size = round(len(plane.density.points) ** 0.5)
    x, y = (plane.density.points[:, axis].reshape(size, size) for axis in (0, 1))
    energy = np.where(told(plane, len(analysis.components.scores)), plane.occupancy.energy, np.nan).reshape(size, size)
    step = (x[0, 1] - x[0, 0]) / 2, (y[1, 0] - y[0, 0]) / 2
    svg = heat_map(
        energy,
        (float(x.min() - step[0]), float(x.max() + step[0])),
        (float(y.min() - step[1]), float(y.max() + step[1])),
        x_label=axis_name(analysis, 0),
        y_label=axis_name(analysis, 1),
        title="Occupancy in the plane of the first two components",
        colour_label="occupancy, -log p (kT)",
    )
    caption = f"Occupancy in the plane of the first two components, where the data tell it (standard error below {UNKNOWN:g} kT)."
    return Figure(caption, svg=svg)
