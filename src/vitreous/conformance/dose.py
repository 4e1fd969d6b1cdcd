"""b11: critical exposure and the weights that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from vitreous.conformance.check import Check, Mistake, number, quoted
from vitreous.detection import dose

TITLE = "Dose"
EXPOSURES = (10, 20, 30, 40)  # e/A^2
# d in angstrom: critical exposure in e/A^2, weight after each exposure
TABLE = {
    20: ("38.734", (".8789", ".7725", ".6789", ".5967")),
    10: ("14.138", (".7021", ".4930", ".3461", ".2430")),
    4: ("5.274", (".3875", ".1501", ".0582", ".0225")),
}
WRONG_FORMULA = "the filter is exp(-(N - c)/(a k^b)) instead of exp(-N/(2 Ne))"
WRONG = {(4, 10): "0.0540", (10, 30): "0.0907"}


def checks() -> Iterator[Check]:
    for resolution, (critical, _) in TABLE.items():
        yield number(
            f"b11.critical.{resolution}A",
            "critical exposure",
            f"k = 1/{resolution} 1/Å, 300 kV",
            critical,
            "e/Å^2",
            partial(critical_exposure, resolution),
        )
    for resolution, (_, weights) in TABLE.items():
        for exposure, printed in zip(EXPOSURES, weights):
            wrong = WRONG.get((resolution, exposure))
            yield number(
                f"b11.weight.{resolution}A.{exposure}",
                "amplitude weight",
                f"k = 1/{resolution} 1/Å, {exposure} e/Å^2, 300 kV",
                printed,
                "",
                partial(weight, resolution, exposure),
                mistakes=() if wrong is None else (Mistake(wrong, WRONG_FORMULA),),
            )
    yield quoted("b11.scale.200kV", "critical exposure, relative", "200 kV", "0.8", "", "unverified in the contract")
    reason = "measured, Peet et al. 2019"
    yield quoted("b11.damage.100kV", "damage per electron", "100 kV, relative to 300 kV", "1.57", "", reason)


def critical_exposure(resolution: float) -> float:
    return float(dose.critical_exposure(np.float64(1 / resolution)))


def weight(resolution: float, exposure: float) -> float:
    return float(dose.exposure_weight(np.float64(1 / resolution), float(exposure)))
