"""b12: which model is good enough. The numbers are the literature's, and its authors do not agree."""

from __future__ import annotations

from collections.abc import Iterator

from vitreous.conformance.check import Check, quoted

TITLE = "Which model is good enough"


def checks() -> Iterator[Check]:
    reason = "literature: Leidl et al. 2023"
    yield quoted("b12.one-slice.full", "one slice", "full transfer to", "2.5", "Å", reason)
    yield quoted("b12.one-slice.less", "one slice", "less transfer at", "1.4", "Å", reason)
