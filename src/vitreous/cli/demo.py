"""`vitreous demo`: the whole way once, on bundled input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.demo import Demo

DEFAULT_OUT = Path("vitreous_demo")


def run(
    settings: Annotated[Demo | None, Flat] = None, *, out: Out = DEFAULT_OUT, force: Force = False, json: Json = False
) -> int:
    """Parse, run, print."""
    return run_and_print(settings or Demo(), out, force=force, as_json=json)
