"""A job: settings in, findings and files out. The same frozen dataclass is the command's options and the saved settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vitreous.engine.local import Progress, silent
from vitreous.jobs.report import Number, Report, Section

Value = float | int | str | bool | None
ProgressOf = Callable[[str], Progress]  # the name of a stage -> the report of its progress


def quiet(stage: str) -> Progress:
    """Progress that nobody reads."""
    return silent


def named(reason: str, micrograph: str) -> str:
    """A reason why a micrograph was left out, with the name of the micrograph, if that is not in it.

    >>> named("an image with NaN", "raw/a.mrc"), named("/data/raw/a.mrc is truncated", "raw/a.mrc")
    ('raw/a.mrc: an image with NaN', '/data/raw/a.mrc is truncated')
    """
    return reason if Path(micrograph).name in reason else f"{micrograph}: {reason}"


@dataclass(frozen=True)
class Finding:
    """One figure of a result: `key` in result.json, `label` on the screen, and one sentence saying what it means.

    `digits` after the decimal point on screen and in the report; result.json keeps the full value.
    """

    key: str
    label: str
    value: Value
    unit: str = ""
    meaning: str = ""
    digits: int = 2

    @property
    def text(self) -> str:
        """The value as people read it, without its unit."""
        if self.value is None:
            return "none"
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        if isinstance(self.value, float):
            return f"{self.value:,.{self.digits}f}"
        return f"{self.value:,}" if isinstance(self.value, int) else self.value


@dataclass
class Outcome:
    """What a job has to say: findings, warnings (each one sentence), sections of its report, and tables for result.json."""

    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    subtitle: str = ""
    headline: tuple[str, ...] = ()  # keys of the findings that a hurried reader needs
    inputs: list[Path] = field(default_factory=list)  # files read besides those that the settings name

    def as_json(self) -> dict[str, Any]:
        """The content of result.json: every figure that is printed, by key."""
        result: dict[str, Any] = {finding.key: finding.value for finding in self.findings}
        return result | {"warnings": self.warnings} | self.tables

    def numbers(self, keys: Sequence[str] | None = None) -> list[Number]:
        """The findings (those of `keys`) as the report shows them."""
        chosen = [f for f in self.findings if keys is None or f.key in keys]
        return [Number(f.label, f.text, f.unit, f.meaning) for f in chosen]

    def report(self) -> Report:
        return Report(
            self.title, self.subtitle, self.sections, warnings=self.warnings, headline=self.numbers(self.headline)
        )


@dataclass(frozen=True)
class Desk:
    """Where a running job works: the folder that its files go to, and how it reports progress.

    `place` is the name that the folder will have at the end, for files that name others of the job; None if it is thrown away.
    """

    folder: Path
    progress: ProgressOf = quiet
    place: Path | None = None


class Job(Protocol):
    """Settings that can be run. Fields are the settings; `name` is the command."""

    name: ClassVar[str]

    def inputs(self) -> list[Path]:
        """The files that the job reads, for provenance."""
        ...

    def run(self, desk: Desk) -> Outcome:
        """Do the work, writing data products into `desk.folder`."""
        ...
