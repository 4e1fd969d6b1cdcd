"""Which classes, and which particles of them, to keep: as told, or by a rule of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.classify2d_tables import Classes
from vitreous.jobs.select_kinds import TwoKinds, two_kinds

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# What the automatic rule asks of a class: an integrated density within a factor of 3/2 of the median, and most variance away from the edge of the mask.
LEAST_MASS, LEAST_COMPACTNESS = 2 / 3, 0.5
HALF = 0.5


@dataclass(frozen=True)
class Candidates:
    """The particles to choose from: class `number` [n] from 1 (0: in none), log `evidence` [n] in nat, `agreement` [n] with the class."""

    number: Int[np.ndarray, " n"]
    evidence: Float[np.ndarray, " n"]
    agreement: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Selection:
    """Which `classes` [k] and which `particles` [n] are kept. `kinds`: the two kinds of particles, where the rule asked for them."""

    classes: Bool[np.ndarray, " k"]
    particles: Bool[np.ndarray, " n"]
    kinds: TwoKinds | None = None


@dataclass(frozen=True)
class SelectionRule:
    """What a class, or a particle, must fulfil; None asks for nothing. All that is asked for must hold.

    `numbers` of classes, from 1; the `best` so many by quality; `quality` at least; `resolution` in angstrom, or finer; of particles `least_evidence` in
    nat and `least_probability` of being of the upper of two kinds (`select_kinds`). With nothing asked for, the automatic rule holds.
    """

    numbers: tuple[int, ...] | None = None
    best: int | None = None
    quality: float | None = None
    resolution: float | None = None
    least_evidence: float | None = None
    least_probability: float | None = None

    @property
    def is_automatic(self) -> bool:
        return all(value is None for value in vars(self).values())

    def select(self, classes: Classes, candidates: Candidates) -> Selection:
        """What is kept of these. Empty classes never are."""
        if self.is_automatic:
            return automatic(classes, candidates)
        kept = self.classes(classes)
        particles = np.isin(candidates.number, classes.number[kept])
        if self.least_evidence is not None:
            particles &= candidates.evidence >= self.least_evidence
        kinds = None
        if self.least_probability is not None:
            kinds = kinds_of(classes, candidates)
            particles &= probability_of(kinds, classes, candidates) >= self.least_probability
        return Selection(kept & np.isin(classes.number, candidates.number[particles]), particles, kinds)

    def classes(self, classes: Classes) -> Bool[np.ndarray, " k"]:
        """Which classes fulfil what is asked of classes."""
        keep = classes.quality.count > 0
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

    def text(self) -> str:
        """The rule in words."""
        if self.is_automatic:
            return "automatic: particles that agree with a class that looks like a projection"
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
        if self.least_probability is not None:
            parts.append(f"particles that agree with a probability of {self.least_probability:g} or more")
        return ", ".join(parts)


def automatic(classes: Classes, candidates: Candidates) -> Selection:
    """Particles more likely than not to be of the kind that agrees, of classes in which most are and whose average could be a projection of
    what the others show. Where two kinds cannot be told apart, all particles of such classes.
    """
    quality = classes.quality
    good = (quality.count > 0) & (quality.mass >= LEAST_MASS) & (quality.compactness >= LEAST_COMPACTNESS)
    kinds = kinds_of(classes, candidates)
    if kinds.told_apart:
        good &= kinds.share >= HALF
    particles = np.isin(candidates.number, classes.number[good])
    if kinds.told_apart:
        particles &= probability_of(kinds, classes, candidates) >= HALF
    return Selection(good & np.isin(classes.number, candidates.number[particles]), particles, kinds)


def kinds_of(classes: Classes, candidates: Candidates) -> TwoKinds:
    """The two kinds among the particles that are in a class."""
    inside = np.isin(candidates.number, classes.number)
    if not inside.any():
        raise DataProblem("no particle is in any class", "a classification that has looked at its particles")
    place = np.zeros(int(classes.number.max()) + 1, dtype=int)
    place[classes.number] = np.arange(len(classes))
    return two_kinds(candidates.agreement[inside], place[candidates.number[inside]], len(classes))


def probability_of(kinds: TwoKinds, classes: Classes, candidates: Candidates) -> Float[np.ndarray, " n"]:
    """The probability of the upper kind of every particle, 0 for those in no class."""
    probability = np.zeros(len(candidates.number))
    probability[np.isin(candidates.number, classes.number)] = kinds.probability
    return probability


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


def refuse_nothing_kept(selection: Selection, rule: SelectionRule) -> None:
    """Raise DataProblem if no particle is left."""
    if not selection.particles.any():
        raise DataProblem(
            f"no particle is kept by {rule.text()}", "a rule that keeps some", "look at the classes' report"
        )
