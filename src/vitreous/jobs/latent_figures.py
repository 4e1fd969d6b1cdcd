"""Drawings of latents: a map of points, or of counts where they are many, with numbered centres, lines and polygons on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.jobs.curves import Marker, Points, Series, heat_map, scatter_plot

SHOWN = 2000  # points; of more the counts in cells are drawn
CELLS = (40, 100)  # fewest and most along an axis
AXIS_NAMES = {"pca": "component", "umap": "UMAP", "latent": "latent"}  # of a plane
REACH = (0.1, 99.9)  # percentiles of crowded maps: a few far outliers would leave the others no room


def latent_map(
    points: np.ndarray,
    axes: tuple[str, str],
    title: str,
    *,
    centres: np.ndarray | None = None,
    paths: Sequence[Series] = (),
) -> str:
    """SVG of points [n, 2] with numbered rings at `centres` [k, 2] and lines on top."""
    markers = [] if centres is None else [Marker(x, y, str(n)) for n, (x, y) in enumerate(centres.tolist(), start=1)]
    drawn = [np.column_stack([path.x, path.y]) for path in paths] + ([] if centres is None else [centres])
    limits = [limits_of(points[:, axis], [each[:, axis] for each in drawn]) for axis in (0, 1)]
    if len(points) <= SHOWN:
        return scatter_plot(
            [Points("particles", points[:, 0], points[:, 1])],
            x_label=axes[0],
            y_label=axes[1],
            title=title,
            x_limits=limits[0],
            y_limits=limits[1],
            markers=markers,
            paths=paths,
        )
    cells = int(np.clip(len(points) ** 0.5 / 1.3, *CELLS))
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=cells, range=[limits[1], limits[0]])
    return heat_map(
        np.where(counts > 0, counts, np.nan),
        *limits,
        x_label=axes[0],
        y_label=axes[1],
        title=title,
        colour_label="particles in a cell",
        markers=markers,
        paths=paths,
    )


def limits_of(values: np.ndarray, more: Sequence[np.ndarray]) -> tuple[float, float]:
    """What holds the points, or all but the outermost of many, and all of `more`, with some room."""
    ends = [values.min(), values.max()] if len(values) <= SHOWN else np.percentile(values, REACH)
    every = np.concatenate([ends, *more])
    low, high = float(every.min()), float(every.max())
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def closed(corners: np.ndarray, label: str, colour: int) -> Series:
    """The outline of a polygon [m, 2]."""
    around = np.concatenate([corners, corners[:1]])
    return Series(label, around[:, 0], around[:, 1], "line", colour)
