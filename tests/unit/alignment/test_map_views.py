"""Views of maps: their children, the frames they are read in, and their slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import Blobs, blobs

from vitreous.alignment.map_views import MapViews, orientation_of, sliced, unit_pixels
from vitreous.alignment.refine3d import cropped
from vitreous.fourier.polar import PolarGrid, polar_grid
from vitreous.geometry.orientation_grid import direction_count, healpix_directions, mean_spacing_deg
from vitreous.geometry.rotations import (
    angular_distance,
    matrix_from_rotation_vector,
    random_rotations,
    view_direction,
)
from vitreous.geometry.symmetry import point_group
from vitreous.reconstruction.projection import fourier_volume, project, slice_grid

BOX, ORDER = 32, 1
TURN = matrix_from_rotation_vector(np.array([0.05, -0.08, 0.03]))
OBJECT = blobs(np.random.default_rng(3))
GRID = polar_grid(BOX, 12, extent=26.0)


@pytest.fixture(scope="module")
def views() -> MapViews:
    volumes = tuple(fourier_volume((k + 1) * OBJECT.density(BOX)) for k in range(2))
    return MapViews(volumes, np.array([0.7, 0.3]), TURN, ORDER, direction_count(ORDER))


def transform(thing: Blobs, frames: np.ndarray, grid: PolarGrid) -> np.ndarray:
    """Transforms of the projections [n, r, h] in closed form: F(R^T (kx, ky, 0)) of Gaussians."""
    kx, ky = (k / grid.box for k in grid.frequencies)
    points = np.stack([kx, ky, np.zeros_like(kx)], axis=-1) @ frames[:, None, :, :]  # rows times R: R^T k
    gauss = (2 * np.pi) ** 1.5 * thing.width**3 * np.exp(-2 * (np.pi * thing.width) ** 2 * (points**2).sum(axis=-1))
    return gauss * (np.exp(-2j * np.pi * (points @ thing.place.T)) @ thing.height)


def closeness(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_children_cover_the_finer_grid_once(views):
    parents = np.arange(2 * direction_count(ORDER))
    children = np.concatenate([views.children(int(view)) for view in parents])
    assert sorted(children) == list(range(2 * direction_count(ORDER + 1)))
    classes = np.concatenate([views.classes(views.children(int(view))) for view in parents])
    np.testing.assert_array_equal(classes, np.repeat([0, 1], direction_count(ORDER + 1)))


def test_children_are_read_in_the_frame_next_to_their_parent(views):
    for parent in range(direction_count(ORDER)):
        children = views.children(parent)
        frame = orientation_of(np.array([parent]), np.zeros(1), ORDER, TURN)
        near = views.frames(children, np.zeros(1))[0]
        away = np.rad2deg(angular_distance(near, frame))
        # A quarter of a diagonal of a pixel of the coarser grid.
        assert away.max() < 0.5 * mean_spacing_deg(ORDER)
        # The best turn about the beam: a little more or less is further away.
        for turn in (-0.05, 0.05):
            other = views.frames(children, np.array([turn]))[0]
            assert (angular_distance(other, frame) > np.deg2rad(away) - 1e-9).all()
    # Next to the pole rot alone turns the image.
    without = orientation_of(
        np.arange(4 * direction_count(ORDER)), np.zeros(4 * direction_count(ORDER)), ORDER + 1, TURN
    )
    parents = orientation_of(np.arange(direction_count(ORDER)), np.zeros(direction_count(ORDER)), ORDER, TURN)
    assert np.rad2deg(angular_distance(without, parents.repeat(4, axis=0))).max() > 0.75 * mean_spacing_deg(ORDER)


def test_twist_brings_the_frame_back_to_its_own(views):
    children, psi = views.children(3), np.array([-0.4, 1.1])
    frames = views.frames(children, psi)
    for p, angle in enumerate(psi):
        own = orientation_of(children, angle + views.twist(children), ORDER + 1, TURN)
        np.testing.assert_allclose(frames[p], own, atol=1e-12)
    wrong = orientation_of(children, psi[0] - views.twist(children), ORDER + 1, TURN)
    assert angular_distance(frames[0], wrong).max() > 0.1


def test_orientations_are_turns_after_directions():
    """R = Rz(psi) Ry(tilt) Rz(rot) Q, written out."""
    rot, tilt = healpix_directions(ORDER)[5]
    psi = 0.7

    def z(a: float) -> np.ndarray:
        return np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])

    y = np.array([[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]])
    found = orientation_of(np.array([5]), np.array([psi]), ORDER, TURN)[0]
    np.testing.assert_allclose(found, z(psi) @ y @ z(rot) @ TURN, atol=1e-12)
    assert angular_distance(found, z(-psi) @ y @ z(rot) @ TURN) > 0.5


def test_slices_are_those_of_the_object(views):
    numbers, psi = (
        np.concatenate([views.children(7), views.children(direction_count(ORDER) + 7)]),
        np.array([0.3, -2.0]),
    )
    found = views.slices(numbers, psi, GRID)
    frames = views.frames(numbers, psi)
    scale = (views.classes(numbers) + 1)[:, None, None]
    for p in range(len(psi)):
        expected = scale * transform(OBJECT, frames[p], GRID)
        # Linear interpolation in a transform padded twice.
        assert closeness(found[p], expected) < 0.02
        assert closeness(np.conj(found[p]), expected) > 0.2
        assert closeness(found[p], scale * transform(OBJECT, frames[p].swapaxes(1, 2), GRID)) > 0.2


def test_slices_are_those_of_the_projector_where_both_read():
    rotation = random_rotations(5, np.random.default_rng(0)).astype(np.float32)
    volume = fourier_volume(OBJECT.density(BOX))
    grid = PolarGrid(BOX, 1, 12, 64, 26.0)
    found = sliced(volume, rotation, grid)
    pixels = slice_grid(BOX)
    expected = project(volume, rotation, pixels)
    for ring in grid.ring:
        for angle, (kx, ky) in ((0, (ring, 0)), (16, (0, ring))):
            place = np.flatnonzero((pixels.kx == kx) & (pixels.ky == ky))[0]
            # The same kernel; single precision, and points that fall on the edge between two voxels.
            np.testing.assert_allclose(
                found[:, ring - 1, angle], expected[:, place], atol=1e-4 * np.abs(expected).max()
            )


def test_a_cropped_transform_has_the_same_slices():
    rotation = random_rotations(4, np.random.default_rng(1))
    volume = replace(fourier_volume(OBJECT.density(BOX)))
    grid = GRID.within(6)
    small = cropped(volume, 6)
    assert small.data.size < volume.data.size / 4
    found, expected = sliced(small, rotation, grid), sliced(volume, rotation, grid)
    # Places count from another corner: rounding of single precision.
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["C1", "C3", "D2"])
def test_the_prior_is_one_over_the_unit_of_all_maps(views, name):
    group = point_group(name)
    pixels = unit_pixels(ORDER, group)
    shared = MapViews(views.volumes, views.population, TURN, ORDER, len(pixels))
    parents = np.concatenate([k * direction_count(ORDER) + pixels for k in range(2)])
    children = np.concatenate([shared.children(int(view)) for view in parents])
    np.testing.assert_allclose(np.exp(shared.log_prior(children)).sum(), 1)
    own = shared.classes(children) == 1
    np.testing.assert_allclose(np.exp(shared.log_prior(children[own])).sum(), 0.3)


@pytest.mark.parametrize("name", ["C1", "C3", "D2"])
def test_directions_of_the_unit_stand_for_all(name):
    group = point_group(name)
    pixels = unit_pixels(2, group)
    assert len(pixels) * group.order < 1.35 * direction_count(2)  # those on the edge count for both sides
    every = view_direction(orientation_of(np.arange(direction_count(2)), np.zeros(direction_count(2)), 2, np.eye(3)))
    mates = np.einsum("gij,nj->ngi", group.operators, every[pixels]).reshape(-1, 3)
    nearest = (every @ mates.T).max(axis=1)
    assert np.rad2deg(np.arccos(np.clip(nearest, -1, 1))).max() < mean_spacing_deg(2)
