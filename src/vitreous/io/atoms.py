"""Atomic models: mmCIF and PDB files, plain or gzipped, read through gemmi into `Atoms`."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.files import require_file
from vitreous.model.atoms import Atoms

if TYPE_CHECKING:
    import gemmi

_WATER = frozenset(["HOH", "DOD", "WAT", "H2O"])


def read_atoms(path: str | os.PathLike[str], *, waters: bool = True) -> Atoms:
    """The atoms of an mmCIF or PDB file (.gz too), told apart by content.

    Of an ensemble the first model is taken. Of alternative positions of a residue the one with the highest occupancy
    stays, the first if they are equal, so that no atom is there twice. Hydrogens come as they are in the file;
    `waters=False` leaves out water.

    Raises FileProblem, FormatProblem (neither format) and DataProblem (no atoms, an element that is not known, no
    finite coordinates).
    """
    path = require_file(path)
    structure = _structure(path, _text(path))
    if len(structure) == 0:
        raise DataProblem(f"{path} holds no atoms", "an atomic model")
    residues = [
        (chain.name, residue)
        for chain in structure[0]
        for residue in _residues(chain)
        if waters or residue.name not in _WATER
    ]
    rows = [row for name, residue in residues for row in _residue_rows(path, name, residue)]
    if not rows:
        raise DataProblem(f"{path} holds no atoms", "an atomic model")
    position, element, b_factor, occupancy, chain, residue_name, residue_number = zip(*rows)
    atoms = Atoms(
        position=np.array(position, dtype=np.float64),
        element=np.array(element),
        b_factor=np.array(b_factor, dtype=np.float64),
        occupancy=np.array(occupancy, dtype=np.float64),
        chain=np.array(chain),
        residue_name=np.array(residue_name),
        residue_number=np.array(residue_number, dtype=np.int32),
    )
    for name in ("position", "b_factor", "occupancy"):
        if not np.isfinite(getattr(atoms, name)).all():
            raise DataProblem(f"{path} has atoms whose {name.replace('_', ' ')} is not a number", "finite numbers")
    return atoms


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise FileProblem(f"{path} cannot be unpacked ({error})", "a whole gzip file", "copy it again") from None
    if b"\0" in content[:4096]:
        raise FormatProblem(f"{path} is a binary file", "an mmCIF or PDB file")
    return (
        content.decode("latin-1").encode("ascii", "replace").decode()
    )  # names of atoms are ASCII; PDB columns count bytes


def _structure(path: Path, text: str) -> gemmi.Structure:
    import gemmi

    try:
        if any(line.startswith("data_") for line in text[:100000].splitlines()):
            return gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
        if any(line.startswith(("ATOM", "HETATM")) for line in text.splitlines()):
            return gemmi.read_pdb_string(text)
    except (ValueError, RuntimeError, IndexError) as error:
        raise FormatProblem(f"{path} cannot be read as an atomic model ({error})", "an mmCIF or PDB file") from None
    raise FormatProblem(f"{path} is neither mmCIF nor PDB", "a file with 'data_' or ATOM lines")


def _residues(chain: gemmi.Chain) -> Iterator[gemmi.Residue]:
    """The residues, and where several share one place (different amino acids as alternatives) the most occupied of
    them."""
    for _, group in itertools.groupby(chain, key=lambda residue: (residue.seqid.num, residue.seqid.icode)):
        residues = list(group)
        if len(residues) > 1 and all(atom.altloc != "\0" for residue in residues for atom in residue):
            residues = [max(residues, key=lambda residue: np.mean([atom.occ for atom in residue]))]
        yield from residues


def _residue_rows(path: Path, chain: str, residue: gemmi.Residue) -> list[tuple[Any, ...]]:
    kept = _best_conformer(residue)
    rows = []
    for atom in residue:
        if atom.altloc not in ("\0", kept):
            continue
        if atom.element.name == "X":
            raise DataProblem(
                f"{path}: atom {atom.name} of {residue.name} {residue.seqid} in chain {chain} has no known element",
                "an element symbol",
            )
        position = atom.pos.x, atom.pos.y, atom.pos.z
        rows.append(
            (position, atom.element.name.upper(), atom.b_iso, atom.occ, chain, residue.name, residue.seqid.num or 0)
        )
    return rows


def _best_conformer(residue: gemmi.Residue) -> str:
    """The label of the alternative with the highest mean occupancy, the first of equals."""
    occupancies: dict[str, list[float]] = {}
    for atom in residue:
        if atom.altloc != "\0":
            occupancies.setdefault(atom.altloc, []).append(atom.occ)
    return max(occupancies, key=lambda label: float(np.mean(occupancies[label])), default="\0")
