"""A path through the data is the shortest one of its graph, follows a bend where the straight one leaves the data, and ends where it should."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.heterogeneity.latent_paths import (
    STEP_POWER,
    geodesic_path,
    geodesic_rows,
    neighbour_distance,
    path_of,
    straight_path,
)


def test_the_path_is_the_shortest_of_all(rng):
    """Against every order of every choice of steps, all particles being neighbours."""
    mean = rng.normal(size=(6, 2))
    length = np.linalg.norm(mean[:, None] - mean, axis=-1) ** STEP_POWER
    every = [(0, *middle, 5) for count in range(5) for middle in permutations(range(1, 5), count)]
    best = min(every, key=lambda rows: sum(length[a, b] for a, b in pairwise(rows)))
    assert geodesic_rows(mean, (0, 5), neighbours=5).tolist() == list(best)


def test_the_path_follows_the_bend_and_the_straight_one_leaves_it(horseshoe):
    mean = horseshoe(400)
    angle = np.arctan2(mean[:, 1], mean[:, 0])
    ends = int(angle.argmin()), int(angle.argmax())
    through, straight = geodesic_path(mean, ends, 20), straight_path(mean, ends, 20)
    for path in (through, straight):
        assert np.allclose(path.points[[0, -1]], mean[list(ends)]) and path.distance[[0, -1]].max() < 1e-12
    radius = np.linalg.norm(through.points, axis=1)
    assert np.abs(radius - 2).max() < 0.35  # the ring is 0.1 wide
    near = neighbour_distance(mean, 99)
    assert (through.distance <= near).mean() > 0.9 and (straight.distance > near).mean() > 0.5
    steps = np.linalg.norm(np.diff(straight.points, axis=0), axis=1)
    assert np.allclose(steps, steps[0])


def test_noise_inside_a_bend_does_not_tempt_the_path_across(rng):
    """A crowded ring and a thin cloud within: the straight way has neighbours all along, the ring has more."""
    angle = rng.uniform(0, np.pi, 1500)
    ring = 3 * np.stack([np.cos(angle), np.sin(angle)], axis=-1) + rng.normal(0, 0.15, (1500, 2))
    inside = rng.uniform((-3, 0), (3, 3), (250, 2))
    mean = np.concatenate([[[3.0, 0.0], [-3.0, 0.0]], ring, inside])
    path = geodesic_path(mean, (0, 1), 15)
    assert path.points[7, 1] > 2


def test_parts_without_a_link_are_reached_over_more_neighbours(rng):
    mean = np.concatenate([rng.normal(0, 0.1, (20, 2)), rng.normal(9, 0.1, (20, 2)), rng.normal(5, 0.1, (3, 2))])
    rows = geodesic_rows(mean, (0, 39), neighbours=2)
    assert rows[0] == 0 and rows[-1] == 39
    assert set(rows) & {40, 41, 42}  # by the group between, in two steps of half the length


def test_stops_are_visited_in_turn_and_equal_particles_are_no_obstacle(rng):
    mean = np.repeat(rng.normal(size=(15, 3)), 2, axis=0)
    rows = geodesic_rows(mean, (3, 20, 8, 3), neighbours=4).tolist()
    assert rows[0] == 3 and rows[-1] == 3 and rows.index(20) < rows.index(8)


def test_one_coordinate_and_what_cannot_be():
    mean = np.arange(10.0)[:, None]
    assert np.allclose(geodesic_path(mean, (0, 9), 4, neighbours=1).points[:, 0], [0, 3, 6, 9])
    assert neighbour_distance(mean, 50) == 1 and neighbour_distance(mean[:1], 50) == 0
    with pytest.raises(SettingsProblem):
        path_of(mean, mean[:2], 1)
    with pytest.raises(SettingsProblem):
        geodesic_rows(mean, (0, 9), neighbours=0)
