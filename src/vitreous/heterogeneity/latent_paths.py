"""Paths through a landscape: straight ones, which may leave the data, and ones from particle to particle, which do not.

The second kind are shortest paths in the graph in which every particle is joined to its nearest neighbours (Tenenbaum, de Silva & Langford
2000, doi:10.1126/science.290.5500.2319). The length of a step is a power of its distance, so that many short steps, where particles are dense,
are shorter than few long ones (Groisman, Jonckheere & Sapienza 2022, arXiv:1810.09398). Noise fills the inside of a bend with
some particles: without the power a path would cut the corner. A map decoded where no particle lies is a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from scipy.sparse import csr_array

STEP_POWER = 3
MOST = 50_000  # particles of a graph: enough to follow a curve, and a second's work


@dataclass(frozen=True)
class LatentPath:
    """`points` [m, d] along a path, equally far apart along it, and the `distance` [m] of each from the nearest particle."""

    points: np.ndarray
    distance: np.ndarray


def straight_path(mean: Float[np.ndarray, "n d"], through: Sequence[int], count: int) -> LatentPath:
    """`count` points on the straight lines from particle to particle of the rows `through`."""
    return path_of(mean, mean[list(through)], count)


def geodesic_path(
    mean: Float[np.ndarray, "n d"], through: Sequence[int], count: int, *, neighbours: int = 10
) -> LatentPath:
    """`count` points on the shortest path through the data that visits the particles `through` in turn."""
    return path_of(mean, mean[geodesic_rows(mean, through, neighbours)], count)


def geodesic_rows(
    mean: Float[np.ndarray, "n d"], through: Sequence[int], neighbours: int = 10
) -> Int[np.ndarray, " m"]:
    """The particles of the shortest path that visits `through` in turn, steps only between nearest neighbours (Dijkstra).

    Where no path of such steps exists, the number of neighbours doubles until one does. Of more than MOST particles evenly spaced ones are used.
    """
    from scipy.sparse.csgraph import dijkstra

    if neighbours < 1:
        raise SettingsProblem(f"paths over {neighbours} neighbours", "at least 1")
    kept = np.unique(np.concatenate([np.arange(0, len(mean), -(-len(mean) // MOST)), list(through)]))
    stops = np.searchsorted(kept, through)
    points = np.asarray(mean, dtype=np.float64)[kept]
    neighbours = min(neighbours, len(kept) - 1)
    while True:
        graph = neighbour_graph(points, neighbours) ** STEP_POWER
        length, before = dijkstra(graph, directed=False, indices=stops[:-1], return_predecessors=True)
        if np.isfinite(length[np.arange(len(stops) - 1), stops[1:]]).all():
            break
        neighbours = min(2 * neighbours, len(kept) - 1)
    rows = [stops[:1]]
    for leg, (start, end) in enumerate(pairwise(stops)):
        rows.append(steps_back(before[leg], int(start), int(end))[1:])
    return kept[np.concatenate(rows)]


def neighbour_graph(points: Float[np.ndarray, "n d"], neighbours: int) -> csr_array:
    """Distances between each point and its `neighbours` nearest others, as a sparse matrix; 0 is no edge, so equal points are a hair apart."""
    from scipy.sparse import csr_array
    from scipy.spatial import KDTree

    distance, other = KDTree(points).query(points, k=neighbours + 1)
    start = np.repeat(np.arange(len(points)), neighbours + 1)
    other, distance = other.reshape(-1), distance.reshape(-1)
    edge = start != other
    floor = np.finfo(np.float64).eps * max(float(distance.max()), np.finfo(np.float32).tiny)
    shape = (len(points), len(points))
    return csr_array((np.maximum(distance[edge], floor), (start[edge], other[edge])), shape=shape)


def steps_back(before: Int[np.ndarray, " n"], start: int, end: int) -> np.ndarray:
    """The path from `start` to `end`, followed back from its end."""
    rows = [end]
    while rows[-1] != start:
        rows.append(int(before[rows[-1]]))
    return np.array(rows[::-1])


def path_of(mean: Float[np.ndarray, "n d"], corners: Float[np.ndarray, "c d"], count: int) -> LatentPath:
    """`count` points, equally far apart along the line through `corners`; its ends are among them."""
    from scipy.spatial import KDTree

    if count < 2:
        raise SettingsProblem(f"a path of {count} points", "at least 2")
    corners = np.asarray(corners, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    places = np.linspace(0, along[-1], count)
    points = np.stack([np.interp(places, along, column) for column in corners.T], axis=-1)
    return LatentPath(points, KDTree(np.asarray(mean, dtype=np.float64)).query(points)[0])


def neighbour_distance(mean: Float[np.ndarray, "n d"], percent: float) -> float:
    """This percentile of the distance from a particle to its nearest other: a place farther from the data than nearly all particles are from
    each other has left them."""
    from scipy.spatial import KDTree

    if len(mean) < 2:
        return 0.0
    points = np.asarray(mean, dtype=np.float64)
    some = points[:: -(-len(points) // MOST)]
    return float(np.percentile(KDTree(points).query(some, k=2)[0][:, 1], percent))
