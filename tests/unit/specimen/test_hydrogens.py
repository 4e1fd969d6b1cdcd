from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace

import gemmi
import numpy as np
import pytest

from vitreous.io.atoms import read_atoms
from vitreous.io.bundled import load_bundled
from vitreous.model.atoms import Atoms
from vitreous.specimen import hydrogens
from vitreous.specimen.hydrogens import hydrogen_counts, parse_formula, residues_without_hydrogens, with_hydrogens

# Hydrogens by the names of atoms: an independent list, for files that have names.
BACKBONE = "N1 CA1 C0 O0 OXT0"
BY_NAME = {
    "ALA": "CB3", "ARG": "CB2 CG2 CD2 NE1 CZ0 NH1:2 NH2:2", "ASN": "CB2 CG0 OD1:0 ND2:2", "ASP": "CB2 CG0 OD1:0 OD2:0",
    "CYS": "CB2 SG1", "GLN": "CB2 CG2 CD0 OE1:0 NE2:2", "GLU": "CB2 CG2 CD0 OE1:0 OE2:0", "GLY": "CA2",
    "HIS": "CB2 CG0 ND1:0.5 CD2:1 CE1:1 NE2:0.5", "ILE": "CB1 CG1:2 CG2:3 CD1:3 CD3", "LEU": "CB2 CG1 CD1:3 CD2:3",
    "LYS": "CB2 CG2 CD2 CE2 NZ3", "MET": "CB2 CG2 SD0 CE3", "PHE": "CB2 CG0 CD1:1 CD2:1 CE1:1 CE2:1 CZ1",
    "PRO": "N0 CB2 CG2 CD2", "SER": "CB2 OG1", "THR": "CB1 OG1:1 CG2:3", "VAL": "CB1 CG1:3 CG2:3",
    "TRP": "CB2 CG0 CD1:1 CD2:0 NE1:1 CE2:0 CE3:1 CZ2:1 CZ3:1 CH2:1", "TYR": "CB2 CG0 CD1:1 CD2:1 CE1:1 CE2:1 CZ0 OH1",
}  # fmt: skip
RIBOSE = "P0 OP1:0 OP2:0 OP3:0 O5':0 C5':2 C4':1 O4':0 C3':1 O3':0 C2':1 O2':1 C1':1"
BASES = {
    "A": "N9:0 C8:1 N7:0 C5:0 C6:0 N6:2 N1:0 C2:1 N3:0 C4:0", "C": "N1:0 C2:0 O2:0 N3:0 C4:0 N4:2 C5:1 C6:1",
    "G": "N9:0 C8:1 N7:0 C5:0 C6:0 O6:0 N1:1 C2:0 N2:2 N3:0 C4:0", "U": "N1:0 C2:0 O2:0 N3:1 C4:0 O4:0 C5:1 C6:1",
}  # fmt: skip


def counts_by_name(text: str) -> dict[str, float]:
    pairs = [item.split(":") if ":" in item else (item[:-1], item[-1]) for item in text.split()]
    return {name: float(count) for name, count in pairs}


EXPECTED = {name: counts_by_name(BACKBONE) | counts_by_name(text) for name, text in BY_NAME.items()}
EXPECTED |= {name: counts_by_name(RIBOSE) | counts_by_name(text) for name, text in BASES.items()}


def names_of_atoms(path) -> list[str]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    cif = text.startswith("data_")
    structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text)[0]) if cif else gemmi.read_pdb_string(text)
    return [atom.name for chain in structure[0] for residue in chain for atom in residue]


def wrong_counts(path) -> Counter:
    """Of a file that names its atoms: those whose hydrogens differ from the list."""
    atoms = read_atoms(path)
    names = names_of_atoms(path)
    assert len(names) == len(atoms)
    wrong: Counter = Counter()
    for residue, name, count in zip(atoms.residue_name.astype(str), names, hydrogen_counts(atoms)):
        expected = EXPECTED.get(residue, {}).get(name)
        if expected is not None and abs(expected - count) > 1e-9:
            wrong[residue, name] += 1
    return wrong


