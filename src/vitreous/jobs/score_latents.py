"""The latents of a method beside the truth: neighbours, correlations, and, for mixtures, groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.errors import DataProblem
from vitreous.heterogeneity.label_agreement import adjusted_rand_index, k_means, normalised_mutual_information
from vitreous.heterogeneity.latent_correlation import (
    Estimate,
    best_coordinate,
    bootstrap,
    explained_variance,
    foretold,
    rank_correlation,
)
from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.latent_neighbours import (
    NeighbourhoodSimilarity,
    information_imbalance,
    neighbourhood_counts,
    neighbourhood_similarity,
)
from vitreous.io.ensemble_truth import EnsembleTruth

MIXTURE = "mixture"  # the kind of an ensemble whose conformations have no order
FRACTIONS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the particles: neighbourhoods
LEAST_PARTICLES = 20


@dataclass(frozen=True)
class LatentScores:
    """What the latents of one method say of the truth. `used` particles of those matched entered the measures of neighbours.

    `least_imbalance` is the information imbalance of the truth with itself: the least that latents can reach. `component` is the coordinate of every
    matched particle along the first principal component. Of a coordinate: |Spearman| of that component (`component_correlation`) and of the best column of the
    latents (`coordinate_correlation`, `coordinate` from 0), and `explained`, R^2 of a regression on neighbours. Of a mixture: `rand_index` and
    `mutual_information` of `groups` groups with the species, and `grouped_by`.
    """

    used: int
    latent_to_truth: float
    truth_to_latent: float
    least_imbalance: float
    similarity: NeighbourhoodSimilarity
    component: np.ndarray
    component_correlation: Estimate | None = None
    coordinate_correlation: Estimate | None = None
    coordinate: int | None = None
    explained: Estimate | None = None
    rand_index: Estimate | None = None
    mutual_information: Estimate | None = None
    groups: int | None = None
    grouped_by: str = ""


def true_points(truth: EnsembleTruth, rows: np.ndarray) -> np.ndarray:
    """Where particles lie in the space of the truth [n, e]: at their coordinate, or, in a mixture, each species at the same distance from all others."""
    index = truth.index[rows]
    if truth.kind == MIXTURE:
        return (index[:, None] == np.arange(len(truth))).astype(np.float64)
    return truth.values[index][:, None].astype(np.float64)


def score_latents(
    latents: np.ndarray, truth: EnsembleTruth, rows: np.ndarray, labels: np.ndarray | None, *, most: int, seed: int
) -> LatentScores:
    """All measures of latents [n, d] whose truths are in these rows. Measures of neighbours, whose work grows with the square of the particles,
    use at most `most` of them, drawn at random."""
    n = len(latents)
    if n < LEAST_PARTICLES:
        raise DataProblem(f"{n} particles with a latent and a truth", f"at least {LEAST_PARTICLES}")
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(n)[:most])
    z, t = latents[sample], true_points(truth, rows[sample])
    measured = {
        "used": len(sample),
        "latent_to_truth": information_imbalance(z, t),
        "truth_to_latent": information_imbalance(t, z),
        "least_imbalance": information_imbalance(t, t),
        "similarity": neighbourhood_similarity(z, t, neighbourhood_counts(len(sample), FRACTIONS).tolist()),
        "component": principal_components(latents).scores[:, 0],
    }
    if truth.kind == MIXTURE:
        return LatentScores(**measured, **_groups(latents, truth.index[rows], labels, rng, seed))
    return LatentScores(
        **measured, **_correlations(latents, truth.values[truth.index[rows]], measured["component"], rng)
    )


def _correlations(latents: np.ndarray, values: np.ndarray, component: np.ndarray, rng: np.random.Generator) -> dict:
    column = best_coordinate(latents, values)
    predicted = foretold(latents, values, rng)

    def of(x: np.ndarray) -> Estimate:
        return bootstrap(lambda some: abs(rank_correlation(x[some], values[some])), len(values), rng)

    return {
        "component_correlation": of(component),
        "coordinate_correlation": of(latents[:, column]),
        "coordinate": column,
        "explained": bootstrap(lambda some: explained_variance(predicted[some], values[some]), len(values), rng),
    }


def _groups(
    latents: np.ndarray, species: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator, seed: int
) -> dict:
    given = labels is not None
    found = labels if labels is not None else k_means(latents, len(np.unique(species)), seed)
    return {
        "rand_index": bootstrap(lambda some: adjusted_rand_index(found[some], species[some]), len(species), rng),
        "mutual_information": bootstrap(
            lambda some: normalised_mutual_information(found[some], species[some]), len(species), rng
        ),
        "groups": len(np.unique(found)),
        "grouped_by": "the method's own classes" if given else "k-means",
    }
