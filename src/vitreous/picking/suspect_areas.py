"""Areas in which nothing is to be picked: carbon, contamination, edges of holes, known by their variance beside the particles.

    V(r) = sum_free w(r' - r) x(r')^2 / sum_free w(r' - r)

x is the micrograph less what changes slowly, w a Gaussian about as wide as a particle, and the sums leave out discs about everything
that could be a particle. So particles, few or many, strong or weak, do not count: between them V is that of the ice, while carbon and
crystals are loud all over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

OWN = 0.6  # diameters: radius of the disc about a particle that is left out
SLOW = 2.0  # diameters: standard deviation of the Gaussian that says what changes slowly
WINDOW = 0.75  # diameters: standard deviation of w
LEAST = 0.15  # of w that must be free


def relative_variance(
    values: Float[np.ndarray, "y x"], places: Float[np.ndarray, "n 2"], diameter: float
) -> Float[np.ndarray, "y x"]:
    """V of a working image, in units of its median over the image: about 1 everywhere in clean ice.

    `places` (x, y) are what could be particles, `diameter` of them in pixels. Where they leave no room between them, V is taken from
    the nearest place where they do; it is 1 if there is none. What changes slowly is known from the same pixels.
    """
    free = _beside(values.shape, places, OWN * diameter)
    if not free.any():
        return np.ones(values.shape, dtype=np.float32)
    slow = _weighted_mean(values, free, SLOW * diameter)
    variance = _weighted_mean(np.square(values - slow), free, WINDOW * diameter)
    middle = float(np.median(variance))
    return variance / np.float32(middle if middle > 0 else math.inf)


def _weighted_mean(values: np.ndarray, free: np.ndarray, sigma: float) -> np.ndarray:
    """Mean of the free pixels under a Gaussian about each pixel; where too little of it is free, that of the nearest place with more."""
    from scipy import ndimage

    weight = ndimage.gaussian_filter(free.astype(values.dtype), sigma, mode="reflect")
    total = ndimage.gaussian_filter(np.where(free, values, 0.0).astype(values.dtype), sigma, mode="reflect")
    known = weight > min(LEAST, 0.5 * float(weight.max()))
    mean = np.divide(total, weight, out=np.zeros_like(total), where=known)
    if known.all():
        return mean
    nearest: Any = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return mean[tuple(nearest)]


def beside(area: Bool[np.ndarray, "y x"], distance: float) -> Bool[np.ndarray, "y x"]:
    """The pixels farther than `distance` pixels from an area."""
    from scipy import ndimage

    if not area.any():
        return ~area
    away: Any = ndimage.distance_transform_edt(~area)
    return away > distance


def _beside(shape: tuple[int, ...], places: np.ndarray, radius: float) -> np.ndarray:
    """The pixels farther than `radius` from every place."""
    area = np.zeros(shape, dtype=bool)
    column, row = np.rint(places.T).astype(np.int64)
    area[row.clip(0, shape[0] - 1), column.clip(0, shape[1] - 1)] = True
    return beside(area, radius)
