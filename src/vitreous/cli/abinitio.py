"""`vitreous abinitio`: particles become a first map, from several random starts that say whether they agree."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.abinitio import Abinitio


def run(settings: Annotated[Abinitio, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
