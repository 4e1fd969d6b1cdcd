"""A multilayer perceptron with a direct path: `x D + M(x)`, M of layers with relu between them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


class Perceptron(NamedTuple):
    """`direct` [m, o]; `layers` of matrices and biases, the last [u, o]: a pytree."""

    direct: Any
    layers: tuple[tuple[Any, Any], ...]


def draw_perceptron(
    direct: np.ndarray, width: int, layers: int, rng: np.random.Generator, spread: float = 0.0
) -> Perceptron:
    """Weights to start from, float32: M is 0 at first, so the answer is `x D`. `spread`: the deviation of the first biases, as far apart as the kinks of M
    in x shall lie."""
    sizes = [direct.shape[0], *([width] * layers)]
    drawn = [
        (
            rng.normal(0, math.sqrt(2 / rows), (rows, columns)).astype(np.float32),
            rng.normal(0, spread, columns).astype(np.float32),
        )
        for rows, columns in pairwise(sizes)
    ]
    last = np.zeros((sizes[-1], direct.shape[1]), np.float32), np.zeros(direct.shape[1], np.float32)
    return Perceptron(np.asarray(direct, np.float32), (*drawn, last))


def answer(weights: Perceptron, x: Float[Array, "*b m"]) -> Float[Array, "*b o"]:
    """`x D + M(x)`."""
    xp = namespace(x, weights.direct)
    hidden = x
    for matrix, bias in weights.layers[:-1]:
        hidden = xp.maximum(hidden @ matrix + bias, 0)
    matrix, bias = weights.layers[-1]
    return x @ weights.direct + hidden @ matrix + bias
