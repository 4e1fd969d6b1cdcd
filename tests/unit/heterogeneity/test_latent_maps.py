"""Principal components are those of the singular value decomposition; a UMAP keeps neighbours and is the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.heterogeneity.latent_maps import principal_components, umap_coordinates


def test_principal_components_are_those_of_the_singular_value_decomposition(rng):
    mean = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 3
    found = principal_components(mean)
    _, singular, axes = np.linalg.svd(mean - mean.mean(axis=0), full_matrices=False)
    assert np.allclose(found.variance, singular**2 / 49)
    assert np.allclose(np.abs((found.axes * axes).sum(axis=1)), 1)
    assert np.allclose(found.centre + found.scores @ found.axes, mean)
    assert (found.axes[np.arange(4), np.abs(found.axes).argmax(axis=1)] > 0).all()


def test_turned_latents_have_the_same_components(rng):
    mean = rng.normal(size=(60, 3)) * [3, 2, 1]
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    one, other = principal_components(mean), principal_components(mean @ turn)
    assert np.allclose(np.abs(one.scores), np.abs(other.scores))


def test_umap_keeps_groups_together_and_is_the_same_twice(rng):
    label = np.repeat([0, 1], 30)
    mean = rng.normal(size=(60, 3)) * 0.1 + 5 * label[:, None]
    before = mean.copy()
    found = umap_coordinates(mean, seed=3)
    distance = np.linalg.norm(found[:, None] - found, axis=-1) + 1e9 * np.eye(60)
    assert (label[distance.argmin(axis=1)] == label).all()
    assert np.array_equal(found, umap_coordinates(mean, seed=3)) and np.array_equal(mean, before)
    for few in (mean[:10], mean[:, :1]):
        with pytest.raises(DataProblem, match="UMAP"):
            umap_coordinates(few)
