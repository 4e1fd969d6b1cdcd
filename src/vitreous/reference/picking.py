"""Picking as definitions: a Laplacian of a Gaussian, a normalised correlation, one place at a time."""

from __future__ import annotations

import numpy as np


def laplacian_kernel(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """-sigma^2 times the Laplacian of a Gaussian of area 1: positive within sqrt(2) sigma, negative around it, of area 0."""
    square = (x**2 + y**2) / sigma**2
    return (2 - square) * np.exp(-square / 2) / (2 * np.pi * sigma**2)


def laplacian_response(image: np.ndarray, row: int, column: int, sigma: float) -> float:
    """The response at one pixel, sigma in pixels. Beyond its borders the image goes on as its mirror image."""
    reach = int(np.ceil(8 * sigma))
    padded = np.pad(image, reach, mode="symmetric")
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    around = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
    return float(np.sum(laplacian_kernel(x, y, sigma) * around))


def ball_response(radius: float, sigma: float) -> float:
    """The response in the middle of a ball of density 1, whose image is the length of its chords: a sum over thin rings."""
    edges = np.linspace(0, radius, 200_001)
    ring = (edges[1:] + edges[:-1]) / 2
    chord = 2 * np.sqrt(radius**2 - ring**2)
    return float(np.sum(laplacian_kernel(ring, 0 * ring, sigma) * chord * 2 * np.pi * ring * np.diff(edges)))


def normalised_correlation(image: np.ndarray, template: np.ndarray, row: int, column: int, radius: float) -> float:
    """Pearson's correlation of a template with the image about one pixel, over the pixels of a disc about the template's origin."""
    half = template.shape[0] // 2
    y, x = np.mgrid[: template.shape[0], : template.shape[1]] - half
    disc = x**2 + y**2 <= radius**2
    around = image[row + y[disc], column + x[disc]]
    return float(np.corrcoef(around, template[disc])[0, 1])


def variance_beside(image: np.ndarray, free: np.ndarray, row: int, column: int, sigma: float) -> float:
    """The mean square of the free pixels, weighted by a Gaussian about one pixel."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = free * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma**2))
    return float(np.sum(weight * image**2) / np.sum(weight))
