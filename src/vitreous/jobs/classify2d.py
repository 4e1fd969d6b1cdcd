"""The job `classify2d`: particles without poses become class averages, and each gets its class, in-plane angle and origin."""

# Annotations here are objects, not text: the command line reads them of classes that inherit fields from other modules.
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.alignment.class_agreement import class_agreement, overall_agreement
from vitreous.alignment.classification import Classification, ClassifySettings
from vitreous.alignment.classify2d import classify2d
from vitreous.conventions import Contrast
from vitreous.engine.checkpoint import load_state, save_state
from vitreous.engine.workers import Workers
from vitreous.errors import SettingsProblem
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles
from vitreous.jobs.alignment_input import mask_diameter, refuse_shifts, refuse_unusable_images, shift_step
from vitreous.jobs.classify2d_input import refuse_broken_state, refuse_few_particles, start_particles
from vitreous.jobs.classify2d_sections import (
    HEADLINE,
    classification_findings,
    classification_sections,
    classification_warnings,
)
from vitreous.jobs.classify2d_tables import AVERAGES, PARTICLES, assigned_particles, classes_of, write_classes
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.particle_input import ImageInput, declared_contrast, header_warning, ready_particles, stacks_of
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles
from vitreous.units import DEGREE

STATE = "state.npz"
SHIFT_RANGE = 0.2  # of the mask's diameter, unless a range is given


