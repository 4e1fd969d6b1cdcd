"""Figures of many CTF estimates: one mark a micrograph, those to reject told apart by shape and colour; and of single ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vitreous.jobs.ctf_pictures import ICE, contrast_curve, spectrum_drawing
from vitreous.jobs.ctf_row import CtfRow
from vitreous.jobs.curves import Marker, Points, Series, Threshold, histogram, line_plot, scatter_plot
from vitreous.jobs.report import Figure
from vitreous.jobs.svg import resolution_label
from vitreous.units import DEGREE, MICROMETRE, NANOMETRE

Measure = Callable[[CtfRow], float | None]
KEPT, REJECTED = "kept", "to reject"
KEPT_COLOUR, REJECTED_COLOUR = 0, 5


# --- all micrographs --------------------------------------------------------------------------------------------------


def quality_figure(rows: Sequence[CtfRow]) -> Figure:
    """Defocus against fit resolution."""
    plot = scatter_plot(
        groups(rows, lambda r: r.defocus / MICROMETRE, lambda r: r.fit_resolution, x_sigma=_defocus_sigma),
        x_label="defocus (µm)",
        y_label="fit resolution (Å)",
        title="Defocus and fit resolution of each micrograph",
        description=f"{count_of(rows)}. Lower is better.",
    )
    caption = (
        "How far the rings can be followed: lower is better. Bars are 68 % intervals of the defocus; where there are none, they are "
        "smaller than the marks. Point at a mark to read its name."
    )
    return Figure(caption, svg=plot)


def defocus_figure(rows: Sequence[CtfRow]) -> Figure:
    plot = histogram(
        [row.defocus / MICROMETRE for row in rows],
        x_label="defocus (µm)",
        y_label="micrographs",
        title="Histogram of the defocus",
        thresholds=[Threshold(float(np.median([row.defocus for row in rows])) / MICROMETRE, "median", vertical=True)],
    )
    return Figure("Mean of U and V in the middle of each micrograph, those to reject included.", svg=plot)


def astigmatism_figure(rows: Sequence[CtfRow]) -> Figure:
    """Cartesian components: an astigmatism of the objective lens is a cluster away from zero."""
    along, across = (float(np.median([2 * row.astigmatism[i] for row in rows])) for i in (0, 1))
    plot = scatter_plot(
        groups(
            rows,
            lambda r: 2 * r.astigmatism[0],
            lambda r: 2 * r.astigmatism[1],
            x_sigma=lambda r: _twice(_sigma(r, "astigmatism_along")),
            y_sigma=lambda r: _twice(_sigma(r, "astigmatism_across")),
        ),
        x_label="(U − V) cos 2α (Å)",
        y_label="(U − V) sin 2α (Å)",
        title="Astigmatism of each micrograph",
        description=f"Cartesian components; the median is ({along:.0f}, {across:.0f}) Å.",
        same_scale=True,
        thresholds=[Threshold(0.0), Threshold(0.0, vertical=True)],
        markers=[Marker(along, across, "median")],
    )
    caption = (
        "Size and direction as Cartesian components, α the angle of U: the distance from the crossed lines is U − V. A cluster away from "
        "them is the objective lens, which its stigmator corrects; a mark far from the cluster is a poor fit, drift or a bent beam."
    )
    return Figure(caption, svg=plot)


def ice_figure(rows: Sequence[CtfRow], numbers: Sequence[int]) -> Figure:
    return order_figure(
        rows,
        numbers,
        lambda r: r.ice_ring,
        y_label="ice ring strength",
        title=f"Ice ring near {ICE} Å",
        caption=f"How far the spectrum stands above its surroundings near {ICE} Å, in parts of them: 1 is twice as strong. Crystalline "
        "ice stands out.",
    )


def phase_figure(rows: Sequence[CtfRow], numbers: Sequence[int]) -> Figure:
    return order_figure(
        rows,
        numbers,
        lambda r: r.phase_shift / DEGREE,
        sigma=lambda r: None if r.phase_shift_sigma is None else r.phase_shift_sigma / DEGREE,
        y_label="phase shift (°)",
        title="Phase shift of each micrograph",
        caption="A phase plate's shift grows from micrograph to micrograph and starts again at a fresh spot.",
    )


def thickness_figure(rows: Sequence[CtfRow], numbers: Sequence[int]) -> Figure:
    return order_figure(
        rows,
        numbers,
        lambda r: None if r.thickness is None else r.thickness / NANOMETRE,
        sigma=lambda r: None if r.thickness_sigma is None else r.thickness_sigma / NANOMETRE,
        y_label="thickness (nm)",
        title="Thickness of each micrograph",
        caption="Along the beam, from where the rings fade and come back reversed. Bars are 68 % intervals.",
    )


def order_figure(
    rows: Sequence[CtfRow],
    numbers: Sequence[int],
    value: Measure,
    *,
    y_label: str,
    title: str,
    caption: str,
    sigma: Measure | None = None,
) -> Figure:
    """A value in the order in which the micrographs were given; `numbers` are the rows' places there."""
    place = {row.name: float(number) for row, number in zip(rows, numbers)}
    plot = scatter_plot(
        groups(rows, lambda r: place[r.name], value, y_sigma=sigma),
        x_label="micrograph, in the order given",
        y_label=y_label,
        title=title,
        description=f"{count_of(rows)}.",
    )
    return Figure(caption, svg=plot)


