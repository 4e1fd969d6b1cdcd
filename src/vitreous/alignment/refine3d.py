"""Gold-standard refinement of one or more maps: orientations and shifts of all particles against references that only their own half set made.

Each iteration compares every particle with the maps (`pose_matching`), inserts the slices that its posterior gathers, and makes new maps
regularised by the FSC of the half sets (`map_averages`). Angular steps, shifts and the band of Fourier rings follow the resolution reached. The
last iteration inserts all rings.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.map_averages import MapModel, low_passed, maximised_maps
from vitreous.alignment.map_sums import MapSums
from vitreous.alignment.masked_particles import MaskedParticles
from vitreous.alignment.pose_matching import PoseMatching, PoseSearch
from vitreous.alignment.refinement import Refinement, RefineSettings, RefineStep
from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import LocalWorkers, Workers
from vitreous.errors import DataProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.polar import PolarGrid
from vitreous.geometry.orientation_grid import mean_spacing_deg
from vitreous.geometry.rotations import angular_distance, matrix_from_euler, matrix_from_rotation_vector
from vitreous.geometry.symmetry import PointGroup, point_group
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import MASK_EDGE, split_symmetry
from vitreous.reconstruction.fsc import HALF_MAPS
from vitreous.reconstruction.projection import PADDING, FourierVolume, fourier_volume, padded_radius
from vitreous.units import DEGREE

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Pixels in one piece of work, and the most and fewest particles: many share a direction, and its slices are then read once.
CHUNK_PIXELS, CHUNK = 5_000_000, (256, 1280)
# Rings beyond the resolution that are compared, and beyond these, that are inserted.
AHEAD, INSERTED = 2, 5
# Directions lie at most this many resolution elements (at the rim of the particle) apart.
ANGULAR_SAMPLING = 0.75
# From this order on the search is local.
LOCAL_ORDER = 5
# The finest shifts, in pixels.
FINEST_SHIFT = 0.25
# Iterations without a gain in resolution after which the refinement has converged.
PATIENCE = 2
# It goes on while the log evidence grows by more than this share, or more than this share of the particles changes class.
LEAST_GROWTH, LEAST_CHANGE = 0.01, 0.02


def refine3d(
    particles: Particles,
    references: Float[np.ndarray, "k z y x"],
    settings: RefineSettings,
    *,
    mask: Float[np.ndarray, "z y x"] | None = None,
    state: Refinement | None = None,
    workers: Workers | None = None,
    progress: Progress = silent,
    on_iteration: Callable[[Refinement], None] | None = None,
) -> Refinement:
    """Run from `state`, or from `references` on the images' scale, until the resolution no longer rises or `settings.iterations` are done.

    `mask` [z, y, x], soft, multiplies the references besides the sphere. `on_iteration` is given each new state. `progress` counts particles
    of all iterations that may be needed.
    Raises DataProblem for images that alignment cannot take or numbers that are not finite.
    """
    workers = workers or LocalWorkers()
    task = Task.of(particles, settings, mask)
    state = task.start(references, workers) if state is None else state
    count = len(particles)
    while not state.converged and state.iteration < settings.iterations:
        base = state.iteration

        def counted(done: int, total: int, base: int = base) -> None:
            progress(base * count + round(done / max(total, 1) * count), settings.iterations * count)

        state = task.iterate(state, workers, counted)
        if on_iteration is not None:
            on_iteration(state)
    return state


@dataclass(frozen=True)
class Task(MaskedParticles):
    """The particles and what does not change from iteration to iteration."""

    settings: RefineSettings
    group: PointGroup
    micrograph: Int[np.ndarray, " n"]
    half: Int[np.ndarray, " n"]
    mask: Float[np.ndarray, "z y x"] | None

    @staticmethod
    def of(particles: Particles, settings: RefineSettings, mask: np.ndarray | None = None) -> Task:
        """Checks the particles and settles what the settings leave open."""
        count = len(particles)
        if count < 2 * settings.classes:
            raise DataProblem(
                f"{count} particles for {settings.classes} maps", "at least one in each half set and class"
            )
        seen = MaskedParticles.seen(particles, settings)
        half = particles.half_set
        if half is None:
            half = np.random.default_rng([settings.seed, 1]).permutation(np.arange(count) % 2) + 1
        if len(np.unique(half)) < 2:
            raise DataProblem("one half set only", "particles in both half sets")
        group, micrograph = point_group(settings.symmetry), micrographs_of(particles)
        return Task(
            **vars(seen), settings=settings, group=group, micrograph=micrograph, half=half.astype(int) - 1, mask=mask
        )

    @property
    def chunk(self) -> int:
        """Particles in one piece of work."""
        return int(np.clip(CHUNK_PIXELS // self.box**2, *CHUNK))

    def start(self, references: Float[np.ndarray, "k z y x"], workers: Workers) -> Refinement:
        """The references at low resolution, the noise of the images."""
        settings, size = self.settings, self.particles.pixel_size
        if references.shape != (settings.classes, self.box, self.box, self.box):
            raise DataProblem(
                f"references of shape {references.shape}",
                f"{settings.classes} maps of {self.box} pixels, one for each class",
            )
        chosen = np.zeros(len(self.particles), dtype=int)
        _, noise, assignment = self.first_look(workers, self.chunk, chosen, 1)
        sphere = soft_sphere(self.box, self.radius, MASK_EDGE, dtype=np.float32)
        low = np.stack([low_passed(v.astype(np.float32), size, settings.start_resolution) * sphere for v in references])
        shells = np.arange(self.box // 2 + 1)
        known = (shells <= self.width / settings.start_resolution).astype(float)
        return Refinement(
            0,
            np.stack([low, low]),
            np.stack([low, low]),
            np.full(settings.classes, 1 / settings.classes),
            np.tile(known, (settings.classes, 1)),
            np.stack([noise, noise]),
            np.ones(int(self.micrograph.max()) + 1),
            assignment,
            (self.half + 1).astype(np.int8),
        )

    def search(self, state: Refinement, compared: int) -> PoseSearch:
        """Angular and shift steps for rings up to `compared`."""
        settings, size = self.settings, self.particles.pixel_size
        wanted = ANGULAR_SAMPLING * self.width / compared / settings.diameter / DEGREE
        finest = int(
            np.clip(
                np.round(np.log2(59.1 / wanted)), settings.order + 1, max(settings.finest_order, settings.order + 1)
            )
        )
        known = state.iteration > 0 or settings.local
        local = settings.local or (known and finest >= LOCAL_ORDER and state.iteration >= 3)
        # Once the poses move by less than a cell of the order below, its cells are enough to start from.
        turned = state.steps[-1].angle_change if state.steps else np.inf
        settled = turned < mean_spacing_deg(finest - 1) * DEGREE
        order = settings.order if not local else finest - (1 if settled else 2)
        orders = range(order, finest + 1)
        rings = [self.rings_for(o, compared) for o in orders]
        rings[-1] = compared
        moved = state.steps[-1].shift_change if state.steps else np.inf
        coarse = 2 * settings.shift_step / size
        step = settings.shift_step / size / 2 if local else coarse
        reach = float(np.clip(5 * moved / size, 2 * step, settings.shift_range / size))
        rng = np.random.default_rng([settings.seed, 2, state.iteration])
        # Less than half a cell: the grid moves, the asymmetric unit all but stays.
        turn = matrix_from_rotation_vector(rng.uniform(-0.5, 0.5, 3) * mean_spacing_deg(finest) * DEGREE)
        return PoseSearch(
            order,
            finest,
            reach,
            step,
            FINEST_SHIFT,
            max(settings.shift_range / size / 2, 0.5),
            tuple(rings),
            local,
            turn,
            self.group,
        )

    def rings_for(self, order: int, compared: int) -> int:
        """The finest ring that steps of this order can tell: a step moves the rim of the particle by 1.5 of its waves."""
        moved = self.settings.diameter * mean_spacing_deg(order) * DEGREE / 1.5
        return int(np.clip(np.ceil(self.width / moved), min(4, compared), compared))

    def compared_ring(self, state: Refinement) -> int:
        """The finest ring that is compared next."""
        limit = self.nyquist
        if self.settings.finest is not None:
            limit = int(np.clip(self.width / self.settings.finest, 4, limit))
        shown = max(last_shell(curve) for curve in state.fsc)
        return int(np.clip(shown + (AHEAD if state.iteration else 0), 4, limit))

    def iterate(self, state: Refinement, workers: Workers, progress: Progress) -> Refinement:
        """One expectation and one maximisation."""
        started, settings = time.perf_counter(), self.settings
        compared = self.compared_ring(state)
        final = self.is_ready(state) or state.iteration + 1 >= settings.iterations
        grid = self.grid(self.nyquist if final else min(compared + INSERTED, self.nyquist))
        rings = slice(1, grid.last + 1)
        search = self.search(state, compared)
        matching = self.matching(state, grid, search)
        sums: MapSums = workers.sum_over(matching, self.pieces(), progress=progress)
        model = self.maximised(sums)
        model.fsc[:, grid.last :] = (
            0 if grid.last < self.nyquist else model.fsc[:, grid.last :]
        )  # beyond it nothing was inserted
        noise = state.noise.copy()
        for half in (0, 1):
            noise[half][:, rings] = sums.noise[half].variance(grid.angles, self.disc)
        assignment = state.assignment.with_rows(sums.rows, sums.assignment)
        mass = sums.mass.sum(axis=0)
        step = self.step(state, assignment, model.fsc, search, compared, time.perf_counter() - started)
        return Refinement(
            state.iteration + 1,
            model.half_maps,
            model.references,
            (mass / mass.sum() + 1 / settings.classes) / 2 if settings.classes > 1 else np.ones(1),
            model.fsc,
            noise,
            self.scale(state, sums),
            assignment,
            state.half_set,
            (*state.steps, step),
            converged=self.is_ready(state),
        )

    def matching(self, state: Refinement, grid: PolarGrid, search: PoseSearch) -> PoseMatching:
        """The expectation step of this state, inserted on all rings of `grid`."""
        return PoseMatching(
            self.particles,
            tuple(tuple(cropped(fourier_volume(v), grid.last) for v in half) for half in state.references),
            state.population,
            grid,
            state.noise[:, :, 1 : grid.last + 1],
            self.noise_group,
            self.half,
            self.micrograph,
            self.images,
            search,
            split_symmetry(self.group.operators)[1],
            self.home,
            state.assignment,
            state.scale,
        )

    def pieces(self, rows: Int[np.ndarray, " m"] | None = None) -> list[np.ndarray]:
        """Particles (all, or `rows`) in pieces of one noise group and half set."""
        return self.chunks(self.chunk, rows, half=self.half)

    def maximised(self, sums: MapSums) -> MapModel:
        """Maps from the sums."""
        return maximised_maps(
            sums,
            split_symmetry(self.group.operators)[0],
            self.box,
            self.particles.pixel_size,
            classes=self.settings.classes,
            radius=self.radius,
            tau_fudge=self.settings.tau_fudge,
            independent=self.settings.half_sets,
            mask=self.mask,
        )

    def is_ready(self, state: Refinement) -> bool:
        """Whether the resolution has stopped rising, at the finest steps that it asks for."""
        steps = state.steps
        if len(steps) < PATIENCE + 2:
            return False
        best_before = min(s.resolution for s in steps[:-PATIENCE])
        gained = min(s.resolution for s in steps[-PATIENCE:]) < 0.995 * best_before
        before, last = steps[-2], steps[-1]
        growth = (last.log_likelihood - before.log_likelihood) / max(abs(last.log_likelihood), 1e-20)
        moving = last.order != before.order or growth > LEAST_GROWTH or last.class_change > LEAST_CHANGE
        return not moving and not gained

    def scale(self, state: Refinement, sums: MapSums) -> Float[np.ndarray, " m"]:
        """The contrast of each micrograph that fits its particles best, relative to the mean of all; few particles count as one with contrast 1."""
        if state.iteration < 2:
            return state.scale
        cross, model = sums.scale
        prior = model.sum() / max(len(self.particles), 1)
        factor = np.clip((cross + prior) / np.maximum(model + prior, 1e-20), 0.5, 2)
        scale = state.scale * factor
        return scale / np.average(scale[self.micrograph])

    def step(
        self,
        state: Refinement,
        assignment: Assignment,
        fsc: np.ndarray,
        search: PoseSearch,
        compared: int,
        seconds: float,
    ) -> RefineStep:
        """What this iteration did, in numbers."""
        before, after = state.assignment, assignment
        best = max(last_shell(curve) for curve in fsc)
        first = before.class_index < 0
        angle = self.turned(before.pose.euler, after.pose.euler)
        shift = np.sqrt(((before.pose.shift - after.pose.shift) ** 2).sum(axis=1).mean() / 2)
        return RefineStep(
            self.width / best if best else np.inf,
            search.finest_order,
            search.step_of(search.finest_order) * self.particles.pixel_size,
            self.width / compared,
            float(after.log_evidence.sum()),
            float(after.probability.mean()),
            float("nan") if first.all() else float(angle.mean()),
            float(shift),
            float((before.class_index != after.class_index).mean()),
            seconds,
        )

    def turned(self, before: np.ndarray, after: np.ndarray) -> Float[np.ndarray, " n"]:
        """Angle between orientations, the smallest over the symmetry."""
        return angular_distance(
            self.group.equivalents(matrix_from_euler(before)), matrix_from_euler(after)[:, None]
        ).min(axis=1)


def micrographs_of(particles: Particles) -> Int[np.ndarray, " n"]:
    """A number for the micrograph of each particle, from its name in the file, else from its stack."""
    names = particles.table.columns.get("rlnMicrographName") if particles.table.columns else None
    keys = particles.names.path_code if names is None else np.asarray(names)
    return np.unique(keys, return_inverse=True)[1].ravel()


def last_shell(fsc: Float[np.ndarray, " s"]) -> int:
    """The last shell before the FSC falls below 0.143; 0 if it does so at once."""
    below = np.flatnonzero(fsc[1:] < HALF_MAPS)
    return int(below[0]) if len(below) else len(fsc) - 1


def cropped(volume: FourierVolume, last: int) -> FourierVolume:
    """The part of a transform that slices on rings up to `last` read: small enough for the cache."""
    radius, keep = (
        padded_radius(volume.box, volume.padding),
        min(PADDING * last + 2, padded_radius(volume.box, volume.padding)),
    )
    part = slice(radius - keep, radius + keep + 1)
    return FourierVolume(np.ascontiguousarray(volume.data[part, part, : keep + 1]), volume.box, volume.padding)
