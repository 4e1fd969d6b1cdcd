from __future__ import annotations

import pytest

from vitreous.errors import DataProblem
from vitreous.specimen.materials import (
    CARBON,
    ICE,
    PROTEIN,
    WATER,
    Material,
    mean_inner_potential,
    molar_mass,
    number_density,
)

# physics.md b3: mean inner potentials in volt, Peng
TABLE = [
    (ICE, 0.93, 4.526), (ICE, 0.92, 4.478), (ICE, 0.94, 4.575), (WATER, 1.00, 4.867),
    (CARBON, 1.75, 10.539), (CARBON, 1.8, 10.841), (CARBON, 2.0, 12.045), (PROTEIN, 1.35, 7.930), (PROTEIN, 1.43, 8.400),
]  # fmt: skip


@pytest.mark.parametrize(("material", "density", "volts"), TABLE)
def test_mean_inner_potential(material, density, volts):
    of_density = Material(material.name, material.composition, density)
    assert mean_inner_potential(of_density) == pytest.approx(volts, abs=1e-3)  # printed to 1e-3; the bar is 5e-3


def test_defaults_are_those_of_the_table():
    assert (ICE.density, WATER.density, CARBON.density, PROTEIN.density) == (0.93, 1.0, 1.8, 1.35)
    assert mean_inner_potential(ICE) == pytest.approx(4.526, abs=0.005)


def test_protein_minus_ice():
    difference = mean_inner_potential(PROTEIN) - mean_inner_potential(ICE)
    assert difference == pytest.approx(3.404, abs=1e-3)
    assert difference == pytest.approx(3.40, abs=0.05)  # the bar; the Lobato table gives 3.379
    assert abs(-difference - 3.40) > 6


def test_number_density_and_mass():
    assert molar_mass(ICE) == pytest.approx(18.015, abs=1e-3)
    # 0.93 g/cm^3 * 6.022e23 / 18.015 g = 3.109e22 molecules in a cubic centimetre
    assert number_density(ICE) == pytest.approx(0.93 / 18.0153 * 0.602214076, rel=1e-5)
    twice = Material("ice", {"H": 4, "O": 2}, 0.93)  # the same matter in formula units twice as large
    assert number_density(twice) == pytest.approx(number_density(ICE) / 2)
    assert mean_inner_potential(twice) == pytest.approx(mean_inner_potential(ICE))


@pytest.mark.parametrize(
    ("composition", "density", "words"),
    [
        ({"H": 2, "O": 1}, 0.0, "density"),
        ({"H": 2, "O": 1}, float("nan"), "density"),
        ({}, 1.0, "composition"),
        ({"H": -1}, 1.0, "composition"),
        ({"XX": 1}, 1.0, "unknown element 'XX'"),
    ],
)
def test_bad_materials_are_refused(composition, density, words):
    with pytest.raises(DataProblem, match=words):
        Material("something", composition, density)
