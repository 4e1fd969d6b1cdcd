"""The variational autoencoder against what is known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.heterogeneity.gaussian_kl import kl_to_standard_normal
from vitreous.heterogeneity.vae import FitSettings, draw_model, elbo, fit, posterior, reparameterised
from vitreous.reference import drgn as definition
from vitreous.reference import vae as reference

SIZE, LATENT, COUNT = 5, 2, 400


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    """Observations of a linear model: two directions, noise of deviation 0.5, and a mean."""
    rng = np.random.default_rng(5)
    loadings = np.array([[2.0, 0], [1, 1], [0, 1.5], [-1, 0.5], [0.5, 0]])
    return rng.normal(size=(COUNT, LATENT)) @ loadings.T + 0.5 * rng.normal(size=(COUNT, SIZE)) + np.arange(SIZE)


@pytest.fixture(scope="module")
def optimum(data):
    return reference.ppca_optimum(data, LATENT)


def at_the_optimum(optimum):
    """A linear autoencoder, float64, whose encoder answers with the exact posterior of the optimal linear decoder."""
    mean, loadings, sigma = optimum
    model = draw_model(SIZE, LATENT, 1, 0, seed=0)
    gain = np.linalg.inv(loadings.T @ loadings + sigma**2 * np.eye(LATENT)) @ loadings.T
    _, covariance = reference.ppca_posterior(mean, *optimum)
    # the columns of the optimal loadings are orthogonal: the posterior's covariance is diagonal, so that q can be exact
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-12)
    matrix = np.concatenate([gain, np.zeros((LATENT, SIZE))])
    bias = np.concatenate([-gain @ mean, np.log(np.diag(covariance)) / 2])
    parts = (matrix, bias, loadings, mean, np.log(sigma))
    return eqx.tree_at(
        lambda m: (
            m.encoder.layers[0].weight,
            m.encoder.layers[0].bias,
            m.decoder.layers[0].weight,
            m.decoder.layers[0].bias,
            m.log_noise,
        ),
        model,
        tuple(jnp.asarray(part) for part in parts),
    )


def mean_elbo(model, data):
    """With the expectation over q exact: the logarithm of a linear Gaussian likelihood is a quadratic of the draw."""
    eps = reference.sigma_points(LATENT).astype(data.dtype)
    return jnp.mean(jax.vmap(lambda x: elbo(model, x, eps))(jnp.asarray(data)))


def test_the_bound_is_the_likelihood_where_the_encoder_is_the_posterior(data, optimum):
    with jax.enable_x64(True):
        model = at_the_optimum(optimum)
        found = float(mean_elbo(model, data))
        assert found == pytest.approx(reference.ppca_log_likelihood(data, *optimum), abs=1e-6)
        # it is a maximum: no small change of any parameter makes the bound larger
        slope = eqx.filter_grad(mean_elbo)(model, data)
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-6


def test_elsewhere_the_bound_misses_the_likelihood_by_the_divergence_from_the_posterior(data, optimum):
    with jax.enable_x64(True):
        model, shift = at_the_optimum(optimum), 0.3
        moved = eqx.tree_at(lambda m: m.encoder.layers[0].bias, model, model.encoder.layers[0].bias.at[0].add(shift))
        _, covariance = reference.ppca_posterior(data[0], *optimum)
        missed = float(mean_elbo(model, data) - mean_elbo(moved, data))
        assert missed == pytest.approx(shift**2 / (2 * covariance[0, 0]), rel=1e-9)


def test_training_reaches_the_exact_likelihood(data, optimum):
    model, history = fit(
        draw_model(SIZE, LATENT, 1, 0, seed=1), data.astype(np.float32), FitSettings(epochs=300, rate=3e-2)
    )
    exact = reference.ppca_log_likelihood(data, *optimum)
    found = float(mean_elbo(model, data.astype(np.float32)))
    # 0.01 nat: what is left of the noise of single draws when the rate has fallen to 0; never above but for single precision
    assert exact - 0.01 < found < exact + 1e-4
    assert history[0] < history[-1] - 1
    _, loadings, sigma = optimum
    assert float(jnp.exp(model.log_noise)) == pytest.approx(sigma, rel=0.03)
    learned = np.asarray(model.decoder.layers[0].weight)
    cosines = np.linalg.svd(np.linalg.qr(learned)[0].T @ np.linalg.qr(loadings)[0], compute_uv=False)
    assert cosines.min() > 0.995


def test_a_network_beats_every_linear_model_on_a_curve():
    """Points on a bent line: two hidden layers explain them better than the best straight one."""
    rng = np.random.default_rng(2)
    t = rng.normal(size=600)
    data = np.stack([t, t**2, np.sin(2 * t)], axis=1) + 0.1 * rng.normal(size=(600, 3))
    _, history = fit(draw_model(3, 1, 24, 2, seed=0), data.astype(np.float32), FitSettings(epochs=150, rate=2e-2))
    assert history[-1] > reference.ppca_log_likelihood(data, *reference.ppca_optimum(data, 1)) + 0.3


def test_the_gradient_through_the_draw_is_exact_for_a_quadratic():
    """E[z'Az + b'z] = m'Am + tr(A S) + b'm: gradients 2Am + b by the mean, 2 A_jj S_jj by the log deviations."""
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3, 3))
    matrix, slope = matrix + matrix.T, rng.normal(size=3)
    mean, log_deviation = rng.normal(size=3), rng.normal(size=3) / 2

    def expectation(mean, log_deviation, eps):
        z = jax.vmap(lambda one: reparameterised(mean, log_deviation, one))(eps)
        return jnp.mean(jnp.einsum("mi,ij,mj->m", z, matrix, z) + z @ slope)

    by_mean, by_deviation = 2 * matrix @ mean + slope, 2 * np.diag(matrix) * np.exp(2 * log_deviation)
    with jax.enable_x64(True):
        gradient = jax.grad(expectation, argnums=(0, 1))
        exact = gradient(mean, log_deviation, reference.sigma_points(3))
        np.testing.assert_allclose(exact[0], by_mean, rtol=1e-12)
        np.testing.assert_allclose(exact[1], by_deviation, rtol=1e-12)
        drawn = gradient(mean, log_deviation, rng.standard_normal((200_000, 3)))
    # the mean over 200,000 draws of numbers of deviation up to 30
    np.testing.assert_allclose(drawn[0], by_mean, atol=0.3)
    np.testing.assert_allclose(drawn[1], by_deviation, atol=0.3)


def test_divergence_against_its_integral():
    mean, log_deviation = np.array([0.7, -2.0, 0.0]), np.array([-0.5, 0.3, 0.0])
    # trapezoids of a smooth function over 12 deviations
    assert kl_to_standard_normal(mean, log_deviation) == pytest.approx(
        definition.divergence(mean, np.exp(log_deviation)), abs=1e-6
    )
    assert kl_to_standard_normal(np.zeros(3), np.zeros(3)) == 0


def test_a_seed_repeats_to_the_bit_and_another_does_not(data):
    few = data[:64].astype(np.float32)

    def trained(seed: int):
        model, history = fit(draw_model(SIZE, LATENT, 8, 1, seed), few, FitSettings(epochs=3, seed=seed))
        return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))], history

    (one, history), (again, same), (other, _) = trained(4), trained(4), trained(5)
    assert history == same and all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_the_encoder_answers_with_mean_and_log_deviation():
    model = draw_model(SIZE, LATENT, 8, 1, seed=0)
    mean, log_deviation = posterior(model, jnp.ones(SIZE))
    np.testing.assert_array_equal(jnp.concatenate([mean, log_deviation]), model.encoder(jnp.ones(SIZE)))
