"""f: mistakes to make impossible. Those that have numbers, as the number that comes out right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vitreous.conformance import dose, envelopes
from vitreous.conformance.check import Check, Mistake, number, quoted
from vitreous.fourier import interpolation

TITLE = "Mistakes to make impossible"


def checks() -> Iterator[Check]:
    yield number(
        "f.5",
        "5: spatial envelope",
        "k = 0.498 1/Å, 300 kV, Cs 2.7 mm, 10000 Å, 1/e 0.1 mrad",
        "0.2613",
        "",
        lambda: envelopes.spatial_envelope(0.498),
        mistakes=(Mistake("0.0206", "the defocus enters with the wrong sign"),),
    )
    yield number(
        "f.6",
        "6: temporal envelope",
        "k = 0.498 1/Å, 300 kV, Cc 2.7 mm, FWHM 0.7 eV",
        "0.919",
        "",
        lambda: envelopes.temporal_envelope(0.498),
        mistakes=(Mistake("0.627", "the full width at half maximum is used as rms"),),
    )
    reason = "the DQE of b10 is unverified; the axis is judged by the MTF of b10"
    yield quoted("f.8", "8: DQE at Nyquist", "counting Falcon, 1.5 e/px/s, not .713", ".322", "", reason)
    for name, printed in (("code", "1.043"), ("help", "1.065")):
        reason = "a factor without a source, in another program; there is none here to ask for"
        yield quoted(f"f.9.{name}", "9: unexplained factor", f"in its {name}", printed, "", reason)
    for resolution, exposure, printed in ((4, 10, "0.3875"), (10, 30, "0.3461")):
        yield number(
            f"f.12.{resolution}A",
            "12: exposure filter",
            f"k = 1/{resolution} 1/Å, {exposure} e/Å^2",
            printed,
            "",
            lambda d=resolution, n=exposure: dose.weight(d, n),
            mistakes=(Mistake(dose.WRONG[resolution, exposure], dose.WRONG_FORMULA),),
        )
    for padding, printed in ((1, "0.339"), (2, "0.970")):
        yield number(
            f"f.18.pad{padding}",
            "18: gridding correction",
            f"radial sinc^2 over the correction, cube corner, padded {padding} times",
            printed,
            "",
            lambda padding=padding: radial_over_separable(padding),
            mistakes=(Mistake("1.000", "the correction is a function of the radius"),),
        )


def radial_over_separable(padding: int) -> float:
    """In the corner of a cube of 32: sinc^2 of the radius over the gridding correction."""
    corner = 1 / (2 * padding)
    separable = float(interpolation.gridding_correction(32, padding, "linear", 3)[0, 0, 0])
    return float(np.sinc(np.sqrt(3) * corner) ** 2) / separable
