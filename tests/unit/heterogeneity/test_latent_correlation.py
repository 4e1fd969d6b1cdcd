"""Correlation of latents with the truth, and agreement of groups with species."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.heterogeneity.label_agreement import (
    adjusted_rand_index,
    contingency,
    k_means,
    normalised_mutual_information,
)
from vitreous.heterogeneity.latent_correlation import (
    best_coordinate,
    bootstrap,
    explained_variance,
    foretold,
    rank_correlation,
)
from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.reference import landscape_scores as definition


def test_rank_correlation_is_its_definition(rng):
    for x, y in ((rng.normal(size=30), rng.normal(size=30)), (rng.integers(0, 4, 30), rng.integers(0, 5, 30))):
        assert rank_correlation(x, y) == pytest.approx(definition.rank_correlation(x, y), abs=1e-12)
    assert rank_correlation(np.ones(5), np.arange(5.0)) == 0


def test_monotone_functions_change_no_ranks(rng):
    x, y = rng.normal(size=200), rng.normal(size=200)
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1, abs=1e-12)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1, abs=1e-12)
    assert rank_correlation(np.arctan(x), y) == rank_correlation(x, y)


def test_the_first_component_is_the_widest_direction(rng):
    angle = rng.uniform(-1, 1, 400)
    latents = np.outer(angle, [3.0, -4.0, 0]) + rng.normal(0, 0.1, (400, 3)) + 7
    component = principal_components(latents).scores[:, 0]
    assert abs(np.corrcoef(component, angle)[0, 1]) > 0.99
    assert component.mean() == pytest.approx(0, abs=1e-9) and np.ptp(component) == pytest.approx(10, rel=0.05)
    assert rank_correlation(component, angle) < 0  # its largest weight, on the second coordinate, is positive
    assert best_coordinate(np.column_stack([rng.normal(size=400), -angle, angle + rng.normal(size=400)]), angle) == 1


def test_regression_finds_what_no_direction_holds(rng):
    """A latent that goes round a circle: no direction orders it, its neighbours do."""
    turn = rng.uniform(0, 2 * np.pi, 2000)
    latents = np.column_stack([np.cos(turn), np.sin(turn)])
    truth = np.abs(turn - np.pi)
    assert explained_variance(foretold(latents, truth, np.random.default_rng(0)), truth) > 0.99
    assert explained_variance(foretold(rng.normal(size=(2000, 2)), truth, np.random.default_rng(0)), truth) < 0.02
    assert explained_variance(np.full(2000, truth.mean()), truth) == pytest.approx(0, abs=1e-12)
    assert len(foretold(latents[:4], truth[:4], np.random.default_rng(0))) == 4  # fewer particles than neighbours


def test_regression_never_sees_the_particle_itself(rng):
    """A truth of pure noise is not foretold."""
    latents, truth = rng.normal(size=(500, 1)), rng.normal(size=500)
    assert explained_variance(foretold(latents, truth, np.random.default_rng(1)), truth) < 0.05


def test_the_bootstrap_has_the_width_of_the_sampling_error(rng):
    x = rng.normal(size=2000)
    estimate = bootstrap(lambda rows: float(x[rows].mean()), len(x), np.random.default_rng(0))
    assert estimate.low < estimate.value < estimate.high and estimate.value == x.mean()
    # 2 x 1.96 / sqrt(2000), its ends known to a tenth by 200 drawings
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.25)
    again = bootstrap(lambda rows: float(x[rows].mean()), len(x), np.random.default_rng(0))
    assert again == estimate


def test_agreement_of_labels_is_its_definition(rng):
    for a, b in ((rng.integers(0, 4, 50), rng.integers(0, 3, 50)), (np.arange(50) // 10, (np.arange(50) + 3) // 10)):
        assert adjusted_rand_index(a, b) == pytest.approx(definition.adjusted_rand_index(a, b), abs=1e-12)
        expected = definition.normalised_mutual_information(a, b)
        assert normalised_mutual_information(a, b) == pytest.approx(expected, abs=1e-12)
        assert contingency(a, b).sum() == 50


def test_agreement_needs_no_names_and_expects_chance(rng):
    a = rng.integers(0, 4, 5000)
    renamed = np.array([7, 3, 9, 1])[a]
    assert adjusted_rand_index(a, renamed) == 1 and normalised_mutual_information(a, renamed) == pytest.approx(1)
    other = rng.integers(0, 4, 5000)
    assert abs(adjusted_rand_index(a, other)) < 0.005 and normalised_mutual_information(a, other) < 0.005
    one = np.zeros(10, dtype=int)
    assert adjusted_rand_index(one, one) == 1 and normalised_mutual_information(one, one) == 1
    assert normalised_mutual_information(one, np.arange(10) % 2) == 0


def test_k_means_finds_separate_species(rng):
    species = rng.integers(0, 3, 600)
    latents = np.array([[0, 0], [5, 0], [0, 5]])[species] + rng.normal(0, 0.5, (600, 2))
    labels = k_means(latents, 3, seed=1)
    assert adjusted_rand_index(labels, species) == 1 and np.array_equal(labels, k_means(latents, 3, seed=1))
    assert adjusted_rand_index(k_means(np.eye(4)[species], 5, seed=0), species) == 1  # fewer latents than groups
