"""CtfLimits: from where on a micrograph is to be rejected, and the sentences that say so."""

from __future__ import annotations

from dataclasses import dataclass

from vitreous.estimation.ctf_estimate import CtfEstimate
from vitreous.units import MICROMETRE


@dataclass(frozen=True)
class CtfLimits:
    """Angstrom; None is no limit. `astigmatism` is U - V, `ice_ring` a part of the spectrum's surroundings, `defocus` (least, most)."""

    resolution: float | None = None
    astigmatism: float | None = None
    ice_ring: float | None = None
    defocus: tuple[float, float] | None = None


def reasons_to_reject(estimate: CtfEstimate, limits: CtfLimits) -> tuple[str, ...]:
    """One short sentence for each limit that a CTF exceeds. A value at its limit is within it.

    Nothing is said of the numbers of an estimate that found no CTF: they mean nothing.
    """
    if not estimate.found:
        return ()
    rules = (_resolution, _astigmatism, _ice_ring, _defocus)
    return tuple(sentence for rule in rules if (sentence := rule(estimate, limits)) is not None)


def _resolution(estimate: CtfEstimate, limits: CtfLimits) -> str | None:
    if limits.resolution is None or estimate.fit_resolution <= limits.resolution:
        return None
    return f"The rings fit to {estimate.fit_resolution:.1f} Å only; the limit is {limits.resolution:g} Å."


def _astigmatism(estimate: CtfEstimate, limits: CtfLimits) -> str | None:
    if limits.astigmatism is None or 2 * estimate.amplitude <= limits.astigmatism:
        return None
    return f"The astigmatism is {2 * estimate.amplitude:.0f} Å; the limit is {limits.astigmatism:g} Å."


def _ice_ring(estimate: CtfEstimate, limits: CtfLimits) -> str | None:
    if limits.ice_ring is None or estimate.ice_ring is None or estimate.ice_ring <= limits.ice_ring:
        return None
    return f"Ice crystals: near 3.7 Å the spectrum stands {estimate.ice_ring:.0%} above its surroundings; the limit is {limits.ice_ring:.0%}."


def _defocus(estimate: CtfEstimate, limits: CtfLimits) -> str | None:
    if limits.defocus is None or limits.defocus[0] <= estimate.defocus <= limits.defocus[1]:
        return None
    low, high = (value / MICROMETRE for value in limits.defocus)
    return f"The defocus is {estimate.defocus / MICROMETRE:.2f} µm; the limits are {low:g} and {high:g} µm."
