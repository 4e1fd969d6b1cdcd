"""b9: envelopes of partial coherence, and B factors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from vitreous.conformance.check import Check, Mistake, number
from vitreous.fourier import filters
from vitreous.optics import envelopes
from vitreous.units import MILLIMETRE

TITLE = "Envelopes and B factors"
CS = CC = 2.7 * MILLIMETRE
# k in 1/angstrom as the contract prints it: spatial envelope, temporal envelope
TABLE = {
    "1/4": ("0.58345", "0.99467"),
    "1/3": ("0.42468", "0.98324"),
    "0.498": ("0.26131", "0.91924"),
    "1/2": ("0.26049", "0.91799"),
}
# B in angstrom^2, k, amplitude; and what exp(-B k^2/2) and exp(-B k^2) would give
B_FACTORS = (
    (100, "1/4", "0.209611", "0.043937", "0.001930"),
    (50, "1/3", "0.249352", "0.062177", "0.003866"),
    (20, "1/2", "0.286505", "0.082085", "0.006738"),
)


def checks() -> Iterator[Check]:
    overfocus = {"0.498": (Mistake("0.0206", "the defocus enters with the wrong sign"),)}
    full_width = {"0.498": (Mistake("0.627", "the full width at half maximum is used as rms"),)}
    for k, (spatial, _) in TABLE.items():
        inputs = f"k = {k} 1/Å, 300 kV, Cs 2.7 mm, 10000 Å, 1/e 0.1 mrad"
        answer = partial(spatial_envelope, frequency(k))
        yield number(f"b9.spatial.{k}", "spatial envelope", inputs, spatial, "", answer, mistakes=overfocus.get(k, ()))
    for k, (_, temporal) in TABLE.items():
        inputs = f"k = {k} 1/Å, 300 kV, Cc 2.7 mm, FWHM 0.7 eV"
        answer = partial(temporal_envelope, frequency(k))
        yield number(
            f"b9.temporal.{k}", "temporal envelope", inputs, temporal, "", answer, mistakes=full_width.get(k, ())
        )
    yield from spreads()
    yield from b_factors()


def spreads() -> Iterator[Check]:
    """The rms spread of defocus, without and with the factor of some texts."""
    inputs = "300 kV, Cc 2.7 mm, FWHM 0.7 eV"
    yield number("b9.focal-spread", "rms defocus spread", inputs, "26.754", "Å", lambda: spread(False))
    relativistic = inputs + ", relativistic"
    yield number(
        "b9.relativistic.factor",
        "relativistic factor",
        "300 kV",
        "1.226929",
        "",
        lambda: spread(True) / spread(False),
    )
    yield number(
        "b9.relativistic.focal-spread", "rms defocus spread", relativistic, "32.825", "Å", lambda: spread(True)
    )
    yield number(
        "b9.relativistic.temporal.1/2",
        "temporal envelope",
        f"k = 1/2 1/Å, {relativistic}",
        "0.87914",
        "",
        lambda: temporal_envelope(0.5, relativistic=True),
    )


def b_factors() -> Iterator[Check]:
    for b_factor, k, printed, half, whole in B_FACTORS:
        yield number(
            f"b9.b-factor.{b_factor}.{k}",
            "amplitude of a B factor",
            f"B = {b_factor} Å^2, k = {k} 1/Å",
            printed,
            "",
            partial(attenuation, b_factor, frequency(k)),
            mistakes=(
                Mistake(half, "exp(-B k^2/2), which is that of the power"),
                Mistake(whole, "exp(-B k^2): the quarter is missing"),
            ),
        )
    yield number(
        "b9.displacement",
        "<u^2> per axis",
        "B = 20 Å^2, from the attenuation",
        "0.25330",
        "Å^2",
        # a displacement u attenuates by exp(-2 pi^2 <u^2> k^2)
        lambda: -math.log(attenuation(20, 0.5)) / (2 * math.pi**2 * 0.25),
    )


def frequency(printed: str) -> float:
    """The number of "1/4" and of "0.498"."""
    over, _, under = printed.partition("/")
    return float(over) / float(under or 1)


def spatial_envelope(k: float) -> float:
    return float(envelopes.spatial_coherence(k, 1e4, one_over_e_mrad=0.1, voltage=300e3, spherical_aberration=CS))


def spread(relativistic: bool) -> float:
    sigma_ev = 0.7 / envelopes.FWHM_PER_SIGMA
    return envelopes.focal_spread(CC, sigma_ev=sigma_ev, voltage=300e3, relativistic=relativistic)


def temporal_envelope(k: float, *, relativistic: bool = False) -> float:
    return float(envelopes.temporal_coherence(k, focal_sigma=spread(relativistic), voltage=300e3))


def attenuation(b_factor: float, k: float) -> float:
    return float(filters.b_factor_envelope(k, b_factor))
