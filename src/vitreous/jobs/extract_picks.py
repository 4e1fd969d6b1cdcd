"""The picks that `extract` cuts out: one table of particles, from one STAR file, from one for each micrograph, or from a list of these.

one file            rlnMicrographName, rlnCoordinateX, rlnCoordinateY: `vitreous pick`, particle files of RELION and of this program
a list              RELION's autopick.star: rlnMicrographName and rlnMicrographCoordinates, the file of that micrograph's coordinates
several files       RELION's NAME_autopick.star, NAME_manualpick.star: coordinates alone; the name of the file says the micrograph
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.images import find_stack
from vitreous.io.micrograph_table import MICROGRAPH
from vitreous.io.micrographs import bare_name
from vitreous.io.relion_optics import NUMBER
from vitreous.io.star import StarFile, read_star
from vitreous.jobs.ctf_particles import X, Y
from vitreous.model.table import Table, TextColumn

COORDINATES = "rlnMicrographCoordinates"  # in a list: the file of a micrograph's coordinates
BLOCK, OPTICS = "particles", "optics"


def read_picks(paths: Sequence[Path], micrographs: Sequence[str] | None, datadir: Sequence[Path] = ()) -> StarFile:
    """One STAR file, in memory, with a row for each pick: its micrograph's name, its coordinates, and every column that all files have.

    `micrographs` are the names that coordinates without one may belong to. Files of lists are found from the list's folder, from those above it,
    here, or from `datadir`.

    Raises FormatProblem for files without coordinates, FileProblem for files that a list names and that are nowhere, DataProblem for no
    picks at all, for coordinates that belong to no micrograph, and for several files whose optics differ.
    """
    if len(paths) == 1:
        star = read_star(paths[0])
        listed = _listed(star, paths[0], datadir)
        if listed is None and _has_names(star):
            return star
        files = [(None, paths[0], star)] if listed is None else [(name, path, read_star(path)) for name, path in listed]
    else:
        files = [(None, path, read_star(path)) for path in paths]
    return _joined([_named(name, path, star, micrographs) for name, path, star in files])


def _listed(star: StarFile, path: Path, datadir: Sequence[Path]) -> list[tuple[str, Path]] | None:
    """(micrograph, file of its coordinates) of a list; None if the file is no list."""
    table = next((table for _, table in star.tables() if COORDINATES in table and MICROGRAPH in table), None)
    if table is None:
        return None
    found = []
    for micrograph, name in zip(table[MICROGRAPH], table[COORDINATES]):
        file = find_stack(str(name), path.parent, datadir)
        file = Path(str(name)) if file is None and Path(str(name)).is_file() else file
        if file is None:
            raise FileProblem(
                f"the coordinates '{name}', which {path} names, were not found beside it, above it, here, or in --datadir",
                "the coordinates of each micrograph",
                "give the folder that the names start from as --datadir",
            )
        found.append((str(micrograph), file))
    if not found:
        raise DataProblem(f"{path} lists no coordinates", "at least one micrograph")
    return found


def _has_names(star: StarFile) -> bool:
    return any(MICROGRAPH in table and X in table for _, table in star.tables())


def _named(
    name: str | None, path: Path, star: StarFile, micrographs: Sequence[str] | None
) -> tuple[Path, Table, Table | None]:
    """A file's coordinates with the name of their micrograph, and its optics block."""
    table = next((table for _, table in star.tables() if X in table and Y in table), None)
    if table is None and any(isinstance(block, Table) for block in star.values()):
        raise FormatProblem(f"{path} has no columns {X} and {Y}", "coordinates of particles")
    table = Table() if table is None else table  # RELION writes a block without columns where nothing was picked
    optics = star.get(OPTICS)
    if MICROGRAPH not in table and len(table):
        own = micrograph_of_file(path, micrographs) if name is None else name
        table = table.with_columns({MICROGRAPH: TextColumn(np.zeros(len(table), dtype=np.int32), (own,))})
    return path, table, optics if isinstance(optics, Table) else None


def micrograph_of_file(path: Path, micrographs: Sequence[str] | None) -> str:
    """The micrograph whose name a file of coordinates begins with: x.mrc for x.star and x_autopick.star; of several the longest.

    >>> micrograph_of_file(Path("pick/mic_1_autopick.star"), ["raw/mic.mrc", "raw/mic_1.mrc"])
    'raw/mic_1.mrc'
    """
    if not micrographs:
        raise DataProblem(
            f"{path} does not name the micrograph of its coordinates", f"a column {MICROGRAPH}", "give --micrographs"
        )
    stem = path.stem
    fits = [name for name in micrographs if stem == bare_name(name) or stem.startswith(f"{bare_name(name)}_")]
    longest = max((len(bare_name(name)) for name in fits), default=0)
    best = [name for name in fits if len(bare_name(name)) == longest]
    if len(best) == 1:
        return best[0]
    raise DataProblem(
        f"{path} begins with the name of {len(best) or 'no'} micrograph{'s' * (len(best) != 1)}",
        "one, such as x.mrc for x_autopick.star",
        "name the micrographs in the file",
    )


def _joined(parts: Sequence[tuple[Path, Table, Table | None]]) -> StarFile:
    filled = [(path, table) for path, table, _ in parts if len(table)]
    if not filled:
        raise DataProblem(
            f"no coordinates in {parts[0][0]}" + f" and {len(parts) - 1} more" * (len(parts) > 1), "at least one"
        )
    common = [name for name in filled[0][1] if all(name in table for _, table in filled)]
    for path, table in filled:
        if not {MICROGRAPH, X, Y} <= set(table):
            raise FormatProblem(f"{path} has no columns {X} and {Y}", "coordinates of particles")
    star = StarFile({BLOCK: Table({name: _column([table[name] for _, table in filled]) for name in common})})
    optics = [block for _, table, block in parts if block is not None and len(table)]
    if optics:
        if any(not _same(optics[0], block) for block in optics[1:]) or len(optics) < len(filled):
            raise DataProblem(
                "files of coordinates with different optics blocks",
                "one optics block",
                "extract them one after the other",
            )
        star = StarFile({OPTICS: optics[0], **star})
    elif NUMBER in star[BLOCK]:
        star[BLOCK] = star[BLOCK].without(NUMBER)  # type: ignore[union-attr]
    return star


def _column(pieces: Sequence[np.ndarray | TextColumn]) -> np.ndarray:
    """The pieces one after the other; as text if any of them is text."""
    arrays = [np.asarray(piece) for piece in pieces]
    if any(array.dtype == object for array in arrays):
        arrays = [np.array([str(value) for value in array.tolist()], dtype=object) for array in arrays]
    return np.concatenate(arrays)


def _same(left: Table, right: Table) -> bool:
    return left.names == right.names and all(
        np.array_equal(np.asarray(left[name]), np.asarray(right[name])) for name in left
    )
