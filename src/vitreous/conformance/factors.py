"""b2: electron scattering factors of neutral atoms, and their constants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from vitreous import constants
from vitreous.conformance.check import Check, number, quoted
from vitreous.specimen import scattering_factors

TITLE = "Scattering factors"
VACUUM_PERMITTIVITY = 8.8541878188e-12  # F/m, CODATA 2022
# f(0) in angstrom: Peng, Kirkland, Lobato
AT_ZERO = {
    "H": ("0.5288", "0.5297", "0.5292"),
    "C": ("2.5088", "2.5114", "2.5097"),
    "N": ("2.2135", "2.2188", "2.2488"),
    "O": ("1.9834", "1.9897", "2.0291"),
    "Na": ("4.7758", "4.7757", "4.7795"),
    "Mg": ("5.2078", "5.2062", "5.2091"),
    "P": ("5.4876", "5.4976", "5.5675"),
    "S": ("5.1604", "5.1721", "5.2539"),
    "K": ("8.9834", "8.9466", "8.9862"),
    "Ca": ("9.9131", "9.9096", "9.9138"),
    "Fe": ("7.1637", "7.1632", "7.1635"),
    "Zn": ("6.0634", "6.0727", "6.0656"),
    "Au": ("10.5714", "10.5534", "10.5758"),
    "U": ("19.1164", "19.0991", "19.3884"),
}
# f(s) in angstrom, Peng
ALONG_S = {
    "H": {0.05: "0.50804", 0.1: "0.45332", 0.2: "0.31077", 0.25: "0.24901", 0.5: "0.08903", 1: "0.02377", 2: "0.00411"},
    "C": {0.05: "2.40574", 0.1: "2.13794", 0.2: "1.45961", 0.25: "1.16855", 0.5: "0.41358", 1: "0.11739", 2: "0.03359"},
    "P": {0.05: "5.19285", 0.1: "4.45786", 0.2: "2.79635", 0.25: "2.17018", 0.5: "0.79732", 1: "0.28453", 2: "0.07996"},
    "S": {0.05: "4.93814", 0.1: "4.36267", 0.2: "2.92638", 0.25: "2.32632", 0.5: "0.86058", 1: "0.29804", 2: "0.08615"},
    "N": {0.05: "2.14545", 0.1: "1.96338", 1: "0.13766"},
    "O": {0.05: "1.93652", 0.1: "1.80754", 1: "0.15891"},
}
# Spread of the three parametrisations at s = 0, in percent
SPREAD = {"O": "2.3", "S": "1.8", "N": "1.6"}
NO_TABLE = "the program carries one table, Peng's; c2 holds f(0) against this column"


def checks() -> Iterator[Check]:
    yield from constants_of_potentials()
    for element, (peng, _, _) in AT_ZERO.items():
        yield number(f"b2.f0.{element}", "f(0), Peng", element, peng, "Å", partial(factor, element, 0.0))
    for element, (_, kirkland, lobato) in AT_ZERO.items():
        yield quoted(f"b2.f0.{element}.kirkland", "f(0), Kirkland", element, kirkland, "Å", NO_TABLE)
        yield quoted(f"b2.f0.{element}.lobato", "f(0), Lobato", element, lobato, "Å", NO_TABLE)
    for element, row in ALONG_S.items():
        for s, printed in row.items():
            inputs = f"{element}, s = {s} 1/Å"
            yield number(f"b2.f.{element}.s{s}", "f(s), Peng", inputs, printed, "Å", partial(factor, element, s))
    for element, printed in SPREAD.items():
        inputs = f"{element}, s = 0, largest over least"
        yield number(f"b2.spread.{element}", "spread of 3 tables", inputs, printed, "%", partial(spread, element))
    reason = "needs Kirkland's and Lobato's tables"
    yield quoted("b2.spread.s0.25", "spread of 3 tables", "H C N O P S, s = 0.25, less than", "1", "%", reason)
    reason = "literature: Vulović et al. 2013"
    yield quoted("b2.bonding", "change by bonding", "potential, less than", "10", "%", reason)


def constants_of_potentials() -> Iterator[Check]:
    """What turns factors into volts, and electrons into factors."""
    yield number(
        "b2.potential-per-factor",
        "potential per factor",
        "h^2/(2 pi m e)",
        "47.8776472",
        "V Å^2",
        lambda: constants.POTENTIAL_PER_FACTOR,
    )
    inputs = "f_e = c (Z - f_x)/s^2"
    yield number("b2.mott-bethe.s", "Mott-Bethe constant", inputs, "0.02393366", "1/Å", mott_bethe_constant)
    inputs = "f_e = c (Z - f_x) d^2, gemmi's"
    yield number("b2.mott-bethe.d", "Mott-Bethe constant", inputs, "0.09573464", "1/Å", gemmi_mott_bethe_constant)


def factor(element: str, s: float) -> float:
    return float(scattering_factors.scattering_factor(element, s))


def mott_bethe_constant() -> float:
    """`m e^2 / (8 pi epsilon_0 h^2)`, that is `e / (16 pi^2 epsilon_0 c)` with the potential per factor c, in 1/angstrom."""
    potential_per_factor = constants.POTENTIAL_PER_FACTOR * 1e-20  # V m^2
    return constants.ELEMENTARY_CHARGE / (16 * math.pi**2 * VACUUM_PERMITTIVITY * potential_per_factor) * 1e-10


def gemmi_mott_bethe_constant() -> float:
    import gemmi

    return gemmi.mott_bethe_const()


def spread(element: str) -> float:
    """Largest over least f(0) of this program's table and the two others, in percent above 1."""
    values = [factor(element, 0.0), *(float(printed) for printed in AT_ZERO[element][1:])]
    return 100 * (max(values) / min(values) - 1)
