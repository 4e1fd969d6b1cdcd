"""The contract and the answers of other programs as CSV text, so that anyone can take part. Text in, text out: no files."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable

from vitreous.conformance.check import Check
from vitreous.errors import DataProblem, FormatProblem

COLUMNS = ("id", "section", "what", "inputs", "expected", "tolerance", "unit", "note")
ANSWERS = ("id", "got")


def contract_as_csv(checks: Iterable[Check]) -> str:
    """The contract without answers, one row a number.

    `tolerance` is the largest distance from `expected`, in the unit of the number; empty for numbers that are listed
    and not judged. `note` says where it comes from, or why the number is not judged.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for check in checks:
        tolerance = f"{check.tolerance.around(check.expected):.6g}" if check.judged else ""
        note = check.tolerance.reason if check.judged else f"not judged: {check.reason}"
        writer.writerow((check.id, check.section, check.what, check.inputs, check.printed, tolerance, check.unit, note))
    return text.getvalue()


def answers_from_csv(text: str, checks: Iterable[Check]) -> dict[str, float]:
    """Answers by id from a table with the columns `id` and `got`; other columns are ignored, an empty `got` is no answer.

    Raises FormatProblem for missing columns, and DataProblem, with the line, for an id that the contract does not have,
    an id given twice, and an answer that is not a finite number; and if there is no answer at all.
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
    missing = [name for name in ANSWERS if name not in (rows.fieldnames or ())]
    if missing:
        found = ", ".join(name for name in rows.fieldnames or () if name) or "no header"
        raise FormatProblem(f"answers without the column '{missing[0]}' (found: {found})", "a CSV file with id,got")
    known, answers = {check.id for check in checks}, {}
    for row in rows:
        name, got = ((row[column] or "").strip() for column in ANSWERS)
        if not name and not got:
            continue
        where = f"line {rows.line_num} of the answers"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"did you mean '{near[0]}'?" if near else "take the ids from `vitreous conformance --table FILE.csv`"
            raise DataProblem(f"{where}: unknown id '{name}'", "an id of the contract", hint)
        if name in answers:
            raise DataProblem(f"{where}: a second answer to '{name}'", "one answer for each id")
        if got:
            answers[name] = _finite(got, f"{where}: '{got}' for '{name}'")
    if not answers:
        raise DataProblem("a table of answers without an answer", "at least one row with an id and a number")
    return answers


def _finite(got: str, what: str) -> float:
    try:
        value = float(got)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataProblem(what, "a finite number with a decimal point, in the unit of the contract")
    return value
