"""What a 2D classification refuses, and what it starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.alignment.classification import Classification
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.alignment_input import particle_name
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose


def refuse_few_particles(count: int, classes: int, batch: int | None, path: Path) -> None:
    """Raise if so many particles cannot be put into so many classes."""
    if count < 2:
        raise DataProblem(f"{path} holds one particle", "at least two: the average of one image is that image")
    if count < classes:
        raise SettingsProblem(
            f"--classes {classes} for the {count} particles of {path}",
            "at least one particle for each class",
            f"give at most --classes {max(1, count // 20)}, for 20 particles in each",
        )
    if batch is not None and not classes <= batch < count:
        raise SettingsProblem(
            f"--batch {batch} for {count} particles in {classes} classes",
            "at least as many as classes and fewer than all particles",
            "leave --batch out to use all particles in each iteration",
        )


def start_particles(particles: Particles, *, keep_shifts: bool, path: Path) -> Particles:
    """The particles without orientations; their origins are kept as start values if asked for."""
    if not keep_shifts:
        return replace(particles, pose=None)
    if particles.pose is None:
        raise DataProblem(f"--keep-shifts for {path}, which gives no poses", "origins and angles for each particle")
    return replace(particles, pose=Pose(np.zeros_like(particles.pose.euler), particles.pose.shift))


def refuse_broken_state(state: Classification, particles: Particles, path: Path, kept: Path) -> None:
    """Raise DataProblem naming the first particle whose evidence is no number, or the first class whose average is not.

    `kept` is the file of the state before this one, if there is any.
    """
    where = f"in iteration {state.iteration}"
    remedy = f"look at the images and their CTFs; the last good state is {kept}" if kept.is_file() else ""
    evidence = (state.assignment.class_index >= 0) & ~np.isfinite(state.assignment.log_evidence)
    if evidence.any():
        name = particle_name(particles, int(np.argmax(evidence)), path)
        raise DataProblem(
            f"the evidence of {name} is not a number {where} ({int(evidence.sum())} such particles)", "numbers", remedy
        )
    averages = ~np.isfinite(state.averages).all(axis=(1, 2))
    if averages.any():
        number = int(np.argmax(averages))
        members = np.flatnonzero(state.assignment.class_index == number)
        first = f", whose first particle is {particle_name(particles, int(members[0]), path)}," if len(members) else ""
        raise DataProblem(f"the average of class {number + 1}{first} is not a number {where}", "numbers", remedy)
