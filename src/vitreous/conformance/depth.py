"""b6: depth of field, defocus error and the curvature of the Ewald sphere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from vitreous.conformance.check import Check, number, quoted
from vitreous.optics import depth, electrons
from vitreous.units import KILOVOLT

TITLE = "Depth of field, Ewald sphere, defocus error"
# kV: at 2, 3, 4 angstrom the depth of field, the defocus error of 90 degrees and that of 10 % loss; the sagitta at 2, 3
TABLE = {
    80: (("96", "216", "383"), ("47.9", "107.8", "191.6"), ("13.8", "30.9", "55.0"), (".00521965", ".00231984")),
    100: (("108", "243", "432"), ("54.0", "121.6", "216.1"), ("15.5", "34.9", "62.1"), (".00462680", ".00205635")),
    120: (("119", "269", "478"), ("59.7", "134.4", "238.9"), ("17.1", "38.6", "68.6"), (".00418652", ".00186068")),
    200: (("159", "359", "638"), ("79.7", "179.4", "319.0"), ("22.9", "51.5", "91.6"), (".00313492", ".00139330")),
    300: (("203", "457", "813"), ("101.6", "228.6", "406.3"), ("29.2", "65.6", "116.7"), (".00246094", ".00109375")),
}
RESOLUTIONS = (2, 3, 4)


def checks() -> Iterator[Check]:
    kinds = (
        ("depth-of-field", "depth of field d^2/lambda", "Å", lambda d, volt: depth.depth_of_field(d, volt)),
        (
            "error-90deg",
            "defocus error of 90°",
            "Å",
            lambda d, volt: depth.defocus_error_of_phase(math.pi / 2, d, volt),
        ),
        ("error-10pc", "defocus error, 10 % loss", "Å", lambda d, volt: depth.defocus_error_of_loss(0.1, d, volt)),
        ("sagitta", "sagitta lambda k^2/2", "1/Å", lambda d, volt: electrons.wavelength(volt) / (2 * d * d)),
    )
    for column, (name, what, unit, answer) in enumerate(kinds):
        for voltage_kv, row in TABLE.items():
            for resolution, printed in zip(RESOLUTIONS, row[column]):
                yield number(
                    f"b6.{name}.{voltage_kv}kV.{resolution}A",
                    what,
                    f"{voltage_kv} kV, {resolution} Å",
                    printed,
                    unit,
                    partial(answer, resolution, voltage_kv * KILOVOLT),
                )
    inputs = "300 kV, 2 Å"
    yield number(
        "b6.sphere.300kV.2A", "sagitta of the sphere", inputs, ".00246100", "1/Å", lambda: depth.ewald_sagitta(2, 300e3)
    )
    yield number(
        "b6.phase-10pc",
        "phase of 10 % loss",
        "cos(phase) = 0.9",
        "0.451027",
        "rad",
        lambda: depth.defocus_error_of_loss(0.1, 2, 300e3) * math.pi * electrons.wavelength(300e3) / 4,
    )
    yield quoted("b6.other-criterion", "other criterion", "times d^2/lambda", "0.7", "", "unverified in the contract")
