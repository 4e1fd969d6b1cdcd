"""Points inside polygons: against areas and a definition by angles, and polygons that share edges share no points."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.heterogeneity.polygon import inside_polygon

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def winding(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """How often a polygon goes round each point, by the sum of the angles of its edges."""
    toward = corners[None] - points[:, None]
    angle = np.arctan2(toward[..., 1], toward[..., 0])
    steps = np.roll(angle, -1, axis=1) - angle
    return np.rint(((steps + np.pi) % (2 * np.pi) - np.pi).sum(axis=1) / (2 * np.pi)).astype(int)


def test_it_is_the_parity_of_the_winding_number(rng):
    points = rng.uniform(-2, 2, (2000, 2))
    for count in (3, 5, 9):  # of random corners: edges cross
        corners = rng.normal(size=(count, 2))
        assert np.array_equal(inside_polygon(points, corners), winding(points, corners) % 2 == 1)


def test_neither_the_direction_nor_the_first_corner_matters(rng):
    points, corners = rng.uniform(-2, 2, (500, 2)), rng.normal(size=(6, 2))
    inside = inside_polygon(points, corners)
    for other in (corners[::-1], np.roll(corners, 2, axis=0), np.concatenate([corners, corners[:1]])):
        assert np.array_equal(inside_polygon(points, other), inside)


def test_neighbouring_polygons_share_no_points_and_leave_none_out():
    """On a lattice that has points on all edges and corners."""
    axis = np.linspace(0, 2, 9)
    points = np.stack([part.ravel() for part in np.meshgrid(axis, axis)], axis=-1)
    tiles = [SQUARE + offset for offset in ([0, 0], [1, 0], [0, 1], [1, 1])]
    times = sum(inside_polygon(points, tile).astype(int) for tile in tiles)
    assert (times[(points < 2).all(axis=1)] == 1).all() and (times[(points == 2).any(axis=1)] == 0).all()
    halves = SQUARE[[0, 1, 2]], SQUARE[[0, 2, 3]]
    assert sum(inside_polygon(points, half).astype(int) for half in halves).max() == 1


def test_what_is_enclosed_twice_is_outside():
    star = np.array([[np.sin(a), np.cos(a)] for a in 2 * np.pi * np.arange(5) * 2 / 5])
    assert not inside_polygon(np.zeros((1, 2)), star)[0]
    assert inside_polygon(np.array([[0.0, 0.8]]), star)[0]


def test_flat_polygons_hold_nothing_and_two_corners_are_none():
    assert not inside_polygon(np.array([[0.5, 0.0], [0.2, 0.0]]), np.array([[0, 0], [1, 0], [0.5, 0]])).any()
    with pytest.raises(SettingsProblem, match="2 corners"):
        inside_polygon(np.zeros((1, 2)), SQUARE[:2])
