"""Check: one number of the physics contract (docs/conformance.md), how near an answer must come, and how this program answers it.

The expected number is kept as it is printed in the contract. It is data: never computed by what it judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

PRINTED = "digits printed"
# A number that lies exactly between two printed ones is right either way; rounding in double must not decide.
ROUNDING = 1e-6


class Kind(StrEnum):
    """What a tolerance is a fraction of."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True)
class Tolerance:
    """Largest distance of an answer from the expected number: `amount` in its unit, or as a fraction of it.

    `reason` says where the amount comes from: the digits printed in the contract, or the row of its accuracy bars.
    """

    amount: float
    kind: Kind = Kind.ABSOLUTE
    reason: str = PRINTED

    def around(self, expected: float) -> float:
        """The distance in the unit of the expected number."""
        return self.amount * abs(expected) if self.kind is Kind.RELATIVE else self.amount


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that is known: what it is, as printed in the contract, and what makes it."""

    printed: str
    cause: str


@dataclass(frozen=True)
class Check:
    """One number of the contract.

    `id` is stable ("b1.wavelength.300kV"), `printed` the number as the contract prints it; `answer` computes this
    program's number. Without an `answer` the number is listed and not judged, and `reason` says why. `mistakes` are wrong
    answers that the contract names. `needs` names a library that is loaded for this answer alone.
    """

    id: str
    section: str
    what: str
    inputs: str
    printed: str
    tolerance: Tolerance
    unit: str
    answer: Callable[[], float] | None
    reason: str = ""
    mistakes: tuple[Mistake, ...] = ()
    needs: str = ""

    @property
    def expected(self) -> float:
        return float(self.printed)

    @property
    def judged(self) -> bool:
        return self.answer is not None

    def accepts(self, got: float) -> bool:
        """Whether an answer is within the tolerance; never for a number that is not finite."""
        return math.isfinite(got) and abs(got - self.expected) <= self.tolerance.around(self.expected) * (1 + ROUNDING)

    def mistake(self, got: float) -> Mistake | None:
        """The known mistake that gives this wrong answer, to the digits printed."""
        if self.accepts(got):
            return None
        return next((m for m in self.mistakes if abs(got - float(m.printed)) <= half_last_digit(m.printed)), None)


def half_last_digit(printed: str) -> float:
    """Half a unit of the last digit of a printed number: the largest error of rounding to it.

    >>> half_last_digit("9.243e-4"), half_last_digit("203")
    (5e-08, 0.5)
    """
    mantissa, _, exponent = printed.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(f"5e{int(exponent or 0) - decimals - 1}")


def number(
    id: str,
    what: str,
    inputs: str,
    printed: str,
    unit: str,
    answer: Callable[[], float],
    *,
    mistakes: tuple[Mistake, ...] = (),
    tolerance: Tolerance | None = None,
    needs: str = "",
) -> Check:
    """A number that is judged, by default to the digits printed. The section is the id's first word."""
    tolerance = Tolerance(half_last_digit(printed)) if tolerance is None else tolerance
    return Check(id, id.partition(".")[0], what, inputs, printed, tolerance, unit, answer, "", mistakes, needs)


def bar(
    id: str,
    what: str,
    inputs: str,
    largest: str,
    unit: str,
    answer: Callable[[], float],
    *,
    row: str,
    mistakes: tuple[Mistake, ...] = (),
    needs: str = "",
) -> Check:
    """An error or a difference that is 0 at best and at most `largest`; `row` says where the contract sets it."""
    tolerance = Tolerance(float(largest), reason=row)
    return Check(id, id.partition(".")[0], what, inputs, "0", tolerance, unit, answer, "", mistakes, needs)


def quoted(id: str, what: str, inputs: str, printed: str, unit: str, reason: str) -> Check:
    """A number of the contract that is listed and not judged, and why."""
    return Check(
        id,
        id.partition(".")[0],
        what,
        inputs,
        printed,
        Tolerance(half_last_digit(printed)),
        unit,
        None,
        reason,
    )
