"""The solvent that atoms displace, as a continuum: each atom takes a Gaussian of its volume out of the ice around it.

    hole(r) = V0 exp(-pi r^2 / v^(2/3)),      hole(k) = V0 v exp(-pi v^(2/3) k^2)

v is the volume that the atom displaces, V0 the mean inner potential of the solvent: the integral of the hole is V0 v,
and inside a molecule, where the Gaussians overlap, they add up to about V0. In the terms of `profiles.py` it is one
Gaussian of amplitude V0 v and width 4 pi v^(2/3). After Fraser, MacRae & Suzuki 1978 (doi:10.1107/S0021889878014296).

Volumes of H, C, N, O are theirs, those of S, P and the metals are the spheres of Svergun, Barberato & Koch 1995
(doi:10.1107/S0021889895007047, table 1), those of Na, K and Cl spheres of the ionic radii of Shannon 1976
(doi:10.1107/S0567739476001551: 1.02, 1.38 and 1.81 A). Any other element, selenium for example, takes the sphere of its
van der Waals radius in gemmi's table: rare atoms, and the error is some cubic angstrom each. For the reference protein they give 1.33 g/cm^3. A molecule of
water has 19.4 A^3 by this table and takes 32.2 A^3 in the ice: waters of a model stand out of the ice, and are better
left out.

The volumes of heavy atoms do not include their hydrogens: a model without hydrogens needs `hydrogens.with_hydrogens`
first, for its own potential and for what it displaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from vitreous.errors import DataProblem
from vitreous.model.atoms import Atoms
from vitreous.specimen.materials import ICE, mean_inner_potential
from vitreous.specimen.profiles import AtomProfiles, total_b_factor
from vitreous.specimen.scattering_factors import gaussians

# Cubic angstrom that an atom of each element displaces.
DISPLACED_VOLUMES: Mapping[str, float] = {
    "H": 5.15, "D": 5.15, "C": 16.44, "N": 2.49, "O": 9.13,
    "S": 19.86, "P": 5.73, "MG": 17.16, "CA": 31.89, "MN": 9.20, "FE": 7.99, "CU": 8.78, "ZN": 9.85,
    "NA": 4.45, "K": 11.01, "CL": 24.84,
}  # fmt: skip


def displaced_solvent(
    atoms: Atoms, inner_potential: float | None = None, *, volumes: Mapping[str, float] | None = None
) -> dict[str, tuple[float, float]]:
    """For each element of these atoms the Gaussian of solvent that one atom displaces: (amplitude in V A^3, width in A^2).

    Amplitudes are positive; `atom_profiles(displaced=...)` subtracts them. `inner_potential` is that of the solvent in
    volts, by default 4.526, of ice of neutral atoms at 0.93 g/cm^3 (`materials`). `volumes` in cubic angstrom add to or
    replace `displaced_volume_of`. DataProblem for unknown elements, by name.

    >>> from vitreous.io.bundled import load_bundled
    >>> amplitude, width = displaced_solvent(load_bundled("4ake"))["C"]
    >>> round(amplitude, 2), round(width, 2)
    (74.41, 81.25)
    """
    if inner_potential is None:
        inner_potential = mean_inner_potential(ICE)
    if not math.isfinite(inner_potential):
        raise DataProblem(f"a mean inner potential of {inner_potential} V", "a number of volts")
    known = _volumes(atoms, volumes)
    return {symbol: (inner_potential * volume, _width(volume)) for symbol, volume in known.items()}


def displaced_volume_of(element: str) -> float:
    """Cubic angstrom that one atom of an element displaces: by the table, else its van der Waals sphere.

    >>> displaced_volume_of("C"), round(displaced_volume_of("SE"), 1)
    (16.44, 28.7)
    """
    import gemmi

    gaussians(element)  # refuses unknown elements by name
    symbol = element.upper()
    if symbol in DISPLACED_VOLUMES:
        return DISPLACED_VOLUMES[symbol]
    return 4 / 3 * math.pi * float(gemmi.Element(symbol).vdw_r) ** 3


def displaced_volume(atoms: Atoms, *, volumes: Mapping[str, float] | None = None) -> float:
    """Volume in cubic angstrom of all atoms together, by their occupancies."""
    known = _volumes(atoms, volumes)
    symbols, kind = _symbols(atoms)
    return float(np.array([known[symbol] for symbol in symbols])[kind] @ np.asarray(atoms.occupancy, dtype=np.float64))


def volume_profiles(
    atoms: Atoms, *, extra_b_factor: float = 0.0, volumes: Mapping[str, float] | None = None
) -> AtomProfiles:
    """The atoms as what they displace, in units of volume: their voxel averages are the fraction of each voxel filled.

    One Gaussian for each element, of the displaced volume (A^3) and its width (A^2), as wide as in `displaced_solvent`:
    `V0` times this fraction is the hole in the solvent. Where Gaussians overlap the fraction passes 1 here and falls
    short of it there; its integral is the volume. For `inelastic.absorption`, and to keep the random field of the ice
    out of the molecules.
    """
    known = _volumes(atoms, volumes)
    symbols, kind = _symbols(atoms)
    amplitude = np.array([[known[symbol]] for symbol in symbols])
    width = np.array([[_width(known[symbol])] for symbol in symbols])
    return AtomProfiles(kind, total_b_factor(atoms, extra_b_factor), atoms.occupancy, amplitude, width)


def _width(volume: float) -> float:
    """A^2: `exp(-pi v^(2/3) k^2) = exp(-width k^2 / 4)`."""
    return 4 * math.pi * volume ** (2 / 3)


def _volumes(atoms: Atoms, own: Mapping[str, float] | None) -> dict[str, float]:
    """Volume of each element of the atoms."""
    own = {symbol.upper(): volume for symbol, volume in (own or {}).items()}
    symbols, _ = _symbols(atoms)
    known = {symbol: own[symbol] if symbol in own else displaced_volume_of(symbol) for symbol in symbols}
    wrong = [symbol for symbol in symbols if not (known[symbol] > 0 and math.isfinite(known[symbol]))]
    if wrong:
        raise DataProblem(f"a displaced volume of {known[wrong[0]]} A^3 for {wrong[0]}", "a positive number")
    return known


def _symbols(atoms: Atoms) -> tuple[list[str], np.ndarray]:
    symbols, kind = np.unique(np.char.upper(np.char.strip(atoms.element.astype(str))), return_inverse=True)
    return [str(symbol) for symbol in symbols], kind
