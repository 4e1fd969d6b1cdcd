"""From scores to places: maxima, their places between pixels, their shape, and the room that each takes; and the working image."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.picking.picks import Picks, apart, curvature_ratio, local_maxima, refined
from vitreous.picking.suspect_areas import beside, relative_variance
from vitreous.picking.working_image import reflected, working_image
from vitreous.reference.picking import variance_beside


def test_maxima_are_those_of_a_plain_search(rng):
    scores = rng.normal(size=(40, 50)).astype(np.float32)
    expected = [
        (row, column)
        for row in range(1, 39)
        for column in range(1, 49)
        if scores[row, column] > 0.5 and scores[row, column] == scores[row - 1 : row + 2, column - 1 : column + 2].max()
    ]
    found = local_maxima(scores, 0.5)
    assert {tuple(place) for place in found.tolist()} == set(expected)
    assert (np.diff(scores[tuple(found.T)]) <= 0).all()


def test_a_plateau_has_one_maximum():
    scores = np.zeros((9, 9))
    scores[4, 3:6] = 1.0
    assert local_maxima(scores, 0.5).tolist() == [[4, 3]]
    assert local_maxima(np.ones((9, 9)), 0.5).tolist() == []
    assert local_maxima(np.ones((2, 9)), 0.5).shape == (0, 2)


def test_the_top_of_a_paraboloid_is_found_exactly():
    y, x = np.mgrid[:20, :24]
    for place in ((11.3, 8.8), (5.5, 14.1), (12.0, 7.0)):
        scores = 10 - 0.3 * (x - place[0]) ** 2 - 0.7 * (y - place[1]) ** 2
        found = refined(scores, local_maxima(scores, 5.0)[:1])
        np.testing.assert_allclose(found, [place], atol=1e-12)
    np.testing.assert_allclose(curvature_ratio(scores, local_maxima(scores, 5.0)), [0.7 / 0.3], rtol=1e-12)


def test_curvatures_do_not_depend_on_direction():
    """A form of curvatures 1 and 4, turned: the ratio is that of its eigenvalues, exact for polynomials of second degree."""
    y, x = np.mgrid[:11, :11] - 5
    for angle in (0.0, 0.4, 1.2):
        u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
        ratio = curvature_ratio(-(u**2) - 4.0 * v**2, np.array([[5, 5]]))
        np.testing.assert_allclose(ratio, [4.0], rtol=1e-12)
    assert np.isinf(curvature_ratio(-1.0 * x**2 + 0.0 * y, np.array([[5, 5]])))  # a ridge
    assert np.isinf(curvature_ratio(-4.0 * x**2 + 1.0 * y**2, np.array([[5, 5]])))  # a saddle


def test_the_better_of_two_takes_the_room():
    places = np.array([[0.0, 0.0], [3.0, 0.0], [5.0, 0.0], [0.0, 4.0]])
    assert apart(places, 4.0).tolist() == [True, False, True, True]
    assert apart(places, 0.0).all() and apart(places[:0], 4.0).shape == (0,)


def test_rows_of_picks_keep_what_is_not_known_unknown():
    picks = Picks(np.arange(6.0).reshape(3, 2), np.arange(3.0), np.arange(3.0), psi=np.arange(3.0))
    chosen = picks.rows(np.array([2, 0]))
    assert len(chosen) == 2 and chosen.diameter is None and chosen.psi is not None
    assert chosen.position.tolist() == [[4, 5], [0, 1]] and chosen.psi.tolist() == [2, 0]


# --- suspect areas ----------------------------------------------------------------------------------------------------


def test_variance_beside_particles_is_its_definition(rng):
    """Gaussians end at 4 standard deviations in the fast way: 3e-4 of the weight lies beyond."""
    values = rng.normal(size=(60, 70)) * (1 + (np.arange(70) > 35))
    places = np.array([[20.0, 30.0], [50.0, 12.0]])
    found = relative_variance(values, places, 8.0)
    free = np.ones((60, 70), dtype=bool)
    y, x = np.mgrid[:60, :70]
    for column, row in places:
        free &= (x - column) ** 2 + (y - row) ** 2 > (0.6 * 8) ** 2
    tall = np.pad(free, 60, mode="symmetric")  # the image is mirrored, and its slow changes are removed first
    mirrored = np.pad(values, 60, mode="symmetric")
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(tall.astype(float), 16.0)
    mirrored = mirrored - gaussian_filter(mirrored * tall, 16.0) / weight
    at = {
        (row, column): variance_beside(mirrored, tall, row + 60, column + 60, 6.0)
        for row, column in ((30, 20), (30, 55), (5, 60))
    }
    ratios = np.array([found[place] / at[place] for place in at])
    np.testing.assert_allclose(ratios / ratios[0], 1.0, atol=5e-3)
    assert np.median(found) == pytest.approx(1.0, rel=1e-6) and found[30, 55] > 2 * found[30, 20]


def test_without_room_between_particles_nothing_is_suspect(rng):
    everywhere = np.stack(np.meshgrid(np.arange(0.0, 30.0, 2.0), np.arange(0.0, 30.0, 2.0)), axis=-1).reshape(-1, 2)
    assert (relative_variance(rng.normal(size=(30, 30)), everywhere, 8.0) == 1).all()
    half = everywhere[everywhere[:, 0] < 15]
    assert np.isfinite(relative_variance(rng.normal(size=(30, 30)), half, 8.0)).all()


def test_beside_is_farther_than():
    area = np.zeros((9, 9), dtype=bool)
    area[4, 4] = True
    assert beside(area, 2.0).sum() == 81 - 13 and beside(~area & area, 2.0).all()


# --- the working image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300, 420), (301, 397)])
def test_places_on_the_working_image_are_places_on_the_micrograph(rng, shape):
    """A smooth spot is where it was, between pixels; x and y each with their own ratio."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    column, row = 231.3, 147.8
    image = np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * 30.0**2)).astype(np.float32)
    small = working_image(image, 1.5, 6.0, contrast="inverted")
    assert small.values.dtype == np.float32 and small.values.shape == (round(shape[0] / 4), round(shape[1] / 4))
    place = refined(small.values, local_maxima(small.values, 0.5)[:1])
    # the top of a Gaussian is a parabola only nearly, and the slope that is removed moves it: 0.04 working pixels
    np.testing.assert_allclose(small.recorded_position(place), [[column, row]], atol=0.25)
    assert np.ptp(small.values) == pytest.approx(np.ptp(image), rel=0.05)  # values keep their scale; a slope is removed
    assert small.values.mean() == pytest.approx(0.0, abs=1e-4)
    raw = working_image(image, 1.5, 6.0)
    np.testing.assert_allclose(raw.values, -small.values, atol=1e-6)


