from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.model.slices import PotentialSlices
from vitreous.optics.electrons import interaction_constant
from vitreous.reference import inelastic as reference
from vitreous.specimen.inelastic import (
    MeasuredPath,
    absorption,
    effective_atomic_number,
    emerging_amplitude_contrast,
    imaginary_potential,
    mean_free_path,
    with_absorption,
)
from vitreous.specimen.materials import CARBON, ICE, PROTEIN, Material

# physics.md b4: nm at 80, 100, 120, 200, 300 kV
KILOVOLTS = (80, 100, 120, 200, 300)
PATHS = {
    "ice": (176.5, 205.8, 231.7, 311.1, 375.4),
    "carbon": (79.1, 92.2, 103.8, 139.5, 168.3),
    "protein": (92.7, 108.0, 121.6, 163.3, 197.0),
}
IAKOUBOVSKII = (128, 147, 164, 216, 258)
# volt at 80, 100, 200, 300 kV
IMAGINARY = {
    "ice": (0.2808, 0.2629, 0.2205, 0.2041),
    "carbon": (0.6264, 0.5865, 0.4919, 0.4553),
    "protein": (0.5349, 0.5008, 0.4201, 0.3888),
}
MATERIALS = {material.name: material for material in (ICE, CARBON, PROTEIN)}


@pytest.mark.parametrize("name", PATHS)
def test_mean_free_paths_of_the_default_source(name):
    paths = [mean_free_path(MATERIALS[name], kv * 1e3) / 10 for kv in KILOVOLTS]
    np.testing.assert_allclose(paths, PATHS[name], rtol=1e-3)  # the bar, 0.1 %


@pytest.mark.parametrize("name", IMAGINARY)
def test_imaginary_potentials(name):
    volts = [imaginary_potential(MATERIALS[name], kv * 1e3) for kv in (80, 100, 200, 300)]
    np.testing.assert_allclose(volts, IMAGINARY[name], rtol=1e-3)


@pytest.mark.parametrize("kilovolts", [60, 80, 137.5, 300, 1000])
def test_is_one_over_two_sigma_lambda(kilovolts):
    voltage = kilovolts * 1e3
    expected = 1 / (2 * interaction_constant(voltage) * mean_free_path(ICE, voltage))
    assert imaginary_potential(ICE, voltage) == pytest.approx(expected, rel=1e-12)  # two forms of one formula


def test_default_source_is_its_definition():
    water = 2 * reference.inelastic_cross_section(1, 250e3) + reference.inelastic_cross_section(8, 250e3)
    path = reference.mean_free_path(water, 18.0, 0.93)
    assert mean_free_path(ICE, 250e3) / 10 == pytest.approx(path, rel=1e-7)  # rest energies to 1e-8
    denser = Material("ice", ICE.composition, 1.86)
    assert mean_free_path(denser, 250e3) == pytest.approx(mean_free_path(ICE, 250e3) / 2)


def test_iakoubovskii():
    paths = [mean_free_path(ICE, kv * 1e3, "iakoubovskii2008") / 10 for kv in KILOVOLTS]
    np.testing.assert_allclose(paths, IAKOUBOVSKII, atol=0.51)  # printed to 1 nm
    for collection, expected in ((5.0, 290), (20.0, 238)):
        path = mean_free_path(ICE, 300e3, "iakoubovskii2008", collection_mrad=collection) / 10
        assert path == pytest.approx(expected, abs=0.51)
    # angles of illumination and collection stand for each other in this formula
    swapped = mean_free_path(ICE, 300e3, "iakoubovskii2008", collection_mrad=2.0, convergence_mrad=10.0)
    straight = mean_free_path(ICE, 300e3, "iakoubovskii2008", collection_mrad=10.0, convergence_mrad=2.0)
    assert swapped == pytest.approx(straight)
    assert straight == pytest.approx(mean_free_path(ICE, 300e3, "iakoubovskii2008"))  # the larger of the two counts


def test_malis():
    assert effective_atomic_number(ICE) == pytest.approx(4.38, abs=0.005)
    assert mean_free_path(ICE, 300e3, "malis1988") / 10 == pytest.approx(206, abs=0.51)
    path = mean_free_path(ICE, 300e3, "malis1988", effective_number=7.42) / 10
    assert path == pytest.approx(176, abs=0.51)


def test_measured_path_has_a_name_a_material_and_a_voltage():
    rice = MeasuredPath("Rice et al. 2018, with aperture", 3950.0, material="ice", voltage=300e3)
    assert mean_free_path(ICE, 300e3, rice) == 3950.0
    assert imaginary_potential(ICE, 300e3, rice) == pytest.approx(
        imaginary_potential(ICE, 300e3) * 3754 / 3950, rel=1e-3
    )
    with pytest.raises(SettingsProblem, match=r"measured at 300 kV .Rice et al. 2018"):
        mean_free_path(ICE, 200e3, rice)
    with pytest.raises(SettingsProblem, match=r"of ice .* for protein"):
        mean_free_path(PROTEIN, 300e3, rice)
    with pytest.raises(DataProblem, match="positive number of angstrom"):
        MeasuredPath("nobody", -1.0, material="ice", voltage=300e3)


