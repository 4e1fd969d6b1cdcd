"""The electron in flight: its wavelength, its speed, and how strongly a potential shifts its phase.

Scalars in, Python floats out. One wavelength formula for the whole package, exact to the constants: the short formulas
in use elsewhere are off by 6e-6 (`12.2643247/sqrt(V (1 + 0.978466e-6 V))`) and 3e-5
(`12.2639/sqrt(V + 0.97845e-6 V^2)`).
"""

from __future__ import annotations

import math

from vitreous.constants import ELECTRON_REST_ENERGY_EV, PLANCK_LIGHT_EV_ANGSTROM
from vitreous.errors import SettingsProblem


def wavelength(voltage: float) -> float:
    """De Broglie wavelength in angstrom of an electron accelerated through `voltage` volts.

    `lambda = h c / sqrt(eV (eV + 2 m c^2))` (Kirkland 2020, doi:10.1007/978-3-030-33260-0, chapter 2).

    >>> round(wavelength(300e3), 10)
    0.019687489
    """
    energy = _energy_ev(voltage)
    return PLANCK_LIGHT_EV_ANGSTROM / math.sqrt(energy * (energy + 2 * ELECTRON_REST_ENERGY_EV))


def lorentz_factor(voltage: float) -> float:
    """Relativistic gamma, total energy over rest energy: `1 + eV / (m c^2)`."""
    return 1 + _energy_ev(voltage) / ELECTRON_REST_ENERGY_EV


def speed_ratio(voltage: float) -> float:
    """Relativistic beta, speed over the speed of light: `sqrt(1 - 1/gamma^2)`."""
    ratio = _energy_ev(voltage) / ELECTRON_REST_ENERGY_EV
    return math.sqrt(ratio * (ratio + 2)) / (1 + ratio)


def interaction_constant(voltage: float) -> float:
    """sigma in radian per volt and angstrom: a projected potential Vz (V A) turns the phase of the wave by `+sigma Vz`.

    `sigma = 2 pi gamma m e lambda / h^2 = (2 pi / (lambda V)) (m c^2 + eV) / (2 m c^2 + eV)`
    (Kirkland 2020, doi:10.1007/978-3-030-33260-0, chapter 5).

    >>> round(interaction_constant(300e3) * 1e4, 9)
    6.526161424
    """
    energy = _energy_ev(voltage)
    relativity = (ELECTRON_REST_ENERGY_EV + energy) / (2 * ELECTRON_REST_ENERGY_EV + energy)
    return 2 * math.pi / (wavelength(voltage) * energy) * relativity


def _energy_ev(voltage: float) -> float:
    """The kinetic energy in eV, which is the voltage as a number."""
    energy = float(voltage)
    if not (energy > 0 and math.isfinite(energy)):
        raise SettingsProblem(
            f"an accelerating voltage of {voltage} V", "a positive number of volts, for example 300e3"
        )
    if energy < 1e3:
        raise SettingsProblem(
            f"an accelerating voltage of {energy:g} V", "volts, at least 1000", f"{energy:g} kV is {energy:g}e3"
        )
    return energy
