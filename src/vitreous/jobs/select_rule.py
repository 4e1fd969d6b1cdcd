"""Which classes, and which particles of them, to keep: as told, or by a rule of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.classify2d_tables import Classes

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

GOOD = 0.6  # of the quality that the best particles have: the automatic rule keeps classes above


@dataclass(frozen=True)
class SelectionRule:
    """What a class, or a particle, must fulfil; None asks for nothing. All that is asked for must hold.

    `numbers` of classes, from 1; the `best` so many by quality; `quality` at least; `resolution` in angstrom, or finer; `least_evidence` in nat of
    a particle. With nothing asked for, the automatic rule holds: see `automatic`.
    """

    numbers: tuple[int, ...] | None = None
    best: int | None = None
    quality: float | None = None
    resolution: float | None = None
    least_evidence: float | None = None

    @property
    def is_automatic(self) -> bool:
        return all(value is None for value in vars(self).values())

    def classes(self, classes: Classes) -> Bool[np.ndarray, " k"]:
        """Which classes are kept. Empty ones never are."""
        keep = classes.quality.count > 0
        if self.is_automatic:
            return keep & automatic(classes)
        if self.numbers is not None:
            refuse_unknown(self.numbers, classes)
            keep &= np.isin(classes.number, self.numbers)
        if self.best is not None:
            keep &= np.isin(np.arange(len(classes)), classes.quality.order[: self.best])
        if self.quality is not None:
            keep &= classes.quality.score >= self.quality
        if self.resolution is not None:
            keep &= classes.resolution <= self.resolution
        return keep

    def particles(
        self,
        kept: Bool[np.ndarray, " k"],
        classes: Classes,
        number: Int[np.ndarray, " n"],
        evidence: Float[np.ndarray, " n"],
    ) -> Bool[np.ndarray, " n"]:
        """Which particles are kept: those of kept classes, with evidence enough."""
        chosen = np.isin(number, classes.number[kept])
        return chosen if self.least_evidence is None else chosen & (evidence >= self.least_evidence)

    def text(self) -> str:
        """The rule in words."""
        if self.is_automatic:
            return f"automatic: classes with at least {GOOD:.0%} of the quality of the best"
        parts = []
        if self.numbers is not None:
            parts.append(f"classes {', '.join(map(str, self.numbers))}")
        if self.best is not None:
            parts.append(f"the best {self.best} classes")
        if self.quality is not None:
            parts.append(f"classes of quality {self.quality:g} or more")
        if self.resolution is not None:
            parts.append(f"classes of {self.resolution:g} Å or finer")
        if self.least_evidence is not None:
            parts.append(f"particles with a log evidence of {self.least_evidence:g} nat or more")
        return ", ".join(parts)


def automatic(classes: Classes) -> Bool[np.ndarray, " k"]:
    """Classes whose quality is at least `GOOD` of that which the best tenth of the particles have."""
    quality = classes.quality
    if not quality.count.any():
        return np.zeros(len(classes), dtype=bool)
    order = quality.order
    best = quality.score[order][np.searchsorted(np.cumsum(quality.count[order]), 0.1 * quality.count.sum())]
    return quality.score >= GOOD * best


def refuse_unknown(numbers: Sequence[int], classes: Classes) -> None:
    """Raise SettingsProblem for numbers that no class has."""
    unknown = sorted(set(numbers) - set(classes.number.tolist()))
    if unknown:
        low, high = int(classes.number.min()), int(classes.number.max())
        raise SettingsProblem(f"--classes {' '.join(map(str, unknown))}", f"numbers of classes, from {low} to {high}")


def class_numbers(words: Sequence[str]) -> tuple[int, ...]:
    """The numbers that words such as "1", "1,3,5" and "7-12" name, each once, in order.

    >>> class_numbers(["7-9", "1,3"])
    (1, 3, 7, 8, 9)
    """
    numbers: set[int] = set()
    for part in (part for word in words for part in word.split(",") if part):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(first) > int(last)):
            raise SettingsProblem(f"--classes {part}", "numbers such as 1 3 5, 1,3,5 or 7-12")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return tuple(sorted(numbers))


def refuse_nothing_kept(kept: Bool[np.ndarray, " n"], rule: SelectionRule) -> None:
    """Raise DataProblem if no particle is left."""
    if not kept.any():
        raise DataProblem(
            f"no particle is kept by {rule.text()}", "a rule that keeps some", "look at the classes' report"
        )
