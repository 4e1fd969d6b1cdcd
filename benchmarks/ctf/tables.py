"""What is printed: rows of text from answers, truth and errors, and the targets beside what was reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoring import Answer, Coverage, Lens, Summary, errors

Answers = Mapping[str, Mapping[Path, Answer]]  # by program, by image


@dataclass(frozen=True)
class Subject:
    """A micrograph with its truth (None: nothing to find) and its group."""

    path: Path
    group: str
    truth: Lens | None


@dataclass(frozen=True)
class Check:
    """A target: what, its limit as text, what vitreous reached, and whether that is met; None where it was not measured."""

    what: str
    limit: str
    reached: str
    met: bool | None

    def row(self) -> list[str]:
        return [self.what, self.limit, self.reached, {True: "met", False: "MISSED", None: "-"}[self.met]]


def of_group(subjects: Sequence[Subject], *groups: str) -> list[Subject]:
    return [subject for subject in subjects if subject.group in groups]


def quantity(
    subjects: Sequence[Subject], answers: Mapping[Path, Answer], name: str, *, sided: bool = True
) -> list[float]:
    """The signed errors of one quantity, of the micrographs in which a CTF was found and that have it.

    A program whose tilt axis has no side is given the better one of the two.
    """
    found = []
    for subject in subjects:
        answer = answers.get(subject.path)
        if answer is None or answer.lens is None or not answer.found or subject.truth is None:
            continue
        lens = answer.lens if sided else better_side(answer.lens, subject.truth)
        error = errors(lens, subject.truth)
        if name in error:
            found.append(error[name])
    return found


def better_side(lens: Lens, truth: Lens) -> Lens:
    """The same plane or the one that falls the other way, whichever is nearer to the truth."""
    if lens.tilt_deg is None or lens.tilt_axis_deg is None:
        return lens
    ends = (lens.defocus_u, lens.defocus_v, lens.angle_deg)
    other = Lens(*ends, -lens.tilt_deg, lens.tilt_axis_deg, lens.thickness)
    return min((lens, other), key=lambda one: errors(one, truth).get("normal", 0.0))


def median(values: Sequence[float]) -> float:
    ordered, half = sorted(abs(value) for value in values), len(values) // 2
    if not ordered:
        return math.nan
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def cell(values: Sequence[float], asked: int, digits: int = 0) -> str:
    """ "median / rms / worst", and how many were answered where not all were; "-" for none at all."""
    if not values:
        return "-"
    summary = Summary.of(values)
    text = " / ".join(f"{value:.{digits}f}" for value in (median(values), summary.rms, summary.worst))
    return text if len(values) == asked else f"{text} ({len(values)} of {asked})"


def quantity_table(
    title: str,
    subjects: Sequence[Subject],
    groups: Sequence[str],
    answers: Answers,
    name: str,
    digits: int = 0,
    sided: Mapping[str, bool] | None = None,
) -> list[list[str]]:
    """One row a group, one column a program."""
    rows = [[title, "n", *answers]]
    for group in groups:
        chosen = of_group(subjects, group)
        if chosen:
            cells = [
                cell(quantity(chosen, found, name, sided=sided is None or sided[program]), len(chosen), digits)
                for program, found in answers.items()
            ]
            rows.append([group, str(len(chosen)), *cells])
    return rows


SIGMAS = {  # name of an error: of which standard deviation
    "mean": "defocus",
    "along": "astigmatism_along",
    "across": "astigmatism_across",
    "slope_x": "slope_x",
    "slope_y": "slope_y",
    "thickness": "thickness",
}


def covered(subjects: Sequence[Subject], answers: Mapping[Path, Answer], names: Sequence[str]) -> Coverage:
    """How often one standard deviation to either side holds the truth, of these errors together."""
    pairs = []
    for subject in subjects:
        answer = answers.get(subject.path)
        if answer is None or answer.lens is None or not answer.found or subject.truth is None:
            continue
        error = errors(answer.lens, subject.truth)
        pairs += [
            (error[name], answer.sigma[SIGMAS[name]])
            for name in names
            if name in error and SIGMAS[name] in answer.sigma
        ]
    return Coverage.of(pairs)


def coverage_table(subjects: Sequence[Subject], answers: Mapping[Path, Answer]) -> list[list[str]]:
    rows = [["68 % intervals that hold the truth", "of", "percent", "due to chance"]]
    kinds = {
        "mean defocus": ("mean",),
        "astigmatism, both components": ("along", "across"),
        "mean defocus and astigmatism": ("mean", "along", "across"),
        "slopes of the defocus": ("slope_x", "slope_y"),
        "thickness": ("thickness",),
    }
    for name, errors_of_it in kinds.items():
        coverage = covered(subjects, answers, errors_of_it)
        if coverage.count:
            rows.append([name, str(coverage.count), f"{coverage.percent:.0f}", f"± {coverage.uncertainty:.0f}"])
    return rows


def control_table(subjects: Sequence[Subject], answers: Answers) -> list[list[str]]:
    """What each program says of the images without rings."""
    rows = [["nothing to find", *answers]]
    for subject in subjects:
        rows.append(
            [
                subject.path.stem.removeprefix("nothing_"),
                *(verdict(found.get(subject.path)) for found in answers.values()),
            ]
        )
    return rows


def verdict(answer: Answer | None) -> str:
    if answer is None:
        return "-"
    if answer.lens is None:
        return "refused"
    return f"{answer.lens.mean:.0f} A" if answer.found else "none found"


def within(values: Sequence[float], limit: float) -> int:
    return sum(abs(value) <= limit for value in values)


def worst_check(what: str, values: Sequence[float], asked: int, limit: float, unit: str, digits: int = 0) -> Check:
    """The largest error may be `limit`, and every micrograph must have been answered."""
    if not asked:
        return Check(what, f"{limit:g} {unit}", "not measured", None)
    worst = Summary.of(values).worst
    missing = "" if len(values) == asked else f", {asked - len(values)} of {asked} not found"
    return Check(
        what, f"{limit:g} {unit}", f"{worst:.{digits}f} {unit}{missing}", len(values) == asked and worst <= limit
    )
