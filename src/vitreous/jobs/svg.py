"""The pieces that figures are drawn with: SVG elements in the colours of the page, and numbers for axes.

Colours are CSS variables with a fall-back, so that a figure follows the theme of its page and still shows by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from html import escape

FONT = 13
CHARACTER = 0.58 * FONT  # mean width of a character, on the wide side
# Blue, orange, green, purple, grey, red: told apart in both themes and by colour-blind readers.
SERIES = ("#1f6fb2", "#d0660b", "#0f8a68", "#8a55b5", "#6b7680", "#c23b3b")
THEME = {"ink": "#1b2126", "muted": "#5d6a75", "grid": "#e3e8ec", "axis": "#8b97a1", "page": "#ffffff"}
DASHES = {"dashed": "6 4", "dotted": "1.5 4"}


def element(name: str, content: str = "", **attributes: str | float | None) -> str:
    """One element. Underscores in names of attributes become hyphens; numbers are rounded to 0.01; None is left out.

    `content` is markup: escape text before.

    >>> element("path", d="M0 0H9", stroke_width=1.5)
    '<path d="M0 0H9" stroke-width="1.5"/>'
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{round(float(value), 2):g}"
            parts.append(f'{key.replace("_", "-")}="{escape(text)}"')
    opening = " ".join(parts)
    return f"<{opening}>{content}</{name}>" if content else f"<{opening}/>"


def drawing(width: float, height: float, parts: Iterable[str], title: str, description: str) -> str:
    """A whole figure, scaled to the width of whatever holds it; `title` and `description` are read out in its place."""
    body = "".join(parts)
    key = digest(title, description, body)
    described = element("desc", escape(description), id=f"d-{key}") if description else ""
    content = element("title", escape(title), id=f"t-{key}") + described + body
    return element(
        "svg",
        content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"t-{key} d-{key}" if description else f"t-{key}",
        **{"class": "plot"},
    )


def line(path: str, colour: int | str, width: float, *, dash: str | None = None, cap: str = "butt") -> str:
    """A stroked path without filling."""
    return element(
        "path",
        d=path,
        fill="none",
        stroke=colour_of(colour),
        stroke_width=width,
        stroke_dasharray=dash,
        stroke_linecap=cap,
        stroke_linejoin="round",
    )


def text_at(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = "ink",
    size: float = FONT,
    bold: bool = False,
    turned: bool = False,
    halo: bool = False,
) -> str:
    """Text with its baseline at y; `turned` reads upwards, a `halo` keeps it legible on top of lines."""
    return element(
        "text",
        escape(text),
        x=x,
        y=y,
        text_anchor=anchor,
        fill=colour_of(colour),
        font_size=size,
        font_family="var(--sans,system-ui,sans-serif)",
        font_weight="600" if bold else None,
        transform=f"rotate(-90 {x:g} {y:.1f})" if turned else None,
        stroke=colour_of("page") if halo else None,
        stroke_width=3 if halo else None,
        paint_order="stroke" if halo else None,
    )


def colour_of(name: int | str) -> str:
    """A colour of the theme by name, or that of the n-th series."""
    if isinstance(name, int):
        return f"var(--series-{name % len(SERIES) + 1},{SERIES[name % len(SERIES)]})"
    return f"var(--{name},{THEME[name]})"


def digest(*contents: object) -> str:
    """A short name for some content, the same whenever the content is."""
    return hashlib.sha1(repr(contents).encode()).hexdigest()[:10]


def nice_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """About so many round numbers from `low` to `high`: multiples of 1, 2, 2.5 or 5 times a power of ten.

    >>> nice_ticks(0, 0.141, 7)
    [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14]
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """The number with the decimals that its step needs, thousands apart.

    >>> tick_label(0.05, 0.05), tick_label(2.5, 2.5), tick_label(3.0, 1.0)
    ('0.05', '2.5', '3')
    """
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}".replace("-", "\u2212")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if step > 0 and abs(round(step, decimals) - step) > 1e-9 * step:
        decimals += 1
    return f"{value:,.{decimals}f}".replace(",", "\u2009").replace("-", "\u2212")


def resolution_label(resolution: float) -> str:
    """A resolution in angstrom as people write it.

    >>> resolution_label(20.0), resolution_label(12.5), resolution_label(1 / 0.15)
    ('20', '12.5', '6.67')
    """
    if resolution >= 100:
        return f"{resolution:.0f}"
    text = f"{resolution:.1f}" if resolution >= 10 else f"{resolution:.2f}"
    return text.rstrip("0").removesuffix(".")
