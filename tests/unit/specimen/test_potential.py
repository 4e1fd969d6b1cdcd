from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest

from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.model.atoms import Atoms
from vitreous.reference.scattering_factors import potential_at_points
from vitreous.specimen import potential as potential_module
from vitreous.specimen.potential import centre_of_mass
from vitreous.specimen.scattering_factors import gaussians, potential_transform, scattering_factor
from vitreous.specimen.voxels import voxel_averages

# One thread: these problems are small, and threads that wait for a busy core take longer than the work.
potential_volume = functools.partial(potential_module.potential_volume, threads=1)


def model(position, element, b_factor=0.0, occupancy=1.0) -> Atoms:
    position = np.asarray(position, dtype=float)
    n = len(position)
    full = lambda value: np.broadcast_to(np.asarray(value, dtype=float), n).copy()
    text = np.full(n, "A", dtype=object)
    element = np.asarray(element, dtype=object)
    return Atoms(position, element, full(b_factor), full(occupancy), text, text, np.arange(n))


def protein(n=40, seed=0, extent=8.0) -> Atoms:
    rng = np.random.default_rng(seed)
    element = rng.choice(["C", "N", "O", "S", "P", "H", "ZN"], n)
    return model(rng.uniform(-extent, extent, (n, 3)), element, rng.uniform(20, 150, n), rng.choice([1.0, 0.5], n))


def total_of(atoms: Atoms) -> float:
    factors = [float(scattering_factor(e, 0.0)) for e in atoms.element]
    return POTENTIAL_PER_FACTOR * float(np.sum(factors * atoms.occupancy))


def centred_transform(volume) -> np.ndarray:
    return np.fft.fftn(np.fft.ifftshift(volume.data)) * volume.pixel_size**3


