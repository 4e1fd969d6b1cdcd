"""Curves, histograms and maps of the sphere as SVG text, to stand inside a page.

No plotting library: importing one takes longer than a small job. Colours are CSS variables with a fall-back, so that a
figure follows the theme of its page; text is text, so that it can be selected, searched and read aloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np

from vitreous.errors import DataProblem
from vitreous.jobs.svg import (
    CHARACTER,
    DASHES,
    FONT,
    colour_of,
    digest,
    drawing,
    element,
    line,
    nice_ticks,
    resolution_label,
    text_at,
    tick_label,
)

WIDTH = 480
PLOT_HEIGHT = 250
LEGEND_ROW = 20
# Points of a colour scale from dark blue to yellow, even in lightness, readable in grey.
SCALE = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


@dataclass(frozen=True)
class Series:
    """One curve. `colour` counts from 0; by default each series takes the next. Gaps in the curve are NaN."""

    label: str
    x: np.ndarray | Sequence[float]
    y: np.ndarray | Sequence[float]
    style: Literal["line", "dashed", "dotted", "points"] = "line"
    colour: int | None = None


@dataclass(frozen=True)
class Points:
    """One group of a scatter plot. `x_sigma` and `y_sigma` draw error bars of one standard deviation to each side; `names`
    tell what a point is when it is pointed at. Points that are not finite are left out.
    """

    label: str
    x: np.ndarray | Sequence[float]
    y: np.ndarray | Sequence[float]
    mark: Literal["circle", "cross", "triangle"] = "circle"
    colour: int | None = None
    names: Sequence[str] = ()
    x_sigma: np.ndarray | Sequence[float] = ()
    y_sigma: np.ndarray | Sequence[float] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.x), len(self.y), *(len(a) for a in (self.names, self.x_sigma, self.y_sigma) if len(a))}
        if len(lengths) > 1:
            raise DataProblem(f"points '{self.label}' with {sorted(lengths)} values", "as many of each kind")


@dataclass(frozen=True)
class Threshold:
    """A level across the plot at this y (or, `vertical`, at this x), with its label."""

    value: float
    label: str = ""
    vertical: bool = False


@dataclass(frozen=True)
class Marker:
    """A ring around one point of a curve, with what there is to say about it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Axes:
    """Labels and limits of a plot; limits default to the data. `resolution_axis`: x is a frequency in 1/angstrom, and
    each tick also says its resolution in angstrom. `same_scale`: a unit of x is as long as one of y; the limits of x widen.
    """

    x_label: str
    y_label: str
    title: str
    description: str = ""
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    resolution_axis: bool = False
    same_scale: bool = False


def line_plot(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str,
    description: str = "",
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    resolution_axis: bool = False,
    thresholds: Sequence[Threshold] = (),
    markers: Sequence[Marker] = (),
) -> str:
    """SVG of curves over a common x, with grid, ticks, legend, thresholds and markers.

    `title` and `description` are for readers who cannot see the plot; the page gives it its caption. Raises DataProblem
    without a finite point.

    >>> curve = Series("FSC", [0.0, 0.1, 0.2], [1.0, 0.9, 0.1])
    >>> svg = line_plot([curve], x_label="1/Å", y_label="FSC", title="FSC of the half maps")
    >>> svg.startswith("<svg") and svg.endswith("</svg>")
    True
    """
    axes = Axes(x_label, y_label, title, description, x_limits, y_limits, resolution_axis)
    plot = _Plot(axes, [one.x for one in series], [one.y for one in series], legend=[one.label for one in series])
    for level in thresholds:
        plot.level(level)
    for index, one in enumerate(series):
        plot.curve(one, index if one.colour is None else one.colour)
    for marker in markers:
        plot.marker(marker)
    plot.legend(
        [(one.label, index if one.colour is None else one.colour, one.style) for index, one in enumerate(series)]
    )
    return plot.svg()


