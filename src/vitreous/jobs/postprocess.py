"""The job `postprocess`: two half maps become a mask, FSC curves, a B factor and a sharpened map."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.mrc import read_volume
from vitreous.io.star import read_star
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.map_products import analyse, save_maps
from vitreous.jobs.map_sections import map_sections
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.reconstruction.mask import Mask, mask_from_values
from vitreous.reconstruction.postprocess import PostprocessSettings, mtf_at_shells


@dataclass(frozen=True)
class Postprocess:
    """Settings of post-processing.

    Parameters
    ----------
    half1
        First half map, unmasked and unfiltered.
    half2
        Second half map.
    mask
        Soft mask, values from 0 to 1; by default one is made.
    b_factor
        B factor to undo, in Å² (positive sharpens); by default that of the Guinier plot.
    fit_from
        Low-resolution end of the Guinier fit, in angstrom.
    low_pass
        Resolution at which to cut the map, in angstrom; by default that of the FSC.
    fsc_weighting
        Weight each shell by what the FSC says of its noise.
    mtf
        Detector MTF to undo: a STAR file with rlnResolutionInversePixel and rlnMtfValue.
    mtf_binning
        Pixel size of the maps over that of the detector when the MTF was measured.
    pixel_size
        Pixel size in angstrom, instead of the header's.
    seed
        Seed of the phase randomisation.
    """

    half1: Path
    half2: Path
    mask: Path | None = field(default=None, kw_only=True)
    b_factor: float | None = field(default=None, kw_only=True)
    fit_from: float = field(default=10.0, kw_only=True)
    low_pass: float | None = field(default=None, kw_only=True)
    fsc_weighting: bool = field(default=True, kw_only=True)
    mtf: Path | None = field(default=None, kw_only=True)
    mtf_binning: float = field(default=1.0, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "postprocess"

    def inputs(self) -> list[Path]:
        return [path for path in (self.half1, self.half2, self.mask, self.mtf) if path is not None]

    def run(self, desk: Desk) -> Outcome:
        first, second = read_pair(self.half1, self.half2, self.pixel_size)
        mask = None if self.mask is None else read_mask(self.mask, first)
        settings = PostprocessSettings(self.b_factor, self.fit_from, self.low_pass, self.fsc_weighting)
        mtf = None if self.mtf is None else read_mtf(self.mtf, first.box, self.mtf_binning)
        mean = (first.data + second.data) / 2
        analysis = analyse(
            (first.data, second.data), mean, first.pixel_size, mask=mask, settings=settings, mtf=mtf, seed=self.seed
        )
        save_maps(desk.folder, analysis)
        box = Finding(
            "box",
            "box",
            first.box,
            "px",
            f"Voxels of {first.pixel_size:.4g} Å; nothing finer than {2 * first.pixel_size:.2f} Å can be seen (Nyquist).",
        )
        outcome = Outcome(
            [box, *analysis.findings()],
            analysis.warnings(),
            title=f"Post-processing of {self.half1.name} and {self.half2.name}",
        )
        outcome.tables = analysis.tables()
        outcome.sections = map_sections(outcome, analysis)
        return outcome


def read_pair(first: Path, second: Path, pixel_size: float | None) -> tuple[Volume, Volume]:
    """Two maps on the same grid."""
    a, b = read_volume(first, pixel_size), read_volume(second, pixel_size)
    if a.box != b.box:
        raise DataProblem(f"{first} has {a.box} voxels along an edge and {second} {b.box}", "maps on the same grid")
    if abs(a.pixel_size / b.pixel_size - 1) > 1e-3:
        raise DataProblem(
            f"{first} has voxels of {a.pixel_size:.4f} A and {second} of {b.pixel_size:.4f} A",
            "one pixel size",
            "give the right one as --pixel-size",
        )
    for path, volume in ((first, a), (second, b)):
        if not np.isfinite(volume.data).all():
            raise DataProblem(f"{path} holds NaN or infinite voxels", "finite numbers")
    return a, b


def read_mask(path: Path, like: Volume) -> Mask:
    """A mask on the grid of a map."""
    volume = read_volume(path, like.pixel_size)
    if volume.box != like.box:
        raise DataProblem(f"the mask {path} has {volume.box} voxels along an edge", f"{like.box}, as the map has")
    mask = mask_from_values(volume.data)
    if not mask.values.any():
        raise DataProblem(f"the mask {path} is 0 everywhere", "a mask that keeps the particle, values from 0 to 1")
    return mask


def read_mtf(path: Path, box: int, binning: float) -> np.ndarray:
    """The detector's MTF at the shells of a box, from a STAR file."""
    for table in read_star(path).values():
        if isinstance(table, Table) and {"rlnResolutionInversePixel", "rlnMtfValue"} <= set(table.names):
            return mtf_at_shells(
                table["rlnResolutionInversePixel"].astype(float),
                table["rlnMtfValue"].astype(float),
                box,
                binning=binning,
            )
    raise FormatProblem(f"{path} holds no MTF", "a table with the columns rlnResolutionInversePixel and rlnMtfValue")
