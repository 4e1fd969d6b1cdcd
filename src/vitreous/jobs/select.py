"""The job `select`: the particles of the good classes of a 2D classification, and those of the others apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.errors import FormatProblem, SettingsProblem
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.relion_optics import numbers
from vitreous.jobs.classify2d_tables import (
    AGREEMENT,
    AVERAGES,
    CLASS,
    CLASSES,
    EVIDENCE,
    PARTICLES,
    Classes,
    read_classes,
    write_classes,
)
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.select_rule import Candidates, Selection, SelectionRule, class_numbers, refuse_nothing_kept
from vitreous.jobs.select_sections import selection_sections
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles

REJECTED = "rejected.star"


@dataclass(frozen=True)
class Select:
    """Settings of a selection of classes. All that is asked for must hold; with nothing asked for, the choice is automatic.

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
    least_probability
        Keep particles that, with this probability (0 to 1) or more, are of the kind that agrees with the others of their class.
    """

    classification: Path
    classes: tuple[str, ...] = field(default=(), kw_only=True)
    best: int | None = field(default=None, kw_only=True)
    quality: float | None = field(default=None, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    least_evidence: float | None = field(default=None, kw_only=True)
    least_probability: float | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=("best", "resolution"),
            not_negative=("quality", "least_probability"),
            finite=("least_evidence",),
        )
        for name in ("quality", "least_probability"):
            if (getattr(self, name) or 0) > 1:
                raise SettingsProblem(f"--{name.replace('_', '-')} {getattr(self, name):g}", "a number from 0 to 1")
        class_numbers(self.classes)

    @property
    def rule(self) -> SelectionRule:
        return SelectionRule(
            class_numbers(self.classes) if self.classes else None,
            self.best,
            self.quality,
            self.resolution,
            self.least_evidence,
            self.least_probability,
        )

    def inputs(self) -> list[Path]:
        return [self.classification / name for name in (PARTICLES, CLASSES, AVERAGES)]

    def run(self, desk: Desk) -> Outcome:
        classes = read_classes(self.classification)
        source = self.classification / PARTICLES
        particles = read_particles(source, load_images=False)
        candidates = candidates_of(particles, source)
        selection = self.rule.select(classes, candidates)
        refuse_nothing_kept(selection, self.rule)
        place = desk.place or desk.folder
        self.write(desk, place, lasting_names(particles, source, place), selection, classes, candidates)
        return self.outcome(classes, selection, candidates)

    def write(
        self,
        desk: Desk,
        place: Path,
        particles: Particles,
        selection: Selection,
        classes: Classes,
        candidates: Candidates,
    ) -> None:
        """particles.star, rejected.star if there is any, and the averages of the classes kept with their classes.star."""
        kept = selection.particles
        write_particles(desk.folder / PARTICLES, particles.rows(kept))
        if not kept.all():
            write_particles(desk.folder / REJECTED, particles.rows(~kept))
        chosen = classes.rows(np.flatnonzero(selection.classes))
        count = (candidates.number[kept][:, None] == chosen.number).sum(axis=0)
        quality = replace(chosen.quality, count=count)
        write_classes(desk.folder, replace(chosen, quality=quality, share=count / count.sum()), place)

    def outcome(self, classes: Classes, selection: Selection, candidates: Candidates) -> Outcome:
        kept, rule = selection.particles, self.rule
        used = classes.quality.count > 0
        finest = classes.resolution[selection.classes].min()
        findings = [
            Finding("kept", "particles kept", int(kept.sum()), "", "In particles.star."),
            Finding("rejected", "particles rejected", int((~kept).sum()), "", "In rejected.star."),
            Finding("kept_share", "share kept", 100 * float(kept.mean()), "%", "Of all particles.", 1),
            Finding(
                "classes_kept",
                "classes kept",
                int(selection.classes.sum()),
                "",
                f"Of {int(used.sum())} that are not empty.",
            ),
            Finding(
                "finest_resolution_angstrom",
                "finest class kept",
                float(finest) if np.isfinite(finest) else None,
                "Å",
                "Where the signal of the finest average falls to its noise.",
            ),
            Finding("rule", "rule", rule.text(), "", "What was asked of classes and particles."),
        ]
        if selection.kinds is not None:
            text = "Distance of the two kinds of particles in standard deviations; above 2 they are two humps."
            findings.append(Finding("separation", "separation", selection.kinds.separation, "", text))
        outcome = Outcome(findings, title=f"Selection from {self.classification.resolve().name}")
        outcome.headline = ("kept", "kept_share", "classes_kept", "finest_resolution_angstrom")
        outcome.subtitle = f"Kept: {rule.text()}"
        outcome.tables = {"kept_classes": classes.number[selection.classes].tolist()}
        if kept.all():
            outcome.warnings.append("Everything was kept: rejected.star was not written.")
        if selection.kinds is not None and not selection.kinds.told_apart:
            outcome.warnings.append(
                "Particles that agree with their class cannot be told from others that do not: they are of one kind, all good or all bad. Look at the classes."
            )
        outcome.sections = selection_sections(outcome, classes, selection, candidates, rule)
        return outcome


def candidates_of(particles: Particles, source: Path) -> Candidates:
    """What the file of a classification says of its particles."""
    for column in (CLASS, EVIDENCE, AGREEMENT):
        if column not in particles.table:
            raise FormatProblem(f"{source} has no column {column}", "the particles.star of `vitreous classify2d`")
    number, evidence, agreement = (numbers(particles.table, column) for column in (CLASS, EVIDENCE, AGREEMENT))
    return Candidates(number.astype(np.int64), evidence, agreement)
