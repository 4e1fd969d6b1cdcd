"""Which atoms of a structure are taken: one of each set of alternatives, waters and ions as asked.

gemmi's flat table gives all atoms as arrays in the order of chains, residues and atoms. What is the same for all is done on
arrays; residues with alternatives or charges, which are few, are looked at one by one.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.model.atoms import Atoms

if TYPE_CHECKING:
    import gemmi

WATER = frozenset(["HOH", "DOD", "WAT", "H2O"])


class Ions(StrEnum):
    """What to do with atoms that stand alone and carry a charge: the table of scattering factors has none for them."""

    REFUSE = "refuse"
    NEUTRAL = "neutral"  # the factor of the neutral atom
    OMIT = "omit"


class AtomTable:
    """The atoms of a structure's first model as columns, and which of them are kept."""

    def __init__(self, structure: gemmi.Structure):
        import gemmi

        self.flat = gemmi.FlatStructure(structure)
        chains = list(structure[0])
        self.residues = [residue for chain in chains for residue in chain]
        self.residue = np.repeat(np.arange(len(self.residues)), [len(residue) for residue in self.residues])
        self.chain_names = [chain.name for chain in chains for _ in range(len(chain))]  # of each residue
        self.altloc = np.asarray(self.flat.altlocs)
        self.keep = np.ones(len(self.residue), dtype=bool)

    def leave_out_waters(self) -> None:
        water = np.array([residue.name in WATER for residue in self.residues], dtype=bool)
        self.keep &= ~water[self.residue]

    def choose_alternatives(self) -> str:
        """Keep the most occupied of different residues that share a place, and the most occupied conformer of each residue;
        say how often there was a choice.
        """
        labelled = self.altloc != 0
        if not labelled.any():
            return ""
        shared = self._choose_residues(labelled)
        conformers = 0
        for number in np.unique(self.residue[labelled]):
            residue, rows = self.residues[number], np.flatnonzero(self.residue == number)
            kept = _best_conformer(residue)
            conformers += len({atom.altloc for atom in residue} - {"\0"}) > 1
            self.keep[rows] &= np.isin(self.altloc[rows], [0, ord(kept)])
        notes = []
        if conformers:
            notes.append(f"{conformers} residues with alternative positions, of which the most occupied were taken")
        if shared:
            notes.append(f"{shared} places with more than one kind of residue, of which the most occupied were taken")
        return "; ".join(notes)

    def _choose_residues(self, labelled: np.ndarray) -> int:
        """Of residues that exclude each other (all their atoms are labelled) keep the most occupied; return how many sets."""
        places = list(zip(self.chain_names, [(r.seqid.num, r.seqid.icode) for r in self.residues]))
        unlabelled = np.bincount(self.residue, weights=~labelled, minlength=len(places))
        starts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1]]
        sets = 0
        for start, stop in zip(starts, [*starts[1:], len(places)]):
            if stop - start > 1 and not unlabelled[start:stop].any():
                sets += 1
                occupancies = [np.mean([atom.occ for atom in residue]) for residue in self.residues[start:stop]]
                best = start + int(np.argmax(occupancies))
                self.keep &= ~((self.residue >= start) & (self.residue < stop) & (self.residue != best))
        return sets

    def choose_ions(self, ions: Ions | str, path: Path) -> str:
        """Refuse ions by name, leave them out, or keep them; say what was done. DataProblem, SettingsProblem."""
        if ions not in list(Ions):
            raise SettingsProblem(f"--ions {ions}", f"one of {', '.join(Ions)}")
        charged = np.unique(self.residue[self.keep & (np.asarray(self.flat.charge) != 0)])
        found = {int(number): name for number in charged if (name := _ion(self.residues[number]))}
        if not found:
            return ""
        told = ", ".join(f"{count} {name}" for name, count in sorted(Counter(found.values()).items()))
        if ions == Ions.REFUSE:
            raise DataProblem(
                f"{path} holds ions, for which there are no scattering factors: {told}",
                "neutral atoms",
                "take the factors of the neutral atoms (--ions neutral) or leave the ions out (--ions omit)",
            )
        if ions == Ions.OMIT:
            self.keep &= ~np.isin(self.residue, list(found))
            return f"ions left out: {told}"
        return f"ions with the scattering factors of neutral atoms: {told}"

    def atoms(self, path: Path) -> Atoms:
        """The atoms that are kept. DataProblem if there are none, of unknown elements, and of values that are no numbers."""
        if not self.keep.any():
            raise DataProblem(f"{path} holds no atoms but water or ions", "an atomic model")
        flat, keep, residue = self.flat, self.keep, self.residue[self.keep]
        unknown = np.flatnonzero(keep & (np.asarray(flat.elements) == 0))
        if len(unknown):
            self._refuse_element(int(unknown[0]), path)
        symbols, element = np.unique(np.asarray(flat.element_names)[keep], return_inverse=True)
        atoms = Atoms(
            position=np.array(flat.pos, dtype=np.float64)[keep],
            element=np.char.upper(symbols.astype(str))[element],
            b_factor=np.array(flat.b_iso, dtype=np.float64)[keep],
            occupancy=np.array(flat.occ, dtype=np.float64)[keep],
            chain=np.array(self.chain_names)[residue],
            residue_name=np.array([each.name for each in self.residues])[residue],
            residue_number=np.array([each.seqid.num or 0 for each in self.residues], dtype=np.int32)[residue],
        )
        for name in ("position", "b_factor", "occupancy"):
            if not np.isfinite(getattr(atoms, name)).all():
                raise DataProblem(f"{path} has atoms whose {name.replace('_', ' ')} is not a number", "finite numbers")
        return atoms

    def _refuse_element(self, row: int, path: Path) -> None:
        number = self.residue[row]
        residue = self.residues[number]
        atom = residue[row - int(np.searchsorted(self.residue, number))]
        raise DataProblem(
            f"{path}: atom {atom.name} of {residue.name} {residue.seqid} in chain {self.chain_names[number]} has no known "
            "element",
            "an element symbol",
        )


def _ion(residue: gemmi.Residue) -> str:
    """The ion that a residue is, such as "Mg2+"; an empty string for anything else."""
    if len({atom.name for atom in residue}) != 1 or residue[0].charge == 0:
        return ""
    charge = residue[0].charge
    return f"{residue[0].element.name}{abs(charge) if abs(charge) > 1 else ''}{'+' if charge > 0 else '-'}"


def _best_conformer(residue: gemmi.Residue) -> str:
    """The label of the alternative with the highest mean occupancy, the first of equals."""
    occupancies: dict[str, list[float]] = {}
    for atom in residue:
        if atom.altloc != "\0":
            occupancies.setdefault(atom.altloc, []).append(atom.occ)
    return max(occupancies, key=lambda label: float(np.mean(occupancies[label])), default="\0")
