"""What one particle adds to the ice that it lies in, as volumes: from atoms, or from a map.

    volts = potential of the atoms - V0 * (fraction of each voxel that they take from the ice)

with the ice's mean inner potential V0. The ice itself is the zero of the potential: a constant has no image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import pad_real
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.specimen.hydrogens import with_hydrogens
from vitreous.specimen.materials import ICE, mean_inner_potential
from vitreous.specimen.potential import centre_of_mass, potential_volume
from vitreous.specimen.solvent import volume_profiles
from vitreous.specimen.voxels import add_atoms

ATOM_RADIUS = 2.0  # angstrom, by which an atom reaches beyond its centre
MARGIN = 3.0  # angstrom around the particle in its box, for what B factors blur
SURFACE = 0.05  # of its largest value: where a map ends


@dataclass(frozen=True)
class ParticlePotential:
    """What one particle is in ice. All volumes [z, y, x] have its centre at index N // 2, even N.

    `volts`: its potential above that of the ice. `occupied`: the part of each voxel from which it drives the ice away, None
    where nobody knows (a map). `absorption`: imaginary potential in volt of what it is made of above that of the ice.
    `radius` in angstrom, of a sphere about the centre that holds it.
    """

    volts: np.ndarray
    pixel_size: float
    radius: float
    occupied: np.ndarray | None = None
    absorption: float = 0.0

    def __post_init__(self) -> None:
        if self.absorption and self.occupied is None:
            raise SettingsProblem(
                "absorption by a particle of which only the potential is known",
                "an atomic model",
                "give an amplitude contrast",
            )

    @property
    def box(self) -> int:
        return self.volts.shape[0]


def centred_atoms(atoms: Atoms) -> Atoms:
    """The atoms with their hydrogens, about their centre of mass."""
    full = with_hydrogens(atoms)
    return replace(full, position=full.position - centre_of_mass(full))


def radius_of_atoms(atoms: Atoms) -> float:
    """Radius in angstrom of the sphere about the origin that holds the atoms."""
    return float(np.linalg.norm(atoms.position, axis=1).max()) + ATOM_RADIUS


def potential_of_atoms(
    atoms: Atoms,
    pixel_size: float,
    *,
    extra_b_factor: float = 0.0,
    inner_potential: float | None = None,
    absorption: float = 0.0,
    threads: int | None = None,
) -> ParticlePotential:
    """The particle that these `centred_atoms` are in ice of this mean inner potential (volt; by default 4.526)."""
    radius = radius_of_atoms(atoms)
    box = even_box(2 * (radius + MARGIN) / pixel_size)
    single = replace(atoms, position=np.asarray(atoms.position, dtype=np.float32))
    volume = potential_volume(single, box, pixel_size, extra_b_factor=extra_b_factor, centre=False, threads=threads)
    occupied = np.zeros((box,) * 3, dtype=np.float32)
    profiles = volume_profiles(atoms, extra_b_factor=extra_b_factor)
    height = -(box // 2) * pixel_size
    add_atoms(occupied, atoms.position, profiles, pixel_size, thickness=pixel_size, height=height, threads=threads)
    occupied /= np.float32(pixel_size)
    solvent = mean_inner_potential(ICE) if inner_potential is None else inner_potential
    volts = volume.data - np.float32(solvent) * occupied
    return ParticlePotential(volts, pixel_size, radius, occupied, absorption)


def potential_of_map(volume: Volume, volts_per_unit: float = 1.0) -> ParticlePotential:
    """The particle that a map is, in volt above the ice once multiplied by `volts_per_unit`; cropped to what is in it."""
    data = volume.data * np.float32(volts_per_unit)
    radius = _radius_of_map(data) * volume.pixel_size
    if volume.box % 2:
        data = pad_real(data, volume.box + 1, 3)
    return ParticlePotential(np.ascontiguousarray(data, dtype=np.float32), volume.pixel_size, radius)


def even_box(pixels: float) -> int:
    """The smallest even box of at least this many pixels whose transforms are fast."""
    from scipy.fft import next_fast_len

    half = next_fast_len(math.ceil(pixels / 2), real=True)
    assert half is not None
    return 2 * half


def _radius_of_map(data: np.ndarray) -> float:
    """Distance in voxels from the middle to the farthest voxel above `SURFACE` of the largest value."""
    axis = (np.arange(len(data)) - len(data) // 2.0) ** 2
    inside = np.abs(data) > SURFACE * np.abs(data).max()
    farthest = 0.0
    for square, plane in zip(axis, inside):
        rows, columns = np.nonzero(plane)
        if len(rows):
            farthest = max(farthest, float(square + (axis[rows] + axis[columns]).max()))
    return math.sqrt(farthest) + 1
