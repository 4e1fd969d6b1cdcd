"""The posterior of a particle's turn in the plane and of its origin: all of a grid of them, scored by the decoder's likelihood.

An encoder that answers with one angle follows a gradient from a random start, and stops at the nearest angle that looks a little like the right
one. Here every angle and origin of a grid has its probability,

    q(psi, o) = softmax of log mean_m exp(log p(y | psi, o, z_m)),

with the latents z_m of a few places of the prior. Any q gives a bound on the likelihood; this one is the posterior itself, but for the grid and the
few latents. With a uniform prior over the grid, KL(q || prior) = log(number of grid points) - entropy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.heterogeneity.coordinate_network import NetworkWeights
from vitreous.heterogeneity.spatial_vae import ImagePlane, transform

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

APART = 1.2  # deviations of the prior between the middle latent and the others that turns are scored with
AROUND = 2  # steps of the grid to each side of the best turn that belong to it


@dataclass(frozen=True)
class TurnGrid:
    """`psi` [K] radian, even steps around the circle, and `origin` [S, 2] pixels."""

    psi: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.psi) * len(self.origin)


def turn_grid(turns: int, reach: float, step: float, offset: tuple[float, float, float] = (0, 0, 0)) -> TurnGrid:
    """`turns` angles, and origins up to `reach` pixels in x and y with this `step`; all moved by `offset` steps (angle, x, y)."""
    psi = 2 * np.pi / turns * (np.arange(turns) + offset[0])
    side = int(reach / step + 1e-9) if step > 0 else 0
    line = step * np.arange(-side, side + 1)
    origin = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    if side:
        origin = origin + step * np.array(offset[1:])
    return TurnGrid(psi.astype(np.float32), origin.astype(np.float32))


def scoring_latents(dimensions: int) -> Float[np.ndarray, "m d"]:
    """The middle of the prior and two places along each axis: m = 1 + 2d."""
    axes = APART * np.eye(dimensions)
    return np.concatenate([np.zeros((1, dimensions)), axes, -axes]).astype(np.float32)


def scores(
    values: Complex[Array, "n p"],
    transfer: Float[Array, "n p"],
    templates: Complex[Array, "m K p"],
    frequencies: Float[Array, "p 2"],
    origin: Float[Array, "S 2"],
    box: int,
) -> Float[Array, "n K S"]:
    """`log mean_m exp(sum_k 2 Re conj(y) a - |a|^2)` for each particle, turn and origin, a = C exp(2 pi i k . o / box) T."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.special import logsumexp

    phase = np.float32(2 * np.pi / box) * (frequencies @ origin.T)
    waves = jnp.concatenate([jnp.cos(phase), -jnp.sin(phase)])  # [2p, S]
    power = templates.real**2 + templates.imag**2

    def one(image: tuple[Array, Array]) -> Array:
        value, factor = image
        product = jnp.conj(value) * factor * templates
        match = jnp.concatenate([product.real, product.imag], axis=-1) @ waves
        return logsumexp(2 * match - (power @ factor**2)[..., None], axis=0) - math.log(len(templates))

    return jax.lax.map(one, (values, transfer))


@lru_cache(maxsize=4)
def compiled_scoring(plane: ImagePlane) -> tuple[Any, Any]:
    """(templates [m, K, p] of a decoder at latents and angles, scores of particles by them), compiled; of the pixels that the encoder looks at."""
    import jax

    near = plane.near
    frequencies = plane.frequencies[:near]

    def templates(decoder: NetworkWeights, latents: Array, psi: Array) -> Array:
        def of_latent(latent: Array) -> Array:
            return jax.lax.map(lambda angle: transform(decoder, plane, latent, angle)[:near], psi)

        return jax.lax.map(of_latent, latents)

    def scored(values: Array, transfer: Array, templates: Array, origin: Array) -> Array:
        return scores(values[:, :near], transfer[:, :near], templates, frequencies, origin, plane.box)

    return jax.jit(templates), jax.jit(scored)


def probabilities(found: Float[np.ndarray, "n K S"]) -> Float[np.ndarray, "n K S"]:
    """Softmax over turns and origins, float64."""
    found = np.asarray(found, np.float64)
    weights = np.exp(found - found.max(axis=(1, 2), keepdims=True))
    return weights / weights.sum(axis=(1, 2), keepdims=True)


def divergence(posterior: Float[np.ndarray, "n K S"]) -> Float[np.ndarray, " n"]:
    """KL of q from the uniform prior over the grid, nat."""
    log = np.log(np.where(posterior > 0, posterior, 1))
    return np.log(posterior[0].size) + (posterior * log).sum(axis=(1, 2))


def drawn(
    posterior: Float[np.ndarray, "n K S"], grid: TurnGrid, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One psi [n] and origin [n, 2] for each particle, drawn from q."""
    sums = np.cumsum(posterior.reshape(len(posterior), -1), axis=1)
    chance = rng.random((len(posterior), 1)) * sums[:, -1:]
    number = np.minimum((sums < chance).sum(axis=1), len(grid) - 1)
    turn, place = np.divmod(number, len(grid.origin))
    return grid.psi[turn], grid.origin[place]


@dataclass(frozen=True)
class FoundTurns:
    """`psi` [n] radian, `origin` [n, 2] pixels, and the `probability` [n] of that turn."""

    psi: np.ndarray
    origin: np.ndarray
    probability: np.ndarray


def found_turns(posterior: Float[np.ndarray, "n K S"], grid: TurnGrid) -> FoundTurns:
    """The best turn and the origin: means of q over the turns within AROUND steps of the most probable one."""
    by_turn = posterior.sum(axis=2)
    count = by_turn.shape[1]
    best = by_turn.argmax(axis=1)
    reach = min(AROUND, (count - 1) // 2)
    steps = np.arange(-reach, reach + 1)
    members = (best[:, None] + steps) % count
    rows = np.arange(len(best))[:, None]
    weight = by_turn[rows, members]
    total = weight.sum(axis=1)
    psi = grid.psi[best] + 2 * np.pi / count * (weight @ steps) / total
    by_place = posterior[rows, members].sum(axis=1)
    origin = by_place @ grid.origin / total[:, None]
    return FoundTurns(np.mod(psi + np.pi, 2 * np.pi) - np.pi, origin, total)
