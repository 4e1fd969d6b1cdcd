"""e: the integrity of the table of scattering factors. Its numbers are about all elements at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from vitreous.conformance.check import Check, Mistake, bar, number, quoted
from vitreous.specimen import scattering_factors

TITLE = "Integrity of the scattering table"
MOTT_BETHE = 0.02393366  # 1/angstrom, b2
LAST = 98
# s: largest relative difference from Mott-Bethe for Z = 2 to 98
AGREEMENT = {0.25: "0.008", 0.5: "0.014", 1.0: "0.021"}


def checks() -> Iterator[Check]:
    falling = "elements with f > 0 and df/ds < 0"
    yield number("e.elements", "elements in the table", "Z = 1 to 98", "98", "", lambda: float(len(elements())))
    yield number("e.falling", falling, "0 <= s <= 2 1/Å, steps of 0.01", "98", "", lambda: float(falling_elements()))
    for s, largest in AGREEMENT.items():
        yield bar(
            f"e.mott-bethe.s{s}",
            "against Mott-Bethe",
            f"X-ray factors it92, Z = 2 to 98, s = {s} 1/Å, largest relative difference",
            largest,
            "",
            partial(largest_difference, s),
            row="e, integrity test",
        )
    inputs = "H, s = 0.25 1/Å: relative difference, X-ray entry"
    yield number("e.mott-bethe.H", "against Mott-Bethe", inputs, "0.16", "", lambda: difference("H", 0.25))
    shifted = (Mistake("6.18", "the second coefficient of potassium is -1.4031"),)
    yield number("e.potassium", "f(0) of potassium", "", "8.98", "Å", lambda: factor("K", 0.0), mistakes=shifted)
    reason = "a fault of another program's table"
    yield quoted("e.uranium", "uranium of a shifted table", "s = 0.5, too high by", "63", "%", reason)


def elements() -> list[str]:
    """Symbols of Z = 1 to 98."""
    import gemmi

    return [gemmi.Element(z).name for z in range(1, LAST + 1) if scattering_factors.gaussians(gemmi.Element(z).name)]


def falling_elements() -> int:
    s = np.arange(0, 2.005, 0.01)
    curves = [scattering_factors.scattering_factor(symbol, s) for symbol in elements()]
    return sum(bool(np.all(curve > 0) and np.all(np.diff(curve) < 0)) for curve in curves)


def factor(element: str, s: float) -> float:
    return float(scattering_factors.scattering_factor(element, s))


def difference(element: str, s: float) -> float:
    """Relative difference of the electron factor from that of the X-ray factor by Mott and Bethe's formula."""
    import gemmi

    known = gemmi.Element(element)
    table = known.it92
    x_ray = sum(a * math.exp(-b * s * s) for a, b in zip(table.a, table.b)) + table.c
    expected = MOTT_BETHE * (known.atomic_number - x_ray) / (s * s)
    return abs(factor(element, s) / expected - 1)


def largest_difference(s: float) -> float:
    return max(difference(element, s) for element in elements()[1:])