def scatter_plot(
    groups: Sequence[Points],
    *,
    x_label: str,
    y_label: str,
    title: str,
    description: str = "",
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    same_scale: bool = False,
    thresholds: Sequence[Threshold] = (),
    markers: Sequence[Marker] = (),
    paths: Sequence[Series] = (),
) -> str:
    """SVG of points in groups, told apart by the shape of their marks as well as by colour; later groups lie on top.

    Limits default to the data with error bars, the thresholds and some room. `paths` are lines over the points, in no legend. With
    `same_scale` both axes have one scale, so that distances and directions are true. Raises DataProblem without a finite point.

    >>> group = Points("kept", [1.0, 2.0], [4.1, 3.9], names=["a.mrc", "b.mrc"])
    >>> svg = scatter_plot([group], x_label="defocus (µm)", y_label="resolution (Å)", title="Defocus and resolution")
    >>> "<title>a.mrc</title>" in svg
    True
    """
    wanted = [
        limits or _reach(groups, axis, title, [one.value for one in thresholds if one.vertical == (axis == "x")])
        for axis, limits in (("x", x_limits), ("y", y_limits))
    ]
    if same_scale:  # the widest labels leave a frame 1.44 times as wide as it is high
        (left, right), (low, high) = wanted
        half = max((high - low) / 2, (right - left) / 2.88)
        wanted[1] = ((low + high) / 2 - half, (low + high) / 2 + half)
    axes = Axes(x_label, y_label, title, description, wanted[0], wanted[1], same_scale=same_scale)
    plot = _Plot(axes, [group.x for group in groups], [group.y for group in groups], legend=[g.label for g in groups])
    for level in thresholds:
        plot.level(level)
    for index, group in enumerate(groups):
        plot.points(group, index if group.colour is None else group.colour)
    for index, path in enumerate(paths, start=len(groups)):
        plot.curve(path, index if path.colour is None else path.colour)
    for marker in markers:
        plot.marker(marker)
    plot.legend([(g.label, index if g.colour is None else g.colour, g.mark) for index, g in enumerate(groups)])
    return plot.svg()


