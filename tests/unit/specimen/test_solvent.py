from __future__ import annotations

from dataclasses import replace

import gemmi
import numpy as np
import pytest

from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem
from vitreous.io.atoms import read_atoms
from vitreous.io.bundled import load_bundled
from vitreous.model.atoms import Atoms
from vitreous.specimen.hydrogens import with_hydrogens
from vitreous.specimen.materials import ICE, PROTEIN, mean_inner_potential, molar_mass, number_density
from vitreous.specimen.profiles import atom_profiles
from vitreous.specimen.scattering_factors import scattering_factor
from vitreous.specimen.solvent import DISPLACED_VOLUMES, displaced_solvent, displaced_volume, volume_profiles

V_ICE = 4.526


def model(elements: list[str]) -> Atoms:
    n = len(elements)
    text = np.full(n, "A")
    position = np.arange(3.0 * n).reshape(n, 3)
    return Atoms(position, np.array(elements), np.zeros(n), np.ones(n), text, text, np.arange(n))


def neutral_atoms(atoms: Atoms) -> float:
    """sum 47.88 f(0) over the atoms, in V A^3."""
    factors = {symbol: float(scattering_factor(symbol, 0.0)) for symbol in np.unique(atoms.element).tolist()}
    return POTENTIAL_PER_FACTOR * sum(factors[e] * o for e, o in zip(atoms.element.tolist(), atoms.occupancy.tolist()))


def mass_of(atoms: Atoms) -> float:
    weights = {symbol: gemmi.Element(symbol).weight for symbol in np.unique(atoms.element).tolist()}
    return sum(weights[e] * o for e, o in zip(atoms.element.tolist(), atoms.occupancy.tolist()))


@pytest.mark.parametrize("element", ["H", "C", "N", "O", "S", "P", "ZN"])
def test_is_a_gaussian_of_the_volume(element):
    """exp(-pi v^(2/3) k^2) of Fraser et al. in the terms of profiles.py, amplitude * exp(-width k^2/4)."""
    amplitude, width = displaced_solvent(model([element]), 4.0)[element]
    volume = DISPLACED_VOLUMES[element]
    k = np.linspace(0, 0.5, 6)
    expected = 4.0 * volume * np.exp(-np.pi * volume ** (2 / 3) * k**2)
    np.testing.assert_allclose(amplitude * np.exp(-width * k**2 / 4), expected, rtol=1e-12)
    # in real space its height is V0, at any volume: exp(-pi r^2 / v^(2/3))
    assert amplitude * (4 * np.pi / width) ** 1.5 == pytest.approx(4.0)


def test_volumes_of_the_sources():
    """Fraser, MacRae & Suzuki give radii of spheres of these volumes: 1.07, 1.58, 0.84, 1.30 and 1.68 A."""
    radii = [(3 * DISPLACED_VOLUMES[e] / (4 * np.pi)) ** (1 / 3) for e in ("H", "C", "N", "O", "S")]
    np.testing.assert_allclose(radii, [1.07, 1.58, 0.84, 1.30, 1.68], atol=0.006)
    assert DISPLACED_VOLUMES["C"] + 2 * DISPLACED_VOLUMES["H"] == pytest.approx(26.74)  # CH2 of the same authors
    ions = [(3 * DISPLACED_VOLUMES[e] / (4 * np.pi)) ** (1 / 3) for e in ("NA", "K", "CL")]
    np.testing.assert_allclose(ions, [1.02, 1.38, 1.81], atol=0.001)


def test_default_potential_is_that_of_ice():
    own = displaced_solvent(model(["C"]))["C"]
    assert own[0] == pytest.approx(V_ICE * 16.44, rel=1e-3)
    assert displaced_solvent(model(["C"]), 3.5)["C"] == (pytest.approx(3.5 * 16.44), own[1])


def test_reference_protein():
    """Volumes of the elements give the reference protein a density near its 1.35, and its potential in ice."""
    volume = sum(count * DISPLACED_VOLUMES[symbol] for symbol, count in PROTEIN.composition.items())
    density = molar_mass(PROTEIN) / volume / 0.602214
    assert density == pytest.approx(1.35, rel=0.02)
    at_table = mean_inner_potential(PROTEIN) - V_ICE
    assert at_table == pytest.approx(3.40, abs=0.05)
    at_volumes = mean_inner_potential(PROTEIN) / (volume * number_density(PROTEIN)) - V_ICE
    assert at_volumes == pytest.approx(at_table, abs=0.15)  # 1.5 % of 8 V, as far as the densities agree


