"""The expectation step of 2D classification over chunks of particles: exact, or coarse first and then only the likely cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.cells import (
    Block,
    CellMatching,
    Cells,
    Steps,
    coarse_cells,
    normalise,
    turned,
    turned_power,
    whole_prior,
    whole_table,
)
from vitreous.alignment.class_sums import ClassSums, NoiseSums
from vitreous.alignment.entries import Entries, listed, refuse_broken, summary
from vitreous.alignment.polar_images import (
    ImageSettings,
    PolarImages,
    WeightedImages,
    read_polar_images,
)
from vitreous.alignment.reference_tables import Alternatives, ReferenceTables
from vitreous.alignment.turning import image_rows
from vitreous.fourier.polar import PolarGrid
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

# Images whose whole tables are held at a time.
AT_A_TIME = 32
# Images that are read and matched together: enough for each class to have several.
READ_AT_A_TIME = 256


@dataclass(frozen=True)
class ClassSearch:
    """What is compared. `turns` angles; origins within `reach` pixels of those of the file, `shift_step` apart, with a Gaussian prior of
    `shift_deviation` pixels. The coarse pass takes steps twice as large on the rings up to `coarse_ring`; `exact` leaves it out.
    """

    turns: int
    reach: float
    shift_step: float
    shift_deviation: float
    coarse_ring: int
    exact: bool = False

    @property
    def fine(self) -> Alternatives:
        """All angles and shifts."""
        psi = 2 * np.pi * (np.arange(self.turns) + 0.5) / self.turns
        return Alternatives(psi, disc_of_shifts(self.reach, self.shift_step))

    @property
    def coarse(self) -> Alternatives:
        """Half as many angles, in the middle between two fine ones, from 0: whole points of rings that were made for them."""
        psi = 4 * np.pi * np.arange(self.turns // 2) / self.turns
        return Alternatives(psi, disc_of_shifts(self.reach, 2 * self.shift_step))

    @property
    def log_measure(self) -> float:
        """Prior volume of one fine (psi, shift) with the Gaussian at its top, normalised over the fine lattice."""
        fine = self.fine
        square = (fine.shift**2).sum(axis=1) / (2 * self.shift_deviation**2)
        return float(-np.log(len(fine.psi)) - np.log(np.exp(-square).sum()))

    def division(self) -> Steps:
        """A coarse cell: two angles, and shifts that reach half-way to the next cell's."""
        psi = np.array([-0.5, 0.5]) * (2 * np.pi / self.turns)
        shift = disc_of_shifts(1.5 * self.shift_step, self.shift_step)
        return Steps(psi, shift, self.shift_deviation, self.log_measure)

    def whole(self) -> Steps:
        """The division of the one cell that holds everything."""
        fine = self.fine
        return Steps(fine.psi, fine.shift, self.shift_deviation, self.log_measure, whole=True)


def disc_of_shifts(reach: float, step: float) -> Float[np.ndarray, "s 2"]:
    """Points (x, y) of a square lattice within `reach` of 0, 0 first."""
    count = int(reach / step * (1 + 1e-9))
    line = np.arange(-count, count + 1) * step
    points = np.stack(np.meshgrid(line, line, indexing="xy"), axis=-1).reshape(-1, 2)
    length = np.hypot(*points.T)
    order = np.argsort(length, kind="stable")
    return points[order][length[order] <= reach * (1 + 1e-9)]


@dataclass(frozen=True)
class ClassViews:
    """Class averages as views: each class is its own only child. `references` [k, r, h], prior `population` [k]."""

    references: Complex[np.ndarray, "k r h"]
    population: Float[np.ndarray, " k"]

    def children(self, view: int) -> Int[np.ndarray, " v"]:
        return np.array([view])

    def slices(
        self, views: np.ndarray, psi: Float[np.ndarray, " p"], grid: PolarGrid
    ) -> Complex[np.ndarray, "p v r h"]:
        key = (tuple(psi.tolist()), grid)
        if key not in self.turned_references:
            # A sharper pass may compare fewer rings than the averages have.
            references = self.references[:, : grid.shape[0]]
            count = len(references)
            self.turned_references[key] = np.stack(
                [turned(references, np.full(count, angle), grid.band) for angle in psi]
            )
        return self.turned_references[key][:, views]

    @cached_property
    def turned_references(self) -> dict:
        """All references, for each set of angles that was asked for."""
        return {}

    def __getstate__(self) -> dict:
        """What is kept is not sent to other processes."""
        return {"references": self.references, "population": self.population}

    def log_prior(self, views: np.ndarray) -> Float[np.ndarray, " v"]:
        return np.log(np.maximum(self.population[views], 1e-12))

    def twist(self, views: np.ndarray) -> Float[np.ndarray, " v"]:
        return np.zeros(len(views))