def slope_figure(rows: Sequence[CtfRow]) -> Figure:
    """Directions in which the defocus grows."""
    plot = scatter_plot(
        groups(
            rows,
            lambda r: None if r.slope is None else r.slope[0],
            lambda r: None if r.slope is None else r.slope[1],
            x_sigma=lambda r: _sigma(r, "slope_x"),
            y_sigma=lambda r: _sigma(r, "slope_y"),
        ),
        x_label="slope along x",
        y_label="slope along y",
        title="Tilt of each micrograph",
        description=f"{count_of(rows)}.",
        same_scale=True,
        thresholds=[Threshold(0.0), Threshold(0.0, vertical=True)],
    )
    caption = (
        "Change of defocus per angstrom along x and y: a mark lies in the direction in which the defocus grows, and its distance from the "
        "crossed lines is the tangent of the tilt."
    )
    return Figure(caption, svg=plot)


def groups(
    rows: Sequence[CtfRow], x: Measure, y: Measure, *, x_sigma: Measure | None = None, y_sigma: Measure | None = None
) -> list[Points]:
    """The rows to keep and those to reject, as far as there are any."""
    members = {KEPT: [row for row in rows if row.good], REJECTED: [row for row in rows if not row.good]}
    return [
        Points(
            name,
            _values(some, x),
            _values(some, y),
            "circle" if name == KEPT else "cross",
            KEPT_COLOUR if name == KEPT else REJECTED_COLOUR,
            [": ".join([row.name, *filter(None, ["; ".join(row.reasons)])]) for row in some],
            () if x_sigma is None else _values(some, x_sigma),
            () if y_sigma is None else _values(some, y_sigma),
        )
        for name, some in members.items()
        if some
    ]


def count_of(rows: Sequence[CtfRow]) -> str:
    rejected = sum(not row.good for row in rows)
    return f"{len(rows)} micrographs, {rejected} to reject"


def has(rows: Sequence[CtfRow], value: Measure) -> bool:
    """Whether any row has a finite value."""
    return bool(np.isfinite(_values(rows, value)).any())


def _values(rows: Sequence[CtfRow], value: Measure) -> np.ndarray:
    return np.array([value(row) for row in rows], dtype=np.float64)


def _sigma(row: CtfRow, name: str) -> float | None:
    return row.covariance[row.names.index(name)][row.names.index(name)] ** 0.5 if name in row.names else None


def _twice(value: float | None) -> float | None:
    return None if value is None else 2 * value


def _defocus_sigma(row: CtfRow) -> float | None:
    return None if row.defocus_sigma is None else row.defocus_sigma / MICROMETRE


# --- one micrograph ---------------------------------------------------------------------------------------------------


