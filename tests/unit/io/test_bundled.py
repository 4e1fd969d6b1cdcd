"""The bundled models: what they hold, and the reduced form they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.bundled import (
    B_STEP,
    NAMES,
    STEP,
    bundled_file,
    bundled_source,
    load_bundled,
    read_reduced,
    reduce_atoms,
)
from vitreous.model.atoms import Atoms

MODELS = Path(__file__).resolve().parents[3] / "../shared/data/models"
SOURCES = {"6zu5": "6zu5.cif.gz", "4ake": "adk_open.pdb", "1ake": "adk_closed.pdb"}


def some_atoms(count: int = 500) -> Atoms:
    rng = np.random.default_rng(4)
    residue = np.sort(rng.integers(-5, 60, count))
    return Atoms(
        position=np.cumsum(rng.normal(0, 2, (count, 3)), axis=0) + 200,
        element=rng.choice(["C", "N", "ZN"], count),
        b_factor=rng.uniform(0, 200, count),
        occupancy=np.ones(count),
        chain=np.where(residue < 20, "A", "LONG"),
        residue_name=np.array(["GLY", "U"])[residue % 2],
        residue_number=residue,
    )


def test_reduced_form_keeps_all_but_rounding(tmp_path):
    atoms = some_atoms()
    reduce_atoms(atoms, tmp_path / "a.npz", citation="entry Å")
    back = read_reduced(tmp_path / "a.npz")
    assert np.abs(back.position - atoms.position).max() <= STEP / 2 + 1e-4  # and float32
    assert np.abs(back.b_factor - atoms.b_factor).max() <= B_STEP / 2 + 1e-4
    for name in ("element", "chain", "residue_name", "residue_number"):
        assert np.array_equal(getattr(back, name), getattr(atoms, name)), name
    assert (back.occupancy == 1).all()


def test_same_atoms_make_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        reduce_atoms(some_atoms(), tmp_path / name, citation="entry")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_bundled_models_are_small_and_cited(name):
    with bundled_file(name) as path:
        assert path.stat().st_size < 900_000
    assert "doi:10." in bundled_source(name) and "CC0" in bundled_source(name) and name.upper() in bundled_source(name)


def test_bundled_models_hold_what_the_entries_hold():
    ribosome, opened, closed = (load_bundled(name) for name in NAMES)
    assert len(ribosome) == 165_175 and len(np.unique(ribosome.chain)) == 74
    assert {e: int((ribosome.element == e).sum()) for e in ("P", "MG", "ZN")} == {"P": 3911, "MG": 179, "ZN": 8}
    assert len(opened) == len(closed) == 1656 and np.array_equal(opened.residue_number, closed.residue_number)
    # Open and closed differ by 7 A rms after superposition; bonded neighbours stay 1.2 to 1.6 A apart, so no difference
    # was mispacked.
    for atoms in (ribosome, opened, closed):
        step = np.linalg.norm(np.diff(atoms.position, axis=0), axis=1)
        assert 1.1 < np.median(step) < 2.6 and atoms.position.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_bundled_models_equal_their_source(name):
    if not MODELS.is_dir():
        pytest.skip(f"{MODELS} absent")
    from vitreous.io.atoms import read_atoms

    source, atoms = read_atoms(MODELS / SOURCES[name]), load_bundled(name)
    assert np.abs(source.position - atoms.position).max() <= STEP / 2 + 1e-4
    assert np.abs(source.b_factor - atoms.b_factor).max() <= B_STEP / 2 + 1e-4
    for column in ("element", "chain", "residue_name", "residue_number"):
        assert np.array_equal(getattr(source, column), getattr(atoms, column)), column


def test_what_cannot_be_read_or_kept_is_refused(tmp_path):
    with pytest.raises(FileProblem, match="one of 6zu5, 4ake, 1ake"):
        load_bundled("1abc")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(FormatProblem, match="reduced atomic model"):
        read_reduced(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(FormatProblem, match="no description"):
        read_reduced(tmp_path / "other.npz")
    atoms = some_atoms()
    with pytest.raises(DataProblem, match="partial occupancy"):
        reduce_atoms(Atoms(**{**vars(atoms), "occupancy": atoms.occupancy / 2}), tmp_path / "half.npz", citation="")
    assert not (tmp_path / "half.npz").exists()