@dataclass(frozen=True)
class ClassMatching:
    """`matching(rows) -> ClassSums`. All rows of a call belong to one noise group, optics group and half (`chunk_rows`).

    `noise` [g, r]; `group`, `half` [n]; `origin` [n, 2] in pixels, those of the file; `norm` [n].
    """

    particles: Particles
    views: ClassViews
    grid: PolarGrid
    noise: Float[np.ndarray, "g r"]
    group: np.ndarray
    half: np.ndarray
    images: ImageSettings
    search: ClassSearch
    origin: Float[np.ndarray, "n 2"]
    norm: Float[np.ndarray, " n"]

    @cached_property
    def fine_tables(self) -> ReferenceTables:
        return ReferenceTables(self.views.references, self.grid, self.search.fine)

    @cached_property
    def coarse_tables(self) -> ReferenceTables:
        grid = self.grid.within(self.search.coarse_ring)
        return ReferenceTables(self.views.references[:, : grid.shape[0]], grid, self.search.coarse)

    def __getstate__(self) -> dict:
        """Tables are not sent to other processes: they are made again there."""
        return {name: value for name, value in self.__dict__.items() if not name.endswith("_tables")}

    def __call__(self, rows: Int[np.ndarray, " n"]) -> ClassSums:
        total: ClassSums | None = None
        size = AT_A_TIME if self.search.exact else READ_AT_A_TIME
        for start in range(0, len(rows), READ_AT_A_TIME):
            part = rows[start : start + READ_AT_A_TIME]
            read = read_polar_images(
                self.particles.rows(part), self.grid, self.images, self.origin[part], self.norm[part]
            )
            for first in range(0, len(part), size):
                piece = slice(first, first + size)
                sums = self.match(read.rows(piece), part[piece])
                total = sums if total is None else total + sums
        assert total is not None
        return total

    def match(self, images: PolarImages, rows: Int[np.ndarray, " n"]) -> ClassSums:
        """Posteriors and sums of a few images."""
        weighted = images.weighted(self.noise[self.group[rows[0]]], np.ones(len(images)))
        if self.search.exact:
            steps = self.search.whole()
            count = len(images)
            cells = Cells(np.arange(count), np.zeros(count, dtype=int), np.zeros(count), images.origin)
            matching = CellMatching(weighted, self.views, steps, self.origin[rows])
            views = np.arange(len(self.views.references))
            table = np.moveaxis(whole_table(weighted, self.fine_tables), 1, 0)
            table += self.views.log_prior(views).astype(np.float32)[:, None]
            table += whole_prior(weighted, steps, self.origin[rows])[:, :, None]
            blocks = [Block(np.arange(count), views, table)]
        else:
            cells = self.likely(weighted)
            steps = self.search.division()
            matching = CellMatching(weighted, self.views, steps, self.origin[rows])
            blocks = list(matching.blocks(cells))
        blocks, evidence = normalise(blocks, cells, len(images))
        refuse_broken(evidence, self.particles.names.rows(rows))
        return self.sums(images, matching, blocks, cells, evidence, rows)

    def likely(self, images: WeightedImages) -> Cells:
        """The cells that hold nearly all of the posterior of the coarse pass."""
        tables, coarse = self.coarse_tables, self.search.coarse
        steps = Steps(coarse.psi, coarse.shift, self.search.shift_deviation, 0.0, whole=True)
        views = np.arange(len(self.views.references))
        low = images.within(tables.grid.last)
        return coarse_cells(low, self.views, tables, steps, views, home=images.origin)

    def sums(
        self,
        images: PolarImages,
        matching: CellMatching,
        blocks: list[Block],
        cells: Cells,
        evidence: np.ndarray,
        rows: np.ndarray,
    ) -> ClassSums:
        """What the maximisation needs, from posterior tables."""
        group, half = int(self.group[rows[0]]), int(self.half[rows[0]])
        count, shape = len(self.views.references), self.grid.shape
        data = np.zeros((2, count, *shape), dtype=np.complex64)
        weight = np.zeros((2, count, *shape), dtype=np.float32)
        mass = np.zeros(count)
        for block in blocks:
            np.add.at(mass, block.views, block.table.sum(axis=(0, 1, 3), dtype=np.float64))
        if self.search.exact:
            data[half], weight[half], *ring = self.gathered_whole(matching, blocks[0])
        else:
            data[half], weight[half], *ring = self.gathered(matching, blocks, cells)
        values = images.values
        power = 2 * (np.real(values) ** 2 + np.imag(values) ** 2).sum(axis=(0, 2))
        unit = self.noise[group] / self.grid.weight
        noise = NoiseSums.of_group(len(self.noise), group, len(images), power, ring[0] * unit, ring[1] * unit)
        entries = listed(blocks, cells, matching)
        return ClassSums(data, weight, mass, noise, rows, self.assignment(entries, evidence, rows))

    def gathered_whole(self, matching: CellMatching, block: Block) -> tuple[np.ndarray, ...]:
        """Sums (data, power, cross, model) of exact tables."""
        tables, images = self.fine_tables, matching.images
        data = image_rows(images.spectra(tables.band))
        power = image_rows(images.power_spectra(tables.power_band))
        found = tables.gathered(data, power, np.ascontiguousarray(np.moveaxis(block.table, 0, 1)))
        return found.data, found.weight, found.cross, found.model

    def gathered(self, matching: CellMatching, blocks: list[Block], cells: Cells) -> tuple[np.ndarray, ...]:
        """The same of divided cells: what was gathered at each in-plane angle is turned back."""
        psi, count, shape = matching.steps.psi, len(self.views.references), self.grid.shape
        data = np.zeros((len(psi), count, *shape), dtype=np.complex64)
        weight = np.zeros((len(psi), count, *shape), dtype=np.float32)
        cross, model = np.zeros((2, shape[0]))
        for block in blocks:
            if (found := matching.gathered(block, cells)) is None:
                continue
            data[:, block.views] += found[0].data
            weight[:, block.views] += found[0].weight
            cross += found[0].cross
            model += found[0].model
        back = [np.full(count, -angle) for angle in psi]
        turned_data = [turned(values, angles, self.grid.band) for values, angles in zip(data, back)]
        turned_weight = [turned_power(values, angles) for values, angles in zip(weight, back)]
        return sum(turned_data), sum(turned_weight), cross, model  # type: ignore[return-value]

    def assignment(self, entries: Entries, evidence: np.ndarray, rows: np.ndarray) -> Assignment:
        """The most probable alternative of each image, and how sure it is."""
        found = summary(entries, len(rows), lambda view: view, turn_between)
        size = self.particles.pixel_size
        euler = np.zeros((len(rows), 3))
        euler[:, 2] = (found.psi + np.pi) % (2 * np.pi) - np.pi
        return Assignment(
            found.view.astype(np.int32),
            Pose(euler, found.origin * size),
            found.probability,
            found.entropy,
            evidence,
            found.class_probability,
            found.angle_deviation,
            found.shift_deviation * size,
            self.norm[rows],
        )


def turn_between(entries: Entries, best: np.ndarray) -> np.ndarray:
    """In-plane angle from one alternative to another."""
    return (entries.psi - entries.psi[best] + np.pi) % (2 * np.pi) - np.pi


def chunk_rows(cohorts: np.ndarray, size: int, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """Row numbers in chunks of at most `size`, each of one cohort (noise group and half): how the work is cut, whoever does it."""
    rows = np.arange(len(cohorts)) if rows is None else rows
    chunks: list[np.ndarray] = []
    for name in np.unique(cohorts[rows]):
        members = rows[cohorts[rows] == name]
        chunks += [members[start : start + size] for start in range(0, len(members), size)]
    return chunks
