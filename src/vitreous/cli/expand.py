"""`vitreous expand`: symmetry expansion of particles with poses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Flat, Force, Json, print_outcome, run_and_print
from vitreous.jobs.expand import Expand, expand_to_file


def run(
    settings: Annotated[Expand, Flat],
    *,
    out: Annotated[Path, Parameter(help="The job folder to write, or one particle file alone (.star, .cs)")],
    force: Force = False,
    json: Json = False,
) -> int:
    """Parse, run, print."""
    if out.suffix in (".star", ".cs"):
        print_outcome(expand_to_file(settings, out, force=force), as_json=json)
        return 0
    return run_and_print(settings, out, force=force, as_json=json)
