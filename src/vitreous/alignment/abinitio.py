"""A map from nothing: expectation-maximisation on random subsets, from several random starts.

Each start begins with a map of particles in random orientations, at low resolution. Every iteration draws a fresh subset, compares it with the map, and mixes the
sums of slices that come out with those of before (online expectation-maximisation: Cappé & Moulines 2009, doi:10.1111/j.1467-9868.2009.00698.x),

    N <- (1 - gamma) N + gamma N_subset

with gamma falling from 1 to `LEAST_GAMMA`, while the band of Fourier rings opens from `start_resolution` to `end_resolution`. Starts are scored
by the mean log evidence of particles that none of them has ever used: images of noise alone have a mean of 0 or less against any map that they
had no part in (see `held_out`).

Many starts end in local optima, and half-way it shows which: so the starts of a round go half the way, and the best of them go on. Rounds follow one
another until a second start has found the map of the best one (`start_agreement`), or all starts have been made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vitreous.alignment.held_out import SURE
from vitreous.alignment.map_averages import low_passed
from vitreous.alignment.map_sums import MapSums
from vitreous.alignment.pose_matching import PoseSearch
from vitreous.alignment.refine3d import FINEST_SHIFT, Task
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.alignment.settings import AlignmentSettings
from vitreous.alignment.start_agreement import StartAgreement, start_agreement
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
# Starts of a round; part of the iterations after which the best of them are chosen; and how many are: two, so that one may confirm the other.
ROUND, HALFWAY, FINISHED = 4, 0.55, 2
# Particles that a map in random orientations is made of, for each half.
BLIND = 200
# Particles that starts are scored on and never see: at most so many, and at most one in so many of all.
SCORED, ONE_IN = 500, 5
# Fewer particles leave none to score with.
LEAST_PARTICLES = 2 * ONE_IN


@dataclass(frozen=True)
class AbinitioSettings(AlignmentSettings):
    """How a first map is found. Angstrom, radian.

    At most `starts` independent random starts of `iterations` each, on `batch` particles for each map at a time. The band opens from `start_resolution` to
    `end_resolution`. The other settings are those of `RefineSettings`.
    """

    symmetry: str = "C1"
    starts: int = 12
    iterations: int = 80
    batch: int = 100
    start_resolution: float = 40.0
    end_resolution: float = 20.0
    order: int = 2

    counts: ClassVar[tuple[str, ...]] = (*AlignmentSettings.counts, "starts", "batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.end_resolution < self.start_resolution:
            raise SettingsProblem(
                f"a band from {self.start_resolution:g} to {self.end_resolution:g} angstrom",
                "an end finer than the start",
            )

    @property
    def halfway(self) -> int:
        """The iterations after which the best starts of a round go on."""
        return max(1, round(HALFWAY * self.iterations))

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
    """One random start, as far as it has come: `number` from 0, `maps` [k, z, y, x], `population` [k], mean log `evidence` of the subset of each iteration, and
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


@dataclass(frozen=True)
class Search:
    """What the starts found: those that went all the way, the best first; those that were left half-way, the best first; and how far the maps of the former agree."""

    finished: tuple[Start, ...]
    left: tuple[Start, ...]
    agreement: StartAgreement

    @property
    def best(self) -> Start:
        return self.finished[0]


def abinitio(
    particles: Particles,
    settings: AbinitioSettings,
    *,
    known: tuple[Start, ...] = (),
    workers: Workers | None = None,
    progress: Progress = silent,
    on_start: Callable[[Start], None] | None = None,
) -> Search:
    """The map of the best start, and whether others found it too.

    `known` are starts of an interrupted run, half-way or finished, which are not made again; `on_start` is given each one as soon as it is half-way, and
    again when it is finished. Starts are independent: `workers` compute as many at a time as there are of them. `progress` counts the legs run
    (a start to half-way, or from there to its end), of all that may be needed.

    Raises DataProblem for fewer than ten particles, images that alignment cannot take, or numbers that are not finite.
    """
    if len(particles) < LEAST_PARTICLES:
        raise DataProblem(f"{len(particles)} particles", f"at least {LEAST_PARTICLES}, some to align and some to score")
    task = Task.of(particles, settings.refine_settings())
    blank = np.zeros((settings.classes, task.box, task.box, task.box), dtype=np.float32)
    runner = Runner(task, settings, task.start(blank, LocalWorkers()))
    groups = rounds(settings.starts)
    legs = Legs(runner, workers or LocalWorkers(1), progress, on_start, sum(legs_of(group) for group in groups))
    legs.known.update({(start.number, len(start.evidence)): start for start in known})
    finished: list[Start] = []
    left: list[Start] = []
    agreement = StartAgreement(())
    for group in groups:
        if len(group) > FINISHED:
            begun = ranked(legs.run([Leg(number, settings.halfway) for number in group]))
            going = [Leg(start.number, settings.iterations, start) for start in begun[:FINISHED]]
            left = ranked([*left, *begun[FINISHED:]])
        else:
            going = [Leg(number, settings.iterations) for number in group]
        finished = ranked([*finished, *legs.run(going)])
        agreement = agreement_of(finished, task, settings)
        if agreement.confirmed:
            break
    progress(legs.total, legs.total)
    return Search(tuple(finished), tuple(left), agreement)


