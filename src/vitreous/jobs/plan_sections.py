"""The sections of the report on scattering models: what suffices, errors by frequency, images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.jobs.curves import Series, Threshold, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.scattering.plan import Rung, equivalent_phase
from vitreous.units import DEGREE

HIGHEST = 2.0  # of the plot of errors: beyond it an image has nothing to do with that of multislice
SHOWN = 160  # pixels of an image's side
SOURCES = (
    Source("Vulović et al. 2013, J. Struct. Biol. 183, 19", "10.1016/j.jsb.2013.05.008"),
    Source("Vulović et al. 2014, Ultramicroscopy 136, 61-66"),
    Source("Kirkland 2020, Advanced Computing in Electron Microscopy", "10.1007/978-3-030-33260-0"),
)


def plan_sections(
    outcome: Outcome, rungs: Sequence[Rung], pixel_size: float, resolution: float, tolerance: float
) -> list[Section]:
    """All sections of the report."""
    return [
        Section("Result", outcome.subtitle, numbers=outcome.numbers(), tables=[table(rungs, resolution)]),
        Section(
            "Error by frequency",
            "Norm of the difference from the image of multislice in shells of spatial frequency, as a part of the "
            "contrast of that image. An error of 0.1 is as large as that of phases which are wrong by 5.7 degrees.",
            figures=[Figure("Error of each model.", svg=curves(rungs, tolerance), alt="Curves of error")],
            sources=SOURCES,
        ),
        Section("Images", "", figures=[gallery(rungs)]),
    ]


def table(rungs: Sequence[Rung], resolution: float) -> Table:
    headings = ["model", f"error at {resolution:g} Å", "as a phase", f"error up to {resolution:g} Å", "time"]
    rows = [
        [
            spoken(rung.name),
            f"{rung.errors.at_resolution:.4f}",
            f"{equivalent_phase(rung.errors.at_resolution) / DEGREE:.1f}°",
            f"{rung.errors.overall:.4f}",
            f"{1e3 * rung.seconds:.0f} ms",
        ]
        for rung in rungs
    ]
    return Table(headings, rows, "Models, the simplest first.")


def spoken(name: str) -> str:
    """The name of a model in running text."""
    return name.replace("_", " ")


def curves(rungs: Sequence[Rung], tolerance: float) -> str:
    """Errors in the middle of each shell; what is above the plot is cut off."""
    series = []
    for rung in rungs:
        if rung.name == "multislice":
            continue
        edges = rung.errors.frequency
        series.append(Series(spoken(rung.name), edges - edges[0] / 2, np.minimum(rung.errors.error, HIGHEST)))
    highest = max(float(np.nanmax(one.y)) for one in series)
    return line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="error of the image",
        title="Error of each scattering model against multislice",
        y_limits=(0.0, 1.05 * max(highest, tolerance)),
        resolution_axis=True,
        thresholds=[Threshold(tolerance, f"tolerance {tolerance:g}")],
    )


def gallery(rungs: Sequence[Rung]) -> Figure:
    """Images in one row, their differences from that of multislice in the next, each row in one grey scale."""
    reference = next(rung.image for rung in rungs if rung.name == "multislice")
    rows = [_middle(rung.image) for rung in rungs], [_middle(rung.image - reference) for rung in rungs]
    grey = [_scaled(row) for row in rows]
    png = image_gallery(np.concatenate(grey), columns=len(rungs), size=SHOWN, same_scale=True)
    return Figure(
        "Top: the image by each model, in one grey scale. Bottom: its difference from the image of multislice, "
        "in one grey scale of the same width.",
        png=png,
        alt="Images by each scattering model, and their differences from that of multislice",
        columns=[spoken(rung.name) for rung in rungs],
        rows=["image", "difference"],
        wide=True,
    )


def _middle(image: np.ndarray) -> np.ndarray:
    start = [max(0, (size - SHOWN) // 2) for size in image.shape]
    return image[start[0] : start[0] + SHOWN, start[1] : start[1] + SHOWN]


def _scaled(images: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([image - np.mean(image) for image in images])
