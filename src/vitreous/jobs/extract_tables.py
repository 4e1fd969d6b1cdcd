"""particles.star of the job `extract`: the columns of the picks, brought up to date for the images that were cut.

    rlnImageName                      NUMBER@JOB/particles/MICROGRAPH.mrcs
    rlnCoordinateX, rlnCoordinateY    the whole pixel about which the image was cut: its origin
    rlnOriginXAngst, rlnOriginYAngst  the rest of the way: the particle's centre is at coordinate - origin / pixel size of the micrograph
    vitreousFilledFraction            part of the image beyond the border of the micrograph, where there are such images

The optics block has the pixel size and box of the images, and the contrast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.conventions import Contrast
from vitreous.io.micrograph_table import MICROGRAPH, ORIGINAL_PIXEL_SIZE, PIXEL_SIZE
from vitreous.io.relion import IMAGE, ctf_of_table
from vitreous.io.relion_optics import CONTRAST, NUMBER, OLD_PARTICLE_COLUMNS, numbers, optics_block, rounded
from vitreous.io.star import StarFile, write_star
from vitreous.jobs.ctf_particles import X, Y
from vitreous.jobs.extract_ctf import STALE_CTF
from vitreous.jobs.extract_micrograph import FOLDER, CutRecord
from vitreous.jobs.extract_plan import Plan
from vitreous.model.optics import OpticsGroup
from vitreous.model.table import Table, TextColumn
from vitreous.picking.extraction import Recipe

STAR = "particles.star"


@dataclass(frozen=True)
class Written:
    """What particles.star says: its rows, the optics groups that have particles, and the group of each row."""

    table: Table
    optics: tuple[OpticsGroup, ...]
    optics_index: np.ndarray

    @property
    def defocus(self) -> np.ndarray | None:
        """(U + V) / 2 of each particle in angstrom; None without CTFs."""
        ctf = ctf_of_table(self.table)
        return None if ctf is None else ctf.defocus


FILLED = "vitreousFilledFraction"
_OLD_LENGTHS = ("rlnOriginX", "rlnOriginY", "rlnOriginXPrior", "rlnOriginYPrior")  # in pixels, up to RELION 3.0


def kept_rows(plan: Plan, records: Sequence[CutRecord | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of the plan that have images, in their order; of each the number of its micrograph's item, and its place in the stack from 0."""
    item, index = np.full(len(plan), -1, dtype=np.int32), np.zeros(len(plan), dtype=np.int64)
    for number, (rows, record) in enumerate(zip(plan.rows, records)):
        if record is None:
            continue
        written = np.delete(rows, record.flat)
        item[written], index[written] = number, np.arange(len(written))
    rows = np.flatnonzero(item >= 0)
    return rows, item[rows], index[rows]


def particle_table(
    plan: Plan, records: Sequence[CutRecord | None], ctf: Mapping[str, np.ndarray], place: Path
) -> tuple[Table, np.ndarray]:
    """The table, without the numbers of optics groups, and the index of the optics group of each row. `place` is the job's folder as other
    files shall name it."""
    rows, item, index = kept_rows(plan, records)
    picks = plan.given.particles.table.rows(rows)
    names = tuple(str(place / FOLDER / f"{one.sheet.name}.mrcs") for one in plan.items)
    micrographs = tuple(one.sheet.micrograph for one in plan.items)
    columns = {
        **_origin_columns(plan, rows),
        X: plan.pixel[rows, 0].astype(np.float64),
        Y: plan.pixel[rows, 1].astype(np.float64),
        **{name: values[rows] for name, values in ctf.items()},
        MICROGRAPH: TextColumn(item, micrographs),
        IMAGE: TextColumn(item, names, index + 1, np.full(len(rows), 6, dtype=np.uint8)),
    }
    if plan.filled[rows].any():
        columns[FILLED] = np.round(plan.filled[rows], 4)
    stale = (*OLD_PARTICLE_COLUMNS, *_OLD_LENGTHS, FILLED, *(STALE_CTF if ctf else ()))
    return picks.without(*stale).with_columns(columns), plan.given.optics_index[rows]


def _origin_columns(plan: Plan, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Origins, and the priors of origins where the picks have them, moved to the new middle."""
    given = plan.given.particles
    moved = plan.origin - given.origin
    columns = {}
    for axis, letter in enumerate("XY"):
        columns[f"rlnOrigin{letter}Angst"] = np.round(plan.origin[rows, axis], 9) + 0.0  # no -0.0
        prior, old = f"rlnOrigin{letter}PriorAngst", f"rlnOrigin{letter}Prior"
        if prior in given.table:
            columns[prior] = np.round((numbers(given.table, prior) + moved[:, axis])[rows], 6)
        elif old in given.table:
            sizes = np.array([group.pixel_size or np.nan for group in given.optics])[given.optics_index]
            columns[prior] = np.round((numbers(given.table, old) * sizes + moved[:, axis])[rows], 6)
    return columns


def image_optics(plan: Plan, recipe: Recipe) -> tuple[OpticsGroup, ...]:
    """The optics groups of the images: their pixel size and box; the micrographs' pixel size is kept beside it."""
    groups = []
    for group in plan.optics:
        if group.pixel_size is None:  # no pick of it is left
            groups.append(replace(group, box=recipe.final_size))
            continue
        size = rounded(group.pixel_size)
        extra = {**group.extra, PIXEL_SIZE: size, ORIGINAL_PIXEL_SIZE: group.extra.get(ORIGINAL_PIXEL_SIZE, size)}
        groups.append(
            replace(
                group, pixel_size=group.pixel_size * recipe.box / recipe.final_size, box=recipe.final_size, extra=extra
            )
        )
    return tuple(groups)


def write_extracted(
    path: Path, plan: Plan, table: Table, optics_index: np.ndarray, recipe: Recipe, contrast: Contrast
) -> Written:
    """particles.star, as RELION 3.1 and later have it, with the groups that have particles. Other blocks of the picks' file go along."""
    used, index = np.unique(optics_index, return_inverse=True)
    groups = tuple(image_optics(plan, recipe)[number] for number in used)
    optics, group_numbers = optics_block(groups)
    optics = optics.without(CONTRAST).with_columns({CONTRAST: np.array([contrast.value] * len(optics), dtype=object)})
    given = plan.given.particles
    others = {name: block for name, block in given.star.items() if name not in ("optics", "particles", given.block)}
    table = table.with_columns({NUMBER: group_numbers[index]})
    star = StarFile({"optics": optics, "particles": table, **others})
    star.version = "30001"
    write_star(path, star)
    return Written(table, groups, index)
