"""The job `expand`: a particle file in which each image stands once for each operator of the point group."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.errors import DataProblem, OutputProblem
from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.geometry.symmetry import PointGroup, point_group
from vitreous.io.cryosparc_columns import new_uids
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.curves import sphere_map
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.particle_input import refuse_broken_rows, with_half_sets
from vitreous.jobs.report import Figure, Section
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles
from vitreous.reconstruction.orientations import orientation_coverage
from vitreous.reconstruction.symmetry_expansion import ANGLE_PRIORS, OPERATOR, SOURCE, expand_symmetry

STAR = "particles.star"
UID, SOURCE_UID, COPY = "uid", "sym_expand/src_uid", "sym_expand/idx"  # cryoSPARC's
MEANING = (
    "Each image is listed with all orientations R S that the operators S of the point group make equivalent to its own. A "
    "reconstruction without symmetry from the new file is that of the old one with symmetry. What may differ between the equal "
    "parts of the particle can now be classified or refined, with a mask on one of them and without symmetry. The copies of an image "
    "have the same noise: they share its half set, and must not be counted as independent particles."
)


@dataclass(frozen=True)
class Expand:
    """Settings of a symmetry expansion.

    Parameters
    ----------
    particles
        Particle file with poses: STAR (.star) or cryoSPARC (.cs, .csg).
    symmetry
        Point group with which the poses were refined: C2, D7, O, I, ...
    datadir
        Folder in which the image paths of the file start, if not beside the file.
    passthrough
        cryoSPARC files with the columns that the particle file lacks, merged by uid.
    seed
        Seed of the half sets, which are drawn where the file names none.
    """

    particles: Path
    symmetry: str = field(kw_only=True)
    datadir: Path | None = field(default=None, kw_only=True)
    passthrough: tuple[Path, ...] = field(default=(), kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "expand"

    def inputs(self) -> list[Path]:
        return [self.particles, *self.passthrough]

    def run(self, desk: Desk) -> Outcome:
        return self.expand(desk.folder / STAR, desk.place or desk.folder)

    def expand(self, path: Path, place: Path) -> Outcome:
        """Write the expanded particles to the file `path`, which will lie in the folder `place`."""
        group = point_group(self.symmetry)
        particles = read_particles(
            self.particles, datadir=self.datadir, passthrough=self.passthrough, load_images=False
        )
        if particles.pose is None:
            raise DataProblem(
                f"{self.particles} gives no orientations",
                "angles for each particle",
                "use a file that a refinement has written",
            )
        refuse_broken_rows(particles, self.particles, use_ctf=False)
        particles, split_note = with_half_sets(particles, "file", self.seed)
        expanded = with_identities(expand_symmetry(particles, group), particles)
        datadir = () if self.datadir is None else (self.datadir,)
        write_particles(path, lasting_names(expanded, self.particles, place, datadir))
        return self.outcome(particles, expanded, group, split_note)

    def outcome(self, particles: Particles, expanded: Particles, group: PointGroup, split_note: str) -> Outcome:
        assert expanded.half_set is not None
        halves = [int((expanded.half_set == half).sum()) for half in (1, 2)]
        findings = [
            Finding("particles", "particles", len(particles), "", "Rows of the file that was read, an image each."),
            Finding(
                "operators", "copies of each", group.order, "", f"Operators of {group.name}, the identity among them."
            ),
            Finding(
                "rows",
                "rows written",
                len(expanded),
                "",
                f"{halves[0]:,} in one half set, {halves[1]:,} in the other; an image is in one of them only.",
            ),
        ]
        outcome = Outcome(findings, title=f"Symmetry expansion of {self.particles.name}")
        outcome.headline = ("particles", "operators", "rows")
        outcome.subtitle = f"{len(particles):,} particles, {group.name}"
        outcome.tables = {"symmetry": group.name, "columns": [SOURCE, OPERATOR]}
        if split_note:
            outcome.warnings.append(
                f"The file names no half sets: they were drawn at random (seed {self.seed}), one for all copies of an image."
            )
        dropped = [name for name in ANGLE_PRIORS if name in particles.table]
        if dropped:
            outcome.warnings.append(
                f"Left out: {', '.join(dropped)}. What a refinement was told of the original's angles is wrong for the copies."
            )
        outcome.sections = [
            Section(
                "Result",
                MEANING,
                numbers=outcome.numbers(),
                figures=[views(particles, "before"), views(expanded, "after")],
            )
        ]
        return outcome


def with_identities(expanded: Particles, original: Particles) -> Particles:
    """cryoSPARC's uid is another for each row: new ones, with that of the original and the number of the copy beside it."""
    if UID not in expanded.table:
        return expanded
    order = len(expanded) // len(original)
    columns = {
        UID: new_uids(expanded.names),
        SOURCE_UID: np.asarray(expanded.table[UID]),
        COPY: np.tile(np.arange(order, dtype=np.uint32), len(original)),
    }
    if columns[SOURCE_UID].dtype == object:  # a STAR file made of a .cs file has the numbers as text
        columns[UID] = np.array([str(uid) for uid in columns[UID].tolist()], dtype=object)
    return replace(expanded, table=expanded.table.with_columns(columns))


def views(particles: Particles, when: str) -> Figure:
    """Where the views come from, without symmetry."""
    assert particles.pose is not None
    directions = view_direction(matrix_from_euler(particles.pose.euler))
    coverage = orientation_coverage(directions, operators=np.eye(3)[None])
    return Figure(
        f"Viewing directions of the {len(particles):,} rows {when} expansion; 1 is an even spread.",
        svg=sphere_map(coverage.density, title=f"Viewing directions {when} expansion"),
        alt="Map of viewing directions on the sphere",
    )


def expand_to_file(job: Expand, out: Path, *, force: bool = False) -> Outcome:
    """Run the job and keep only the particle file, as `out` (.star or .cs)."""
    if out.exists() and not force:
        raise OutputProblem(f"{out} exists", "a new file name", "choose another --out, or give --force")
    return job.expand(out, out.parent)
