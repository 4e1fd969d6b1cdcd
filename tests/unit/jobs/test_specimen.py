"""A specimen as chosen: what is taken of a model's file, what is added to it, and what it stands in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.io.mrc_stack import write_volume
from vitreous.jobs.specimen import Choices, Specimen, radius
from vitreous.model.volume import Volume
from vitreous.specimen.materials import ICE, mean_inner_potential
from vitreous.specimen.solvent import displaced_volume

KINASE = Path("bundled:4ake")
ION = """\
ATOM      1  N   MET A   1       1.000   2.000   3.000  1.00  9.67           N
HETATM    2 MG    MG A 101       4.000   2.000   3.000  1.00  9.67          MG2+
"""


def specimen(path=KINASE, **choices) -> Specimen:
    return Specimen(path, 40, 2.4, choices=Choices(**choices))


def test_hydrogens_are_added_on_request():
    plain, full = specimen().atomic_model(), specimen(hydrogens="implicit").atomic_model()
    assert "H" not in plain.atoms.element and "H" in full.atoms.element and plain.notes == ()
    assert "hydrogens added to" in full.notes[0]
    assert np.array_equal(full.atoms.position[full.atoms.element != "H"], plain.atoms.position)


def test_the_solvent_is_taken_from_the_potential():
    """The volume integral falls by V0 times the displaced volume; a model in its solvent is weaker, and still positive."""
    vacuum, _ = specimen(hydrogens="implicit").volume()
    chosen = specimen(hydrogens="implicit", solvent="displaced")
    solvated, _ = chosen.volume()
    volume = displaced_volume(chosen.atoms())
    taken = (vacuum.data.sum(dtype=float) - solvated.data.sum(dtype=float)) * 2.4**3
    assert taken == pytest.approx(mean_inner_potential(ICE) * volume, rel=1e-4)  # float32 maps
    weaker, _ = specimen(hydrogens="implicit", solvent="displaced", inner_potential=3.0).volume()
    taken = (vacuum.data.sum(dtype=float) - weaker.data.sum(dtype=float)) * 2.4**3
    assert taken == pytest.approx(3.0 * volume, rel=1e-4)
    assert 0 < solvated.data.sum() < weaker.data.sum() < vacuum.data.sum()


def test_choices_reach_the_file(tmp_path):
    path = tmp_path / "ion.pdb"
    path.write_text(ION)
    assert "MG" in specimen(path, ions="neutral").atoms().element
    assert "MG" not in specimen(path, ions="omit").atoms().element
    with pytest.raises(SettingsProblem, match="assembly '1'"):
        specimen(path, assembly="1", ions="omit").atoms()
    with pytest.raises(SettingsProblem, match="model 2"):
        specimen(path, ensemble_model=2, ions="omit").atoms()


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(SettingsProblem, match=r"--assembly --ions for bundled:4ake"):
        specimen(assembly="1", ions="omit").atoms()
    with pytest.raises(SettingsProblem, match=r"--inner-potential 3 without a solvent"):
        Choices(inner_potential=3.0)
    with pytest.raises(SettingsProblem, match=r"--inner-potential inf"):
        Choices(solvent="displaced", inner_potential=float("inf"))
    write_volume(tmp_path / "map.mrc", Volume(np.ones((8, 8, 8), np.float32), 2.0))
    with pytest.raises(SettingsProblem, match=r"--hydrogens --solvent for the map"):
        Specimen(tmp_path / "map.mrc", choices=Choices(hydrogens="implicit", solvent="displaced")).volume()
    assert Specimen(tmp_path / "map.mrc").atoms() is None


def test_radius_is_that_about_the_centre_of_mass():
    atoms = specimen().atoms()
    assert 25 < radius(atoms) < 50
