"""Interpolation of scattered data on a triangulation, with the set-up kept for reuse.

Linear interpolation on the Delaunay triangulation is `sum of w_i f_i` over the d + 1 corners of the simplex that holds
the query, w its barycentric weights. Almost all of the time goes into the set-up: the triangulation, one small matrix
inverse for each simplex, and finding the simplex of each query. `scipy.interpolate.griddata` pays for it at every call;
a `Triangulation` pays once, and `Weights` also keep the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem, SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Num

    Array = Any  # NumPy or JAX


@dataclass(frozen=True)
class Weights:
    """Which samples make up each of q queries: `corners` [q, d + 1], their `weights` [q, d + 1], and `inside` [q].

    The weights of a query outside the hull are 0.
    """

    corners: Int[np.ndarray, "q c"]
    weights: Float[np.ndarray, "q c"]
    inside: Bool[np.ndarray, " q"]

    def apply(self, values: Num[Array, "... n"], *, fill: float = np.nan) -> Num[Array, "... q"]:
        """Values [..., n] at the sample points, interpolated at the queries; `fill` outside the hull."""
        xp = namespace(values)
        weights = self.weights.astype(float_dtype(values))
        total: Any = sum(xp.take(values, self.corners[:, i], axis=-1) * weights[:, i] for i in range(weights.shape[1]))
        return xp.where(self.inside, total, xp.asarray(fill, dtype=total.dtype))


class Triangulation:
    """The Delaunay triangulation of `points` [n, d] (d >= 2), with what every later query needs.

    `rescale=True` brings all axes to the unit interval first: needed when their units or ranges differ, because the
    triangles depend on it. Raises DataProblem for points that span no volume (too few, or all on one line or plane).

    >>> corners = Triangulation(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    >>> corners.interpolate(np.array([0.0, 1.0, 2.0]), np.array([[0.25, 0.5], [2.0, 2.0]]))
    array([1.25,  nan])
    """

    def __init__(self, points: Float[np.ndarray, "n d"], *, rescale: bool = False):
        from scipy.spatial import Delaunay, QhullError

        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] < 2:
            raise DataProblem(f"sample points of shape {points.shape}", "[n, d] with d of at least 2")
        if not np.all(np.isfinite(points)):
            raise DataProblem("sample points that are not finite", "finite coordinates", "remove them")
        self.offset = points.min(axis=0) if rescale and len(points) else np.zeros(points.shape[1])
        extent = np.ptp(points, axis=0) if rescale and len(points) else np.ones(points.shape[1])
        self.scale = np.where(extent > 0, extent, 1.0)
        self.points = (points - self.offset) / self.scale
        try:
            self.delaunay = Delaunay(self.points)
        except (QhullError, ValueError) as error:
            raise DataProblem(
                f"{len(points)} sample points in {points.shape[1]} dimensions that span no volume",
                f"at least {points.shape[1] + 1} points that do not lie on a line or plane",
            ) from error
        self.transform = _barycentric_transforms(self.points, self.delaunay.simplices)
        # SciPy would work out the same numbers at its first search, by one LAPACK call for each simplex. With several
        # BLAS threads on a busy machine these take up to a hundred times longer; given here, they are not repeated.
        self.delaunay._transform = self.transform  # type: ignore[attr-defined]
        self._tree = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def simplices(self) -> Int[np.ndarray, "s c"]:
        """Indices of the corners of each simplex."""
        return self.delaunay.simplices

    def locate(self, queries: Float[np.ndarray, "q d"]) -> Weights:
        """The simplex and barycentric weights of each query, to be applied to any number of value sets."""
        queries = self._scaled(queries)
        simplex = self.delaunay.find_simplex(queries)
        inside = simplex >= 0
        affine = self.transform[simplex]
        leading = np.einsum("qij,qj->qi", affine[:, :-1], queries - affine[:, -1])
        weights = np.concatenate([leading, 1.0 - leading.sum(axis=1, keepdims=True)], axis=1)
        inside &= np.all(np.isfinite(weights), axis=1)
        return Weights(self.delaunay.simplices[simplex], np.where(inside[:, None], weights, 0.0), inside)

    def nearest(self, queries: Float[np.ndarray, "q d"]) -> Int[np.ndarray, " q"]:
        """Index of the sample point nearest to each query, inside the hull or not."""
        if self._tree is None:
            from scipy.spatial import KDTree

            self._tree = KDTree(self.points)
        return np.asarray(self._tree.query(self._scaled(queries))[1])

    def interpolate(
        self,
        values: Num[Array, "... n"],
        queries: Float[np.ndarray, "q d"],
        method: Literal["linear", "nearest", "cubic"] = "linear",
        *,
        fill: float = np.nan,
    ) -> Num[Array, "... q"]:
        """Values [..., n] at the sample points, interpolated at `queries` [q, d].

        "linear" and "cubic" give `fill` outside the convex hull; "nearest" is defined everywhere. "cubic"
        (Clough-Tocher, two dimensions, NumPy only) estimates slopes from the samples: best on smooth data, worst on
        noisy data.
        """
        if values.shape[-1] != len(self):
            raise DataProblem(f"{values.shape[-1]} values for {len(self)} sample points", "one value for each")
        if method == "linear":
            return self.locate(queries).apply(values, fill=fill)
        if method == "nearest":
            return namespace(values).take(values, self.nearest(queries), axis=-1)
        if method == "cubic" and self.points.shape[1] == 2:
            return self._cubic(np.asarray(values), queries, fill)
        raise SettingsProblem(
            f"the method '{method}' in {self.points.shape[1]} dimensions", "linear, nearest, or cubic in 2 dimensions"
        )

    def _cubic(self, values: np.ndarray, queries: np.ndarray, fill: float) -> np.ndarray:
        from scipy.interpolate import CloughTocher2DInterpolator

        curved = CloughTocher2DInterpolator(self.delaunay, np.moveaxis(values, -1, 0), fill_value=fill)
        return np.moveaxis(curved(self._scaled(queries)), 0, -1).astype(
            values.dtype if values.dtype.kind in "fc" else np.float64
        )

    def _scaled(self, queries: np.ndarray) -> np.ndarray:
        queries = np.asarray(queries, dtype=np.float64)
        if queries.ndim != 2 or queries.shape[1] != self.points.shape[1]:
            raise DataProblem(f"queries of shape {queries.shape}", f"[q, {self.points.shape[1]}]")
        return (queries - self.offset) / self.scale


def _barycentric_transforms(points: np.ndarray, simplices: np.ndarray) -> np.ndarray:
    """For each simplex [d + 1, d]: the inverse of its edges from the last corner, then that corner; NaN if flat.

    The first d barycentric weights of a point r are `transform[:d] @ (r - transform[d])`.
    """
    last = points[simplices[:, -1]]
    edges = np.swapaxes(points[simplices[:, :-1]] - last[:, None], 1, 2)
    singular = np.linalg.det(edges) == 0
    inverses = np.linalg.inv(np.where(singular[:, None, None], np.eye(edges.shape[1]), edges))
    condition = np.abs(edges).sum(axis=1).max(axis=1) * np.abs(inverses).sum(axis=1).max(axis=1)
    flat = singular | (condition > 1 / (1000 * np.finfo(float).eps))
    transforms = np.concatenate([inverses, last[:, None]], axis=1)
    transforms[flat] = np.nan
    return transforms
