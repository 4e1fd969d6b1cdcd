"""`vitreous landscape filter`: the particles of a part of a landscape."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.filter_landscape import FilterLandscape


def run(settings: Annotated[FilterLandscape, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
