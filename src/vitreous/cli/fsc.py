"""`vitreous fsc`: Fourier shell correlation of two maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Json, print_outcome
from vitreous.errors import SettingsProblem
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.postprocess import read_mask, read_pair
from vitreous.reconstruction.fsc import correlation_at, half_map_curves
from vitreous.reconstruction.mask import Mask, spherical_mask


def run(
    map1: Annotated[Path, Parameter(help="First map")],
    map2: Annotated[Path, Parameter(help="Second map")],
    *,
    mask: Annotated[Path | None, Parameter(help="Soft mask, values from 0 to 1")] = None,
    radius: Annotated[float | None, Parameter(help="Mask with a soft sphere: 1 up to this radius in voxels")] = None,
    edge: Annotated[float, Parameter(help="Width of the sphere's edge beyond the radius, in voxels")] = 3.0,
    at: Annotated[
        list[float],
        Parameter(help="Also print the FSC at these resolutions, in angstrom", consume_multiple=True, negative=()),
    ] = [],  # noqa: B006
    pixel_size: Annotated[float | None, Parameter(help="Pixel size in angstrom, instead of the header's")] = None,
    seed: Annotated[int, Parameter(help="Seed of the phase randomisation")] = 0,
    json: Json = False,
) -> int:
    """Print resolutions, and with --json the curves. With a mask, `at` refers to the masked curve, the resolutions to the corrected one."""
    if mask is not None and radius is not None:
        raise SettingsProblem("--mask and --radius together", "one mask")
    first, second = read_pair(map1, map2, pixel_size)
    chosen: Mask | None = None
    if mask is not None:
        chosen = read_mask(mask, first)
    elif radius is not None:
        chosen = spherical_mask(first.box, radius, edge)
    curves = half_map_curves(
        first.data, second.data, first.pixel_size, mask=None if chosen is None else chosen.values, seed=seed
    )
    findings = [
        Finding(f"resolution_at_{level}_angstrom", f"resolution at FSC {level}", curves.resolution(level).value, "Å")
        for level in (0.143, 0.5)
    ]
    shown = curves.unmasked if curves.masked is None else curves.masked
    for resolution in at:
        findings.append(
            Finding(
                f"fsc_at_{resolution:g}_angstrom",
                f"FSC at {resolution:g} Å",
                correlation_at(shown, resolution, curves.frequency),
                digits=3,
            )
        )
    print_outcome(Outcome(findings, tables={"fsc": curves.columns()}), as_json=json)
    return 0
