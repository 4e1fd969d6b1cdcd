"""Atomic models with something about them: copies, ions, ensembles, alternatives, and fields that are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.atom_fields import charge_of_symbol
from vitreous.io.atoms import read_atomic_model, read_atoms

CRYSTAL = """\
CRYST1   20.000   30.000   40.000  90.00  90.00  90.00 P 21 21 21    4
MTRIX1   1  1.000000  0.000000  0.000000        0.00000    1
MTRIX2   1  0.000000  1.000000  0.000000        0.00000    1
MTRIX3   1  0.000000  0.000000  1.000000        0.00000    1
MTRIX1   2 -1.000000  0.000000  0.000000        0.00000
MTRIX2   2  0.000000 -1.000000  0.000000        0.00000
MTRIX3   2  0.000000  0.000000  1.000000        5.00000
REMARK 350
REMARK 350 BIOMOLECULE: 1
REMARK 350 AUTHOR DETERMINED BIOLOGICAL UNIT: DIMERIC
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2  0.000000 -1.000000  0.000000        7.00000
REMARK 350   BIOMT2   2  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000
"""
ATOMS = """\
ATOM      1  N   MET A   1       1.000   2.000   3.000  1.00  9.67           N
ATOM      2  CA  MET A   1       2.000   2.000   3.000  1.00  9.67           C
ATOM      3  N   MET B   1       5.000   6.000   3.000  1.00  9.67           N
"""

COLUMNS = [
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_seq_id", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "B_iso_or_equiv", "auth_seq_id", "auth_asym_id"),
    *("pdbx_formal_charge", "pdbx_PDB_model_num"),
]


def pdb(tmp_path, text: str) -> Path:
    path = tmp_path / "model.pdb"
    path.write_text(text)
    return path


def cif(tmp_path, *rows: str, without: str = "", rest: str = "") -> Path:
    """An mmCIF file of atom rows as in COLUMNS, without the column `without`."""
    kept = [i for i, name in enumerate(COLUMNS) if name != without]
    lines = [" ".join(row.split()[i] for i in kept) for row in rows]
    names = [f"_atom_site.{COLUMNS[i]}" for i in kept]
    path = tmp_path / "model.cif"
    path.write_text("\n".join(["data_x", "loop_", *names, *lines, "#", rest, ""]))
    return path


NITROGEN = "ATOM 1 N N . MET A 1 1.0 2.0 3.0 1.0 9.5 1 A ? 1"


def positions(atoms, chain) -> list:
    return atoms.position[atoms.chain == chain].round(6).tolist()


# --- copies -----------------------------------------------------------------------------------------------------------


def test_an_assembly_is_applied_only_when_asked_for(tmp_path):
    path = pdb(tmp_path, CRYSTAL + ATOMS)
    assert len(read_atoms(path)) == 3 and read_atomic_model(path).notes == ()
    model = read_atomic_model(path, assembly="1")
    # chain A only; the second operator takes (x, y) to (7 - y, x)
    assert sorted(set(model.atoms.chain)) == ["A1", "A2"] and len(model.atoms) == 4
    assert positions(model.atoms, "A1") == [[1, 2, 3], [2, 2, 3]]
    assert positions(model.atoms, "A2") == [[5, 1, 3], [5, 2, 3]]
    assert "assembly '1'" in model.notes[0] and "2 chains became 2" in model.notes[0]


def test_copies_of_non_crystallographic_symmetry(tmp_path):
    atoms = read_atoms(pdb(tmp_path, CRYSTAL + ATOMS), assembly="ncs")
    assert sorted(set(atoms.chain)) == ["A", "A1", "B", "B1"]
    assert positions(atoms, "A1") == [[-1, -2, 8], [-2, -2, 8]] and positions(atoms, "B") == [[5, 6, 3]]


def test_unit_cell(tmp_path):
    without_ncs = "".join(line for line in CRYSTAL.splitlines(True) if not line.startswith("MTRIX"))
    atoms = read_atoms(pdb(tmp_path, without_ncs + ATOMS), assembly="unit_cell")
    assert len(atoms) == 12 and len(set(atoms.chain)) == 8
    nitrogens = {tuple(np.mod(atom, [20, 30, 40]).round(3)) for atom in atoms.position[atoms.element == "N"]}
    # P 21 21 21: (x, y, z), (1/2-x, -y, 1/2+z), (-x, 1/2+y, 1/2-z), (1/2+x, 1/2-y, -z)
    assert {(1, 2, 3), (9, 28, 23), (19, 17, 17), (11, 13, 37)} < nitrogens and len(nitrogens) == 8


def test_copies_never_share_a_chain_name(tmp_path):
    named = CRYSTAL.replace("CHAINS: A", "CHAINS: A, A1")
    rows = [NITROGEN, NITROGEN.replace(" A ? 1", " A1 ? 1").replace("MET A", "MET B").replace("1.0 2.0", "9.0 2.0")]
    text = ATOMS.replace("MET B", "META1")
    atoms = read_atoms(pdb(tmp_path, named + text), assembly="1")
    assert len(set(atoms.chain)) == 4 and len(atoms) == 6
    assembly = """\
