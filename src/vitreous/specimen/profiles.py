"""Atoms as sums of Gaussians: what all grids of a potential are made from.

    V_j(k) = occupancy_j * sum_g amplitude[kind_j, g] exp(-(width[kind_j, g] + B_j) k^2 / 4)          [V A^3]

k = 1/d in 1/angstrom. In real space a term is `amplitude (4 pi/(width + B))^(3/2) exp(-4 pi^2 r^2/(width + B))`: a Gaussian
of variance `(width + B)/(8 pi^2)` along each axis, so that x, y and z separate. An atom has the five Gaussians of its
scattering factor; the solvent that it displaces can be a sixth, of negative amplitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem
from vitreous.model.atoms import Atoms
from vitreous.specimen.scattering_factors import gaussians


@dataclass(frozen=True)
class AtomProfiles:
    """Of n atoms: `kind` [n] the row of the tables, `b_factor` [n] in angstrom^2, `occupancy` [n]; of each kind the
    `amplitude` [kinds, g] in V A^3 and the `width` [kinds, g] in angstrom^2 of its Gaussians.
    """

    kind: Any
    b_factor: Any
    occupancy: Any
    amplitude: Any
    width: Any

    @property
    def integral(self) -> Any:
        """Volume integral of each atom's potential in V A^3, [n]."""
        return self.occupancy * self.amplitude.sum(axis=-1)[self.kind]


def atom_profiles(
    atoms: Atoms, *, extra_b_factor: float = 0.0, displaced: Mapping[str, tuple[float, float]] | None = None
) -> AtomProfiles:
    """The Gaussians of these atoms; `extra_b_factor` (angstrom^2) is added to each B factor.

    `displaced` gives for each element the (amplitude in V A^3, width in angstrom^2) of the solvent that such an atom
    displaces (`solvent.displaced_solvent`); it is subtracted. Raises DataProblem for unknown elements, by name, and for
    negative B factors.
    """
    symbols, kind = np.unique(np.char.upper(np.char.strip(atoms.element.astype(str))), return_inverse=True)
    tables = [gaussians(symbol) for symbol in symbols]
    amplitude = POTENTIAL_PER_FACTOR * np.array([amplitudes for amplitudes, _ in tables])
    width = np.array([widths for _, widths in tables])
    if displaced is not None:
        hole = np.array([displaced[symbol] for symbol in symbols])
        amplitude = np.concatenate([amplitude, -hole[:, :1]], axis=1)
        width = np.concatenate([width, hole[:, 1:]], axis=1)
    return AtomProfiles(kind, total_b_factor(atoms, extra_b_factor), atoms.occupancy, amplitude, width)


def total_b_factor(atoms: Atoms, extra: float) -> np.ndarray:
    """B factors [n] with `extra` added, in angstrom^2; DataProblem if one is below 0 or not a number."""
    b_factor = np.asarray(atoms.b_factor, dtype=np.float64) + extra
    wrong = ~(b_factor >= 0)
    if wrong.any():
        raise DataProblem(
            f"{wrong.sum()} atoms with a B factor below 0 or not a number (the first is {b_factor[wrong][0]:g} A^2)",
            "B factors of 0 A^2 or more",
            "correct the B factors of the model, or add an extra B factor",
        )
    return b_factor
