"""Definitions of the coordinate network and of the evidence lower bound, frequency by frequency."""

from __future__ import annotations

import math

import numpy as np


def network_value(weights: dict, k: np.ndarray, latent: np.ndarray, box: int) -> complex:
    """The network's answer at one frequency k (x, y, z), in cycles per box.

    `weights`: points [w, 3], waves [2w, u], latent [d, u], bias [u], hidden (pairs of matrix and bias), last [u, 2], last_bias [2].
    """
    if k[0] < 0:
        return network_value(weights, -k, latent, box).conjugate()
    phases = [2 * math.pi * float(k @ point) / box for point in weights["points"]]
    features = np.array([math.cos(phase) for phase in phases] + [math.sin(phase) for phase in phases])
    units = np.maximum(features @ weights["waves"] + latent @ weights["latent"] + weights["bias"], 0)
    for matrix, bias in weights["hidden"]:
        units = np.maximum(units + units @ matrix + bias, 0)
    real, imaginary = units @ weights["last"] + weights["last_bias"]
    return complex(real, imaginary)


def log_likelihood(values: np.ndarray, transfer: np.ndarray, slices: np.ndarray) -> float:
    """Of one image in units of its noise, E|noise|^2 = 1 at each of p complex pixels: `-sum |y - C F|^2 - p log pi`."""
    misfit = sum(abs(y - c * f) ** 2 for y, c, f in zip(values, transfer, slices, strict=True))
    return -float(misfit) - len(values) * math.log(math.pi)


def divergence(mean: np.ndarray, deviation: np.ndarray) -> float:
    """KL(N(mean, deviation^2) || N(0, 1)) by numerical integration, summed over the coordinates."""
    total = 0.0
    for m, s in zip(mean, deviation, strict=True):
        z = np.linspace(m - 12 * s, m + 12 * s, 20_001)
        log_q = -((z - m) ** 2) / (2 * s**2) - math.log(s * math.sqrt(2 * math.pi))
        log_p = -(z**2) / 2 - math.log(math.sqrt(2 * math.pi))
        total += float(np.trapezoid(np.exp(log_q) * (log_q - log_p), z))
    return total
