"""Do groups of latents match the true species? Measures for two partitions of the same particles, which need no matching of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

STARTS = 10  # of k-means


def contingency(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> Int[np.ndarray, "i j"]:
    """How many particles have each pair of labels."""
    (_, first), (_, second) = (np.unique(labels, return_inverse=True) for labels in (a, b))
    shape = (int(first.max()) + 1, int(second.max()) + 1)
    return np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape)


def adjusted_rand_index(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    """Pairs of particles that are together in both partitions, counted from what chance gives (0) to equal partitions (1).

    (sum_ij C(n_ij) - E) / ([sum_i C(n_i) + sum_j C(n_j)] / 2 - E),  C(n) = n (n - 1) / 2,  E = sum_i C(n_i) sum_j C(n_j) / C(n)
    (Hubert & Arabie 1985, doi:10.1007/BF01908075, eq. 5). 1 for two partitions into one group.

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    1.0
    """
    table = contingency(a, b).astype(np.float64)
    both, first, second, all_pairs = (
        float((n * (n - 1) / 2).sum()) for n in (table, table.sum(axis=1), table.sum(axis=0), table.sum())
    )
    expected = first * second / all_pairs if all_pairs else 0.0
    most = (first + second) / 2
    return (both - expected) / (most - expected) if most != expected else 1.0


def normalised_mutual_information(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    """2 I(a, b) / (H(a) + H(b)): what one label tells of the other, 0 to 1. I = sum p_ij log [p_ij / (p_i p_j)], H = -sum p log p; 1 for two
    partitions into one group. With few particles to a group chance alone gives more than 0.
    """
    table = contingency(a, b) / len(a)
    joint, first, second = (_entropy(p) for p in (table, table.sum(axis=1), table.sum(axis=0)))
    return 2 * (first + second - joint) / (first + second) if first + second > 0 else 1.0


def k_means(latents: Float[np.ndarray, "n d"], groups: int, seed: int) -> Int[np.ndarray, " n"]:
    """Labels of so many groups: the best of STARTS runs of k-means (Lloyd 1982, doi:10.1109/TIT.1982.1056489). At most as many groups as
    there are different latents."""
    from sklearn.cluster import KMeans

    different = len(np.unique(latents, axis=0))
    if different <= groups:
        return np.unique(latents, axis=0, return_inverse=True)[1].reshape(-1)
    method = KMeans(groups, n_init=STARTS, random_state=seed)  # type: ignore[arg-type]
    found = method.fit(np.asarray(latents, dtype=np.float64))
    return np.asarray(found.labels_, dtype=np.int64)


def _entropy(probability: np.ndarray) -> float:
    p = probability[probability > 0]
    return float(-(p * np.log(p)).sum())
