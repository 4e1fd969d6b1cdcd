"""The encoder: from what is known of an image to the posterior of its latent."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# The posterior's log standard deviation stays within this of 0 by a smooth bound: exp(-8) is far below what an image can tell.
LARGEST_LOG_DEVIATION = 8.0
FIRST_LOG_DEVIATION = (
    -1.0
)  # of encoders that start from nothing: little noise at first, so that the decoder notices the latent


class EncoderWeights(NamedTuple):
    """`mean` and `log_deviation` = direct path + network: a pytree.

    `direct` [m, 2d] takes features straight to the answer; `layers` of matrices and biases, relu between them, the last [u, 2d].
    """

    direct: Any
    layers: tuple[tuple[Any, Any], ...]


def draw_encoder(
    features: int, latent: int, width: int, layers: int, rng: np.random.Generator, direct: np.ndarray | None = None
) -> EncoderWeights:
    """Weights to start from, float32. With `direct` [m, 2d] the first answer is `features @ direct`; without, a small random one."""
    sizes = [features, *([width] * layers)]
    drawn = [
        (rng.normal(0, math.sqrt(2 / rows), (rows, columns)).astype(np.float32), np.zeros(columns, np.float32))
        for rows, columns in pairwise(sizes)
    ]
    last = np.zeros((sizes[-1], 2 * latent), np.float32)
    bias = np.zeros(2 * latent, np.float32)
    if direct is None:
        last[:, :latent] = rng.normal(0, 1 / math.sqrt(sizes[-1]), (sizes[-1], latent))
        bias[latent:] = FIRST_LOG_DEVIATION
        direct = np.zeros((features, 2 * latent), np.float32)
    return EncoderWeights(np.asarray(direct, np.float32), (*drawn, (last, bias)))


def encode(weights: EncoderWeights, features: Float[Array, "b m"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Mean and log standard deviation of the posterior of each latent coordinate."""
    xp = namespace(features, weights.direct)
    hidden = features
    for matrix, bias in weights.layers[:-1]:
        hidden = xp.maximum(hidden @ matrix + bias, 0)
    matrix, bias = weights.layers[-1]
    both = features @ weights.direct + hidden @ matrix + bias
    mean, log_deviation = xp.split(both, 2, axis=-1)
    return mean, LARGEST_LOG_DEVIATION * xp.tanh(log_deviation / LARGEST_LOG_DEVIATION)
