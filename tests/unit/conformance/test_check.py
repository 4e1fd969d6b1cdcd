from __future__ import annotations

import math

import pytest

from vitreous.conformance.check import Kind, Mistake, Tolerance, bar, half_last_digit, number, quoted
from vitreous.conformance.verdict import Status, judge, run_checks, tally


@pytest.mark.parametrize(
    ("printed", "half"),
    [("203", 0.5), (".225375", 5e-7), ("1.00", 0.005), ("9.243958175e-4", 5e-14), ("-0.57735", 5e-6), ("1.6e-6", 5e-8)],
)
def test_half_a_unit_of_the_last_digit(printed, half):
    assert half_last_digit(printed) == pytest.approx(half, rel=1e-12)


def test_a_number_is_judged_to_the_digits_printed():
    check = number("x.one", "", "", "0.3679", "", lambda: 0.0)
    assert check.section == "x"
    assert check.accepts(0.36794) and check.accepts(0.36786)
    assert check.accepts(0.36795)  # halfway between two printed numbers
    assert not check.accepts(0.36796) and not check.accepts(0.36784) and not check.accepts(-0.3679)
    assert not check.accepts(math.nan) and not check.accepts(math.inf)


def test_relative_tolerances_follow_the_number():
    check = number("x.one", "", "", "-200", "", lambda: 0.0, tolerance=Tolerance(0.01, Kind.RELATIVE, "a bar"))
    assert check.tolerance.around(check.expected) == pytest.approx(2)
    assert check.accepts(-201.9) and not check.accepts(-202.1) and not check.accepts(200.0)


def test_a_bar_is_a_largest_error():
    check = bar("x.bar", "", "", "1e-6", "", lambda: 0.0, row="c1")
    assert check.accepts(0.0) and check.accepts(9e-7) and not check.accepts(1.1e-6)
    assert check.tolerance.reason == "c1"


def test_a_known_mistake_is_recognised():
    check = number("x.one", "", "", "0.9963", "", lambda: 1.003686, mistakes=(Mistake("1.00369", "the sign is wrong"),))
    (verdict,) = run_checks([check])
    assert verdict.status is Status.FAIL and "the sign is wrong" in verdict.remark
    assert check.mistake(1.01) is None and check.mistake(0.9963) is None


def test_an_answer_that_does_not_come_is_a_failure_and_hides_no_other():
    def broken() -> float:
        raise ZeroDivisionError("nothing to divide by")

    checks = [number("x.one", "", "", "1", "", broken), number("x.two", "", "", "2", "", lambda: 2.0)]
    seen = []
    first, second = run_checks(checks, lambda done, total: seen.append((done, total)))
    assert first.status is Status.FAIL and first.got is None and "nothing to divide by" in first.remark
    assert second.status is Status.PASS and second.got == 2.0
    assert seen == [(1, 2), (2, 2)]


def test_answers_that_are_not_numbers_fail():
    (verdict,) = run_checks([number("x.one", "", "", "1", "", lambda: math.nan)])
    assert verdict.status is Status.FAIL


def test_other_programs_are_judged_by_the_same_rule():
    checks = [
        number("x.one", "", "", "1.00", "", lambda: 0.0),
        number("x.two", "", "", "2.00", "", lambda: 0.0),
        number("x.three", "", "", "3.00", "", lambda: 0.0),
        quoted("x.four", "", "", "4.0", "", "from the literature"),
    ]
    verdicts = judge(checks, {"x.one": 1.004, "x.two": 2.1, "x.four": 7.0})
    assert [v.status for v in verdicts] == [Status.PASS, Status.FAIL, Status.NOT_ANSWERED, Status.NOT_JUDGED]
    assert verdicts[3].remark == "from the literature"
    assert tally(verdicts) == dict.fromkeys(Status, 1)
