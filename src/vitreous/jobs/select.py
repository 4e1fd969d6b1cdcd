"""The job `select`: the particles of the good classes of a 2D classification, and those of the others apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.errors import FormatProblem, SettingsProblem
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.relion_optics import numbers
from vitreous.jobs.classify2d_tables import (
    AVERAGES,
    CLASS,
    CLASSES,
    EVIDENCE,
    PARTICLES,
    Classes,
    lasting_names,
    read_classes,
    write_classes,
)
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.select_rule import SelectionRule, class_numbers, refuse_nothing_kept
from vitreous.jobs.select_sections import selection_sections
from vitreous.model.particles import Particles

REJECTED = "rejected.star"


@dataclass(frozen=True)
class Select:
    """Settings of a selection of classes. All that is asked for must hold; with nothing asked for, classes are chosen automatically.

    Parameters
    ----------
    classification
        Folder of a finished 2D classification.
    classes
        Numbers of the classes to keep: 1 3 5, 1,3,5 or 7-12.
    best
        Keep so many classes, the best by quality.
    quality
        Keep classes of this quality (0 to 1) or more.
    resolution
        Keep classes of this resolution in angstrom, or finer.
    least_evidence
        Keep particles whose log evidence in nat is this or more.
    """

    classification: Path
    classes: tuple[str, ...] = field(default=(), kw_only=True)
    best: int | None = field(default=None, kw_only=True)
    quality: float | None = field(default=None, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    least_evidence: float | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        refuse_numbers(self, positive=("best", "resolution"), not_negative=("quality",), finite=("least_evidence",))
        if self.quality is not None and self.quality > 1:
            raise SettingsProblem(f"--quality {self.quality:g}", "a number from 0 to 1")
        class_numbers(self.classes)

    @property
    def rule(self) -> SelectionRule:
        return SelectionRule(
            class_numbers(self.classes) if self.classes else None,
            self.best,
            self.quality,
            self.resolution,
            self.least_evidence,
        )

    def inputs(self) -> list[Path]:
        return [self.classification / name for name in (PARTICLES, CLASSES, AVERAGES)]

    def run(self, desk: Desk) -> Outcome:
        classes = read_classes(self.classification)
        source = self.classification / PARTICLES
        particles = read_particles(source, load_images=False)
        for column in (CLASS, EVIDENCE):
            if column not in particles.table:
                raise FormatProblem(f"{source} has no column {column}", "the particles.star of a classification")
        number, evidence = numbers(particles.table, CLASS).astype(np.int64), numbers(particles.table, EVIDENCE)
        kept_classes = self.rule.classes(classes)
        kept = self.rule.particles(kept_classes, classes, number, evidence)
        refuse_nothing_kept(kept, self.rule)
        place = desk.place or desk.folder
        particles = lasting_names(particles, source, place)
        self.write(desk, place, particles, kept, classes.rows(np.flatnonzero(kept_classes)))
        return self.outcome(classes, kept_classes, kept, evidence)

    def write(self, desk: Desk, place: Path, particles: Particles, kept: np.ndarray, classes: Classes) -> None:
        """particles.star, rejected.star if there is any, and the averages of the classes kept with their classes.star."""
        write_particles(desk.folder / PARTICLES, particles.rows(kept))
        if not kept.all():
            write_particles(desk.folder / REJECTED, particles.rows(~kept))
        write_classes(desk.folder, classes, place)

    def outcome(self, classes: Classes, kept_classes: np.ndarray, kept: np.ndarray, evidence: np.ndarray) -> Outcome:
        used = classes.quality.count > 0
        finest = classes.resolution[kept_classes].min()
        findings = [
            Finding("kept", "particles kept", int(kept.sum()), "", "In particles.star."),
            Finding("rejected", "particles rejected", int((~kept).sum()), "", "In rejected.star."),
            Finding("kept_share", "share kept", 100 * float(kept.mean()), "%", "Of all particles.", 1),
            Finding(
                "classes_kept", "classes kept", int(kept_classes.sum()), "", f"Of {int(used.sum())} that are not empty."
            ),
            Finding(
                "finest_resolution_angstrom",
                "finest class kept",
                float(finest) if np.isfinite(finest) else None,
                "Å",
                "Where the signal of the finest average falls to its noise.",
            ),
            Finding("rule", "rule", self.rule.text(), "", "What was asked of classes and particles."),
        ]
        outcome = Outcome(findings, title=f"Selection from {self.classification.resolve().name}")
        outcome.headline = ("kept", "kept_share", "classes_kept", "finest_resolution_angstrom")
        outcome.subtitle = f"Kept: {self.rule.text()}"
        outcome.tables = {"kept_classes": classes.number[kept_classes].tolist()}
        if kept.all():
            outcome.warnings.append("Everything was kept: rejected.star was not written.")
        outcome.sections = selection_sections(classes, kept_classes, kept, evidence, self.rule)
        return outcome
