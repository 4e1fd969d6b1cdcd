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
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vitreous.arrays import complex_dtype, float_dtype
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.nonuniform import transform_of_points
from vitreous.fourier.transforms import inverse, without_nyquist
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.specimen.profiles import AtomProfiles, atom_profiles
from vitreous.specimen.scattering_factors import LARGEST_K, gaussians

RADII = 64  # samples of a radial profile between k = 0 and the corner of the grid, for the decomposition
B_SAMPLES = 12  # B factors at which each element enters the decomposition
CHUNK = 1 << 14  # atoms whose profiles are held at a time
# Single precision on finufft's small fine grid: 2e-6 of the amplitude at low frequencies, 1e-5 at 3/4 of Nyquist, 3e-5 to
# 4e-5 over all. The large grid takes five times as long and four times the memory for 5e-6 to 1e-5.
SINGLE_EPS = 3e-5


def potential_volume(
    atoms: Atoms,
    box: int,
    pixel_size: float,
    *,
    extra_b_factor: float = 0.0,
    displaced: Mapping[str, tuple[float, float]] | None = None,
    centre: bool = True,
    tolerance: float = 1e-6,
    threads: int | None = None,
) -> Volume:
    """The potential of the atoms in volts, [z, y, x], voxels of `pixel_size` angstrom, origin at index `box // 2`.

    `extra_b_factor` (angstrom^2) is added to the B factor of every atom. `displaced` is the solvent that the atoms
    displace (`solvent.displaced_solvent`), which is subtracted: the potential above that of the solvent. `centre` puts
    the centre of mass at the origin; otherwise coordinates are used as they are. `tolerance` bounds the error of each
    atom's form factor, relative to its largest value. The precision is that of the positions. `threads` limits the
    non-uniform FFT, by default to all cores.

    Raises DataProblem for unknown elements (by name) and negative B factors, SettingsProblem if the box cannot hold
    the atoms or the pixels are finer than the scattering factors reach. The box is periodic: leave a few angstrom of
    margin.
    """
    if centre:
        atoms = replace(atoms, position=atoms.position - centre_of_mass(atoms))
    _check_grid(atoms, box, pixel_size)

    table = atom_profiles(atoms, extra_b_factor=extra_b_factor, displaced=displaced)
    profiles = _shared_profiles(table, math.sqrt(3) / (2 * pixel_size), tolerance)
    weights = profiles.weights(table) * table.occupancy
    shape = (box, box, box)
    squares = _integer_squares(box)
    radii = np.sqrt(np.arange(squares.max() + 1)) / (box * pixel_size)
    forms = profiles.at(radii) / pixel_size**3

    dtype = float_dtype(atoms.position)
    single = dtype == np.float32
    options = {"eps": SINGLE_EPS if single else tolerance / 10, "upsampling": 1.25 if single else None}
    transform = np.zeros(squares.shape, complex_dtype(atoms.position))
    for weight, form in zip(weights.astype(dtype), forms.astype(dtype)):
        structure = transform_of_points(atoms.position, weight, shape, pixel_size, threads=threads, **options)
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
    (kind, B), whose profiles are known everywhere.
    """

    radii: np.ndarray
    basis: np.ndarray
    mixture: np.ndarray
    sampled: AtomProfiles

    def weights(self, atoms: AtomProfiles) -> np.ndarray:
        """How much of each shared profile [j] is in each atom [n]."""
        weights = np.empty((len(self.basis), len(atoms.kind)))
        for start in range(0, len(atoms.kind), CHUNK):
            part = slice(start, start + CHUNK)
            weights[:, part] = self.basis @ _profiles(atoms, part, self.radii).T
        return weights

    def at(self, radii: np.ndarray) -> np.ndarray:
        """The shared profiles [j] at other frequencies in 1/angstrom."""
        values = np.zeros((len(self.basis), len(radii)))
        forms = _forms(self.sampled, radii)
        for column, kind, b_factor in zip(self.mixture.T, self.sampled.kind, self.sampled.b_factor):
            values += column[:, None] * (forms[kind] * np.exp(-0.25 * b_factor * radii**2))
        return values


def _shared_profiles(atoms: AtomProfiles, largest_k: float, tolerance: float) -> _SharedProfiles:
    """As few profiles as hold those of every sampled (kind, B) to `tolerance` of its largest value."""
    radii = np.linspace(0, largest_k, RADII)
    lowest, highest = atoms.b_factor.min(), atoms.b_factor.max()
    spread = np.unique(np.linspace(np.sqrt(lowest), np.sqrt(highest), B_SAMPLES) ** 2)
    kinds = len(atoms.amplitude)
    samples = AtomProfiles(
        np.repeat(np.arange(kinds), len(spread)),
        np.tile(spread, kinds),
        np.ones(kinds * len(spread)),
        atoms.amplitude,
        atoms.width,
    )
    sampled = _profiles(samples, slice(None), radii)
    largest = np.abs(sampled).max(axis=1)
    left, singular, right = np.linalg.svd(sampled, full_matrices=False)
    for count in range(1, len(singular) + 1):
        basis = right[:count]
        residual = np.abs(sampled - sampled @ basis.T @ basis).max(axis=1)
        if np.all(residual <= tolerance * largest):
            break
    mixture = (left[:, :count] / singular[:count]).T
    return _SharedProfiles(radii, basis, mixture, samples)


def _profiles(atoms: AtomProfiles, rows: slice, radii: np.ndarray) -> np.ndarray:
    """The transform in V A^3 of each of these atoms [n], but for its occupancy, at each frequency [m]."""
    return _forms(atoms, radii)[atoms.kind[rows]] * np.exp(-0.25 * atoms.b_factor[rows, None] * radii**2)


def _forms(atoms: AtomProfiles, radii: np.ndarray) -> np.ndarray:
    """The transform in V A^3 of an atom of each kind at rest [kinds, m]."""
    forms = np.zeros((len(atoms.amplitude), len(radii)))
    for amplitude, width in zip(atoms.amplitude.T, atoms.width.T):
        forms += amplitude[:, None] * np.exp(-0.25 * width[:, None] * radii**2)
    return forms


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
