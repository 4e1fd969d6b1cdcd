"""How verdicts are shown: a table of at most 120 columns, grouped by section with its sums, or plain data for JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from vitreous import __version__
from vitreous.conformance.check import Check
from vitreous.conformance.contract import title
from vitreous.conformance.verdict import Status, Verdict, tally

WIDTH = {"what": 24, "inputs": 33, "expected": 14, "got": 15, "tolerance": 9, "unit": 9, "": 4}
GAP = "  "
TO_THE_RIGHT = ("expected", "got", "tolerance")
LONGEST_REMARK = 112
MARK = {Status.PASS: "pass", Status.FAIL: "FAIL", Status.NOT_JUDGED: "-", Status.NOT_ANSWERED: "none"}
SUMS = {
    Status.PASS: "passed",
    Status.FAIL: "failed",
    Status.NOT_ANSWERED: "not answered",
    Status.NOT_JUDGED: "not judged",
}


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The sums, then every number."""
    counts = tally(verdicts)
    return {
        "version": __version__,
        **{name.replace(" ", "_"): counts[status] for status, name in SUMS.items()},
        "numbers": [record(verdict) for verdict in verdicts],
    }


def record(verdict: Verdict) -> dict[str, Any]:
    check = verdict.check
    return {
        "id": check.id,
        "section": check.section,
        "what": check.what,
        "inputs": check.inputs,
        "expected": check.expected,
        "got": verdict.got,
        "tolerance": check.tolerance.around(check.expected) if check.judged else None,
        "tolerance_from": check.tolerance.reason if check.judged else None,
        "unit": check.unit,
        "needs": check.needs,
        "status": verdict.status.value,
        "remark": verdict.remark,
    }


def lines_of(verdicts: Sequence[Verdict], *, failed_only: bool = False) -> list[str]:
    """The table, grouped by section with its sums, and the sums of all."""
    lines = []
    for section in dict.fromkeys(verdict.check.section for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.check.section == section]
        shown = [verdict for verdict in own if not failed_only or verdict.status is Status.FAIL]
        lines.append(f"{section:<4}{title(section)}: {sums(own)}")
        if shown:
            lines.append(cells(*(name for name in WIDTH)))
            lines += [line for verdict in shown for line in rows(verdict)]
            lines.append("")
    if lines[-1:] != [""]:
        lines.append("")
    return [*lines, f"all {sums(verdicts)}"]


def sums(verdicts: Sequence[Verdict]) -> str:
    """ "27 numbers, 26 passed, 1 failed"."""
    counts = tally(verdicts)
    parts = [f"{counts[status]} {name}" for status, name in SUMS.items() if counts[status]]
    return f"{len(verdicts)} numbers, {', '.join(parts)}"


def rows(verdict: Verdict) -> list[str]:
    """One number on one line. Long words go on below, then the id of what failed and what there is to say."""
    check = verdict.check
    what = textwrap.wrap(check.what, WIDTH["what"])
    inputs = textwrap.wrap(check.inputs, WIDTH["inputs"]) or [""]
    tolerance = short_exponent(f"{check.tolerance.around(check.expected):.2g}") if check.judged else ""
    got = "" if verdict.got is None else shown(verdict.got, check)
    lines = [cells(what[0], inputs[0], check.printed, got, tolerance, check.unit, MARK[verdict.status])]
    for i in range(1, max(len(what), len(inputs))):
        lines.append(cells("".join(what[i : i + 1]), "".join(inputs[i : i + 1])))
    remark = verdict.remark
    if verdict.status is Status.FAIL:
        remark = f"{check.id}: {remark}" if remark else check.id
    return lines + textwrap.wrap(remark, LONGEST_REMARK, initial_indent="    ", subsequent_indent="    ")


def cells(*texts: str) -> str:
    """The texts in the first columns."""
    parts = [
        f"{text:>{width}}" if name in TO_THE_RIGHT else f"{text:<{width}}"
        for text, (name, width) in zip(texts, WIDTH.items())
    ]
    return GAP.join(parts).rstrip()


def shown(got: float, check: Check) -> str:
    """An answer with one digit more than the contract prints; errors, which are 0 at best, by their size."""
    mantissa, _, exponent = check.printed.partition("e")
    decimals = len(mantissa.partition(".")[2]) + 1
    if check.expected == 0:
        return short_exponent(f"{got:.2e}")
    return short_exponent(f"{got:.{decimals}e}") if exponent or abs(got) >= 1e8 else f"{got:.{decimals}f}"


def short_exponent(number: str) -> str:
    """1e-07 as 1e-7."""
    return re.sub(r"e([+-])0(?=\d)", r"e\1", number)
