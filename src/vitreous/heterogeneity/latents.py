"""Latents: where each particle lies in a landscape, and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.errors import DataProblem


@dataclass(frozen=True)
class Latents:
    """The posterior of each particle's latent, a Gaussian: `mean` [n, d] and `covariance` [n, d, d], float32, in the units of the prior.

    A particle of which its image tells nothing has mean 0 and covariance 1, those of the prior.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.covariance.shape != (*self.mean.shape, self.mean.shape[1]):
            raise DataProblem(
                f"latents of shapes {self.mean.shape} and {self.covariance.shape}",
                "means [n, d] and covariances [n, d, d]",
            )

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def dimensions(self) -> int:
        """d."""
        return self.mean.shape[1]

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation of each coordinate [n, d]."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def rows(self, selection: np.ndarray | slice) -> Latents:
        """Those of the selected particles."""
        return Latents(self.mean[selection], self.covariance[selection])
