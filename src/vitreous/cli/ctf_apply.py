"""`vitreous ctf apply`: correct a micrograph, the micrographs of a STAR file, or particles for their CTF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Flat, Force, Json, print_outcome, progress_bars, run_and_print
from vitreous.jobs.apply_ctf import ApplyCtf, correct_to_file


def run(
    settings: Annotated[ApplyCtf, Flat],
    *,
    out: Annotated[Path, Parameter(help="The job folder to write, or one corrected micrograph alone (.mrc)")],
    force: Force = False,
    json: Json = False,
) -> int:
    """Parse, run, print."""
    if out.suffix.lower() != ".mrc":
        return run_and_print(settings, out, force=force, as_json=json)
    with progress_bars(quiet=json) as progress:
        outcome = correct_to_file(settings, out, force=force, progress=progress)
    print_outcome(outcome, as_json=json)
    return 0
