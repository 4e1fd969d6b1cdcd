"""Voxel averages: the definition, physics.md (c) row 2, and what the slabs of a field must do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, radial_frequency
from vitreous.model.atoms import Atoms
from vitreous.model.slices import PotentialSlices
from vitreous.reference.potential import gaussian_share, potential_by_integral, voxel_mean
from vitreous.specimen.potential import potential_volume
from vitreous.specimen.profiles import atom_profiles
from vitreous.specimen.scattering_factors import scattering_factor
from vitreous.specimen.voxel_kernel import ERF_ERROR, error_function
from vitreous.specimen.voxels import (
    add_atoms,
    potential_slices,
    standard_deviations,
    voxel_averages,
    without_pixel_window,
)


def model(position, element, b_factor=0.0, occupancy=1.0) -> Atoms:
    position = np.asarray(position, dtype=float)
    n = len(position)
    full = lambda value: np.broadcast_to(np.asarray(value, dtype=float), n).copy()
    text = np.full(n, "A", dtype=object)
    return Atoms(position, np.asarray(element, dtype=object), full(b_factor), full(occupancy), text, text, np.arange(n))


def protein(n=40, seed=0, extent=8.0) -> Atoms:
    rng = np.random.default_rng(seed)
    element = rng.choice(["C", "N", "O", "S", "P", "H", "ZN"], n)
    return model(rng.uniform(-extent, extent, (n, 3)), element, rng.uniform(20, 150, n), rng.choice([1.0, 0.5], n))


def reference_grid(atoms, shape, pixel_size, depth, origin, displaced=None) -> np.ndarray:
    """Every voxel by the definition, z edges from the middle of voxel N // 2 as for x and y."""
    profiles = atom_profiles(atoms, displaced=displaced)
    grid, steps = np.zeros(shape), np.array([pixel_size, pixel_size, depth])
    for index in np.ndindex(*shape):
        middle = (np.array(index[::-1]) - np.array(shape[::-1]) // 2) * steps + origin
        for n in range(len(atoms)):
            low, high = middle - steps / 2 - atoms.position[n], middle + steps / 2 - atoms.position[n]
            kind = profiles.kind[n]
            mean = voxel_mean(low, high, profiles.amplitude[kind], profiles.width[kind] + atoms.b_factor[n])
            grid[index] += atoms.occupancy[n] * mean
    return grid


def test_error_function():
    x = np.concatenate([np.linspace(-7, 7, 2001), [0.0, 5.0, -5.0, 1e-9]])
    values = np.empty_like(x)
    error_function(x.copy(), len(x), np.empty_like(x), values)
    assert np.abs(values - [math.erf(value) for value in x]).max() < ERF_ERROR
    assert values[-4] == 0.0 and (values[x > 0] > 0).all()


@pytest.mark.parametrize("depth", [1.1, 3.0])
def test_is_the_definition(depth):
    """Cubes and slabs, an origin that is not zero, odd and even axes, atoms beyond the edges, displaced solvent."""
    rng = np.random.default_rng(3)
    atoms = model(rng.uniform(-5, 5, (6, 3)), ["C", "H", "U", "S", "RB", "O"], [0.0, 5, 20, 60, 9, 0], 0.8)
    shape, origin = (4, 7, 6), np.array([0.4, -0.3, 0.7])
    displaced = dict.fromkeys(("C", "H", "U", "S", "RB", "O"), (90.0, 30.0))
    for solvent in (None, displaced):
        expected = reference_grid(atoms, shape, 1.1, depth, origin, solvent)
        settings = {"slice_thickness": depth, "origin": tuple(origin), "displaced": solvent}
        exact = voxel_averages(atoms, shape, 1.1, tolerance=1e-9, dtype=np.float64, **settings)
        # 6 atoms, of each of which 1e-9 of up to 1e3 V A^3 lies beyond the cut, in voxels of 1 A^3
        np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-6)
        assert np.abs(expected).max() > 10 and np.abs(exact - expected[::-1]).max() > 1
        plain = voxel_averages(atoms, shape, 1.1, **settings)
        assert plain.dtype == np.float32
        np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-4 * np.abs(expected).max())  # float32 bar


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("element", ["H", "C", "P", "U"])
def test_integral_is_exact_wherever_the_atom_is(element, dtype):
    """physics.md (c) 2: 47.8776472 f(0) within 1e-4, unchanged by sub-voxel shifts to 1e-6, also of a sharp atom."""
    integrals = []
    for shift in (0.0, 0.3, 0.5, 0.77, 1.3):
        atoms = model([(shift, -shift, shift / 2)], [element], 0.0)
        grid = voxel_averages(atoms, (24, 25, 26), 1.3, slice_thickness=0.9, dtype=dtype)
        integrals.append(grid.sum(dtype=np.float64) * 1.3**2 * 0.9)
    expected = 47.8776472 * float(scattering_factor(element, 0.0))
    # float32 values keep 6e-8 of each voxel
    assert integrals == pytest.approx([expected] * 5, rel=1e-6)
    assert integrals == pytest.approx([integrals[0]] * 5, rel=1e-9 if dtype == np.float64 else 2e-7)


