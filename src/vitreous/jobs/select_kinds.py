"""Two kinds of images: those that agree with the others of their class, and those that agree only as aligned noise does.

The agreement r of the images is a mixture of two Gaussians with one standard deviation, whose shares differ from class to class: in a class of
particles nearly all are of the upper kind, in a class of junk nearly none. The means, the deviation and the shares are found by
expectation-maximisation; the share of a class leans towards that of all images with the weight of `LEAN` images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LEAN = 10.0
# Two Gaussians of one deviation and equal weight have two humps only if their means are more than two deviations apart. Simulated sets without junk,
# in which rare views agree better than others, come to 2.2; the real picks of `docs/classify2d.md` to 2.5, simulated junk to 4.
TOLD_APART = 2.35
# Images of one kind whose agreement depends on view and defocus gain about 0.06 nat each by a second kind, real sets with junk 0.2 and more.
LEAST_GAIN = 0.12
ROUNDS, STILL = 500, 1e-6


@dataclass(frozen=True)
class TwoKinds:
    """`probability` [n] that an image is of the upper kind, `share` [k] of them in each class; `means` (lower, upper) and `deviation` of r. `gain`: by
    how many nat an image is more likely with two kinds than with one Gaussian for all.
    """

    probability: Float[np.ndarray, " n"]
    share: Float[np.ndarray, " k"]
    means: tuple[float, float]
    deviation: float
    gain: float

    @property
    def separation(self) -> float:
        """Distance of the means in deviations."""
        return (self.means[1] - self.means[0]) / self.deviation if self.deviation > 0 else 0.0

    @property
    def told_apart(self) -> bool:
        """Whether there are two kinds at all."""
        return self.separation > TOLD_APART and self.gain > LEAST_GAIN


def two_kinds(agreement: Float[np.ndarray, " n"], member: Int[np.ndarray, " n"], classes: int) -> TwoKinds:
    """The two kinds among images of which image i, of class `member[i]` (from 0), agrees with it by `agreement[i]`."""
    means = np.percentile(agreement, (25.0, 75.0))
    deviation = max(float(agreement.std()), 1e-12) * 0.7
    size = np.bincount(member, minlength=classes)
    share = np.full(classes, 0.5)
    upper = np.full(len(agreement), 0.5)
    for _ in range(ROUNDS):
        distance = ((agreement[:, None] - means) / deviation) ** 2 / 2
        odds = np.log(share / (1 - share))[member] + distance[:, 0] - distance[:, 1]
        before, upper = upper, 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        weight = np.maximum([len(upper) - upper.sum(), upper.sum()], 1e-9)
        means = np.array([((1 - upper) * agreement).sum(), (upper * agreement).sum()]) / weight
        spread = (1 - upper) * (agreement - means[0]) ** 2 + upper * (agreement - means[1]) ** 2
        deviation = max(float(np.sqrt(spread.mean())), 1e-12)
        share = (np.bincount(member, upper, minlength=classes) + LEAN * upper.mean()) / (size + LEAN)
        share = share.clip(1e-6, 1 - 1e-6)
        if np.abs(upper - before).max() < STILL:
            break
    distance = ((agreement[:, None] - means) / deviation) ** 2 / 2
    chances = np.log(np.stack([1 - share, share], axis=1))[member] - distance
    one = np.log(max(float(agreement.std()), 1e-12)) + 0.5
    gain = float(np.logaddexp(chances[:, 0], chances[:, 1]).mean() - np.log(deviation) + one)
    return TwoKinds(upper, share, (float(means[0]), float(means[1])), deviation, gain)
