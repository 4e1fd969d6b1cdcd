"""Atomic models: mmCIF and PDB files, plain or gzipped, read through gemmi into `Atoms`."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.io.atom_choices import AtomTable, Ions
from vitreous.io.atom_fields import mend_block, mend_pdb
from vitreous.io.files import require_file
from vitreous.model.atoms import Atoms

if TYPE_CHECKING:
    import gemmi

NCS, UNIT_CELL = "ncs", "unit_cell"  # what can be made of a file beside the assemblies that it names


@dataclass(frozen=True)
class AtomicModel:
    """The atoms of a file, and what was chosen or found missing on the way, one sentence each."""

    atoms: Atoms
    notes: tuple[str, ...] = ()


def read_atoms(
    path: str | os.PathLike[str],
    *,
    waters: bool = True,
    model: int | None = None,
    assembly: str | None = None,
    ions: Ions | str = Ions.REFUSE,
) -> Atoms:
    """The atoms of an mmCIF or PDB file: `read_atomic_model` without its notes."""
    return read_atomic_model(path, waters=waters, model=model, assembly=assembly, ions=ions).atoms


def read_atomic_model(
    path: str | os.PathLike[str],
    *,
    waters: bool = True,
    model: int | None = None,
    assembly: str | None = None,
    ions: Ions | str = Ions.REFUSE,
) -> AtomicModel:
    """The atoms of an mmCIF or PDB file (.gz too), told apart by content.

    Of an ensemble `model` (its number in the file) is taken, by default the first. Of alternative positions of a
    residue the one with the highest occupancy stays, the first if they are equal, so that no atom is there twice; so
    does the most occupied of different residues that share a place. Hydrogens come as they are in the file;
    `waters=False` leaves out water. A file without any B factor gives 0 for all.

    `assembly`: None, the atoms as they stand in the file; the name of an assembly that the file describes ("1");
    "ncs", with the copies that its non-crystallographic symmetry makes; "unit_cell", all copies of one cell of the
    crystal. Copies get chain names of their own.

    An ion is an atom that is a residue by itself and carries a formal charge: it has no factor of a neutral atom.
    `ions="neutral"` takes that factor all the same, "omit" leaves ions out. Charges of bonded groups count as bonded.

    Raises FileProblem, FormatProblem (neither format), DataProblem (no atoms; by name: elements that are not known and
    ions; coordinates, occupancies or B factors that are not numbers or partly missing) and SettingsProblem for a model
    or an assembly that the file does not have.
    """
    path = require_file(path)
    structure, no_b_factors = _structure(path, _text(path))
    if not any(len(chain) for entry in structure for chain in entry):
        raise DataProblem(f"{path} holds no atoms", "an atomic model")
    notes = [_choose_model(structure, model, path)]
    notes += [_expand(structure, assembly, path)]
    table = AtomTable(structure)
    if not waters:
        table.leave_out_waters()
    notes += [table.choose_ions(ions, path), table.choose_alternatives()]
    atoms = table.atoms(path)
    if no_b_factors or not atoms.b_factor.any():
        atoms = replace(atoms, b_factor=np.zeros(len(atoms)))
        how = "gives no B factors" if no_b_factors else "gives the B factor 0 for all atoms"
        notes.append(f"{path.name} {how}: every atom is as sharp as at rest")
    return AtomicModel(atoms, tuple(note for note in notes if note))


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


def _structure(path: Path, text: str) -> tuple[gemmi.Structure, bool]:
    """The structure, and whether its B factors are missing."""
    import gemmi

    try:
        if any(line.startswith("data_") for line in text[:100000].splitlines()):
            block = gemmi.cif.read_string(text).sole_block()
            no_b_factors = mend_block(block, path)
            return gemmi.make_structure_from_block(block), no_b_factors
        if any(line.startswith(("ATOM", "HETATM")) for line in text.splitlines()):
            text, no_b_factors = mend_pdb(text, path)
            return gemmi.read_pdb_string(text), no_b_factors
    except (ValueError, RuntimeError, IndexError) as error:
        raise FormatProblem(f"{path} cannot be read as an atomic model ({error})", "an mmCIF or PDB file") from None
    raise FormatProblem(f"{path} is neither mmCIF nor PDB", "a file with 'data_' or ATOM lines")


def _choose_model(structure: gemmi.Structure, wanted: int | None, path: Path) -> str:
    """Leave only the wanted model of an ensemble; say which, if there was a choice."""
    numbers = [entry.num for entry in structure]
    if wanted is not None and wanted not in numbers:
        have = (
            f"model {numbers[0]}" if len(numbers) == 1 else f"one of its {len(numbers)}, {numbers[0]} to {numbers[-1]}"
        )
        raise SettingsProblem(f"model {wanted} of {path}", have)
    chosen = 0 if wanted is None else numbers.index(wanted)
    for index in reversed(range(len(numbers))):
        if index != chosen:
            del structure[index]
    return f"model {numbers[chosen]} of {len(numbers)} in {path.name}" if len(numbers) > 1 else ""


def _expand(structure: gemmi.Structure, assembly: str | None, path: Path) -> str:
    """Replace the atoms by those of an assembly or of a cell, in place; say what was done."""
    import gemmi

    if assembly is None:
        return ""
    how, before = gemmi.HowToNameCopiedChain.AddNumber, len(structure[0])
    copies = {entry.name for entry in structure.assemblies}
    if any(not operator.given for operator in structure.ncs):
        copies.add(NCS)
    if structure.cell.is_crystal() and structure.find_spacegroup() is not None:
        copies.add(UNIT_CELL)
    if assembly not in copies:
        what = ", ".join(sorted(copies)) if copies else "none: it describes neither an assembly nor a crystal"
        raise SettingsProblem(f"assembly '{assembly}' of {path}", f"one that the file describes ({what})")
    if assembly == NCS:
        structure.expand_ncs(how)
    else:
        structure.transform_to_assembly(assembly, how)
    return f"assembly '{assembly}' of {path.name}: {before} chains became {len(structure[0])}"
