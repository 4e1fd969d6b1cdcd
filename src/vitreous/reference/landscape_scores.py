"""What is asked of a landscape whose truth is known, as the sums that define it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def fsc_area(correlation: np.ndarray) -> float:
    """The area under the straight lines between FSC(s), s = 0 ... S, over S: 1 for equal maps. FSC(0) counts as 1."""
    curve = [1.0, *correlation[1:]]
    return sum((a + b) / 2 for a, b in pairwise(curve)) / (len(curve) - 1)


def ranks_from(points: np.ndarray, i: int) -> np.ndarray:
    """The rank of each point by its distance from point i: 1 the nearest. Equal distances share the mean of their ranks. NaN for i itself."""
    distance = ((points - points[i]) ** 2).sum(axis=1)
    rank = np.full(len(points), np.nan)
    others = [j for j in range(len(points)) if j != i]
    for j in others:
        nearer = sum(distance[k] < distance[j] for k in others)
        equal = sum(distance[k] == distance[j] for k in others)
        rank[j] = nearer + (equal + 1) / 2
    return rank


def information_imbalance(a: np.ndarray, b: np.ndarray) -> float:
    """Delta(A -> B) = 2/N <r_B | r_A = 1>: twice the mean rank in B of the nearest neighbour in A, over N (Glielmo et al. 2022,
    doi:10.1093/pnasnexus/pgac039, eq. 2). Of several nearest neighbours in A the mean counts.
    """
    total = 0.0
    for i in range(len(a)):
        in_a, in_b = ranks_from(a, i), ranks_from(b, i)
        nearest = in_a == np.nanmin(in_a)
        total += in_b[nearest].mean()
    return 2 * total / len(a) ** 2


def neighbourhood_similarity(a: np.ndarray, b: np.ndarray, count: int) -> float:
    """The part of the `count` nearest neighbours in A that are no farther in B than the `count`-th nearest neighbour there, over all points.
    Where several points are equally far in A as the last neighbour, each counts in part.
    """
    shared = 0.0
    for i in range(len(a)):
        others = [j for j in range(len(a)) if j != i]
        in_a, in_b = (((points[others] - points[i]) ** 2).sum(axis=1) for points in (a, b))
        last = np.sort(in_a)[count - 1]
        near = in_b <= np.sort(in_b)[count - 1]
        sure, equal = in_a < last, in_a == last
        shared += near[sure].sum() + (count - sure.sum()) * near[equal].mean()
    return shared / (len(a) * count)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing the mean of theirs."""
    ranks = [[(v < value).sum() + ((v == value).sum() + 1) / 2 for value in v] for v in (x, y)]
    return float(np.corrcoef(ranks)[0, 1])


def adjusted_rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """(agreements - those expected by chance) / (the most possible - those expected), of pairs that are together in both partitions; the most
    possible is the mean of the pairs together in a and those in b (Hubert & Arabie 1985, doi:10.1007/BF01908075, eq. 5).
    """
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    in_a, in_b = (np.array([v[i] == v[j] for i, j in pairs]) for v in (a, b))
    expected = in_a.sum() * in_b.sum() / len(pairs)
    return float(((in_a & in_b).sum() - expected) / ((in_a.sum() + in_b.sum()) / 2 - expected))


def normalised_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """2 I(a, b) / (H(a) + H(b)), I = sum p(a, b) log [p(a, b) / (p(a) p(b))], H = -sum p log p."""

    def entropy(labels: list) -> float:
        probability = np.array([labels.count(label) for label in set(labels)]) / len(labels)
        return float(-(probability * np.log(probability)).sum())

    a, b = a.tolist(), b.tolist()  # type: ignore[assignment]
    information = entropy(a) + entropy(b) - entropy(list(zip(a, b)))  # type: ignore[arg-type]
    return 2 * information / (entropy(a) + entropy(b))  # type: ignore[arg-type]
