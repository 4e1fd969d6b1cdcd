"""The density is the sum of its kernels, integrates to 1, and its error bars are as wide as densities of other draws differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from vitreous.errors import DataProblem
from vitreous.heterogeneity.latent_density import kernel_density, line_of, occupancy, scott_bandwidth


def drawn(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two humps, and covariances of particles that are known more or less well."""
    mean = np.where(rng.random(count) < 0.7, -1.5, 1.5)[:, None] + rng.normal(0, 0.5, (count, 1))
    return mean, rng.uniform(0.05, 0.4, (count, 1, 1))


def test_the_density_is_the_mean_of_its_kernels(rng):
    mean, points = rng.normal(size=(7, 2)), rng.normal(size=(5, 2))
    half = rng.normal(size=(7, 2, 2))
    covariance = half @ half.transpose(0, 2, 1)
    bandwidth = np.array([[0.3, 0.1], [0.1, 0.2]])
    kernels = np.array(
        [multivariate_normal(m, c + bandwidth).pdf(points) for m, c in zip(mean, covariance, strict=True)]
    )
    found = kernel_density(mean, covariance, points, bandwidth)
    assert np.allclose(found.value, kernels.mean(axis=0))
    assert np.allclose(found.error, kernels.std(axis=0, ddof=1) / np.sqrt(7))
    peak = found.value.argmax()
    energy = occupancy(mean, covariance, found, bandwidth)
    assert np.allclose(energy.energy, -np.log(found.value / found.value[peak]))
    # first order in the kernels: the log ratio moves by K_i(x)/p(x) - K_i(peak)/q
    moves = kernels / found.value - kernels[:, [peak]] / found.value[peak]
    assert np.allclose(energy.error, moves.std(axis=0, ddof=1) / np.sqrt(7))
    assert energy.energy[peak] == 0 == energy.error[peak]


def test_the_density_integrates_to_one(rng):
    mean, covariance = drawn(200, rng)
    x = np.linspace(-8, 8, 1601)
    found = kernel_density(mean, covariance, x[:, None], scott_bandwidth(mean))
    assert np.trapezoid(found.value, x) == pytest.approx(1, abs=1e-6)
    both = np.column_stack([mean, rng.normal(size=200)])
    axis = np.linspace(-7, 7, 141)
    grid = np.stack([part.ravel() for part in np.meshgrid(axis, axis)], axis=-1)
    plane = kernel_density(both, covariance * np.eye(2), grid, scott_bandwidth(both))
    assert plane.value.sum() * 0.1**2 == pytest.approx(1, abs=1e-3)


def test_what_is_badly_known_is_spread(rng):
    mean, covariance = drawn(300, rng)
    x = np.linspace(-6, 6, 601)[:, None]
    sharp, wide = (kernel_density(mean, c, x, scott_bandwidth(mean)).value for c in (0 * covariance, 4 * covariance))
    assert sharp.max() > wide.max()
    spread = [float((x[:, 0] ** 2 * p).sum() / p.sum()) for p in (sharp, wide)]
    assert spread[1] - spread[0] == pytest.approx(float(4 * covariance.mean()), rel=0.05)


def test_error_bars_cover_other_draws(rng):
    """Of many samples: the 95 % bars hold the mean of all in 95 % of cases; 200 draws know that to 1.5 % a point."""
    points, bandwidth = np.linspace(-3, 3, 9)[:, None], np.array([[0.1]])
    samples = [drawn(150, rng) for _ in range(200)]
    found = [kernel_density(*sample, points, bandwidth) for sample in samples]
    values = np.array([one.value for one in found])
    covered = np.abs(values - values.mean(axis=0)) < 1.96 * np.array([one.error for one in found])
    assert 0.92 < covered.mean() < 0.97
    energies = [occupancy(*sample, one, bandwidth) for sample, one in zip(samples, found, strict=True)]
    apart = np.array([one.energy[6] - one.energy[2] for one in energies])  # between the humps
    peak = [one.value.argmax() == 2 for one in found]
    errors = np.array([one.error[6] for one in energies])[peak]
    assert errors.mean() == pytest.approx(apart[peak].std(), rel=0.2)


def test_equal_latents_have_a_density_and_one_particle_has_none():
    mean = np.zeros((5, 1))
    places = line_of(mean[:, 0], np.full(5, 0.2), 0.0, 11)
    found = kernel_density(mean, np.full((5, 1, 1), 0.2), places[:, None], scott_bandwidth(mean))
    assert np.isfinite(found.value).all() and places[5] == pytest.approx(0)
    with pytest.raises(DataProblem, match="at least 2"):
        kernel_density(mean[:1], np.ones((1, 1, 1)), mean[:1], np.eye(1))
