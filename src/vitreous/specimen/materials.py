"""Homogeneous materials: composition, density, number of molecules per volume, mean inner potential.

    V0 = 47.8776472 V A^2 * sum_i n_i f_i(0),      n_i atoms of element i in a cubic angstrom

f(0) is that of neutral atoms (`scattering_factors`). Neutral atoms overestimate the potential of bonded matter: V0 of
ice is 4.526 V by the formula, and 3.5 V is reported as measured (unverified). So functions of the package that need a
mean inner potential take it as an argument; the formula is only their default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vitreous.constants import AVOGADRO, POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem
from vitreous.specimen.scattering_factors import gaussians

CUBIC_ANGSTROM = 1e-24  # cm^3


@dataclass(frozen=True)
class Material:
    """`composition`: atoms of each element (chemical symbols) in a formula unit; `density` in g/cm^3."""

    name: str
    composition: Mapping[str, float]
    density: float

    def __post_init__(self) -> None:
        if not (self.density > 0 and math.isfinite(self.density)):
            raise DataProblem(f"a density of {self.density} g/cm^3 for {self.name}", "a positive number")
        numbers = self.composition.values()
        if not numbers or not all(count >= 0 for count in numbers) or not sum(numbers) > 0:
            raise DataProblem(f"a composition of {dict(self.composition)} for {self.name}", "a number for each element")
        for symbol in self.composition:
            gaussians(symbol)  # refuses unknown elements by name


ICE = Material("ice", {"H": 2, "O": 1}, 0.93)  # vitreous, low density
WATER = Material("water", {"H": 2, "O": 1}, 1.00)
CARBON = Material("carbon", {"C": 1}, 1.8)  # amorphous, evaporated: 1.75 to 2.0
PROTEIN = Material("protein", {"C": 4.94, "H": 7.76, "N": 1.36, "O": 1.48, "S": 0.04}, 1.35)  # of an average residue


def molar_mass(material: Material) -> float:
    """Mass of a mole of formula units, in grams."""
    import gemmi

    return sum(count * gemmi.Element(symbol).weight for symbol, count in material.composition.items())


def number_density(material: Material) -> float:
    """Formula units in a cubic angstrom.

    >>> round(number_density(ICE), 5)  # molecules of water
    0.03109
    """
    return material.density * AVOGADRO * CUBIC_ANGSTROM / molar_mass(material)


def mean_inner_potential(material: Material) -> float:
    """V0 in volts, of neutral atoms: `47.8776472 sum_i n_i f_i(0)`. See the module on how far to trust it.

    >>> round(mean_inner_potential(ICE), 3)
    4.526
    """
    factors = sum(count * sum(gaussians(symbol)[0]) for symbol, count in material.composition.items())
    return POTENTIAL_PER_FACTOR * number_density(material) * factors
