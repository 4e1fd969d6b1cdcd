"""`vitreous simulate micrograph`: particles in ice over a field, with the truth about each."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.simulate_micrograph import SimulateMicrograph


def run(settings: Annotated[SimulateMicrograph, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
