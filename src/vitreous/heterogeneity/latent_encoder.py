"""The encoder: from what is known of an image to the posterior of its latent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.heterogeneity.perceptron import Perceptron, answer, draw_perceptron

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# The posterior's log standard deviation stays within this of 0 by a smooth bound: exp(-8) is far below what an image can tell.
LARGEST_LOG_DEVIATION = 8.0
FIRST_LOG_DEVIATION = (
    -1.0
)  # of encoders that start from nothing: little noise at first, so that the decoder notices the latent


def draw_encoder(
    features: int, latent: int, width: int, layers: int, rng: np.random.Generator, direct: np.ndarray | None = None
) -> Perceptron:
    """Weights to start from, whose answer is mean and log deviation [2d]. With `direct` [m, 2d] the first is `features @ direct`; without, a small random
    one."""
    if direct is not None:
        return draw_perceptron(direct, width, layers, rng)
    drawn = draw_perceptron(np.zeros((features, 2 * latent)), width, layers, rng)
    last, bias = drawn.layers[-1]
    last[:, :latent] = rng.normal(0, 1 / math.sqrt(len(last)), (len(last), latent))
    bias[latent:] = FIRST_LOG_DEVIATION
    return drawn


def encode(weights: Perceptron, features: Float[Array, "b m"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Mean and log standard deviation of the posterior of each latent coordinate."""
    xp = namespace(features, weights.direct)
    mean, log_deviation = xp.split(answer(weights, features), 2, axis=-1)
    return mean, LARGEST_LOG_DEVIATION * xp.tanh(log_deviation / LARGEST_LOG_DEVIATION)
