"""`vitreous landscape images`: pictures as a function of a latent, and turn, origin and latent of each particle."""

from __future__ import annotations

from typing import Annotated

from vitreous.cli.run_command import Flat, Force, Json, Out, run_and_print
from vitreous.jobs.train_spatial_vae import TrainSpatialVae


def run(settings: Annotated[TrainSpatialVae, Flat], *, out: Out, force: Force = False, json: Json = False) -> int:
    """Parse, run, print."""
    return run_and_print(settings, out, force=force, as_json=json)
