"""Verdicts: the answers of this program, or those of another one, held against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vitreous.conformance.check import Check


class Status(StrEnum):
    """What became of a number of the contract."""

    PASS = "pass"
    FAIL = "fail"
    NOT_JUDGED = "not judged"  # the contract quotes it from the literature, or it belongs to no single answer
    NOT_ANSWERED = "not answered"  # the other program's file does not give it


@dataclass(frozen=True)
class Verdict:
    """What was got for a check (None without an answer), its status, and what there is to say about it."""

    check: Check
    status: Status
    got: float | None = None
    remark: str = ""


def run_checks(checks: Iterable[Check], report: Callable[[int, int], None] | None = None) -> list[Verdict]:
    """Ask this program for each number. An answer that fails to come is a failure, with its error as the remark."""
    checks = list(checks)
    verdicts = []
    for done, check in enumerate(checks, start=1):
        verdicts.append(_own(check))
        if report is not None:
            report(done, len(checks))
    return verdicts


def judge(checks: Iterable[Check], answers: Mapping[str, float]) -> list[Verdict]:
    """Hold the answers of another program, by id, against the contract."""
    verdicts = []
    for check in checks:
        if not check.judged:
            verdicts.append(Verdict(check, Status.NOT_JUDGED, answers.get(check.id), check.reason))
        elif check.id in answers:
            verdicts.append(_verdict(check, answers[check.id]))
        else:
            verdicts.append(Verdict(check, Status.NOT_ANSWERED))
    return verdicts


def tally(verdicts: Iterable[Verdict]) -> dict[Status, int]:
    """How many verdicts have each status."""
    counts = dict.fromkeys(Status, 0)
    for verdict in verdicts:
        counts[verdict.status] += 1
    return counts


def _own(check: Check) -> Verdict:
    if check.answer is None:
        return Verdict(check, Status.NOT_JUDGED, None, check.reason)
    try:
        got = float(check.answer())
    except Exception as error:  # whatever goes wrong in one answer must not hide the others
        return Verdict(check, Status.FAIL, None, f"{type(error).__name__}: {error}")
    return _verdict(check, got)


def _verdict(check: Check, got: float) -> Verdict:
    if check.accepts(got):
        return Verdict(check, Status.PASS, got)
    mistake = check.mistake(got)
    return Verdict(check, Status.FAIL, got, "" if mistake is None else f"this is what one gets if {mistake.cause}")
