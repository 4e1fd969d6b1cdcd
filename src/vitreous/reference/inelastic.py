"""Inelastic scattering as absorption, as definitions. Signs: physics.md (a), a positive imaginary potential absorbs."""

from __future__ import annotations

import math

import numpy as np

REST_ENERGY_EV = 510998.95
AVOGADRO = 6.02214076e23


def inelastic_cross_section(number: int, voltage: float) -> float:
    """nm^2 of an element at `voltage` volts: `1.5e-6 sqrt(Z) / beta^2 ln(beta^2 (U + mc^2) / (E/2))`, E = 20 eV.

    Hydrogen has 8.8e-6 nm^2 at 100 kV, and its cross section changes with the voltage as those of the others.
    """

    def per_root(volts: float) -> float:
        speed = 1 - (REST_ENERGY_EV / (volts + REST_ENERGY_EV)) ** 2
        return 1.5e-6 / speed * math.log(speed * (volts + REST_ENERGY_EV) / 10)

    if number == 1:
        return 8.8e-6 * per_root(voltage) / per_root(100e3)
    return math.sqrt(number) * per_root(voltage)


def mean_free_path(cross_section_nm2: float, molar_mass: float, density: float) -> float:
    """Lambda in nm: one over the cross section of all molecules in a cubic nanometre. g/mol and g/cm^3."""
    molecules = density * AVOGADRO / molar_mass * 1e-21
    return 1 / (molecules * cross_section_nm2)


def transmitted(thickness: float, mean_free_path: float, layers: int) -> float:
    """The part of the electrons that passes a slab without loss, layer by layer: each stops `dt / Lambda` of the rest."""
    intensity = 1.0
    for _ in range(layers):
        intensity -= intensity * thickness / layers / mean_free_path
    return intensity


def transmission(projected_potential: np.ndarray, interaction_constant: float) -> np.ndarray:
    """`t = exp(i sigma (V + i Vim))`: the phase turns by sigma V, the amplitude falls by exp(-sigma Vim)."""
    return np.exp(1j * interaction_constant * projected_potential)
