from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.model.microscope import Microscope
from vitreous.model.slices import PotentialSlices
from vitreous.optics.depth import depth_of_field
from vitreous.scattering.ladder import exit_wave
from vitreous.scattering.phantom import COLUMN, protein_column, slices_in_ice
from vitreous.scattering.plan import (
    RungError,
    equivalent_phase,
    first_sufficient,
    flatness_error,
    merged,
    rung_error,
    slab_count,
)
from vitreous.simulation.image_formation import form_image


def test_an_error_in_one_shell_is_found_there(rng):
    reference = 1 + rng.normal(size=(40, 40))
    x = np.arange(40)
    wave = 0.3 * np.cos(2 * np.pi * 7 * x / 40)[None, :] * np.ones((40, 1))  # 7 periods in 80 A: 0.0875 1/A
    found = rung_error(reference + wave + 5.0, reference, 2.0, 5.0)  # shells of 0.02 1/A; a constant does not count
    np.testing.assert_allclose(found.frequency, np.arange(1, 11) * 0.02)
    transform = np.abs(np.fft.fft2(reference)) ** 2
    k = np.hypot(np.fft.fftfreq(40, 2.0)[:, None], np.fft.fftfreq(40, 2.0))
    shell = (k > 0.08) & (k <= 0.1)
    power = 2 * (0.3 / 2 * 1600) ** 2
    assert found.error[4] == pytest.approx(math.sqrt(power / transform[shell].sum()))
    assert np.delete(found.error, 4).max() < 1e-12 and found.at_resolution < 1e-12
    assert 0 < found.overall == found.larger < found.error[4]


def test_turned_phases_are_recognised(rng):
    reference = rng.normal(size=(64, 64))
    turned = np.fft.irfft2(np.fft.rfft2(reference) * np.exp(0.2j), s=(64, 64))
    found = rung_error(turned, reference, 1.0, 2.5)
    # the columns of real images that are their own mirror images cannot be turned: one of 32
    np.testing.assert_allclose([equivalent_phase(e) for e in found.error[2:]], 0.2, rtol=0.03)
    assert equivalent_phase(2.5) == pytest.approx(math.pi)


def test_a_shell_without_contrast_has_no_error():
    flat = np.ones((32, 32))
    flat[16, 16] += 1e-3
    smooth = 1 + np.cos(2 * np.pi * 3 * np.arange(32) / 32)[None, :] * np.ones((32, 1))
    found = rung_error(smooth, smooth, 1.0, 2.5)
    assert np.nanmax(found.error) == 0
    assert rung_error(flat, flat, 1.0, 2.5).overall == 0


def test_the_first_within_the_tolerance_is_chosen():
    def error(last, overall):
        return RungError(np.array([0.1, 0.2]), np.array([0.0, last]), overall)

    errors = {"a": error(0.01, 0.5), "b": error(0.5, 0.01), "c": error(0.09, 0.1), "d": error(0.0, 0.0)}
    assert first_sufficient(errors, 0.1) == "c"
    assert first_sufficient(errors, 0.05) == "d"
    assert first_sufficient({"a": errors["a"]}, 0.1) is None


def test_slabs():
    for thickness, resolution, voltage in ((300, 3, 300e3), (1000, 2, 100e3), (5, 8, 200e3)):
        count = slab_count(thickness, resolution, voltage)
        assert count % 2 == 0 and thickness / count <= min(10, depth_of_field(resolution, voltage) / 60)
    slices = PotentialSlices(np.arange(24.0).reshape(6, 2, 2), 1.0, 3.0, -7.5)
    halved = merged(slices)
    assert (len(halved), halved.thickness, halved.height, halved.depth) == (3, 6.0, -6.0, slices.depth)
    np.testing.assert_array_equal(halved.projected[1], slices.projected[2] + slices.projected[3])


def test_the_column_is_protein_in_ice():
    atoms = protein_column(100.0, 60.0, seed=1)
    radius = COLUMN * 50
    assert np.hypot(*atoms.position[:, :2].T).max() <= radius
    assert np.abs(atoms.position[:, 2]).max() <= 30 and abs(atoms.position.mean()) < 0.2
    # physics.md (b3): 1.35 g/cm^3 of 7.2 g/mol are 0.1125 atoms in a cubic angstrom
    assert len(atoms) / (math.pi * radius**2 * 60) == pytest.approx(0.1125, rel=0.02)
    slices = slices_in_ice(atoms, 100, 1.0, 60.0, 6)
    assert (slices.height, slices.thickness, slices.depth) == (-25, 10, 60)
    x, y = np.meshgrid(np.arange(100) - 50, np.arange(100) - 50)
    total = slices.projected.sum(axis=0) / 60
    inside, outside = np.hypot(x, y) < radius - 5, np.hypot(x, y) > radius + 5
    # protein minus ice: 3.404 V, here of volumes that sum to 1.33 g/cm^3; the ice's grain in the disc adds 0.05 V
    assert total[inside].mean() - total[outside].mean() == pytest.approx(3.35, abs=0.15)
    again = slices_in_ice(protein_column(100.0, 60.0, seed=1), 100, 1.0, 60.0, 6)
    np.testing.assert_array_equal(again.projected, slices.projected)


@pytest.mark.parametrize("thickness", [100.0, 300.0])
def test_what_flat_models_miss_is_the_closed_form(thickness):
    """A weak specimen of uncorrelated layers: sqrt(2 (1 - sin A / A)), at the mean frequency of the last shell."""
    rng = np.random.default_rng(5)
    count = round(thickness / 5)
    slabs = 1e-2 * rng.normal(size=(count, 128, 128))
    slices = PotentialSlices(slabs, 1.0, 5.0, -(count - 1) / 2 * 5)
    microscope = Microscope(300e3, 2.7e7, 1e4)
    images = {model: form_image(slices, microscope, model) for model in ("projection", "phase_object", "multislice")}
    expected = flatness_error(thickness / depth_of_field(4.0 / 0.95, 300e3))
    for model in ("projection", "phase_object"):
        found = rung_error(images[model], images["multislice"], 1.0, 4.0).at_resolution
        assert found == pytest.approx(expected, rel=0.05)  # 400 independent Fourier terms
    assert exit_wave(slices, 300e3).height == thickness / 2 + 2.5
