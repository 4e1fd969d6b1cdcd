"""d: the factors between named widths of a Gaussian."""

from __future__ import annotations

from collections.abc import Iterator

from vitreous.conformance.check import Check, number
from vitreous.optics import envelopes

TITLE = "Named widths"


def checks() -> Iterator[Check]:
    yield number("d.fwhm", "FWHM over rms", "Gaussian", "2.354820", "", lambda: envelopes.FWHM_PER_SIGMA)
    yield number(
        "d.one-over-e", "1/e half-width over rms", "Gaussian", "1.414214", "", lambda: envelopes.ONE_OVER_E_PER_SIGMA
    )
    yield number(
        "d.fwhm-of-e", "FWHM over 1/e half-width", "Gaussian", "1.665109", "", lambda: envelopes.FWHM_PER_ONE_OVER_E
    )