def rings_figure(row: CtfRow) -> Figure:
    """Averages along the rings: measured, fitted, and how well they agree."""
    frequency, rings, fitted, agreement, depth = (
        np.array(row.curves[name]) for name in ("frequency", "rings", "model", "agreement", "depth")
    )
    contrast = contrast_curve(depth, rings - fitted) if row.found else contrast_curve(0 * depth, rings)
    markers = []
    if row.found and row.fit_resolution is not None:
        at = 1 / row.fit_resolution
        markers = [Marker(at, float(np.interp(at, frequency, agreement)), f"{resolution_label(row.fit_resolution)} Å")]
    plot = line_plot(
        [
            Series("measured", frequency, rings / contrast),
            Series("fitted", frequency, fitted / contrast, "dashed"),
            Series("agreement", frequency, agreement),
        ],
        x_label="spatial frequency (1/Å)",
        y_label="rings, brightened",
        title=f"Rings of {row.name}",
        description=summary(row),
        x_limits=(0.0, float(frequency[-1])),
        y_limits=(-1.8, 1.8),
        resolution_axis=True,
        thresholds=[Threshold(1 / ICE, "ice", vertical=True)],
        markers=markers,
    )
    return Figure(
        "Averages over pixels of equal phase, brightened as in the picture. The ring marks where the fit ends.",
        svg=plot,
    )


def spectrum_figure(row: CtfRow, folder: Path) -> Figure:
    """The picture of the spectrum beside the fit, out of the job's folder."""
    drawn = spectrum_drawing(
        (folder / row.spectrum_png).read_bytes(),
        title=f"Spectrum of {row.name}",
        finest=1 / row.curves["frequency"][-1],
        fit_resolution=row.fit_resolution if row.found else None,
        slope=row.slope if is_tilted(row) else None,
        right="fitted" if row.found else "least bad",
    )
    return Figure(f"{row.name}: {summary(row)}", svg=drawn)


def is_tilted(row: CtfRow) -> bool:
    """Whether the tilt is known to have a direction: it is more than two standard deviations."""
    return row.found and row.tilt is not None and row.tilt_sigma is not None and row.tilt > 2 * row.tilt_sigma


def summary(row: CtfRow) -> str:
    """The row in one or two sentences."""
    if not row.found:
        return f"no CTF found. {row.evidence}"
    parts = [f"defocus {plus_minus(row.defocus, row.defocus_sigma, MICROMETRE)} µm"]
    parts.append(
        f"U\u00a0−\u00a0V {plus_minus(2 * row.amplitude, _twice(row.amplitude_sigma))} Å at {degrees(row.angle)}"
    )
    if row.phase_shift_sigma is not None:
        parts.append(f"phase shift {plus_minus(row.phase_shift, row.phase_shift_sigma, DEGREE)}°")
    if row.tilt is not None and row.axis is not None:
        parts.append(f"tilt {plus_minus(row.tilt, row.tilt_sigma, DEGREE)}° about an axis at {degrees(row.axis)}")
    if row.thickness is not None:
        parts.append(f"{plus_minus(row.thickness, row.thickness_sigma, NANOMETRE)} nm thick")
    parts.append("no agreement" if row.fit_resolution is None else f"fit to {resolution_label(row.fit_resolution)} Å")
    return ", ".join(parts) + "." + "".join(f" {reason}" for reason in row.reasons)


def degrees(angle: float) -> str:
    return f"{angle / DEGREE:.0f}°".replace("-", "−")


def plus_minus(value: float, sigma: float | None, unit: float = 1.0) -> str:
    """Value and standard deviation in a unit. The latter has two figures below 35, one above; a value without has four.

    >>> plus_minus(15234.0, 12.3, 1e4), plus_minus(432.1, 8.4), plus_minus(-3.0, None)
    ('1.5234 ± 0.0012', '432 ± 8', '−3')
    """
    value = value / unit
    if sigma is None or not 0 < sigma < float("inf"):
        return f"{value:.4g}".replace("-", "−")
    sigma = sigma / unit
    power = int(np.floor(np.log10(sigma)))
    digits = max(0, -power + (sigma < 3.5 * 10.0**power))
    return f"{value:.{digits}f} ± {sigma:.{digits}f}".replace("-", "−")
