"""The contract: all its numbers, section by section (docs/conformance.md)."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Sequence

from vitreous.conformance.check import Check
from vitreous.errors import SettingsProblem

# section: the module that holds its numbers as `checks()` and its name as `TITLE`
SECTIONS = {
    "a": "signs",
    "b1": "electrons",
    "b2": "factors",
    "b3": "potentials",
    "b4": "inelastic",
    "b5": "zeros",
    "b6": "depth",
    "b7": "thick",
    "b8": "tilted",
    "b9": "envelopes",
    "b10": "detectors",
    "b11": "dose",
    "b12": "models",
    "c": "bars",
    "d": "widths",
    "e": "tables",
    "f": "mistakes",
}


def contract(sections: Sequence[str] = ()) -> list[Check]:
    """The checks of these sections, all for none. A letter stands for all that begin with it: "b" is b1 to b12.

    Raises SettingsProblem for a section that does not exist. Each call makes fresh checks: experiments that several
    numbers share are done once for each call.
    """
    return [check for section in chosen_sections(sections) for check in _module(section).checks()]


def title(section: str) -> str:
    """The name of a section."""
    return _module(section).TITLE


def chosen_sections(sections: Iterable[str]) -> list[str]:
    """The sections meant by these names, in the contract's order."""
    names = [name.strip().lower() for name in sections]
    for name in names:
        if not any(name in (section, section[0]) for section in SECTIONS):
            near = difflib.get_close_matches(name, SECTIONS, n=1)
            raise SettingsProblem(
                f"section '{name}'",
                f"one of {', '.join(SECTIONS)}, or b for b1 to b12",
                f"did you mean '{near[0]}'?" if near else "",
            )
    return [section for section in SECTIONS if not names or section in names or section[0] in names]


def _module(section: str):
    return importlib.import_module(f"vitreous.conformance.{SECTIONS[section]}")
