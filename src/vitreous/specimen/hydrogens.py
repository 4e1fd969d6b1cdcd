"""Hydrogens for models that have none: most models of cryo-EM, and those that come with the program.

Hydrogens make 18 % of the potential of a protein and 29 % of its volume. How many each heavy atom
carries follows from the chemistry of its residue: the 20 amino acids and 8 nucleotides inside a chain, at neutral pH
(charged Lys, Arg, Asp, Glu; neutral His with its hydrogen shared by the two nitrogens), selenomethionine, free
nucleotides and water. The few hydrogens more at the ends of chains, and the two fewer of a disulfide, are ignored.

An `Atoms` carries no names of atoms. An atom of a residue is known by its place in the graph of bonds: its element,
the elements bonded to it, those bonded to these, and so on. Bonds are read from distances inside the residue, and the
oxygen of a carbonyl from its short bond; four steps tell all atoms of these residues apart that differ in hydrogens.
In a residue that is incomplete or distorted the widest surroundings that its formulas know decide, down to the element
alone: the count is then a mean, and need not be whole.

The direction of a bond to hydrogen is not known either. Hydrogens lie on a sphere around their parent, of the radius of
the bond; a sphere's transform is sin(2 pi k d)/(2 pi k d), to second order exp(-B k^2/4) with B = (8 pi^2/3) d^2. For
d = 1.09 A (C-H) B is 31.3 A^2, added to the parent's. All hydrogens of an atom are one row, their number its occupancy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from vitreous.model.atoms import Atoms

BOND_LENGTH = 1.09  # angstrom, C-H; N-H and O-H are 0.1 shorter, which is 5 A^2 of B
STEPS = 4  # bonds that an atom's surroundings reach
LARGEST_RESIDUE = 64  # atoms; pairs farther apart in the file are not looked at
CARBONYL = 1.31  # angstrom: carbon is 1.23 to 1.25 from the oxygen of a carbonyl, 1.36 and more from others
_BOND_STRETCH = 1.25  # a bond is up to this times the sum of covalent radii; next-nearest neighbours begin at 1.4

# Heavy atoms and their hydrogens: [CH2] carries two, a letter alone none; brackets branch, digits close rings, as in
# SMILES. Bond orders are left out but for =O, an oxygen whose bond to carbon is short. The side chain of an amino acid
# starts at the atom bonded to CA.
_SIDE_CHAINS = {
    "ALA": "[CH3]",
    "ARG": "[CH2][CH2][CH2][NH]C([NH2])[NH2]",
    "ASN": "[CH2]C(=O)[NH2]",
    "ASP": "[CH2]C(=O)=O",
    "CYS": "[CH2][SH]",
    "GLN": "[CH2][CH2]C(=O)[NH2]",
    "GLU": "[CH2][CH2]C(=O)=O",
    "HIS": "[CH2]C1[CH][NH0.5][CH][NH0.5]1",
    "ILE": "[CH]([CH3])[CH2][CH3]",
    "LEU": "[CH2][CH]([CH3])[CH3]",
    "LYS": "[CH2][CH2][CH2][CH2][NH3]",
    "MET": "[CH2][CH2]S[CH3]",
    "MSE": "[CH2][CH2][Se][CH3]",
    "PHE": "[CH2]C1[CH][CH][CH][CH][CH]1",
    "SER": "[CH2][OH]",
    "THR": "[CH]([OH])[CH3]",
    "TRP": "[CH2]C1[CH][NH]C2C1[CH][CH][CH][CH]2",
    "TYR": "[CH2]C1[CH][CH]C([OH])[CH][CH]1",
    "VAL": "[CH]([CH3])[CH3]",
}
_BASES = {
    "A": "N3[CH]NC4C([NH2])N[CH]NC43",
    "C": "N3[CH][CH]C([NH2])NC3(=O)",
    "G": "N3[CH]NC4C(=O)[NH]C([NH2])NC43",
    "T": "N3[CH]C([CH3])C(=O)[NH]C3(=O)",
    "U": "N3[CH][CH]C(=O)[NH]C3(=O)",
}
_NUCLEOTIDE = "OP(O)O[CH2][CH]1O[CH]({base}){second}[CH]1O"
_SUGARS = {"": "[CH]([OH])", "D": "[CH2]"}  # carbon 2 of ribose and of deoxyribose
_ALIASES = {"AMP": "A", "ADP": "A", "ATP": "A", "GMP": "G", "GDP": "G", "GTP": "G", "WAT": "HOH", "H2O": "HOH"}
_TOKEN = re.compile(r"\[([A-Z][a-z]?)(?:H([\d.]*))?\]|(=?[A-Z])|([()])|(\d)")


def with_hydrogens(atoms: Atoms, *, bond_length: float = BOND_LENGTH) -> Atoms:
    """The atoms with hydrogens after each heavy atom that carries some, in the residues that are known by name.

    A row of hydrogens has its parent's position, B factor plus `(8 pi^2/3) bond_length^2`, and occupancy times the
    number of hydrogens. Residues that hold any hydrogen stay as they are, so that doing it twice changes nothing; so
    do residues that are not known (`residues_without_hydrogens` names them).

    >>> from vitreous.io.bundled import load_bundled
    >>> model = load_bundled("4ake")
    >>> full = with_hydrogens(model)
    >>> len(model), len(full), round(float(full.occupancy[full.element == "H"].sum()))
    (1656, 2703, 1683)
    """
    counts = hydrogen_counts(atoms)
    parents = np.flatnonzero(counts > 0)
    order = np.sort(np.concatenate([2 * np.arange(len(atoms)), 2 * parents + 1]))  # odd: the hydrogens of order // 2
    rows, added = order // 2, order % 2 == 1
    full = atoms.rows(rows)
    columns = {name: getattr(full, name) for name in full.__dataclass_fields__}
    extra = 8 * math.pi**2 / 3 * bond_length**2
    columns["element"] = np.where(added, "H", full.element)
    columns["b_factor"] = (full.b_factor + np.where(added, extra, 0.0)).astype(full.b_factor.dtype)
    columns["occupancy"] = (full.occupancy * np.where(added, counts[rows], 1.0)).astype(full.occupancy.dtype)
    return Atoms(**columns)


def hydrogen_counts(atoms: Atoms) -> np.ndarray:
    """How many hydrogens are missing on each atom [n]: 0 for hydrogens, ions, unknown residues, and residues that have
    any."""
    element, name = _upper(atoms.element), _upper(atoms.residue_name)
    residue = _residues(atoms)
    hydrogen = (element == "H") | (element == "D")
    has_some = np.bincount(residue, weights=hydrogen) > 0
    open_rows = np.flatnonzero(~has_some[residue] & np.isin(name, sorted(_templates())))
    counts = np.zeros(len(atoms))
    if len(open_rows) == 0:
        return counts
    codes = _codes(name[open_rows], *_graph(atoms, open_rows, residue[open_rows], element[open_rows]))
    undecided = np.ones(len(open_rows), dtype=bool)
    for step in range(STEPS, -1, -1):
        keys, values = _known_counts()[step]
        at = np.minimum(np.searchsorted(keys, codes[step]), len(keys) - 1)
        found = undecided & (keys[at] == codes[step])
        counts[open_rows[found]] = values[at[found]]
        undecided &= ~found
    return counts


def residues_without_hydrogens(atoms: Atoms) -> tuple[str, ...]:
    """Names of the residues with carbon but no hydrogen for which this module knows none, in alphabetical order."""
    element, name = _upper(atoms.element), _upper(atoms.residue_name)
    residue = _residues(atoms)
    organic = np.bincount(residue, weights=element == "C") > 0
    has_some = np.bincount(residue, weights=(element == "H") | (element == "D")) > 0
    unknown = (organic & ~has_some)[residue] & ~np.isin(name, sorted(_templates()))
    return tuple(sorted({str(symbol) for symbol in name[unknown]}))


# --- residues of the model --------------------------------------------------------------------------------------------


def _upper(values: np.ndarray) -> np.ndarray:
    return np.char.upper(np.char.strip(np.asarray(values).astype(str)))


def _residues(atoms: Atoms) -> np.ndarray:
    """Number of the residue of each atom: successive rows of one chain, residue number and residue name."""
    changes = np.zeros(len(atoms), dtype=bool)
    for column in (atoms.chain, atoms.residue_number, atoms.residue_name):
        changes[1:] |= column[1:] != column[:-1]
    return np.cumsum(changes)


def _graph(
    atoms: Atoms, rows: np.ndarray, residue: np.ndarray, element: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the atoms `rows`: their elements, "=O" for the oxygen of a carbonyl, and the bonds within their residues as
    pairs of places in `rows`."""
    position = np.asarray(atoms.position, dtype=np.float64)[rows]
    radius = _covalent_radii(element)
    first, second = [], []
    longest = min(LARGEST_RESIDUE, int(np.bincount(residue).max()))
    for offset in range(1, min(longest, len(rows))):
        square = ((position[offset:] - position[:-offset]) ** 2).sum(axis=1)
        bonded = square < (_BOND_STRETCH * (radius[offset:] + radius[:-offset])) ** 2
        start = np.flatnonzero(bonded & (residue[offset:] == residue[:-offset]))
        first.append(start)
        second.append(start + offset)
    bonds = np.stack([np.concatenate([np.empty(0, dtype=np.int64), *side]) for side in (first, second)])
    labels = element.astype("<U2")
    for oxygen, carbon in (bonds, bonds[::-1]):
        short = np.linalg.norm(position[oxygen] - position[carbon], axis=1) < CARBONYL
        labels[oxygen[short & (element[oxygen] == "O") & (element[carbon] == "C")]] = "=O"
    return labels, bonds[0], bonds[1]