def histogram(
    values: np.ndarray | Sequence[float],
    *,
    x_label: str,
    y_label: str,
    title: str,
    description: str = "",
    bins: int | None = None,
    x_limits: tuple[float, float] | None = None,
    thresholds: Sequence[Threshold] = (),
) -> str:
    """SVG of how often values fall into `bins` intervals (by default about the square root of their number, from 8 to
    40).
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        raise DataProblem(f"no finite value for the histogram '{title}'", "at least one")
    chosen = bins if bins is not None else int(np.clip(round(math.sqrt(len(finite))), 8, 40))
    counts, edges = np.histogram(finite, bins=chosen, range=x_limits)
    axes = Axes(
        x_label,
        y_label,
        title,
        description,
        (float(edges[0]), float(edges[-1])),
        (0.0, 1.08 * max(1, int(counts.max()))),
    )
    plot = _Plot(axes, [edges], [counts], legend=[])
    plot.bars(edges, counts)
    for level in thresholds:
        plot.level(level)
    return plot.svg()


def heat_map(
    values: np.ndarray,
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    *,
    x_label: str,
    y_label: str,
    title: str,
    description: str = "",
    colour_label: str,
    markers: Sequence[Marker] = (),
    paths: Sequence[Series] = (),
) -> str:
    """SVG of `values` [y, x], the means of equal cells between the limits, in colours from 0 to a round number above the largest. NaN is
    transparent. Lines of `paths` and rings of `markers` lie on top."""
    from vitreous.jobs.pictures import data_uri, png_bytes

    known = np.isfinite(values)
    if not known.any():
        raise DataProblem(f"no finite value for the map '{title}'", "at least one")
    high = _round_up(max(float(values[known].max()), 1e-12))
    plot = _Plot(Axes(x_label, y_label, title, description, x_limits, y_limits), [], [])
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = colours(np.where(known, values, 0) / high)
    pixels[..., 3] = 255 * known
    width, height = plot.right - plot.left, plot.bottom - plot.top
    picture = data_uri(png_bytes(pixels[::-1]))
    plot.parts.insert(
        len(plot.x_ticks) + len(plot.y_ticks),  # over the grid, under the axes
        element("image", href=picture, x=plot.left, y=plot.top, width=width, height=height, preserveAspectRatio="none"),
    )
    for index, path in enumerate(paths):
        plot.curve(path, index if path.colour is None else path.colour)
    for marker in markers:
        plot.marker(marker)
    plot.parts += _colour_bar(plot.left + 40, plot.height + 8, width - 80, high, colour_label)
    plot.height += 56
    return plot.svg()


def sphere_map(
    density: np.ndarray,
    *,
    title: str,
    description: str = "",
    colour_label: str = "views relative to an even spread",
) -> str:
    """SVG of a density on the sphere in the equal-area projection of Mollweide.

    `density` [12 n_side^2] is a value per HEALPix pixel in ring numbering. The middle is the direction x, z is at the
    top; azimuth (rot) grows to the right from -180 to 180 degrees, and the polar angle (tilt) downwards from 0 to 180.
    The scale begins at 0 and ends at a round number above the 99.5 percentile.
    """
    from vitreous.jobs.pictures import data_uri, png_bytes

    high = _round_up(max(float(np.percentile(density, 99.5)), float(np.mean(density)), 1e-12))
    width, height, left, top = 440.0, 220.0, 20.0, 20.0
    x, y = left + width / 2, top + height / 2
    picture = data_uri(png_bytes(_mollweide(np.asarray(density), high)))
    parts = [
        element("image", href=picture, x=left, y=top, width=width, height=height, preserveAspectRatio="none"),
        element("ellipse", cx=x, cy=y, rx=width / 2, ry=height / 2, fill="none", stroke=colour_of("axis")),
    ]
    graticule = [_meridian(azimuth) for azimuth in (-120, -60, 0, 60, 120)]
    graticule += [_parallel(tilt) for tilt in (30, 60, 90, 120, 150)]
    for across, up in graticule:
        points = " ".join(f"{x + a * width / 2:.1f},{y - b * height / 2:.1f}" for a, b in zip(across, up))
        parts.append(element("polyline", points=points, fill="none", stroke="#fff", stroke_opacity=0.35))
    parts.append(text_at(x, top - 6, "tilt 0°", anchor="middle", colour="muted"))
    parts.append(text_at(x, top + height + 16, "tilt 180°", anchor="middle", colour="muted"))
    bar_top = top + height + 28
    parts += _colour_bar(left + 70, bar_top, width - 140, high, colour_label)
    return drawing(WIDTH, bar_top + 48, parts, title, description)


def colours(fraction: np.ndarray) -> np.ndarray:
    """Colours [..., 3], uint8, of fractions of the scale: 0 is dark blue, 1 yellow."""
    points = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in SCALE], dtype=np.float64)
    position = np.clip(fraction, 0, 1) * (len(points) - 1)
    channels = [np.interp(position, np.arange(len(points)), points[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


class _Plot:
    """A frame with scales; collects the pieces of one drawing."""

    def __init__(self, axes: Axes, all_x: Sequence, all_y: Sequence, *, legend: Sequence[str] = ()) -> None:
        self.axes, self.parts = axes, list[str]()
        self.x0, self.x1 = axes.x_limits or _range(all_x, axes.title, margin=0.0)
        self.y0, self.y1 = axes.y_limits or _range(all_y, axes.title, margin=0.05)
        self.y_ticks = nice_ticks(self.y0, self.y1, 5)
        self.y_texts = [tick_label(tick, _step(self.y_ticks)) for tick in self.y_ticks]
        self.left, self.right = 30 + CHARACTER * max(len(text) for text in self.y_texts), WIDTH - 22.0
        if axes.same_scale:
            half = (self.right - self.left) / PLOT_HEIGHT * (self.y1 - self.y0) / 2
            self.x0, self.x1 = (self.x0 + self.x1) / 2 - half, (self.x0 + self.x1) / 2 + half
        self.x_ticks = _ticks_with_room(axes, self.x0, self.x1, self.right - self.left)
        self.rows = _legend_rows(legend, WIDTH - 20) if len(legend) > 1 else []
        self.top = 12.0 + LEGEND_ROW * len(self.rows)
        self.bottom = self.top + PLOT_HEIGHT
        self.height = self.bottom + (58 if axes.resolution_axis else 44)
        self.clip = "clip-" + digest(axes, all_x, all_y)
        self._grid()
        self._labels()

    def x(self, value: Any) -> Any:
        return self.left + (value - self.x0) / (self.x1 - self.x0) * (self.right - self.left)

    def y(self, value: Any) -> Any:
        return self.bottom - (value - self.y0) / (self.y1 - self.y0) * (self.bottom - self.top)

    def _grid(self) -> None:
        for tick in self.y_ticks:
            self.parts.append(line(f"M{self.left:.1f} {self.y(tick):.1f}H{self.right:.1f}", "grid", 1))
        for tick in self.x_ticks:
            self.parts.append(line(f"M{self.x(tick):.1f} {self.top:.1f}V{self.bottom + 4:.1f}", "grid", 1))
        frame = f"M{self.left:.1f} {self.top:.1f}V{self.bottom:.1f}H{self.right:.1f}"
        self.parts.append(line(frame, "axis", 1.2))

    def _labels(self) -> None:
        for tick, text in zip(self.y_ticks, self.y_texts):
            self.parts.append(text_at(self.left - 6, self.y(tick) + 4.5, text, anchor="end", colour="muted"))
        for tick in self.x_ticks:
            x, label = self.x(tick), tick_label(tick, _step(self.x_ticks))
            if self.axes.resolution_axis:
                resolution = f"{resolution_label(1 / tick)} Å" if tick > 0 else "∞"
                self.parts.append(text_at(x, self.bottom + 18, resolution, anchor="middle"))
                self.parts.append(text_at(x, self.bottom + 34, label, anchor="middle", colour="muted", size=FONT - 2))
            else:
                self.parts.append(text_at(x, self.bottom + 18, label, anchor="middle", colour="muted"))
        self.parts.append(text_at((self.left + self.right) / 2, self.height - 6, self.axes.x_label, anchor="middle"))
        middle = (self.top + self.bottom) / 2
        self.parts.append(text_at(14, middle, self.axes.y_label, anchor="middle", turned=True))

    def curve(self, series: Series, colour: int) -> None:
        x = self.x(np.asarray(series.x, dtype=np.float64))
        y = self.y(np.asarray(series.y, dtype=np.float64)).clip(-1e4, 1e4)
        finite = np.isfinite(x) & np.isfinite(y)
        if series.style == "points":
            dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x[finite], y[finite]))
            self._clipped(line(dots, colour, 5, cap="round"))
            return
        after_gap = finite & ~np.concatenate([[False], finite[:-1]])
        steps = [f"{'M' if new else 'L'}{a:.1f} {b:.1f}" for a, b, new in zip(x[finite], y[finite], after_gap[finite])]
        self._clipped(line("".join(steps), colour, 2, dash=DASHES.get(series.style), cap="round"))

    def points(self, group: Points, colour: int) -> None:
        x, y = np.asarray(group.x, dtype=np.float64), np.asarray(group.y, dtype=np.float64)
        finite = np.nonzero(np.isfinite(x) & np.isfinite(y))[0].tolist()
        across = self.x(x + _sigmas(group.x_sigma, x)) - self.x(x)
        upwards = self.y(y) - self.y(y + _sigmas(group.y_sigma, y))
        bars = [
            f"M{self.x(x[i]) - across[i]:.1f} {self.y(y[i]):.1f}h{2 * across[i]:.1f}" for i in finite if across[i] > 1
        ]
        bars += [
            f"M{self.x(x[i]):.1f} {self.y(y[i]) - upwards[i]:.1f}v{2 * upwards[i]:.1f}"
            for i in finite
            if upwards[i] > 1
        ]
        if bars:
            self._clipped(element("g", line("".join(bars), colour, 1.2), opacity=0.6))
        radius = 4.0 if len(finite) < 100 else 3.2 if len(finite) < 400 else 2.6
        names = list(group.names) or [""] * len(x)
        shapes = "".join(_mark(group.mark, self.x(x[i]), self.y(y[i]), radius, names[i]) for i in finite)
        if shapes:
            self._clipped(_marks(group.mark, shapes, colour))

    def bars(self, edges: np.ndarray, counts: np.ndarray) -> None:
        boxes = [
            f"M{self.x(a) + 0.5:.1f} {self.bottom:.1f}V{self.y(n):.1f}H{self.x(b) - 0.5:.1f}V{self.bottom:.1f}Z"
            for a, b, n in zip(edges[:-1], edges[1:], counts)
            if n > 0
        ]
        self._clipped(element("path", d="".join(boxes), fill=colour_of(0), fill_opacity=0.75))

    def level(self, level: Threshold) -> None:
        if level.vertical and self.x0 <= level.value <= self.x1:
            x = self.x(level.value)
            at_right = x > (self.left + self.right) / 2
            self.parts.append(line(f"M{x:.1f} {self.top:.1f}V{self.bottom:.1f}", "muted", 1.2, dash="3 3"))
            place, anchor = (x - 5, "end") if at_right else (x + 5, "start")
            self.parts.append(text_at(place, self.top + 14, level.label, anchor=anchor, colour="muted"))
        elif not level.vertical and self.y0 <= level.value <= self.y1:
            y = self.y(level.value)
            self.parts.append(line(f"M{self.left:.1f} {y:.1f}H{self.right:.1f}", "muted", 1.2, dash="3 3"))
            self.parts.append(text_at(self.left + 6, y - 5, level.label, colour="muted"))

    def marker(self, marker: Marker) -> None:
        x, y = self.x(marker.x), self.y(marker.y)
        if not (self.left - 1 <= x <= self.right + 1 and self.top - 1 <= y <= self.bottom + 1):
            return
        ring = element("circle", cx=x, cy=y, r=4.5, fill=colour_of("page"), stroke=colour_of("ink"), stroke_width=1.6)
        at_right = x + 10 + CHARACTER * len(marker.label) > self.right
        baseline = y - 10 if y - 24 > self.top else y + 22
        place, anchor = (x - 8, "end") if at_right else (x + 8, "start")
        self.parts += [ring, text_at(place, baseline, marker.label, anchor=anchor, bold=True, halo=True)]

    def legend(self, entries: Sequence[tuple[str, int, str]]) -> None:
        """(label, colour, style) of each series, in rows above the plot."""
        for row, members in enumerate(self.rows):
            x, y = 12.0, 16.0 + LEGEND_ROW * row
            for label, colour, style in (entries[member] for member in members):
                if style == "points":
                    self.parts.append(line(f"M{x + 11:.1f} {y - 4.5:.1f}h0", colour, 6, cap="round"))
                elif style in ("circle", "cross", "triangle"):
                    self.parts.append(_marks(style, _mark(style, x + 11, y - 4.5, 4.0), colour))
                else:
                    dash = DASHES.get(style)
                    self.parts.append(line(f"M{x:.1f} {y - 4.5:.1f}h22", colour, 2.4, dash=dash, cap="round"))
                self.parts.append(text_at(x + 28, y, label))
                x += _legend_width(label)

    def _clipped(self, content: str) -> None:
        self.parts.append(element("g", content, clip_path=f"url(#{self.clip})"))

    def svg(self) -> str:
        width, height = self.right - self.left + 3, self.bottom - self.top + 6
        area = element("rect", x=self.left, y=self.top - 3, width=width, height=height)
        clip = element("defs", element("clipPath", area, id=self.clip))
        return drawing(WIDTH, self.height, [clip, *self.parts], self.axes.title, self.axes.description)


def _mark(shape: str, x: float, y: float, radius: float, name: str = "") -> str:
    """One point, to be coloured by the group around it; `name` shows when it is pointed at."""
    title = element("title", escape(name)) if name else ""
    if shape == "circle":
        return element("circle", title, cx=x, cy=y, r=radius)
    if shape == "cross":
        return element(
            "path",
            title,
            d=f"M{x - radius:.1f} {y - radius:.1f}l{2 * radius:g} {2 * radius:g}m0-{2 * radius:g}l-{2 * radius:g} {2 * radius:g}",
        )
    corner = 1.15 * radius
    return element("path", title, d=f"M{x:.1f} {y - 1.3 * radius:.1f}l{corner:.1f} {2 * radius:g}h-{2 * corner:.1f}Z")


def _marks(shape: str, shapes: str, colour: int) -> str:
    if shape == "cross":
        return element("g", shapes, fill="none", stroke=colour_of(colour), stroke_width=2, stroke_linecap="round")
    return element("g", shapes, fill=colour_of(colour), fill_opacity=0.7, stroke=colour_of("page"), stroke_width=0.6)


def _sigmas(sigmas: np.ndarray | Sequence[float], values: np.ndarray) -> np.ndarray:
    given = np.asarray(sigmas, dtype=np.float64) if len(sigmas) else np.zeros_like(values)
    return np.where(np.isfinite(given), given, 0.0)


def _reach(groups: Sequence[Points], axis: str, title: str, levels: Sequence[float]) -> tuple[float, float]:
    """Limits along "x" or "y" that hold all points with their error bars, and some levels."""
    ends: list = [levels]
    for group in groups:
        values = np.asarray(getattr(group, axis), dtype=np.float64)
        sigmas = _sigmas(getattr(group, f"{axis}_sigma"), values)
        ends += [values - sigmas, values + sigmas]
    return _range(ends, title, margin=0.06)


def _step(ticks: Sequence[float]) -> float:
    return ticks[1] - ticks[0] if len(ticks) > 1 else 1.0


def _ticks_with_room(axes: Axes, low: float, high: float, width: float) -> list[float]:
    """As many ticks, at most about 7, as have room for their labels side by side, also in the larger type of phones."""
    choices = [nice_ticks(low, high, about) for about in (7, 6, 5, 4, 3, 2)]
    for ticks in choices:
        labels = [tick_label(tick, _step(ticks)) for tick in ticks]
        if axes.resolution_axis:
            labels = [f"{resolution_label(1 / tick)} Å" for tick in ticks if tick > 0]
        if len(ticks) * (max(map(len, labels), default=0) + 2) * CHARACTER < width:
            return ticks
    return choices[-1]


def _range(arrays: Sequence, title: str, *, margin: float) -> tuple[float, float]:
    values = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays]) if arrays else np.empty(0)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        raise DataProblem(f"no finite value for the plot '{title}'", "at least one point")
    low, high = float(values.min()), float(values.max())
    if high == low:
        low, high = low - 0.5, high + 0.5
    room = margin * (high - low)
    return low - room, high + room


def _legend_width(label: str) -> float:
    return 28 + CHARACTER * len(label) + 18


def _legend_rows(labels: Sequence[str], width: float) -> list[list[int]]:
    """Which labels stand in which row, so that no row is wider than the plot."""
    rows: list[list[int]] = [[]]
    used = 0.0
    for index, label in enumerate(labels):
        if rows[-1] and used + _legend_width(label) > width:
            rows.append([])
            used = 0.0
        rows[-1].append(index)
        used += _legend_width(label)
    return rows


def _mollweide(density: np.ndarray, high: float) -> np.ndarray:
    """Coloured pixels [y, x, 4] of a HEALPix map; transparent outside the ellipse."""
    import healpix

    height, width = 300, 600
    y = 1 - (np.arange(height) + 0.5) / height * 2
    x = (np.arange(width) + 0.5) / width * 2 - 1
    auxiliary = np.arcsin(y)[:, None]
    azimuth = np.pi * x / np.cos(auxiliary)
    inside = np.abs(azimuth) <= np.pi
    z = np.broadcast_to((2 * auxiliary + np.sin(2 * auxiliary)) / np.pi, inside.shape)
    tilt = np.arccos(np.clip(z, -1, 1))
    pixel = healpix.ang2pix(math.isqrt(len(density) // 12), tilt[inside], np.mod(azimuth[inside], 2 * np.pi))
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[inside, :3] = colours(density[pixel] / high)
    rgba[inside, 3] = 255
    return rgba


def _meridian(azimuth_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A line of constant azimuth on the ellipse: x, y in [-1, 1]."""
    auxiliary = np.linspace(-np.pi / 2, np.pi / 2, 37)
    return azimuth_deg / 180 * np.cos(auxiliary), np.sin(auxiliary)


