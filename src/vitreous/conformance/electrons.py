"""b1: wavelength and interaction constant, over the range of voltages of the field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from vitreous import constants
from vitreous.conformance.check import Check, number
from vitreous.optics import aberrations, electrons
from vitreous.units import KILOVOLT

TITLE = "Wavelength and interaction constant"
KIND = (
    ("wavelength", "Å"),
    ("lorentz-factor", ""),
    ("speed-ratio", ""),
    ("interaction-constant", "rad/(V Å)"),
)
# kV: wavelength, Lorentz factor, speed over that of light, interaction constant
TABLE = {
    80: ("0.0417571607", "1.156556094", "0.502398886", "1.008706600e-3"),
    100: ("0.0370143661", "1.195695118", "0.548220862", "9.243958175e-4"),
    120: ("0.0334921527", "1.234834142", "0.586671024", "8.638113196e-4"),
    200: ("0.0250793404", "1.391390236", "0.695314471", "7.288401044e-4"),
    300: ("0.0196874890", "1.587085354", "0.776525493", "6.526161424e-4"),
}


def checks() -> Iterator[Check]:
    answers: tuple[Callable[[float], float], ...] = (
        lambda volt: electrons.wavelength(volt),
        lambda volt: electrons.lorentz_factor(volt),
        lambda volt: electrons.speed_ratio(volt),
        lambda volt: electrons.interaction_constant(volt),
    )
    for column, (name, unit) in enumerate(KIND):
        for voltage_kv, row in TABLE.items():
            answer = partial(answers[column], voltage_kv * KILOVOLT)
            words = name.replace("-", " ").replace("lorentz", "Lorentz")
            yield number(f"b1.{name}.{voltage_kv}kV", words, f"{voltage_kv} kV", row[column], unit, answer)
    yield number(
        "b1.rest-energy", "electron rest energy", "", "510998.95", "eV", lambda: constants.ELECTRON_REST_ENERGY_EV
    )
    yield from short_formulas()


def short_formulas() -> Iterator[Check]:
    """How far the formulas in use elsewhere are off: numbers about them, and about the exact one they are held against."""
    formulas = {
        "high": lambda volt: 12.2643247 / math.sqrt(volt * (1 + 0.978466e-6 * volt)),
        "low": lambda volt: 12.2639 / math.sqrt(volt + 0.97845e-6 * volt**2),
    }
    words = {"high": "12.2643247/sqrt(...)", "low": "12.2639/sqrt(...)"}
    errors = (("high", 80, "5.7e-6"), ("high", 300, "6.4e-6"), ("low", 80, "-2.8e-5"), ("low", 300, "-2.6e-5"))
    for name, voltage_kv, printed in errors:
        volt = voltage_kv * KILOVOLT
        yield number(
            f"b1.short-formula.{name}.{voltage_kv}kV",
            "error of a short formula",
            f"{words[name]}, {voltage_kv} kV, relative",
            printed,
            "",
            lambda short=formulas[name], volt=volt: short(volt) / electrons.wavelength(volt) - 1,
        )
    for resolution, printed in ((3, "0.0036"), (2, "0.0082")):
        yield number(
            f"b1.short-formula.phase.{resolution}A",
            "phase that it shifts",
            f"12.2639/..., 300 kV, 2 µm, {resolution} Å",
            printed,
            "rad",
            lambda d=resolution: phase_shift(formulas["low"](300e3), d),
        )


def phase_shift(short: float, resolution: float) -> float:
    """Phase of 2 um defocus with the exact wavelength less that with the short one, at 300 kV."""
    exact, other = (
        aberrations.defocus_phase(1 / resolution, 0.0, 2e4, wavelength=wave)
        for wave in (electrons.wavelength(300e3), short)
    )
    return float(exact - other)
