"""b3: mean inner potentials, and the phase that a nanometre of ice or protein gives the wave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from vitreous.conformance.check import Check, number, quoted
from vitreous.optics import electrons
from vitreous.specimen import materials
from vitreous.specimen.materials import Material
from vitreous.units import KILOVOLT, NANOMETRE

TITLE = "Mean inner potential"
# material, density in g/cm^3: V0 in volts of neutral atoms, Peng's factors
TABLE = {
    ("ice", "0.93"): "4.526",
    ("ice", "0.92"): "4.478",
    ("ice", "0.94"): "4.575",
    ("water", "1.00"): "4.867",
    ("carbon", "1.75"): "10.539",
    ("carbon", "1.8"): "10.841",
    ("carbon", "2.0"): "12.045",
    ("protein", "1.35"): "7.930",
    ("protein", "1.43"): "8.400",
}
WORDS = {
    "ice": "vitreous ice",
    "water": "water",
    "carbon": "amorphous carbon",
    "protein": "C4.94 H7.76 N1.36 O1.48 S0.04",
}
DEFAULT = {"ice": "0.93", "protein": "1.35"}
# id, material, density, V0 with other factors
OTHER_FACTORS = (
    ("ice.kirkland", "vitreous ice, 0.93 g/cm^3, Kirkland", "4.538"),
    ("ice.lobato", "vitreous ice, 0.93 g/cm^3, Lobato", "4.595"),
    ("protein.1.35.lobato", "protein, 1.35 g/cm^3, Lobato", "7.975"),
    ("protein.1.43.lobato", "protein, 1.43 g/cm^3, Lobato", "8.447"),
    ("protein-minus-ice.lobato", "protein 1.35 - ice 0.93, Lobato", "3.379"),
)
MEASURED = (
    ("water.measured", "water, 1.00 g/cm^3", "4.48", "measured, +- 0.19 V: unverified in the contract"),
    ("ice.measured", "vitreous ice", "3.5", "Harscher & Lichte 1998: unverified in the contract"),
    ("carbon.measured", "amorphous carbon, 1.75 g/cm^3", "9.09", "measured, Wanner & Tesche 2005"),
)
# Phase in radian per nanometre at 80, 100, 120, 200, 300 kV
VOLTAGES_KV = (80, 100, 120, 200, 300)
PHASES = {
    "ice": ("0.04566", "0.04184", "0.03910", "0.03299", "0.02954"),
    "protein-minus-ice": ("0.03434", "0.03147", "0.02941", "0.02481", "0.02222"),
}


def checks() -> Iterator[Check]:
    for (name, density), printed in TABLE.items():
        inputs = f"{WORDS[name]}, {density} g/cm^3"
        answer = partial(potential, name, density)
        yield number(f"b3.{name}.{density}", "V0, Peng", inputs, printed, "V", answer)
    inputs = "protein 1.35 - ice 0.93, Peng"
    yield number("b3.protein-minus-ice", "V0, Peng", inputs, "3.404", "V", difference)
    for name, inputs, printed in OTHER_FACTORS:
        reason = "the program carries one table of factors, Peng's"
        yield quoted(f"b3.{name}", "V0, other factors", inputs, printed, "V", reason)
    for name, inputs, printed, reason in MEASURED:
        yield quoted(f"b3.{name}", "V0, measured", inputs, printed, "V", reason)
    for name, row in PHASES.items():
        volts = partial(potential, "ice", "0.93") if name == "ice" else difference
        for voltage_kv, printed in zip(VOLTAGES_KV, row):
            yield number(
                f"b3.phase.{name}.{voltage_kv}kV",
                "phase per nm",
                f"{name.replace('-', ' ')}, {voltage_kv} kV",
                printed,
                "rad",
                partial(phase_per_nanometre, volts, voltage_kv),
            )


def material(name: str, density: str) -> Material:
    known = {"ice": materials.ICE, "water": materials.WATER, "carbon": materials.CARBON, "protein": materials.PROTEIN}
    return replace(known[name], density=float(density))


def potential(name: str, density: str) -> float:
    return materials.mean_inner_potential(material(name, density))


def difference() -> float:
    """Protein minus ice, each at its usual density, in volts."""
    return potential("protein", DEFAULT["protein"]) - potential("ice", DEFAULT["ice"])


def phase_per_nanometre(volts: Callable[[], float], voltage_kv: float) -> float:
    return electrons.interaction_constant(voltage_kv * KILOVOLT) * volts() * NANOMETRE
