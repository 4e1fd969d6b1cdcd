"""Scores of maps: the area under an FSC, comparison in a mask, and the choice of images."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.transforms import fourier_crop
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.map_scores import MapComparison, MapGrid, central_row, chosen_images, common_grid, fsc_area
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.model.volume import Volume
from vitreous.reference import fsc as fsc_definition
from vitreous.reference import landscape_scores as definition

BOX, PIXEL = 32, 4.0
GRID = MapGrid(BOX, PIXEL)


@pytest.fixture(scope="module")
def comparison() -> MapComparison:
    return MapComparison(GRID, soft_sphere(BOX, 10, 4, dtype=np.float32))


def test_the_area_is_its_definition(rng):
    for shells in (3, 17, 33):
        curve = rng.uniform(-1, 1, shells)
        assert fsc_area(curve) == pytest.approx(definition.fsc_area(curve), abs=1e-14)
    curves = rng.uniform(-1, 1, (2, 4, 9))
    assert np.allclose(fsc_area(curves)[1, 2], definition.fsc_area(curves[1, 2]))


def test_the_area_of_known_curves():
    assert fsc_area(np.ones(9)) == 1
    assert fsc_area(np.array([-1.0, 1, 1, 1])) == 1  # shell 0 says nothing
    assert fsc_area(np.linspace(1, 0, 33)) == pytest.approx(0.5)


def test_the_correlation_is_its_definition(comparison, blob_map, rng):
    """With frequencies beyond Nyquist taken out, and masked, by NumPy alone."""
    other = blob_map + rng.normal(0, 0.3, blob_map.shape)
    line = np.fft.fftfreq(BOX)
    radius = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    masked = [np.fft.ifftn(np.fft.fftn(v) * (radius < 0.5)).real * comparison.mask for v in (blob_map, other)]
    expected = fsc_definition.fourier_shell_correlation(*masked)
    found = comparison.correlation(comparison.transform(blob_map), comparison.transform(other))
    np.testing.assert_allclose(found, expected, atol=2e-6)  # single precision


def test_the_scale_of_grey_does_not_matter(comparison, blob_map):
    truth = comparison.transform(blob_map)
    again = comparison.correlation(truth, comparison.transform(7 * blob_map))
    assert fsc_area(again) == pytest.approx(1, abs=1e-6)
    # a mask turns a constant into a signal: it is no part of the map
    assert fsc_area(comparison.correlation(truth, comparison.transform(-blob_map))) == pytest.approx(
        -1 + 1 / BOX * 2, abs=1e-5
    )


def test_a_decoder_that_knows_the_truth_is_perfect(comparison, blob_map):
    decoder = SubspaceDecoder(np.stack([blob_map, np.roll(blob_map, 3, axis=0)]), PIXEL, BOX / 2)
    decoded = decoded_volume(decoder, np.zeros(1))
    score = fsc_area(comparison.correlation(comparison.transform(blob_map), comparison.transform(decoded.data)))
    assert score == pytest.approx(1, abs=1e-3)  # the last shells of the smooth blobs are near the rounding error
    # unrelated maps
    noise = np.random.default_rng(1).normal(size=blob_map.shape)
    worst = fsc_area(comparison.correlation(comparison.transform(blob_map), comparison.transform(noise)))
    assert abs(worst) < 0.15


def test_a_decoder_of_fewer_frequencies_loses_their_part(comparison, blob_map):
    decoder = SubspaceDecoder(blob_map[None], PIXEL, BOX / 4)
    decoded = decoded_volume(decoder, np.zeros(0))
    score = fsc_area(comparison.correlation(comparison.transform(blob_map), comparison.transform(decoded.data)))
    assert 0.5 < score < 0.75  # what is beyond is 0 but for what the mask mixes in


def test_maps_of_other_grids_are_resampled(comparison, blob_map):
    small = fourier_crop(blob_map.astype(np.float32), (BOX // 2,) * 3, 3)[0]
    grid = common_grid([GRID, MapGrid(BOX // 2, 2 * PIXEL)])
    assert grid == MapGrid(BOX // 2, 2 * PIXEL)
    assert not grid.fits(Volume(blob_map, PIXEL)) and grid.fits(Volume(small, 2 * PIXEL * 1.0004))
    coarse = MapComparison(grid, np.ones((BOX // 2,) * 3, np.float32))
    pair = [coarse.transform(grid.resampled(v)) for v in (Volume(blob_map, PIXEL), Volume(small, 2 * PIXEL))]
    assert fsc_area(coarse.correlation(*pair)) == pytest.approx(1, abs=1e-3)
    assert common_grid([MapGrid(64, 2.0), MapGrid(48, 2.0), MapGrid(200, 1.0)]) == MapGrid(48, 2.0)


def test_maps_with_nan_are_refused(comparison, blob_map):
    broken = blob_map.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(DataProblem, match="no numbers"):
        GRID.resampled(Volume(broken, PIXEL))
    with pytest.raises(DataProblem, match="mask"):
        MapComparison(GRID, np.ones((8, 8, 8)))


def test_each_conformation_gets_its_images():
    conformation = np.repeat([0, 2, 3], (5, 40, 2))
    chosen = chosen_images(conformation, 4, np.random.default_rng(3))
    assert [one for one, _ in chosen] == [0, 2, 3] and [len(rows) for _, rows in chosen] == [4, 4, 2]
    assert all((conformation[rows] == one).all() and len(set(rows)) == len(rows) for one, rows in chosen)
    again = chosen_images(conformation, 4, np.random.default_rng(3))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(chosen, again))
    others = chosen_images(conformation, 4, np.random.default_rng(4))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(chosen, others))


def test_the_central_particle_is_nearest_to_the_mean():
    latents = np.array([[0.0, 0], [1, 1], [10, 0], [0.4, 0.5]])
    assert central_row(latents, np.array([0, 1, 3])) == 3
    assert central_row(latents, np.array([2])) == 2
