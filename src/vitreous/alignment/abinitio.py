"""A map from nothing: expectation-maximisation on random subsets, from several random starts.

Each start begins with a map of particles in random orientations, at low resolution. Every iteration draws a fresh subset, compares it with the map, and mixes the
sums of slices that come out with those of before (online expectation-maximisation: Cappé & Moulines 2009, doi:10.1111/j.1467-9868.2009.00698.x),

    N <- (1 - gamma) N + gamma N_subset

with gamma falling from 1 to `LEAST_GAMMA`, while the band of Fourier rings opens from `start_resolution` to `end_resolution`. Starts are scored
by the mean log evidence of particles that none of them has ever used: images of noise alone have a mean of 0 or less against any map that they
had no part in (see `held_out`). A start that is alone with its map has found a local optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.held_out import SURE
from vitreous.alignment.map_averages import low_passed
from vitreous.alignment.map_sums import MapSums
from vitreous.alignment.pose_matching import PoseSearch
from vitreous.alignment.refine3d import FINEST_SHIFT, Task
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.conventions import Contrast
from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import LocalWorkers, Workers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_rotation_vector, random_rotations
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import InversionSettings, accumulate, solve

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# The weight of a new subset never falls below this. A lower one keeps what was aligned to former maps for too long: starts stay where they are.
LEAST_GAMMA = 0.5
# Share of the iterations at the first band, and at the last.
CLOSED, OPEN = 0.15, 0.25
# Particles that a map in random orientations is made of, for each half.
BLIND = 200
# Particles that starts are scored on and never see: at most so many, and at most one in so many of all.
SCORED, ONE_IN = 500, 5
# Fewer particles leave none to score with.
LEAST_PARTICLES = 2 * ONE_IN


@dataclass(frozen=True)
class AbinitioSettings:
    """How a first map is found. Angstrom, radian.

    `starts` independent random starts of `iterations` each, on `batch` particles for each map at a time. The band opens from `start_resolution` to
    `end_resolution`. The other settings are those of `RefineSettings`.
    """

    symmetry: str = "C1"
    classes: int = 1
    starts: int = 4
    iterations: int = 80
    batch: int = 100
    diameter: float = 200.0
    start_resolution: float = 40.0
    end_resolution: float = 20.0
    order: int = 2
    shift_range: float = 20.0
    shift_step: float = 4.0
    use_ctf: bool = True
    contrast: Contrast = Contrast.INVERTED
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("classes", "starts", "iterations", "batch"):
            if getattr(self, name) < 1:
                raise SettingsProblem(f"{getattr(self, name)} {name}", "at least 1")
        if not self.end_resolution < self.start_resolution:
            raise SettingsProblem(
                f"a band from {self.start_resolution:g} to {self.end_resolution:g} angstrom",
                "an end finer than the start",
            )

    def refine_settings(self) -> RefineSettings:
        """The same as settings of a refinement without independent halves."""
        return RefineSettings(
            symmetry=self.symmetry,
            classes=self.classes,
            iterations=self.iterations,
            diameter=self.diameter,
            start_resolution=self.start_resolution,
            order=self.order,
            shift_range=self.shift_range,
            shift_step=self.shift_step,
            finest=self.end_resolution,
            half_sets=False,
            use_ctf=self.use_ctf,
            contrast=self.contrast,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Start:
    """One random start, finished: `number` from 0, `maps` [k, z, y, x], `population` [k], mean log `evidence` of the subset of each iteration, and
    `score`: that of the particles that no start has seen, against these maps, with the standard error of this mean.
    """

    number: int
    maps: Float[np.ndarray, "k z y x"]
    population: Float[np.ndarray, " k"]
    evidence: Float[np.ndarray, " iteration"]
    score: float
    score_error: float

    @property
    def shows_signal(self) -> bool:
        """Whether these maps explain images that had no part in them better than noise does: a score above 0 by three standard errors."""
        return self.score > SURE * self.score_error


def abinitio(
    particles: Particles,
    settings: AbinitioSettings,
    *,
    finished: tuple[Start, ...] = (),
    workers: Workers | None = None,
    progress: Progress = silent,
    on_start: Callable[[Start], None] | None = None,
) -> tuple[Start, ...]:
    """All starts, the best first. `finished` are those of an interrupted run, which are not made again; `on_start` is given each one that is done.
    `progress` counts iterations.

    Raises DataProblem for fewer than ten particles, images that alignment cannot take, or numbers that are not finite.
    """
    if len(particles) < LEAST_PARTICLES:
        raise DataProblem(f"{len(particles)} particles", f"at least {LEAST_PARTICLES}, some to align and some to score")
    workers = workers or LocalWorkers()
    task = Task.of(particles, settings.refine_settings())
    blank = np.zeros((settings.classes, task.box, task.box, task.box), dtype=np.float32)
    nothing = task.start(blank, workers)
    total = settings.starts * (settings.iterations + 1)
    done = {start.number: start for start in finished}
    for number in range(settings.starts):
        if number in done:
            continue
        run = RandomStart(task, settings, number)
        done[number] = run.result(
            nothing, workers, lambda i, n=number: progress(n * (settings.iterations + 1) + i, total)
        )
        if on_start is not None:
            on_start(done[number])
    return tuple(sorted(done.values(), key=lambda start: -start.score))


@dataclass(frozen=True)
class RandomStart:
    """One start: its task, settings and number, from which all its random numbers follow."""

    task: Task
    settings: AbinitioSettings
    number: int

    def rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, 3, self.number, *what])

    def result(self, nothing: Refinement, workers: Workers, count: Callable[[int], None]) -> Start:
        """All iterations, and the score."""
        state = self.blind(nothing)
        sums: MapSums | None = None
        evidence = []
        for iteration in range(self.settings.iterations):
            found = self.expectation(state, iteration, self.subset(iteration), workers)
            evidence.append(found.assignment.log_evidence.mean())
            sums = found if sums is None else mixed(sums, found, self.gamma(iteration))
            model = self.task.maximised(sums)
            mass = sums.mass.sum(axis=0)
            share = (mass / mass.sum() + 1 / len(mass)) / 2
            state = replace(
                state,
                iteration=iteration + 1,
                references=model.references,
                half_maps=model.half_maps,
                fsc=model.fsc,
                population=share,
            )
            count(iteration + 1)
        # The noise stays what the images themselves gave: subsets are too small and maps too poor to say better.
        unseen = self.expectation(state, self.settings.iterations - 1, self.shares[0], workers).assignment.log_evidence
        count(self.settings.iterations + 1)
        return Start(
            self.number,
            state.references[0],
            state.population,
            np.array(evidence),
            float(unseen.mean()),
            float(unseen.std() / np.sqrt(len(unseen))),
        )

    @cached_property
    def shares(self) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]]:
        """The particles to score with, the same ones for every start, and those to align."""
        count = len(self.task.particles)
        order = np.random.default_rng([self.settings.seed, 4]).permutation(count)
        scored = min(SCORED, count // ONE_IN)
        return np.sort(order[:scored]), np.sort(order[scored:])

    def blind(self, nothing: Refinement) -> Refinement:
        """Maps of particles in random orientations, at the start resolution."""
        task, settings = self.task, self.settings
        maps = []
        inversion = InversionSettings(
            task.group.operators, settings.use_ctf, settings.contrast, mask_radius=task.radius
        )
        for number in range(settings.classes):
            rng = self.rng(0, number)
            rows = rng.permutation(self.shares[1])[: 2 * BLIND]
            euler = euler_from_matrix(random_rotations(len(rows), rng))
            part = task.particles.rows(rows)
            shift = np.zeros((len(rows), 2)) if part.pose is None else part.pose.shift
            posed = replace(part, pose=Pose(euler, shift))
            halves = (
                accumulate(posed.rows(slice(0, None, 2)), inversion),
                accumulate(posed.rows(slice(1, None, 2)), inversion),
            )
            maps.append(solve(halves).half_maps)
        size = task.particles.pixel_size
        low = np.stack([low_passed((a + b) / 2, size, settings.start_resolution) for a, b in maps])
        return replace(nothing, references=np.stack([low, low]))

    def subset(self, iteration: int) -> Int[np.ndarray, " m"]:
        size = self.settings.batch * self.settings.classes
        return np.sort(self.rng(1, iteration).permutation(self.shares[1])[:size])

    def gamma(self, iteration: int) -> float:
        return max(1 / (1 + 0.5 * iteration), LEAST_GAMMA)

    def ring(self, iteration: int) -> int:
        """The finest ring that an iteration compares."""
        task, settings = self.task, self.settings
        first, last = (task.width / r for r in (settings.start_resolution, settings.end_resolution))
        opened = (iteration / max(settings.iterations - 1, 1) - CLOSED) / (1 - CLOSED - OPEN)
        ring = first + (last - first) * np.clip(opened, 0, 1)
        return int(np.clip(np.floor(ring), 4, task.nyquist))

    def expectation(self, state: Refinement, iteration: int, rows: np.ndarray, workers: Workers) -> MapSums:
        task, settings = self.task, self.settings
        compared = self.ring(iteration)
        finest = settings.order + (1 if compared <= task.rings_for(settings.order + 1, task.nyquist) else 2)
        rings = [task.rings_for(order, compared) for order in range(settings.order, finest + 1)]
        rings[-1] = compared
        size = task.particles.pixel_size
        turn = matrix_from_rotation_vector(self.rng(2, iteration).uniform(-0.1, 0.1, 3))
        search = PoseSearch(
            settings.order,
            finest,
            settings.shift_range / size,
            2 * settings.shift_step / size,
            FINEST_SHIFT,
            max(settings.shift_range / size / 2, 0.5),
            tuple(rings),
            False,
            turn,
            task.group,
        )
        grid = task.grid(min(compared + 2, task.nyquist))
        return workers.sum_over(task.matching(state, grid, search), task.chunks(rows))


def mixed(before: MapSums, now: MapSums, gamma: float) -> MapSums:
    """(1 - gamma) before + gamma now, of everything that the maximisation uses."""
    volumes = {}
    for key in before.volumes.keys() | now.volumes.keys():
        old, new = before.volumes.get(key), now.volumes.get(key)
        volumes[key] = sum(
            factor * volume
            for factor, volume in ((np.float32(1 - gamma), old), (np.float32(gamma), new))
            if volume is not None
        )
    return replace(now, volumes=volumes, mass=(1 - gamma) * before.mass + gamma * now.mass)
