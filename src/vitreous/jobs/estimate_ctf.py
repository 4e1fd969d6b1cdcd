"""The job `ctf`: the CTF of every micrograph, with error bars, and which micrographs to reject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.engine.workers import available_cores
from vitreous.errors import DataProblem, InputError, SettingsProblem
from vitreous.estimation.ctf_estimate import Search
from vitreous.io.micrograph_table import MicrographTable, write_micrograph_table
from vitreous.io.micrographs import Kind, find_micrograph
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.ctf_input import CtfInput, Microscope, read_ctf_input, readable, table_of_files
from vitreous.jobs.ctf_limits import CtfLimits
from vitreous.jobs.ctf_micrograph import CtfTask, finished_row
from vitreous.jobs.ctf_particles import (
    PlacedParticles,
    height_note,
    lens_notes,
    read_placed_particles,
    refuse_outside,
    with_defocus,
    write_particles_ctf,
)
from vitreous.jobs.ctf_report import HEADLINE, ctf_findings, ctf_report_sections
from vitreous.jobs.ctf_row import FOLDER, CtfFailure, CtfRow
from vitreous.jobs.ctf_tables import (
    REJECTED,
    SELECTED,
    replaced_columns,
    selected_and_rejected,
    why_rejected,
    with_ctf,
)
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.ranges import option, refuse_amplitude_contrast, refuse_defocus_range, refuse_numbers
from vitreous.units import DEGREE, KILOVOLT, MICROMETRE, NANOMETRE

RECORDED = 64  # input files whose contents are part of the provenance
MOST_AT_ONCE = 8  # micrographs, unless --workers says more: each takes memory
HEADER_TOLERANCE = 0.01
Results = Sequence[CtfRow | CtfFailure]


@dataclass(frozen=True)
class MicrographFiles:
    """What the estimation of CTFs is given, in its place before all options.

    Parameters
    ----------
    micrographs
        Micrographs, movies or stored spectra (MRC, TIFF), or one STAR file of micrographs.
    """

    micrographs: tuple[Path, ...]


@dataclass(frozen=True)
class EstimateCtf(ClusterOptions, MicrographFiles):
    """Settings of the estimation of CTFs.

    Parameters
    ----------
    datadir
        Folder in which the names of the STAR file start, if not beside it.
    spectra
        The files are stored amplitude spectra (names that end in _PS are recognised); of a STAR file, those of its column rlnCtfPowerSpectrum.
    pixel_size
        Pixel size of the files in angstrom, instead of the header's or the STAR file's.
    voltage_kv
        Voltage in kilovolt, instead of the STAR file's; plain files need it.
    cs_mm
        Spherical aberration in millimetre, instead of the STAR file's; plain files need it.
    amplitude_contrast
        Amplitude contrast, a fraction, instead of the STAR file's; 0.1 if nobody says it.
    defocus_um
        Smallest and largest defocus that is looked for, in micrometre, positive for underfocus.
    coarsest
        Coarsest resolution in angstrom that is used.
    finest
        Finest resolution in angstrom that is used; by default what the pixels allow, but nothing finer than 3.
    phase_shift_deg
        Smallest and largest phase shift of a phase plate, in degrees; without it there is no phase plate.
    tilt
        Estimate the tilt too.
    thickness_nm
        Smallest and largest thickness in nanometre that is looked for, where the rings go beyond a node; 0 0 takes every specimen for thin.
    per_particle
        STAR file of particles with their places in the micrographs: each gets its own defocus, in particles_ctf.star. Tilt is estimated.
    worst_resolution
        Coarsest resolution in angstrom to which rings and fit may agree; coarser is to be rejected.
    worst_astigmatism
        Largest astigmatism U - V in angstrom; more is to be rejected.
    worst_ice_ring
        How far the spectrum may stand above its surroundings near 3.7 angstrom, as a part of them; more is to be rejected.
    accept_defocus_um
        Smallest and largest defocus in micrometre that is not to be rejected; by default any.
    workers
        Micrographs that are estimated at the same time, each in about 20 bytes of memory a pixel; by default one for each core, at most 8.
    """

    datadir: Path | None = field(default=None, kw_only=True)
    spectra: bool = field(default=False, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    voltage_kv: float | None = field(default=None, kw_only=True)
    cs_mm: float | None = field(default=None, kw_only=True)
    amplitude_contrast: float | None = field(default=None, kw_only=True)
    defocus_um: tuple[float, float] = field(default=(0.2, 8.0), kw_only=True)
    coarsest: float = field(default=30.0, kw_only=True)
    finest: float | None = field(default=None, kw_only=True)
    phase_shift_deg: tuple[float, float] | None = field(default=None, kw_only=True)
    tilt: bool = field(default=False, kw_only=True)
    thickness_nm: tuple[float, float] = field(default=(10.0, 500.0), kw_only=True)
    per_particle: Path | None = field(default=None, kw_only=True)
    worst_resolution: float = field(default=10.0, kw_only=True)
    worst_astigmatism: float = field(default=2000.0, kw_only=True)
    worst_ice_ring: float = field(default=0.5, kw_only=True)
    accept_defocus_um: tuple[float, float] | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "ctf"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_numbers(
            self,
            positive=(
                "pixel_size",
                "voltage_kv",
                "coarsest",
                "finest",
                "worst_resolution",
                "worst_astigmatism",
                "worst_ice_ring",
            ),
            not_negative=("cs_mm", "thickness_nm"),
            finite=("defocus_um", "phase_shift_deg", "accept_defocus_um"),
        )
        refuse_amplitude_contrast(self.amplitude_contrast)
        refuse_defocus_range(self.defocus_um)
        for name in ("phase_shift_deg", "thickness_nm", "accept_defocus_um"):
            if name != "thickness_nm" or any(self.thickness_nm):  # 0 0: thin
                refuse_range(name, getattr(self, name))
        if not self.micrographs:
            raise SettingsProblem("no micrographs", "at least one file")
        if not 0 < self.defocus_um[0] < self.defocus_um[1]:
            raise SettingsProblem(
                f"--defocus-um {self.defocus_um[0]:g} {self.defocus_um[1]:g}",
                "a range of underfocus, the smaller first",
            )
        if self.finest is not None and self.finest >= self.coarsest:
            raise SettingsProblem(
                f"--finest {self.finest:g} and --coarsest {self.coarsest:g}", "a finer and a coarser one"
            )

    def inputs(self) -> list[Path]:
        """The STAR files, or the first of the micrographs (those that can be read: the others are told in the result)."""
        star = [path for path in self.micrographs if path.suffix.lower() == ".star"]
        files = star or readable(self.micrographs[:RECORDED])
        return files + ([] if self.per_particle is None else [self.per_particle])

    @property
    def search(self) -> Search:
        """What is looked for, in the inside units."""
        return Search(
            defocus=_scaled(self.defocus_um, MICROMETRE),
            resolution=(self.coarsest, self.finest),
            phase_shift=None if self.phase_shift_deg is None else _scaled(self.phase_shift_deg, DEGREE),
            tilt=self.tilt or self.per_particle is not None,
            thickness=_scaled(self.thickness_nm, NANOMETRE) if self.thickness_nm[1] > 0 else None,
        )

    @property
    def limits(self) -> CtfLimits:
        """From where on a micrograph is to be rejected, in the inside units."""
        accepted = None if self.accept_defocus_um is None else _scaled(self.accept_defocus_um, MICROMETRE)
        return CtfLimits(self.worst_resolution, self.worst_astigmatism, self.worst_ice_ring, accepted)

    def run(self, desk: Desk) -> Outcome:
        microscope = Microscope(self.voltage_kv, self.cs_mm, self.amplitude_contrast, self.pixel_size)
        given = read_ctf_input(self.micrographs, microscope, spectra=self.spectra, datadir=self.datadir)
        if self.search.tilt and any(item.spectrum for item in given.items):
            asked = "--tilt" if self.tilt else "--per-particle"
            raise SettingsProblem(f"{asked} with stored spectra", "micrographs: a spectrum does not say what is where")
        particles = self.placed_particles(given)
        results = self.results(given, desk)
        refuse_nothing_read(results)
        outcome = self.outcome(given, results)
        self.write_micrographs(given, results, desk, outcome)
        if particles is not None:
            self.write_particles(particles, results, desk, outcome)
        rows = [result for result in results if isinstance(result, CtfRow)]
        failures = [result for result in results if isinstance(result, CtfFailure)]
        outcome.sections = ctf_report_sections(outcome, rows, desk.folder, failures)
        return outcome

    def placed_particles(self, given: CtfInput) -> PlacedParticles | None:
        """The particles of --per-particle, refused before the long work if they do not belong to the micrographs."""
        if self.per_particle is None:
            return None
        particles = read_placed_particles(self.per_particle, [item.micrograph for item in given.items])
        shapes = {}
        for place in np.unique(particles.micrograph[particles.micrograph >= 0]).tolist():
            try:
                shapes[place] = given.items[place].open().shape
            except InputError:
                continue  # it fails again, and is told, when it is its turn
        refuse_outside(particles, shapes)
        return particles

    def results(self, given: CtfInput, desk: Desk) -> list[CtfRow | CtfFailure]:
        """One row or failure for each micrograph, in their order."""
        (desk.folder / FOLDER).mkdir(exist_ok=True)
        for unfinished in (desk.folder / FOLDER).glob(".*"):  # of a run that was killed
            unfinished.unlink()
        at_once = MOST_AT_ONCE if self.cluster is None and self.workers is None else None
        with workers_of(self) as workers:
            busy = min(workers.count, at_once or workers.count, len(given.items))
            threads = max(1, available_cores() // busy) if self.cluster is None else 1
            task = partial(finished_row, task=CtfTask(desk.folder, self.search, self.limits, threads))
            return workers.map_over(task, given.items, at_once=at_once, progress=desk.progress("estimate"))

    def outcome(self, given: CtfInput, results: Results) -> Outcome:
        """Findings, warnings and what result.json says of each micrograph that is not good."""
        rows = [result for result in results if isinstance(result, CtfRow)]
        failures = [result for result in results if isinstance(result, CtfFailure)]
        errors = [row.defocus_sigma for row in rows if row.found and row.defocus_sigma is not None]
        findings = ctf_findings(rows)
        findings.append(
            Finding(
                "defocus_error",
                "median error of defocus",
                float(np.median(errors)) if errors else None,
                "Å",
                "Standard deviation of the mean defocus.",
                1,
            )
        )
        if failures:
            findings.append(Finding("not_read", "not read", len(failures), "", "Files that gave no image."))
        findings.append(
            Finding(
                "seconds", "time", float(np.median([row.seconds for row in rows])), "s", "Median of a micrograph.", 1
            )
        )
        outcome = Outcome(findings, title=title_of(self.micrographs), headline=HEADLINE)
        outcome.subtitle = subtitle_of(rows)
        outcome.warnings = [*given.notes, *failure_warnings(failures, len(results)), *header_warnings(rows)]
        outcome.tables = {
            "rejected": {row.name: why_rejected(row) for row in rows if not row.good},
            "failed": {one.name: one.reason for one in failures},
        }
        if given.table is not None:
            outcome.inputs = [item.path for item in given.items if item.path is not None][:RECORDED]
        return outcome

    def write_micrographs(self, given: CtfInput, results: Results, desk: Desk, outcome: Outcome) -> None:
        """micrographs_ctf.star and rejected.star, each if it has a row."""
        place = desk.folder if desk.place is None else desk.place
        table = table_of_results(given, results)
        if replaced := replaced_columns(table):
            outcome.warnings.append(f"Columns of an earlier estimate were replaced or left out: {', '.join(replaced)}.")
        complete = with_ctf(table, results, lambda row: f"{place / row.spectrum_mrc}:mrc")
        selected, rejected = selected_and_rejected(complete, results)
        for part, name in ((selected, SELECTED), (rejected, REJECTED)):
            if len(part):
                write_micrograph_table(desk.folder / name, part)
        if not len(selected):
            outcome.warnings.append(f"No micrograph is good: {SELECTED} was not written.")
        if given.star is not None and (note := folder_note(given, place)) is not None:
            outcome.warnings.append(note)

    def write_particles(self, particles: PlacedParticles, results: Results, desk: Desk, outcome: Outcome) -> None:
        """particles_ctf.star: those of good micrographs; the others are counted."""
        rows = {place: row for place, row in enumerate(results) if isinstance(row, CtfRow) and row.good}
        usable = np.isin(particles.micrograph, list(rows))
        foreign = int((particles.micrograph < 0).sum())
        kept = particles.rows(usable)
        rejected = len(particles) - len(kept) - foreign
        outcome.findings += [
            Finding("particles", "particles", len(kept), "", "Each with its own defocus, in particles_ctf.star."),
            Finding("particles_left_out", "particles left out", foreign + rejected, "", "Their defocus is not known."),
        ]
        if foreign:
            outcome.warnings.append(f"{foreign} particles of micrographs that were not given were left out.")
        if rejected:
            outcome.warnings.append(f"{rejected} particles of micrographs to reject or not read were left out.")
        if not len(kept):
            outcome.warnings.append("No particle has a CTF: particles_ctf.star was not written.")
            return
        used = {place: rows[place] for place in np.unique(kept.micrograph).tolist()}
        outcome.warnings += lens_notes(kept, used)
        if (note := height_note(kept, used)) is not None:
            outcome.warnings.append(note)
        write_particles_ctf(desk.folder, with_defocus(kept, used))


def refuse_range(name: str, values: tuple[float, float] | None) -> None:
    """Raise SettingsProblem for a range whose first number is not the smaller one."""
    if values is not None and not values[0] < values[1]:
        raise SettingsProblem(f"{option(name)} {values[0]:g} {values[1]:g}", "two numbers, the smaller first")


def refuse_nothing_read(results: Results) -> None:
    """Raise DataProblem if no micrograph at all could be read."""
    if any(isinstance(result, CtfRow) for result in results):
        return
    first = results[0]
    assert isinstance(first, CtfFailure)
    if len(results) == 1:
        raise DataProblem(first.reason)
    raise DataProblem(f"none of the {len(results)} micrographs could be read; the first: {first.reason}")


def table_of_results(given: CtfInput, results: Results) -> MicrographTable:
    """The STAR file's table, or one of plain files. Pixel sizes that only the headers know are filled in."""
    sizes = [result.pixel_size if isinstance(result, CtfRow) else None for result in results]
    usual = next(size for size in sizes if size is not None)
    if given.table is None:
        return table_of_files(given.items, [usual if size is None else size for size in sizes])
    groups = list(given.table.optics)
    for index, result in zip(given.table.optics_index.tolist(), results):
        if groups[index].pixel_size is None and isinstance(result, CtfRow) and result.kind != Kind.SPECTRUM:
            groups[index] = replace(groups[index], pixel_size=result.pixel_size)
    return replace(given.table, optics=tuple(groups))


