"""SVG figures: well-formed, escaped, and true to their numbers."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import healpix
import numpy as np
import pytest
from PIL import Image

from vitreous.errors import DataProblem
from vitreous.jobs.curves import (
    Marker,
    Points,
    Series,
    Threshold,
    colours,
    histogram,
    line_plot,
    scatter_plot,
    sphere_map,
)
from vitreous.jobs.svg import SERIES, nice_ticks, resolution_label, tick_label

SVG = "{http://www.w3.org/2000/svg}"
X = np.linspace(0, 0.14, 29)
LABELS = {"x_label": "frequency (1/Å)", "y_label": "FSC", "title": "Half maps"}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(SVG + "text")]


def path_of_series(root: ElementTree.Element, index: int) -> np.ndarray:
    """Points of the stroke in the colour of the n-th series, the clipped one, not its sample in the legend."""
    group = [g for g in root.iter(SVG + "g") if f"--series-{index + 1}," in g[0].get("stroke", g[0].get("fill", ""))]
    return np.array(
        [[float(v) for v in pair] for pair in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", group[0][0].get("d", ""))]
    )


def position_of(root: ElementTree.Element, text: str) -> tuple[float, float]:
    return next((float(e.get("x", 0)), float(e.get("y", 0))) for e in root.iter(SVG + "text") if e.text == text)


# --- line plots ------------------------------------------------------------------------------------------------------


def test_curves_lie_where_their_numbers_say():
    y = np.exp(-X * 20)
    root = parsed(line_plot([Series("one", X, y), Series("two", X, 1 - y)], **LABELS, y_limits=(0, 1)))
    points, other = path_of_series(root, 0), path_of_series(root, 1)
    # affine in both directions, to the 0.05 of one decimal
    for column, values in ((0, X), (1, y)):
        slope, offset = np.polyfit(values, points[:, column], 1)
        np.testing.assert_allclose(points[:, column], slope * values + offset, atol=0.08)
        assert slope > 0 if column == 0 else slope < 0  # to the right, and upwards: SVG counts y downwards
    np.testing.assert_allclose(
        points[:, 1] + other[:, 1], points[0, 1] + other[0, 1], atol=0.11
    )  # y and 1 - y mirrored
    # ticks agree with the curve: the tick of 1.0 stands at the height of y = 1
    assert position_of(root, "1.0")[1] - 4.5 == pytest.approx(points[0, 1], abs=0.1)


def test_described_for_those_who_cannot_see_it():
    root = parsed(line_plot([Series("a", X, X)], **LABELS, description="Falls at 8 Å"))
    assert root.get("role") == "img"
    names = {e.get("id"): e.text for e in root if e.tag in (SVG + "title", SVG + "desc")}
    assert [names[key] for key in (root.get("aria-labelledby") or "").split()] == ["Half maps", "Falls at 8 Å"]
    assert {"frequency (1/Å)", "FSC"} <= set(texts(root))


def test_text_is_escaped():
    nasty = "<script>alert('&')</script>"
    svg = line_plot(
        [Series(nasty, X, X), Series("b", X, X)],
        x_label=nasty,
        y_label=nasty,
        title=nasty,
        description=nasty,
        thresholds=[Threshold(0.05, nasty)],
        markers=[Marker(0.05, 0.05, nasty)],
    )
    root = parsed(svg)
    assert not list(root.iter("script")) and not list(root.iter(SVG + "script"))
    assert texts(root).count(nasty) == 5  # still readable, as text


def test_scales_to_its_place_and_follows_the_theme():
    svg = line_plot([Series("a", X, X)], **LABELS)
    root = parsed(svg)
    assert root.get("viewBox", "").startswith("0 0 480 ") and root.get("width") is None
    colours_used = re.findall(r'(?:stroke|fill)="([^"]+)"', svg)
    assert all(value in ("none",) or value.startswith(("var(--", "url(#")) for value in colours_used)
    assert SERIES[0] in svg  # a fall-back where the page has no theme


def test_gaps_part_a_curve():
    y = np.ones(29)
    y[10:13] = np.nan
    root = parsed(line_plot([Series("a", X, y)], **LABELS))
    group = next(root.iter(SVG + "g"))
    assert group[0].get("d", "").count("M") == 2
    assert len(path_of_series(root, 0)) == 26


def test_resolution_axis_names_both():
    root = parsed(line_plot([Series("a", X, 100 * X)], **LABELS, resolution_axis=True))
    assert position_of(root, "10 Å")[0] == pytest.approx(position_of(root, "0.100")[0])
    assert position_of(root, "20 Å")[0] < position_of(root, "10 Å")[0]
    assert "∞" in texts(root)


def test_thresholds_and_markers_outside_are_left_out():
    levels = [Threshold(0.143, "0.143"), Threshold(7.0, "far"), Threshold(0.05, "here", vertical=True)]
    marks = [Marker(0.05, 0.5, "8.0 Å"), Marker(9.0, 0.5, "beyond")]
    root = parsed(line_plot([Series("a", X, 5 * X)], **LABELS, thresholds=levels, markers=marks))
    assert {"0.143", "here", "8.0 Å"} <= set(texts(root))
    assert not {"far", "beyond"} & set(texts(root))
    assert len(list(root.iter(SVG + "circle"))) == 1


def test_legend_is_only_for_several_and_wraps():
    one = parsed(line_plot([Series("alone", X, X)], **LABELS))
    assert "alone" not in texts(one)
    many = parsed(line_plot([Series(f"a rather long name {i}", X, X) for i in range(5)], **LABELS))
    places = [position_of(many, f"a rather long name {i}") for i in range(5)]
    assert len({y for _, y in places}) > 1
    assert max(x for x, _ in places) < 480 - 100


def test_points_are_round_dots():
    root = parsed(line_plot([Series("a", X, X, style="points")], **LABELS))
    path = next(root.iter(SVG + "g"))[0]
    assert path.get("d", "").count("h0") == 29 and path.get("stroke-linecap") == "round"


def test_a_plot_without_points_is_refused():
    with pytest.raises(DataProblem, match="Half maps"):
        line_plot([Series("a", [0, 1], [np.nan, np.nan])], **LABELS)
    with pytest.raises(DataProblem, match="Half maps"):
        histogram([], **LABELS)


def test_flat_data_still_has_axes():
    root = parsed(line_plot([Series("a", [1.0], [2.0])], **LABELS))
    assert all(np.isfinite(path_of_series(root, 0)).ravel())


# --- ticks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12.2), (0, 0.141), (1e-7, 9e-7), (1e4, 3e6)])
def test_ticks_are_round_even_and_inside(low, high):
    ticks = nice_ticks(low, high, 6)
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert low - 1e-9 * abs(high) <= ticks[0] and ticks[-1] <= high * (1 + 1e-9)
    assert 3 <= len(ticks) <= 12
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5)) < 1e-6


def test_labels_have_the_decimals_they_need():
    assert [tick_label(v, 0.025) for v in (0, 0.025, 0.1)] == ["0.000", "0.025", "0.100"]
    assert tick_label(-2.0, 1.0) == "\u22122"
    assert tick_label(12000, 2000) == "12\u2009000"
    assert [resolution_label(v) for v in (3.333333, 10.04, 250.3)] == ["3.33", "10", "250"]


# --- histograms ------------------------------------------------------------------------------------------------------


def test_bars_hold_all_values():
    values = np.random.default_rng(0).normal(10, 2, 1000)
    svg = histogram(values, **LABELS, bins=20)
    bars = re.findall(r"M([-\d.]+) ([-\d.]+)V([-\d.]+)H([-\d.]+)V[-\d.]+Z", svg)
    heights = np.array([float(base) - float(top) for _, base, top, _ in bars])
    counts = np.histogram(values, 20)[0]
    counts = counts[counts > 0]
    assert len(bars) == len(counts)
    np.testing.assert_allclose(heights / heights.sum(), counts / counts.sum(), atol=2e-3)  # one decimal of a pixel
    parsed(svg)


# --- scatter plots ---------------------------------------------------------------------------------------------------


def circles_of(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Places of the circles that have a name."""
    return {
        mark[0].text or "": (float(mark.get("cx", 0)), float(mark.get("cy", 0)))
        for mark in root.iter(SVG + "circle")
        if len(mark)
    }


