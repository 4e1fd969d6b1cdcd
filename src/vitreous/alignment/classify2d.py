"""Two-dimensional classification: from noise to class averages by expectation-maximisation.

Each iteration compares every particle with every class average, in-plane angle and shift (`class_matching`), and makes new averages of the particles
weighted by their posteriors (`class_averages`). It begins with averages of random subsets at low resolution; the band of Fourier rings that
is compared grows with what the averages show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.class_averages import LEAST_SNR, maximised, reseeded
from vitreous.alignment.class_matching import ClassMatching, ClassSearch, ClassViews
from vitreous.alignment.class_sums import ClassSums
from vitreous.alignment.classification import Classification, ClassifySettings
from vitreous.alignment.masked_particles import MaskedParticles
from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import LocalWorkers, Workers
from vitreous.errors import DataProblem
from vitreous.fourier.polar import PolarGrid, to_polar, whole_turns
from vitreous.model.particles import Particles

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Particles in one piece of work.
CHUNK = 512
# Rings beyond the finest that any average shows, which the next iteration may discover.
AHEAD = 4
# The band of the first iteration reaches to this fraction of the diameter; the whole band is open after this share of the iterations.
FIRST_BAND, OPENING = 1 / 6, 0.6
# Particles whose evidence is also computed exactly, at the end, to know what the coarse pass lost.
SAMPLE = 64
# A class with less than this share of an even part of the particles is empty.
EMPTY = 0.05


def classify2d(
    particles: Particles,
    settings: ClassifySettings,
    *,
    state: Classification | None = None,
    workers: Workers | None = None,
    progress: Progress = silent,
    on_iteration: Callable[[Classification], None] | None = None,
) -> Classification:
    """Run from `state`, or from noise, to `settings.iterations`.

    `on_iteration` is given each new state: it may be saved, and is where the next run goes on to the same result. `progress` counts particles.
    Raises DataProblem for fewer particles than classes, images that alignment cannot take, or numbers that are not finite.
    """
    workers = workers or LocalWorkers()
    task = Task.of(particles, settings)
    state = task.start(workers) if state is None else state
    todo = settings.iterations - state.iteration
    per_iteration = len(task.rows_of(0))

    for number in range(todo):

        def count(done: int, total: int, base: int = number) -> None:
            progress(base * per_iteration + round(done / max(total, 1) * per_iteration), todo * per_iteration)

        state = task.iterate(state, workers, count)
        if on_iteration is not None:
            on_iteration(state)
    return state


@dataclass(frozen=True)
class Task(MaskedParticles):
    """The particles and what does not change from iteration to iteration."""

    settings: ClassifySettings
    half: Int[np.ndarray, " n"]

    @staticmethod
    def of(particles: Particles, settings: ClassifySettings) -> Task:
        """Checks the particles and settles what the settings leave open."""
        count = len(particles)
        if count < settings.classes:
            raise DataProblem(
                f"{count} particles for {settings.classes} classes",
                "at least as many particles as classes",
                "give fewer --classes",
            )
        seen = MaskedParticles.seen(particles, settings)
        seen = replace(seen, particles=replace(seen.particles, pose=None))
        half = np.random.default_rng([settings.seed, 1]).permutation(np.arange(count) % 2)
        return Task(**vars(seen), settings=settings, half=half)

    @property
    def last_ring(self) -> int:
        """The finest ring that is ever compared."""
        finest = self.settings.finest
        return self.nyquist if finest is None else int(np.clip(self.width / finest, 4, self.nyquist))

    @property
    def turns(self) -> int:
        """In-plane angles of the coarse pass, two steps apart, at least."""
        return max(2, int(np.ceil(np.pi / self.settings.psi_step - 1e-6)))

    @property
    def first_ring(self) -> float:
        """The finest ring of the first iteration."""
        return self.width / (self.settings.diameter * FIRST_BAND)

    def search(self, grid: PolarGrid) -> ClassSearch:
        """What is compared on these rings."""
        last = grid.last
        settings, size = self.settings, self.particles.pixel_size
        # Half of a coarse turn moves the rim of the particle by less than a resolution element of the coarse pass.
        coarse = np.pi * self.box / (2 * self.radius * settings.psi_step)
        return ClassSearch(
            2 * whole_turns(grid.angles, self.turns),
            settings.shift_range / size,
            settings.shift_step / size,
            max(settings.shift_range / size / 2, 0.5),
            int(np.clip(coarse, min(6, last), last)),
            settings.exact,
        )

    def rows_of(self, iteration: int) -> Int[np.ndarray, " m"]:
        """The particles that an iteration looks at: all, or a mini-batch."""
        count, batch = len(self.particles), self.settings.batch
        if batch is None or batch >= count:
            return np.arange(count)
        return np.sort(np.random.default_rng([self.settings.seed, 2, iteration]).choice(count, batch, replace=False))

    def start(self, workers: Workers) -> Classification:
        """Averages of random subsets, unaligned, at low resolution; noise and norms from the images themselves."""
        count, classes = len(self.particles), self.settings.classes
        chosen = np.random.default_rng([self.settings.seed, 0]).permutation(np.arange(count) % classes)
        sums, noise, assignment = self.first_look(workers, CHUNK, chosen, classes)
        grid = self.grid(self.nyquist)
        return Classification(
            0,
            sums.averages(grid, self.radius, self.first_ring),
            np.full(classes, 1 / classes),
            np.full(classes, np.inf),
            np.full((classes, grid.shape[0] + 1), LEAST_SNR),
            noise,
            assignment,
        )

    def last_of(self, state: Classification) -> int:
        """The finest ring that the next iteration compares: a little beyond what the averages show, and no more than the schedule opens."""
        first = int(np.clip(np.ceil(self.first_ring), 4, self.last_ring))
        if state.iteration == 0:
            return first
        shown = int(np.flatnonzero((state.signal_to_noise > 1).any(axis=0)).max(initial=first))
        open_until = first + (self.last_ring - first) * state.iteration / (OPENING * self.settings.iterations)
        return int(np.clip(min(shown + AHEAD, open_until), first, self.last_ring))

    def iterate(self, state: Classification, workers: Workers, progress: Progress) -> Classification:
        """One expectation and one maximisation."""
        settings = self.settings
        grid = self.grid(self.last_of(state))
        rings = slice(1, grid.last + 1)
        matching = ClassMatching(
            self.particles,
            ClassViews(to_polar(state.averages, grid).astype(np.complex64), state.population),
            grid,
            state.noise[:, rings],
            self.noise_group,
            self.half,
            self.images,
            self.search(grid),
            self.home,
            state.assignment.norm,
        )
        rows = self.rows_of(state.iteration)
        sums: ClassSums = workers.sum_over(matching, self.chunks(CHUNK, rows, half=self.half), progress=progress)
        model = maximised(sums, grid, tau_fudge=settings.tau_fudge, radius=self.radius)
        averages = model.averages
        last = state.iteration + 1 == settings.iterations
        if not last:
            least = max(1.5, EMPTY * len(rows) / settings.classes)
            averages = reseeded(averages, sums, grid, self.radius, least)
        noise = state.noise.copy()
        noise[:, rings] = sums.noise.variance(grid.angles, self.disc)
        snr = np.full_like(state.signal_to_noise, LEAST_SNR)
        snr[:, 1 : grid.last + 1] = model.signal_to_noise
        snr[:, 0] = snr[:, 1]
        assignment = state.assignment.with_rows(sums.rows, sums.assignment)
        moved = assignment.class_index[rows] != state.assignment.class_index[rows]
        share = sums.mass / sums.mass.sum()
        return Classification(
            state.iteration + 1,
            averages,
            share if last else (share + 1 / settings.classes) / 2,
            self.resolution(snr, sums.mass),
            snr,
            noise,
            assignment,
            np.append(state.log_likelihood, sums.assignment.log_evidence.sum()),
            np.append(state.changed, moved.mean()),
            self.pruning_loss(matching, sums, workers) if last and not settings.exact else state.pruning_loss,
        )

    def pruning_loss(self, matching: ClassMatching, sums: ClassSums, workers: Workers) -> float:
        """Mean over a sample of the log evidence over all alternatives less that over those which the coarse pass left."""
        sample = np.sort(np.random.default_rng([self.settings.seed, 3]).permutation(sums.rows)[:SAMPLE])
        whole = replace(matching, search=replace(matching.search, exact=True))
        exact = workers.sum_over(whole, self.chunks(CHUNK, sample, half=self.half))
        pruned = np.zeros(len(self.particles))
        pruned[sums.rows] = sums.assignment.log_evidence
        return float((exact.assignment.log_evidence - pruned[exact.rows]).mean())

    def resolution(self, snr: Float[np.ndarray, "k s"], mass: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Where the SSNR falls below 1, in angstrom."""
        shown = snr[:, 1:] >= 1
        rings = np.where(shown.all(axis=1), snr.shape[1] - 1, shown.argmin(axis=1))
        with np.errstate(divide="ignore"):
            resolution = self.width / rings
        return np.where(mass < 1, np.inf, resolution)


__all__ = ["Assignment", "classify2d"]
