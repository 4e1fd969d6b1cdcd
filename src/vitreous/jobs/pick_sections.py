"""The report of the job `pick`: what was found, on the micrographs and in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitreous.jobs.curves import histogram
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.pick_micrograph import PickFailure, PickRow
from vitreous.jobs.pick_pictures import picks_drawing
from vitreous.jobs.report import Figure, Section, Source, Table

SHOWN = 6  # micrographs in pictures
SPREAD = 8  # micrographs, or picks, from which on a histogram says more than a table
FOLDED = 20  # rows of a table that is shown open
HEADLINE = ("picks", "micrographs", "picks_per_micrograph", "significance")
BLOBS = Source("Lindeberg 1998, blobs of the scale-normalised Laplacian", "10.1023/A:1008045108935")
TEMPLATES = Source("Roseman 2003, local correlation with templates", "10.1016/S0304-3991(02)00333-9")


def pick_findings(rows: Sequence[PickRow], failures: Sequence[PickFailure], *, templates: bool) -> list[Finding]:
    """The numbers of all micrographs together; those of `HEADLINE` come first."""
    counts = np.array([len(row.picks) for row in rows])
    significance = joined(rows, "significance")
    findings = [
        Finding("picks", "picks", int(counts.sum()), "", "Places in picks.star."),
        Finding("micrographs", "micrographs", len(rows), "", "As many as could be read."),
        Finding("picks_per_micrograph", "picks in a micrograph", float(np.median(counts)), "", "Median.", 0),
        Finding("significance", "median significance", middle(significance), "σ", "Standard deviations of noise.", 1),
        Finding("empty", "without picks", int((counts == 0).sum()), "", "Micrographs in which nothing was found."),
        Finding(
            "suspect", "left out", sum(len(row.suspect) for row in rows), "", "Places on carbon, ice crystals or edges."
        ),
    ]
    if templates:
        score = middle(joined(rows, "score"))
        findings.append(Finding("correlation", "median correlation", score, "", "1 is a perfect likeness.", 3))
    else:
        size = middle(joined(rows, "diameter"))
        findings.append(Finding("diameter", "median diameter", size, "Å", "Of the ball that fits the blob.", 0))
    if failures:
        findings.append(Finding("not_read", "not read", len(failures), "", "Files that gave no image or no CTF."))
    seconds = float(np.median([row.seconds for row in rows]))
    return [*findings, Finding("seconds", "time", seconds, "s", "Median of a micrograph.", 1)]


def pick_sections(
    outcome: Outcome,
    rows: Sequence[PickRow],
    failures: Sequence[PickFailure],
    *,
    diameter: float,
    templates: bool,
) -> list[Section]:
    """All sections. `diameter` (angstrom) is drawn where picks have none of their own."""
    sections = [picture_section(rows, diameter)]
    if failures:
        listed = Table(
            ("micrograph", "why"), [(one.micrograph, one.reason) for one in failures], folded=folded(failures)
        )
        sections.append(Section("Not read", "", tables=[listed]))
    if sum(len(row.picks) for row in rows) >= SPREAD:
        sections.append(score_section(rows, templates=templates))
    sections.append(count_section(rows))
    further = [finding.key for finding in outcome.findings if finding.key not in HEADLINE]
    method = Section(
        "Method", METHOD[templates], numbers=outcome.numbers(further), sources=[TEMPLATES if templates else BLOBS]
    )
    return [*sections, method]


def shown(rows: Sequence[PickRow]) -> list[PickRow]:
    """A few that say most: with the most picks, those in between and the fewest, and the one with the largest suspect area."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].picks))
    places = np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))
    chosen = [order[place] for place in places]
    worst = max(range(len(rows)), key=lambda index: rows[index].area)
    if worst not in chosen and rows[worst].area > 0:
        chosen[-2] = worst
    return [rows[index] for index in chosen]


