"""How much of a true coordinate the latents hold: rank correlation of single directions, and what a regression on all of them foretells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

RESAMPLINGS = 200  # of the bootstrap: the ends of a 95 % interval to about a tenth of its width
NEIGHBOURS = 20  # of the regression: their mean has a variance of 1/20 of the scatter about the curve
FOLDS = 5


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample, and the 95 % interval of it if other particles had been drawn (percentiles of the bootstrap; Efron 1979,
    doi:10.1214/aos/1176344552)."""

    value: float
    low: float
    high: float


def bootstrap(
    figure: Callable[[np.ndarray], float], count: int, rng: np.random.Generator, resamplings: int = RESAMPLINGS
) -> Estimate:
    """`figure(rows)` of all `count` rows, and its interval over rows drawn with replacement."""
    drawn = [figure(rng.integers(0, count, count)) for _ in range(resamplings)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(figure(np.arange(count)), float(low), float(high))


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Spearman's: the correlation of the ranks; 1 or -1 for any monotone relation, 0 if one of the two is constant. Equal values share the mean
    of their ranks (Spearman 1904, doi:10.2307/1412159).

    >>> x = np.arange(5.0)
    >>> round(rank_correlation(x, np.exp(x)), 9)
    1.0
    """
    from scipy.stats import rankdata

    first, second = (rankdata(each) - (len(each) + 1) / 2 for each in (x, y))
    power = (first**2).sum() * (second**2).sum()
    return float((first * second).sum() / np.sqrt(power)) if power > 0 else 0.0


def best_coordinate(latents: Float[np.ndarray, "n d"], truth: Float[np.ndarray, " n"]) -> int:
    """The column of the latents that correlates best, by rank, with the truth."""
    return int(np.argmax([abs(rank_correlation(column, truth)) for column in latents.T]))


def foretold(
    latents: Float[np.ndarray, "n d"], truth: Float[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, " n"]:
    """The truth of each particle as the mean of those of its NEIGHBOURS nearest particles, none of which is in its own one of FOLDS parts."""
    from scipy.spatial import KDTree

    fold = rng.permutation(len(latents)) % FOLDS
    result = np.empty(len(latents))
    for part in range(FOLDS):
        others, own = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        if len(own) == 0:
            continue
        count = min(NEIGHBOURS, len(others))
        nearest = KDTree(latents[others]).query(latents[own], k=count)[1].reshape(len(own), count)
        result[own] = truth[others][nearest].mean(axis=1)
    return result


def explained_variance(foretold: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> float:
    """R^2 = 1 - sum (y - y')^2 / sum (y - <y>)^2: 1 if the truth is foretold exactly, 0 or less if no better than its mean."""
    scatter = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - foretold) ** 2).sum()) / scatter if scatter > 0 else 0.0
