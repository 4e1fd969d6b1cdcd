"""Does a landscape show the particle, or how it was imaged? Latents beside what the particle's shape must not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.heterogeneity.latent_correlation import explained_variance, foretold, rank_correlation

if TYPE_CHECKING:
    from jaxtyping import Float

MOST = 20_000  # particles that a regression is made of
CHANCE = 3.3  # standard deviations: 1 in 1000 correlations of unrelated numbers is larger


@dataclass(frozen=True)
class NuisanceCorrelations:
    """`correlation` [q, c]: |Spearman| of each of the q numbers `names` with each of the c components; `chance`: what unrelated numbers
    exceed once in a thousand times. `by_view` [c]: the part of each component's variance that the viewing direction foretells, None without."""

    names: tuple[str, ...]
    correlation: np.ndarray
    chance: float
    by_view: np.ndarray | None = None


def nuisance_correlations(
    scores: Float[np.ndarray, "n c"],
    nuisances: Mapping[str, Float[np.ndarray, " n"]],
    view: Float[np.ndarray, "n 3"] | None = None,
    *,
    seed: int = 0,
) -> NuisanceCorrelations:
    """Rank correlations of components with numbers of each particle, and what the viewing direction foretells.

    A component may depend on the view without a monotone relation to any coordinate of it: therefore a regression (`foretold`, on particles
    that it has not seen) on the direction as a whole. Chance gives |Spearman| a standard deviation of 1/sqrt(n - 1).
    """
    table = [[abs(rank_correlation(values, score)) for score in scores.T] for values in nuisances.values()]
    correlation = np.array(table, dtype=np.float64).reshape(len(nuisances), scores.shape[1])
    chance = CHANCE / np.sqrt(max(1, len(scores) - 1))
    by_view = None
    if view is not None:
        some = slice(None, None, -(-len(scores) // MOST))
        rng = np.random.default_rng(seed)
        by_view = np.array(
            [explained_variance(foretold(view[some], score[some], rng), score[some]) for score in scores.T]
        )
    return NuisanceCorrelations(tuple(nuisances), correlation, float(chance), by_view)
