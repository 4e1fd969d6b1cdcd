"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114), on data small enough to watch it learn.

An observation x [p] is made from a latent z [d] that nobody sees:

    z ~ N(0, 1),   x = f(z) + sigma noise.

The likelihood of x, an integral over z, has no closed form when f is a network. For any density q(z) Jensen's inequality bounds it (eq. 3):

    log p(x) = log E_q[p(x | z) p(z) / q(z)]  >=  E_q[log p(x | z)] - KL(q || p(z))  =  ELBO.

What is missing is KL(q || p(z | x)): the bound is exact where q is the posterior. A second network, the encoder, gives for each x the mean and
deviation of a Gaussian q. Networks are trained by gradients, and a gradient has to pass through the draw of z: so the draw is written as a
function of q and of noise that does not depend on it, `z = mean + deviation eps` (section 2.4). Loss: minus the mean ELBO, by Adam.

This module loads JAX, equinox and optax; no command does so before it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitreous.heterogeneity.gaussian_kl import kl_to_standard_normal

Array = Any  # NumPy or JAX


class VariationalAutoencoder(eqx.Module):
    """`encoder`: x [p] -> [2d], mean and log deviation of q. `decoder`: z [d] -> [p], f(z). `log_noise`: log sigma. All are trained."""

    encoder: Callable[[Array], Array]
    decoder: Callable[[Array], Array]
    log_noise: Array


@dataclass(frozen=True)
class FitSettings:
    """`epochs` over the data in batches of `batch`, the Adam step `rate`, which falls to 0 as a cosine, and the `seed` of order and noise."""

    epochs: int = 100
    batch: int = 32
    rate: float = 1e-2
    seed: int = 0


def draw_model(size: int, latent: int, width: int, layers: int, seed: int) -> VariationalAutoencoder:
    """A model of observations of `size` numbers, each network with `layers` hidden layers of `width`; none makes both linear."""
    keys = jax.random.split(jax.random.key(seed))
    encoder = eqx.nn.MLP(size, 2 * latent, width, layers, jax.nn.softplus, key=keys[0])
    decoder = eqx.nn.MLP(latent, size, width, layers, jax.nn.softplus, key=keys[1])
    return VariationalAutoencoder(encoder, decoder, jnp.zeros(()))


def posterior(model: VariationalAutoencoder, x: Array) -> tuple[Array, Array]:
    """Mean and log deviation [d] of q(z | x)."""
    mean, log_deviation = jnp.split(model.encoder(x), 2)
    return mean, log_deviation


def reparameterised(mean: Array, log_deviation: Array, eps: Array) -> Array:
    """A draw from N(mean, deviation^2) as a function of mean and deviation, from `eps` ~ N(0, 1)."""
    return mean + jnp.exp(log_deviation) * eps


def log_likelihood(model: VariationalAutoencoder, x: Array, z: Array) -> Array:
    """`log p(x | z) = -|x - f(z)|^2 / (2 sigma^2) - p log(sigma sqrt(2 pi))`."""
    residual = (x - model.decoder(z)) / jnp.exp(model.log_noise)
    return -jnp.sum(residual**2) / 2 - x.size * (model.log_noise + math.log(2 * math.pi) / 2)


def elbo(model: VariationalAutoencoder, x: Array, eps: Array) -> Array:
    """The bound on log p(x), nat, with the expectation over q as the mean over the draws `eps` [m, d]."""
    mean, log_deviation = posterior(model, x)
    explained = jax.vmap(lambda one: log_likelihood(model, x, reparameterised(mean, log_deviation, one)))(eps)
    return jnp.mean(explained) - kl_to_standard_normal(mean, log_deviation)


def loss(model: VariationalAutoencoder, batch: Array, eps: Array) -> Array:
    """Minus the mean ELBO of a batch [b, p], with draws `eps` [b, m, d]."""
    return -jnp.mean(jax.vmap(lambda x, noise: elbo(model, x, noise))(batch, eps))


def fit(
    model: VariationalAutoencoder, data: np.ndarray, settings: FitSettings
) -> tuple[VariationalAutoencoder, list[float]]:
    """The trained model, and the mean ELBO [nat] of each epoch. `data` [n, p]; one draw of z for each observation and step."""
    batch = min(settings.batch, len(data))
    steps = len(data) // batch  # the observations that are left over in one epoch come in another
    optimiser = optax.adam(optax.cosine_decay_schedule(settings.rate, settings.epochs * steps))
    state = optimiser.init(eqx.filter(model, eqx.is_array))
    latent = model.encoder(data[0]).size // 2

    @eqx.filter_jit
    def step(model: VariationalAutoencoder, state: Any, x: Array, eps: Array) -> Any:
        value, gradient = eqx.filter_value_and_grad(loss)(model, x, eps)
        change, state = optimiser.update(gradient, state)
        return eqx.apply_updates(model, change), state, value

    rng, history = np.random.default_rng(settings.seed), []
    for _ in range(settings.epochs):
        losses = []
        for rows in rng.permutation(len(data))[: steps * batch].reshape(steps, batch):
            eps = rng.standard_normal((batch, 1, latent)).astype(data.dtype)
            model, state, value = step(model, state, data[rows], eps)
            losses.append(value)
        history.append(-float(np.mean(losses)))
    return model, history
