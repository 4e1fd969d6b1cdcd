"""A specimen to try scattering models on: a column of protein through a film of ice, made of atoms at their densities.

Atoms of the composition of an average protein are placed one in each cell of a cubic lattice, anywhere in the cell: as
dense as a protein and, like matter, without the large density fluctuations of a gas. The ice is the random field of
`specimen.ice`. Potentials are relative to the mean of the ice, which turns the phase of the whole wave and no image shows.
"""

from __future__ import annotations

import math

import numpy as np

from vitreous.model.atoms import Atoms
from vitreous.model.slices import PotentialSlices
from vitreous.specimen.ice import ice_slab
from vitreous.specimen.materials import PROTEIN, number_density
from vitreous.specimen.solvent import displaced_solvent
from vitreous.specimen.voxels import potential_slices

B_FACTOR = 20.0  # A^2 of the atoms of the phantom and of the molecules of the ice
COLUMN = 0.4  # diameter of the column of protein, as a part of the field


def protein_column(width: float, thickness: float, seed: int = 0) -> Atoms:
    """Random atoms of a protein in a cylinder along z, `COLUMN` x `width` across and `thickness` deep, in angstrom."""
    rng = np.random.default_rng(seed)
    atoms_per_unit = sum(PROTEIN.composition.values())
    cell = (number_density(PROTEIN) * atoms_per_unit) ** (-1 / 3)
    radius = COLUMN * width / 2
    across, deep = math.ceil(2 * radius / cell), max(1, round(thickness / cell))
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in (across, across, deep)), indexing="ij"), axis=-1)
    position = (corners.reshape(-1, 3) + rng.uniform(size=(corners.size // 3, 3))) - np.array(
        [across, across, deep]
    ) / 2
    position *= np.array([cell, cell, thickness / deep])
    position = position[np.hypot(position[:, 0], position[:, 1]) < radius]
    count = len(position)
    shares = np.array(list(PROTEIN.composition.values())) / atoms_per_unit
    return Atoms(
        position=position,
        element=rng.choice(list(PROTEIN.composition), size=count, p=shares),
        b_factor=np.full(count, B_FACTOR),
        occupancy=np.ones(count),
        chain=np.full(count, "A"),
        residue_name=np.full(count, "UNK"),
        residue_number=np.arange(count),
    )


def slices_in_ice(
    atoms: Atoms,
    box: int,
    pixel_size: float,
    thickness: float,
    count: int,
    *,
    seed: int = 0,
    threads: int | None = None,
) -> PotentialSlices:
    """Atoms in a film of ice of `thickness` angstrom in all, cut into `count` slabs of `box` x `box` pixels.

    The atoms displace the mean potential of the ice; its fluctuations are everywhere. z = 0 is the middle of the film.
    """
    depth = thickness / count
    slices = potential_slices(
        atoms, (box, box), pixel_size, thickness=depth, count=count, displaced=displaced_solvent(atoms), threads=threads
    )
    ice = ice_slab((box, box), pixel_size, depth, count, seed, b_factor=B_FACTOR, pixel_average=True)
    return PotentialSlices(slices.projected + ice, pixel_size, depth, slices.height)
