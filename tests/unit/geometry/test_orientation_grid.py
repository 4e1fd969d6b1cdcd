"""Grids of orientations: counts, nesting, neighbours, coverage, symmetry, local grids."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vitreous.errors import SettingsProblem
from vitreous.geometry import orientation_grid as grids
from vitreous.geometry import rotations as rot
from vitreous.geometry.symmetry import asymmetric_unit, point_group

# Angles of up to 2 pi from a few operations.
ROUNDING = 1e-14


def nearest_distance(rotations: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Distance of each rotation to the nearest of the grid, by comparing quaternions."""
    p, q = Rotation.from_matrix(rotations).as_quat(), Rotation.from_matrix(grid).as_quat()
    return 2 * np.arccos(np.minimum(1, np.abs(p @ q.T).max(axis=1)))


def test_examples_in_docstrings_run():
    assert doctest.testmod(grids).failed == 0


@pytest.mark.parametrize("order", range(4))
def test_counts_and_steps(order):
    grid = grids.orientation_grid(order)
    # RELION's psi step 360 / (6 * 2^order); 768 directions times 48 angles are the 36,864 orientations of order 3.
    assert len(grid) == 72 * 8**order == len(np.unique(grid.index))
    psi = grids.psi_grid(order)
    np.testing.assert_allclose(np.diff(psi), np.radians(360 / (6 * 2**order)), rtol=1e-12)
    assert psi[0] == pytest.approx(psi[1] / 3) and len(psi) == grids.psi_count(order)
    assert grid.euler.shape == (len(grid), 3) and grid.matrix.shape == (len(grid), 3, 3)
    euler = grid.euler
    assert (euler[:, 1] > 0).all() and (euler[:, 1] < np.pi).all() and (euler >= 0).all() and (euler < 2 * np.pi).all()


def test_the_twelve_base_directions():
    # HEALPix at order 0: four at z = 2/3, four on the equator, four at z = -2/3.
    directions = grids.healpix_directions(0)
    np.testing.assert_allclose(np.cos(directions[:, 1]), np.repeat([2 / 3, 0, -2 / 3], 4), atol=ROUNDING)
    np.testing.assert_allclose(np.degrees(directions[:4, 0]), [45, 135, 225, 315], atol=1e-12)
    np.testing.assert_allclose(np.degrees(directions[4:8, 0]), [0, 90, 180, 270], atol=1e-12)
    matrix = rot.matrix_from_euler(np.array([directions[0, 0], directions[0, 1], 0.7]))
    np.testing.assert_allclose(rot.view_direction(matrix)[2], 2 / 3, atol=ROUNDING)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_children_make_up_the_next_grid_and_surround_their_parent(order):
    grid = grids.orientation_grid(order)
    children = grids.children(grid.index, order)
    assert children.shape == (len(grid), 8)
    np.testing.assert_array_equal(np.sort(children.ravel()), np.arange(8 * len(grid)))
    np.testing.assert_array_equal(grids.parent(children, order + 1), np.repeat(grid.index[:, None], 8, axis=1))
    fine = grid.refined()
    assert fine.order == order + 1
    np.testing.assert_array_equal(fine.index, children.ravel())
    # A cube's children are 0.43 of its edge from its centre; pixels are up to twice as long as wide.
    distance = rot.angular_distance(grid.matrix[:, None], fine.matrix.reshape(len(grid), 8, 3, 3))
    assert np.degrees(distance.max()) < grids.mean_spacing_deg(order) * 0.75
    one = grids.children(np.int64(5), order)
    np.testing.assert_array_equal(one, children[5])


@pytest.mark.parametrize("order", [1, 2])
def test_neighbours_are_the_nearest_cells(order):
    grid = grids.orientation_grid(order)
    around = grids.neighbours(grid.index, order)
    matrix = grid.matrix
    picked = np.random.default_rng(0).integers(len(grid), size=60)
    for cell in picked:
        mine = around[cell][around[cell] >= 0]
        assert cell not in mine and len(set(mine)) == len(mine) >= 23
        distance = rot.angular_distance(matrix[cell], matrix)
        assert set(np.argsort(distance)[1:7]) <= set(mine)
        # A cell twice as far away as two spacings is no neighbour; with the wrong twist many would be.
        assert np.degrees(distance[mine].max()) < 2.4 * grids.mean_spacing_deg(order)
        assert all(cell in around[other] for other in mine)
    # Three pixels meet instead of four at eight points of the sphere: 24 pixels have seven neighbours, not eight.
    assert (around[:: grids.psi_count(order)] < 0).any(axis=1).sum() == 24


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_grid_covers_so3_evenly(order):
    sample = rot.random_rotations(400, np.random.default_rng(1))
    distance = np.degrees(nearest_distance(sample, grids.orientation_grid(order).matrix))
    spacing = grids.mean_spacing_deg(order)
    # A cube has its corners at 0.87 of its edge, and on average points are 0.48 of it from the centre.
    assert distance.max() < 0.95 * spacing
    assert 0.45 * spacing < distance.mean() < 0.52 * spacing


def test_mean_spacing():
    cells = [72 * 8**order for order in range(5)]
    want = [np.degrees((8 * np.pi**2 / n) ** (1 / 3)) for n in cells]
    np.testing.assert_allclose([grids.mean_spacing_deg(order) for order in range(5)], want, rtol=1e-12)
    np.testing.assert_allclose(grids.mean_spacing_deg(2), 14.77, atol=0.005)