loop_
_pdbx_struct_assembly.id
_pdbx_struct_assembly.details
_pdbx_struct_assembly.method_details
_pdbx_struct_assembly.oligomeric_details
_pdbx_struct_assembly.oligomeric_count
1 author_defined_assembly ? tetrameric 4
loop_
_pdbx_struct_assembly_gen.assembly_id
_pdbx_struct_assembly_gen.oper_expression
_pdbx_struct_assembly_gen.asym_id_list
1 1,2 A,B
loop_
_pdbx_struct_oper_list.id
_pdbx_struct_oper_list.type
_pdbx_struct_oper_list.matrix[1][1]
_pdbx_struct_oper_list.matrix[1][2]
_pdbx_struct_oper_list.matrix[1][3]
_pdbx_struct_oper_list.vector[1]
_pdbx_struct_oper_list.matrix[2][1]
_pdbx_struct_oper_list.matrix[2][2]
_pdbx_struct_oper_list.matrix[2][3]
_pdbx_struct_oper_list.vector[2]
_pdbx_struct_oper_list.matrix[3][1]
_pdbx_struct_oper_list.matrix[3][2]
_pdbx_struct_oper_list.matrix[3][3]
_pdbx_struct_oper_list.vector[3]
1 'identity operation' 1 0 0 0 0 1 0 0 0 0 1 0
2 'point symmetry operation' 1 0 0 0 0 1 0 0 0 0 1 50
"""
    atoms = read_atoms(cif(tmp_path, *rows, rest=assembly), assembly="1")
    assert len(set(atoms.chain)) == 4 and sorted(atoms.position[:, 2].tolist()) == [3, 3, 53, 53]


@pytest.mark.parametrize(
    ("text", "assembly", "said"),
    [
        (ATOMS, "1", "none: it describes neither"),
        (ATOMS, "unit_cell", "none: it describes neither"),
        (CRYSTAL + ATOMS, "7", r"assembly '7'.*\(1, ncs, unit_cell\)"),
    ],
)
def test_assemblies_that_are_not_there(tmp_path, text, assembly, said):
    with pytest.raises(SettingsProblem, match=said):
        read_atoms(pdb(tmp_path, text), assembly=assembly)


# --- ions -------------------------------------------------------------------------------------------------------------

MAGNESIUM = "HETATM 2 MG MG . MG B . 4.0 2.0 3.0 1.0 9.5 2 B 2 1"


@pytest.mark.parametrize("row", [MAGNESIUM, MAGNESIUM.replace(" MG MG", " Mg2+ MG").replace("B 2 1", "B ? 1")])
def test_ions_are_refused_by_name_unless_told_what_to_do(tmp_path, row):
    path = cif(tmp_path, NITROGEN, row, row.replace("HETATM 2", "HETATM 3").replace("9.5 2 B", "9.5 3 B"))
    with pytest.raises(DataProblem, match=r"2 Mg2\+.*--ions neutral.*--ions omit"):
        read_atoms(path)
    neutral, omitted = read_atomic_model(path, ions="neutral"), read_atomic_model(path, ions="omit")
    assert neutral.atoms.element.tolist() == ["N", "MG", "MG"] and "neutral atoms: 2 Mg2+" in neutral.notes[0]
    assert omitted.atoms.element.tolist() == ["N"] and omitted.notes == ("ions left out: 2 Mg2+",)
    with pytest.raises(SettingsProblem, match="refuse, neutral, omit"):
        read_atoms(path, ions="melt")


def test_a_symbol_with_a_charge_where_no_charges_are_listed(tmp_path):
    row = MAGNESIUM.replace(" MG MG", " Mg2+ MG")
    path = cif(tmp_path, NITROGEN, row, without="pdbx_formal_charge")
    with pytest.raises(DataProblem, match=r"1 Mg2\+"):
        read_atoms(path)


def test_ions_of_pdb_files(tmp_path):
    ion = "HETATM    4 CL    CL B 101       4.000   2.000   3.000  1.00  9.67          CL1-\n"
    with pytest.raises(DataProblem, match="1 Cl-"):
        read_atoms(pdb(tmp_path, ATOMS + ion))
    assert "CL" in read_atoms(pdb(tmp_path, ATOMS + ion.replace("1-", "  "))).element  # no charge: a neutral atom


def test_charges_of_bonded_groups_are_no_ions(tmp_path):
    rows = [
        f"HETATM {i} {s} {n} . ATP B . {i}.0 5 3 1.0 7 3 B {c} 1"
        for i, s, n, c in [(2, "P", "PG", 0), (3, "O", "O1G", -1)]
    ]
    assert read_atoms(cif(tmp_path, NITROGEN, *rows)).element.tolist() == ["N", "P", "O"]


def test_an_ion_with_alternative_positions_is_one_atom(tmp_path):
    rows = [
        MAGNESIUM.replace(" MG . MG", f" MG {label} MG").replace("HETATM 2", f"HETATM {i}")
        for i, label in ((2, "A"), (3, "B"))
    ]
    with pytest.raises(DataProblem, match=r"1 Mg2\+"):
        read_atoms(cif(tmp_path, NITROGEN, *rows))


def test_nothing_but_ions(tmp_path):
    with pytest.raises(DataProblem, match="no atoms but water or ions"):
        read_atoms(cif(tmp_path, MAGNESIUM), ions="omit")


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("Mg2+", ("Mg", 2)),
        ("O1-", ("O", -1)),
        ("Na+", ("Na", 1)),
        ("Fe+3", ("Fe", 3)),
        ("CL-", ("CL", -1)),
        ("C", ("C", 0)),
    ],
)
def test_charge_of_symbol(symbol, expected):
    assert charge_of_symbol(symbol) == expected


# --- choices ----------------------------------------------------------------------------------------------------------


def test_model_of_an_ensemble(tmp_path):
    models = "".join(
        f"MODEL        {n}\n{ATOMS.replace('1.000   2.000', f'1.000  {n}2.000')}ENDMDL\n" for n in (1, 2, 3)
    )
    path = pdb(tmp_path, models)
    first, third = read_atomic_model(path), read_atomic_model(path, model=3)
    assert first.atoms.position[0].tolist() == [1, 12, 3] and first.notes == ("model 1 of 3 in model.pdb",)
    assert third.atoms.position[0].tolist() == [1, 32, 3] and third.notes == ("model 3 of 3 in model.pdb",)
    with pytest.raises(SettingsProblem, match=r"model 4 of .*one of its 3, 1 to 3"):
        read_atoms(path, model=4)
    with pytest.raises(SettingsProblem, match=r"model 2 of .*expected model 1"):
        read_atoms(pdb(tmp_path, ATOMS), model=2)


def test_alternatives_are_told(tmp_path):
    text = """\
