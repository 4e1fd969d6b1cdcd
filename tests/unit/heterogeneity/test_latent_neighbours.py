"""Information imbalance and neighbourhood similarity: definitions, limits, invariances, ties."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.geometry.rotations import random_rotations
from vitreous.heterogeneity import latent_neighbours
from vitreous.heterogeneity.latent_neighbours import (
    information_imbalance,
    neighbourhood_counts,
    neighbourhood_similarity,
)
from vitreous.reference import landscape_scores as definition

COUNTS = (1, 3, 10)


def sets(rng) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    x = rng.normal(size=(40, 3))
    groups = rng.integers(0, 5, 40)
    return {
        "related": (x, x[:, :2] + 0.3 * rng.normal(size=(40, 2))),
        "unrelated": (x, rng.normal(size=(40, 1))),
        "truth in steps": (x, groups[:, None].astype(float)),
        "classes": (np.eye(5)[groups], x),
        "both in steps": (np.eye(5)[groups], (groups // 2)[:, None].astype(float)),
        "single precision": (x.astype(np.float32), x.round(1)),
    }


@pytest.mark.parametrize("name", sets(np.random.default_rng(0)))
def test_measures_are_their_definitions(rng, name, monkeypatch):
    a, b = sets(rng)[name]
    monkeypatch.setattr(latent_neighbours, "DISTANCES_AT_ONCE", 7 * len(a))  # in several chunks
    assert information_imbalance(a, b) == pytest.approx(definition.information_imbalance(a, b), rel=1e-12)
    found = neighbourhood_similarity(a, b, COUNTS)
    expected = [definition.neighbourhood_similarity(a, b, count) for count in COUNTS]
    np.testing.assert_allclose(found.similarity, expected, rtol=1e-12)


def test_equal_spaces_are_perfect(rng):
    x = rng.normal(size=(300, 2))
    assert information_imbalance(x, x) == pytest.approx(2 / 300)
    assert (neighbourhood_similarity(x, x, COUNTS).similarity == 1).all()


def test_random_latents_score_what_is_expected_of_them(rng):
    a, b = rng.normal(size=(1000, 4)), rng.uniform(size=(1000, 1))
    # the mean of 1,000 ranks, each even between 1 and 999: 1 +- 0.58 / sqrt(1000)
    assert information_imbalance(a, b) == pytest.approx(1, abs=0.07)
    assert information_imbalance(b, a) == pytest.approx(1, abs=0.07)
    found = neighbourhood_similarity(a, b, (10, 100, 999))
    np.testing.assert_allclose(found.expected, np.array([10, 100, 999]) / 999)
    np.testing.assert_allclose(found.similarity, found.expected, rtol=0.15)
    assert found.similarity[-1] == 1


def test_random_latents_and_a_truth_in_steps(rng):
    a, b = rng.normal(size=(1000, 2)), rng.integers(0, 10, 1000)[:, None].astype(float)
    assert information_imbalance(a, b) == pytest.approx(1, abs=0.07)
    found = neighbourhood_similarity(a, b, (10, 50))
    assert (found.expected > 0.08).all()  # a tenth of all particles are as near as the nearest
    np.testing.assert_allclose(found.similarity, found.expected, rtol=0.06)
    # the least that any latents can reach, and latents in the same order as the truth reach it
    floor = information_imbalance(b, b)
    assert floor == pytest.approx(0.1, abs=0.01)
    assert information_imbalance(b + 1e-3 * rng.uniform(size=b.shape), b) == pytest.approx(floor, rel=1e-12)
    assert (neighbourhood_similarity(b + 1e-3 * rng.uniform(size=b.shape), b, (10, 50)).similarity == 1).all()


def test_what_forgets_is_told_apart_from_what_is_unrelated(rng):
    """One coordinate of two: the pair foretells the one, the one does not foretell the pair."""
    both = rng.uniform(size=(500, 2))
    one = both[:, :1]
    assert information_imbalance(both, one) < 0.15 < 0.4 < information_imbalance(one, both)


def test_scale_rotation_and_shift_change_nothing(rng):
    a, b = rng.normal(size=(150, 3)), rng.uniform(size=(150, 1))
    turned = 3.7 * a @ random_rotations(1, rng)[0] - 5
    assert information_imbalance(turned, b) == information_imbalance(a, b)
    assert information_imbalance(b, turned) == information_imbalance(b, a)
    one, other = (neighbourhood_similarity(latents, -2 * b + 1, COUNTS).similarity for latents in (a, turned))
    assert np.array_equal(one, other)


def test_the_order_of_particles_does_not_matter(rng):
    a, b = rng.normal(size=(80, 2)), rng.integers(0, 6, 80)[:, None].astype(float)
    order = rng.permutation(80)
    assert information_imbalance(a[order], b[order]) == pytest.approx(information_imbalance(a, b), rel=1e-12)
    pair = [neighbourhood_similarity(a[o], b[o], COUNTS).similarity for o in (order, slice(None))]
    np.testing.assert_allclose(*pair, rtol=1e-12)


def test_bad_points_are_refused(rng):
    a = rng.normal(size=(20, 2))
    for other in (a[:-1], a[:, 0], np.full((20, 1), np.nan)):
        with pytest.raises(DataProblem):
            information_imbalance(a, other)
    with pytest.raises(DataProblem, match="1 to 19"):
        neighbourhood_similarity(a, a, (20,))


def test_neighbourhoods_are_fractions_of_the_particles():
    assert neighbourhood_counts(1000, (0.001, 0.01, 0.1)).tolist() == [1, 10, 100]
    assert neighbourhood_counts(20, (0.001, 0.01, 1.0)).tolist() == [1, 19]
