"""Atomic models that come with the program, so that it has something to work on where there is no file and no network.

A model is reduced to element, coordinates, B factor, chain and residue, quantised and packed (`data/README.md`).
Coordinates are rounded to 0.05 angstrom, an error of 0.014 angstrom rms along each axis, which attenuates amplitudes as
a B factor of 0.016 A^2 would; B factors are rounded to 1 A^2. Neighbouring atoms are bonded: differences between them
are small numbers and pack well.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.atomic import atomic_path
from vitreous.io.files import require_file
from vitreous.model.atoms import Atoms

NAMES = ("6zu5", "4ake", "1ake")
PREFIX = "bundled:"  # `bundled:6zu5` where a path of a model is expected
STEP = 0.05  # angstrom
B_STEP = 1.0  # angstrom^2
_VERSION = 1


def load_bundled(name: str) -> Atoms:
    """The atoms of a bundled model: "6zu5" (a ribosome), "4ake" or "1ake" (adenylate kinase, open and closed).

    Positions float32 in angstrom, in the frame of the PDB entry's file; occupancies are 1.
    """
    with bundled_file(name) as path:
        return read_reduced(path)


def bundled_source(name: str) -> str:
    """What a bundled model is and whom to cite for it, one line."""
    with bundled_file(name) as path:
        return _described(path)


@contextmanager
def bundled_file(name: str) -> Iterator[Path]:
    """The file of a bundled model, wherever the package is installed."""
    if name not in NAMES:
        raise FileProblem(f"no bundled model '{name}'", f"one of {', '.join(NAMES)}")
    with as_file(files("vitreous") / "data" / f"{name}.npz") as path:
        yield path


def reduce_atoms(atoms: Atoms, path: str | os.PathLike[str], *, citation: str) -> None:
    """Write atoms in the reduced form that `read_reduced` reads. `citation` is one line: entry, authors, journal, DOI,
    licence.

    Raises DataProblem for what the form does not keep: occupancies other than 1.
    """
    if not (atoms.occupancy == 1).all():
        raise DataProblem(
            "atoms of partial occupancy", "occupancy 1 throughout", "choose one alternative of each first"
        )
    symbols, element = np.unique(atoms.element.astype(str), return_inverse=True)
    start = _residue_starts(atoms)
    chains, chain = np.unique(atoms.chain[start].astype(str), return_inverse=True)
    residues, residue = np.unique(atoms.residue_name[start].astype(str), return_inverse=True)
    description = {
        "version": _VERSION,
        "citation": citation,
        "atoms": len(atoms),
        "step": STEP,
        "b_step": B_STEP,
        "elements": symbols.tolist(),
        "chains": chains.tolist(),
        "residues": residues.tolist(),
    }
    steps = np.rint(np.asarray(atoms.position, dtype=np.float64).T / STEP).astype(np.int64)
    columns = {
        "description": np.frombuffer(json.dumps(description).encode(), dtype=np.uint8),
        "position": _packed(steps),
        "b_factor": _packed(np.rint(atoms.b_factor / B_STEP)),
        "element": element.astype(np.uint8),
        "residue_length": np.diff([*start, len(atoms)]).astype(np.uint16),
        "residue_name": residue.astype(np.uint8),
        "residue_number": _packed(atoms.residue_number[start]),
        "chain": _packed(chain),
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, column in columns.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # with a fixed date: the same atoms make the same bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, column, allow_pickle=False)


def read_reduced(path: str | os.PathLike[str]) -> Atoms:
    """The atoms of a file that `reduce_atoms` wrote."""
    columns = _columns(path)
    description = _description(columns, path)
    length = columns["residue_length"].astype(np.int64)
    atoms = description["atoms"]

    def of_residue(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, length)

    return Atoms(
        position=(_unpacked(columns["position"]).T * description["step"]).astype(np.float32),
        element=np.array(description["elements"])[columns["element"]],
        b_factor=(_unpacked(columns["b_factor"]) * description["b_step"]).astype(np.float32),
        occupancy=np.ones(atoms, dtype=np.float32),
        chain=of_residue(np.array(description["chains"])[_unpacked(columns["chain"])]),
        residue_name=of_residue(np.array(description["residues"])[columns["residue_name"]]),
        residue_number=of_residue(_unpacked(columns["residue_number"])).astype(np.int32),
    )


def _described(path: Path) -> str:
    return _description(_columns(path), path)["citation"]


def _columns(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(require_file(path), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FormatProblem(
            f"{path} cannot be unpacked ({error})", "a reduced atomic model (.npz)", "install the package again"
        ) from None


def _description(columns: dict[str, np.ndarray], path: str | os.PathLike[str]) -> dict:
    if "description" not in columns:
        raise FormatProblem(f"{path} has no description", "a reduced atomic model (.npz)")
    description = json.loads(columns["description"].tobytes())
    if description.get("version") != _VERSION:
        raise FormatProblem(f"{path} is of version {description.get('version')}", f"version {_VERSION}")
    return description


def _residue_starts(atoms: Atoms) -> np.ndarray:
    """The rows at which chain, residue number or residue name change."""
    same = np.zeros(len(atoms), dtype=bool)
    columns = (atoms.chain, atoms.residue_number, atoms.residue_name)
    same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return np.flatnonzero(~same)


def _packed(values: np.ndarray) -> np.ndarray:
    """Differences along the last axis as unsigned numbers (0, -1, 1, -2, ... become 0, 1, 2, 3, ...), low bytes before
    high bytes.
    """
    whole = np.asarray(values, dtype=np.int64)
    steps = np.diff(whole, axis=-1, prepend=0)
    folded = np.where(steps < 0, -2 * steps - 1, 2 * steps)
    if folded.max() >= 1 << 16:
        raise DataProblem("neighbouring atoms too far apart", f"steps of less than {1 << 15}")
    return np.stack([folded & 255, folded >> 8]).astype(np.uint8)


def _unpacked(packed: np.ndarray) -> np.ndarray:
    folded = packed[0].astype(np.int64) | packed[1].astype(np.int64) << 8
    steps = np.where(folded & 1, -(folded + 1) // 2, folded // 2)
    return np.cumsum(steps, axis=-1)
