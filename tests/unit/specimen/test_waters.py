from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from vitreous.errors import SettingsProblem
from vitreous.io.bundled import load_bundled
from vitreous.specimen.hydrogens import hydrogen_counts
from vitreous.specimen.materials import ICE, number_density
from vitreous.specimen.potential import centre_of_mass
from vitreous.specimen.waters import waters_around

BOX = (62.0, 55.0, 48.0)


@pytest.fixture(scope="module")
def box_of_water():
    return waters_around(None, BOX, seed=3)


def test_density_is_that_of_ice(box_of_water):
    count = len(box_of_water) / 3
    density = count * 18.0153 / np.prod(BOX) / 0.602214076
    assert density == pytest.approx(0.93, abs=0.5 * 18.0153 / np.prod(BOX) / 0.6022)  # to half a molecule
    oxygen = box_of_water.position[::3]
    for axis, side in enumerate(BOX):  # everywhere: each of four slabs along each axis
        counts = np.histogram(oxygen[:, axis], bins=4, range=(-side / 2, side / 2))[0]
        assert np.abs(counts - count / 4).max() < 3 * np.sqrt(count / 4)  # hard cores vary less than Poisson


def test_no_two_molecules_clash(box_of_water):
    oxygen = box_of_water.position[::3] + np.array(BOX) / 2
    tree = cKDTree(oxygen % BOX, boxsize=BOX)
    distance = tree.query(tree.data, k=2)[0][:, 1]
    assert distance.min() >= 2.5 and distance.min() < 2.51  # and the limit is reached


def test_molecules_are_those_of_the_gas(box_of_water):
    oxygen, first, second = (box_of_water.position[i::3] for i in range(3))
    assert box_of_water.element[:6].tolist() == ["O", "H", "H", "O", "H", "H"]
    for hydrogen in (first, second):
        np.testing.assert_allclose(np.linalg.norm(hydrogen - oxygen, axis=1), 0.9572, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(first - second, axis=1), 1.5139, atol=1e-4)
    direction = (first + second - 2 * oxygen) / 0.9572
    assert np.abs(direction.mean(axis=0)).max() < 4 / np.sqrt(len(oxygen))  # no direction preferred
    assert hydrogen_counts(box_of_water).sum() == 0  # they have their hydrogens


def test_around_a_model():
    atoms = load_bundled("4ake")
    centred = type(atoms)(**{**atoms.__dict__, "position": atoms.position - centre_of_mass(atoms)})
    extent = (100.0, 90.0, 85.0)
    waters = waters_around(centred, extent, seed=1)
    oxygen = waters.position[::3]
    distance, _ = cKDTree(centred.position).query(oxygen)
    assert distance.min() >= 2.8
    # far from the model, where no molecule was taken out: counted in the part of the box 12 A and more away from it
    points = (np.random.default_rng(0).random((200_000, 3)) - 0.5) * extent
    away = np.mean(cKDTree(centred.position).query(points, distance_upper_bound=12.0)[0] == np.inf)
    expected = away * np.prod(extent) * number_density(ICE)
    assert (distance > 12.0).sum() == pytest.approx(expected, abs=3 * np.sqrt(expected))
    # what is missing is about what the model and a layer of half a molecule around it take
    missing = round(np.prod(extent) * number_density(ICE)) - len(oxygen)
    assert 900 < missing < 2400  # 29,500 A^3 displace 920 molecules; the layer is 1.4 A on some 10,000 A^2 and more


def test_seeds():
    one, same, other = (waters_around(None, (30.0, 30.0, 30.0), seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(one.position, same.position)
    assert np.abs(one.position - other.position).max() > 1


def test_b_factor_and_names():
    waters = waters_around(None, (20.0, 20.0, 20.0), b_factor=30.0)
    assert set(waters.b_factor) == {30.0} and set(waters.residue_name) == {"HOH"} and set(waters.chain) == {"W"}
    np.testing.assert_array_equal(waters.residue_number[:7], [1, 1, 1, 2, 2, 2, 3])


def test_bad_settings_are_refused(monkeypatch):
    with pytest.raises(SettingsProblem, match="three sides"):
        waters_around(None, (20.0, 20.0, 4.0))
    atoms = load_bundled("4ake")
    with pytest.raises(SettingsProblem, match="fills the box"):
        waters_around(atoms, (6.0, 6.0, 6.0), clearance=100.0)
    monkeypatch.setattr("vitreous.specimen.waters.ROUNDS", 20)
    with pytest.raises(SettingsProblem, match=r"found room at 3.3 A"):
        waters_around(None, (30.0, 30.0, 30.0), closest=3.3)
