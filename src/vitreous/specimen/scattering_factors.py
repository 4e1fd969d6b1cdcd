"""Electron scattering factors of neutral atoms: the only module where s = k/2 appears.

Table: International Tables for Crystallography C, 4.3.2.2, five Gaussians for Z = 1 to 98, valid up to s = 2, that is
k = 4 1/angstrom (Peng, Ren, Dudarev & Whelan 1996, doi:10.1107/S0108767395014371), as gemmi carries it. Neutral-atom
models differ by up to 2.5 % at s = 0 and by less than 1 % at s = 0.25; bonding changes the potential by less than 10 %
(Vulović et al. 2013, doi:10.1016/j.jsb.2013.05.008).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vitreous.arrays import namespace
from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

LARGEST_K = 4.0  # 1/angstrom: where the table ends


@lru_cache(maxsize=128)
def gaussians(element: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Amplitudes a (angstrom) and widths b (angstrom^2) of an element in `f(s) = sum_i a_i exp(-b_i s^2)`.

    Symbols in either case ("C", "ZN", "Zn"); deuterium is hydrogen. DataProblem, naming the symbol, for anything else.
    """
    import gemmi

    symbol = str(element).strip()
    known = gemmi.Element(symbol)
    # gemmi reads the first two letters: CARBON would be calcium
    if known.name.upper() != symbol.upper() or known.atomic_number == 0 or known.c4322 is None:
        raise DataProblem(
            f"unknown element '{element}'",
            "a chemical symbol with atomic number 1 to 98",
            "check the element column of the model, or remove these atoms",
        )
    return tuple(known.c4322.a), tuple(known.c4322.b)


def scattering_factor(element: str, s: Float[Array, "*grid"] | float) -> Float[Array, "*grid"]:
    """Electron scattering factor f in angstrom at s = k/2 in 1/angstrom (up to 2).

    >>> round(float(scattering_factor("C", 0.25)), 5)
    1.16855
    """
    exp = namespace(s).exp
    amplitudes, widths = gaussians(element)
    total: Any = sum(a * exp(-b * (s * s)) for a, b in zip(amplitudes, widths))
    return total


def potential_transform(element: str, k: Float[Array, "*grid"] | float, b_factor: float = 0.0) -> Float[Array, "*grid"]:
    """Fourier integral of the potential of one atom in V A^3, at k in 1/angstrom: `47.8776472 f(k/2) exp(-B k^2/4)`.

    At k = 0 it is the volume integral of the potential.
    """
    return POTENTIAL_PER_FACTOR * scattering_factor(element, k * 0.5) * namespace(k).exp(-0.25 * b_factor * (k * k))
