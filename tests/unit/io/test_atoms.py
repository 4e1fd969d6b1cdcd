"""Atomic models from mmCIF and PDB."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.atoms import read_atoms

SHARED = Path(__file__).resolve().parents[3] / "../shared/data/models"

PDB = """\
MODEL        1
ATOM      1  N   MET A   1      27.340  24.430   2.614  1.00  9.67           N
ATOM      2  CA AMET A   1      26.266  25.413   2.842  0.40 10.38           C
ATOM      3  CA BMET A   1      26.913  26.639   3.531  0.60  9.62           C
ATOM      4  H   MET A   1      26.913  27.639   3.531  1.00  9.62           H
ATOM      5  CB ASER B   2      10.000  11.000  12.000  0.30  1.00           C
ATOM      6  CB BTHR B   2      13.000  14.000  15.000  0.70  2.00           C
HETATM    7 ZN    ZN A 101      25.112  24.880   3.649  0.50 13.79          ZN
HETATM    8  O   HOH A 201      -5.112  -4.880  -3.649  1.00 20.00           O
ENDMDL
MODEL        2
ATOM      1  N   MET A   1      99.340  24.430   2.614  1.00  9.67           N
ENDMDL
END
"""


def write(tmp_path, text: str, name: str = "model.pdb") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_pdb(tmp_path):
    """First model, best alternatives (of an atom and of a residue), hydrogens and waters as they come."""
    atoms = read_atoms(write(tmp_path, PDB))
    assert sorted(
        zip(atoms.element.tolist(), atoms.residue_name.tolist(), atoms.occupancy.round(6).tolist())
    ) == sorted(
        [
            ("N", "MET", 1.0),
            ("C", "MET", 0.6),
            ("H", "MET", 1.0),
            ("C", "THR", 0.7),
            ("ZN", "ZN", 0.5),
            ("O", "HOH", 1.0),
        ]
    )
    zinc = atoms.rows(atoms.element == "ZN")
    assert (
        zinc.position.tolist() == [[25.112, 24.88, 3.649]]
        and zinc.b_factor.tolist() == [pytest.approx(13.79)]
        and zinc.residue_number.tolist() == [101]
    )
    assert set(atoms.chain) == {"A", "B"}
    assert len(read_atoms(write(tmp_path, PDB), waters=False)) == 5


def test_first_of_equal_alternatives(tmp_path):
    atoms = read_atoms(write(tmp_path, PDB.replace("0.40 10.38", "0.60 10.38")))
    assert atoms.position[atoms.element == "C"][0].tolist() == [26.266, 25.413, 2.842]


def test_gzip_and_suffix_do_not_matter(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(gzip.compress(PDB.encode()))
    assert len(read_atoms(path)) == 6
    path.write_bytes(gzip.compress(PDB.encode())[:-9])
    with pytest.raises(FileProblem, match="whole gzip file"):
        read_atoms(path)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("hello\n", FormatProblem, "neither mmCIF nor PDB"),
        ("data_x\n_a 1\n", DataProblem, "no atoms"),
        ("data_x\n_a\n", FormatProblem, "cannot be read as an atomic model"),
        ("data_x\n_a 1\ndata_y\n_b 2\n", FormatProblem, "cannot be read as an atomic model"),
        (
            PDB.replace("13.79          ZN", "13.79          QQ").replace("HETATM    7 ZN ", "HETATM    7 QQ "),
            DataProblem,
            "atom QQ of ZN 101 in chain A has no known element",
        ),
        ("ATOM" + "\0" * 100, FormatProblem, "binary"),
    ],
)
def test_refusals(tmp_path, text, error, words):
    with pytest.raises(error, match=words):
        read_atoms(write(tmp_path, text))


def test_real_models():
    if not SHARED.exists():
        pytest.skip("the shared data folder is absent")
    opened = read_atoms(SHARED / "adk_open.pdb")
    assert len(opened) == 1656 and set(opened.element) == {"C", "N", "O", "S"}
    trajectory = np.load(SHARED / "adk_dims.npz")
    assert opened.element.tolist() == [name.upper() for name in trajectory["element"].tolist()]
    assert np.array_equal(opened.residue_number, trajectory["residue_number"])
    ribosome = read_atoms(SHARED / "6zu5.cif.gz")
    assert len(ribosome) == 165_175 and len(set(ribosome.chain)) == 74
    expected = [line.split("\t") for line in (SHARED / "6zu5_chains.tsv").read_text().splitlines()[1:]]
    names, counts = np.unique(ribosome.chain, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist())) == {row[0]: int(row[1]) for row in expected}
