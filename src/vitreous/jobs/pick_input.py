"""What the job `pick` looks at: one item a micrograph, with its optics and its CTF where a STAR file gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.io.micrograph_table import MicrographTable, micrograph_table, read_micrograph_table
from vitreous.io.micrographs import Kind, MicrographFile, bare_name, find_micrograph, open_micrograph
from vitreous.jobs.ctf_input import SAME, unique_names
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.table import Table
from vitreous.units import DEGREE

DEFOCUS = "rlnDefocusU"


@dataclass(frozen=True)
class PickItem:
    """One micrograph. `name` is unique and what its files are called, `micrograph` what STAR files call it; `path` the file, None if it
    was not found, and `missing` then says where it should have been. `pixel_size` None: the header's. `ctf` is one row, None if no
    CTF is known; `no_ctf` says why one that the file should have cannot be used.
    """

    name: str
    micrograph: str
    path: Path | None
    group: OpticsGroup
    pixel_size: float | None
    ctf: CtfParameters | None = None
    no_ctf: str = ""
    missing: str = ""

    def open(self) -> MicrographFile:
        """The file, as far as its header says. Raises as `open_micrograph`; FileProblem if it was not found, DataProblem for a spectrum."""
        if self.path is None:
            raise FileProblem(
                f"'{self.micrograph}' was not found {self.missing}",
                "a file",
                "give the folder that its name starts from as --datadir",
            )
        file = open_micrograph(self.path, pixel_size=self.pixel_size)
        if file.kind is Kind.SPECTRUM:
            raise DataProblem(f"{self.path} is a stored spectrum", "a micrograph")
        return file


@dataclass(frozen=True)
class PickInput:
    """All micrographs, the STAR file that they come from and its table (None for plain files), and what a person should know."""

    items: tuple[PickItem, ...]
    star: Path | None = None
    table: MicrographTable | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def has_ctf(self) -> bool:
        """Whether the file gives CTFs."""
        return self.table is not None and DEFOCUS in self.table.table


def read_pick_input(
    micrographs: Sequence[Path], *, pixel_size: float | None = None, datadir: Path | None = None
) -> PickInput:
    """From a STAR file of micrographs, or from any number of plain files.

    Raises SettingsProblem for a mixture, FileProblem if nothing was found, and what readers of STAR files raise.
    """
    stars = [path for path in micrographs if path.suffix.lower() == ".star"]
    if not stars:
        names = unique_names([bare_name(path) for path in micrographs])
        return PickInput(
            tuple(PickItem(name, str(path), path, OpticsGroup(), pixel_size) for name, path in zip(names, micrographs))
        )
    if len(micrographs) > 1:
        raise SettingsProblem(
            f"{stars[0]} among {len(micrographs)} files",
            "one STAR file alone, or micrographs",
            "run the command once for each",
        )
    return _star_input(stars[0], pixel_size, datadir)


def _star_input(star: Path, pixel_size: float | None, datadir: Path | None) -> PickInput:
    table = read_micrograph_table(star)
    notes = []
    if pixel_size is not None:
        groups = []
        for group in table.optics:
            if group.pixel_size is not None and abs(pixel_size / group.pixel_size - 1) > SAME:
                notes.append(
                    f"--pixel-size {pixel_size:g} was used instead of the {group.pixel_size:g} A of optics group '{group.name}' of {star}."
                )
            groups.append(replace(group, pixel_size=pixel_size))
        table = replace(table, optics=tuple(groups))
    folders = () if datadir is None else (datadir,)
    names = unique_names([bare_name(name) for name in table.names])
    items = []
    for row, (name, micrograph) in enumerate(zip(names, table.names)):
        group = table.optics[int(table.optics_index[row])]
        ctf, no_ctf = ctf_of_row(table.table, row)
        items.append(
            PickItem(
                name,
                micrograph,
                find_micrograph(micrograph, star.parent, folders),
                group,
                group.pixel_size,
                ctf,
                no_ctf,
                f"beside {star}, above it, here, or in --datadir",
            )
        )
    if all(item.path is None for item in items):
        raise FileProblem(
            f"none of the {len(items)} files that {star} names was found, the first of them '{items[0].micrograph}'",
            "the files beside it, above it, here, or in --datadir",
        )
    return PickInput(tuple(items), star, table, tuple(notes))


def ctf_of_row(table: Table, row: int) -> tuple[CtfParameters | None, str]:
    """The CTF of one row of a table of micrographs, or why there is none: "" if the table knows no CTFs at all."""
    if DEFOCUS not in table:
        return None, ""
    values = {}
    for name in (DEFOCUS, "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor"):
        if name in table:
            try:
                values[name] = float(table[name][row])
            except (TypeError, ValueError):
                values[name] = np.nan
            if not np.isfinite(values[name]):
                return None, f"its CTF is not known: {name} is {table[name][row]}"
    u = values[DEFOCUS]
    parameters = CtfParameters.of(
        u,
        values.get("rlnDefocusV", u),
        values.get("rlnDefocusAngle", 0.0) * DEGREE,
        phase_shift=values.get("rlnPhaseShift", 0.0) * DEGREE,
        b_factor=values.get("rlnCtfBfactor", 0.0),
        scale=values.get("rlnCtfScalefactor", 1.0),
    )
    return parameters, ""


def table_of_items(given: PickInput, pixel_sizes: Sequence[float | None]) -> MicrographTable:
    """The STAR file's table, or one of plain files: one optics group for each pixel size. `pixel_sizes` are those of the items, None where
    a file could not be read; pixel sizes that only headers know are filled in.
    """
    usual = next((size for size in pixel_sizes if size is not None), None)
    if given.table is None:
        known = [usual if size is None else size for size in pixel_sizes]
        sizes = list(dict.fromkeys(None if size is None else round(size, 6) for size in known))
        groups = [OpticsGroup(f"opticsGroup{number}", pixel_size=size) for number, size in enumerate(sizes, 1)]
        index = np.array([sizes.index(None if size is None else round(size, 6)) for size in known])
        return micrograph_table([item.micrograph for item in given.items], groups, index)
    groups = list(given.table.optics)
    for index, size in zip(given.table.optics_index.tolist(), pixel_sizes):
        if groups[index].pixel_size is None and size is not None:
            groups[index] = replace(groups[index], pixel_size=size)
    return replace(given.table, optics=tuple(groups))
