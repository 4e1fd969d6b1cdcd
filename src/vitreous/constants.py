"""Constants of nature, CODATA 2022 (Mohr et al. 2025, doi:10.1103/RevModPhys.97.025002), SI units unless the name says
otherwise.

The electron mass is measured; the others are exact by the definition of the SI.
"""

from __future__ import annotations

import math

PLANCK = 6.62607015e-34  # J s
LIGHT_SPEED = 299_792_458.0  # m/s
ELEMENTARY_CHARGE = 1.602176634e-19  # C
ELECTRON_MASS = 9.1093837139e-31  # kg
AVOGADRO = 6.02214076e23  # 1/mol

ELECTRON_REST_ENERGY_EV = ELECTRON_MASS * LIGHT_SPEED**2 / ELEMENTARY_CHARGE  # 510998.9507 eV
PLANCK_LIGHT_EV_ANGSTROM = PLANCK * LIGHT_SPEED / ELEMENTARY_CHARGE * 1e10  # hc = 12398.41984 eV A

# Potential of an atom from its electron scattering factor, V(k) = POTENTIAL_PER_FACTOR * f(s):
# h^2 / (2 pi m e) = 47.8776472 V A^2.
POTENTIAL_PER_FACTOR = PLANCK**2 / (2 * math.pi * ELECTRON_MASS * ELEMENTARY_CHARGE) * 1e20
