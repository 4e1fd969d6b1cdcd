"""How many particles lie where in a landscape, with error bars.

The density is the mean of the particles' posteriors, each blurred a little: a particle whose place is badly known counts where it may be.
It is occupancy: how often the images, as they were picked and aligned, show a conformation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Float

KERNELS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Density:
    """`value` [m] at `points` [m, c], per unit of the latent to the power c, and its standard `error` [m]: how it would vary if other particles
    of the same kind had been imaged."""

    points: np.ndarray
    value: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Occupancy:
    """`energy` [m] = -log(p / p_max) in kT: 0 where most particles lie, and its standard `error` [m], 0 there."""

    energy: np.ndarray
    error: np.ndarray


def scott_bandwidth(mean: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "c c"]:
    """The covariance of the blur, `n^(-2/(c+4))` times that of the latents (Scott 1992, doi:10.1002/9780470316849): right for one hump, too
    much for several narrow ones."""
    mean = np.asarray(mean, dtype=np.float64)
    count, size = mean.shape
    spread = np.atleast_2d(np.cov(mean, rowvar=False)) if count > 1 else np.eye(size)
    floor = 1e-6 * max(float(np.trace(spread)), np.finfo(np.float32).tiny)
    return count ** (-2 / (size + 4)) * (spread + floor * np.eye(size))


def kernel_density(
    mean: Float[np.ndarray, "n c"],
    covariance: Float[np.ndarray, "n c c"],
    points: Float[np.ndarray, "m c"],
    bandwidth: Float[np.ndarray, "c c"],
) -> Density:
    """p(x) = 1/n sum_i K_i(x), K_i = N(x; mean_i, covariance_i + bandwidth).

    The K_i(x) of different particles are independent draws, so the variance of p(x) is that of their mean:
    `(1/n sum K_i^2 - p^2) / (n - 1)`. DataProblem for fewer than two particles.
    """
    if len(mean) < 2:
        raise DataProblem(f"a density of {len(mean)} particles", "at least 2")
    total, squares = np.zeros(len(points)), np.zeros(len(points))
    for kernels in kernel_values(mean, covariance, points, bandwidth):
        total += kernels.sum(axis=0)
        squares += (kernels**2).sum(axis=0)
    value = total / len(mean)
    variance = np.maximum(squares / len(mean) - value**2, 0) / (len(mean) - 1)
    return Density(np.asarray(points), value, np.sqrt(variance))


def occupancy(
    mean: Float[np.ndarray, "n c"],
    covariance: Float[np.ndarray, "n c c"],
    density: Density,
    bandwidth: Float[np.ndarray, "c c"],
) -> Occupancy:
    """-log of the density relative to its largest value, with the error of that ratio to first order:
    `var log(p / q) = var p / p^2 + var q / q^2 - 2 cov(p, q) / (p q)`, q at the maximum. Infinite where the density is 0."""
    peak = int(density.value.argmax())
    products, own = np.zeros(len(density.points)), slice(peak, peak + 1)
    for kernels in kernel_values(mean, covariance, density.points, bandwidth):
        products += (kernels * kernels[:, own]).sum(axis=0)
    p, q = density.value, density.value[peak]
    covariances = (products / len(mean) - p * q) / (len(mean) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = -np.log(p / q)
        variance = (density.error / p) ** 2 + (density.error[peak] / q) ** 2 - 2 * covariances / (p * q)
    error = np.sqrt(np.maximum(np.where(p > 0, variance, np.inf), 0))
    error[peak] = 0.0
    return Occupancy(np.abs(energy), error)


def kernel_values(
    mean: Float[np.ndarray, "n c"],
    covariance: Float[np.ndarray, "n c c"],
    points: Float[np.ndarray, "m c"],
    bandwidth: Float[np.ndarray, "c c"],
) -> Iterator[np.ndarray]:
    """K_i(x) [some, m] of some particles after the other."""
    size = points.shape[1]
    rows = max(1, KERNELS_AT_ONCE // len(points))
    for start in range(0, len(mean), rows):
        here = slice(start, start + rows)
        spread = np.asarray(covariance[here], dtype=np.float64) + bandwidth
        lower = np.linalg.inv(np.linalg.cholesky(spread))  # lower @ (x - mean) has unit variance
        scaled = np.einsum("nij,mj->nmi", lower, points) - np.einsum("nij,nj->ni", lower, mean[here])[:, None]
        height = np.prod(np.diagonal(lower, axis1=1, axis2=2), axis=1) / (2 * np.pi) ** (size / 2)
        yield height[:, None] * np.exp(-0.5 * (scaled**2).sum(axis=-1))


def line_of(
    mean: Float[np.ndarray, " n"], variance: Float[np.ndarray, " n"], bandwidth: float, count: int
) -> np.ndarray:
    """`count` evenly spaced places that hold all but the outermost particles with their widths."""
    width = 3 * float(np.sqrt(np.median(variance) + bandwidth))
    low, high = np.percentile(mean, (0.2, 99.8))
    return np.linspace(low - width, high + width, count)
