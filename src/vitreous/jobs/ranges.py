"""Ranges: which numbers the settings of a job may be. What cannot be is refused by the name of its option."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vitreous.errors import SettingsProblem


def option(name: str) -> str:
    """A field as the command line calls it.

    >>> option("pixel_size")
    '--pixel-size'
    """
    return "--" + name.replace("_", "-")


def refuse_numbers(
    job: Any, *, positive: Sequence[str] = (), not_negative: Sequence[str] = (), finite: Sequence[str] = ()
) -> None:
    """Raise SettingsProblem for the first of these fields of a job whose number cannot be. None, not given, is fine.

    `positive` and `not_negative` are finite too; a field may be a tuple of numbers.
    """
    kinds = ((positive, 0.0, False, "a positive number"), (not_negative, 0.0, True, "0 or more"))
    for names, least, allowed, expected in (*kinds, (finite, -math.inf, False, "a finite number")):
        for name in names:
            value = getattr(job, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is None or (least < number < math.inf) or (allowed and number == least):
                    continue
                raise SettingsProblem(f"{option(name)} {number}", expected)


def refuse_amplitude_contrast(amplitude_contrast: float | None) -> None:
    """Raise SettingsProblem for an amplitude contrast that is not a fraction."""
    if amplitude_contrast is not None and not -1 <= amplitude_contrast <= 1:
        raise SettingsProblem(f"--amplitude-contrast {amplitude_contrast}", "a fraction from -1 to 1")


def refuse_defocus_range(defocus_um: tuple[float, float]) -> None:
    """Raise SettingsProblem for a range that is not two finite numbers, the smaller first."""
    low, high = defocus_um
    if not -math.inf < low <= high < math.inf:
        raise SettingsProblem(f"--defocus-um {low} {high}", "two numbers of micrometres, the smaller first")