@pytest.mark.parametrize("name", ["C2", "C4", "C7", "D2", "D4", "D7", "T", "O", "I1", "I2", "I3", "I4"])
def test_the_grid_of_a_point_group(name):
    group, order = point_group(name), 3
    grid = grids.orientation_grid(order, symmetry=group)
    matrix = grid.matrix
    assert asymmetric_unit(group).contains(matrix).all()
    # HEALPix shares only some of the symmetries: pixels on the border make the number differ from 1/n.
    assert len(grid) == pytest.approx(len(grids.orientation_grid(order)) / group.order, rel=0.2)
    assert len(np.unique(grid.index)) == len(grid)
    # No two members are equivalent, and every orientation has an equivalent one near.
    sample = rot.random_rotations(60, np.random.default_rng(2))
    images = group.equivalents(sample).reshape(-1, 3, 3)
    distance = np.degrees(nearest_distance(images, matrix)).reshape(60, -1).min(axis=1)
    # At the border the nearest cell may be the image of one that is a whole spacing off.
    assert distance.max() < 1.6 * grids.mean_spacing_deg(order)
    for operator in group.operators[1:6]:
        assert nearest_distance(matrix[:200] @ operator, matrix).min() > 1e-3


@pytest.mark.parametrize("name", ["C4", "D2", "D4", "O"])
def test_the_grid_of_a_group_that_healpix_has_is_exactly_its_share(name):
    group = point_group(name)
    for order in (2, 3) if name != "O" else (2,):
        assert len(grids.orientation_grid(order, symmetry=group)) * group.order == 72 * 8**order


def test_views_along_an_axis_keep_each_in_plane_angle_once():
    # At order 0 four pixel centres lie on the equator at rot = 0, 90, 180, 270: the 2-fold axes x and y of D2.
    group = point_group("D2")
    grid = grids.orientation_grid(0, symmetry=group)
    equivalents = group.equivalents(grid.matrix).reshape(-1, 3, 3)
    full = grids.orientation_grid(0).matrix
    # The images of the grid under the group are the full grid, each cell once.
    found = np.abs(equivalents[:, None] - full[None]).max(axis=(2, 3)) < 1e-9
    assert len(grid) == 18
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found.sum(axis=0), 1)


def test_the_grid_without_symmetry_is_that_of_c1():
    np.testing.assert_array_equal(grids.orientation_grid(1, symmetry=point_group("C1")).index, np.arange(576))


def test_local_grid():
    centre = rot.random_rotations(3, np.random.default_rng(3))
    radius, step = np.radians(12.0), np.radians(3.0)
    local = grids.local_grid(centre, radius=radius, step=step)
    # Points of a cubic lattice within four steps of its origin: 257.
    assert local.shape == (3, 257, 3, 3)
    np.testing.assert_allclose(local[:, 0], centre, atol=ROUNDING)
    distance = rot.angular_distance(centre[:, None], local)
    assert distance.max() <= radius * (1 + 1e-9) and distance.max() > radius * 0.99
    assert np.all(np.diff(distance, axis=1) > -ROUNDING)
    around = np.sort(rot.angular_distance(local[0][:, None], local[0][None]), axis=1)[:, 1]
    np.testing.assert_allclose(around, step, rtol=0.02)  # the exponential shrinks steps by radius^2 / 24 and less
    # In-plane turns of the image leave the viewing direction alone: there are 2 * 4 + 1 of them.
    same_view = np.abs(rot.view_direction(local[0]) - rot.view_direction(centre[0])).max(axis=-1) < 1e-12
    assert same_view.sum() == 9
    assert grids.local_grid(centre[0], radius=0.0, step=step).shape == (1, 3, 3)
    assert grids.local_grid(centre.astype(np.float32), radius=radius, step=step).dtype == np.float32


def test_local_grid_covers_its_ball():
    rng = np.random.default_rng(4)
    centre = rot.random_rotations(1, rng)[0]
    radius, step = np.radians(15.0), np.radians(5.0)
    vectors = rng.uniform(-1, 1, (500, 3))
    vectors = vectors[np.linalg.norm(vectors, axis=1) < 1] * (radius - step)
    inside = rot.matrix_from_rotation_vector(vectors) @ centre
    distance = nearest_distance(inside, grids.local_grid(centre, radius=radius, step=step))
    assert distance.max() < step * 0.87  # half the diagonal of a lattice cube


def test_a_randomly_turned_grid_keeps_its_distances():
    grid = grids.orientation_grid(1)
    turned = grid.randomly_turned(np.random.default_rng(5))
    first, second = grid.matrix[:100], grid.matrix[100:200]
    np.testing.assert_allclose(
        rot.angular_distance(turned[:100], turned[100:200]), rot.angular_distance(first, second), atol=ROUNDING
    )
    shift = rot.compose(turned, rot.transpose(grid.matrix))
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=ROUNDING)
    assert rot.angular_distance(shift[0], np.eye(3)) > 0.1
    np.testing.assert_array_equal(turned, grid.randomly_turned(np.random.default_rng(5)))


@pytest.mark.parametrize("order", [-1, 8])
def test_orders_outside_the_range_are_refused(order):
    for call in (grids.orientation_grid, grids.healpix_directions, grids.psi_grid):
        with pytest.raises(SettingsProblem, match="an order from 0"):
            call(order)


def test_a_grid_too_coarse_for_its_group_is_refused():
    with pytest.raises(SettingsProblem, match=r"grid of order 0 for I4.*use order 1 or more"):
        grids.orientation_grid(0, symmetry=point_group("I4"))


@pytest.mark.parametrize(("radius", "step"), [(0.1, 0.0), (0.1, -1.0), (-0.1, 0.1), (4.0, 1.0), (float("nan"), 0.1)])
def test_impossible_local_grids_are_refused(radius, step):
    with pytest.raises(SettingsProblem, match="local grid"):
        grids.local_grid(np.eye(3), radius=radius, step=step)
