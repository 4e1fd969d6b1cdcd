"""Parts of a model by name."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.model.atoms import Atoms
from vitreous.specimen.atom_selection import selected_atoms


@pytest.fixture
def atoms() -> Atoms:
    """Chains A (residues -2 to 3), B (1 to 3) and SX (1), an atom each."""
    chain = np.array(["A"] * 6 + ["B"] * 3 + ["SX"])
    number = np.array([-2, -1, 0, 1, 2, 3, 1, 2, 3, 1])
    count = len(chain)
    return Atoms(
        np.zeros((count, 3)), np.full(count, "C"), np.zeros(count), np.ones(count), chain, np.full(count, "ALA"), number
    )


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("A", [0, 1, 2, 3, 4, 5]),
        ("A:2", [4]),
        ("A:-1-1", [1, 2, 3]),
        ("A:-2--1", [0, 1]),
        ("A:3,B:1-2", [5, 6, 7]),
        ("?", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("S*", [9]),
        ("*,-A,-B:2", [6, 8, 9]),
        ("*, -A", [6, 7, 8, 9]),
        ("A,-A:1-3,A:2", [0, 1, 2, 4]),
    ],
)
def test_a_text_names_these_atoms(atoms, text, rows):
    assert np.flatnonzero(selected_atoms(atoms, text)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C", "no chain C; expected of the chains A, B, SX"),
        ("A:7-9", "no residue of A:7-9; expected numbers from -2 to 3"),
        ("A,-A", "leaves no atom"),
        ("", "expected chains and residues such as"),
        ("A:x", "expected chains and residues such as"),
        ("A B", "expected chains and residues such as"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(atoms, text, message):
    with pytest.raises(SettingsProblem, match=message.replace("*", r"\*")) as caught:
        selected_atoms(atoms, text)
    assert "\n" not in caught.value.line()