@pytest.mark.parametrize("box", [32, 33])
def test_is_the_sum_of_the_atoms_transforms(box):
    """Every Fourier coefficient is the direct sum of physics.md b2 over the atoms."""
    atoms, pixel_size = protein(), 1.1
    volume = potential_volume(atoms, box, pixel_size, centre=False, tolerance=1e-9)
    k = np.fft.fftfreq(box, pixel_size)
    transform = centred_transform(volume)
    rng = np.random.default_rng(1)
    inner = [i for i in range(box) if not (box % 2 == 0 and i == box // 2)]
    for _ in range(40):
        index = tuple(rng.choice(inner, 3))
        z, y, x = (k[i] for i in index)
        waves = np.exp(-2j * np.pi * (atoms.position @ np.array([x, y, z])))
        length = np.sqrt(x * x + y * y + z * z)
        forms = [potential_transform(e, length, b) for e, b in zip(atoms.element, atoms.b_factor)]
        expected = np.sum(atoms.occupancy * np.array(forms) * waves)
        # tolerance 1e-9 of each of 40 atoms' total, of 1e2 V A^3
        assert transform[index] == pytest.approx(expected, abs=1e-9 * total_of(atoms) * 10)
        if abs(expected.imag) > 1:  # the other sign of the transform, or swapped axes, would be seen
            assert abs(transform[index] - expected.conj()) > 1


def test_default_tolerance_holds():
    atoms = protein(200)
    exact = potential_volume(atoms, 32, 1.1, tolerance=1e-12).data
    values = potential_volume(atoms, 32, 1.1).data
    # each atom's form factor is good to 1e-6 of its f(0), and so is the map, with room for sums over atoms
    assert np.abs(values - exact).max() < 1e-5 * exact.max()


def test_is_the_definition_in_real_space():
    """Blurred atoms (B = 100) on 1 A voxels have nothing beyond Nyquist: the map is the sum of their Gaussians."""
    atoms = protein(10, extent=5.0)
    volume = potential_volume(atoms, 48, 1.0, extra_b_factor=100.0, centre=False, tolerance=1e-9)
    index = list(itertools.product((20, 24, 27), repeat=3))
    points = np.array([(x - 24.0, y - 24.0, z - 24.0) for z, y, x in index])
    tables = [gaussians(e) for e in atoms.element]
    expected = potential_at_points(points, atoms.position, tables, atoms.b_factor + 100.0) * 1.0
    ones = atoms.occupancy == 1.0
    half = replace(atoms, occupancy=np.ones(10))
    volume_of_ones = potential_volume(half, 48, 1.0, extra_b_factor=100.0, centre=False, tolerance=1e-9)
    values = np.array([volume_of_ones.data[i] for i in index])
    # exp(-120 k^2/4) at Nyquist, k = 0.5, is 5e-4, times f there, 0.1 of f(0), times the few coefficients beyond
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * expected.max())
    assert not ones.all() and volume.data.max() < volume_of_ones.data.max()  # occupancies count
    assert values.max() > 1  # volts, positive inside atoms


@pytest.mark.parametrize("element", ["H", "C", "P", "U"])
def test_integral(element):
    """physics.md (c) 2: the integral of V is 47.8776472 f(0), whatever the position and the voxel."""
    integrals = []
    for shift in (0.0, 0.3, 0.77):
        atoms = model([(shift, -shift, shift / 2)], [element], 10.0)
        volume = potential_volume(atoms, 24, 1.3, centre=False)
        assert volume.pixel_size == 1.3 and volume.box == 24
        integrals.append(volume.data.sum() * 1.3**3)
    expected = 47.8776472 * float(scattering_factor(element, 0.0))
    assert integrals == pytest.approx([expected] * 3, rel=1e-5)  # the bar is 1e-4
    assert integrals == pytest.approx([integrals[0]] * 3, rel=1e-6)  # the bar for shifts


def test_moving_the_atoms_by_voxels_moves_the_map():
    atoms, pixel_size = protein(), 1.2
    volume = potential_volume(atoms, 32, pixel_size, centre=False, tolerance=1e-9)
    step = np.array([2, -1, 3])  # x, y, z
    moved = potential_volume(
        replace(atoms, position=atoms.position + step * pixel_size), 32, pixel_size, centre=False, tolerance=1e-9
    )
    rolled = np.roll(volume.data, step[::-1], axis=(0, 1, 2))
    np.testing.assert_allclose(moved.data, rolled, atol=1e-7 * volume.data.max())
    assert np.abs(moved.data - volume.data).max() > 0.1 * volume.data.max()


@pytest.mark.parametrize("box", [24, 25])
def test_origin_and_axes(box):
    origin = potential_volume(model([(0, 0, 0)], ["C"], 30.0), box, 1.0).data
    assert np.unravel_index(origin.argmax(), origin.shape) == (box // 2,) * 3
    along = potential_volume(model([(4, 2, -3)], ["C"], 30.0), box, 1.0, centre=False).data
    assert np.unravel_index(along.argmax(), along.shape) == (box // 2 - 3, box // 2 + 2, box // 2 + 4)


def test_is_linear_in_atoms_and_occupancy():
    atoms = protein(20)
    settings = {"centre": False, "tolerance": 1e-10}
    whole = potential_volume(atoms, 24, 1.5, **settings).data
    parts = [potential_volume(atoms.rows(s), 24, 1.5, **settings).data for s in (slice(0, 7), slice(7, 20))]
    np.testing.assert_allclose(sum(parts), whole, atol=1e-7 * whole.max())
    doubled = potential_volume(replace(atoms, occupancy=2 * atoms.occupancy), 24, 1.5, **settings).data
    np.testing.assert_allclose(doubled, 2 * whole, atol=1e-9 * whole.max())


def test_extra_b_factor_is_added():
    atoms = protein(20)
    one = potential_volume(atoms, 24, 1.5, extra_b_factor=50.0, centre=False, tolerance=1e-10).data
    other = potential_volume(
        replace(atoms, b_factor=atoms.b_factor + 50.0), 24, 1.5, centre=False, tolerance=1e-10
    ).data
    np.testing.assert_allclose(one, other, atol=1e-12 * one.max())
    assert one.max() < potential_volume(atoms, 24, 1.5, centre=False).data.max()


def test_centre_of_mass():
    atoms = model([(0, 0, 0), (10, 4, -2)], ["C", "O"], occupancy=[1.0, 0.5])
    expected = np.array([10, 4, -2]) * 8.0 / (8.0 + 12.011)  # masses 12.011 and half of 15.999
    np.testing.assert_allclose(centre_of_mass(atoms), expected, rtol=1e-4)  # masses of different tables
    far = replace(atoms, position=atoms.position + 500.0)
    np.testing.assert_allclose(potential_volume(far, 24, 1.0).data, potential_volume(atoms, 24, 1.0).data, atol=1e-9)


def test_precision_follows_the_positions():
    atoms = protein()
    single = replace(atoms, position=atoms.position.astype(np.float32))
    volume, exact = potential_volume(single, 24, 1.5), potential_volume(atoms, 24, 1.5)
    assert volume.data.dtype == np.float32 and exact.data.dtype == np.float64
    np.testing.assert_allclose(volume.data, exact.data, atol=1e-4 * exact.data.max())  # production bar of (c) 2
    assert volume.data.sum() == pytest.approx(exact.data.sum(), rel=1e-5)


def test_few_transforms_for_many_kinds_of_atoms(monkeypatch):
    calls = []
    transform = potential_module.transform_of_points
    monkeypatch.setattr(potential_module, "transform_of_points", lambda *a, **k: calls.append(1) or transform(*a, **k))
    potential_volume(protein(500), 24, 2.0)
    assert len(calls) <= 10
    calls.clear()
    potential_volume(model([(0, 0, 0), (1, 2, 3)], ["C", "C"], 20.0), 24, 2.0)
    assert len(calls) == 1


def test_inputs_are_unchanged():
    atoms = protein()
    before = atoms.position.copy(), atoms.b_factor.copy(), atoms.occupancy.copy()
    potential_volume(atoms, 24, 1.5, extra_b_factor=5.0)
    for old, new in zip(before, (atoms.position, atoms.b_factor, atoms.occupancy)):
        np.testing.assert_array_equal(old, new)


def test_unknown_elements_are_named():
    with pytest.raises(DataProblem, match="unknown element 'XX'"):
        potential_volume(model([(0, 0, 0), (1, 1, 1)], ["C", "XX"]), 24, 1.0)


def test_a_box_too_small_is_refused_with_numbers():
    with pytest.raises(SettingsProblem, match=r"24\.0 A .*reach 20\.0 A.*at least 40 voxels"):
        potential_volume(model([(-20, 0, 0), (20, 0, 0)], ["C", "C"]), 24, 1.0)
    assert potential_volume(model([(-20, 0, 0), (20, 0, 0)], ["C", "C"], 20.0), 40, 1.0).box == 40


def test_bad_values_are_refused():
    good = protein(5)
    with pytest.raises(DataProblem, match="1 atoms with a B factor below 0"):
        potential_volume(replace(good, b_factor=np.array([1.0, 2, 3, -4, 5])), 24, 1.5)
    with pytest.raises(DataProblem, match="B factor"):
        potential_volume(replace(good, b_factor=np.array([1.0, 2, 3, np.nan, 5])), 24, 1.5)
    with pytest.raises(DataProblem, match="finite coordinates"):
        potential_volume(replace(good, position=np.full((5, 3), np.nan)), 24, 1.5)
    with pytest.raises(DataProblem, match="occupancies"):
        potential_volume(replace(good, occupancy=np.zeros(5)), 24, 1.5)
    with pytest.raises(SettingsProblem, match="pixel size"):
        potential_volume(good, 24, 0.1)


def test_displaced_solvent_is_subtracted():
    """The same as the voxel averages of the same atoms, once their window is taken away, and as the sum of integrals."""
    atoms = protein(60)
    displaced = {symbol: (40.0 + 5 * i, 50.0 + 10 * i) for i, symbol in enumerate(np.unique(atoms.element.astype(str)))}
    whole = potential_volume(atoms, 32, 1.1, centre=False, tolerance=1e-9).data
    less = potential_volume(atoms, 32, 1.1, centre=False, displaced=displaced, tolerance=1e-9).data
    taken = sum(displaced[e][0] * o for e, o in zip(atoms.element, atoms.occupancy))
    assert (whole - less).sum() * 1.1**3 == pytest.approx(taken, rel=1e-9)
    averages = voxel_averages(atoms, (32,) * 3, 1.1, displaced=displaced, dtype=np.float64)
    window = np.sinc(np.fft.fftfreq(32))
    transform = np.fft.fftn(averages) / (window[:, None, None] * window[None, :, None] * window)
    k = np.fft.fftfreq(32, 1.1)
    low = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2) < 0.25
    expected = np.fft.fftn(less)
    # the folding of atoms with B factors from 20 on, below 0.6 of Nyquist
    assert np.linalg.norm((transform - expected)[low]) < 2e-3 * np.linalg.norm(expected[low])
