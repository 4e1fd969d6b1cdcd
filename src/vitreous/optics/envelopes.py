"""Envelopes: how partial coherence damps the contrast at high frequency. That of disorder is
`fourier.filters.b_factor_envelope`.

Every width says in its name which width it is. `k` in 1/angstrom; all arguments broadcast. Envelopes multiply the CTF
(amplitudes); power falls as their square.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vitreous.arrays import namespace
from vitreous.constants import ELECTRON_REST_ENERGY_EV
from vitreous.errors import SettingsProblem
from vitreous.optics.delocalisation import delocalisation
from vitreous.optics.electrons import wavelength
from vitreous.units import MILLIRADIAN

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))  # 2.354820
ONE_OVER_E_PER_SIGMA = math.sqrt(2)  # 1.414214
FWHM_PER_ONE_OVER_E = 2 * math.sqrt(math.log(2))  # 1.665109


def spatial_coherence(
    k: Float[Array, "*grid"], defocus: Any, *, one_over_e_mrad: float, voltage: float, spherical_aberration: float
) -> Float[Array, "*grid"]:
    """Envelope of a source whose angles are Gaussian with 1/e half-angle `one_over_e_mrad`.

    `Es = exp(-(pi a/lambda)^2 (Cs lambda^3 k^3 - df lambda k)^2)`: the slope of the phase matters, so underfocus and
    spherical aberration work against each other (Kirkland 2020, doi:10.1007/978-3-030-33260-0, chapter 3).
    """
    angle = one_over_e_mrad * MILLIRADIAN
    displaced = delocalisation(k, defocus=defocus, voltage=voltage, spherical_aberration=spherical_aberration)
    return namespace(k, defocus).exp(-((math.pi * angle / wavelength(voltage)) ** 2) * displaced**2)


def focal_spread(
    chromatic_aberration: float,
    *,
    voltage: float,
    sigma_ev: float | None = None,
    fwhm_ev: float | None = None,
    relativistic: bool = False,
) -> float:
    """Rms defocus spread in angstrom of electrons with a Gaussian spread of energy: `D = Cc sigma / V`.

    Cc is the `chromatic_aberration` in angstrom. The energy spread is given as its rms `sigma_ev` or as its full width
    at half maximum `fwhm_ev` = 2.354820 sigma; SettingsProblem unless it is one of them. `relativistic` multiplies by
    `(1 + V/mc^2) / (1 + V/2mc^2)`, as some texts do.
    """
    if (sigma_ev is None) == (fwhm_ev is None):
        raise SettingsProblem(f"an energy spread of {sigma_ev} eV rms and {fwhm_ev} eV full width", "one of the two")
    if sigma_ev is None:
        assert fwhm_ev is not None
        sigma_ev = fwhm_ev / FWHM_PER_SIGMA
    ratio = voltage / ELECTRON_REST_ENERGY_EV
    correction = (1 + ratio) / (1 + ratio / 2) if relativistic else 1.0
    return chromatic_aberration * sigma_ev / voltage * correction


def temporal_coherence(k: Float[Array, "*grid"], *, focal_sigma: Any, voltage: float) -> Float[Array, "*grid"]:
    """Envelope of a Gaussian spread of defocus with rms D = `focal_sigma` in angstrom.

    `Et = exp(-(1/2) (pi lambda D k^2)^2)`.
    """
    return namespace(k, focal_sigma).exp(-0.5 * (math.pi * wavelength(voltage) * focal_sigma * k**2) ** 2)
