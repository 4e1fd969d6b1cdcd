"""Definitions of the linear subspace with Gaussian latents (probabilistic PCA), as dense matrices."""

from __future__ import annotations

import numpy as np


def apart(values: np.ndarray) -> np.ndarray:
    """Real and imaginary parts one after the other on the last axis."""
    return np.concatenate([np.real(values), np.imag(values)], axis=-1)


def posterior(values: np.ndarray, slices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [k] and covariance [k, k] of z for y = sum_j z_j u_j + n, z ~ N(0, 1), E|n|^2 = 1 at each of p complex pixels; `slices` u [k, p].

    With real and imaginary parts apart, each of variance 1/2, this is linear regression with a unit prior.
    """
    design, target = apart(slices).T, apart(values)
    covariance = np.linalg.inv(np.eye(len(slices)) + design.T @ design / 0.5)
    return covariance @ design.T @ target / 0.5, covariance


def log_evidence(values: np.ndarray, slices: np.ndarray) -> float:
    """log p(y): a Gaussian of 2 p real numbers whose covariance is `u u' + 1/2`."""
    design, target = apart(slices).T, apart(values)
    covariance = design @ design.T + 0.5 * np.eye(len(target))
    determinant = np.linalg.slogdet(2 * np.pi * covariance)[1]
    return float(-determinant / 2 - target @ np.linalg.solve(covariance, target) / 2)


def best_components(values: np.ndarray, design: np.ndarray, mean: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The M-step: u [k] at one frequency that makes `sum_i E|y_i - c_i z_i . u|^2` smallest; `design` c [n], `mean` [n, k], `second` [n, k, k]."""
    normal = np.einsum("i,ijl->jl", design**2, second)
    return np.linalg.solve(normal.astype(complex), np.einsum("i,i,ij->j", design, values, mean.astype(complex)))
