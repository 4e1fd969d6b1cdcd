"""Definitions behind the variational autoencoders: probabilistic principal components in closed form, and images of a turned and shifted picture."""

from __future__ import annotations

import math

import numpy as np


def ppca_optimum(data: np.ndarray, latent: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The maximum of the likelihood of x = mean + W z + sigma noise: mean [p], W [p, d], sigma (Tipping & Bishop 1999, eqs 7 and 8).

    W = U (L - sigma^2)^(1/2) with the largest eigenvalues L of the covariance and their vectors U; sigma^2 is the mean of the others.
    """
    mean = data.mean(axis=0)
    values, vectors = np.linalg.eigh((data - mean).T @ (data - mean) / len(data))
    values, vectors = values[::-1], vectors[:, ::-1]
    variance = float(values[latent:].mean())
    return mean, vectors[:, :latent] * np.sqrt(values[:latent] - variance), math.sqrt(variance)


def ppca_log_likelihood(data: np.ndarray, mean: np.ndarray, loadings: np.ndarray, sigma: float) -> float:
    """Mean log-likelihood of the observations, nat: x ~ N(mean, W W' + sigma^2)."""
    covariance = loadings @ loadings.T + sigma**2 * np.eye(len(mean))
    inverse, (_, log_determinant) = np.linalg.inv(covariance), np.linalg.slogdet(covariance)
    misfit = np.mean([(x - mean) @ inverse @ (x - mean) for x in data])
    return -(float(misfit) + log_determinant + len(mean) * math.log(2 * math.pi)) / 2


def ppca_posterior(
    x: np.ndarray, mean: np.ndarray, loadings: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d, d] of z given x: M^-1 W' (x - mean) and sigma^2 M^-1, M = W'W + sigma^2 (Tipping & Bishop 1999, eq. 6)."""
    inverse = np.linalg.inv(loadings.T @ loadings + sigma**2 * np.eye(loadings.shape[1]))
    return inverse @ loadings.T @ (x - mean), sigma**2 * inverse


def sigma_points(latent: int) -> np.ndarray:
    """2d points [2d, d] whose mean is 0 and whose covariance is 1: means over them are exact for quadratics of a standard normal."""
    return math.sqrt(latent) * np.concatenate([np.eye(latent), -np.eye(latent)])


def turned_image_value(
    density, k: tuple[float, float], psi: float, origin: tuple[float, float], pixels: np.ndarray, box: int
) -> complex:
    """The transform at k (cycles per box) of a picture `density(x, y)` turned by psi, whose shift to the middle is `origin` (pixels).

    The particle's point r lies at R r - origin from the middle, R = [[cos, sin], [-sin, cos]]; `pixels` [P, 2] are those of the unshifted image.
    """
    total = 0j
    for x, y in pixels:
        at = (math.cos(psi) * x - math.sin(psi) * y, math.sin(psi) * x + math.cos(psi) * y)
        phase = 2 * math.pi * (k[0] * (x - origin[0]) + k[1] * (y - origin[1])) / box
        total += density(*at) * complex(math.cos(phase), -math.sin(phase))
    return total


def gain(values: np.ndarray, expected: np.ndarray) -> float:
    """The log-likelihood of an image in units of its noise beyond that of an empty one: `sum |y|^2 - |y - a|^2`."""
    return float(sum(abs(y) ** 2 - abs(y - a) ** 2 for y, a in zip(values, expected, strict=True)))


def pose_posterior(log_likelihoods: np.ndarray) -> np.ndarray:
    """q [K, S] of log-likelihoods [m, K, S] at m latents that are equally probable."""
    likelihood = np.mean([np.exp(each - log_likelihoods.max()) for each in log_likelihoods], axis=0)
    return likelihood / likelihood.sum()
