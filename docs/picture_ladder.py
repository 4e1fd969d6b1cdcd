"""Writes docs/pictures/ladder.svg and prints the tables of docs/scattering.md: images and errors of all scattering models.

python docs/picture_ladder.py [--table]     with --table the tables alone

Everything is computed by the job of `vitreous simulate plan`, with its defaults.
"""

from __future__ import annotations

import argparse
import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.jobs.folder import run_in_passing
from vitreous.jobs.job import Desk
from vitreous.jobs.simulate_plan import Rung, SimulatePlan
from vitreous.model.microscope import Microscope
from vitreous.scattering.plan import flatness_error

PICTURE = Path(__file__).resolve().parent / "pictures" / "ladder.svg"
SPECIMEN = SimulatePlan(Path("bundled:6zu5"), thickness=400.0, resolution=3.0, defocus_um=0.5)
SHOWN = 128  # pixels of 0.75 A
THICKNESSES = (30, 50, 80, 120, 200, 300, 500, 800, 1200)
NAMES = {
    "projection": "projection",
    "weak_phase": "weak phase",
    "phase_object": "phase object",
    "ewald": "Ewald",
    "thick_phase_grating": "thick phase grating",
    "rytov": "Rytov",
    "multislice": "multislice",
}
COLOURS = {
    "projection": "#1f6fb2",
    "weak_phase": "#d0660b",
    "phase_object": "#0f8a68",
    "ewald": "#8a55b5",
    "thick_phase_grating": "#1b2126",
    "rytov": "#c23b3b",
}
INK, MUTED, GRID, PAPER = "#1b2126", "#5d6a75", "#e3e8ec", "#ffffff"
WIDTH, PANEL, GAP, LEFT, TOP = 1000, 118, 12, 84, 40
PLOT_WIDTH, PLOT_HEIGHT = 380, 250


def text(x: float, y: float, content: str, *, anchor: str = "middle", colour: str = INK, size: int = 13) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(content)}</text>'
    )


