"""`vitreous simulate plan`: which scattering model suffices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Flat, Force, Json, print_outcome, run_with_or_without_folder
from vitreous.jobs.job import Outcome
from vitreous.jobs.simulate_plan import SimulatePlan


def run(
    settings: Annotated[SimulatePlan, Flat],
    *,
    out: Annotated[Path | None, Parameter(help="Write a job folder with a report, too")] = None,
    force: Force = False,
    json: Json = False,
) -> int:
    """Print a table of the models, the simplest and fastest first, and which of them suffices."""
    outcome = run_with_or_without_folder(settings, out, force=force, quiet=json)
    if json:
        print_outcome(outcome, as_json=True)
        return 0
    print_table(outcome, settings.resolution)
    if out is not None:
        print(f"\n{out / 'report.html'}")
    return 0


def print_table(outcome: Outcome, resolution: float) -> None:
    """One line for each model, then the sentence; warnings on stderr."""
    print(f"{'model':<20} {f'error at {resolution:g} Å':>15} {'as phase':>9} {f'up to {resolution:g} Å':>12} {'ms':>7}")
    for row in outcome.tables["rungs"]:
        errors = f"{row['error_at_resolution']:>15.4f} {row['phase_error_deg']:>8.1f}° {row['error_overall']:>12.4f}"
        print(f"{row['model']:<20} {errors} {row['milliseconds']:>7.0f}")
    print(f"\n{outcome.tables['recommendation']}")
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