def test_small_voxels_are_the_fourier_integral():
    """The potential at a point against the direct Fourier integral, physics.md (c) 2: 1e-6."""
    atoms = model([(0.0, 0.0, 0.0)], ["C"], 10.0)
    profiles = atom_profiles(atoms)
    amplitude, width = profiles.amplitude[0], profiles.width[0] + 10.0
    size = 1e-3  # the mean over a voxel differs from its middle by size^2/24 of the curvature
    for radius in (0.0, 0.4, 1.1, 2.0):
        value = voxel_averages(atoms, (1, 1, 1), size, origin=(0.0, radius, 0.0), tolerance=1e-12, dtype=np.float64)
        integral = potential_by_integral(radius, amplitude, width)
        assert value[0, 0, 0] == pytest.approx(integral, rel=1e-6) and integral > 0
        assert voxel_mean(np.full(3, -size / 2), np.full(3, size / 2), amplitude, width) == pytest.approx(
            potential_by_integral(0.0, amplitude, width), rel=1e-6
        )
    assert amplitude.sum() == pytest.approx(POTENTIAL_PER_FACTOR * float(scattering_factor("C", 0.0)))
    assert gaussian_share(-100.0, 100.0, 3.0) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("shape", [(20, 24, 28), (21, 23, 27)])
