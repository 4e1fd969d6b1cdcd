"""Do latents keep neighbours together? Two measures that compare distances between latents with distances between truths by rank alone.

Scaling, turning or moving the latents changes neither. Bending them (a monotone function of a coordinate, say) can: who is nearest may change.
Distances are Euclidean, between rows. Equal ones, as between particles of one conformation or of one class, are treated as if told apart at
random: a measure is the mean over all ways to do so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Float

DISTANCES_AT_ONCE = 1 << 22  # of each kind


@dataclass(frozen=True)
class NeighbourhoodSimilarity:
    """`similarity` [k]: the part of the `count` [k] nearest neighbours in A that are neighbours in B; `expected` [k] of it if A were random."""

    count: np.ndarray
    similarity: np.ndarray
    expected: np.ndarray


def information_imbalance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n e"]) -> float:
    """Delta(A -> B) = 2/n <r_B | r_A = 1>: how badly nearness in A foretells nearness in B.

    Twice the mean rank, in B, of the nearest neighbour in A, over n: 2/n if both agree, 1 if they have nothing to do with each other (Glielmo
    et al. 2022, doi:10.1093/pnasnexus/pgac039, eq. 2). Not symmetric: if B is a function of A that forgets something, Delta(A -> B) is small and
    Delta(B -> A) is not. If in B groups of points are at the same place, nothing gets below about the mean size of a group over n:
    `information_imbalance(b, b)`.
    """
    _check(a, b)
    total = 0.0
    for in_a, in_b in _distances(a, b):
        least = in_a.min(axis=1)
        nearest = in_a == least[:, None]
        single = nearest.sum(axis=1) == 1
        total += _ranks_of_one(in_b[single], nearest[single].argmax(axis=1)).sum()
        for row in np.flatnonzero(~single):
            total += _middle_ranks(in_b[row], in_b[row, nearest[row]]).mean()
    return 2 * float(total) / len(a) ** 2


def neighbourhood_similarity(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n e"], counts: Sequence[int]
) -> NeighbourhoodSimilarity:
    """The part of the k nearest neighbours in A that are no farther in B than the k-th nearest there, mean over the points, for each k.

    1 if A keeps the neighbourhoods of B, k/(n - 1) if it knows nothing of them (more where many points of B are equally far). CryoBench's
    neighbourhood similarity (Jeon et al. 2024, arXiv:2408.05526), which counts a point among its own neighbours.
    """
    _check(a, b)
    n, wanted = len(a), np.unique(np.asarray(counts, dtype=int))
    if wanted[0] < 1 or wanted[-1] > n - 1:
        raise DataProblem(f"neighbourhoods of {wanted[0]} to {wanted[-1]} of {n} points", f"1 to {n - 1} neighbours")
    shared, near = np.zeros(len(wanted)), np.zeros(len(wanted))
    for in_a, in_b in _distances(a, b):
        last_a, last_b = (np.partition(each, wanted - 1, axis=1)[:, wanted - 1] for each in (in_a, in_b))
        for index, count in enumerate(wanted):
            neighbour = in_b <= last_b[:, index, None]
            surely, equal = in_a < last_a[:, index, None], in_a == last_a[:, index, None]
            part = (count - surely.sum(axis=1)) / equal.sum(axis=1)
            shared[index] += (surely & neighbour).sum() + (part * (equal & neighbour).sum(axis=1)).sum()
            near[index] += neighbour.sum()
    return NeighbourhoodSimilarity(wanted, shared / (n * wanted), near / (n * (n - 1)))


def neighbourhood_counts(points: int, fractions: Sequence[float]) -> np.ndarray:
    """Numbers of neighbours that are these fractions of so many points, each once, at least 1."""
    return np.unique(np.clip(np.rint(np.asarray(fractions) * points).astype(int), 1, points - 1))


def _distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Squared distances of some points after others from all, in A and in B; infinite from themselves. Equal rows are equally far to the last bit."""
    from scipy.spatial.distance import cdist

    a, b = (np.ascontiguousarray(each, dtype=np.float64) for each in (a, b))
    step = max(1, DISTANCES_AT_ONCE // len(a))
    for start in range(0, len(a), step):
        rows = np.arange(start, min(start + step, len(a)))
        pair = tuple(cdist(each[rows], each, "sqeuclidean") for each in (a, b))
        for distance in pair:
            distance[np.arange(len(rows)), rows] = np.inf
        yield pair  # type: ignore[misc]


def _ranks_of_one(distances: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The rank of one column in each row, 1 the smallest; equal values share the mean of their ranks."""
    value = distances[np.arange(len(distances)), column][:, None]
    return (distances < value).sum(axis=1) + ((distances == value).sum(axis=1) + 1) / 2


def _middle_ranks(distances: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The ranks of some values among all distances, equal ones sharing the mean of theirs."""
    ordered = np.sort(distances)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 3:
        raise DataProblem(f"points of shapes {a.shape} and {b.shape}", "at least three rows, as many in each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataProblem("latents or truths that are no numbers", "finite values")
