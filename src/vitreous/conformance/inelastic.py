"""b4: inelastic mean free paths, the imaginary potential, and the amplitude contrast that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from vitreous.conformance.check import Check, number, quoted
from vitreous.conformance.potentials import VOLTAGES_KV, material
from vitreous.model.slices import PotentialSlices
from vitreous.optics import imaging
from vitreous.scattering import ladder
from vitreous.specimen import inelastic
from vitreous.units import KILOVOLT, NANOMETRE

TITLE = "Inelastic mean free path and imaginary potential"
DENSITY = {"ice": "0.93", "carbon": "1.8", "protein": "1.35"}
# Lambda in nanometres at 80, 100, 120, 200, 300 kV, from the default source
PATHS = {
    "ice": ("176.5", "205.8", "231.7", "311.1", "375.4"),
    "carbon": ("79.1", "92.2", "103.8", "139.5", "168.3"),
    "protein": ("92.7", "108.0", "121.6", "163.3", "197.0"),
}
ICE_10_MRAD = ("128", "147", "164", "216", "258")  # iakoubovskii2008
# kV: Vim in volts of ice, carbon, protein
IMAGINARY = {
    80: ("0.2808", "0.6264", "0.5349"),
    100: ("0.2629", "0.5865", "0.5008"),
    200: ("0.2205", "0.4919", "0.4201"),
    300: ("0.2041", "0.4553", "0.3888"),
}
CONTRAST = {100: "0.070", 200: "0.059", 300: "0.054"}
LITERATURE = (
    ("measured", "mean free path of ice", "300 kV with aperture", "395", "nm", "measured, Rice et al. 2018"),
    ("range.least", "least in use", "300 kV", "176", "nm", "a summary of the sources"),
    ("range.largest", "largest in use", "300 kV", "395", "nm", "a summary of the sources"),
    ("thickest", "thickest crystals solved", "in mean free paths", "2", "", "literature: Martynowycz et al. 2021"),
    ("too-thick", "none solved beyond", "in mean free paths", "4", "", "literature: Martynowycz et al. 2021"),
)


def checks() -> Iterator[Check]:
    for name, row in PATHS.items():
        for voltage_kv, printed in zip(VOLTAGES_KV, row):
            inputs = f"{name} {DENSITY[name]}, {voltage_kv} kV, vulovic2013"
            answer = partial(path, name, voltage_kv, "vulovic2013")
            yield number(f"b4.path.{name}.{voltage_kv}kV", "mean free path", inputs, printed, "nm", answer)
    yield from other_sources()
    for voltage_kv, row in IMAGINARY.items():
        for name, printed in zip(PATHS, row):
            inputs = f"{name} {DENSITY[name]}, {voltage_kv} kV, vulovic2013"
            answer = partial(imaginary, name, voltage_kv)
            yield number(f"b4.imaginary.{name}.{voltage_kv}kV", "imaginary potential", inputs, printed, "V", answer)
    inputs = "ice, one mean free path thick, 40 slices, multislice, 300 kV"
    yield number("b4.one-path", "transmitted intensity", inputs, "0.367879", "", transmitted)
    for voltage_kv, printed in CONTRAST.items():
        yield number(
            f"b4.contrast.{voltage_kv}kV",
            "w from absorption",
            f"protein 1.35 in ice 0.93, {voltage_kv} kV",
            printed,
            "",
            partial(emerging_contrast, voltage_kv),
        )
    for name, what, inputs, printed, unit, reason in LITERATURE:
        yield quoted(f"b4.{name}", what, inputs, printed, unit, reason)


def other_sources() -> Iterator[Check]:
    for voltage_kv, printed in zip(VOLTAGES_KV, ICE_10_MRAD):
        inputs = f"ice 0.93, {voltage_kv} kV, iakoubovskii2008, 10 mrad"
        answer = partial(path, "ice", voltage_kv, "iakoubovskii2008", collection_mrad=10.0)
        yield number(f"b4.iakoubovskii.{voltage_kv}kV", "mean free path", inputs, printed, "nm", answer)
    for collection, printed in ((5, "290"), (20, "238")):
        inputs = f"ice 0.93, 300 kV, iakoubovskii2008, {collection} mrad"
        answer = partial(path, "ice", 300, "iakoubovskii2008", collection_mrad=float(collection))
        yield number(f"b4.iakoubovskii.{collection}mrad", "mean free path", inputs, printed, "nm", answer)
    for effective, printed in (("7.42", "176"), ("4.38", "206")):
        inputs = f"effective Z {effective}, 300 kV, malis1988, 10 mrad"
        answer = partial(path, "ice", 300, "malis1988", collection_mrad=10.0, effective_number=float(effective))
        yield number(f"b4.malis.Z{effective}", "mean free path", inputs, printed, "nm", answer)


def path(name: str, voltage_kv: float, source: str, **options: float) -> float:
    """In nanometres."""
    substance = material(name, DENSITY[name])
    return inelastic.mean_free_path(substance, voltage_kv * KILOVOLT, source, **options) / NANOMETRE


def imaginary(name: str, voltage_kv: float) -> float:
    return inelastic.imaginary_potential(material(name, DENSITY[name]), voltage_kv * KILOVOLT)


def emerging_contrast(voltage_kv: float) -> float:
    protein, ice = (material(name, DENSITY[name]) for name in ("protein", "ice"))
    return inelastic.emerging_amplitude_contrast(protein, ice, voltage=voltage_kv * KILOVOLT)


def transmitted(paths: float = 1.0) -> float:
    """Intensity behind ice that is so many mean free paths thick, slab by slab."""
    thickness = paths * path("ice", 300, "vulovic2013") * NANOMETRE / 40
    projected = np.full((40, 8, 8), 1j * imaginary("ice", 300) * thickness)
    wave = ladder.exit_wave(PotentialSlices(projected, 1.0, thickness, 0.0), 300e3, "multislice")
    return float(imaging.image_of_wave(wave.wave)[4, 4])
