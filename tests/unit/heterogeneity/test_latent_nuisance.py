"""What latents must not depend on is found where they do."""

from __future__ import annotations

import numpy as np

from vitreous.heterogeneity.latent_nuisance import nuisance_correlations


def test_dependence_is_found_and_chance_is_named(rng):
    scores = rng.normal(size=(1500, 2))
    view = rng.normal(size=(1500, 3))
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    scores[:, 1] += 5 * view[:, 2] ** 2  # even in the direction: no rank correlation shows it
    numbers = {"defocus": np.exp(-scores[:, 0]), "origin": rng.normal(size=1500)}
    found = nuisance_correlations(scores, numbers, view)
    assert found.names == ("defocus", "origin")
    assert found.correlation[0, 0] > 1 - 1e-12
    assert found.correlation[1].max() < found.chance < 0.1
    assert found.by_view[0] < 0.05 and found.by_view[1] > 0.5
    again = nuisance_correlations(scores, numbers, view)
    assert np.array_equal(found.by_view, again.by_view)


def test_without_numbers_the_table_is_empty(rng):
    found = nuisance_correlations(rng.normal(size=(10, 3)), {})
    assert found.correlation.shape == (0, 3) and found.by_view is None
