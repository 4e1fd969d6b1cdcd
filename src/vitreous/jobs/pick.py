"""The job `pick`: where the particles are in micrographs, by their size or by their likeness to templates."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.engine.items import over_items
from vitreous.errors import DataProblem, InputError, SettingsProblem
from vitreous.fourier.transforms import fourier_crop
from vitreous.geometry.orientation_grid import MAX_ORDER
from vitreous.geometry.symmetry import point_group
from vitreous.io.micrographs import find_micrograph
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import MrcStack
from vitreous.jobs.ctf_input import readable
from vitreous.jobs.estimate_ctf import HEADER_TOLERANCE
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.pick_input import PickInput, read_pick_input, table_of_items
from vitreous.jobs.pick_micrograph import FOLDER, PickFailure, PickRow, PickTask, finished_row, limited_threads
from vitreous.jobs.pick_sections import HEADLINE, pick_findings, pick_sections
from vitreous.jobs.pick_tables import PICKS, write_picks
from vitreous.jobs.ranges import option, refuse_numbers
from vitreous.model.volume import Volume
from vitreous.picking.blobs import BlobSettings
from vitreous.picking.selection import Selection
from vitreous.picking.templates import AROUND, TemplateBank, diameter_of, projected_views, template_bank
from vitreous.units import DEGREE

RECORDED = 64  # input files whose contents are part of the provenance
MOST_WORKERS = 8
BLOB_THRESHOLD = 4.0
RESOLUTION = 20.0  # angstrom
DETAILS = 12  # of templates: what is finer than so many parts of the disc is not needed to find particles
SAMPLES = 5  # voxels of a map, before it is projected, in the resolution
VARIANCE = 1.6
Results = Sequence[PickRow | PickFailure]


@dataclass(frozen=True)
class Pick:
    """Settings of the picking of particles.

    Parameters
    ----------
    micrographs
        Micrographs or movies (MRC, TIFF), or one STAR file of micrographs, such as micrographs_ctf.star.
    datadir
        Folder in which the names of the STAR file start, if not beside it.
    pixel_size
        Pixel size of the micrographs in angstrom, instead of the header's or the STAR file's.
    diameter
        Smallest and largest diameter of the particles in angstrom; one number for both. With templates: one, of the disc in which they are
        compared; by default 1.5 times the size of the particle in them.
    templates
        Stack of class averages (.mrcs) to look for, protein bright.
    reference
        Map (.mrc) whose projections are looked for.
    template_pixel_size
        Pixel size of the templates or the map in angstrom, instead of the header's.
    order
        HEALPix order of the directions in which the map is projected: 0, 1, 2, ... for steps of 59, 29, 15 degrees; 1 unless given.
    symmetry
        Point group of the map: fewer directions are needed.
    psi_step_deg
        Step of the in-plane angle in degrees. By default it moves the rim of the particle by one resolution, 5 to 30 degrees.
    resolution
        Finest detail of the templates that is compared, in angstrom; by default 20, or a twelfth of the disc if that is coarser.
    contrast
        raw: protein is dark, as micrographs are recorded. inverted: protein is bright.
    threshold
        Least significance in standard deviations of the noise; by default 4, and with templates 5 to 6, as their number
        and that of the pixels say.
    highest
        Largest significance; what stands out more is contamination. By default there is no limit.
    most
        Picks in a micrograph at most, the best.
    distance
        Least distance between two picks in angstrom; by default the smallest diameter, with templates the size of the particle in
        them.
    border
        Least distance of a pick from the edge of the micrograph in angstrom; by default half the largest diameter.
    variance
        Largest variance beside particles, in units of its median over the micrograph; more is carbon, ice crystals or an edge. 0 keeps all.
    workers
        Micrographs that are looked at at the same time, each in about 20 bytes of memory a pixel; by default one for each core, at most 8.
    """

    micrographs: tuple[Path, ...]
    datadir: Path | None = field(default=None, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    diameter: tuple[float, ...] | None = field(default=None, kw_only=True)
    templates: Path | None = field(default=None, kw_only=True)
    reference: Path | None = field(default=None, kw_only=True)
    template_pixel_size: float | None = field(default=None, kw_only=True)
    order: int | None = field(default=None, kw_only=True)
    symmetry: str | None = field(default=None, kw_only=True)
    psi_step_deg: float | None = field(default=None, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    contrast: Literal["raw", "inverted"] = field(default="raw", kw_only=True)
    threshold: float | None = field(default=None, kw_only=True)
    highest: float | None = field(default=None, kw_only=True)
    most: int | None = field(default=None, kw_only=True)
    distance: float | None = field(default=None, kw_only=True)
    border: float | None = field(default=None, kw_only=True)
    variance: float = field(default=VARIANCE, kw_only=True)
    workers: int | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "pick"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive = ("pixel_size", "diameter", "template_pixel_size", "psi_step_deg", "resolution", "threshold")
        refuse_numbers(
            self,
            positive=(*positive, "highest", "most", "distance", "workers"),
            not_negative=("border", "variance", "order"),
        )
        if not self.micrographs:
            raise SettingsProblem("no micrographs", "at least one file")
        if self.templates is not None and self.reference is not None:
            raise SettingsProblem("--templates and --reference", "one or the other")
        self.refuse_diameter()
        self.refuse_without_effect()
        if self.order is not None and self.order > MAX_ORDER:
            raise SettingsProblem(f"--order {self.order}", f"0 to {MAX_ORDER}")
        if self.symmetry is not None:
            point_group(self.symmetry)
        if self.highest is not None and self.highest <= (self.threshold or BLOB_THRESHOLD):
            raise SettingsProblem(
                f"--highest {self.highest:g} and a threshold of {self.threshold or BLOB_THRESHOLD:g}", "a higher one"
            )

    def refuse_diameter(self) -> None:
        """Raise SettingsProblem for a diameter that is missing, or of a wrong number of numbers."""
        if self.by_templates:
            if self.diameter is not None and len(self.diameter) != 1:
                raise SettingsProblem(f"--diameter of {len(self.diameter)} numbers", "one, with templates")
            return
        if self.diameter is None:
            raise SettingsProblem("no --diameter", "that of the particles in angstrom, or --templates or --reference")
        if not 1 <= len(self.diameter) <= 2 or self.diameter[0] > self.diameter[-1]:
            shown = " ".join(f"{value:g}" for value in self.diameter)
            raise SettingsProblem(f"--diameter {shown}", "one or two numbers, the smaller first")

    def refuse_without_effect(self) -> None:
        """Raise SettingsProblem for an option that says nothing without another."""
        needs_templates = ("template_pixel_size", "psi_step_deg", "resolution")
        needs_reference = ("order", "symmetry")
        for names, missing, needed in (
            (needs_templates, not self.by_templates, "--templates or --reference"),
            (needs_reference, self.reference is None, "--reference"),
        ):
            for name in names:
                if missing and getattr(self, name) is not None:
                    raise SettingsProblem(f"{option(name)} without {needed}", "both", "leave it out")

    @property
    def by_templates(self) -> bool:
        return self.templates is not None or self.reference is not None

    def inputs(self) -> list[Path]:
        """The STAR file, or the first of the micrographs (those that can be read), and templates."""
        star = [path for path in self.micrographs if path.suffix.lower() == ".star"]
        files = star or readable(self.micrographs[:RECORDED])
        return files + [path for path in (self.templates, self.reference) if path is not None]

    def run(self, desk: Desk) -> Outcome:
        given = read_pick_input(self.micrographs, pixel_size=self.pixel_size, datadir=self.datadir)
        results, diameter = self.results(given, desk)
        rows = [result for result in results if isinstance(result, PickRow)]
        failures = [result for result in results if isinstance(result, PickFailure)]
        refuse_nothing_read(results)
        outcome = self.outcome(given, rows, failures)
        place = desk.folder if desk.place is None else desk.place
        sizes = [result.pixel_size if isinstance(result, PickRow) else None for result in results]
        if any(len(row.picks) for row in rows):
            found = [result if isinstance(result, PickRow) else None for result in results]
            write_picks(desk.folder, table_of_items(given, sizes), found, place=place, diameter=diameter)
            if (note := folder_note(given, place)) is not None:
                outcome.warnings.append(note)
        outcome.sections = pick_sections(outcome, rows, failures, diameter=diameter, templates=self.by_templates)
        return outcome

    def results(self, given: PickInput, desk: Desk) -> tuple[list[PickRow | PickFailure], float]:
        """One row or failure for each micrograph, in their order, and the diameter of a particle in angstrom."""
        (desk.folder / FOLDER).mkdir(exist_ok=True)
        for unfinished in (desk.folder / FOLDER).glob(".*"):  # of a run that was killed
            unfinished.unlink()
        cores = os.cpu_count() or 1
        workers = min(self.workers or min(cores, MOST_WORKERS), len(given.items))
        threads = max(1, cores // workers)
        if self.by_templates:
            banks = self.banks(given)
            disc = next(iter(banks.values())).diameter
            limits, usual = self.selection(disc / AROUND, disc), self.threshold is None
            task = PickTask(desk.folder, limits, self.contrast, threads, banks=banks, usual_threshold=usual)
            drawn = disc / AROUND
        else:
            assert self.diameter is not None
            low, drawn = self.diameter[0], self.diameter[-1]
            blobs = BlobSettings((low, drawn))
            task = PickTask(desk.folder, self.selection(low, drawn), self.contrast, threads, blobs=blobs)
        with limited_threads(threads):
            found = over_items(
                lambda item: finished_row(item, task), given.items, workers=workers, progress=desk.progress("pick")
            )
        return found, drawn

    def selection(self, smallest: float, largest: float) -> Selection:
        """Limits for particles of these diameters."""
        return Selection(
            threshold=BLOB_THRESHOLD if self.threshold is None else self.threshold,
            distance=smallest if self.distance is None else self.distance,
            border=largest / 2 if self.border is None else self.border,
            highest=math.inf if self.highest is None else self.highest,
            variance=self.variance or math.inf,
            most=self.most,
        )

    def banks(self, given: PickInput) -> dict[float, TemplateBank]:
        """A bank of templates for each pixel size of the micrographs that can be opened (angstrom)."""
        images, pixel_size = self.template_images()
        diameter = diameter_of(images, pixel_size) if self.diameter is None else self.diameter[0]
        resolution = max(RESOLUTION, diameter / DETAILS) if self.resolution is None else self.resolution
        sizes = set()
        for item in given.items:
            try:
                sizes.add(item.open().pixel_size)
            except InputError:
                continue  # it fails again, and is told, when it is its turn
        banks: dict[float, TemplateBank] = {}
        made: dict[float, TemplateBank] = {}
        for size in sorted(sizes):
            if 2 * size > resolution:
                raise SettingsProblem(
                    f"templates to {resolution:g} A in micrographs of {size:g} A a pixel",
                    f"a resolution of {2 * size:.3g} A or coarser",
                    "give --resolution",
                )
            step = None if self.psi_step_deg is None else self.psi_step_deg * DEGREE
            finest = size if size > resolution / 2.5 else 0.0
            if finest not in made:
                made[finest] = template_bank(
                    images,
                    pixel_size,
                    diameter=diameter,
                    resolution=resolution,
                    psi_step=step,
                    finest_pixel_size=finest,
                )
            banks[size] = made[finest]
        return banks

    def template_images(self) -> tuple[np.ndarray, float]:
        """Class averages, or projections of the map, [t, y, x], and their pixel size."""
        if self.reference is not None:
            volume = coarser(
                read_volume(self.reference, self.template_pixel_size), (self.resolution or RESOLUTION) / SAMPLES
            )
            return projected_views(
                volume, 1 if self.order is None else self.order, self.symmetry or "C1"
            ), volume.pixel_size
        assert self.templates is not None
        return read_templates(self.templates, self.template_pixel_size)

    def outcome(self, given: PickInput, rows: Sequence[PickRow], failures: Sequence[PickFailure]) -> Outcome:
        """Findings, warnings, and what result.json says of each micrograph."""
        outcome = Outcome(pick_findings(rows, failures, templates=self.by_templates), title=title_of(self.micrographs))
        outcome.headline = HEADLINE
        what = "templates" if self.by_templates else "blobs"
        count = sum(len(row.picks) for row in rows)
        outcome.subtitle = f"{count} picks by {what} in {len(rows)} micrograph{'s' * (len(rows) != 1)}"
        outcome.warnings = [*given.notes, *self.warnings(given, rows, failures)]
        outcome.tables = {
            "picks_of": {row.micrograph: len(row.picks) for row in rows},
            "failed": {one.micrograph: one.reason for one in failures},
        }
        if given.table is not None:
            outcome.inputs = [item.path for item in given.items if item.path is not None][:RECORDED]
        return outcome

    def warnings(self, given: PickInput, rows: Sequence[PickRow], failures: Sequence[PickFailure]) -> list[str]:
        found = []
        if failures:
            found.append(f"{len(failures)} micrographs were left out. The first: {failures[0].reason}.")
        off = [row for row in rows if header_differs(row)]
        if off:
            found.append(
                f"The headers of {len(off)} files, such as {off[0].path}, say {off[0].header_pixel_size:.4g} Å per pixel instead of "
                f"{off[0].pixel_size:.4g} Å: the headers are not believed."
            )
        if self.by_templates and not given.has_ctf:
            found.append(
                "No CTF is known: the templates were compared as they are. Estimate it first (vitreous ctf) and give micrographs_ctf.star."
            )
        wrong = sum(row.reversed_contrast for row in rows)
        if 2 * wrong > len(rows):
            other = "inverted" if self.contrast == "raw" else "raw"
            found.append(
                f"In {wrong} of {len(rows)} micrographs the strongest blobs have the other contrast: is it --contrast {other}?"
            )
        if not any(len(row.picks) for row in rows):
            found.append(
                f"Nothing was found: {PICKS} was not written. Check the diameter, the pixel size and the contrast, or lower --threshold."
            )
        return found


def coarser(volume: Volume, pixel_size: float) -> Volume:
    """The map with voxels of about `pixel_size` angstrom, if its own are much finer."""
    box = 2 * math.ceil(volume.box * volume.pixel_size / pixel_size / 2)
    if box >= volume.box:
        return volume
    data, size = fourier_crop(volume.data, box, 3, volume.pixel_size)
    return Volume(np.asarray(data, dtype=np.float32), size)


def read_templates(path: Path, pixel_size: float | None) -> tuple[np.ndarray, float]:
    """A stack of class averages [t, y, x] and its pixel size. Raises DataProblem for a pixel size that nobody knows."""
    stack = MrcStack(path)
    size = pixel_size or stack.pixel_size
    if size is None:
        raise DataProblem(
            f"{path} has pixel size 0 in its header (unknown)", "that of the templates", "give --template-pixel-size"
        )
    return stack.read(slice(None)), size


def refuse_nothing_read(results: Results) -> None:
    """Raise DataProblem if no micrograph at all could be looked at."""
    if any(isinstance(result, PickRow) for result in results):
        return
    first = results[0]
    assert isinstance(first, PickFailure)
    if len(results) == 1:
        raise DataProblem(first.reason)
    raise DataProblem(f"none of the {len(results)} micrographs could be used; the first: {first.reason}")


def header_differs(row: PickRow) -> bool:
    """Whether the header says another pixel size than the STAR file or the option."""
    header = row.header_pixel_size
    return header is not None and abs(header / row.pixel_size - 1) > HEADER_TOLERANCE


def folder_note(given: PickInput, place: Path) -> str | None:
    """A sentence if programs that read picks.star in its place cannot find the micrographs by their names."""
    item = next((item for item in given.items if item.path is not None), None)
    if item is None or given.star is None or find_micrograph(item.micrograph, place) is not None:
        return None
    return (
        f"The names of the micrographs are those of {given.star}, and do not lead to them from {place}: tell programs that read {PICKS} "
        f"where they start (--datadir {given.star.parent})."
    )


def title_of(micrographs: Sequence[Path]) -> str:
    """What the report is called."""
    first = micrographs[0].name
    return f"Picks in {first}" + (f" and {len(micrographs) - 1} more" if len(micrographs) > 1 else "")
