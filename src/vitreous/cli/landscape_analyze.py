"""`vitreous landscape analyze`: where the particles of a landscape lie, and the maps there."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.analyze_landscape import AnalyzeLandscape


def run(settings: Annotated[AnalyzeLandscape, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
