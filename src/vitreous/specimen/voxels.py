"""The electrostatic potential of atoms, averaged over the voxels of a grid exactly.

An atom is a sum of Gaussians (`profiles.py`). The mean of a Gaussian over a box of edges a, b, c is a product of three
factors, one for each axis, of the form

    (1/a) * (erf((x + a/2) / (sqrt 2 s)) - erf((x - a/2) / (sqrt 2 s))) / 2,        s^2 = (width + B) / (8 pi^2)

so nothing is sampled and nothing is missed between the samples: the sum over the grid is the integral of the potential,
wherever the atoms are. Voxels may be deeper than they are wide: the same code makes the slabs of a multislice calculation.

A voxel average is the potential behind a window: along x and y its transform is that of the potential times
`sinc(kx p) sinc(ky p)`, and what lies beyond Nyquist, weakened by the same window, is folded back. `without_pixel_window`
takes the window away again. The other grid, of nothing but the frequencies below Nyquist, is `potential.potential_volume`.

Each Gaussian is cut where no more than `tolerance` of it lies beyond, and the rest is scaled to make up for that.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engine.local import Counter, side_by_side
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.model.atoms import Atoms
from vitreous.model.slices import PotentialSlices
from vitreous.specimen.profiles import AtomProfiles, atom_profiles

if TYPE_CHECKING:
    from jaxtyping import Float

TOLERANCE = 1e-6
ATOMS_PER_THREAD = 2000  # fewer are not worth the start of a thread


def voxel_averages(
    atoms: Atoms,
    shape: Sequence[int],
    pixel_size: float,
    *,
    slice_thickness: float | None = None,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    extra_b_factor: float = 0.0,
    displaced: Mapping[str, tuple[float, float]] | None = None,
    tolerance: float = TOLERANCE,
    dtype: np.dtype | type = np.float32,
    threads: int | None = None,
) -> Float[np.ndarray, "z y x"]:
    """The mean potential in volt over each voxel of a grid `shape` = (z, y, x).

    Voxels are `pixel_size` angstrom wide along x and y and `slice_thickness` (by default the same) along z. The middle of
    voxel (z, y, x) = shape // 2 lies at `origin` (x, y, z). `extra_b_factor` (angstrom^2) is added to the B factor of
    each atom; `displaced` is the solvent that the atoms displace (`solvent.displaced_solvent`), which is subtracted.
    Atoms beyond the grid add the part of them that reaches in. `threads`: by default all cores.

    Raises DataProblem for unknown elements, B factors below 0 and positions that are not numbers, SettingsProblem for a
    grid that cannot be.
    """
    depth = pixel_size if slice_thickness is None else slice_thickness
    _check_grid(shape, pixel_size, depth)
    grid = np.zeros(tuple(shape), dtype)
    height = -(shape[0] // 2) * depth
    profiles = atom_profiles(atoms, extra_b_factor=extra_b_factor, displaced=displaced)
    position = np.asarray(atoms.position, np.float64) - np.asarray(origin, np.float64)
    add_atoms(
        grid, position, profiles, pixel_size, thickness=depth, height=height, tolerance=tolerance, threads=threads
    )
    grid *= grid.dtype.type(1 / depth)
    return grid


def potential_slices(
    atoms: Atoms,
    shape: Sequence[int],
    pixel_size: float,
    *,
    thickness: float,
    count: int,
    height: float | None = None,
    extra_b_factor: float = 0.0,
    displaced: Mapping[str, tuple[float, float]] | None = None,
    tolerance: float = TOLERANCE,
    dtype: np.dtype | type = np.float32,
    threads: int | None = None,
) -> PotentialSlices:
    """`count` slabs of `thickness` angstrom of the potential, `shape` = (y, x), integrated over their depth exactly.

    The middle of slab j is at z = height + j thickness; by default the stack is centred on z = 0. Other arguments and
    errors are those of `voxel_averages`.
    """
    _check_grid((count, *shape), pixel_size, thickness)
    first = -(count - 1) / 2 * thickness if height is None else height
    projected = np.zeros((count, *shape), dtype)
    profiles = atom_profiles(atoms, extra_b_factor=extra_b_factor, displaced=displaced)
    add_atoms(
        projected,
        atoms.position,
        profiles,
        pixel_size,
        thickness=thickness,
        height=first,
        tolerance=tolerance,
        threads=threads,
    )
    return PotentialSlices(projected, pixel_size, thickness, first)


def add_atoms(
    projected: Float[np.ndarray, "s y x"],
    position: Float[np.ndarray, "n 3"],
    profiles: AtomProfiles,
    pixel_size: float,
    *,
    thickness: float,
    height: float,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> None:
    """Add the potential of atoms to slabs, in place: the integral over the depth of each slab of its mean over each pixel.

    V A, `projected` float32 or float64. The middle of slab j is at z = `height + j thickness`, x = y = 0 at index N // 2,
    in angstrom. No more memory is used than the window of one atom, whatever the size of the field: many particles are
    added by one call each, with their rotated positions. Atoms outside add what reaches in.

    Raises DataProblem for positions that are not finite and SettingsProblem for another dtype.
    """
    from vitreous.specimen.voxel_kernel import add_gaussians

    _check_projected(projected)
    position = np.ascontiguousarray(position, np.float64)
    if not np.isfinite(position).all():
        raise DataProblem("atoms whose positions are not numbers", "finite coordinates in angstrom")
    if len(position) == 0:
        return
    _, rows, columns = projected.shape
    voxel = np.array([pixel_size, pixel_size, thickness], np.float64)
    corner = np.array([-(columns // 2 + 0.5) * pixel_size, -(rows // 2 + 0.5) * pixel_size, height - thickness / 2])
    # The kernel adds a voxel's mean times its depth: amplitudes per area.
    tables = (
        np.ascontiguousarray(profiles.kind, np.int64),
        np.ascontiguousarray(profiles.b_factor, np.float64),
        np.ascontiguousarray(profiles.occupancy, np.float64),
        np.ascontiguousarray(profiles.amplitude, np.float64) / pixel_size**2,
        np.ascontiguousarray(profiles.width, np.float64),
    )
    reach = standard_deviations(tolerance)
    bands = _bands(position[:, 1] / pixel_size + rows // 2, rows, threads)
    tasks = [
        partial(add_gaussians, projected, start, stop, position, *tables, voxel, corner, reach)
        for start, stop in itertools.pairwise(bands)
    ]
    side_by_side(tasks, Counter(len(tasks)))


def standard_deviations(tolerance: float) -> float:
    """How many standard deviations along each axis hold all but `tolerance` of a three-dimensional Gaussian."""
    if not 0 < tolerance < 0.1:
        raise SettingsProblem(f"a tolerance of {tolerance}", "a number above 0 and below 0.1")
    return -NormalDist().inv_cdf(tolerance / 6)  # three axes of two tails


def without_pixel_window(slices: PotentialSlices) -> PotentialSlices:
    """The slabs with the window of their pixels taken away: their transform divided by `sinc(kx p) sinc(ky p)`.

    What is left of the difference from the band-limited potential is what was folded back from beyond Nyquist. For
    atoms with B factors of 26 to 180 A^2 on pixels of 1 A that is 3e-4 of the amplitude at 4 A, 1e-3 at 3.3 A and 3e-2
    at 2.5 A, where the window itself would have taken 20, 28 and 50 % off.
    """
    shape = slices.projected.shape[-2:]
    transform = forward(slices.projected, 2)
    kx, ky = frequencies(shape, slices.pixel_size)
    transform /= pixel_window(kx, ky, slices.pixel_size).astype(transform.real.dtype)
    return replace(slices, projected=inverse(transform, shape))


def pixel_window(
    kx: Float[np.ndarray, " ..."], ky: Float[np.ndarray, " ..."], pixel_size: float
) -> Float[np.ndarray, " ..."]:
    """`sinc(kx p) sinc(ky p)`, sinc(u) = sin(pi u) / (pi u): what averaging over square pixels does to a transform."""
    return np.sinc(kx * pixel_size) * np.sinc(ky * pixel_size)


def _bands(row: np.ndarray, rows: int, threads: int | None) -> np.ndarray:
    """Where each thread's rows begin, and the end: bands of as many atoms each. `row` [n]: those of the atoms."""
    count = os.cpu_count() or 1 if threads is None else threads
    count = max(1, min(count, rows, len(row) // ATOMS_PER_THREAD))
    inner = np.quantile(row, np.arange(1, count) / count).round().astype(np.int64) if count > 1 else []
    return np.maximum.accumulate(np.clip([0, *inner, rows], 0, rows))


def _check_projected(projected: np.ndarray) -> None:
    if projected.ndim != 3 or projected.dtype not in (np.float32, np.float64):
        raise SettingsProblem(
            f"slabs of shape {projected.shape} and type {projected.dtype}", "[slab, y, x] of float32 or float64"
        )


def _check_grid(shape: Sequence[int], pixel_size: float, depth: float) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise SettingsProblem(f"a grid of shape {tuple(shape)}", "at least one voxel along z, y and x")
    for name, size in (("pixel size", pixel_size), ("slice thickness", depth)):
        if not 0 < size < math.inf:
            raise SettingsProblem(f"a {name} of {size} A", "a positive number of angstrom")
