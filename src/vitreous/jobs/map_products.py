"""What is done with two half maps, whoever made them: mask, FSC, B factor, sharpened map; and the files of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.io.mrc_stack import write_volume
from vitreous.io.star import write_star
from vitreous.jobs.job import Finding
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import HALF_MAPS, FscCurves, Resolution, half_map_curves, resolution_at
from vitreous.reconstruction.mask import Mask, automatic_mask
from vitreous.reconstruction.postprocess import Postprocessed, PostprocessSettings, postprocess

# An FSC that nowhere falls below this is that of a map with itself: independent noise would show in some shell.
IDENTICAL = 0.99999


@dataclass(frozen=True)
class MapAnalysis:
    """Two half maps, the map of all particles, and everything derived from them."""

    half_maps: tuple[np.ndarray, np.ndarray]
    map: np.ndarray
    pixel_size: float
    mask: Mask
    curves: FscCurves
    sharpened: Postprocessed

    @property
    def resolution(self) -> Resolution:
        return self.curves.resolution()

    def findings(self) -> list[Finding]:
        at_half = self.curves.resolution(0.5)
        unmasked = resolution_at(self.curves.unmasked, HALF_MAPS, self.curves.frequency)
        nyquist = " (limited by the pixel size)" if self.resolution.limited_by == "nyquist" else ""
        b_factor = Finding(
            "b_factor_angstrom2", "B factor", self.sharpened.b_factor, "Å²", b_factor_meaning(self.sharpened), 0
        )
        return [
            Finding(
                "resolution_angstrom",
                "resolution",
                self.resolution.value,
                "Å",
                f"Where the FSC of the half maps, corrected for the mask, falls below 0.143{nyquist}.",
            ),
            Finding(
                "resolution_at_0.5_angstrom",
                "at FSC 0.5",
                at_half.value,
                "Å",
                "The stricter reading of the same curve: the half maps agree better than they differ.",
            ),
            Finding(
                "resolution_unmasked_angstrom",
                "without mask",
                unmasked.value,
                "Å",
                "The same threshold of 0.143 with the noise around the particle left in.",
            ),
            Finding(
                "mask_fraction",
                "mask",
                self.mask.volume_fraction,
                "of the box",
                "How much of the box the automatic soft mask covers: the particle and a rim.",
                3,
            ),
            b_factor,
        ]

    def warnings(self) -> list[str]:
        found = list(self.mask.warnings())
        if self.curves.unmasked[1:].min() > IDENTICAL:
            found.append("The half maps are one and the same map: their FSC says nothing about resolution.")
        if self.resolution.value is None:
            found.append(
                "The half maps agree at no resolution: poses, CTFs or half sets are wrong. `vitreous check` finds out which."
            )
        return found

    def tables(self) -> dict[str, Any]:
        return {"fsc": self.curves.columns()}


def b_factor_meaning(sharpened: Postprocessed) -> str:
    """One sentence on where the B factor came from."""
    plot = sharpened.guinier
    if plot.b_factor is None or plot.fit is None:
        return f"None could be measured: {plot.reason}."
    return f"Fall-off of the amplitudes with resolution, ± {plot.fit.standard_error:.0f} Å² by the scatter of the Guinier plot; the sharpened map has it undone."


def analyse(
    half_maps: tuple[np.ndarray, np.ndarray],
    whole: np.ndarray,
    pixel_size: float,
    *,
    mask: Mask | None = None,
    settings: PostprocessSettings | None = None,
    mtf: np.ndarray | None = None,
    seed: int = 0,
) -> MapAnalysis:
    """Mask, FSC curves and sharpened map of two half maps and the map of all particles.

    The mask is made from the map `whole` unless one is given; an empty one is left out.
    """
    mask = automatic_mask(whole, pixel_size) if mask is None else mask
    curves = half_map_curves(*half_maps, pixel_size, mask=None if mask.empty else mask.values, seed=seed)
    mean = (half_maps[0] + half_maps[1]) / 2
    sharpened = postprocess(mean, curves.best, pixel_size, settings=settings, mtf=mtf)
    return MapAnalysis(half_maps, whole, pixel_size, mask, curves, sharpened)


def save_maps(folder: Path, analysis: MapAnalysis) -> None:
    """Write the maps and curves: half maps as they are (unmasked, unfiltered), for deposition."""
    size = analysis.pixel_size
    for half, data in enumerate(analysis.half_maps, start=1):
        write_volume(
            folder / f"half{half}.mrc", Volume(data, size), label=f"vitreous half map {half}, unmasked, unfiltered"
        )
    write_volume(folder / "map.mrc", Volume(analysis.map, size), label="vitreous map of all particles, unsharpened")
    write_volume(folder / "sharpened.mrc", Volume(analysis.sharpened.volume, size), label="vitreous sharpened map")
    write_volume(folder / "mask.mrc", Volume(analysis.mask.values, size), label="vitreous soft mask")
    tables = {"fsc": Table(analysis.curves.columns()), "guinier": Table(analysis.sharpened.columns())}
    write_star(folder / "fsc.star", tables)