def _covalent_radii(element: np.ndarray) -> np.ndarray:
    import gemmi

    symbols, kind = np.unique(element, return_inverse=True)
    return np.array([gemmi.Element(str(symbol)).covalent_r for symbol in symbols])[kind]


# --- surroundings as numbers ------------------------------------------------------------------------------------------


def _codes(name: np.ndarray, label: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """For 0, 1, ... STEPS bonds a number for what surrounds each atom within its residue, unsigned 64 bit; no bond is
    its element alone.

    Equal surroundings have equal numbers whatever the order of the atoms: neighbours enter as a sum.
    """
    residue = _mixed(_text_codes(name))
    codes = [_mixed(_text_codes(np.char.lstrip(label, "=")) + residue)]
    code = _mixed(_text_codes(label) + residue)
    for _ in range(STEPS):
        around = np.zeros_like(code)
        np.add.at(around, first, _mixed(code[second]))
        np.add.at(around, second, _mixed(code[first]))
        code = _mixed(code * np.uint64(3) + around)
        codes.append(code)
    return codes


def _text_codes(texts: np.ndarray) -> np.ndarray:
    """A number for each text of up to eight letters; residues of one formula have one number."""
    distinct, which = np.unique(texts, return_inverse=True)
    names = (_ALIASES.get(str(text), str(text)) for text in distinct)
    return np.array([int.from_bytes(name.encode(), "little") for name in names], dtype=np.uint64)[which]


def _mixed(code: np.ndarray) -> np.ndarray:
    """A permutation of 64-bit numbers whose results look random (the finaliser of SplitMix64)."""
    code = code ^ (code >> np.uint64(30))
    code = code * np.uint64(0xBF58476D1CE4E5B9)
    code = code ^ (code >> np.uint64(27))
    code = code * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))