def _parallel(tilt_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A line of constant polar angle, not a pole, on the ellipse: x, y in [-1, 1]."""
    z = math.cos(math.radians(tilt_deg))
    auxiliary = 0.0
    for _ in range(20):  # Newton on 2a + sin 2a = pi z
        auxiliary -= (2 * auxiliary + math.sin(2 * auxiliary) - math.pi * z) / (2 + 2 * math.cos(2 * auxiliary))
    return np.array([-1, 1]) * math.cos(auxiliary), np.array([1, 1]) * math.sin(auxiliary)


def _round_up(value: float) -> float:
    """The next number with one or two figures: 0.12, 1.5, 3, 7."""
    power = 10.0 ** math.floor(math.log10(value))
    factor = next(
        factor for factor in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10) if factor * power >= value * (1 - 1e-9)
    )
    return factor * power


def _colour_bar(left: float, top: float, width: float, high: float, label: str) -> list[str]:
    last = len(SCALE) - 1
    stops = [element("stop", offset=f"{index / last:.4f}", stop_color=colour) for index, colour in enumerate(SCALE)]
    gradient = element("linearGradient", "".join(stops), id="colour-scale")
    bar = element("rect", x=left, y=top, width=width, height=9, rx=2, fill="url(#colour-scale)")
    ticks = nice_ticks(0, high, 4)
    numbers = [(left + tick / high * width, tick_label(tick, _step(ticks))) for tick in ticks]
    texts = [text_at(x, top + 24, text, anchor="middle", colour="muted") for x, text in numbers]
    return [element("defs", gradient), bar, *texts, text_at(left + width / 2, top + 42, label, anchor="middle")]
