"""The electrostatic potential of an atomic model on a grid, in volts.

    V(k) = 47.8776472 V A^2 * sum_j occupancy_j f_j(|k|/2) exp(-B_j k^2/4) exp(-2 pi i k.r_j)

V > 0 inside atoms. The map is the band-limited potential: its Fourier coefficients below Nyquist are those of the
continuous potential, so that the volume integral is exact, moving the atoms by any fraction of a voxel is a pure phase,
and projections of the map are projections of the potential. Nyquist rows of even boxes are dropped. Atoms with small B
factors on a coarse grid therefore ring, as a band-limited atom does.

Each atom's radial profile f(k) exp(-B k^2/4) is written as a combination of a few profiles that all atoms share (a
truncated singular value decomposition over elements and B factors); one non-uniform FFT sums the structure factor of
each. A ribosome takes five to eight transforms, whatever its number of elements and B factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vitreous.arrays import complex_dtype, float_dtype
from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.nonuniform import transform_of_points
from vitreous.fourier.transforms import inverse, without_nyquist
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.specimen.profiles import total_b_factor
from vitreous.specimen.scattering_factors import LARGEST_K, gaussians, scattering_factor

RADII = 64  # samples of a radial profile between k = 0 and the corner of the grid, for the decomposition
B_SAMPLES = 12  # B factors at which each element enters the decomposition
CHUNK = 1 << 14  # atoms whose profiles are held at a time


def potential_volume(
    atoms: Atoms,
    box: int,
    pixel_size: float,
    *,
    extra_b_factor: float = 0.0,
    centre: bool = True,
    tolerance: float = 1e-6,
    threads: int | None = None,
) -> Volume:
    """The potential of the atoms in volts, [z, y, x], voxels of `pixel_size` angstrom, origin at index `box // 2`.

    `extra_b_factor` (angstrom^2) is added to the B factor of every atom. `centre` puts the centre of mass at the
    origin; otherwise coordinates are used as they are. `tolerance` bounds the error of each atom's form factor,
    relative to its f(0). The precision is that of the positions. `threads` limits the non-uniform FFT, by default to
    all cores.

    Raises DataProblem for unknown elements (by name) and negative B factors, SettingsProblem if the box cannot hold
    the atoms or the pixels are finer than the scattering factors reach. The box is periodic: leave a few angstrom of
    margin.
    """
    if centre:
        atoms = replace(atoms, position=atoms.position - centre_of_mass(atoms))
    b_factor = total_b_factor(atoms, extra_b_factor)
    _check_grid(atoms, box, pixel_size)

    profiles = _shared_profiles(atoms.element, b_factor, math.sqrt(3) / (2 * pixel_size), tolerance)
    weights = profiles.weights(atoms.element, b_factor) * atoms.occupancy
    shape = (box, box, box)
    squares = _integer_squares(box)
    radii = np.sqrt(np.arange(squares.max() + 1)) / (box * pixel_size)
    forms = profiles.at(radii) * (POTENTIAL_PER_FACTOR / pixel_size**3)

    dtype = float_dtype(atoms.position)
    eps = 1e-6 if dtype == np.float32 else tolerance / 10
    transform = np.zeros(squares.shape, complex_dtype(atoms.position))
    for weight, form in zip(weights.astype(dtype), forms.astype(dtype)):
        structure = transform_of_points(atoms.position, weight, shape, pixel_size, eps=eps, threads=threads)
        structure *= form[squares]
        transform += structure
    return Volume(inverse(without_nyquist(transform, shape), shape), pixel_size)


def centre_of_mass(atoms: Atoms) -> np.ndarray:
    """Mean position (x, y, z) in angstrom, weighted by atomic mass and occupancy."""
    import gemmi

    symbols, element = np.unique(atoms.element.astype(str), return_inverse=True)
    for symbol in symbols:
        gaussians(symbol)  # refuses unknown elements by name
    mass = np.array([gemmi.Element(symbol.strip()).weight for symbol in symbols])[element] * atoms.occupancy
    if not mass.sum() > 0:
        raise DataProblem("atoms whose occupancies are all zero", "at least one atom with a positive occupancy")
    return (mass @ atoms.position / mass.sum()).astype(atoms.position.dtype)


@dataclass(frozen=True)
class _SharedProfiles:
    """A few radial profiles, of which every atom's profile is a combination.

    `basis` [j, radii] is orthonormal on the sampled radii; `mixture` [j, t] makes it from the sampled atoms t =
    (element, B), whose profiles are known everywhere.
    """

    radii: np.ndarray
    basis: np.ndarray
    mixture: np.ndarray
    sampled_elements: np.ndarray
    sampled_b_factors: np.ndarray

    def weights(self, element: np.ndarray, b_factor: np.ndarray) -> np.ndarray:
        """How much of each shared profile [j] is in each atom [n]."""
        weights = np.empty((len(self.basis), len(element)))
        for start in range(0, len(element), CHUNK):
            part = slice(start, start + CHUNK)
            weights[:, part] = self.basis @ _profiles(element[part], b_factor[part], self.radii).T
        return weights

    def at(self, radii: np.ndarray) -> np.ndarray:
        """The shared profiles [j] at other frequencies in 1/angstrom."""
        values = np.zeros((len(self.basis), len(radii)))
        for column, element, b_factor in zip(self.mixture.T, self.sampled_elements, self.sampled_b_factors):
            values += column[:, None] * (scattering_factor(element, radii / 2) * np.exp(-0.25 * b_factor * radii**2))
        return values


def _shared_profiles(element: np.ndarray, b_factor: np.ndarray, largest_k: float, tolerance: float) -> _SharedProfiles:
    """As few profiles as hold those of every sampled (element, B) to `tolerance` of its f(0)."""
    radii = np.linspace(0, largest_k, RADII)
    spread = np.linspace(np.sqrt(b_factor.min()), np.sqrt(b_factor.max()), B_SAMPLES) ** 2
    symbols = np.unique(element.astype(str))
    samples_b = np.tile(np.unique(spread), len(symbols))
    samples_element = np.repeat(symbols, len(samples_b) // len(symbols))
    sampled = _profiles(samples_element, samples_b, radii)
    left, singular, right = np.linalg.svd(sampled, full_matrices=False)
    for count in range(1, len(singular) + 1):
        basis = right[:count]
        residual = np.abs(sampled - sampled @ basis.T @ basis).max(axis=1)
        if np.all(residual <= tolerance * sampled[:, 0]):
            break
    mixture = (left[:, :count] / singular[:count]).T
    return _SharedProfiles(radii, basis, mixture, samples_element, samples_b)


def _profiles(element: np.ndarray, b_factor: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """`f(k/2) exp(-B k^2/4)` of each atom [n] at each frequency [m]."""
    symbols, which = np.unique(element.astype(str), return_inverse=True)
    factors = np.stack([scattering_factor(symbol, radii / 2) for symbol in symbols])
    return factors[which] * np.exp(-0.25 * b_factor[:, None] * radii**2)


def _integer_squares(box: int) -> np.ndarray:
    """Squared frequency of each term of the `rfftn` of a cube, in units of (1/side)^2: whole numbers."""
    full = np.fft.fftfreq(box, 1 / box).round().astype(np.int64) ** 2
    half = np.arange(box // 2 + 1) ** 2
    return full[:, None, None] + full[:, None] + half


def _check_grid(atoms: Atoms, box: int, pixel_size: float) -> None:
    if not pixel_size >= 0.5 / LARGEST_K:
        finest = 0.5 / LARGEST_K
        raise SettingsProblem(
            f"a pixel size of {pixel_size} A", f"{finest} A or more, where the scattering factors end"
        )
    reach = float(np.abs(atoms.position).max())
    if not math.isfinite(reach):
        raise DataProblem("atoms whose positions are not numbers", "finite coordinates in angstrom")
    if reach > box * pixel_size / 2:
        raise SettingsProblem(
            f"a box of {box * pixel_size:.1f} A ({box} x {pixel_size:g} A); atoms reach {reach:.1f} A from its centre",
            f"at least {math.ceil(2 * reach / pixel_size)} voxels of this size",
            "use a larger box or larger voxels, or centre the atoms",
        )