# --- residues of the table --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _templates() -> dict[str, tuple[str, ...]]:
    """The formulas of each residue. Amino acids: in a chain, at its end with a second oxygen, and cut off after the
    first atom of the side chain."""
    backbones = {name: f"[NH][CH]({side})C(=O)" for name, side in _SIDE_CHAINS.items()}
    backbones |= {"GLY": "[NH][CH2]C(=O)", "PRO": "N1[CH]([CH2][CH2][CH2]1)C(=O)"}
    templates: dict[str, tuple[str, ...]] = {n: (formula, formula + "=O") for n, formula in backbones.items()}
    for name, side in _SIDE_CHAINS.items():
        templates[name] += (f"[NH][CH]({side[: side.index(']') + 1]})C(=O)",)
    for prefix, second in _SUGARS.items():
        for base, formula in _BASES.items():
            templates[prefix + base] = (_NUCLEOTIDE.format(base=formula, second=second),)
    templates["HOH"] = ("[OH2]",)
    return templates | {alias: templates[name] for alias, name in _ALIASES.items()}


@lru_cache(maxsize=1)
def _known_counts() -> list[tuple[np.ndarray, np.ndarray]]:
    """For 0 ... STEPS bonds the numbers of all surroundings in the table, sorted, and the mean hydrogens of each."""
    every: list[list[np.ndarray]] = [[] for _ in range(STEPS + 1)]
    hydrogens = []
    for name, formulas in _templates().items():
        if name in _ALIASES:
            continue
        for formula in formulas:
            element, count, bonds = parse_formula(formula)
            first, second = np.array(bonds, dtype=np.int64).reshape(-1, 2).T
            for place, code in zip(every, _codes(np.full(len(element), name), np.array(element), first, second)):
                place.append(code)
            hydrogens.append(count)
    values = np.concatenate(hydrogens)
    tables = []
    for codes in every:
        keys, which = np.unique(np.concatenate(codes), return_inverse=True)
        tables.append((keys, np.bincount(which, values) / np.bincount(which)))
    return tables


def parse_formula(formula: str) -> tuple[list[str], list[float], list[tuple[int, int]]]:
    """Elements, hydrogens and bonds (pairs of atoms) of a formula in the notation of this module.

    >>> parse_formula("[CH3]C(O)O")
    (['C', 'C', 'O', 'O'], [3.0, 0.0, 0.0, 0.0], [(0, 1), (1, 2), (1, 3)])
    """
    element: list[str] = []
    hydrogens: list[float] = []
    bonds: list[tuple[int, int]] = []
    branches: list[int] = []
    rings: dict[str, int] = {}
    last = -1
    for bracketed, count, letter, branch, ring in _tokens(formula):
        if bracketed or letter:
            element.append((bracketed or letter or "").upper())
            hydrogens.append(_number_of_hydrogens(bracketed, count))
            if last >= 0:
                bonds.append((last, len(element) - 1))
            last = len(element) - 1
        elif branch == "(":
            branches.append(last)
        elif branch == ")":
            last = branches.pop()
        elif str(ring) in rings:
            bonds.append((rings.pop(str(ring)), last))
        else:
            rings[str(ring)] = last
    assert not branches and not rings, formula
    return element, hydrogens, bonds


def _tokens(formula: str) -> Iterator[tuple[str | None, ...]]:
    at = 0
    while at < len(formula):
        match = _TOKEN.match(formula, at)
        assert match is not None, formula
        yield match.groups()
        at = match.end()


def _number_of_hydrogens(bracketed: str | None, count: str | None) -> float:
    if not bracketed or count is None:
        return 0.0
    return float(count) if count else 1.0