def residue(name: str, rows: list[tuple[str, tuple[float, float, float]]], number: int = 1) -> Atoms:
    n = len(rows)
    position = np.array([place for _, place in rows], dtype=float)
    full = lambda value: np.full(n, value)
    return Atoms(
        position, np.array([e for e, _ in rows]), full(20.0), full(1.0), full("A"), full(name), np.full(n, number)
    )


ALANINE = [
    ("N", (0.0, 0.0, 0.0)), ("C", (1.46, 0.0, 0.0)), ("C", (2.0, 1.42, 0.0)), ("O", (1.24, 2.39, 0.0)),
    ("C", (2.0, -0.78, -1.2)),
]  # fmt: skip


def joined(*parts: Atoms) -> Atoms:
    names = parts[0].__dataclass_fields__
    return Atoms(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def test_alanine():
    np.testing.assert_array_equal(hydrogen_counts(residue("ALA", ALANINE)), [1, 1, 0, 0, 3])


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_amino_acids_have_the_hydrogens_of_chemistry(name):
    """The free molecule less one water, and less the proton of an acid or of the doubly protonated histidine."""
    _, counts, _ = parse_formula(hydrogens._templates()[name][0])
    lost = 3 if name in ("ASP", "GLU", "HIS") else 2
    assert sum(counts) == gemmi.find_tabulated_residue(name).hydrogen_count - lost


@pytest.mark.parametrize("name", ["A", "C", "G", "U", "DA", "DC", "DG", "DT", "DU"])
def test_nucleotides_have_the_hydrogens_of_chemistry(name):
    """The acid less one water and the second proton of the phosphate."""
    _, counts, _ = parse_formula(hydrogens._templates()[name][0])
    assert sum(counts) == gemmi.find_tabulated_residue(name).hydrogen_count - 3


@pytest.mark.slow
def test_every_atom_of_a_ribosome(shared_data):
    """164,965 atoms of protein and RNA by their names: all right but the carbons of side chains that are cut off."""
    wrong = wrong_counts(shared_data / "models" / "6zu5.cif.gz")
    assert set(wrong) <= {("PRO", "CB")} and sum(wrong.values()) < 20  # prolines cut after CB have a mean of carbons


@pytest.mark.parametrize("name", ["adk_open.pdb", "adk_closed.pdb"])
def test_every_atom_of_adenylate_kinase(shared_data, name):
    assert not wrong_counts(shared_data / "models" / name)


def test_rounded_coordinates_change_nothing():
    """Bundled models have coordinates rounded to 0.05 A and no names: hydrogens follow from the residues alone."""
    atoms = load_bundled("4ake")
    starts = Counter(zip(atoms.residue_number.tolist(), atoms.residue_name.astype(str).tolist()))
    per_residue = {name: sum(parse_formula(hydrogens._templates()[name][0])[1]) for _, name in starts}
    expected = sum(per_residue[name] for _, name in starts)
    assert hydrogen_counts(atoms).sum() == pytest.approx(expected) == 1683


def test_ribosome_is_quick_and_complete():
    atoms = load_bundled("6zu5")
    counts = hydrogen_counts(atoms)
    assert counts.sum() == pytest.approx(126_427, abs=20)
    assert residues_without_hydrogens(atoms) == ()
    assert (counts[np.isin(atoms.element, ["MG", "ZN", "P"])] == 0).all()
    assert set(np.unique(counts)) <= {0.0, 0.5, 1.0, 1.4, 2.0, 3.0}  # 1.4: cut prolines


def test_rows_of_hydrogens():
    full = with_hydrogens(residue("ALA", ALANINE))
    assert full.element.tolist() == ["N", "H", "C", "H", "C", "O", "C", "H"]  # each after its parent
    assert full.occupancy.tolist() == [1, 1, 1, 1, 1, 1, 1, 3]
    parents = [0, 0, 1, 1, 2, 3, 4, 4]
    np.testing.assert_array_equal(full.position, np.array([place for _, place in ALANINE])[parents])
    # (8 pi^2 / 3) 1.09^2 = 31.27
    assert full.b_factor.tolist() == pytest.approx([20, 51.27, 20, 51.27, 20, 20, 20, 51.27], abs=0.01)
    assert set(full.residue_name) == {"ALA"} and full.residue_number.tolist() == [1] * 8


def test_occupancy_of_the_parent_counts():
    half = replace(residue("ALA", ALANINE), occupancy=np.full(5, 0.5))
    full = with_hydrogens(half)
    assert full.occupancy[full.element == "H"].tolist() == [0.5, 0.5, 1.5]


def test_b_factor_stands_for_the_sphere():
    """exp(-B k^2/4) is the transform of a sphere of the bond's radius where the hydrogens matter."""
    radius = 1.09
    b_factor = with_hydrogens(residue("ALA", ALANINE)).b_factor[1] - 20
    k = np.linspace(0.0, 0.2, 21)
    # the next term of the series is (2 pi k d)^4 (1/120 - 1/72): 0.02 at 0.2 1/A
    np.testing.assert_allclose(np.exp(-b_factor * k**2 / 4), np.sinc(2 * k * radius), atol=0.021)
    assert np.abs(np.exp(-b_factor * k**2 / 2) - np.sinc(2 * k * radius)).max() > 0.1  # the factor 1/4


def test_doing_it_twice_changes_nothing():
    once = with_hydrogens(joined(load_bundled("4ake"), residue("ALA", ALANINE, 900)))
    twice = with_hydrogens(once)
    for name in once.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))


