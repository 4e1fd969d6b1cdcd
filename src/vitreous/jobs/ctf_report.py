"""The report of the job `ctf`: which micrographs to reject and why, all of them in a few plots, and some of them closely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.jobs import ctf_figures as figures
from vitreous.jobs.ctf_figures import count_of, has, plus_minus
from vitreous.jobs.ctf_pictures import thumbnail_png
from vitreous.jobs.ctf_row import CtfFailure, CtfRow
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.report import Figure, Section, Source, Table, Thumbnail
from vitreous.jobs.svg import resolution_label
from vitreous.units import DEGREE, MICROMETRE, NANOMETRE

PICTURED = 40  # of the micrographs to reject, at most: the report of thousands is still read on a phone
WORST, ALL_SHOWN = 6, 8  # shown closely: that many to reject and three to keep, or all of a small set
SOURCES = (
    Source("Rohou & Grigorieff 2015, CTFFIND4", "10.1016/j.jsb.2015.08.008"),
    Source("Zhang 2016, Gctf and equi-phase averages", "10.1016/j.jsb.2015.11.003"),
    Source("Tichelaar et al. 2020, thickness from Thon rings", "10.1016/j.ultramic.2020.113023"),
)
HEADLINE = ("micrographs", "found", "to_reject", "defocus_um", "defocus_spread_um", "fit_resolution")


def ctf_findings(rows: Sequence[CtfRow]) -> list[Finding]:
    """The numbers of all micrographs together; those of `HEADLINE` come first. Medians are over the CTFs found."""
    found = [row for row in rows if row.found]
    defocus = np.array([row.defocus for row in found]) / MICROMETRE
    resolutions = [row.fit_resolution for row in found if row.fit_resolution is not None]
    middle, spread = None, None
    if found:
        low, centre, high = np.percentile(defocus, (16, 50, 84))
        middle, spread = float(centre), float(high - low) / 2
    return [
        Finding("micrographs", "micrographs", len(rows), "", "As many as could be read."),
        Finding("found", "CTF found", len(found), "", "The others show no Thon rings."),
        Finding("to_reject", "to reject", sum(not row.good for row in rows), "", "Each with its reasons below."),
        Finding("defocus_um", "median defocus", middle, "µm", "Underfocus is positive.", 3),
        Finding("defocus_spread_um", "spread of defocus", spread, "µm", "Half the range of the middle 68 %.", 3),
        Finding(
            "fit_resolution",
            "median fit resolution",
            float(np.median(resolutions)) if resolutions else None,
            "Å",
            "As far as measured and fitted rings agree.",
        ),
    ]


def ctf_report_sections(
    outcome: Outcome, rows: Sequence[CtfRow], folder: Path, failures: Sequence[CtfFailure] = ()
) -> list[Section]:
    """All sections. `rows` are in the order in which the micrographs were given; their pictures lie in `folder`."""
    worst = worst_first(rows)
    found = [(number, row) for number, row in enumerate(rows, start=1) if row.found]
    sections = [reject_section(rows, worst, folder)]
    if failures:
        sections.append(failure_section(failures))
    if found:
        sections += [defocus_section(rows), *order_sections([row for _, row in found], [number for number, _ in found])]
    if rows:
        sections += [closer_section(chosen(rows, worst), len(rows), folder), all_section(rows)]
    further = [finding.key for finding in outcome.findings if finding.key not in outcome.headline]
    method = Section("Method", METHOD, numbers=outcome.numbers(further), sources=SOURCES)
    return [*sections, method]


def worst_first(rows: Sequence[CtfRow]) -> list[CtfRow]:
    """Those to reject: without a CTF before those with one, then the coarser fit, then the lower score."""

    def rank(row: CtfRow) -> tuple:
        resolution = float("inf") if row.fit_resolution is None else row.fit_resolution
        return (row.significance,) if not row.found else (float("inf"), -resolution, row.score)

    return sorted((row for row in rows if not row.good), key=rank)


def reasons(row: CtfRow) -> list[str]:
    """Why to reject it, in words; where no CTF was found, first that, and the evidence."""
    lines = [] if row.found else [f"No CTF found. {row.evidence}".strip()]
    return lines + [reason for reason in row.reasons if row.evidence not in (reason, "") or row.found]


# --- sections ---------------------------------------------------------------------------------------------------------


def reject_section(rows: Sequence[CtfRow], worst: Sequence[CtfRow], folder: Path) -> Section:
    if not worst:
        return Section("To reject", f"None of {len(rows)} micrographs. Nothing speaks against any of them.")
    text = (
        f"{len(worst)} of {len(rows)} micrographs, the worst first. The left half of each picture is the measured spectrum, the right "
        "half the fitted CTF: where the halves do not match, the fit is wrong; where the left half shows no rings, there is nothing to fit."
    )
    headings = ("spectrum", "micrograph", "why", "defocus (µm)", "U\u00a0−\u00a0V (Å)", "fit (Å)", "score", "ice")
    pictured = [(thumbnail(row, folder), *reject_cells(row)) for row in worst[:PICTURED]]
    tables = [Table(headings, pictured)]
    if len(worst) > PICTURED:
        rest = [reject_cells(row) for row in worst[PICTURED:]]
        tables.append(Table(headings[1:], rest, folded=f"The other {len(rest)} to reject"))
    return Section("To reject", text, tables=tables, warnings=reject_warnings(rows, worst))


def reject_cells(row: CtfRow) -> tuple:
    """Numbers only of a CTF that was found: those of others mean nothing."""
    known = (
        (plus_minus(row.defocus, row.defocus_sigma, MICROMETRE), u_minus_v(row), fit(row)) if row.found else 3 * (None,)
    )
    return (row.name, reasons(row), *known, f"{row.score:.2f}", ice(row))


def reject_warnings(rows: Sequence[CtfRow], worst: Sequence[CtfRow]) -> list[str]:
    if len(rows) > 1 and not any(row.found for row in rows):
        return [
            "No CTF was found in any micrograph. Check the pixel size and the voltage, and that the files are micrographs "
            "before any correction or filter."
        ]
    if len(rows) > 3 and 2 * len(worst) > len(rows):
        return [
            "More than half are to be rejected: look at the pixel size, the voltage and the limits before the micrographs."
        ]
    return []


def failure_section(failures: Sequence[CtfFailure]) -> Section:
    rows = [(one.name, one.reason) for one in failures]
    return Section(
        "Not read", "", tables=[Table(("file", "why"), rows, folded=f"{len(rows)} files" if len(rows) > 20 else "")]
    )


def defocus_section(rows: Sequence[CtfRow]) -> Section:
    """Of the CTFs found."""
    found = [row for row in rows if row.found]
    missing = len(rows) - len(found)
    text = f"{count_of(found)}." + (f" Not drawn, here and below: {missing} without a CTF." if missing else "")
    shown = [figures.defocus_figure(found)]
    if has(found, lambda row: row.fit_resolution):
        shown.insert(0, figures.quality_figure(found))
    return Section("Defocus and fit", text, figures=shown)


def order_sections(found: Sequence[CtfRow], numbers: Sequence[int]) -> list[Section]:
    """Astigmatism, ice, and whatever else was fitted."""
    shown = [figures.astigmatism_figure(found)]
    more: list[Figure] = []
    if has(found, lambda row: row.ice_ring):
        shown.append(figures.ice_figure(found, numbers))
    if has(found, lambda row: row.phase_shift_sigma):
        more.append(figures.phase_figure(found, numbers))
    if any(row.slope is not None for row in found):
        more.append(figures.slope_figure(found))
    if has(found, lambda row: row.thickness):
        more.append(figures.thickness_figure(found, numbers))
    text = (
        ""
        if len(shown) > 1
        else "The spectra do not reach far enough beyond 3.7 Å: nothing can be said about rings of ice."
    )
    sections = [Section("Astigmatism and ice", text, figures=shown)]
    return [*sections, Section("Specimen and phase plate", "", figures=more)] if more else sections


def chosen(rows: Sequence[CtfRow], worst: Sequence[CtfRow]) -> list[CtfRow]:
    """The worst, and of those to keep the one with the finest fit, the typical and the coarsest; all of a small set."""
    if len(rows) <= ALL_SHOWN:
        return [*worst, *(row for row in rows if row.good)]
    kept = sorted((row for row in rows if row.good), key=lambda row: row.fit_resolution or float("inf"))
    places = sorted({0, len(kept) // 2, len(kept) - 1}) if kept else []
    return [*worst[:WORST], *(kept[place] for place in places)]


def closer_section(shown: Sequence[CtfRow], count: int, folder: Path) -> Section:
    which = (
        "All micrographs, those to reject first."
        if len(shown) == count
        else "The worst, and of those to keep the one with the finest fit, the one in the middle and the one with the coarsest."
    )
    text = (
        f"{which} Rings are drawn with the power's smooth mean divided out, and brightened by a factor that depends on the frequency alone, "
        "so that faint ones far out are seen. The measured half is averaged along short arcs, the same whatever was fitted. Pictures of all "
        "are in the job's folder."
    )
    pairs = [figure for row in shown for figure in (figures.spectrum_figure(row, folder), figures.rings_figure(row))]
    rows = [(row.name, f"{row.score:.2f}", f"{row.significance:.1f}", alternatives(row)) for row in shown]
    headings = ("micrograph", "score", "significance", "other defoci, µm (significance)")
    return Section("A closer look", text, figures=pairs, tables=[Table(headings, rows)])


def all_section(rows: Sequence[CtfRow]) -> Section:
    """One table; columns of what was not fitted anywhere are left out."""
    columns = [column for column in COLUMNS if has(rows, column.sigma) or not column.optional]
    headings = ["micrograph", "verdict", *(column.heading for column in columns), "fit (Å)", "score", "ice"]
    cells = []
    for row in rows:
        verdict = "keep" if row.good else "reject" if row.found else "no CTF"
        values = [column.text(row) if row.found else None for column in columns]
        cells.append((row.name, verdict, *values, fit(row) if row.found else None, f"{row.score:.2f}", ice(row)))
    text = "± are standard deviations. The STAR file has the same numbers."
    return Section("All micrographs", text, tables=[Table(headings, cells, folded=f"{len(rows)} micrographs")])


# --- cells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A fitted number of all micrographs in its unit. An `optional` one is shown if any micrograph has it."""

    heading: str
    value: figures.Measure
    sigma: figures.Measure
    unit: float = 1.0
    optional: bool = False

    def text(self, row: CtfRow) -> str | None:
        value = self.value(row)
        return None if value is None or not math.isfinite(value) else plus_minus(value, self.sigma(row), self.unit)


