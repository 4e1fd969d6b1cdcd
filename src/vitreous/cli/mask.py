"""`vitreous mask`: a soft mask from a map, or a sphere of its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Json, print_outcome
from vitreous.errors import OutputProblem
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.jobs.job import Finding, Outcome
from vitreous.model.volume import Volume
from vitreous.reconstruction.mask import automatic_mask, spherical_mask


def run(
    map: Annotated[Path, Parameter(help="The map")],
    out: Annotated[Path, Parameter(help="The mask to write (.mrc)")],
    *,
    threshold: Annotated[
        float | None, Parameter(help="Density at the surface of the low-passed map, instead of a measured one")
    ] = None,
    low_pass: Annotated[
        float | None, Parameter(help="Resolution to which the map is filtered first, in angstrom")
    ] = None,
    grow: Annotated[float | None, Parameter(help="Grow the region by this many voxels")] = None,
    edge: Annotated[float | None, Parameter(help="Width of the soft edge, in voxels")] = None,
    radius: Annotated[float | None, Parameter(help="Make a sphere of this radius in voxels instead")] = None,
    pixel_size: Annotated[float | None, Parameter(help="Pixel size in angstrom, instead of the header's")] = None,
    force: Annotated[bool, Parameter(negative=(), help="Replace the output file")] = False,
    json: Json = False,
) -> int:
    """Write the mask and say what it covers."""
    if out.exists() and not force:
        raise OutputProblem(f"{out} exists", "a new file name", "choose another, or give --force")
    volume = read_volume(map, pixel_size)
    if radius is not None:
        mask = spherical_mask(volume.box, radius, 3.0 if edge is None else edge)
    else:
        mask = automatic_mask(
            volume.data,
            volume.pixel_size,
            threshold=threshold,
            low_pass_resolution=low_pass,
            grow_px=grow,
            edge_px=edge,
        )
    write_volume(out, Volume(mask.values, volume.pixel_size), label="vitreous soft mask")
    findings = [
        Finding("mask_fraction", "mask", mask.volume_fraction, "of the box", digits=4),
        Finding("threshold", "threshold", mask.threshold, digits=5),
        Finding("pieces", "pieces kept", mask.kept),
    ]
    print_outcome(Outcome([f for f in findings if f.value is not None], mask.warnings()), as_json=json)
    return 0
