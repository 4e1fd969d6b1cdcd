"""The sections of the report on local resolution: slices in colours, how often each resolution occurs, and the curves."""

from __future__ import annotations

import numpy as np

from vitreous.jobs.curves import SCALE, Series, Threshold, colours, histogram, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import GUTTER, png_bytes, slices_picture
from vitreous.jobs.report import Figure, Section, Source
from vitreous.jobs.svg import drawing, element, nice_ticks, text_at, tick_label
from vitreous.reconstruction.fsc import FscCurves
from vitreous.reconstruction.local_resolution import LocalResolution

PANEL = 240  # pixels of a slice
UNRESOLVED = (128, 128, 128)
BAR_WIDTH = 480.0
SOURCES = (
    Source("Cardone, Heymann & Steven 2013, local resolution by windowed correlation", "10.1016/j.jsb.2013.08.002"),
    Source("Penczek 2020, the mask after the filter", "10.1107/S2052252520011574"),
)
MEANING = (
    "The half maps are compared in a window about each voxel, band by band of frequencies. Where the correlation falls below the "
    "threshold, signal has become weaker than that. The value of a voxel belongs to its whole window: edges in this map are as "
    "soft as the window is wide, and a small poor region inside a good one looks better than it is."
)


def local_sections(outcome: Outcome, local: LocalResolution, curves: FscCurves, filtered: np.ndarray) -> list[Section]:
    """Slices and numbers; histogram and curves, where there is anything to show."""
    figures = [resolution_slices(local), colour_bar(*limits(local))] if len(local.resolved) else []
    figures.append(
        Figure(
            "The mean of the half maps, sharpened and filtered to the local resolution: central slices across z, y and x, and "
            "projections along them.",
            png=slices_picture(filtered),
            alt="Slices and projections of the locally filtered map",
            columns=("along z", "along y", "along x"),
            rows=("slices", "projections"),
            wide=True,
        )
    )
    numbers = outcome.numbers([f.key for f in outcome.findings if f.key not in outcome.headline])
    sections = [Section("Result", MEANING, figures=figures, numbers=numbers, sources=SOURCES)]
    if len(local.resolved):
        sections.append(distribution_section(local))
    return [*sections, band_section(local, curves)]


def limits(local: LocalResolution) -> tuple[float, float]:
    """The resolutions at which the colours begin and end: those of 1 and 99 % of the voxels."""
    low, high = local.quantile(0.01), local.quantile(0.99)
    assert low is not None and high is not None
    return (low, high) if high > low * 1.01 else (low * 0.98, low * 1.02)


def resolution_slices(local: LocalResolution) -> Figure:
    """Central slices across z, y and x of the map of resolutions, transparent outside the mask."""
    middle = len(local.values) // 2
    cuts = ((middle,), (slice(None), middle), (slice(None), slice(None), middle))
    panels = [_panel(local.values[cut], local.inside[cut], limits(local)) for cut in cuts]
    gap = np.zeros((PANEL, GUTTER, 4), np.uint8)
    sheet = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    return Figure(
        "Local resolution in central slices across z, y and x, inside the mask. Grey: the half maps do not agree.",
        png=png_bytes(sheet),
        alt="Central slices coloured by local resolution",
        columns=("along z", "along y", "along x"),
        wide=True,
    )


def colour_bar(low: float, high: float) -> Figure:
    """What resolution each colour stands for."""
    left, width, top = 40.0, BAR_WIDTH - 80, 6.0
    last = len(SCALE) - 1
    stops = [element("stop", offset=f"{i / last:.4f}", stop_color=colour) for i, colour in enumerate(SCALE)]
    gradient = element("linearGradient", "".join(stops), id="resolution-scale")
    bar = element("rect", x=left, y=top, width=width, height=10, rx=2, fill="url(#resolution-scale)")
    ticks = nice_ticks(low, high, 5)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    labels = [
        text_at(left + (tick - low) / (high - low) * width, top + 26, f"{tick_label(tick, step)} Å", anchor="middle")
        for tick in ticks
    ]
    svg = drawing(
        BAR_WIDTH,
        40,
        [element("defs", gradient), bar, *labels],
        "Colours of resolution",
        f"From {low:.1f} to {high:.1f} Å.",
    )
    return Figure("The colours: fine is dark, coarse is bright.", svg=svg, alt="Colour scale")


def distribution_section(local: LocalResolution) -> Section:
    low, high = limits(local)
    levels = (
        [] if local.overall is None else [Threshold(local.overall, f"whole map {local.overall:.1f} Å", vertical=True)]
    )
    plot = histogram(
        local.resolved,
        x_label="local resolution (Å)",
        y_label="voxels",
        title="Local resolutions",
        description=f"98 % of the resolved voxels lie between {low:.1f} and {high:.1f} Å.",
        bins=40,
        x_limits=(min(low, local.overall or low), max(high, local.overall or high)),
        thresholds=levels,
    )
    caption = f"How many voxels have which resolution; {local.unresolved:.1%} have none."
    return Section("Distribution", "", figures=[Figure(caption, svg=plot, alt="Histogram of local resolution")])


def band_section(local: LocalResolution, curves: FscCurves) -> Section:
    """The correlation over the whole mask, what the local one had to reach, and what noise reaches."""
    series = [
        Series("whole mask", local.frequency, local.correlation),
        Series("FSC of the half maps", curves.frequency[1:], curves.best[1:], style="dashed"),
        Series("level in use", local.frequency, local.level, style="dotted"),
        Series("noise, three deviations", local.frequency, 3 * local.deviation, style="dotted"),
    ]
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="correlation",
        title="Correlation by band",
        description="Correlation of the half maps over the whole mask, band by band.",
        y_limits=(-0.1, 1.02),
        resolution_axis=True,
    )
    text = (
        "Bands are as wide as the window demands: what is local in space is blurred in frequency. In a window there are few independent "
        "values, and fewer at low frequency: correlations of noise scatter about 0 by so much that three standard deviations reach the "
        "lowest curve. No threshold below it is used."
    )
    caption = "The correlation of the half maps over all voxels inside, band by band, beside the FSC of the whole map."
    return Section("Bands", text, figures=[Figure(caption, svg=plot, alt="Correlation against frequency")])


def _panel(values: np.ndarray, inside: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """One slice in colours, y upwards, uint8 [PANEL, PANEL, 4]; the voxels are squares, as they are."""
    low, high = ends
    finite = np.isfinite(values)
    picture = np.zeros((*values.shape, 4), np.uint8)
    picture[..., :3] = np.where(
        finite[..., None],
        colours((np.where(finite, values, high) - low) / (high - low)),
        np.array(UNRESOLVED, np.uint8),
    )
    picture[..., 3] = np.where(inside, 255, 0)
    place = (np.arange(PANEL) * len(values)) // PANEL
    return picture[::-1][place][:, place]
