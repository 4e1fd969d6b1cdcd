"""`vitreous simulate ensemble`: images of a particle in many conformations, with the truth about each."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.simulate_ensemble import SimulateEnsemble


def run(settings: Annotated[SimulateEnsemble, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
