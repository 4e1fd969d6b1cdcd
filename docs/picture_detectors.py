"""Writes docs/pictures/detectors.svg: MTF, NTF^2 and DQE of all detectors, and prints the tables of docs/detectors.md.

python docs/picture_detectors.py
"""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path

import numpy as np

from vitreous.detection.curve import Provenance
from vitreous.detection.detector import Detector
from vitreous.detection.detectors import detector, detector_names, voltages_of

PICTURE = Path(__file__).resolve().parent / "pictures" / "detectors.svg"
COLOURS = {
    "k2": "#1f6fb2",
    "k2-fl2": "#55b4e9",
    "k3": "#0f8a68",
    "k3-cds": "#8fb339",
    "falcon2": "#a0522d",
    "falcon3": "#c23b3b",
    "falcon4": "#d0660b",
    "de20": "#8a55b5",
    "ideal": "#1b2126",
}
# Solid: measured or exact. Dashed: derived from measurements, or a few quoted values. Dotted: assumed.
DASHES = {Provenance.DERIVED: "7 4", Provenance.QUOTED: "7 4", Provenance.ASSUMED: "1.5 4"}
WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 350, 220, 48, 36, 56, 68
K = np.linspace(0, 0.5, 81)
INK, MUTED, GRID = "#1b2126", "#5d6a75", "#e3e8ec"


def text(x: float, y: float, content: str, *, anchor: str = "middle", colour: str = MUTED, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(content)}</text>'


def panel(column: int, row: int, title: str, cameras: list[Detector], what: str) -> list[str]:
    """One plot with its frame."""
    x0, y0 = LEFT + column * (WIDTH + GAP_X), TOP + row * (HEIGHT + GAP_Y)
    parts = [text(x0, y0 - 16, title, anchor="start", colour=INK, bold=True)]
    for level in (0, 0.25, 0.5, 0.75, 1):
        y = y0 + HEIGHT * (1 - level)
        parts += [f'<path d="M{x0} {y:g}h{WIDTH}" stroke="{GRID}"/>', text(x0 - 6, y + 4, f"{level:g}", anchor="end")]
    for k in (0, 0.1, 0.2, 0.3, 0.4, 0.5):
        x = x0 + WIDTH * k / 0.5
        parts += [f'<path d="M{x:g} {y0}v{HEIGHT}" stroke="{GRID}"/>', text(x, y0 + HEIGHT + 16, f"{k:g}")]
    parts.append(text(x0 + WIDTH / 2, y0 + HEIGHT + 33, "cycles per pixel"))
    for camera in cameras:
        values = {"MTF": camera.mtf(K), "NTF": camera.ntf(K) ** 2, "DQE": camera.dqe(K)}[what]
        points = " ".join(f"{x0 + WIDTH * k / 0.5:.1f},{y0 + HEIGHT * (1 - v):.1f}" for k, v in zip(K, values))
        dash = DASHES.get(camera.provenance()[what][0])
        style = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[camera.name]}" stroke-width="2" '
            f'stroke-linecap="round"{style}/>'
        )
    return parts


def legend(y: float) -> list[str]:
    parts, x = [], LEFT
    for name in detector_names():
        parts.append(f'<path d="M{x} {y - 4}h20" stroke="{COLOURS[name]}" stroke-width="3"/>')
        parts.append(text(x + 25, y, name, anchor="start", colour=INK))
        x += 42 + 8 * len(name)
    x = LEFT
    for label, dash in (("measured or exact", ""), ("derived, or quoted at 3 points", "7 4"), ("assumed", "1.5 4")):
        parts.append(f'<path d="M{x} {y + 20}h30" stroke="{INK}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(text(x + 36, y + 24, label, anchor="start", colour=INK))
        x += 66 + 7 * len(label)
    return parts


def picture() -> str:
    at_300 = [detector(name, 300e3) for name in detector_names()]
    at_200 = [detector(name, 200e3) for name in detector_names() if not voltages_of(name) or 200e3 in voltages_of(name)]
    parts = panel(0, 0, "MTF, 300 kV: what is left of the signal", at_300, "MTF")
    parts += panel(1, 0, "NTF², 300 kV: spectrum of the noise", at_300, "NTF")
    parts += panel(0, 1, "DQE, 300 kV: what is left of the information", at_300, "DQE")
    parts += panel(1, 1, "DQE, 200 kV", at_200, "DQE")
    width, height = LEFT + 2 * WIDTH + GAP_X + 16, TOP + 2 * (HEIGHT + GAP_Y) + 44
    parts += legend(height - 38)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui,sans-serif" font-size="12">'
        "<title>MTF, NTF squared and DQE of nine detectors against cycles per pixel</title>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>' + "".join(parts) + "</svg>\n"
    )


def tables() -> str:
    """Values at 0, half and full Nyquist, and where each curve is from, as rows of Markdown."""
    values, sources = [], []
    for name in detector_names():
        for voltage in voltages_of(name) or (None,):
            camera, k = detector(name, voltage), np.array([0, 0.25, 0.5])
            label = f"{name} | {'any' if voltage is None else f'{voltage / 1e3:g}'}"
            columns = [" / ".join(f"{v:.3f}" for v in c) for c in (camera.mtf(k)[1:], camera.ntf(k)[1:], camera.dqe(k))]
            values.append(f"| {label} | {camera.mode} | {' | '.join(columns)} |")
            known = camera.provenance()
            sources.append(f"| {label} | " + " | ".join(f"{how}: {where}" for how, where in known.values()) + " |")
    return "\n".join([*values, "", *sources])


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
    print(tables())
    print(f"{PICTURE.stat().st_size / 1000:.1f} kB  {PICTURE.name}")


if __name__ == "__main__":
    main()
