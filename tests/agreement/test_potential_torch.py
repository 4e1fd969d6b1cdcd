"""Voxel averages against torch-calculate-electrostatic-potential 0.6.0: `torch_potential.py` says what was run.

It averages by the error function as we do, in volts, with a table of its own, which it says is for s up to 6: its
coefficients are those of International Tables 4.3.2.2, for s up to 2, which we read from gemmi. So nothing has to be converted.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.model.atoms import Atoms
from vitreous.specimen.voxels import potential_slices, voxel_averages

HERE = Path(__file__).parent
STORED = json.loads((HERE / "torch_potential.json").read_text())


@pytest.fixture(scope="module")
def given():
    spec = importlib.util.spec_from_file_location("torch_potential", HERE / "torch_potential.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def atoms(given) -> Atoms:
    element, x, y, z, b_factor, occupancy = zip(*given.ATOMS)
    text = np.full(len(element), "A")
    position = np.stack([x, y, z], axis=1)
    return Atoms(position, np.array(element), np.array(b_factor), np.array(occupancy), text, text, np.arange(len(text)))


def test_versions():
    assert STORED["versions"]["torch-calculate-electrostatic-potential"] == "0.6.0"


def test_voxel_averages_in_volts(given, atoms):
    ours = voxel_averages(atoms, given.SHAPE, given.VOXEL, tolerance=1e-12, dtype=np.float64)
    values, theirs = np.array([ours[voxel] for voxel in given.VOXELS]), np.array(STORED["volume"])
    # their constant has nine digits more than the atoms' stencil, which ends at 12 A; ours are good to 2e-12 of an atom
    np.testing.assert_allclose(values, theirs, rtol=1e-8, atol=1e-9)
    assert theirs.max() > 30  # volts, positive inside atoms
    single = voxel_averages(atoms, given.SHAPE, given.VOXEL)
    np.testing.assert_allclose([single[voxel] for voxel in given.VOXELS], theirs, atol=1e-4 * theirs.max())


def test_projected_averages_in_volt_angstrom(given, atoms):
    slab = potential_slices(atoms, given.SHAPE[1:], given.VOXEL, thickness=60.0, count=1, dtype=np.float64)
    ours = [slab.projected[0][pixel] for pixel in given.PIXELS]
    theirs = np.array(STORED["projected"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.max())  # our default tolerance is 1e-6
