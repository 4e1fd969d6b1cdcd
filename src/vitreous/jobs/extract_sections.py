"""The sections of the report on extracted particles: what was cut, particles of some micrographs, their average, counts and noise, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.fourier.filters import gaussian_low_pass
from vitreous.fourier.shells import power_spectrum, rotational_average
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.io.mrc_stack import MrcStack
from vitreous.jobs.ctf_sections import SHOWN_RESOLUTION, SPREAD, defocus_section, files_section, logarithm
from vitreous.jobs.curves import Points, Series, Threshold, histogram, line_plot, scatter_plot
from vitreous.jobs.extract_input import LeftOut
from vitreous.jobs.extract_micrograph import FOLDER, CutRecord
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import Figure, Section, Table
from vitreous.units import MICROMETRE

SHOWN_MICROGRAPHS = 8
SHOWN_PARTICLES = 12  # of each
AVERAGED = 64  # of each
LISTED = 200  # micrographs that were left out
TEXT = (
    "Each image is a square of its micrograph, about the whole pixel nearest to the particle: nothing is interpolated, and what is left of "
    "the way is in the origin columns of particles.star."
)


@dataclass(frozen=True)
class Extracted:
    """What the report draws. `defocus` [n] in angstrom of each particle, None without CTFs; of each micrograph `records` and its mean
    defocus `defoci` (nan without). `radius` in pixels of the images is that of the circle outside which the background lies."""

    records: Sequence[CutRecord]
    defoci: np.ndarray
    defocus: np.ndarray | None
    pixel_size: float
    radius: float
    left_out: Sequence[LeftOut]


def extract_sections(
    outcome: Outcome, shown: Extracted, folder: Path, files: Sequence[tuple[str, str]]
) -> list[Section]:
    """All sections; pictures are of some micrographs, from the lowest to the highest defocus."""
    chosen = chosen_records(shown)
    stacks = [MrcStack(folder / FOLDER / f"{record.name}.mrcs") for record, _ in chosen]
    figures = [gallery_figure(stack, record, defocus, shown) for stack, (record, defocus) in zip(stacks, chosen)]
    sections = [
        Section("Result", TEXT, numbers=outcome.numbers()),
        Section("Particles", gallery_text(shown), figures=figures),
        average_section(stacks, shown),
        micrograph_section(shown),
    ]
    if shown.defocus is not None and len(shown.defocus) >= SPREAD:
        sections.append(defocus_section(shown.defocus / MICROMETRE, "particles"))
    if shown.left_out:
        text = "These micrographs gave no particles."
        text += f" The first {LISTED} are listed; result.json has all." if len(shown.left_out) > LISTED else ""
        rows = [(one.name, one.picks, one.reason) for one in shown.left_out[:LISTED]]
        sections.append(Section("Left out", text, tables=[Table(("micrograph", "picks", "because"), rows)]))
    return [*sections, files_section(files)]


def chosen_records(shown: Extracted) -> list[tuple[CutRecord, float]]:
    """Some of the micrographs with their defocus: evenly by defocus, or in their order where there is none."""
    order = np.argsort(shown.defoci, kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, min(len(order), SHOWN_MICROGRAPHS)).round().astype(int))
    return [(shown.records[number], float(shown.defoci[number])) for number in order[picked]]


def gallery_text(shown: Extracted) -> str:
    return (
        f"The first {SHOWN_PARTICLES} of each of these micrographs, filtered to {resolution_shown(shown):.0f} Å for the eye; one grey scale for a "
        "micrograph."
    )


def gallery_figure(stack: MrcStack, record: CutRecord, defocus: float, shown: Extracted) -> Figure:
    images = stack.read(slice(0, SHOWN_PARTICLES))
    png = image_gallery(for_the_eye(images, shown), columns=6, size=96, same_scale=True)
    caption = f"{record.name}: {record.count:,} particles" + (
        f", {defocus / MICROMETRE:.2f} µm underfocus." if np.isfinite(defocus) else "."
    )
    return Figure(caption, png=png, alt=f"Particles of {record.name}")


def average_section(stacks: Sequence[MrcStack], shown: Extracted) -> Section:
    """Mean image and mean power spectrum of the first particles of the chosen micrographs."""
    total, power, count = 0.0, 0.0, 0
    for stack in stacks:
        images = stack.read(slice(0, AVERAGED))
        total = total + images.sum(axis=0, dtype=np.float64)
        power = power + power_spectrum(images, 2).sum(axis=0, dtype=np.float64)
        count += len(images)
    mean, power = np.asarray(total) / count, np.asarray(power) / count
    picture = Figure(
        f"The average of {count:,} particles, not turned: a disc in the middle says that they are centred, and its grey which sign they have.",
        png=image_gallery(for_the_eye(mean[None], shown), size=240),
        alt="Average of the particles",
    )
    size = stacks[0].shape[-1]
    plot = line_plot(
        [logarithm("particles", power, size * shown.pixel_size)],
        x_label="spatial frequency (1/Å)",
        y_label="log10 power",
        title="Power spectrum of the particles",
        description=f"Mean of {count} particles.",
        resolution_axis=True,
    )
    profile = rotational_average(mean)
    curve = line_plot(
        [Series("average", np.arange(len(profile)) * shown.pixel_size, profile)],
        x_label="distance from the middle (Å)",
        y_label="grey value",
        title="Radial profile of the average",
        thresholds=[
            Threshold(shown.radius * shown.pixel_size, "background from here on", vertical=True),
            Threshold(0.0),
        ],
    )
    figures = [
        picture,
        Figure("The same average along the radius.", svg=curve),
        Figure(f"Power per Fourier pixel, mean of {count:,} particles.", svg=plot),
    ]
    return Section("Average", "", figures=figures)


def micrograph_section(shown: Extracted) -> Section:
    """Counts and noise of the micrographs."""
    records, names = shown.records, [record.name for record in shown.records]
    counts = [record.count for record in records]
    figures = []
    if len(records) >= SPREAD:
        svg = histogram(counts, x_label="particles", y_label="micrographs", title="Particles in a micrograph")
        figures.append(Figure("Particles in a micrograph.", svg=svg))
    order = np.arange(1, len(records) + 1)
    for values, label, caption in (
        (
            [record.deviation for record in records],
            "noise",
            "Standard deviation of the background, in grey values of the micrograph.",
        ),
        (
            [record.background for record in records],
            "background",
            "Mean of the background, in grey values of the micrograph.",
        ),
    ):
        svg = scatter_plot(
            [Points("micrographs", order, values, names=names)],
            x_label="micrograph, in the order of their stacks",
            y_label=label,
            title=f"{label.capitalize()} of each micrograph",
        )
        figures.append(
            Figure(
                f"{caption} One that stands apart has other ice, another exposure, or carbon. Point at a mark to read its name.",
                svg=svg,
            )
        )
    return Section("Micrographs", "", figures=figures)


def for_the_eye(images: np.ndarray, shown: Extracted) -> np.ndarray:
    """The images [n, y, x], smoothed."""
    k = radial_frequency(images.shape[-2:], shown.pixel_size)
    transfer = gaussian_low_pass(k, 1 / resolution_shown(shown)).astype(np.float32)
    return inverse(forward(np.asarray(images, dtype=np.float32), 2) * transfer, images.shape[-2:])


def resolution_shown(shown: Extracted) -> float:
    """In angstrom; coarse pixels show less."""
    return max(SHOWN_RESOLUTION, 3 * shown.pixel_size)