COLUMNS = (
    Column("defocus U (µm)", lambda row: row.defocus_u, lambda row: row.defocus_u_sigma, MICROMETRE),
    Column("V (µm)", lambda row: row.defocus_v, lambda row: row.defocus_v_sigma, MICROMETRE),
    Column("angle (°)", lambda row: row.angle, lambda row: row.angle_sigma, DEGREE),
    Column("phase (°)", lambda row: row.phase_shift, lambda row: row.phase_shift_sigma, DEGREE, optional=True),
    Column("tilt (°)", lambda row: row.tilt, lambda row: row.tilt_sigma, DEGREE, optional=True),
    Column("axis (°)", lambda row: row.axis, lambda row: row.axis_sigma, DEGREE, optional=True),
    Column("thickness (nm)", lambda row: row.thickness, lambda row: row.thickness_sigma, NANOMETRE, optional=True),
    Column("B (Å²)", lambda row: row.b_factor, lambda row: row.b_factor_sigma),
)


def thumbnail(row: CtfRow, folder: Path) -> Thumbnail:
    return Thumbnail(thumbnail_png((folder / row.spectrum_png).read_bytes()), f"Spectrum of {row.name} beside its fit")


def u_minus_v(row: CtfRow) -> str:
    return plus_minus(2 * row.amplitude, None if row.amplitude_sigma is None else 2 * row.amplitude_sigma)


def fit(row: CtfRow) -> str | None:
    return None if row.fit_resolution is None else resolution_label(row.fit_resolution)


def ice(row: CtfRow) -> str | None:
    return None if row.ice_ring is None else f"{row.ice_ring:.2f}".replace("-", "−")


def alternatives(row: CtfRow) -> str:
    return ", ".join(f"{defocus / MICROMETRE:.2f} ({score:.1f})" for defocus, score in row.alternatives) or "none"


METHOD = (
    "The score is the correlation of measured and fitted rings up to the fit resolution, 1 at best; the significance says by how many "
    "standard deviations of noise the best defocus of the search stands out. The fit resolution is where measured and fitted rings cease to "
    "agree: it says how well the rings are seen, not how far particles will resolve.\n\n"
    "Error bars are 68 % intervals of the fit's own noise; a wrong pixel size, voltage or spherical aberration is not in them."
)