def check_absolute_volts(atoms: Atoms) -> None:
    full = with_hydrogens(atoms)
    volume = displaced_volume(full)
    inside_ice = atom_profiles(full, displaced=displaced_solvent(full)).integral.sum()
    assert inside_ice == pytest.approx(neutral_atoms(full) - mean_inner_potential(ICE) * volume, rel=1e-9)
    # the same sum with the other sign would be twice the atoms' own
    assert abs(inside_ice - (neutral_atoms(full) + mean_inner_potential(ICE) * volume)) > neutral_atoms(full)
    # 3.40 V is the reference protein at 1.35 g/cm^3; this model has its own elements and density
    density = mass_of(full) / volume / 0.602214
    reference = mean_inner_potential(PROTEIN) * density / PROTEIN.density
    composition = neutral_atoms(full) / mass_of(full) / (mean_inner_potential(PROTEIN) / (PROTEIN.density * 0.602214))
    mean = inside_ice / volume
    assert mean == pytest.approx(reference * composition - V_ICE, abs=0.05)
    assert composition == pytest.approx(1.0, abs=0.01)  # an ordinary protein
    assert 3.2 < mean < 3.4 and density == pytest.approx(1.33, abs=0.01)


@pytest.mark.parametrize("name", ["4ake", "1ake"])
def test_absolute_volts_of_bundled_proteins(name):
    check_absolute_volts(load_bundled(name))


def test_absolute_volts_of_a_real_protein(shared_data):
    check_absolute_volts(read_atoms(shared_data / "models" / "adk_open.pdb"))


def test_ribosome_stands_out_more_than_protein():
    full = with_hydrogens(load_bundled("6zu5"))
    volume = displaced_volume(full)
    mean = atom_profiles(full, displaced=displaced_solvent(full)).integral.sum() / volume
    assert mean == pytest.approx(4.04, abs=0.02)  # half of it is RNA, denser and with phosphorus
    assert mass_of(full) / volume / 0.602214 == pytest.approx(1.55, abs=0.02)


def test_without_hydrogens_both_potential_and_volume_are_short():
    heavy, full = load_bundled("4ake"), with_hydrogens(load_bundled("4ake"))
    assert displaced_volume(heavy) < 0.75 * displaced_volume(full)
    assert neutral_atoms(heavy) < 0.85 * neutral_atoms(full)


def test_fraction_of_space_that_atoms_fill():
    full = with_hydrogens(load_bundled("4ake"))
    filled = volume_profiles(full)
    assert filled.integral.sum() == pytest.approx(displaced_volume(full))
    hole = displaced_solvent(full, V_ICE)
    combined = atom_profiles(full, displaced=hole)
    rows = np.arange(len(full))[:50]
    np.testing.assert_allclose(
        combined.amplitude[combined.kind[rows], -1], -V_ICE * filled.amplitude[filled.kind[rows], 0]
    )
    np.testing.assert_allclose(combined.width[combined.kind[rows], -1], filled.width[filled.kind[rows], 0])
    np.testing.assert_array_equal(combined.b_factor, filled.b_factor)


def test_molecules_are_filled():
    """Gaussians of neighbouring atoms add up: blurred to 2 A, buried atoms of a protein lie in about one V0."""
    full = with_hydrogens(load_bundled("4ake"))
    position = full.position.astype(np.float64)
    filled = volume_profiles(full)
    width = filled.width[filled.kind, 0] + filled.b_factor + 8 * np.pi**2 * 2.0**2
    height = full.occupancy * filled.amplitude[filled.kind, 0] * (4 * np.pi / width) ** 1.5
    square = ((position[:, None] - position) ** 2).sum(axis=2)
    buried = np.argsort((square < 10.0**2).sum(axis=1))[-100:]
    values = (height * np.exp(-4 * np.pi**2 * square[buried] / width)).sum(axis=1)
    assert values.mean() == pytest.approx(1.0, abs=0.1) and values.max() < 1.2


def test_other_elements_take_their_van_der_waals_sphere_or_the_volume_given():
    atoms = model(["C", "SE", "U"])
    spheres = 16.44 + 4 / 3 * np.pi * (1.90**3 + 1.86**3)  # radii of selenium and uranium in gemmi's table
    assert displaced_volume(atoms) == pytest.approx(spheres, rel=1e-6)
    own = displaced_solvent(atoms, 4.0, volumes={"Se": 20.0, "U": 25.0})
    assert own["SE"][0] == pytest.approx(80.0) and own["U"][0] == pytest.approx(100.0)
    assert displaced_volume(atoms, volumes={"SE": 20.0, "U": 25.0}) == pytest.approx(61.44)
    with pytest.raises(DataProblem, match="unknown element 'XX'"):
        displaced_volume(model(["XX"]))
    with pytest.raises(DataProblem, match="displaced volume of -1"):
        displaced_volume(model(["C"]), volumes={"C": -1.0})
    with pytest.raises(DataProblem, match="mean inner potential of nan"):
        displaced_solvent(model(["C"]), float("nan"))


def test_symbols_in_either_case_and_occupancy():
    atoms = replace(model(["C", "c", "Zn"]), occupancy=np.array([1.0, 0.5, 1.0]))
    assert displaced_volume(atoms) == pytest.approx(1.5 * 16.44 + 9.85)
    assert set(displaced_solvent(atoms)) == {"C", "ZN"}
    with pytest.raises(DataProblem, match="B factor"):
        volume_profiles(replace(atoms, b_factor=np.array([1.0, -1.0, 2.0])))
