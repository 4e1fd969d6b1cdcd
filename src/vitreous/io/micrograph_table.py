"""MicrographTable: the micrographs of a STAR file, any generation of RELION, with their optics groups and all their columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.relion_optics import (
    DIMENSIONALITY,
    NUMBER,
    OLD_PARTICLE_COLUMNS,
    group_index,
    groups_of_block,
    groups_of_particles,
    optics_block,
    rounded,
)
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.model.optics import OpticsGroup
from vitreous.model.table import Table
from vitreous.units import KILOVOLT, MILLIMETRE

MICROGRAPH = "rlnMicrographName"
PIXEL_SIZE = "rlnMicrographPixelSize"
ORIGINAL_PIXEL_SIZE = "rlnMicrographOriginalPixelSize"  # of the movie; RELION asks for it
BLOCK, OPTICS = "micrographs", "optics"
_SCALARS = {
    "rlnVoltage": ("voltage", KILOVOLT),
    "rlnSphericalAberration": ("spherical_aberration", MILLIMETRE),
    "rlnAmplitudeContrast": ("amplitude_contrast", 1.0),
    PIXEL_SIZE: ("pixel_size", 1.0),
}
_OF_PARTICLES = ("rlnImageName", "rlnCoordinateX")


@dataclass(frozen=True)
class MicrographTable:
    """n micrographs: `table` has every column, `optics_index` [n] points into `optics`, whose `pixel_size` is that of the micrographs.

    `block` is the optics block as it was read, None if there was none; `others` are the other blocks of the file.
    """

    optics: tuple[OpticsGroup, ...]
    optics_index: np.ndarray
    table: Table
    block: Table | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.table[MICROGRAPH]]

    @property
    def group_numbers(self) -> np.ndarray:
        """The number of each optics group in the file: int64 [groups]."""
        return np.asarray(optics_table(self)[NUMBER], dtype=np.int64)

    def rows(self, selection: np.ndarray | slice) -> MicrographTable:
        """The selected micrographs, in the order given."""
        return replace(self, optics_index=self.optics_index[selection], table=self.table.rows(selection))

    def with_columns(self, columns: Mapping[str, Any]) -> MicrographTable:
        """With columns replaced, or added at the end."""
        return replace(self, table=self.table.with_columns(columns))


def micrograph_table(names: Sequence[str], optics: Sequence[OpticsGroup], optics_index: np.ndarray) -> MicrographTable:
    """A table of micrographs that no STAR file has named yet."""
    index = np.asarray(optics_index, dtype=np.int32)
    columns = {MICROGRAPH: np.array(list(names), dtype=object), NUMBER: index.astype(np.int64) + 1}
    return MicrographTable(tuple(optics), index, Table(columns))


def read_micrograph_table(path: str | os.PathLike[str]) -> MicrographTable:
    """The micrographs of a STAR file (`micrographs.star`, `corrected_micrographs.star`, old files of one block).

    Raises FormatProblem for a file of particles or movies, DataProblem for one without rows or with numbers that are none.
    """
    star = read_star(path)
    name = _micrograph_block(star, Path(path))
    table, block = star[name], star.get(OPTICS)
    assert isinstance(table, Table)
    if len(table) == 0:
        raise DataProblem(f"{path} has no micrographs in its block '{name}'", "at least one row")
    others = {key: content for key, content in star.items() if key not in (name, OPTICS)}
    if isinstance(block, Table) and NUMBER in block:
        groups = tuple(with_micrograph_pixel_size(group) for group in groups_of_block(block))
        return MicrographTable(groups, group_index(block, table), table, block, others)
    groups, index = groups_of_particles(table)
    modern = table.without(*OLD_PARTICLE_COLUMNS).with_columns({NUMBER: index.astype(np.int64) + 1})
    return MicrographTable(groups, index, modern, None, others)


def write_micrograph_table(path: str | os.PathLike[str], micrographs: MicrographTable) -> None:
    """As RELION 3.1 and later have it. What the optics groups know is brought up to date in the block as it was read."""
    if len(micrographs) == 0:
        raise DataProblem(f"no micrographs to write to {path}", "at least one")
    others = {name: block for name, block in micrographs.others.items() if name not in (OPTICS, BLOCK)}
    star = StarFile({OPTICS: optics_table(micrographs), BLOCK: micrographs.table, **others})
    star.version = "30001"
    write_star(path, star)


def with_micrograph_pixel_size(group: OpticsGroup) -> OpticsGroup:
    """The group as micrographs have it: its pixel size is that of the micrograph, of the image or of the movie, the first that is given."""
    known = (group.extra.get(PIXEL_SIZE), group.pixel_size, group.extra.get(ORIGINAL_PIXEL_SIZE))
    size = next((value for value in known if value is not None), None)
    if size is not None and not (isinstance(size, int | float) and np.isfinite(size)):
        raise DataProblem(f"the pixel size of optics group '{group.name}' is {size!r}", "a number")
    return replace(group, pixel_size=None if size is None or size == 0 else float(size))


def new_optics_block(groups: Sequence[OpticsGroup]) -> Table:
    """The optics block of micrographs, with the pixel size under the names that RELION looks for."""
    block, _ = optics_block(groups)
    if all(group.box is None for group in groups):
        block = block.without(DIMENSIONALITY)
    sizes = np.array([np.nan if group.pixel_size is None else rounded(group.pixel_size) for group in groups])
    return block.with_columns({PIXEL_SIZE: sizes, ORIGINAL_PIXEL_SIZE: sizes})


def optics_table(micrographs: MicrographTable) -> Table:
    """The optics block of these micrographs: as it was read, what the groups know brought up to date; a new one if there was none."""
    if micrographs.block is None:
        return new_optics_block([replace(group, box=None) for group in micrographs.optics])
    block, columns = micrographs.block, {}
    for name, (attribute, factor) in _SCALARS.items():
        values = [getattr(group, attribute) for group in micrographs.optics]
        if not all(value is None for value in values):
            columns[name] = np.array([np.nan if value is None else rounded(value / factor) for value in values])
    if ORIGINAL_PIXEL_SIZE not in block and PIXEL_SIZE in columns:
        columns[ORIGINAL_PIXEL_SIZE] = columns[PIXEL_SIZE]
    return block.with_columns(columns)


def _micrograph_block(star: StarFile, path: Path) -> str:
    tables = dict(star.tables())
    named = [name for name, table in tables.items() if MICROGRAPH in table]
    of_micrographs = [name for name in named if not any(column in tables[name] for column in _OF_PARTICLES)]
    if of_micrographs:
        return BLOCK if BLOCK in of_micrographs else of_micrographs[0]
    expected = f"a STAR file of micrographs, with a column {MICROGRAPH}"
    if named:
        raise FormatProblem(f"{path} lists particles", expected)
    if any("rlnMicrographMovieName" in table for table in tables.values()):
        raise FormatProblem(
            f"{path} lists movies", expected, "correct their motion first, or name the movies themselves"
        )
    raise FormatProblem(f"{path} lists no micrographs (its blocks: {', '.join(star) or 'none'})", expected)