def title_of(micrographs: Sequence[Path]) -> str:
    """What the report is called."""
    first = micrographs[0].name
    return f"CTFs of {first}" + (f" and {len(micrographs) - 1} more" if len(micrographs) > 1 else "")


def subtitle_of(rows: Sequence[CtfRow]) -> str:
    """Number, size, pixel size and voltage; the most frequent where there are several."""
    kinds = [(row.shape, row.pixel_size, row.voltage, row.kind) for row in rows]
    (height, width), pixel_size, voltage, kind = max(dict.fromkeys(kinds), key=kinds.count)
    mixed = " (most of them)" if len(set(kinds)) > 1 else ""
    noun = {"micrograph": "micrographs", "movie": "movies", "spectrum": "spectra"}[kind]
    return f"{len(rows)} {noun} of {width} x {height} px of {pixel_size:.4g} Å, {voltage / KILOVOLT:g} kV{mixed}"


def failure_warnings(failures: Sequence[CtfFailure], count: int) -> list[str]:
    """One sentence, with the first failure as its example."""
    if not failures:
        return []
    return [f"{len(failures)} of {count} micrographs gave no image. The first: {failures[0].reason}."]


def header_warnings(rows: Sequence[CtfRow]) -> list[str]:
    """A sentence if headers give another pixel size than the STAR file or the option, which is believed."""
    off = [
        row
        for row in rows
        if row.header_pixel_size is not None and abs(row.header_pixel_size / row.pixel_size - 1) > HEADER_TOLERANCE
    ]
    if not off:
        return []
    return [
        f"The headers of {len(off)} files, such as {off[0].path}, say {off[0].header_pixel_size:.4g} Å per pixel instead of "
        f"{off[0].pixel_size:.4g} Å: the headers are not believed."
    ]


def folder_note(given: CtfInput, place: Path) -> str | None:
    """A sentence if programs that read the STAR file in its new place cannot find the micrographs by their names."""
    item = next((item for item in given.items if item.path is not None and not item.spectrum), None)
    if item is None or given.star is None or find_micrograph(item.micrograph, place.parent) is not None:
        return None
    return (
        f"The names of the micrographs are those of {given.star}, and do not lead to them from {place}: tell programs that read "
        f"{SELECTED} where they start (--datadir {given.star.parent})."
    )


def _scaled(values: tuple[float, float], factor: float) -> tuple[float, float]:
    return values[0] * factor, values[1] * factor