def rounds(starts: int) -> list[range]:
    """The numbers of the starts of each round."""
    return [range(first, min(first + ROUND, starts)) for first in range(0, starts, ROUND)]


def legs_of(group: range) -> int:
    """How many legs the starts of a round make together."""
    return len(group) + FINISHED if len(group) > FINISHED else len(group)


def ranked(starts: Sequence[Start]) -> list[Start]:
    """The best first."""
    return sorted(starts, key=lambda start: -start.score)


def agreement_of(starts: Sequence[Start], task: Task, settings: AbinitioSettings) -> StartAgreement:
    """How the others agree with the first of these starts, which has the highest score."""
    return start_agreement(
        [start.maps for start in starts],
        [start.score for start in starts],
        starts[0].population,
        task.particles.pixel_size,
        least_score=starts[0].score - SURE * starts[0].score_error,
        radius=settings.diameter / 2 / task.particles.pixel_size,
        coarsest=settings.start_resolution,
        finest=settings.end_resolution,
    )


@dataclass(frozen=True)
class Leg:
    """A part of the way of one start: from `begun`, or from nothing, to iteration `until`."""

    number: int
    until: int
    begun: Start | None = None


@dataclass
class Legs:
    """Runs legs, and knows those that have been run: (number of the start, iterations) -> Start."""

    runner: Runner
    workers: Workers
    progress: Progress
    on_start: Callable[[Start], None] | None
    total: int
    done: int = 0
    known: dict[tuple[int, int], Start] = field(default_factory=dict)

    def run(self, legs: Sequence[Leg]) -> list[Start]:
        """Where these legs lead, in their order."""
        missing = [leg for leg in legs if (leg.number, leg.until) not in self.known]
        base = self.done + len(legs) - len(missing)
        self.progress(base, self.total)
        self.workers.map_over(
            self.runner,
            missing,
            on_result=self.keep,
            progress=lambda done, _: self.progress(base + done, self.total),
        )
        self.done += len(legs)
        return [self.known[leg.number, leg.until] for leg in legs]

    def keep(self, start: Start) -> None:
        self.known[start.number, len(start.evidence)] = start
        if self.on_start is not None:
            self.on_start(start)


@dataclass(frozen=True)
class Runner:
    """`runner(leg) -> Start`. `nothing` is the state without a map: noise and norms of the images."""

    task: Task
    settings: AbinitioSettings
    nothing: Refinement

    def __call__(self, leg: Leg) -> Start:
        return RandomStart(self.task, self.settings, leg.number).result(self.nothing, leg.begun, leg.until)


@dataclass(frozen=True)
class RandomStart:
    """One start: its task, settings and number, from which all its random numbers follow."""

    task: Task
    settings: AbinitioSettings
    number: int

    def rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, 3, self.number, *what])

    def result(self, nothing: Refinement, begun: Start | None, until: int) -> Start:
        """The iterations from where it stands to `until`, and the score of what is found by then."""
        if begun is None:
            state, evidence = self.blind(nothing), []
        else:
            both = np.stack([begun.maps, begun.maps])
            state, evidence = replace(nothing, references=both, population=begun.population), list(begun.evidence)
        sums: MapSums | None = None
        for iteration in range(len(evidence), until):
            found = self.expectation(state, iteration, self.subset(iteration))
            evidence.append(found.assignment.log_evidence.mean())
            sums = found if sums is None else mixed(sums, found, self.gamma(iteration))
            model = self.task.maximised(sums)
            mass = sums.mass.sum(axis=0)
            share = (mass / mass.sum() + 1 / len(mass)) / 2
            state = replace(state, references=model.references, population=share)
        # The noise stays what the images themselves gave: subsets are too small and maps too poor to say better.
        unseen = self.expectation(state, until - 1, self.shares[0]).assignment.log_evidence
        error = unseen.std() / np.sqrt(len(unseen))
        maps = state.references[0]
        return Start(self.number, maps, state.population, np.array(evidence), float(unseen.mean()), float(error))

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

    def expectation(self, state: Refinement, iteration: int, rows: np.ndarray) -> MapSums:
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
        # One after another: blocks of so few particles are too small to be worth a thread.
        return LocalWorkers(1).sum_over(task.matching(state, grid, search), task.pieces(rows))


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
