"""`vitreous landscape train`: a map as a function of a latent, and the latent of each particle."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.train_landscape import TrainLandscape


def run(settings: Annotated[TrainLandscape, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
