"""The contract: this program passes every number of it, and no number of the file that states it is missing."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from vitreous.conformance.contract import SECTIONS, contract, title
from vitreous.conformance.verdict import Status, run_checks
from vitreous.errors import SettingsProblem

CHECKS = contract()
JUDGED = [check for check in CHECKS if check.judged]
SLOW = ("c.10.noise", "c.10.dqe", "c.12")  # simulated cameras; gradients, which load JAX


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, marks=pytest.mark.slow if c.id.startswith(SLOW) else ()) for c in JUDGED],
    ids=lambda c: c.id,
)
def test_the_program_passes(check):
    (verdict,) = run_checks([check])
    assert verdict.status is Status.PASS, f"{check.printed} expected, got {verdict.got} {verdict.remark}"


def test_ids_are_unique_and_name_their_section():
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.id.startswith(check.section + ".") and check.section in SECTIONS
        assert re.fullmatch(r"[\w.+/'-]+", check.id), check.id  # survives a CSV file and a shell


def test_ids_in_use_are_stable():
    """Other programs' files of answers name them."""
    for known in (
        "a.focus", "a.dark.df+5000", "a.tilt.y.plane", "b1.wavelength.300kV", "b2.f0.C", "b2.f.N.s0.05", "b3.ice.0.93",
        "b4.path.ice.300kV", "b5.zero.300kV.Cs2.7.w0.07.df10000.1", "b6.depth-of-field.300kV.2A", "b7.node.1000A",
        "b8.satellite.30deg", "b9.spatial.1/4", "b10.mtf.k2.300kV.nyquist", "b11.weight.4A.10", "c.5.norm.float64",
    ):  # fmt: skip
        assert known in {check.id for check in CHECKS}


def test_each_number_says_what_it_is():
    for check in CHECKS:
        assert check.what and math.isfinite(check.expected) and check.tolerance.reason
        assert check.tolerance.amount >= 0
        assert check.judged != bool(check.reason), check.id  # a reason is why it is not judged
        for mistake in check.mistakes:
            assert not check.accepts(float(mistake.printed)), check.id
            assert check.mistake(float(mistake.printed)) is mistake


def test_tolerances_are_those_of_the_digits_or_of_a_named_bar():
    """No number is judged more loosely than it is printed, unless the contract sets a bar for it."""
    for check in JUDGED:
        digits = len(check.printed.lower().partition("e")[0].partition(".")[2])
        exponent = int(check.printed.lower().partition("e")[2] or 0)
        if check.tolerance.reason == "digits printed":
            assert check.tolerance.around(check.expected) == pytest.approx(0.5 * 10.0 ** (exponent - digits))


def test_shared_experiments_are_done_anew_for_each_contract():
    first, second = (next(c for c in contract(["a"]) if c.id == "a.curvature.wave") for _ in range(2))
    assert first.answer is not second.answer


def test_the_documentation_counts_them():
    page = Path(__file__).resolve().parents[3] / "docs" / "conformance.md"
    rows = re.findall(r"^\| (\w+) \| (.+) \| (\d+) \| (\d+) \|$", page.read_text(encoding="utf-8"), flags=re.M)
    counted = [
        (section, title(section), len(own), sum(check.judged for check in own))
        for section in SECTIONS
        if (own := [check for check in CHECKS if check.section == section])
    ]
    assert [(section, words, int(total), int(judged)) for section, words, total, judged in rows] == counted


def test_sections_by_name_and_by_letter():
    assert {check.section for check in contract(["b1", "d"])} == {"b1", "d"}
    assert [c.id for c in contract(["d", "b1"])] == [c.id for c in contract(["b1", "d"])]  # the contract's order
    assert {check.section for check in contract(["b"])} == {section for section in SECTIONS if section[0] == "b"}
    assert all(title(section) for section in SECTIONS)
    with pytest.raises(SettingsProblem, match=r"section 'b13'.*b12"):
        contract(["b13"])
    with pytest.raises(SettingsProblem, match="section 'zeros'"):
        contract(["zeros"])


# --- against the file that states the contract ------------------------------------------------------------------------

NUMBER = r"(?<![\w.])[-+]?(?:\d+\.\d+|\.\d+|\d+)(?:e-?\d+)?(?![\w]|\.\d)"
YEAR = r"(?:19|20)\d\d"
# Parts of formulas and definitions: their effect is what is judged.
FORMULAS = {
    "b1": {1, 0.978466e-6, 0.97845e-6},
    "b2": {4},
    "b3": {0, 47.8776472},
    "b4": {0, 0.3, 0.36, 1, 1.5e-6, 3, 5.5, 7.2, 7.6, 8.8e-6, 0.82e-4, 11, 12, 18, 106, 511, 1022},
    "b6": {1},
    "b8": {2},
    "b9": {0, 8},
    "b10": {0.5, 1},
    "b11": {0.245, 1.665, 2.81},
    "b12": {3},
}


def numbers(text: str) -> list[float]:
    found = [n for n in re.findall(NUMBER, text.replace("−", "-")) if not re.fullmatch(YEAR, n)]
    return [abs(float(n)) for n in found]


@pytest.fixture(scope="module")
def stated(shared_data) -> dict[str, str]:
    """The text of sections b1 to b12 of physics.md."""
    path = shared_data.parent / "physics.md"
    if not path.is_file():
        pytest.skip("physics.md is not beside the data")
    tables = path.read_text(encoding="utf-8").partition("## (b)")[2].partition("## (c)")[0]
    parts = re.split(r"^### (b\d+)\. .*$", tables, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.parametrize("section", [section for section in SECTIONS if section[0] == "b"])
def test_every_number_of_the_tables_is_in_the_contract(section, stated):
    """As an expected number, a bar, a known mistake or an input; what is left are parts of formulas."""
    checks = contract([section])
    judged = {abs(c.expected) for c in checks} | {c.tolerance.amount for c in checks}
    judged |= {abs(float(m.printed)) for c in checks for m in c.mistakes}
    words = " ".join(f"{c.what}, {c.inputs}, {c.reason}, {c.tolerance.reason}" for c in checks)
    known = judged | set(numbers(words)) | FORMULAS.get(section, set())
    assert sorted(set(numbers(stated[section])) - known) == []


@pytest.mark.parametrize("section", ["b1", "b2", "b3", "b4", "b5", "b6", "b8", "b10", "b11"])
def test_numbers_of_tables_are_kept_digit_by_digit(section, stated):
    """Those with a decimal point that are no inputs, as text: a number printed as 0.410 is not judged as 0.41."""
    checks = contract([section])
    printed = {c.printed.lstrip("-0") for c in checks}
    inputs = set(numbers(" ".join(f"{c.inputs}, {c.reason}" for c in checks)))
    rows = [line.replace("**", "") for line in stated[section].splitlines() if line.startswith("|")]
    found = {n for row in rows for n in re.findall(NUMBER, row) if "." in n and abs(float(n)) not in inputs}
    assert len(found) > 3
    assert sorted(n for n in found if n.lstrip("-0") not in printed) == []


def test_the_walk_finds_what_is_missing(stated):
    """A number changed in the file is found."""
    assert 0.0417571607 in numbers(stated["b1"])
    assert 0.0417571608 in numbers(stated["b1"].replace("0.0417571607", "0.0417571608"))
    assert 0.0417571608 not in {abs(c.expected) for c in contract(["b1"])}
