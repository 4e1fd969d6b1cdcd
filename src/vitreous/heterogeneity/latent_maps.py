"""Latents in axes of their own: principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


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
