"""The smooth mean of a spectrum, which the Thon rings stand on, by a robust fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.ring_pixels import BACKGROUND_KNOTS, RingPixels, splines

if TYPE_CHECKING:
    from jaxtyping import Float

OUTLIER = 4.0  # standard deviations from which on a sample counts less
ROUNDS = 6


def smooth_background(pixels: RingPixels) -> Float[np.ndarray, " c"]:
    """Coefficients of the logarithm of the mean power, a sum of B-splines of the frequency.

    Means over rings one sample wide are fitted by iterated least squares in which rings that stand out (ice, crystals) count less.
    """
    k, mean, count = ring_means(pixels)
    level = np.log(mean)
    basis = splines(k, pixels.limits, BACKGROUND_KNOTS)
    weights = np.sqrt(count)
    reliable = np.ones_like(weights)
    coefficients = np.zeros(BACKGROUND_KNOTS)
    for _ in range(ROUNDS):
        scaled = weights * reliable
        coefficients = np.linalg.lstsq(basis * scaled[:, None], level * scaled, rcond=None)[0]
        rest = level - basis @ coefficients
        spread = 1.4826 * np.median(abs(rest)) + 1e-12
        reliable = np.sqrt(np.minimum(1.0, OUTLIER * spread / np.maximum(abs(rest), 1e-300)))
    return coefficients


def ring_means(pixels: RingPixels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequency, mean power and number of samples of circles one sample wide; circles without samples are left out."""
    ring = np.round((pixels.k - pixels.limits[0]) / pixels.step).astype(np.int64)
    count = np.bincount(ring)
    used = count > 0
    k, power = (np.bincount(ring, values)[used] / count[used] for values in (pixels.k, pixels.power))
    return k, power, count[used].astype(np.float64)