ATOM      1  N   MET A   1       1.000   2.000   3.000  1.00  9.67           N
ATOM      2  CA AMET A   1       2.000   2.000   3.000  0.40 10.38           C
ATOM      3  CA BMET A   1       3.000   2.000   3.000  0.60  9.62           C
ATOM      4  CB ASER B   2      10.000  11.000  12.000  0.30  1.00           C
ATOM      5  CB BTHR B   2      13.000  14.000  15.000  0.70  2.00           C
"""
    model = read_atomic_model(pdb(tmp_path, text))
    assert model.atoms.position[:, 0].tolist() == [1, 3, 13] and model.atoms.residue_name.tolist()[-1] == "THR"
    assert "1 residues with alternative positions" in model.notes[0]
    assert "1 places with more than one kind of residue" in model.notes[0]


# --- missing fields ---------------------------------------------------------------------------------------------------


def test_no_b_factors_at_all_are_zero_and_told(tmp_path):
    """gemmi would put 20 A^2 where a B factor is '?', or where a PDB line ends early."""
    other = NITROGEN.replace("ATOM 1", "ATOM 2").replace("1.0 2.0", "2.0 2.0")
    cases = [
        cif(tmp_path / "a", NITROGEN.replace("9.5", "?"), other.replace("9.5", ".")),
        cif(tmp_path / "b", NITROGEN, other, without="B_iso_or_equiv"),
        cif(tmp_path / "c", NITROGEN.replace("9.5", "0.0"), other.replace("9.5", "0")),
        pdb(tmp_path / "d", ATOMS.replace("1.00  9.67           N", "1.00                 N").replace("9.67", "    ")),
        pdb(tmp_path / "e", "".join(f"{line[:60]}\n" for line in ATOMS.splitlines())),
    ]
    for path in cases:
        model = read_atomic_model(path)
        assert not model.atoms.b_factor.any() and (model.atoms.occupancy == 1).all(), path
        assert "as sharp as at rest" in model.notes[-1]
    assert "gives no B factors" in read_atomic_model(cases[0]).notes[0]
    assert "the B factor 0 for all atoms" in read_atomic_model(cases[2]).notes[0]


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in "abcde":
        (tmp_path / name).mkdir()


def test_some_missing_b_factors_are_refused(tmp_path):
    other = NITROGEN.replace("ATOM 1", "ATOM 2").replace("9.5", "?")
    with pytest.raises(DataProblem, match="no B factor for 1 of its 2 atoms"):
        read_atoms(cif(tmp_path, NITROGEN, other))
    with pytest.raises(DataProblem, match="no B factor for 1 of its 3 atoms"):
        read_atoms(pdb(tmp_path, ATOMS.replace("9.67", "    ", 1)))


@pytest.mark.parametrize(("old", "new", "said"), [("9.5", "NaN", "b factor"), ("1.0 2.0", "? 2.0", "position")])
def test_numbers_that_are_none_in_mmcif(tmp_path, old, new, said):
    with pytest.raises(DataProblem, match=f"{said} is not a number"):
        read_atoms(cif(tmp_path, NITROGEN.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("9.67", " abc", "line 1: B factor 'abc'"),
        ("1.00  9.67", " nan  9.67", "line 1: occupancy 'nan'"),
        ("   1.000   2.000", "           2.000", "line 1: x ''"),
        ("  2.000   3.000", "   inf    3.000", "line 1: y 'inf'"),
    ],
)
def test_numbers_that_are_none_in_pdb_files(tmp_path, old, new, said):
    with pytest.raises(DataProblem, match=said):
        read_atoms(pdb(tmp_path, ATOMS.replace(old, new, 1)))


def test_an_empty_occupancy_is_one(tmp_path):
    """A blank field would be read as 0, and the atom would be gone."""
    atoms = read_atoms(pdb(tmp_path, ATOMS.replace("3.000  1.00  9.67", "3.000        9.67")))
    assert atoms.occupancy.tolist() == [1, 1, 1] and atoms.b_factor.round(2).tolist() == [9.67] * 3


def test_no_atoms(tmp_path):
    with pytest.raises(DataProblem, match="holds no atoms"):
        read_atoms(cif(tmp_path))
    water = NITROGEN.replace("MET", "HOH").replace("N N", "O O")
    with pytest.raises(DataProblem, match="no atoms but water"):
        read_atoms(cif(tmp_path, water), waters=False)


def test_a_ribosome_with_magnesium_is_read_as_it_is(shared_data):
    """6ZU5 has formal charges on bonded oxygens, and Mg and Zn without any."""
    model = read_atomic_model(shared_data / "models" / "6zu5.cif.gz", assembly="1")
    assert len(model.atoms) == 165_175 and {"MG", "ZN"} < set(model.atoms.element)
