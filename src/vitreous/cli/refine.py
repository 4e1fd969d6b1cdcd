"""`vitreous refine`: particles and a reference become a map, its resolution, and poses; with --classes several maps."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.refine3d import Refine


def run(settings: Annotated[Refine, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
