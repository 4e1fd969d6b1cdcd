"""`vitreous simulate particles`: particle images of a model or a map, with the truth."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.simulate_particles import SimulateParticles


def run(settings: Annotated[SimulateParticles, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
