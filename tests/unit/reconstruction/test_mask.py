"""Masks: automatic ones, their pieces, distances and soft edges."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.reconstruction.mask import (
    automatic_mask,
    connected_pieces,
    density_threshold,
    largest_pieces,
    level_enclosing,
    mask_from_values,
    masked_for_display,
    soft_edge,
    spherical_mask,
    squared_distance,
)

BOX, PIXEL = 48, 4.0


def ball(centre: tuple[int, int, int], radius: float, box: int = BOX) -> np.ndarray:
    """A ball with an edge of two voxels, `centre` as offset (z, y, x) from the origin."""
    return np.roll(soft_sphere(box, radius, 2), centre, (0, 1, 2))


def particle() -> np.ndarray:
    """Two domains, one of half the density of the other."""
    return ball((4, 0, 0), 8) + 0.5 * ball((-8, 2, 0), 6)


def noisy(deviation: float, seed: int = 0) -> np.ndarray:
    return particle() + deviation * np.random.default_rng(seed).standard_normal((BOX,) * 3)


# --- the automatic mask ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [0.0, 0.25, 0.5])
def test_mask_holds_the_particle_and_not_much_more(deviation):
    mask = automatic_mask(noisy(deviation), PIXEL)
    inside = particle() > 0.25
    assert mask.values[inside].mean() > 0.99  # the weak domain too
    far = squared_distance(inside, 12) > 12**2
    assert mask.values[far].max() == 0  # grown by 2 voxels, edge of 4, and the blur of the filter
    assert mask.warnings() == [] and mask.kept == 1
    assert mask.values.dtype == np.float32 and mask.values.min() == 0 and mask.values.max() == 1


def test_noise_does_not_move_the_outline():
    voxels = [automatic_mask(noisy(deviation), PIXEL).particle_voxels for deviation in (0.0, 0.25, 0.5)]
    assert all(count is not None for count in voxels)
    # after filtering the noise is up to an eighth of the strong domain: the outline may breathe by a quarter of a voxel
    assert max(voxels) / min(voxels) < 1.15  # type: ignore[type-var]


@settings(max_examples=6, deadline=None)
@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-5, 5))
def test_scale_and_offset_of_the_map_do_not_matter(scale, offset):
    volume = noisy(0.5)
    plain, changed = automatic_mask(volume, PIXEL), automatic_mask(scale * (volume + offset), PIXEL)
    # single precision moves voxels that lie on the threshold to the other side
    assert (abs(plain.values - changed.values) > 0.3).mean() < 1e-3


def test_contrast_matters():
    inside = particle() > 0.5
    assert automatic_mask(-noisy(0.5), PIXEL).values[inside].mean() < 0.5


def test_small_pieces_go_and_large_ones_stay():
    body, half, dust = ball((0, 0, -8), 7), ball((0, 0, 12), 5), ball((14, 14, 14), 2.5)
    mask = automatic_mask(body + half + dust, 3.0)
    assert (mask.pieces, mask.kept) == (3, 2)
    assert mask.values[24, 24, 36] == 1 and mask.values[38, 38, 38] == 0


def test_facts_about_odd_masks():
    empty = automatic_mask(np.zeros((24,) * 3), 4.0)
    assert empty.empty and "empty" in empty.warnings()[0]
    cut = automatic_mask(np.roll(particle(), 20, axis=2), PIXEL)
    assert cut.touches_border and "border" in cut.warnings()[0]
    full = mask_from_values(np.ones((16,) * 3))
    assert full.full and "covers 100%" in full.warnings()[0]
    assert spherical_mask(48, 20, 3).warnings() == []


def test_thresholds_given_by_hand():
    volume = particle()
    mask = automatic_mask(volume, PIXEL, threshold=0.75)
    assert mask.threshold == 0.75
    assert mask.values[24 - 8, 26, 24] < 1  # the weak domain is below, its middle within reach of the edge only
    assert mask.values[28, 24, 24] == 1


def test_threshold_lies_between_solvent_and_particle():
    volume = noisy(0.02)
    level = density_threshold(volume)
    assert 0.1 < level < 0.45  # below the weak domain at 0.5, above the solvent at 0
    assert density_threshold(10 * volume - 3) == pytest.approx(10 * level - 3, abs=0.05)  # bins of the histogram


def test_contours_of_a_given_volume():
    volume = np.random.default_rng(1).standard_normal((20,) * 3)
    level = level_enclosing(volume, 777)
    assert (volume >= level).sum() == 777
    with pytest.raises(SettingsProblem):
        level_enclosing(volume, 0)


def test_what_is_drawn_of_a_map():
    volume = noisy(0.25)
    mask = automatic_mask(volume, PIXEL)
    shown, level = masked_for_display(volume, mask)
    assert mask.particle_voxels is not None and level is not None
    assert (shown >= level).sum() == mask.particle_voxels // 2
    assert shown[mask.values == 0].max() == 0 < level  # no dust outside
    assert ((shown >= level) & (particle() < 0.05)).sum() < 0.02 * mask.particle_voxels
    shown, level = masked_for_display(volume, spherical_mask(BOX, 15, 3))
    assert level is not None and 0.2 < (shown >= level).sum() / (spherical_mask(BOX, 15, 3).values > 0.5).sum() < 0.4
    assert masked_for_display(np.zeros_like(volume), mask)[1] is None
    assert masked_for_display(volume, automatic_mask(np.zeros((BOX,) * 3), PIXEL))[1] is None


def test_spheres():
    mask = spherical_mask(32, 10, 4)
    np.testing.assert_allclose(mask.values, soft_sphere(32, 10, 4), atol=1e-7)
    assert mask.volume_fraction == pytest.approx(mask.values.mean(), rel=1e-6)


def test_wrong_input_is_named():
    with pytest.raises(DataProblem, match="no numbers"):
        automatic_mask(np.full((8,) * 3, np.nan), 1.0)
    with pytest.raises(DataProblem, match="0 to 1"):
        mask_from_values(np.full((8,) * 3, 3.0))
    with pytest.raises(SettingsProblem, match="radius"):
        spherical_mask(16, -1, 2)
    with pytest.raises(SettingsProblem, match="grown by -1"):
        automatic_mask(particle(), PIXEL, grow_px=-1)


# --- its parts -------------------------------------------------------------------------------------------------------


def pieces_by_flooding(region: np.ndarray) -> tuple[np.ndarray, int]:
    labels, count = np.zeros(region.shape, int), 0
    for start in zip(*np.nonzero(region)):
        if labels[start]:
            continue
        count += 1
        labels[start] = count
        queue = deque([start])
        while queue:
            voxel = queue.popleft()
            for axis in range(3):
                for step in (-1, 1):
                    neighbour = list(voxel)
                    neighbour[axis] += step
                    if (
                        0 <= neighbour[axis] < region.shape[axis]
                        and region[tuple(neighbour)]
                        and not labels[tuple(neighbour)]
                    ):
                        labels[tuple(neighbour)] = count
                        queue.append(tuple(neighbour))
    return labels, count


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 8)] * 3), filled=st.floats(0, 1), seed=st.integers(0, 1000))
def test_pieces_are_those_that_flooding_finds(shape, filled, seed):
    region = np.random.default_rng(seed).random(shape) < filled
    labels, count = connected_pieces(region)
    expected, expected_count = pieces_by_flooding(region)
    assert count == expected_count
    np.testing.assert_array_equal(labels > 0, region)
    # the same pieces under other names: each pair of labels belongs together
    assert len(set(zip(labels.ravel().tolist(), expected.ravel().tolist())) | {(0, 0)}) == count + 1


def test_a_snake_is_one_piece():
    region = np.zeros((1, 41, 41), bool)
    region[0, ::2] = True
    region[0, 1::4, -1] = True
    region[0, 3::4, 0] = True
    assert connected_pieces(region)[1] == 1  # many rows deep: labels must travel far


def test_largest_pieces():
    region = np.zeros((10, 10, 10), bool)
    region[:4], region[6, :2, :2], region[8, :6, :8] = True, True, True  # 400, 4 and 48 voxels
    kept, found, count = largest_pieces(region)
    assert (found, count, kept.sum()) == (3, 2, 448)
    assert largest_pieces(region, least=0.5)[0].sum() == 400
    assert largest_pieces(np.zeros((4, 4, 4), bool))[1:] == (0, 0)


@pytest.mark.parametrize("reach", [1, 4, 9])
def test_squared_distance_is_exact(reach):
    region = np.random.default_rng(2).random((12, 13, 14)) < 0.004
    points = np.argwhere(region)
    grid = np.moveaxis(np.indices(region.shape), 0, -1)
    squares = ((grid[..., None, :] - points) ** 2).sum(axis=-1).min(axis=-1)
    expected = np.where(squares <= reach**2, squares, reach**2 + 1)
    np.testing.assert_array_equal(squared_distance(region, reach), expected)


def test_soft_edges_are_cosines_of_the_distance():
    region = np.zeros((21,) * 3, bool)
    region[10, 10, 10] = True
    edge = soft_edge(region, 2.0, 6.0)
    along = edge[10, 10, 10:]
    expected = [1, 1, 1, *(0.5 + 0.5 * math.cos(math.pi * d / 6) for d in range(1, 6)), 0, 0, 0]
    np.testing.assert_allclose(along, expected, atol=1e-6)
    assert edge[11, 12, 12] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 6), abs=1e-6)  # 3 voxels away
    np.testing.assert_array_equal(soft_edge(region, 2, 0), squared_distance(region, 2) <= 4)
    np.testing.assert_array_equal(soft_edge(region, 0, 0), region)
