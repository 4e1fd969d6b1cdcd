"""`vitreous ctf`: the CTF of micrographs, with error bars, and which of them to reject."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.estimate_ctf import EstimateCtf


def run(settings: Annotated[EstimateCtf, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
