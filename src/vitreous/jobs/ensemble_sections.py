"""The sections of the report on a simulated ensemble: conformations, how different they are, images, populations, CTFs, views, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.fourier.transforms import forward
from vitreous.geometry.rotations import matrix_from_axis_angle, matrix_from_euler, view_direction
from vitreous.io.ensemble_truth import EnsembleTruth
from vitreous.io.mrc import read_volume
from vitreous.jobs.curves import Series, histogram, line_plot, sphere_map
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery, png_bytes, sheet_of
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.jobs.simulation_sections import SHOWN, defocus_section
from vitreous.jobs.surface import SIDE, SurfaceView, draw_surface
from vitreous.model.particles import Particles
from vitreous.reconstruction.fsc import correlate_shells, shell_frequencies
from vitreous.reconstruction.mask import density_threshold
from vitreous.reconstruction.orientations import orientation_coverage
from vitreous.simulation.ensemble import ensemble_images
from vitreous.simulation.noise import Noise

COLUMNS, VIEW_SIZE = 5, 170  # conformations that are drawn, and pixels of each
COORDINATES = {"hinge": "hinge angle (°)", "path": "fraction of the way", "mixture": "species"}


@dataclass(frozen=True)
class Extremes:
    """The first conformation and that which is least like it.

    `numbers` and `names` of the two; `correlation` [s] their FSC at `frequency` [s]; `similarity` [k] the mean FSC of each conformation with the
    first, over the shells below Nyquist.
    """

    numbers: tuple[int, int]
    names: tuple[str, str]
    frequency: np.ndarray
    correlation: np.ndarray
    similarity: np.ndarray

    @property
    def mean_fsc(self) -> float:
        return float(self.similarity[self.numbers[1]])


def extremes(truth: EnsembleTruth) -> Extremes:
    """Compare every conformation with the first. One map is held at a time, besides the first."""
    volume = read_volume(truth.maps[0])
    shape = volume.data.shape
    first = forward(volume.data, 3)
    curves = np.stack([correlate_shells(first, forward(read_volume(path).data, 3), shape) for path in truth.maps])
    shells = slice(1, volume.box // 2)  # shell 0 is the mean, the last has lost its Nyquist terms
    similarity = curves[:, shells].mean(axis=1)
    other = int(similarity.argmin())
    frequency = shell_frequencies(volume.box, volume.pixel_size)
    names = (truth.names[0], truth.names[other])
    return Extremes((0, other), names, frequency[shells], curves[other, shells], similarity)


@dataclass(frozen=True)
class EnsembleReport:
    """What the report is made from."""

    truth: EnsembleTruth
    particles: Particles
    extremes: Extremes
    noise: Noise | None
    towards: np.ndarray | None = None
    sources: Sequence[Source] = ()


def ensemble_sections(outcome: Outcome, report: EnsembleReport) -> list[Section]:
    """All sections. The images that are shown are made again."""
    return [
        Section("Result", MEANING, figures=[conformations_figure(report)], numbers=outcome.numbers()),
        difference_section(report),
        Section("Images", IMAGES, figures=[images_figure(report)]),
        population_section(report.truth),
        defocus_section(report.particles),
        views_section(report.particles),
        Section("Files", "", tables=[Table(("file", "content"), FILES)], sources=report.sources),
    ]


def drawn(truth: EnsembleTruth) -> list[int]:
    """The conformations that are shown: evenly spaced, first and last among them."""
    count = len(truth)
    return sorted(set(np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(int).tolist()))


def conformation_surfaces(
    truth: EnsembleTruth, numbers: Sequence[int], views: Sequence[np.ndarray], size: int = VIEW_SIZE
) -> bytes:
    """PNG of the surfaces of some conformations, one a column, and one view a row, at one level and one scale."""
    volumes = [read_volume(truth.maps[number]).data for number in numbers]
    level = density_threshold(volumes[0])
    widest = max(SurfaceView(volume, level).field for volume in volumes)
    surfaces = [SurfaceView(volume, level, field=widest) for volume in volumes]
    panels = [draw_surface(surface, np.asarray(turn, np.float64), size=size) for turn in views for surface in surfaces]
    return png_bytes(sheet_of([(panel * 255 + 0.5).astype(np.uint8) for panel in panels], columns=len(numbers)))


def view_along(towards: np.ndarray | None) -> np.ndarray:
    """The rotation that turns this direction towards the viewer, by the shortest way; the identity for None.

    >>> view_along(np.array([1.0, 0.0, 0.0])) @ [1.0, 0.0, 0.0]
    array([0., 0., 1.])
    """
    if towards is None:
        return np.eye(3)
    aim = np.array([0.0, 0.0, 1.0])
    across = np.cross(towards, aim)
    if np.linalg.norm(across) < 1e-9:
        across = np.array([1.0, 0.0, 0.0])
    angle = np.arccos(np.clip(towards @ aim, -1, 1))
    return np.round(matrix_from_axis_angle(across / np.linalg.norm(across), np.float64(angle)), 12)


def conformations_figure(report: EnsembleReport) -> Figure:
    numbers = drawn(report.truth)
    view = view_along(report.towards)
    where = "along z" if report.towards is None else "along the axis of the motion"
    return Figure(
        f"Surfaces of conformations, at one level: above {where}, below after a quarter turn about the vertical axis.",
        png=conformation_surfaces(report.truth, numbers, (view, SIDE @ view)),
        alt="Surfaces of conformations from two sides",
        columns=[report.truth.names[number] for number in numbers],
        wide=True,
    )


def difference_section(report: EnsembleReport) -> Section:
    """How much the conformations differ, by frequency and along the coordinate."""
    pair, truth = report.extremes, report.truth
    curve = line_plot(
        [Series("FSC", pair.frequency, pair.correlation)],
        x_label="spatial frequency (1/Å)",
        y_label="FSC",
        title="Fourier shell correlation of the extremes",
        y_limits=(-0.3, 1.02),
        resolution_axis=True,
    )
    figures = [
        Figure(f"The maps of {pair.names[0]} and {pair.names[1]}, frequency by frequency.", svg=curve, alt="FSC curve")
    ]
    if truth.kind != "mixture":
        along = line_plot(
            [Series("mean FSC with the first", truth.values, pair.similarity)],
            x_label=COORDINATES[truth.kind],
            y_label="mean FSC",
            title="Likeness to the first conformation",
            y_limits=(min(0.0, float(pair.similarity.min())) - 0.02, 1.02),
        )
        figures.append(Figure("How much of the first conformation is left along the way.", svg=along, alt="Mean FSC"))
    return Section("Differences", DIFFERENCES, figures=figures)


def images_figure(report: EnsembleReport) -> Figure:
    """Some particles in order of their conformation, as written and without noise."""
    order = np.argsort(report.truth.index, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]
    index, part = report.truth.index[rows], report.particles.rows(rows)
    pictures = {"as written": report.noise, "without noise": None}
    if report.noise is None:
        del pictures["as written"]
    panels = np.concatenate([_images(report.truth, index, part, noise) for noise in pictures.values()])
    return Figure(
        "Particles in the order of their conformations. As written: images of the stack; without noise: the same before the noise was added.",
        png=image_gallery(panels, columns=len(rows), size=96),
        alt="Particle images with and without noise",
        rows=list(pictures),
        wide=True,
    )


def _images(truth: EnsembleTruth, index: np.ndarray, part: Particles, noise: Noise | None) -> np.ndarray:
    images = None
    for rows, values in ensemble_images(lambda number: read_volume(truth.maps[number]), index, part, noise):
        images = np.empty((len(part), *values.shape[1:]), np.float32) if images is None else images
        images[rows] = values
    assert images is not None
    return images


def population_section(truth: EnsembleTruth) -> Section:
    """How many particles have each conformation."""
    counts = np.bincount(truth.index, minlength=len(truth))
    if truth.kind == "mixture":
        rows = [(name, float(share), int(count)) for name, share, count in zip(truth.names, truth.populations, counts)]
        return Section("Populations", POPULATIONS, tables=[Table(("species", "expected share", "particles"), rows)])
    step = (truth.values[-1] - truth.values[0]) / (len(truth) - 1)
    svg = histogram(
        truth.particle_values,
        x_label=COORDINATES[truth.kind],
        y_label="particles",
        title="Coordinate of the particles",
        bins=len(truth),
        x_limits=(float(truth.values[0] - step / 2), float(truth.values[-1] + step / 2)),
    )
    return Section(
        "Populations", POPULATIONS, figures=[Figure("Particles of each conformation.", svg=svg, alt="Histogram")]
    )


def views_section(particles: Particles) -> Section:
    assert particles.pose is not None
    directions = view_direction(matrix_from_euler(particles.pose.euler))
    coverage = orientation_coverage(directions, operators=np.eye(3)[None])
    svg = sphere_map(coverage.density, title="Viewing directions")
    return Section(
        "Orientations",
        "",
        figures=[Figure("Viewing directions; 1 is an even spread.", svg=svg, alt="Map of viewing directions")],
    )


MEANING = (
    "Each particle is in one of these conformations, and the set says in which. A method that finds conformations by itself can be measured "
    "against it."
)
DIFFERENCES = (
    "A method can tell conformations apart only where their maps differ. Far below 1 at low frequencies the motion is large, and easy to see "
    "in noisy images; a curve that falls late stands for a motion that takes fine detail to see."
)
IMAGES = "The motion must be seen through the noise, in one image at a time."
POPULATIONS = "The coordinate of each particle is drawn anew: the numbers scatter about their expected shares."
FILES = [
    ("particles.mrcs", "The images, float32"),
    (
        "particles.star",
        "The truth about each image: conformation and coordinate, orientation, shift, CTF, half set, micrograph",
    ),
    ("particles_unposed.star", "The same without orientations, shifts and conformations, to find them anew"),
    ("conformations.star", "The conformations: name, coordinate, expected share, map"),
    ("conformations/", "The map of each, on the grid and the scale of the images"),
    (
        "mean_map.mrc",
        "The mean of the maps, each with its expected share: what a reconstruction from all particles tends to",
    ),
]
