"""The noise of a map of scores, beside the particles in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

MAD = 1.4826022185056018  # standard deviations of a normal distribution in a median absolute deviation
STANDS_OUT = 3.5  # standard deviations
ROUNDS = 4
LEAST = 0.05  # of the map: with less of it left, what is left says too little


def quiet_deviation(values: Float[np.ndarray, "y x"], reach: float) -> float:
    """Standard deviation of the noise of a map, from the median absolute deviation about 0 of all that is farther than `reach` pixels
    from what stands out: the discs about such pixels are left out, and the rest is looked at again.
    """
    from scipy import ndimage

    quiet = np.ones(values.shape, dtype=bool)
    sigma = MAD * float(np.median(np.abs(values)))
    for _ in range(ROUNDS):
        loud = values > STANDS_OUT * sigma
        distance: Any = ndimage.distance_transform_edt(~loud)
        near = (distance < reach) & loud.any()
        if (~near).mean() < LEAST or np.array_equal(~near, quiet):
            break
        quiet = ~near
        sigma = MAD * float(np.median(np.abs(values[quiet])))
    return sigma if sigma > 0 else math.inf
