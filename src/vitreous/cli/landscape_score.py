"""`vitreous landscape score`: landscapes beside the truth of a simulated ensemble."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.score_landscape import ScoreLandscape


def run(settings: Annotated[ScoreLandscape, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
