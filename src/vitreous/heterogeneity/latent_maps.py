"""Latents in axes of their own: principal components, and a UMAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Float

UMAP_NEIGHBOURS = 15
UMAP_LEAST = 20  # particles


@dataclass(frozen=True)
class PrincipalComponents:
    """`mean [n, d] = centre + scores @ axes`: `axes` [d, d] are orthonormal rows, the direction of the largest `variance` [d] first; `scores` [n, d]."""

    centre: np.ndarray
    axes: np.ndarray
    variance: np.ndarray
    scores: np.ndarray

    @property
    def explained(self) -> np.ndarray:
        """The fraction of the variance along each axis."""
        return self.variance / max(self.variance.sum(), np.finfo(float).tiny)

    def latents(self, scores: Float[np.ndarray, "m c"]) -> Float[np.ndarray, "m d"]:
        """The latents of scores along the first c axes, at the centre of the others."""
        return self.centre + scores @ self.axes[: scores.shape[1]]


def principal_components(mean: Float[np.ndarray, "n d"]) -> PrincipalComponents:
    """Principal components of latents. The largest entry of every axis is positive, so that the same latents give the same signs.

    >>> found = principal_components(np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]))
    >>> found.explained.round(6).tolist(), found.axes[0].round(3).tolist()
    ([1.0, 0.0], [0.447, 0.894])
    """
    mean = np.asarray(mean, dtype=np.float64)
    centre = mean.mean(axis=0)
    centred = mean - centre
    variance, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(mean) - 1))
    axes = vectors[:, ::-1].T
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] if len(axes) else np.zeros(0)
    axes = axes * np.where(largest < 0, -1, 1)[:, None]
    return PrincipalComponents(centre, axes, np.maximum(variance[::-1], 0), centred @ axes.T)


def umap_coordinates(mean: Float[np.ndarray, "n d"], *, neighbours: int = UMAP_NEIGHBOURS, seed: int = 0) -> np.ndarray:
    """Two coordinates [n, 2] in which particles that are near each other in the latent stay near (UMAP; McInnes, Healy & Melville 2018,
    arXiv:1802.03426). It starts from the first two principal components. What is near stays near; distances, areas and empty space between
    groups mean nothing. One thread: the same latents and seed give the same map.

    Raises DataProblem for fewer than two coordinates or UMAP_LEAST particles.
    """
    mean = np.asarray(mean, dtype=np.float32)
    if mean.shape[1] < 2 or len(mean) < UMAP_LEAST:
        raise DataProblem(
            f"a UMAP of {len(mean)} latents of {mean.shape[1]} numbers", f"at least {UMAP_LEAST} of at least 2 numbers"
        )
    import umap

    method = umap.UMAP(
        n_neighbors=min(neighbours, len(mean) - 1), n_components=2, init="pca", random_state=seed, n_jobs=1
    )
    return np.asarray(method.fit_transform(mean), dtype=np.float64)
