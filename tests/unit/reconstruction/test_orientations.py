"""Viewing directions on the sphere and the efficiency of their spread."""

from __future__ import annotations

import healpix
import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler, random_rotations, view_direction
from vitreous.geometry.symmetry import point_group
from vitreous.reconstruction.orientations import (
    count_planes,
    gather,
    half_sphere,
    orientation_coverage,
    sampling_compensation,
    sampling_compensation_of_chance,
    symmetry_copies,
    view_density,
)


def random_views(count: int, seed: int = 0, squeeze: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    views = np.random.default_rng(seed).standard_normal((count, 3)) * squeeze
    return views / np.linalg.norm(views, axis=1, keepdims=True)


def test_counts_are_the_definition():
    points, views = half_sphere(60), random_views(300)
    expected = [sum(abs(float(p @ d)) * 20 < 0.5 for d in views) for p in points]
    # the boundary of the slab is hit with single precision
    np.testing.assert_allclose(count_planes(points, views, 20.0), expected, atol=1)
    weights = np.full(300, 2.5)
    np.testing.assert_allclose(
        count_planes(points, views, 20.0, weights=weights), 2.5 * count_planes(points, views, 20.0), rtol=1e-5
    )


def test_points_are_spread_evenly():
    points = half_sphere(3000)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    assert (points[:, 2] > 0).all()
    # second moments of an even half sphere: 1/3 each, none mixed
    np.testing.assert_allclose(points.T @ points / 3000, np.eye(3) / 3, atol=2e-3)


def test_even_views_are_fully_efficient():
    views = half_sphere(20_000)
    coverage = orientation_coverage(views)
    assert coverage.efficiency == pytest.approx(1, abs=0.005)  # 200 planes a point, evenly laid
    assert coverage.unsampled == 0 and coverage.views == 20_000


def test_side_views_have_the_analytic_efficiency():
    """Views round the equator sample a point at polar angle theta as 1/sin(theta): 1/SCF = <1/sin> <sin> = pi^2/8."""
    angle = np.arange(20_000) * 2 * np.pi / 20_000
    views = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    # the slab is 1/100 of a radian wide, so the pole itself is 1 % off; 2000 points give another fraction of a per cent
    assert orientation_coverage(views).efficiency == pytest.approx(8 / np.pi**2, rel=0.01)


def test_one_view_leaves_nearly_all_dark():
    coverage = orientation_coverage(np.array([[0.0, 0.0, 1.0]]), fourier_radius=20)
    # a slab of half-width 1/40 holds this fraction of the sphere; 2000 points: 50 of them
    assert coverage.unsampled == pytest.approx(1 - 1 / 40, abs=0.002)
    # s = 1 in a fraction p = 1/40 of the points, so <s> = p, and 1/SCF* = p (1 + (1 - p) / p / 2)
    p = 1 - coverage.unsampled
    assert coverage.efficiency == pytest.approx(1 / (p + (1 - p) / 2), rel=1e-6)


def test_formula_by_hand():
    sampling = np.array([0.0, 1.0, 2.0, 4.0])
    reciprocal = (1 + 0.5 + 0.25) / 3
    assert sampling_compensation(sampling) == pytest.approx(1 / (7 / 4 * (reciprocal + 0.25 / 0.75 / 2)))
    assert sampling_compensation(np.array([3.0, 3.0])) == pytest.approx(1)
    assert sampling_compensation(np.zeros(4)) == 0


@pytest.mark.parametrize("count", [150, 1000, 10_000])
def test_random_views_have_the_efficiency_of_chance(count):
    results = [orientation_coverage(random_views(count, seed)) for seed in range(4)]
    mean = np.mean([result.efficiency for result in results])
    # a draw of 150 views scatters by about 2 %, larger ones less
    assert mean == pytest.approx(results[0].efficiency_if_even, abs=0.03 if count < 1000 else 0.01)


def test_chance_joins_its_limit():
    assert sampling_compensation_of_chance(299.0) == pytest.approx(1 - 1 / 299, abs=2e-5)
    assert sampling_compensation_of_chance(301.0) == 1 - 1 / 301


def test_gathered_views_count_as_single_ones():
    views = random_views(30_000, squeeze=(1, 1, 0.3))
    points = half_sphere(1000)
    cells, weights = gather(views, 64)
    assert weights.sum() == 30_000
    single, together = count_planes(points, views, 50.0), count_planes(points, cells, 50.0, weights=weights)
    assert sampling_compensation(together) == pytest.approx(sampling_compensation(single), rel=0.01)
    assert sampling_compensation(single) < 0.95  # the views are uneven enough for the test to mean something


def test_preferred_views_cost_efficiency_and_symmetry_helps():
    top = random_views(3000, squeeze=(0.3, 0.3, 1))
    alone = orientation_coverage(top)
    cubic = orientation_coverage(top, operators=point_group("O").operators)
    assert alone.efficiency < 0.75 < cubic.efficiency
    assert cubic.views == 24 * 3000


def test_turning_the_object_does_not_matter():
    views = random_views(4000, squeeze=(1, 0.5, 0.2))
    rotation = random_rotations(1, np.random.default_rng(3))[0]
    turned = orientation_coverage(views @ rotation.T)
    assert turned.efficiency == pytest.approx(orientation_coverage(views).efficiency, abs=0.01)


def test_views_are_where_the_poses_say():
    rot, tilt = np.radians(40.0), np.radians(70.0)
    direction = view_direction(matrix_from_euler(np.array([[rot, tilt, 1.1]])))
    density = view_density(direction, 8)
    assert density.argmax() == healpix.ang2pix(8, tilt, rot)
    assert density.argmax() != healpix.ang2pix(8, tilt, -rot)
    assert density.mean() == pytest.approx(1)


def test_symmetry_copies_see_the_same():
    """The copies of a point are seen at the same heights from every copy of a view."""
    group = point_group("D3").operators
    atoms = np.einsum("mij,j->mi", group, np.array([1.0, 2.0, 0.5]))
    view = random_views(1)
    copies = symmetry_copies(view, group)
    heights = np.sort(atoms @ copies.T, axis=0)
    np.testing.assert_allclose(heights - heights[:, :1], 0, atol=1e-12)


def test_fineness_follows_the_number_of_views():
    assert [orientation_coverage(random_views(n)).n_side for n in (100, 4000, 15_000, 60_000)] == [4, 8, 16, 32]
    assert orientation_coverage(random_views(100), n_side=2).n_side == 2


def test_wrong_input_is_named():
    with pytest.raises(DataProblem, match="at least one"):
        orientation_coverage(np.empty((0, 3)))
    with pytest.raises(SettingsProblem, match="Fourier radius"):
        orientation_coverage(random_views(3), fourier_radius=0.0)
