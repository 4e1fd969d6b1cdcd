"""The potential against gemmi's electron density calculator, run here on the same atoms: absolute volts.

gemmi samples `sum_i a_i (4 pi / b_i)^(3/2) exp(-4 pi^2 r^2 / b_i)` (1/A^2) at the points of a grid with its origin at index 0;
times h^2/(2 pi m e) = 47.8776472 V A^2 it is the potential in volts.
"""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.model.atoms import Atoms
from vitreous.specimen.potential import potential_volume
from vitreous.specimen.voxels import voxel_averages

VOLTS = 47.8776472
BOX, PIXEL_SIZE = 64, 0.5


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    rng = np.random.default_rng(11)
    n = 50
    text = np.full(n, "A")
    element = rng.choice(["C", "N", "O", "S", "P", "H", "Mg", "Zn"], n)
    return Atoms(
        rng.uniform(-9, 9, (n, 3)),
        element,
        rng.uniform(30, 120, n),
        rng.choice([1.0, 0.6], n),
        text,
        text,
        np.arange(n),
    )


@pytest.fixture(scope="module")
def sampled(atoms) -> np.ndarray:
    """gemmi's potential in volts at the middles of the voxels of a box, [z, y, x], origin at index N // 2."""
    import gemmi

    calculator = gemmi.DensityCalculatorE()
    calculator.cutoff = 1e-7
    size = BOX * PIXEL_SIZE
    calculator.grid.set_unit_cell(gemmi.UnitCell(size, size, size, 90, 90, 90))
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(BOX, BOX, BOX)
    calculator.d_min = 2 * PIXEL_SIZE
    for position, element, b_factor, occupancy in zip(atoms.position, atoms.element, atoms.b_factor, atoms.occupancy):
        atom = gemmi.Atom()
        atom.element, atom.b_iso, atom.occ = gemmi.Element(element), b_factor, occupancy
        atom.pos = gemmi.Position(*(position + size / 2))
        calculator.add_atom_density_to_grid(atom)
    return VOLTS * np.array(calculator.grid, copy=True).transpose(2, 1, 0)


def test_band_limited_potential_in_volts(atoms, sampled):
    """B of 30 and more leaves 1e-4 of f beyond Nyquist (k = 1): there the samples are those of the band-limited potential."""
    ours = potential_volume(atoms, BOX, PIXEL_SIZE, centre=False, threads=1).data
    assert sampled.max() > 20
    assert np.abs(ours - sampled).max() < 1e-3 * sampled.max()
    assert np.abs(ours - sampled).mean() < 1e-4 * sampled.max()
    for wrong in (-ours, ours[:, :, ::-1], ours.transpose(2, 1, 0)):
        assert np.abs(wrong - sampled).max() > 0.5 * sampled.max()


def test_voxel_averages_in_volts(atoms, sampled):
    """Averages over voxels of 0.5 A without their window (its three factors sinc(k p)) are the samples."""
    averages = voxel_averages(atoms, (BOX,) * 3, PIXEL_SIZE, dtype=np.float64)
    window = np.sinc(np.fft.fftfreq(BOX))
    transform = np.fft.fftn(averages) / (window[:, None, None] * window[None, :, None] * window)
    ours = np.fft.ifftn(transform).real
    assert np.abs(ours - sampled).max() < 2e-3 * sampled.max()
    assert np.abs(averages - sampled).max() > 0.02 * sampled.max()  # the window is seen
    assert averages.sum() == pytest.approx(sampled.sum(), rel=1e-4)