def grey(image: np.ndarray, span: float) -> str:
    """An image about its mean as JPEG, `span` from black to white, y upwards."""
    start = [(size - SHOWN) // 2 for size in image.shape]
    part = image[start[0] : start[0] + SHOWN, start[1] : start[1] + SHOWN][::-1]
    values = np.clip(128 + 255 * (part - part.mean()) / span, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def gallery(rungs: list[Rung]) -> list[str]:
    """Images above, differences below, in one grey scale."""
    reference = next(rung.image for rung in rungs if rung.name == "multislice")
    span = 6 * float(reference.std())
    second = TOP + PANEL + GAP
    parts = [
        text(LEFT - 10, TOP + PANEL / 2, "image", anchor="end"),
        text(LEFT - 10, second + PANEL / 2 - 7, "minus", anchor="end"),
        text(LEFT - 10, second + PANEL / 2 + 9, "multislice", anchor="end", size=12),
    ]
    for column, rung in enumerate(rungs):
        x = LEFT + column * (PANEL + GAP)
        parts.append(text(x + PANEL / 2, TOP - 10, NAMES[rung.name]))
        for y, image in ((TOP, rung.image), (second, rung.image - reference)):
            parts.append(f'<image x="{x}" y="{y}" width="{PANEL}" height="{PANEL}" href="{grey(image, span)}"/>')
        if rung.name != "multislice":
            label = f"{100 * rung.errors.at_resolution:.0f} % at 3 Å"
            parts.append(text(x + PANEL / 2, second + PANEL + 16, label, colour=MUTED, size=12))
    return parts


def frame(
    x0: float, y0: float, title: str, ticks: dict[float, str], label: str, y_ticks: dict[float, str]
) -> list[str]:
    """Title, grid and ticks; keys of ticks are fractions of the width and of the height."""
    parts = [text(x0, y0 - 14, title, anchor="start")]
    for at, name in y_ticks.items():
        y = y0 + PLOT_HEIGHT * (1 - at)
        parts += [f'<path d="M{x0:g} {y:g}h{PLOT_WIDTH}" stroke="{GRID}"/>']
        parts += [text(x0 - 7, y + 4, name, anchor="end", colour=MUTED, size=12)]
    for at, name in ticks.items():
        x = x0 + PLOT_WIDTH * at
        parts += [f'<path d="M{x:g} {y0:g}v{PLOT_HEIGHT}" stroke="{GRID}"/>']
        parts += [text(x, y0 + PLOT_HEIGHT + 17, name, colour=MUTED, size=12)]
    parts.append(text(x0 + PLOT_WIDTH / 2, y0 + PLOT_HEIGHT + 36, label, colour=MUTED, size=12))
    return parts


LOWEST, HIGHEST = 0.003, 2.0  # of the error, on a logarithmic scale


def height_of(error: float) -> float:
    """Fraction of the height of a plot."""
    return (np.log10(min(max(error, LOWEST), HIGHEST)) - np.log10(LOWEST)) / np.log10(HIGHEST / LOWEST)


def curve(x0: float, y0: float, points: list[tuple[float, float]], colour: str, dash: str = "") -> str:
    """(fraction of the width, error) as a line."""
    where = " ".join(
        f"{x0 + PLOT_WIDTH * x:.1f},{y0 + PLOT_HEIGHT * (1 - height_of(error)):.1f}" for x, error in points
    )
    style = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"{style}/>'
    )


ERROR_TICKS = {height_of(error): name for error, name in ((0.01, "1 %"), (0.1, "10 %"), (1.0, "100 %"))}


def by_frequency(rungs: list[Rung], x0: float, y0: float) -> list[str]:
    """Errors of the images of the gallery."""
    edge = rungs[0].errors.frequency[-1]
    ticks = {1 / (d * edge): f"{d:g} Å" for d in (20, 10, 6, 5, 4, 3.5, 3)}
    parts = frame(x0, y0, "Error of these images by resolution", ticks, "resolution", ERROR_TICKS)
    for rung in rungs:
        if rung.name in COLOURS:
            middles = rung.errors.frequency - rung.errors.frequency[0] / 2
            parts.append(curve(x0, y0, list(zip(middles / edge, rung.errors.error)), COLOURS[rung.name]))
    return parts


def by_thickness(x0: float, y0: float) -> list[str]:
    """Errors at 3 A, 300 kV, of the column of protein, against its thickness."""

    def across(thickness: float) -> float:
        return float(np.log(thickness / THICKNESSES[0]) / np.log(THICKNESSES[-1] / THICKNESSES[0]))

    ticks = {across(t): str(t) for t in (30, 50, 100, 200, 300, 500, 1000)}
    parts = frame(x0, y0, "Error at 3 Å, protein through the ice, 300 kV", ticks, "thickness (Å)", ERROR_TICKS)
    tables = [plan(300, thickness, 3.0) for thickness in THICKNESSES]
    for name, colour in COLOURS.items():
        points = [(across(t), table["errors"][name]) for t, table in zip(THICKNESSES, tables)]
        parts.append(curve(x0, y0, points, colour))
    depth = THICKNESSES[0] / tables[0]["depths"]
    fine = np.geomspace(THICKNESSES[0], THICKNESSES[-1], 40)
    parts.append(curve(x0, y0, [(across(t), flatness_error(t / depth)) for t in fine], MUTED, dash="2 4"))
    return parts


def plan(voltage_kv: float, thickness: float, resolution: float) -> dict:
    """What `vitreous simulate plan` answers."""
    outcome = run_in_passing(SimulatePlan(thickness=thickness, resolution=resolution, voltage_kv=voltage_kv))
    answer = outcome.as_json()
    return {
        "errors": {row["model"]: row["error_at_resolution"] for row in answer["rungs"]},
        "overall": {row["model"]: row["error_overall"] for row in answer["rungs"]},
        "model": answer["model"],
        "depths": answer["depths_of_field"],
        "slabs": answer["slab_error"],
    }


def legend(y: float) -> list[str]:
    parts, x = [], LEFT
    for name, colour in [*COLOURS.items(), ("", MUTED)]:
        dash = "" if name else ' stroke-dasharray="2 4"'
        parts.append(f'<path d="M{x} {y:g}h22" stroke="{colour}" stroke-width="2.6"{dash}/>')
        label = NAMES[name] if name else "no depth, weak: formula"
        parts.append(text(x + 28, y + 4, label, anchor="start", size=12))
        x += 46 + round(6.6 * len(label))
    return parts


def draw() -> None:
    slices = SPECIMEN.slices(SPECIMEN.atoms())
    microscope = Microscope(300e3, 2.7e7, 5e3)
    rungs, _ = SPECIMEN.climb(slices, microscope, Desk(Path()))
    plots = TOP + 2 * (PANEL + GAP) + 74
    height = plots + PLOT_HEIGHT + 82
    parts = [*gallery(rungs), *by_frequency(rungs, LEFT, plots), *by_thickness(LEFT + PLOT_WIDTH + 80, plots)]
    parts += legend(plots + PLOT_HEIGHT + 62)
    PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="system-ui, sans-serif" '
        f'role="img"><title>Scattering models: images, and errors against multislice</title>'
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>{"".join(parts)}</svg>\n',
        encoding="utf-8",
    )
    print(f"{PICTURE.name}: {PICTURE.stat().st_size} bytes")


def percent(error: float) -> str:
    return f"{100 * error:.1f}" if error < 0.1 else f"{100 * error:.0f}"


def print_tables() -> None:
    """Errors at the resolution in percent, in Markdown."""
    names = [name for name in NAMES if name != "multislice"]
    print(
        "| kV | thickness (nm) | d (Å) | t λ/d² | " + " | ".join(NAMES[n] for n in names) + " | simplest within 10 % |"
    )
    print("|" + "---|" * (len(names) + 5))
    for voltage_kv in (100, 200, 300):
        for thickness in (100, 300, 1000):
            for resolution in (4.0, 3.0, 2.0):
                answer = plan(voltage_kv, thickness, resolution)
                cells = [percent(answer["errors"][name]) for name in names]
                head = f"| {voltage_kv} | {thickness // 10} | {resolution:g} | {answer['depths']:.2f} | "
                print(head + " | ".join(cells) + f" | {NAMES[answer['model']]} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", action="store_true")
    if not parser.parse_args().table:
        draw()
    print_tables()


if __name__ == "__main__":
    main()