@pytest.mark.parametrize("voltage", [100e3, 300e3])
@pytest.mark.parametrize("source", ["vulovic2013", "iakoubovskii2008", "malis1988"])
def test_slab_transmits_its_exponential(voltage, source):
    """Slices of ice, transmitted one after the other: what is left is exp(-t/Lambda), to 1e-6."""
    path = mean_free_path(ICE, voltage, source)
    slices = PotentialSlices(np.full((20, 3, 3), 4.526 * path / 20), 1.0, path / 20, 0.0)
    absorbing = with_absorption(slices, np.zeros((20, 3, 3)), voltage, source=source)
    sigma = interaction_constant(voltage)
    wave = np.prod([reference.transmission(layer, sigma) for layer in absorbing.projected], axis=0)
    intensity = np.abs(wave) ** 2
    np.testing.assert_allclose(intensity, 0.3678794, rtol=1e-6)  # t = Lambda: exp(-1)
    assert reference.transmitted(path, path, 100_000) == pytest.approx(intensity[0, 0], rel=1e-5)  # half of 1/layers
    # the phase is that of the real part; a negative imaginary part would make the wave grow
    np.testing.assert_allclose(np.exp(1j * sigma * 4.526 * path), wave / np.abs(wave), atol=1e-9)
    grown = np.prod([reference.transmission(layer.conj(), sigma) for layer in absorbing.projected], axis=0)
    assert np.abs(grown[0, 0]) ** 2 > 2.7


def test_production_precision():
    fraction = np.linspace(0, 1, 7, dtype=np.float32).reshape(1, 1, 7)
    slices = PotentialSlices(np.ones((1, 1, 7), dtype=np.float32), 1.0, 50.0, 0.0)
    single = with_absorption(slices, fraction, 300e3).projected
    double = absorption(fraction.astype(np.float64), 50.0, 300e3)
    assert single.dtype == np.complex64 and absorption(fraction, 50.0, 300e3).dtype == np.float32
    np.testing.assert_allclose(single.imag, double, rtol=1e-5)  # the bar of (c) 4


def test_absorption_mixes_by_volume():
    fraction = np.array([[[0.0, 0.25, 1.0]]])
    values = absorption(fraction, 100.0, 300e3)
    np.testing.assert_allclose(values[0, 0], [20.41, 0.75 * 20.41 + 0.25 * 38.88, 38.88], rtol=1e-3)
    alone = absorption(fraction, 100.0, 300e3, solvent=None)
    np.testing.assert_allclose(alone[0, 0], [0.0, 0.25 * 38.88, 38.88], rtol=1e-3, atol=1e-12)
    np.testing.assert_array_equal(fraction, np.array([[[0.0, 0.25, 1.0]]]))


def test_absorption_in_jax():
    jax = pytest.importorskip("jax")
    fraction = jax.numpy.linspace(0, 1, 5, dtype=jax.numpy.float32).reshape(1, 1, 5)
    values = jax.jit(lambda f: absorption(f, 100.0, 300e3))(fraction)
    np.testing.assert_allclose(values, absorption(np.asarray(fraction), 100.0, 300e3), rtol=1e-6)
    slope = jax.grad(lambda f: absorption(f, 100.0, 300e3).sum())(fraction)
    np.testing.assert_allclose(
        slope, 100 * (imaginary_potential(PROTEIN, 300e3) - imaginary_potential(ICE, 300e3)), rtol=1e-6
    )


@pytest.mark.parametrize(("kilovolts", "expected"), [(100, 0.070), (200, 0.059), (300, 0.054)])
def test_emerging_amplitude_contrast(kilovolts, expected):
    value = emerging_amplitude_contrast(voltage=kilovolts * 1e3)
    assert value == pytest.approx(expected, abs=0.0006)  # printed to 1e-3; the bar is 0.02
    assert emerging_amplitude_contrast(ICE, PROTEIN, voltage=kilovolts * 1e3) < 0  # ice in protein takes less away


def test_emerging_contrast_of_a_measured_potential():
    value = emerging_amplitude_contrast(voltage=300e3, contrast_potential=2.0)
    loss = 0.3888 - 0.2041
    assert value == pytest.approx(loss / math.hypot(2.0, loss), abs=1e-4)


@pytest.mark.parametrize(
    ("voltage", "source", "options", "words"),
    [
        (300e3, "nobody1999", {}, "one of vulovic2013, iakoubovskii2008, malis1988"),
        (300e3, "vulovic2013", {"collection_mrad": 5.0}, "no such option"),
        (300e3, "iakoubovskii2008", {"effective_number": 7.0}, "no such option"),
        (300e3, "malis1988", {"convergence_mrad": 1.0}, "no such option"),
        (300e3, "iakoubovskii2008", {"collection_mrad": 0.0}, "positive"),
        (300e3, "malis1988", {"effective_number": -4.0}, "positive"),
        (300, "vulovic2013", {}, "300e3"),
        (float("nan"), "vulovic2013", {}, "volts"),
    ],
)
def test_bad_settings_are_refused(voltage, source, options, words):
    with pytest.raises(SettingsProblem, match=words):
        mean_free_path(ICE, voltage, source, **options)


def test_bad_maps_are_refused():
    slices = PotentialSlices(np.ones((2, 4, 4)), 1.0, 10.0, 0.0)
    with pytest.raises(DataProblem, match="shape"):
        with_absorption(slices, np.zeros((4, 4)), 300e3)
    once = with_absorption(slices, np.zeros((2, 4, 4)), 300e3)
    with pytest.raises(DataProblem, match="absorb already"):
        with_absorption(once, np.zeros((2, 4, 4)), 300e3)
