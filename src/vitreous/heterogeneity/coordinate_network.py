"""The coordinate network: the transform of a map as a network's function of spatial frequency and latent.

    h_0 = relu(A [cos phi, sin phi] + B z + b),   phi = 2 pi k . r_j / box for fixed points r_j in the particle
    h_l = relu(h_{l-1} + M_l h_{l-1} + b_l),      l = 1 .. layers
    F(k, z) = F_0(k) + a(|k|) (o_1 + i o_2),      o = C h + c

The features are those of a density at the points r_j, drawn from a Gaussian ball the size of the particle (Tancik et al. 2020,
arXiv:2006.10739; Zhong et al. 2021, doi:10.1038/s41592-020-01049-4). F_0 is the transform of the consensus map and a(|k|) in units of its root
mean square in a shell: the network has to learn only what differs between particles. A map is real, F(-k) = conj F(k): the
network is asked for frequencies with k_x >= 0 and its answer is conjugated for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace
from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

# Standard deviation of the points r_j along each axis, as a fraction of the radius of the particle: those of an even ball have 1 / sqrt 5.
SPREAD = 1 / math.sqrt(5)


@dataclass(frozen=True)
class NetworkSettings:
    """`latent` numbers (0: one map for all), `layers` hidden layers of `width` units, `waves` points r_j, and so 2 `waves` features of a frequency."""

    latent: int = 8
    width: int = 256
    layers: int = 3
    waves: int = 96

    def __post_init__(self) -> None:
        for name, least in (("latent", 0), ("width", 1), ("layers", 0), ("waves", 1)):
            if getattr(self, name) < least:
                raise SettingsProblem(f"a network with {name} {getattr(self, name)}", f"at least {least}")


class NetworkWeights(NamedTuple):
    """The numbers of a network; a tuple with names is a pytree, so JAX differentiates by all of them.

    `points` [w, 3] (voxels; they are not trained), `waves` [2w, u], `latent` [d, u], `bias` [u], `hidden` of matrices [u, u] and biases [u],
    `last` [u, 2], `last_bias` [2].
    """

    points: Any
    waves: Any
    latent: Any
    bias: Any
    hidden: tuple[tuple[Any, Any], ...]
    last: Any
    last_bias: Any


def draw_network(settings: NetworkSettings, radius: float, rng: np.random.Generator) -> NetworkWeights:
    """Weights to start from, float32, for a particle of `radius` voxels. The last layer is 0, so the first answer is the consensus for every latent."""

    def matrix(rows: int, columns: int, gain: float) -> np.ndarray:
        return rng.normal(0, gain / math.sqrt(max(rows, 1)), (rows, columns)).astype(np.float32)

    width = settings.width
    hidden = tuple(
        (matrix(width, width, 1 / math.sqrt(settings.layers)), np.zeros(width, np.float32))
        for _ in range(settings.layers)
    )
    return NetworkWeights(
        points=rng.normal(0, SPREAD * radius, (settings.waves, 3)).astype(np.float32),
        waves=matrix(
            2 * settings.waves, width, 2.0
        ),  # cosines and sines have variance 1/2, and relu keeps half of the power
        latent=matrix(settings.latent, width, 1.0),
        bias=np.zeros(width, np.float32),
        hidden=hidden,
        last=np.zeros((width, 2), np.float32),
        last_bias=np.zeros(2, np.float32),
    )


def network_values(
    weights: NetworkWeights, points: Float[Array, "*batch p 3"], latent: Float[Array, "*batch d"], box: int
) -> Complex[Array, "*batch p"]:
    """`o_1 + i o_2` at frequencies `points` (x, y, z) in cycles per box, for one latent per batch entry; conj o(-k) = o(k) by construction."""
    xp = namespace(points, latent, weights.waves)
    phase = points @ (weights.points.T * np.float32(2 * math.pi / box))
    side = xp.where(points[..., :1] < 0, -1.0, 1.0).astype(points.dtype)
    features = xp.concatenate([xp.cos(phase), side * xp.sin(phase)], axis=-1)
    return output(weights, features, latent, side[..., 0])


def output(weights: NetworkWeights, features: Any, latent: Any, side: Any) -> Any:
    """The network after its features; `side` is -1 where the answer is that of the opposite frequency."""
    xp = namespace(features, latent, weights.waves)
    start = latent @ weights.latent + weights.bias
    hidden = xp.maximum(features @ weights.waves + start[..., None, :], 0)
    for matrix, bias in weights.hidden:
        hidden = xp.maximum(hidden + hidden @ matrix + bias, 0)
    out = hidden @ weights.last + weights.last_bias
    return out[..., 0] + 1j * (side * out[..., 1])