def picture_section(rows: Sequence[PickRow], diameter: float) -> Section:
    chosen = shown(rows)
    which = (
        "All micrographs"
        if len(chosen) == len(rows)
        else "From the micrograph with the most picks to the one with the fewest"
    )
    text = (
        f"{which}, smoothed for the eye. Rings are picks"
        + (", a little wider than the blob" if rows and rows[0].picks.diameter is not None else "")
        + "; crosses are places that stand out as much but were left out, because what is around them is unlike the rest of the micrograph. "
        "Rings on nothing: raise the threshold. Particles without rings: lower it, or look at the diameter. Rings between particles: "
        "the contrast is the wrong one."
    )
    figures = [
        Figure(
            f"{row.name}: {len(row.picks)} picks" + (f", {len(row.suspect)} left out" if len(row.suspect) else ""),
            svg=picks_drawing(row, diameter),
        )
        for row in chosen
    ]
    return Section("Picks", text, figures=figures)


def score_section(rows: Sequence[PickRow], *, templates: bool) -> Section:
    """Histograms of significance, and of diameters or correlations."""
    figures = [
        Figure(
            "By how many standard deviations of the noise each pick stands out. Two hills are particles and something else: cut between "
            "them. One that is cut off at the threshold goes on below it.",
            svg=histogram(
                joined(rows, "significance"),
                x_label="significance (σ)",
                y_label="picks",
                title="Significance of the picks",
            ),
        )
    ]
    if templates:
        svg = histogram(joined(rows, "score"), x_label="correlation", y_label="picks", title="Correlation of the picks")
        figures.append(Figure("Likeness of each pick to its template; noise and defocus lower it.", svg=svg))
        return Section("Scores", "", figures=figures, tables=[template_table(rows)])
    diameters = joined(rows, "diameter")
    if np.ptp(diameters) > 0:
        svg = histogram(diameters, x_label="diameter (Å)", y_label="picks", title="Diameters of the picks")
        figures.append(
            Figure("Diameter of the ball that fits each blob best. A heap at an end asks for a wider range.", svg=svg)
        )
    return Section("Scores", "", figures=figures)


def template_table(rows: Sequence[PickRow]) -> Table:
    """How often each template was the best, the most frequent first."""
    count = np.bincount(joined(rows, "template").astype(np.int64))
    order = [int(index) for index in np.argsort(-count, kind="stable") if count[index]]
    cells = [(index + 1, int(count[index])) for index in order]
    return Table(("template", "picks"), cells, folded=folded(cells, "templates"))


def count_section(rows: Sequence[PickRow]) -> Section:
    counts = [len(row.picks) for row in rows]
    figures = []
    if len(rows) >= SPREAD:
        svg = histogram(counts, x_label="picks", y_label="micrographs", title="Picks in each micrograph")
        figures.append(Figure("Picks in each micrograph.", svg=svg))
    cells = [
        (row.name, len(row.picks), cell(row, "significance"), len(row.suspect), f"{100 * row.area:.0f} %")
        for row in rows
    ]
    headings = ("micrograph", "picks", "median significance", "left out", "suspect area")
    return Section("All micrographs", "", figures=figures, tables=[Table(headings, cells, folded=folded(rows))])


def joined(rows: Sequence[PickRow], name: str) -> np.ndarray:
    """One column of all picks."""
    parts = [getattr(row.picks, name) for row in rows if len(row.picks)]
    return np.concatenate(parts) if parts else np.empty(0)


def middle(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def cell(row: PickRow, name: str) -> str | None:
    value = middle(getattr(row.picks, name))
    return None if value is None else f"{value:.1f}"


def folded(rows: Sequence, what: str = "micrographs") -> str:
    return f"{len(rows)} {what}" if len(rows) > FOLDED else ""


METHOD = {
    False: (
        "Picks are maxima of the scale-normalised Laplacian of a Gaussian over the range of diameters. The significance is the response in "
        "standard deviations of the noise, which is measured beside the particles. Long maxima are edges and fibres, and are left out."
    ),
    True: (
        "The score is the locally normalised correlation of the micrograph with the template that is most like it, both whitened, the "
        "template seen through the micrograph's CTF if that is known. The significance is the score in standard deviations of the correlation "
        "of one template with noise; the largest of many templates and places reaches about 5 in noise alone."
    ),
}