def test_origin_and_axes(shape):
    atoms = model([(4, 2, -3)], ["C"], 30.0)
    grid = voxel_averages(atoms, shape, 1.0)
    middle = [size // 2 for size in shape]
    assert np.unravel_index(grid.argmax(), shape) == (middle[0] - 3, middle[1] + 2, middle[2] + 4)
    moved = voxel_averages(atoms, shape, 1.0, origin=(4.0, 2.0, -3.0))
    assert np.unravel_index(moved.argmax(), shape) == tuple(middle)


def test_slabs_add_up_to_the_projection():
    """Thin slabs, one thick slab and a column of voxels hold the same V A; the middle of slab j is at height + j t."""
    atoms = protein()
    settings = {"dtype": np.float64, "tolerance": 1e-10}
    thin = potential_slices(atoms, (24, 26), 1.0, thickness=0.5, count=80, **settings)
    thick = potential_slices(atoms, (24, 26), 1.0, thickness=40.0, count=1, **settings)
    assert isinstance(thin, PotentialSlices) and (len(thin), thin.depth, thin.height) == (80, 40.0, -19.75)
    assert thick.height == 0.0
    np.testing.assert_allclose(thin.projected.sum(axis=0), thick.projected[0], atol=1e-7 * thick.projected.max())
    volume = voxel_averages(atoms, (41, 24, 26), 1.0, **settings)
    np.testing.assert_allclose(volume.sum(axis=0), thick.projected[0], atol=1e-7 * thick.projected.max())
    high = potential_slices(model([(0, 0, 7.2)], ["C"], 5.0), (8, 8), 1.0, thickness=2.0, count=10, height=-9.0)
    assert high.projected.sum(axis=(1, 2)).argmax() == 8  # -9 + 8 * 2 = 7
    assert high.height == -9.0


def test_atoms_beyond_the_field_add_what_reaches_in():
    atoms = protein()
    wide = potential_slices(atoms, (40, 40), 1.0, thickness=30.0, count=1).projected
    narrow = potential_slices(atoms, (12, 10), 1.0, thickness=30.0, count=1).projected
    np.testing.assert_allclose(narrow, wide[:, 14:26, 15:25], atol=1e-4)
    far = replace(atoms, position=atoms.position + 1e4)
    assert not potential_slices(far, (12, 10), 1.0, thickness=30.0, count=1).projected.any()


def test_adds_in_place_and_leaves_its_input():
    atoms = protein()
    profiles = atom_profiles(atoms, extra_b_factor=10.0)
    position = atoms.position.copy()
    before = [np.copy(value) for value in (profiles.kind, profiles.b_factor, profiles.amplitude, profiles.width)]
    field = np.ones((3, 30, 32), np.float32)
    settings = {"thickness": 8.0, "height": -8.0}
    add_atoms(field, position, profiles, 1.0, **settings)
    aside = np.array([3.0, 0.0, 0.0])
    add_atoms(field, position + aside, profiles, 1.0, **settings)
    one = potential_slices(atoms, (30, 32), 1.0, count=3, extra_b_factor=10.0, **settings).projected
    other = potential_slices(
        replace(atoms, position=position + aside), (30, 32), 1.0, count=3, extra_b_factor=10.0, **settings
    ).projected
    np.testing.assert_allclose(field, 1 + one + other, atol=1e-4)
    np.testing.assert_array_equal(position, atoms.position)
    for old, new in zip(before, (profiles.kind, profiles.b_factor, profiles.amplitude, profiles.width)):
        np.testing.assert_array_equal(old, new)
    add_atoms(field, position[:0], profiles, 1.0, **settings)  # no atoms: nothing


def test_threads_do_not_change_the_answer():
    atoms = protein(9000, extent=20.0)
    one, two, three = (voxel_averages(atoms, (20, 40, 44), 1.2, threads=n) for n in (1, 2, 3))
    assert np.array_equal(one, two) and np.array_equal(one, three)  # each row is the work of one thread, atom by atom


def test_tolerance_holds():
    """What is cut off a sharp and a soft atom is below the tolerance; a larger one changes the map by about as much."""
    atoms = model([(0.2, 0.1, 0.3)], ["N"], 20.0)
    exact = voxel_averages(atoms, (40, 40, 40), 0.5, tolerance=1e-12, dtype=np.float64)
    for tolerance in (1e-3, 1e-5):
        values = voxel_averages(atoms, (40, 40, 40), 0.5, tolerance=tolerance, dtype=np.float64)
        difference = np.abs(values - exact).sum() / exact.sum()
        assert tolerance / 10 < difference < 2 * tolerance  # cut off, and put back elsewhere
    assert standard_deviations(6 * 0.0013498980316300933) == pytest.approx(3.0)  # the normal distribution beyond 3


def test_without_the_window_it_is_the_band_limited_potential():
    """Up to the folding, which for B = 60 at 1 A is small: amplitudes to 1e-3 up to k = 0.3."""
    atoms = replace(protein(60, extent=9.0), b_factor=np.full(60, 60.0))
    slices = potential_slices(atoms, (40, 40), 1.0, thickness=40.0, count=1, dtype=np.float64)
    sharp = without_pixel_window(slices)
    expected = potential_volume(atoms, 40, 1.0, centre=False, threads=1).data.sum(axis=0)
    k = radial_frequency((40, 40), 1.0)
    low = (k < 0.3) & (k > 0)
    transform = forward(expected, 2)
    error = np.linalg.norm((forward(sharp.projected[0], 2) - transform)[low]) / np.linalg.norm(transform[low])
    with_window = np.linalg.norm((forward(slices.projected[0], 2) - transform)[low]) / np.linalg.norm(transform[low])
    assert error < 1e-3 < 0.01 < with_window
    assert sharp.projected.sum() == pytest.approx(slices.projected.sum(), rel=1e-12)


def test_refusals():
    atoms = protein(4)
    with pytest.raises(DataProblem, match="unknown element 'XX'"):
        voxel_averages(model([(0, 0, 0)], ["XX"]), (8, 8, 8), 1.0)
    with pytest.raises(DataProblem, match="finite coordinates"):
        voxel_averages(replace(atoms, position=np.full((4, 3), np.nan)), (8, 8, 8), 1.0)
    with pytest.raises(DataProblem, match="B factor"):
        voxel_averages(replace(atoms, b_factor=np.full(4, -1.0)), (8, 8, 8), 1.0)
    with pytest.raises(SettingsProblem, match="pixel size of 0"):
        voxel_averages(atoms, (8, 8, 8), 0)
    with pytest.raises(SettingsProblem, match="slice thickness of -1"):
        potential_slices(atoms, (8, 8), 1.0, thickness=-1, count=1)
    with pytest.raises(SettingsProblem, match="shape"):
        potential_slices(atoms, (8, 8), 1.0, thickness=1.0, count=0)
    with pytest.raises(SettingsProblem, match="tolerance"):
        voxel_averages(atoms, (8, 8, 8), 1.0, tolerance=0.0)
    with pytest.raises(SettingsProblem, match="float32 or float64"):
        add_atoms(np.zeros((1, 8, 8), complex), atoms.position, atom_profiles(atoms), 1.0, thickness=1.0, height=0.0)
