"""The job `localres`: two half maps become a map of local resolution, and a map filtered by it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.io.mrc_stack import write_volume
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.localres_sections import local_sections
from vitreous.jobs.map_products import IDENTICAL
from vitreous.jobs.postprocess import read_mask, read_pair
from vitreous.jobs.ranges import refuse_numbers
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import FscCurves, half_map_curves
from vitreous.reconstruction.local_resolution import (
    THRESHOLD,
    LocalResolution,
    default_window,
    filter_locally,
    local_resolution,
)
from vitreous.reconstruction.mask import Mask, automatic_mask
from vitreous.reconstruction.postprocess import Postprocessed, PostprocessSettings, postprocess

LABEL = "vitreous local resolution in angstrom; outside and unresolved:"


@dataclass(frozen=True)
class LocalRes:
    """Settings of a map of local resolution.

    Parameters
    ----------
    half1
        First half map, unmasked and unfiltered.
    half2
        Second half map.
    mask
        Soft mask, values from 0 to 1; by default one is made.
    threshold
        Correlation of the half maps at which the resolution is read.
    window
        Full width at half maximum of the window, in angstrom; by default five times the resolution of the whole map.
    b_factor
        B factor to undo in the filtered map, in Å² (positive sharpens); by default that of the Guinier plot.
    pixel_size
        Pixel size in angstrom, instead of the header's.
    seed
        Seed of the phase randomisation behind the resolution of the whole map.
    """

    half1: Path
    half2: Path
    mask: Path | None = field(default=None, kw_only=True)
    threshold: float = field(default=THRESHOLD, kw_only=True)
    window: float | None = field(default=None, kw_only=True)
    b_factor: float | None = field(default=None, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "localres"

    def __post_init__(self) -> None:
        refuse_numbers(self, positive=("threshold", "window", "pixel_size"), finite=("b_factor",))

    def inputs(self) -> list[Path]:
        return [path for path in (self.half1, self.half2, self.mask) if path is not None]

    def run(self, desk: Desk) -> Outcome:
        first, second = read_pair(self.half1, self.half2, self.pixel_size)
        size, workers = first.pixel_size, os.cpu_count() or 1
        mean = (first.data + second.data) / 2
        mask = automatic_mask(mean, size) if self.mask is None else read_mask(self.mask, first)
        values = None if mask.empty else mask.values
        curves = half_map_curves(first.data, second.data, size, mask=values, seed=self.seed)
        window = default_window(curves.resolution().value, first.box, size) if self.window is None else self.window
        local = local_resolution(
            first.data,
            second.data,
            size,
            values,
            threshold=self.threshold,
            window=window,
            workers=workers,
            progress=desk.progress("local resolution"),
        )
        settings = PostprocessSettings(self.b_factor, low_pass=2 * size, fsc_weighting=False)
        sharpened = postprocess(mean, curves.best, size, settings=settings)
        filtered = filter_locally(
            sharpened.volume,
            local.values,
            size,
            coarsest=local.coarsest,
            workers=workers,
            progress=desk.progress("filter"),
        )
        self.save(desk.folder, local, filtered, mask)
        return self.outcome(local, curves, mask, sharpened, filtered)

    def save(self, folder: Path, local: LocalResolution, filtered: np.ndarray, mask: Mask) -> None:
        written = np.minimum(local.values, local.coarsest)
        label = f"{LABEL} {local.coarsest:.4g}"
        write_volume(folder / "local_resolution.mrc", Volume(written, local.pixel_size), label=label)
        write_volume(
            folder / "filtered.mrc",
            Volume(filtered, local.pixel_size),
            label="vitreous map filtered to its local resolution",
        )
        write_volume(folder / "mask.mrc", Volume(mask.values, local.pixel_size), label="vitreous soft mask")

    def outcome(
        self, local: LocalResolution, curves: FscCurves, mask: Mask, sharpened: Postprocessed, filtered: np.ndarray
    ) -> Outcome:
        outcome = Outcome(
            findings(local, curves, sharpened), title=f"Local resolution of {self.half1.name} and {self.half2.name}"
        )
        outcome.warnings = mask.warnings() + warnings(local, curves)
        outcome.headline = ("median_resolution_angstrom", "best_resolution_angstrom", "worst_resolution_angstrom")
        outcome.subtitle = f"{len(local.values)} px of {local.pixel_size:.4g} Å, window {local.window:.0f} Å"
        outcome.tables = {
            "bands": {
                "frequency": local.frequency,
                "correlation": local.correlation,
                "level": local.level,
                "noise_deviation": local.deviation,
            }
        }
        outcome.sections = local_sections(outcome, local, curves, filtered)
        return outcome


def findings(local: LocalResolution, curves: FscCurves, sharpened: Postprocessed) -> list[Finding]:
    inside = int(local.inside.sum())
    finest = 2 * local.pixel_size
    at_limit = float((local.resolved <= finest).sum()) / max(1, inside)
    reading = f"correlation {local.threshold:g}"
    return [
        Finding(
            "voxels", "voxels inside", inside, "", "Voxels where the mask is above 0.5, and which have a resolution."
        ),
        Finding(
            "median_resolution_angstrom",
            "median",
            local.quantile(0.5),
            "Å",
            f"Half of the resolved voxels are finer ({reading}).",
        ),
        Finding(
            "best_resolution_angstrom",
            "best",
            local.quantile(0.01),
            "Å",
            "A hundredth of the resolved voxels are finer.",
        ),
        Finding(
            "worst_resolution_angstrom",
            "worst",
            local.quantile(0.99),
            "Å",
            "A hundredth of the resolved voxels are coarser.",
        ),
        Finding(
            "whole_resolution_angstrom",
            f"whole map, {local.threshold:g}",
            local.overall,
            "Å",
            "The same reading of the correlation over all voxels inside: what the local values scatter about.",
        ),
        Finding(
            "fsc_resolution_angstrom",
            "whole map, FSC 0.143",
            curves.resolution().value,
            "Å",
            "The usual reading of the FSC of the half maps, corrected for the mask; a lower threshold gives a finer resolution.",
        ),
        Finding(
            "unresolved_fraction",
            "unresolved",
            local.unresolved,
            "of the voxels",
            f"Where the half maps do not agree even at {local.coarsest:.0f} Å, the coarsest that the window shows.",
            3,
        ),
        Finding(
            "pixel_limited_fraction",
            "pixel limited",
            at_limit,
            "of the voxels",
            f"Where they agree to {finest:.2f} Å, all that the pixel size lets through.",
            3,
        ),
        Finding(
            "window_angstrom",
            "window",
            local.window,
            "Å",
            "Full width at half maximum of what is compared about each voxel.",
            1,
        ),
        Finding(
            "b_factor_angstrom2",
            "B factor",
            sharpened.b_factor,
            "Å²",
            "Undone in the filtered map before it was filtered.",
            0,
        ),
    ]


def warnings(local: LocalResolution, curves: FscCurves) -> list[str]:
    """What the numbers must not be read for."""
    found = []
    if curves.unmasked[1:].min() > IDENTICAL:
        found.append("The half maps are one and the same map: their agreement says nothing about resolution.")
    raised = local.frequency[local.level > local.threshold * (1 + 1e-9)]
    if len(raised):
        found.append(
            f"At {1 / raised[-1]:.1f} Å and coarser noise alone may reach a correlation of {local.threshold:g} in this window: the threshold "
            "is three standard deviations of noise there. A wider --window or a higher --threshold avoids that."
        )
    if not len(local.resolved):
        found.append("The half maps agree nowhere: there is no local resolution.")
    return found