@dataclass(frozen=True)
class Classify2D(ClusterOptions, ImageInput):
    """Settings of a 2D classification.

    Parameters
    ----------
    particles
        Particle file: STAR (.star) or cryoSPARC (.cs, .csg). No poses are needed, and those it has are not used.
    classes
        Number of classes.
    iterations
        Number of iterations.
    diameter
        Diameter of the circular mask in angstrom; by default 0.85 of the box.
    ctf
        Correct for the CTF.
    psi_step
        Step of the in-plane angle in degrees; the nearest divisor of a turn is taken.
    shift_range
        Origins are searched this far to each side, in angstrom; by default a fifth of the mask's diameter.
    shift_step
        Step of that search in angstrom; by default the pixel size, or of smaller pixels the multiple from 2 angstrom on.
    keep_shifts
        Start from the origins in the file instead of the middle of each image.
    tau_fudge
        Factor on the power of the signal by which each shell of an average is regularised: larger ones trust it more.
    finest
        Resolution in angstrom beyond which images are not compared; by default as far as they go.
    exact
        Look at all classes, angles and origins at full band, instead of only at those that a coarse search leaves.
    batch
        Particles in each mini-batch of the online mode for large sets; by default all take part in each iteration.
    seed
        Seed of the first averages and of the mini-batches.
    """

    classes: int = field(default=50, kw_only=True)
    iterations: int = field(default=25, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    ctf: bool = field(default=True, kw_only=True)
    psi_step: float = field(default=6.0, kw_only=True)
    shift_range: float | None = field(default=None, kw_only=True)
    shift_step: float | None = field(default=None, kw_only=True)
    keep_shifts: bool = field(default=False, kw_only=True)
    tau_fudge: float = field(default=2.0, kw_only=True)
    finest: float | None = field(default=None, kw_only=True)
    exact: bool = field(default=False, kw_only=True)
    batch: int | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "classify2d"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_numbers(
            self,
            positive=("classes", "iterations", "psi_step", "shift_step", "tau_fudge", "finest", "batch", "pixel_size"),
            not_negative=("shift_range",),
        )
        if self.psi_step > 90:
            raise SettingsProblem(f"--psi-step {self.psi_step:g}", "at most 90 degrees")

    def inputs(self) -> list[Path]:
        return [self.particles, *self.passthrough]

    def run(self, desk: Desk) -> Outcome:
        particles = ready_particles(self, use_ctf=self.ctf, poses=False)
        settings = self.settings(particles)
        with workers_of(self) as workers:
            state = self.classify(particles, settings, workers, desk)
            comparing = desk.progress("compare with the classes")
            by_ring = class_agreement(particles, state, settings, workers=workers, progress=comparing)
        agreement = overall_agreement(by_ring)[0]
        classes = classes_of(state, agreement, particles.pixel_size, settings.diameter)
        place = desk.place or desk.folder
        write_classes(desk.folder, classes, place, state.signal_to_noise)
        write_particles(desk.folder / PARTICLES, self.finished_particles(particles, settings, state, agreement, place))
        outcome = Outcome(
            classification_findings(state, classes, settings), title=f"2D classification of {self.particles.name}"
        )
        outcome.warnings = classification_warnings(state, classes, settings) + header_warning(particles)
        if particles.pose is not None:
            outcome.warnings.append("The poses of the file were replaced by in-plane angles and origins.")
        outcome.inputs = stacks_of(particles)
        outcome.headline = HEADLINE
        box = classes.average.shape[-1]
        outcome.subtitle = f"{len(particles):,} particles, {settings.classes} classes, {state.iteration} iterations, {box} px of {particles.pixel_size:.4g} Å"
        outcome.tables = {"quality": dict(zip(classes.number.tolist(), classes.quality.score.tolist()))}
        outcome.sections = classification_sections(outcome, state, classes, settings, agreement)
        return outcome

    def settings(self, particles: Particles) -> ClassifySettings:
        """Every number that the classification needs, in the inside units; refused where it cannot be."""
        assert particles.images is not None
        refuse_few_particles(len(particles), self.classes, self.batch, self.particles)
        box, pixel_size = particles.images.shape[-1], particles.pixel_size
        diameter = mask_diameter(self.diameter, box, pixel_size)
        step = shift_step(self.shift_step, pixel_size)
        reach = SHIFT_RANGE * diameter if self.shift_range is None else self.shift_range
        refuse_shifts(reach, self.shift_step, box * pixel_size)
        if self.finest is not None and not 2 * pixel_size <= self.finest < diameter:
            raise SettingsProblem(
                f"--finest {self.finest:g}",
                f"a resolution from {2 * pixel_size:.2f} (Nyquist) to {diameter:.0f} angstrom",
            )
        return ClassifySettings(
            classes=self.classes,
            iterations=self.iterations,
            diameter=diameter,
            psi_step=self.psi_step * DEGREE,
            shift_range=reach,
            shift_step=step,
            tau_fudge=self.tau_fudge,
            finest=self.finest,
            exact=self.exact,
            batch=self.batch,
            use_ctf=self.ctf,
            contrast=declared_contrast(particles, self.contrast),
            seed=self.seed,
        )

    def classify(
        self, particles: Particles, settings: ClassifySettings, workers: Workers, desk: Desk
    ) -> Classification:
        """The state after the last iteration; goes on from the state that an interrupted run has left in the folder."""
        kept = desk.folder / STATE
        state = load_state(kept, Classification) if kept.is_file() else None
        start = start_particles(particles, keep_shifts=self.keep_shifts, path=self.particles)
        if state is None:
            refuse_unusable_images(particles, self.particles, desk.progress("look at the images"))
        elif state.iteration >= settings.iterations:
            return state
        keep = partial(keep_state, particles=particles, path=self.particles, folder=desk.folder)
        return classify2d(
            start, settings, state=state, workers=workers, progress=desk.progress("classify"), on_iteration=keep
        )

    def finished_particles(
        self,
        particles: Particles,
        settings: ClassifySettings,
        state: Classification,
        agreement: np.ndarray,
        place: Path,
    ) -> Particles:
        """What particles.star says."""
        contrast = particles.contrast if self.contrast == "file" else settings.contrast
        datadir = () if self.datadir is None else (self.datadir,)
        named = lasting_names(replace(particles, contrast=Contrast(contrast)), self.particles, place, datadir)
        return assigned_particles(named, state.assignment, agreement)


def keep_state(state: Classification, *, particles: Particles, path: Path, folder: Path) -> None:
    """Keep the state of an iteration, from which an interrupted run goes on, and its averages for whoever looks in meanwhile. A state that is
    broken is refused, and the one before stays."""
    refuse_broken_state(state, particles, path, folder / STATE)
    save_state(folder / STATE, state)
    write_stack(folder / AVERAGES, np.asarray(state.averages, dtype=np.float32), particles.pixel_size)