def test_a_working_image_has_no_slope_and_no_finer_pixels(rng):
    y, x = np.mgrid[:200, :240]
    image = rng.normal(size=(200, 240)).astype(np.float32)
    plain, sloped = (working_image(one.astype(np.float32), 2.0, 2.0) for one in (image, image + 0.1 * x - 0.3 * y))
    # the Nyquist frequency is dropped, so the image is not the same as before; the slope leaves only its rounding
    np.testing.assert_allclose(sloped.values, plain.values, atol=2e-3)
    assert working_image(image, 2.0, 1.0).values.shape == (200, 240)
    assert working_image(image, 2.0, 1.0).extent == (480.0, 400.0)


def test_white_noise_keeps_its_density(rng):
    """Four times fewer pixels along each axis keep a sixteenth of the variance."""
    small = working_image(rng.normal(size=(800, 800)).astype(np.float32), 1.0, 4.0)
    assert small.values.var() == pytest.approx(1 / 16, rel=0.03)  # 40,000 values


def test_reflected_images_go_on_as_their_mirror_image(rng):
    image = rng.normal(size=(21, 34))
    padded, inside = reflected(image, 10)
    np.testing.assert_array_equal(padded[inside], image)
    rows, columns = (one.start for one in inside)
    assert rows >= 10 and columns >= 10 and padded.shape[0] >= 41
    np.testing.assert_array_equal(padded[rows - 1, inside[1]], image[0])
    np.testing.assert_array_equal(padded[inside[0], columns - 3], image[:, 2])
