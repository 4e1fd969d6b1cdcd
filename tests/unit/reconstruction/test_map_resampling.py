"""Maps on other grids: exact where the truth is known, the origin in place, float32 kept."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import fourier_crop
from vitreous.reconstruction.map_resampling import face_mean, interpolation_matrix, resampled_map

WIDTH = 9.0  # angstrom: exp(-2 pi^2 sigma^2 k^2) is 1e-13 at the Nyquist frequency of 4 angstrom voxels
CENTRE = (11.0, -6.5, 3.25)  # x, y, z


def blob(box: int, pixel_size: float, centre=CENTRE) -> np.ndarray:
    axis = (np.arange(box) - box // 2) * pixel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * WIDTH**2))


@pytest.mark.parametrize(
    ("box", "pixel_size", "new_box", "new_pixel_size"),
    [(36, 4.0, 40, 3.3), (35, 4.0, 48, 2.71), (48, 3.0, 33, 4.1), (40, 3.54, 64, 3.54), (64, 2.5, 41, 2.5)],
)
def test_a_smooth_density_is_the_same_function_on_any_grid(box, pixel_size, new_box, new_pixel_size):
    truth = blob(new_box, new_pixel_size)
    got = resampled_map(blob(box, pixel_size), pixel_size, new_box, new_pixel_size)
    # The blob is 1e-9 at the border of the smallest box: what wraps around is below 1e-6.
    np.testing.assert_allclose(got, truth, atol=1e-6)
    wrong = blob(new_box, new_pixel_size, tuple(-c for c in CENTRE))
    assert np.abs(got - wrong).max() > 0.5  # a mirrored or transposed map would be seen
    assert np.abs(got - truth.transpose(2, 1, 0)).max() > 0.1


def test_the_same_grid_gives_the_same_map():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(9, 9, 9))
    np.testing.assert_array_equal(resampled_map(noise, 2.0, 9, 2.0), noise)
    kernel = interpolation_matrix(9, 2.0, 9, 2.0)
    np.testing.assert_allclose(kernel, np.eye(9), atol=1e-12)  # odd: no Nyquist frequency to lose


def test_fewer_voxels_of_the_same_box_are_a_fourier_crop():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(20, 20, 20))
    cropped, size = fourier_crop(noise, 13, 3, 2.0)
    np.testing.assert_allclose(resampled_map(noise, 2.0, 13, size), cropped, atol=1e-9)


def test_solvent_continues_beyond_the_map():
    volume = blob(24, 4.0, (0.0, 0.0, 0.0)) + 5.0
    larger = resampled_map(volume, 4.0, 60, 3.0)
    assert face_mean(larger) == pytest.approx(5.0, abs=1e-4)
    np.testing.assert_allclose(larger, blob(60, 3.0, (0.0, 0.0, 0.0)) + 5.0, atol=2e-3)
    assert resampled_map(volume, 4.0, 31, 4.0)[0, 0, 0] == pytest.approx(5.0, abs=1e-4)


def test_single_precision_stays_and_the_input_is_unchanged():
    volume = blob(30, 4.0).astype(np.float32)
    before = volume.copy()
    got = resampled_map(volume, 4.0, 36, 3.3)
    assert got.dtype == np.float32 and np.array_equal(volume, before)
    np.testing.assert_allclose(got, blob(36, 3.3), atol=2e-5)  # 30 rounded terms on each of three axes


def test_numbers_that_cannot_be():
    with pytest.raises(SettingsProblem, match="positive"):
        resampled_map(np.zeros((4, 4, 4)), 2.0, 4, 0.0)
