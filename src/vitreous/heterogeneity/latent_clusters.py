"""Clusters of latents, and a particle to stand for each.

A cluster is a summary of where particles lie. Both methods cut any cloud into as many parts as they are asked for, also one without parts:
clusters are not states by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.heterogeneity.label_agreement import k_means
from vitreous.heterogeneity.latent_maps import principal_components

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MIXTURE_STARTS = 3
LEAST_WIDTH = 1e-3  # of the largest variance: axes in which nothing varies are not blown up
LEAST_VARIANCE = 1e-4  # of a component, in these axes: groups of equal latents have none of their own


@dataclass(frozen=True)
class Clusters:
    """`label` [n]: the cluster of each particle, counted from 0; `row` [k]: the particle nearest to each centre. Clusters are in the order of
    these particles along the first principal component."""

    label: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def count(self) -> np.ndarray:
        """Particles in each cluster."""
        return np.bincount(self.label, minlength=len(self))


def k_means_clusters(mean: Float[np.ndarray, "n d"], count: int, seed: int = 0) -> Clusters:
    """k-means: each particle belongs to the nearest centre, each centre is the mean of its particles, so that the squared distances are least
    (of several seeded starts). Fewer than `count` only where fewer latents differ. SettingsProblem for more clusters than particles."""
    refuse_count(count, len(mean))
    mean = np.asarray(mean, dtype=np.float64)
    label = k_means(mean, count, seed)
    centres = np.stack([mean[label == one].mean(axis=0) for one in range(label.max() + 1)])
    return ordered(mean, label, centres)


def mixture_clusters(mean: Float[np.ndarray, "n d"], count: int, seed: int = 0) -> Clusters:
    """A Gaussian mixture with full covariances, by expectation maximisation from seeded starts; each particle belongs to the component that
    most probably made it (Dempster, Laird & Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x). Components that are nobody's are left out.
    SettingsProblem for more components than particles."""
    from sklearn.mixture import GaussianMixture

    refuse_count(count, len(mean))
    mean = np.asarray(mean, dtype=np.float64)
    count = min(count, len(np.unique(mean, axis=0)))
    # Gaussians know no scale of axes, but the k-means that EM starts from does: in axes of one variance it sees long clouds side by side
    components = principal_components(mean)
    width = np.sqrt(components.variance + LEAST_WIDTH * components.variance.max() + np.finfo(np.float32).tiny)
    method = GaussianMixture(
        count, covariance_type="full", reg_covar=LEAST_VARIANCE, n_init=MIXTURE_STARTS, random_state=seed
    )
    label = method.fit(components.scores / width).predict(components.scores / width)
    used, label = np.unique(label, return_inverse=True)
    return ordered(mean, label.reshape(-1), components.latents(np.asarray(method.means_)[used] * width))


def ordered(
    mean: Float[np.ndarray, "n d"], label: Int[np.ndarray, " n"], centres: Float[np.ndarray, "k d"]
) -> Clusters:
    """Centres moved to the nearest particle of their cluster, and clusters put in order along the first principal component."""
    row = np.array([nearest_member(mean, np.flatnonzero(label == one), centre) for one, centre in enumerate(centres)])
    place = principal_components(mean).scores[row, :1].sum(axis=1)
    order = np.argsort(place, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return Clusters(rank[label], row[order])


def nearest_member(
    mean: Float[np.ndarray, "n d"], members: Int[np.ndarray, " m"], centre: Float[np.ndarray, " d"]
) -> int:
    """The row among `members` whose latent is nearest to a centre; the first of equals."""
    return int(members[((mean[members] - centre) ** 2).sum(axis=1).argmin()])


def refuse_count(count: int, particles: int) -> None:
    """Raise SettingsProblem for a number of clusters that cannot be."""
    if not 1 <= count <= particles:
        raise SettingsProblem(f"{count} clusters of {particles} particles", f"a number from 1 to {particles}")
