"""Atoms: an atomic model as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.errors import DataProblem


@dataclass(frozen=True)
class Atoms:
    """n atoms: `position` [n, 3] (x, y, z) in angstrom, `element` [n] symbols ("C", "CA", "ZN" upper case),
    `b_factor` [n] in angstrom^2, `occupancy` [n], and the names of chain and residue."""

    position: np.ndarray
    element: np.ndarray
    b_factor: np.ndarray
    occupancy: np.ndarray
    chain: np.ndarray
    residue_name: np.ndarray
    residue_number: np.ndarray

    def __post_init__(self) -> None:
        if len(self.position) == 0:
            raise DataProblem("a structure without atoms", "at least one atom")
        if len({len(getattr(self, name)) for name in self.__dataclass_fields__}) != 1:
            raise DataProblem("atom columns of different lengths", "one row per atom in each")

    def __len__(self) -> int:
        return len(self.position)

    def rows(self, selection: np.ndarray | slice) -> Atoms:
        return Atoms(**{name: getattr(self, name)[selection] for name in self.__dataclass_fields__})