def test_residues_with_hydrogens_stay():
    with_one = residue("ALA", [*ALANINE, ("H", (0.0, 1.0, 0.0))], 1)
    both = joined(with_one, residue("ALA", ALANINE, 2))
    counts = hydrogen_counts(both)
    assert counts[:6].sum() == 0 and counts[6:].sum() == 5
    deuterated = residue("ALA", [*ALANINE, ("D", (0.0, 1.0, 0.0))])
    assert hydrogen_counts(deuterated).sum() == 0


def test_order_of_atoms_does_not_matter():
    atoms = residue("ALA", ALANINE)
    order = np.array([4, 2, 0, 3, 1])
    np.testing.assert_array_equal(hydrogen_counts(atoms.rows(order)), hydrogen_counts(atoms)[order])


def test_cut_side_chains_and_ends_of_chains():
    counts = hydrogen_counts(residue("LYS", ALANINE))  # cut after CB
    np.testing.assert_array_equal(counts, [1, 1, 0, 0, 2])
    ended = residue("ALA", [*ALANINE, ("O", (3.22, 1.55, 0.0))])
    np.testing.assert_array_equal(hydrogen_counts(ended), [1, 1, 0, 0, 3, 0])


def test_water_ions_and_unknown_residues():
    water = residue("HOH", [("O", (0, 0, 0))])
    magnesium = residue("MG", [("MG", (5, 0, 0))], 2)
    ligand = residue("XYZ", [("C", (9, 0, 0)), ("O", (10.4, 0, 0))], 3)
    atoms = joined(water, magnesium, ligand)
    np.testing.assert_array_equal(hydrogen_counts(atoms), [2, 0, 0, 0])
    assert residues_without_hydrogens(atoms) == ("XYZ",)
    assert residues_without_hydrogens(water) == ()
    assert len(with_hydrogens(ligand)) == 2


def test_single_precision_stays_and_inputs_are_unchanged():
    atoms = load_bundled("4ake")
    before = {name: getattr(atoms, name).copy() for name in atoms.__dataclass_fields__}
    full = with_hydrogens(atoms)
    for name, column in before.items():
        np.testing.assert_array_equal(getattr(atoms, name), column)
        assert getattr(full, name).dtype.kind == column.dtype.kind
    assert full.position.dtype == full.b_factor.dtype == full.occupancy.dtype == np.float32
    assert "H" in full.element
