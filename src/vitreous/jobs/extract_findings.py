"""What the job `extract` has to say: figures, warnings, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.conventions import Contrast
from vitreous.jobs.apply_ctf_particles import aliased_count
from vitreous.jobs.extract_input import ExtractInput
from vitreous.jobs.extract_micrograph import FOLDER, CutRecord
from vitreous.jobs.extract_plan import Plan
from vitreous.jobs.extract_sections import Extracted, extract_sections
from vitreous.jobs.extract_tables import STAR, Written
from vitreous.jobs.job import Finding, Outcome
from vitreous.picking.extraction import Recipe

SURE = 3.0  # standard errors from which on a mean brightness has a sign


@dataclass(frozen=True)
class Extraction:
    """A finished extraction: what was given, planned and cut (`records`, None of a micrograph that failed), and what was written.

    `source` is that of `ParticleCtf`.
    """

    given: ExtractInput
    plan: Plan
    records: tuple[CutRecord | None, ...]
    written: Written
    recipe: Recipe
    contrast: Contrast
    source: str

    @property
    def done(self) -> list[CutRecord]:
        return [record for record in self.records if record is not None]

    @property
    def picks(self) -> int:
        """How many there were to begin with."""
        return len(self.given.particles) + self.given.foreign + sum(one.picks for one in self.given.left_out)

    @property
    def pixel_sizes(self) -> list[float]:
        """Of the images, in angstrom, each once."""
        return sorted({round(group.pixel_size, 6) for group in self.written.optics if group.pixel_size is not None})

    @property
    def written_rows(self) -> list[np.ndarray]:
        """Of each micrograph that gave images, the rows of the plan that have one."""
        return [np.delete(rows, one.flat) for rows, one in zip(self.plan.rows, self.records) if one is not None]


def extraction_outcome(extraction: Extraction, title: str, folder: Path) -> Outcome:
    """Findings, warnings, tables and the report."""
    sizes, size = extraction.pixel_sizes, extraction.recipe.final_size
    count = len(extraction.written.table)
    outcome = Outcome(findings_of(extraction), title=title, headline=HEADLINE)
    outcome.subtitle = f"{count:,} images of {size} px of {sizes[0]:.4g} Å" + " (and others)" * (len(sizes) > 1)
    outcome.tables = {
        "pixel_sizes_angstrom": sizes,
        "left_out_because": {one.name: one.reason for one in extraction.plan.left_out},
    }
    outcome.warnings = [
        *extraction.plan.notes,
        *left_out_warnings(extraction),
        *contrast_warnings(*mean_brightness(extraction.done), extraction.contrast),
        *ctf_warnings(extraction.written, extraction.source),
    ]
    shown = Extracted(
        extraction.done,
        defoci_of(extraction),
        extraction.written.defocus,
        sizes[0],
        extraction.recipe.final_radius,
        extraction.plan.left_out,
    )
    outcome.sections = extract_sections(outcome, shown, folder, FILES)
    return outcome


def findings_of(extraction: Extraction) -> list[Finding]:
    count, done, recipe = len(extraction.written.table), extraction.done, extraction.recipe
    bright, error = mean_brightness(done)
    filled = int((extraction.plan.filled[np.concatenate(extraction.written_rows)] > 0).sum())
    findings = [
        Finding("particles", "particles", count, "", "Images, each with a row in particles.star."),
        Finding("micrographs", "micrographs", len(done), "", "Each with a stack of its own."),
        Finding(
            "left_out", "picks left out", extraction.picks - count, "", "Picks without an image; a warning says why."
        ),
        Finding("box", "box", recipe.final_size, "px", "Pixels of an image along each side."),
        Finding("pixel_size_angstrom", "pixel size", extraction.pixel_sizes[0], "Å", "Of the images.", 4),
        Finding(
            "at_edge", "over the edge", filled, "", "Images filled with repeated pixels where the micrograph ends."
        ),
        Finding("contrast", "contrast", extraction.contrast.value, "", CONTRAST_MEANING[extraction.contrast]),
        Finding("brightness", "brightness", bright, "", BRIGHTNESS, 3),
        Finding("brightness_error", "its error", error, "", "Standard error of the brightness.", 3),
        Finding(
            "ctf_source", "CTF", CTF_WORDS[extraction.source], "", "Where the defocus of each particle comes from."
        ),
    ]
    if recipe.dust is not None:
        findings.append(Finding("dust", "dust", sum(one.dust for one in done), "px", "Pixels replaced by noise."))
    return findings


def defoci_of(extraction: Extraction) -> np.ndarray:
    """The mean defocus of the particles of each micrograph that gave some; nan without CTFs."""
    rows, defocus = extraction.written_rows, extraction.written.defocus
    if defocus is None:
        return np.full(len(rows), np.nan)
    place = np.zeros(len(extraction.plan), dtype=np.int64)
    place[np.sort(np.concatenate(rows))] = np.arange(len(defocus))  # rows of the plan -> rows of the file
    return np.array([defocus[place[these]].mean() for these in rows])


def mean_brightness(records: Sequence[CutRecord]) -> tuple[float, float | None]:
    """Mean brightness over all particles, and its standard error from the spread within the micrographs; None if no micrograph has two."""
    counts = np.array([record.count for record in records], dtype=np.float64)
    mean = float(counts @ [record.bright for record in records] / counts.sum())
    several = [(record.count, record.bright_error) for record in records if record.bright_error is not None]
    if not several:
        return mean, None
    count, error = np.array(several).T
    return mean, float(np.linalg.norm(count * error) / count.sum())


def left_out_warnings(extraction: Extraction) -> list[str]:
    """Sentences on picks that have no image."""
    found, given, plan = [], extraction.given, extraction.plan
    if given.foreign:
        found.append(f"{given.foreign:,} picks in micrographs that --micrographs does not name were left out.")
    if plan.left_out:
        picks, first = sum(one.picks for one in plan.left_out), plan.left_out[0]
        found.append(
            f"{len(plan.left_out):,} micrographs with {picks:,} picks were left out; {first.name}, because {first.reason}."
        )
    if plan.outside:
        found.append(f"{plan.outside:,} picks lie outside their micrographs and were left out.")
    if plan.at_edge:
        found.append(
            f"{plan.at_edge:,} picks whose boxes reach over the border of the micrograph were left out (--edge drop)."
        )
    flat = sum(len(record.flat) for record in extraction.done)
    if flat:
        found.append(f"{flat:,} picks whose background is constant were left out: there is no image.")
    return found


def contrast_warnings(bright: float, error: float | None, contrast: Contrast) -> list[str]:
    """A sentence if the particles have the other sign than is recorded."""
    expected = 1.0 if contrast is Contrast.INVERTED else -1.0
    if error is None or expected * bright > -SURE * error:
        return []
    seen, meant = ("darker", "bright") if contrast is Contrast.INVERTED else ("brighter", "dark")
    return [
        f"The middles of the images are {seen} than their surroundings ({bright:.3f} ± {error:.3f} standard deviations of the background), though "
        f"the protein should be {meant}: check the picks, and whether --contrast says what the micrographs are."
    ]


def ctf_warnings(written: Written, source: str) -> list[str]:
    """Sentences on CTFs that are not known, or that the box does not hold."""
    defocus = written.defocus
    if defocus is None or source == "none":
        return ["No CTF is known: estimate it with `vitreous ctf` and give micrographs_ctf.star as --micrographs."]
    lens = ("voltage", "spherical_aberration", "amplitude_contrast")
    unknown = [name.replace("_", " ") for name in lens if any(getattr(group, name) is None for group in written.optics)]
    if unknown:
        return [
            f"The {', '.join(unknown)} of the microscope is not known: give the micrographs' STAR file as --micrographs."
        ]
    aliased = sum(
        aliased_count(group, defocus[written.optics_index == number], group.box or 0)
        for number, group in enumerate(written.optics)
    )
    if not aliased:
        return []
    return [
        f"The defocus of {aliased:,} particles is more than their box holds: near Nyquist their CTF oscillates faster than the box samples it, "
        "and what the lens has spread beyond the box is lost. Extract them in a larger box."
    ]


HEADLINE = ("particles", "micrographs", "left_out", "pixel_size_angstrom")
FILES = (
    (
        STAR,
        "The columns of the picks, with the names of the images, their middles, and what is left of the way to each particle",
    ),
    (f"{FOLDER}/", "A stack for each micrograph, and what came of it as JSON"),
)
CONTRAST_MEANING = {
    Contrast.INVERTED: "Protein is bright, as reconstruction expects; recorded in the optics block.",
    Contrast.RAW: "Protein is dark, as the detector saw it; recorded in the optics block.",
}
BRIGHTNESS = "Mean inside half the circle minus background, in standard deviations of the background: above 0 where particles are bright."
CTF_WORDS = {
    "picks": "of the picks",
    "micrographs": "of the micrographs",
    "places": "of the micrographs, at each particle's place",
    "none": "none",
}
