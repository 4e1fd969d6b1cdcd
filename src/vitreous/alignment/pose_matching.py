"""The expectation step of 3D refinement: every particle against maps in all orientations, coarse to fine, or about the pose it had.

Global: all directions of a coarse grid, all in-plane angles and shifts on few Fourier rings, in one matrix product; then only the likely cells, divided again and again.
Local: the directions beside that of the particle's last pose, divided again and again. What is gathered
are slices, one for each direction that any particle has: only these are inserted into the maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.cells import (
    SHARE,
    Block,
    CellMatching,
    Cells,
    Steps,
    coarse_cells,
    divided_cells,
    normalise,
)
from vitreous.alignment.class_matching import disc_of_shifts
from vitreous.alignment.class_sums import NoiseSums
from vitreous.alignment.entries import Entries, listed, refuse_broken, summary
from vitreous.alignment.map_sums import MapSums, add_slices
from vitreous.alignment.map_views import MapViews, orientation_of, unit_pixels
from vitreous.alignment.polar_images import ImageSettings, PolarImages, WeightedImages, read_polar_images
from vitreous.alignment.reference_tables import Alternatives, ReferenceTables
from vitreous.fourier.polar import PolarGrid
from vitreous.geometry.orientation_grid import (
    direction_count,
    healpix_directions,
    pixel_of_direction,
    psi_count,
    surrounding_pixels,
)
from vitreous.geometry.rotations import angular_distance, euler_from_matrix, matrix_from_euler
from vitreous.geometry.symmetry import PointGroup
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.reconstruction.backprojection import Accumulator
from vitreous.reconstruction.projection import FourierVolume

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Fewer cells go on from the finer passes: by then posteriors are sharp.
MOST_FINE_CELLS = 16


@dataclass(frozen=True)
class PoseSearch:
    """What is compared. HEALPix orders from `order` to `finest_order`; shifts within `reach` of the present origin, `shift_step` apart at `order`, half of
    that after each division but not below `finest_shift` (pixels); Gaussian prior of `shift_deviation` pixels about the origin of the file.
    `rings` [pass]: the finest ring of each pass, the last one for the finest. `local`: only beside the present pose. `turn` is Q of the whole
    grid.
    """

    order: int
    finest_order: int
    reach: float
    shift_step: float
    finest_shift: float
    shift_deviation: float
    rings: tuple[int, ...]
    local: bool
    turn: Float[np.ndarray, "3 3"]
    group: PointGroup

    def step_of(self, order: int) -> float:
        """Distance of shifts at an order."""
        return max(self.shift_step / 2 ** (order - self.order), self.finest_shift)

    def steps(self, order: int) -> Steps:
        """The division of a cell of this order: two angles, and the shifts about the best one."""
        psi = np.array([-0.25, 0.25]) * (2 * np.pi / psi_count(order))
        step = self.step_of(order + 1)
        return Steps(psi, disc_of_shifts(1.5 * step, step), self.shift_deviation, self.log_measure(order + 1))

    def log_measure(self, order: int) -> float:
        """Prior volume of one (psi, shift) of this order, the Gaussian of shifts at its top."""
        area = self.step_of(order) ** 2 / (2 * np.pi * self.shift_deviation**2)
        return float(np.log(area) - np.log(psi_count(order)))

    @property
    def pixels(self) -> Int[np.ndarray, " v"]:
        """Directions of the first order in the asymmetric unit."""
        return unit_pixels(self.order, self.group)


@dataclass(frozen=True)
class PoseMatching:
    """`matching(rows) -> MapSums`. All rows of a call belong to one noise group, optics group and half set.

    `references` [half][class]: transforms of the maps to align to; `population` [k]; images are compared on rings up to
    `search.rings[-1]` and inserted on all rings of `grid`.
    `noise` [2, g, r]; `group`, `half` (0, 1), `micrograph` [n]; `home` [n, 2] origins of the file and `assignment` the present poses; `scale` [m].
    """

    particles: Particles
    references: tuple[tuple[FourierVolume, ...], ...]
    population: Float[np.ndarray, " k"]
    grid: PolarGrid
    noise: Float[np.ndarray, "2 g r"]
    group: np.ndarray
    half: np.ndarray
    micrograph: np.ndarray
    images: ImageSettings
    search: PoseSearch
    operators: Float[np.ndarray, "m 3 3"]
    home: Float[np.ndarray, "n 2"]
    assignment: Assignment
    scale: Float[np.ndarray, " m"]

    @cached_property
    def coarse_tables(self) -> dict[int, ReferenceTables]:
        return {}

    def __getstate__(self) -> dict:
        """Tables are not sent to other processes: they are made again there."""
        return {name: value for name, value in self.__dict__.items() if name != "coarse_tables"}

    def views(self, half: int, order: int) -> MapViews:
        return MapViews(
            self.references[half], self.population, self.search.turn, order, len(unit_pixels(order, self.search.group))
        )

    def __call__(self, rows: Int[np.ndarray, " n"]) -> MapSums:
        """Read, compare, gather, insert."""
        search, half = self.search, int(self.half[rows[0]])
        origin = self.assignment.pose.shift[rows] / self.particles.pixel_size
        norm = self.assignment.norm[rows]
        images = read_polar_images(self.particles.rows(rows), self.grid, self.images, origin, norm)
        noise = self.noise[half, self.group[rows[0]]]
        weighted = images.weighted(noise, self.scale[self.micrograph[rows]])
        home = self.home[rows]
        cells = self.beside(rows) if search.local else self.likely(weighted, home, half)
        for number, order in enumerate(range(search.order, search.finest_order)):
            low = weighted.within(search.rings[number + 1])
            matching = CellMatching(low, self.views(half, order), search.steps(order), home)
            blocks, evidence = normalise(list(matching.blocks(cells)), cells, len(rows))
            refuse_broken(evidence, self.particles.names.rows(rows))
            if order + 1 < search.finest_order:
                cells = divided_cells(blocks, cells, matching, share=SHARE, most=MOST_FINE_CELLS)
        return self.sums(images, weighted, matching, blocks, cells, evidence, rows)

    def likely(self, images: WeightedImages, home: np.ndarray, half: int) -> Cells:
        """The cells of the first order that hold nearly all of the posterior."""
        search = self.search
        low = images.within(search.rings[0])
        pixels = search.pixels
        count = direction_count(search.order)
        numbers = np.concatenate([k * count + pixels for k in range(len(self.population))])
        psi = 2 * np.pi * np.arange(psi_count(search.order)) / psi_count(search.order)
        shift = disc_of_shifts(search.reach, search.shift_step)
        views = CoarseViews(self.references[half], self.population, search.turn, search.order, len(pixels))
        if half not in self.coarse_tables:
            self.coarse_tables[half] = ReferenceTables(
                views.slices(numbers, np.zeros(1), low.grid)[0], low.grid, Alternatives(psi, shift)
            )
        steps = Steps(psi, shift, search.shift_deviation, 0.0, whole=True)
        return coarse_cells(low, views, self.coarse_tables[half], steps, numbers, home=home)

    def beside(self, rows: np.ndarray) -> Cells:
        """The cells of the first order about the present poses: the nearest direction and those that share a corner with it, three in-plane angles each."""
        search, pose = self.search, self.assignment.pose
        matrix = matrix_from_euler(pose.euler[rows]) @ search.turn.T
        euler = euler_from_matrix(matrix)
        around = surrounding_pixels(
            pixel_of_direction(euler[:, :2], search.order), search.order
        )  # [n, 9], -1 where none
        image, place = np.nonzero(around >= 0)
        pixel = around[image, place]
        direction = healpix_directions(search.order)[pixel]
        frames = matrix_from_euler(np.concatenate([direction, np.zeros((len(pixel), 1))], axis=1))
        relative = matrix[image] @ frames.transpose(0, 2, 1)
        psi = np.arctan2(relative[:, 0, 1] - relative[:, 1, 0], relative[:, 0, 0] + relative[:, 1, 1])
        turns = np.arange(-1, 2) * (2 * np.pi / psi_count(search.order))
        origin = pose.shift[rows] / self.particles.pixel_size
        classes = np.arange(len(self.population)) * direction_count(search.order)
        shape = (len(classes), len(turns), len(pixel))
        view = np.broadcast_to(classes[:, None, None] + pixel, shape).ravel()
        angle = np.broadcast_to(turns[:, None] + psi, shape).ravel()
        number = np.broadcast_to(image, shape).ravel()
        return Cells(number, view, angle, origin[number])

    def sums(
        self,
        images: PolarImages,
        weighted: WeightedImages,
        matching: CellMatching,
        blocks: list[Block],
        cells: Cells,
        evidence: np.ndarray,
        rows: np.ndarray,
    ) -> MapSums:
        """Slices gathered with the posteriors on all rings, inserted, and what was found out."""
        search, half, group = self.search, int(self.half[rows[0]]), int(self.group[rows[0]])
        classes, count = len(self.population), direction_count(search.finest_order)
        whole = CellMatching(weighted, matching.views, matching.steps, matching.home)
        accumulators = {}
        mass, ring = np.zeros((2, classes)), np.zeros((2, self.grid.shape[0]))
        per_image = np.zeros((2, len(rows)))
        for block in blocks:
            number = int(block.views[0]) // count
            mass[half, number] += block.table.sum(dtype=np.float64)
            found = whole.gathered(block, cells)
            if found is None:
                continue
            gathered, image = found
            ring += gathered.cross, gathered.model
            for place, value in enumerate(gathered.each):
                np.add.at(per_image[place], image, value)
            if number not in accumulators:
                accumulators[number] = Accumulator(self.grid.box)
            views: MapViews = matching.views  # type: ignore[assignment]
            frames = views.frames(block.views, matching.steps.psi).reshape(-1, 3, 3)
            data, weight = (values.reshape(-1, *self.grid.shape) for values in (gathered.data, gathered.weight))
            add_slices(accumulators[number], data, weight, frames, self.operators, self.grid)
        values = images.values
        power = 2 * (np.real(values) ** 2 + np.imag(values) ** 2).sum(axis=(0, 2))
        unit = self.noise[half, group] / self.grid.weight
        groups = self.noise.shape[1]
        noise = [NoiseSums.of_group(groups, group, 0, *np.zeros((3, len(unit)))) for _ in (0, 1)]
        noise[half] = NoiseSums.of_group(groups, group, len(rows), power, ring[0] * unit, ring[1] * unit)
        scale = np.zeros((2, len(self.scale)))
        for place in (0, 1):
            np.add.at(scale[place], self.micrograph[rows], per_image[place])
        entries = listed(blocks, cells, matching)
        volumes = {(half, number): accumulator.sums for number, accumulator in accumulators.items()}
        assignment = self.assigned(entries, evidence, rows)
        return MapSums(volumes, mass, scale, (noise[0], noise[1]), rows, assignment)

    def assigned(self, entries: Entries, evidence: np.ndarray, rows: np.ndarray) -> Assignment:
        """The most probable alternative of each image, and how sure it is."""
        search, count = self.search, direction_count(self.search.finest_order)
        matrices = orientation_of(entries.view, entries.psi, search.finest_order, search.turn)

        def angle_between(_: Entries, best: np.ndarray) -> np.ndarray:
            return angular_distance(matrices, matrices[best])

        found = summary(entries, len(rows), lambda view: view // count, angle_between)
        first = np.searchsorted(entries.image, np.arange(len(rows)))
        size = self.particles.pixel_size
        return Assignment(
            (found.view // count).astype(np.int32),
            Pose(euler_from_matrix(matrices[first]), found.origin * size),
            found.probability,
            found.entropy,
            evidence,
            found.class_probability,
            found.angle_deviation,
            found.shift_deviation * size,
            self.assignment.norm[rows],
        )


@dataclass(frozen=True)
class CoarseViews(MapViews):
    """Views that are looked at themselves, in their canonical frames, and not divided."""

    def children(self, view: int) -> Int[np.ndarray, " v"]:
        return np.array([view])

    def twist(self, views: np.ndarray) -> Float[np.ndarray, " v"]:
        return np.zeros(len(views))

    def frames(self, views: np.ndarray, psi: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p v 3 3"]:
        return np.stack([orientation_of(views, np.full(len(views), angle), self.order, self.turn) for angle in psi])

    def classes(self, views: np.ndarray) -> Int[np.ndarray, " v"]:
        return views // direction_count(self.order)

    def log_prior(self, views: np.ndarray) -> Float[np.ndarray, " v"]:
        return np.log(np.maximum(self.population[self.classes(views)], 1e-12)) - np.log(self.directions)
