"""The job `extract`: picks become stacks of particle images, one a micrograph, with a particle file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.extract_ctf import particle_ctf
from vitreous.jobs.extract_findings import Extraction, extraction_outcome
from vitreous.jobs.extract_input import LeftOut, read_extract_input
from vitreous.jobs.extract_micrograph import FOLDER, CutFailure, CutRecord, CutTask
from vitreous.jobs.extract_plan import Plan, plan_extraction
from vitreous.jobs.extract_tables import STAR, particle_table, write_extracted
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.particle_input import STACKS_RECORDED
from vitreous.jobs.ranges import refuse_numbers
from vitreous.picking.extraction import Recipe

DIAMETER = 0.75  # of the box: the circle outside which the background lies, where nothing is said
SMALLEST_BOX = 8  # pixels: less holds no particle and its background
FLOAT32, FLOAT16 = 2, 12  # modes of MRC


@dataclass(frozen=True)
class PicksInput:
    """What particles are cut from.

    Parameters
    ----------
    picks
        Picks with their places in micrographs: one STAR file (picks, particles, or RELION's list of coordinate files), or one coordinate file for each micrograph.
    micrographs
        STAR file of the micrographs: their files, optics and CTFs. Picks in micrographs that it does not name are left out.
    datadir
        Folder in which the names of micrographs and coordinate files start, if not beside the files that name them.
    pixel_size
        Pixel size of the micrographs in angstrom, instead of what the files say.
    """

    picks: tuple[Path, ...]
    micrographs: Path | None = field(default=None, kw_only=True)
    datadir: Path | None = field(default=None, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Extract(ClusterOptions, PicksInput):
    """Settings of the extraction of particles.

    Parameters
    ----------
    box
        Box of the images in pixels of the micrographs.
    scale_to
        Reduce the images to this many pixels by cropping their transforms; the pixel size grows.
    diameter
        Diameter in angstrom of the circle that holds the particle; the background outside it makes the normalisation. By default 3/4 of the box.
    contrast
        Sign of the protein in the micrographs: raw (dark) or inverted (bright).
    invert
        Write the protein bright. Otherwise its sign stays that of the micrographs.
    ramp
        Take away the plane that fits the background of each image.
    dust
        Replace pixels that differ from the background by more than this many of its standard deviations by noise; 6 or more for raw micrographs.
    normalise
        Give the background of each image mean 0 and standard deviation 1.
    edge
        Boxes that reach over the border of the micrograph: fill repeats the nearest pixels, drop leaves these particles out.
    recentre
        Cut about the centres that the origins of the picks say, not about their coordinates: aligned particles come to the middle.
    ctf_from
        Whose CTF the particles get: picks or micrographs; by default that of the picks where it differs within a micrograph, else that of --micrographs.
    per_particle_defocus
        Give each particle the defocus of its place in a tilted micrograph; by default where the file of the micrographs has tilts or the picks have heights.
    float16
        Write half-precision numbers, MRC mode 12: half the size.
    seed
        Seed of the noise that takes the place of dust.
    """

    box: int = field(kw_only=True)
    scale_to: int | None = field(default=None, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    contrast: Literal["raw", "inverted"] = field(default="raw", kw_only=True)
    invert: bool = field(default=True, kw_only=True)
    ramp: bool = field(default=True, kw_only=True)
    dust: float | None = field(default=None, kw_only=True)
    normalise: bool = field(default=True, kw_only=True)
    edge: Literal["fill", "drop"] = field(default="fill", kw_only=True)
    recentre: bool = field(default=False, kw_only=True)
    ctf_from: Literal["picks", "micrographs"] | None = field(default=None, kw_only=True)
    per_particle_defocus: bool | None = field(default=None, kw_only=True)
    float16: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "extract"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_numbers(self, positive=("pixel_size", "diameter", "dust"), not_negative=("seed",))
        if not self.picks:
            raise SettingsProblem("no picks", "at least one STAR file")
        if self.box < SMALLEST_BOX:
            raise SettingsProblem(f"--box {self.box}", f"at least {SMALLEST_BOX} pixels")
        if self.scale_to is not None and not SMALLEST_BOX <= self.scale_to <= self.box:
            raise SettingsProblem(
                f"--scale-to {self.scale_to} for a box of {self.box} pixels",
                f"from {SMALLEST_BOX} to {self.box}",
                "images are only reduced",
            )

    def inputs(self) -> list[Path]:
        """The STAR files."""
        return [*self.picks[:STACKS_RECORDED], *([] if self.micrographs is None else [self.micrographs])]

    def run(self, desk: Desk) -> Outcome:
        folders = () if self.datadir is None else (self.datadir,)
        given = read_extract_input(self.picks, self.micrographs, datadir=folders, pixel_size=self.pixel_size)
        plan = plan_extraction(given, self.box, recentre=self.recentre, drop=self.edge == "drop")
        ctf = particle_ctf(plan, self.ctf_from, self.per_particle_defocus)
        recipe = self.recipe(plan)
        results = self.cut(plan, recipe, desk)
        records = [result if isinstance(result, CutRecord) else None for result in results]
        table, optics_index = particle_table(
            plan, records, ctf.columns, desk.folder if desk.place is None else desk.place
        )
        written = write_extracted(desk.folder / STAR, plan, table, optics_index, recipe, self.written_contrast)
        plan = replace(plan, left_out=(*plan.left_out, *failures(plan, results)), notes=(*plan.notes, *ctf.notes))
        extraction = Extraction(given, plan, tuple(records), written, recipe, self.written_contrast, ctf.source)
        outcome = extraction_outcome(extraction, title_of(self.picks), desk.folder)
        outcome.inputs = [item.sheet.path for item in plan.items][:STACKS_RECORDED]
        return outcome

    def recipe(self, plan: Plan) -> Recipe:
        """What is done to each image. The circle is one number of pixels for all: micrographs of very different pixel sizes need two runs."""
        radius = DIAMETER * self.box / 2
        if self.diameter is not None:
            sizes = sorted({item.pixel_size for item in plan.items})
            if sizes[-1] / sizes[0] - 1 > 0.01:
                raise SettingsProblem(
                    f"--diameter {self.diameter:g} for micrographs of {sizes[0]:.4g} to {sizes[-1]:.4g} A per pixel",
                    "micrographs of one pixel size",
                    "extract them one after the other, or leave --diameter out",
                )
            radius = self.diameter / sizes[0] / 2
            if not 1 <= radius <= self.box / 2:
                raise SettingsProblem(
                    f"--diameter {self.diameter:g} for a box {self.box * sizes[0]:.4g} angstrom wide",
                    f"a circle within the box, of at least two pixels of {sizes[0]:.4g} angstrom",
                    "give a larger --box" if radius > 1 else "",
                )
        invert = self.invert and self.contrast == "raw"
        return Recipe(self.box, radius, self.scale_to, invert, self.ramp, self.dust, self.normalise)

    @property
    def written_contrast(self) -> Contrast:
        """The sign of the protein in the images."""
        return Contrast.INVERTED if self.invert or self.contrast == "inverted" else Contrast.RAW

    def cut(self, plan: Plan, recipe: Recipe, desk: Desk) -> list[CutRecord | CutFailure]:
        """One record or failure for each micrograph, in their order. Raises DataProblem if none gave images."""
        (desk.folder / FOLDER).mkdir(exist_ok=True)
        for unfinished in (desk.folder / FOLDER).glob(".*"):  # of a run that was killed
            unfinished.unlink()
        task = CutTask(desk.folder.resolve(), recipe, FLOAT16 if self.float16 else FLOAT32, self.seed)
        with workers_of(self) as workers:
            results = workers.map_over(task, plan.items, progress=desk.progress("extract"))
        bad = [result for result in results if isinstance(result, CutFailure)]
        if len(bad) == len(results):
            raise DataProblem(f"none of {len(bad)} micrographs gave particles; the first: {bad[0].reason}")
        return results


def failures(plan: Plan, results: Sequence[CutRecord | CutFailure]) -> list[LeftOut]:
    """The micrographs that gave no image."""
    return [
        LeftOut(result.name, len(rows), result.reason)
        for rows, result in zip(plan.rows, results)
        if isinstance(result, CutFailure)
    ]


def title_of(picks: Sequence[Path]) -> str:
    """What the report is called."""
    return f"Particles of {picks[0].name}" + (f" and {len(picks) - 1} more" if len(picks) > 1 else "")
