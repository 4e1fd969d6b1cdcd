"""b10: what detectors do to signal and noise."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from vitreous.conformance.check import Check, Mistake, bar, number, quoted
from vitreous.detection import curves, detectors
from vitreous.detection.curve import Curve
from vitreous.units import KILOVOLT

TITLE = "Detectors"
HALF, NYQUIST = 0.25, 0.5  # cycles per pixel
# name here, kV: its name in words, MTF at half Nyquist and at Nyquist
TABLE = {
    ("k2", 300): ("K2", ".733", ".388"),
    ("k2-fl2", 300): ("K2, FL2 file", ".858", ".607"),
    ("k2-fl2", 200): ("K2, FL2 file", ".829", ".545"),
    ("k3", 300): ("K3 standard", ".889", ".636"),
    ("k3-cds", 300): ("K3 CDS", ".914", ".721"),
    ("falcon4", 300): ("Falcon 4 EC", ".535", ".093"),
    ("falcon4", 200): ("Falcon 4 EC", ".475", ".072"),
    ("falcon3", 300): ("Falcon 3 EC", ".572", ".152"),
    ("falcon3", 200): ("Falcon 3 EC", ".552", ".135"),
    ("falcon2", 300): ("Falcon 2", ".219", ".052"),
    ("de20", 300): ("DE-20", ".570", ".204"),
}
# e/px/s: DQE at 0, half Nyquist and Nyquist of an electron-counting Falcon at 300 kV
PUBLISHED_DQE = {"1.5": (".95", ".713", ".322"), "5": (".80", ".55", ".26")}
PLACES = {"0": "zero", "half Nyquist": "half", "Nyquist": "nyquist"}
# The contract interpolates the curves as they are distributed. Two of them do not begin at 1, as an MTF does; the
# program divides them by their first value.
FIRST_VALUE = {("falcon4", 300): curves.MTF_FALCON4_300[0], ("falcon4", 200): curves.MTF_FALCON4_200[0]}


def checks() -> Iterator[Check]:
    for (name, voltage_kv), (words, half, full) in TABLE.items():
        wrong_axis = (Mistake(half, "the table runs to Nyquist and is read as if it ran to 1 cycle per pixel"),)
        places = (("half", "half Nyquist", HALF, half, ()), ("nyquist", "Nyquist", NYQUIST, full, wrong_axis))
        for place, at, frequency, printed, mistakes in places:
            yield number(
                f"b10.mtf.{name}.{voltage_kv}kV.{place}",
                f"MTF at {at}",
                f"{words}, {voltage_kv} kV, as distributed",
                printed,
                "",
                partial(modulation, name, voltage_kv, frequency),
                mistakes=mistakes,
            )
    for name in ("falcon4", "falcon3"):
        yield number(
            f"b10.last-point.{name}",
            "last point of the curve",
            f"{TABLE[name, 300][0]}, cycles per pixel",
            "0.492",
            "1/px",
            partial(last_frequency, name),
            mistakes=(Mistake("0.984", "the table runs to 1, not to 0.5"),),
        )
    yield from ideal_pixel()
    inputs = "DQE - DQE(0) MTF^2/NTF^2, all detectors here, largest"
    yield bar("b10.three-curves", "three curves", inputs, "1e-12", "", largest_disagreement, row="b10: an identity")
    unverified = "published table, unverified in the contract"
    for dose, row in PUBLISHED_DQE.items():
        for (place, word), printed in zip(PLACES.items(), row):
            inputs = f"counting Falcon, 300 kV, {dose} e/px/s"
            yield quoted(f"b10.dqe.falcon.{dose}eps.{word}", f"DQE at {place}", inputs, printed, "", unverified)
    yield quoted("b10.dqe.k2", "DQE at 0", "K2, 2.5 e/px/s", "0.791", "", unverified)


def ideal_pixel() -> Iterator[Check]:
    """A square pixel that counts each electron once: its DQE is the square of its MTF."""
    for name, at, ky, printed in (
        ("axis", "on the axis", 0.0, "0.405285"),
        ("corner", "in the corner", NYQUIST, "0.164256"),
    ):
        yield number(
            f"b10.ideal.{name}",
            "DQE at Nyquist",
            f"ideal counting square pixel, {at}",
            printed,
            "",
            lambda ky=ky: float(detectors.detector("ideal").dqe(np.float64(NYQUIST), np.float64(ky))),
        )


def modulation(name: str, voltage_kv: int, frequency: float) -> float:
    """The MTF of the curve as distributed."""
    mtf = detectors.detector(name, voltage_kv * KILOVOLT).mtf(np.float64(frequency))
    return float(mtf) * FIRST_VALUE.get((name, voltage_kv), 1.0)


def last_frequency(name: str) -> float:
    curve = detectors.detector(name, 300e3).mtf_curve
    assert isinstance(curve, Curve)
    return curve.frequency[-1]


def largest_disagreement() -> float:
    k = np.linspace(0, NYQUIST, 101)
    known = [detectors.detector(name, voltage_kv * KILOVOLT) for name, voltage_kv in TABLE]
    return max(float(np.abs(d.dqe(k) - d.dqe_at_zero * d.mtf(k) ** 2 / d.ntf(k) ** 2).max()) for d in known)
