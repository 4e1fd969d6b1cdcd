"""Latents: where each particle lies in a landscape, and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.errors import DataProblem


@dataclass(frozen=True)
class Latents:
    """The posterior of each particle's latent, a Gaussian: `mean` [n, d] and `covariance` [n, d, d], float32.

    A particle of which its image tells nothing has mean 0 and the covariance of the prior: 1, unless the latents are `scaled`.
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

    @staticmethod
    def independent(mean: np.ndarray, log_deviation: np.ndarray) -> Latents:
        """Posteriors whose coordinates are independent, of means and log standard deviations [n, d]."""
        covariance = np.zeros((*mean.shape, mean.shape[1]), np.float32)
        diagonal = np.arange(mean.shape[1])
        covariance[:, diagonal, diagonal] = np.exp(2 * log_deviation)
        return Latents(np.ascontiguousarray(mean), covariance)

    def scaled(self, by: np.ndarray) -> Latents:
        """Coordinate j times `by[j]`, the prior too."""
        by = np.asarray(by, np.float32)
        return Latents(self.mean * by, self.covariance * np.outer(by, by))

    def rows(self, selection: np.ndarray | slice) -> Latents:
        """Those of the selected particles."""
        return Latents(self.mean[selection], self.covariance[selection])
