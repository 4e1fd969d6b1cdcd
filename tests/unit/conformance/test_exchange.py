from __future__ import annotations

import csv
import io
import json

import pytest

from vitreous.conformance.contract import contract
from vitreous.conformance.display import as_json, lines_of
from vitreous.conformance.exchange import COLUMNS, answers_from_csv, contract_as_csv
from vitreous.conformance.verdict import Status, judge, run_checks, tally
from vitreous.errors import DataProblem, FormatProblem

CHECKS = contract(["b1", "b11"])


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(contract_as_csv(CHECKS))))


def answered(**changes: str) -> str:
    """The table with a column of this program's answers to the numbers of b1, some of them replaced."""
    own = {v.check.id: repr(v.got) for v in run_checks(c for c in CHECKS if c.section == "b1")} | changes
    text = io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, "got"))
    writer.writeheader()
    writer.writerows({**row, "got": own.get(row["id"], "")} for row in rows())
    return text.getvalue()


def test_the_table_holds_the_contract_and_no_answer():
    assert [row["id"] for row in rows()] == [check.id for check in CHECKS]
    assert tuple(rows()[0]) == COLUMNS and "got" not in COLUMNS
    for row, check in zip(rows(), CHECKS):
        assert float(row["expected"]) == check.expected and row["unit"] == check.unit
        if check.judged:
            assert float(row["tolerance"]) == pytest.approx(check.tolerance.around(check.expected), rel=1e-5)
        else:
            assert row["tolerance"] == "" and row["note"].startswith("not judged: ")


def test_round_trip_of_a_table_with_answers():
    answers = answers_from_csv(answered(), contract())
    counts = tally(judge(CHECKS, answers))
    assert counts == {Status.PASS: 27, Status.FAIL: 0, Status.NOT_ANSWERED: 15, Status.NOT_JUDGED: 2}
    wrong = answers_from_csv(answered(**{"b1.wavelength.300kV": "0.0196876"}), contract())
    assert [v.check.id for v in judge(CHECKS, wrong) if v.status is Status.FAIL] == ["b1.wavelength.300kV"]


def test_two_columns_are_enough_in_any_order():
    text = '\ufeffgot,id\n0.019687489, b1.wavelength.300kV\n"14.14","b11.critical.10A"\n,\n'
    assert answers_from_csv(text, CHECKS) == {"b1.wavelength.300kV": 0.019687489, "b11.critical.10A": 14.14}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", FormatProblem, "no header"),
        ("id,value\nb1.wavelength.300kV,1\n", FormatProblem, "without the column 'got'.*found: id, value"),
        ("id,got\nb1.wavelenght.300kV,1\n", DataProblem, "line 2.*wavelenght.*did you mean 'b1.wavelength.300kV'"),
        ("id,got\nzz,1\n", DataProblem, "line 2.*unknown id 'zz'.*--table"),
        ("id,got\nb1.wavelength.300kV,two\n", DataProblem, "line 2.*'two'.*finite number"),
        ("id,got\nb1.wavelength.300kV,nan\n", DataProblem, "'nan'"),
        ('id,got\nb1.wavelength.300kV,"0,0197"\n', DataProblem, "decimal point"),
        ("id,got\nb1.wavelength.300kV,1\nb1.wavelength.300kV,1\n", DataProblem, "line 3.*second answer"),
        ("id,got\nb1.wavelength.300kV,\n", DataProblem, "without an answer"),
        ("id,got\n,5\n", DataProblem, "unknown id ''"),
        ("id,got\nb1.wavelength.300kV\n", DataProblem, "without an answer"),
    ],
)
def test_bad_answers_are_refused_by_line(text, error, words):
    with pytest.raises(error, match=words):
        answers_from_csv(text, CHECKS)


def test_what_is_shown_fits_and_is_complete():
    checks = contract(["a", "b2", "b5", "b10", "c"])
    got = {check.id: -1.23456789e-5 for check in checks[::2]}
    lines = lines_of(judge(checks, got))
    assert max(map(len, lines)) <= 120
    assert lines[-1].startswith(f"all {len(checks)} numbers")
    assert sum(line.startswith("what ") for line in lines) == 5  # one head for each section
    failed = [v.check.id for v in judge(checks, got) if v.status is Status.FAIL]
    assert failed and all(any(line.strip().startswith(id) for line in lines) for id in failed)
    only = lines_of(judge(checks, got), failed_only=True)
    assert sum(line.endswith("FAIL") for line in only) == len(failed)
    assert not any(line.endswith(("pass", "none", " -")) for line in only)


def test_json_says_all_that_the_table_says():
    verdicts = judge(CHECKS, {"b1.wavelength.300kV": 0.02})
    result = json.loads(json.dumps(as_json(verdicts)))
    assert (result["passed"], result["failed"], result["not_answered"], result["not_judged"]) == (0, 1, 41, 2)
    entry = next(n for n in result["numbers"] if n["id"] == "b1.wavelength.300kV")
    assert entry["status"] == "fail" and entry["got"] == 0.02 and entry["expected"] == 0.0196874890
    assert entry["tolerance"] == pytest.approx(5e-11) and entry["tolerance_from"] == "digits printed"