def test_points_lie_where_their_numbers_say():
    x, y = [1.0, 2.0, 4.0, np.nan], [3.0, -1.0, 0.0, 2.0]
    root = parsed(scatter_plot([Points("one", x, y, names="abcd")], **LABELS))
    places = circles_of(root)
    assert set(places) == {"a", "b", "c"}  # a point that is not finite is left out
    across, down = (np.array([places[name][i] for name in "abc"]) for i in (0, 1))
    for pixels, values in ((across, x[:3]), (down, y[:3])):
        slope, offset = np.polyfit(values, pixels, 1)
        np.testing.assert_allclose(pixels, slope * np.array(values) + offset, atol=0.02)  # two decimals
        assert (slope > 0) == (pixels is across)  # to the right, and upwards: SVG counts y downwards
    assert position_of(root, "4.0")[0] == pytest.approx(places["c"][0], abs=0.1)


def test_one_scale_for_both_axes():
    points = Points("one", [0.0, 30.0, 0.0], [0.0, 0.0, 10.0], names="oxy")
    for group in (points, Points("two", points.y, points.x, names="oxy")):
        places = circles_of(parsed(scatter_plot([group], **LABELS, same_scale=True)))
        x, y = (np.subtract(places[name], places["o"]) for name in "xy")
        assert np.hypot(*x) == pytest.approx(3 * np.hypot(*y), rel=0.01)
    wide = circles_of(parsed(scatter_plot([points], **LABELS)))
    assert np.hypot(*np.subtract(wide["x"], wide["o"])) < 2.5 * np.hypot(*np.subtract(wide["y"], wide["o"]))


