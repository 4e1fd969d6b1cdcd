"""Clusters of separated blobs are the blobs; centres are particles; numbers do not depend on the order of the particles."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.heterogeneity.label_agreement import adjusted_rand_index
from vitreous.heterogeneity.latent_clusters import k_means_clusters, mixture_clusters

METHODS = [k_means_clusters, mixture_clusters]
CENTRES = np.array([[-6.0, 0, 0], [0, 5, 0], [2, -5, 3], [6, 0, 0]])


@pytest.fixture
def blobs(rng):
    label = rng.integers(0, 4, 240)
    return CENTRES[label] + rng.normal(0, 0.4, (240, 3)), label


@pytest.mark.parametrize("method", METHODS)
def test_separated_blobs_are_found_in_order_of_the_first_component(blobs, method):
    mean, label = blobs
    found = method(mean, 4, seed=1)
    assert adjusted_rand_index(found.label, label) == 1
    assert found.count.tolist() == np.bincount(found.label).tolist()
    # the middle of 60 particles of deviation 0.4 lies within 0.2 of the truth, and a particle is that near to it
    truth = CENTRES[[label[row] for row in found.row]]
    assert np.linalg.norm(mean[found.row] - truth, axis=1).max() < 0.8
    assert np.array_equal(found.label[found.row], np.arange(4))
    assert (np.diff(mean[found.row, 0]) > 0).all() or (np.diff(mean[found.row, 0]) < 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_clusters(rng, method):
    mean = rng.normal(size=(150, 2))
    one, other = method(mean, 5, seed=7), method(mean, 5, seed=7)
    assert np.array_equal(one.label, other.label) and np.array_equal(one.row, other.row)


def test_a_mixture_tells_clouds_apart_that_k_means_cuts(rng):
    """Two long clouds side by side: Gaussians are long, cells of k-means are not."""
    label = np.repeat([0, 1], 200)
    mean = np.column_stack([rng.normal(0, 6, 400), 3.0 * label + rng.normal(0, 0.3, 400)])
    assert adjusted_rand_index(mixture_clusters(mean, 2).label, label) > 0.99
    assert adjusted_rand_index(k_means_clusters(mean, 2).label, label) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_equal_latents_and_more_clusters_than_particles(method):
    mean = np.repeat([[0.0, 1.0], [4.0, 2.0]], 5, axis=0)
    assert len(method(mean, 4)) == 2
    for count in (0, 11):
        with pytest.raises(SettingsProblem, match="clusters of 10 particles"):
            method(mean, count)
