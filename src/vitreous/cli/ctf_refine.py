"""`vitreous ctf refine`: better CTFs for particles with poses, by comparison with a map."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.refine_ctf import RefineCtf


def run(settings: Annotated[RefineCtf, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
