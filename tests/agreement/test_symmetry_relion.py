"""Point groups against RELION 3.1.3: the operators that it prints and the equivalent orientations that it writes.

The numbers, their version and commands are in `relion_symmetry.txt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.geometry import rotations as rot
from vitreous.geometry.symmetry import point_group

STORED = Path(__file__).with_name("relion_symmetry.txt")
GROUPS = ["C4", "D2", "D3", "D7", "T", "O", "I", "I1", "I2", "I3", "I4"]
EXPANDED = ["D3", "D7", "T", "O", "I1", "I3", "I4"]
# RELION builds the groups from axes with six digits and prints six digits: operators are good to 2e-5. Other settings
# differ by 0.1 and more.
PRINTED = 3e-5


def stored(kind: str, group: str) -> np.ndarray:
    rows = [line.split() for line in STORED.read_text().splitlines() if not line.startswith("#")]
    angles = [[float(value) for value in row[2:]] for row in rows if row[:2] == [kind, group]]
    return rot.matrix_from_euler(np.radians(angles))


def largest_mismatch(first: np.ndarray, second: np.ndarray) -> float:
    """How far the farthest member of either set is from the other set."""
    distance = np.abs(first[:, None] - second[None]).max(axis=(2, 3))
    return float(max(distance.min(axis=0).max(), distance.min(axis=1).max()))


@pytest.mark.parametrize("name", GROUPS)
def test_operators_are_those_that_relion_prints(name):
    theirs = np.concatenate([np.eye(3)[None], stored("operator", name)])
    ours = point_group(name).operators
    assert len(theirs) == len(ours)
    assert largest_mismatch(ours, theirs) < PRINTED


@pytest.mark.parametrize("name", EXPANDED)
def test_equivalent_orientations_are_those_that_relion_writes(name):
    matrix = rot.matrix_from_euler(np.radians([33.1, 71.7, -128.4]))
    theirs = stored("expand", name)
    ours = point_group(name).equivalents(matrix)
    assert len(theirs) == len(ours)
    assert largest_mismatch(ours, theirs) < PRINTED
    # On the image's side, S @ R, the same operators give other orientations.
    assert largest_mismatch(point_group(name).operators @ matrix, theirs) > 0.1


def test_settings_that_differ_are_told_apart():
    for first, second in (("I1", "I2"), ("I3", "I4"), ("I2", "I3")):
        theirs = np.concatenate([np.eye(3)[None], stored("operator", second)])
        assert largest_mismatch(point_group(first).operators, theirs) > 0.1