def test_groups_have_shapes_and_error_bars_of_their_own():
    groups = [
        Points("kept", [0.0, 10.0], [0.0, 10.0], names="ab", x_sigma=[1.0, 1e-4], y_sigma=[2.0, np.nan]),
        Points("rejected", [5.0], [5.0], mark="cross", names="c"),
        Points("third", [6.0], [6.0], mark="triangle", names="d"),
    ]
    root = parsed(scatter_plot(groups, **LABELS, x_limits=(-5, 15), y_limits=(-5, 15)))
    places = circles_of(root)
    assert set(places) == {"a", "b"}
    assert [mark[0].text for mark in root.iter(SVG + "path") if len(mark)] == ["c", "d"]
    bars = re.findall(r"M([-\d.]+) ([-\d.]+)([hv])([\d.]+)", " ".join(p.get("d", "") for p in root.iter(SVG + "path")))
    bars = [(float(x), float(y), kind, float(length)) for x, y, kind, length in bars if float(length) > 0]
    assert [kind for _, _, kind, _ in bars] == ["h", "v"]  # of a alone: those of b are shorter than a pixel, or unknown
    scale = (places["b"][0] - places["a"][0]) / 10
    (left, _, _, width), (_, top, _, height) = bars
    assert width == pytest.approx(2 * scale, abs=0.11) and left + width / 2 == pytest.approx(places["a"][0], abs=0.1)
    assert top + height / 2 == pytest.approx(places["a"][1], abs=0.1) and height > width / 2
    assert {"kept", "rejected", "third"} <= set(texts(root))


def test_limits_of_a_scatter_hold_bars_and_levels():
    far = [Threshold(-50.0, "low"), Threshold(40.0, "right", vertical=True)]
    root = parsed(scatter_plot([Points("a", [0.0, 1.0], [0.0, 1.0], y_sigma=[5.0, 5.0])], **LABELS, thresholds=far))
    assert {"low", "right"} <= set(texts(root))  # drawn, so inside
    with pytest.raises(DataProblem, match="values"):
        Points("a", [0.0], [0.0, 1.0])
    with pytest.raises(DataProblem, match="no finite value"):
        scatter_plot([Points("a", [np.nan], [1.0])], **LABELS)


def test_names_of_points_are_escaped():
    svg = scatter_plot([Points("a", [0.0], [0.0], names=["<b>&"])], **LABELS)
    assert "<b>" not in svg and "&lt;b&gt;&amp;" in svg
    parsed(svg)


# --- the sphere ------------------------------------------------------------------------------------------------------


def picture_of(svg: str) -> np.ndarray:
    image = next(parsed(svg).iter(SVG + "image"))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.get("href", "").split(",")[1]))))


def bright_spot(tilt_deg: float, rot_deg: float) -> tuple[float, float]:
    """Where a single bright pixel of the sphere is drawn: x to the right, y down, from -1 to 1."""
    density = np.zeros(12 * 8**2)
    density[healpix.ang2pix(8, np.radians(tilt_deg), np.radians(rot_deg % 360))] = len(density)
    pixels = picture_of(sphere_map(density, title="Views"))
    y, x = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 3] == 255))
    return x.mean() / pixels.shape[1] * 2 - 1, y.mean() / pixels.shape[0] * 2 - 1


def test_directions_are_drawn_where_they_belong():
    # pixels of n_side 8 are 7 degrees wide, 0.08 of a quarter turn
    assert bright_spot(90, 0) == pytest.approx((0, 0), abs=0.08)
    assert bright_spot(2, 0)[1] < -0.9 and bright_spot(178, 0)[1] > 0.9
    assert bright_spot(90, 90) == pytest.approx((0.5, 0), abs=0.08)
    assert bright_spot(90, -90) == pytest.approx((-0.5, 0), abs=0.08)
    # Mollweide: the parallel of latitude 30 degrees is at y = 0.4040 of the half height
    assert bright_spot(60, 0)[1] == pytest.approx(-0.404, abs=0.08)


def test_areas_are_equal_and_the_rest_is_transparent():
    even = picture_of(sphere_map(np.ones(12 * 4**2), title="Views"))
    covered = even[..., 3] == 255
    assert covered.mean() == pytest.approx(np.pi / 4, rel=0.01)  # the ellipse in its box
    assert len(np.unique(even[covered], axis=0)) == 1
    density = np.zeros(12 * 4**2)
    density[: len(density) // 4] = 1  # a cap of a quarter of the sphere
    cap = picture_of(sphere_map(density, title="Views"))
    bright = covered & (cap[..., 1] > 100)
    assert bright.sum() / covered.sum() == pytest.approx(0.25, abs=0.01)


def test_colour_scale_runs_from_dark_to_light():
    luminance = colours(np.linspace(-0.2, 1.2, 50)) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luminance) >= -1).all() and luminance[-1] - luminance[0] > 150
