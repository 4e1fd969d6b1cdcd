"""`vitreous check`: the convention doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Flat, Force, Json, print_outcome, run_with_or_without_folder
from vitreous.jobs.check import Check

FAULTS_FOUND = 1


def run(
    settings: Annotated[Check, Flat],
    *,
    out: Annotated[Path | None, Parameter(help="Write a job folder with a report, too")] = None,
    force: Force = False,
    json: Json = False,
) -> int:
    """Print one line per check. Exit code 0: no fault; 1: at least one."""
    outcome = run_with_or_without_folder(settings, out, force=force, quiet=json)
    faults = outcome.tables["faults"]
    if json:
        print_outcome(outcome, as_json=True)
    else:
        for finding in outcome.findings:
            print(f"{finding.text:<8} {finding.label:<20} {finding.meaning}")
    return FAULTS_FOUND if faults else 0
