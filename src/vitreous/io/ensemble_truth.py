"""The truth of a simulated ensemble: which conformation each particle has, and the map of each conformation.

particles.star       of each particle `vitreousConformation`, the row of its conformation, from 1, and
                     `vitreousConformationValue`, the coordinate of it; poses and CTFs are the true ones
conformations.star   block `ensemble`: what kind it is; block `conformations`: a row for each conformation
conformations/       their maps, 001.mrc, 002.mrc, ..., on the grid and the scale of the images
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem
from vitreous.io.files import require_file
from vitreous.io.particles import read_particles
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.model.table import Table

PARTICLES, CONFORMATIONS, MAPS = "particles.star", "conformations.star", "conformations"
INDEX, VALUE, NAME = "vitreousConformation", "vitreousConformationValue", "vitreousConformationName"
POPULATION, MAP, KIND = "vitreousConformationPopulation", "rlnReferenceImage", "vitreousEnsembleKind"


@dataclass(frozen=True)
class EnsembleTruth:
    """k conformations and the n particles that have them.

    `kind` says what the coordinate is: hinge (an angle in degrees), path (the fraction of the way, 0 to 1), mixture (the number of
    the species, from 1). `values` [k] are the coordinates of the conformations, `names` and `maps` what they are called and the files
    of their maps, `populations` [k] the expected shares of the particles, which add up to 1. `index` [n] is the conformation of each
    particle, from 0.
    """

    kind: str
    values: np.ndarray
    names: tuple[str, ...]
    maps: tuple[Path, ...]
    populations: np.ndarray
    index: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.values)
        if count == 0 or {len(self.names), len(self.maps), len(self.populations)} != {count}:
            raise DataProblem(
                f"{count} values, {len(self.names)} names, {len(self.maps)} maps and {len(self.populations)} populations of conformations",
                "as many of each, at least one",
            )
        if len(self.index) and not (self.index.min() >= 0 and self.index.max() < count):
            raise DataProblem(
                f"particles of the conformations {self.index.min() + 1} to {self.index.max() + 1}", f"1 to {count}"
            )

    def __len__(self) -> int:
        """k, the number of conformations."""
        return len(self.values)

    @property
    def particle_values(self) -> np.ndarray:
        """The coordinate of each particle [n]."""
        return self.values[self.index]


def map_name(number: int) -> str:
    """Where the map of conformation `number`, from 1, lies in the folder of the ensemble.

    >>> map_name(7)
    'conformations/007.mrc'
    """
    return f"{MAPS}/{number:03d}.mrc"


def particle_columns(truth: EnsembleTruth) -> dict[str, np.ndarray]:
    """The columns of the particle file that hold the truth, to be added to `Particles.table`."""
    return {INDEX: truth.index.astype(np.int64) + 1, VALUE: np.asarray(truth.particle_values, dtype=np.float64)}


def write_conformations(folder: Path, truth: EnsembleTruth) -> None:
    """Write conformations.star into the folder. The maps, and the particle file with `particle_columns`, are for the caller to write."""
    names = [path.resolve().relative_to(folder.resolve()).as_posix() for path in truth.maps]
    table = Table(
        {
            NAME: np.array(truth.names, dtype=object),
            VALUE: np.asarray(truth.values, dtype=np.float64),
            POPULATION: np.asarray(truth.populations, dtype=np.float64),
            MAP: np.array(names, dtype=object),
        }
    )
    write_star(folder / CONFORMATIONS, StarFile({"ensemble": {KIND: truth.kind}, "conformations": table}))


def read_truth(path: str | os.PathLike[str]) -> EnsembleTruth:
    """The truth of the ensemble in a folder, or of a particle file in such a folder (the whole one, or a selection of it).

    Raises FileProblem for what is missing, maps included, and DataProblem for files that hold no truth or do not belong together.
    """
    path = Path(path)
    folder, file = (path, path / PARTICLES) if path.is_dir() else (path.parent, path)
    table = read_particles(require_file(file), load_images=False).table
    star = read_star(require_file(folder / CONFORMATIONS))
    kind, rows = star.get("ensemble", {}), star.get("conformations")
    for name, block, columns in ((file, table, (INDEX, VALUE)), (folder / CONFORMATIONS, rows, (VALUE, NAME, MAP))):
        missing = columns if not isinstance(block, Table) else [column for column in columns if column not in block]
        if missing:
            raise DataProblem(
                f"{name} has no column {missing[0]}",
                "the truth of a simulated ensemble",
                "give a folder that `vitreous simulate ensemble` has written",
            )
    assert isinstance(rows, Table)
    truth = EnsembleTruth(
        kind=str(kind[KIND]) if KIND in kind else "",
        values=_numbers(rows, VALUE, folder / CONFORMATIONS),
        names=tuple(str(name) for name in rows[NAME]),
        maps=tuple(require_file(folder / str(name)) for name in rows[MAP]),
        populations=_numbers(rows, POPULATION, folder / CONFORMATIONS)
        if POPULATION in rows
        else np.full(len(rows), 1 / max(1, len(rows))),
        index=_numbers(table, INDEX, file).astype(np.int64) - 1,
    )
    wrong = np.abs(_numbers(table, VALUE, file) - truth.particle_values) > 1e-6 * max(1.0, np.abs(truth.values).max())
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataProblem(
            f"row {row + 1} of {file} has the value {table[VALUE][row]:g}, its conformation {truth.particle_values[row]:g}",
            "the same",
            "the particle file belongs to another ensemble",
        )
    return truth


def _numbers(table: Table, name: str, file: Path) -> np.ndarray:
    try:
        values = np.asarray(table[name], dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise DataProblem(f"the column {name} of {file} holds what is no number", "a number in each row")
    return values
