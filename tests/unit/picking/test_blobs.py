"""Blobs: the response is its definition, noise is measured beside particles, and what is found is where it was put."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.picking.blobs import (
    PIXELS,
    SIGMA_OF_RADIUS,
    BlobSettings,
    best_diameters,
    laplacian_responses,
    pick_blobs,
)
from vitreous.picking.quiet import quiet_deviation
from vitreous.picking.selection import Selection
from vitreous.picking.working_image import working_image
from vitreous.reference.picking import ball_response, laplacian_response

PIXEL_SIZE = 4.0
DIAMETER = 160.0


def scattered(rng, count: int, shape: tuple[int, int], least: float, margin: float) -> np.ndarray:
    """Places (x, y) in pixels, no two nearer than `least`."""
    places = np.empty((0, 2))
    while len(places) < count:
        place = rng.uniform(margin, np.array(shape[::-1]) - 1 - margin)
        if not len(places) or np.hypot(*(places - place).T).min() >= least:
            places = np.vstack([places, place])
    return places


def micrograph(
    rng, places: np.ndarray, shape=(640, 720), *, diameter: float = DIAMETER, noise: float = 1.0, depth: float = 0.4
) -> np.ndarray:
    """Dark balls on noise: in the middle of a ball the image is `depth` noise deviations darker."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 50 + noise * rng.normal(size=shape)
    radius = diameter / 2 / PIXEL_SIZE
    for column, row in places:
        square = 1 - ((x - column) ** 2 + (y - row) ** 2) / radius**2
        image -= depth * np.sqrt(np.maximum(square, 0))
    return image.astype(np.float32)


def find(image: np.ndarray, diameter: tuple[float, float] = (DIAMETER, DIAMETER), *, contrast: str = "raw", **limits):
    settings = BlobSettings(diameter)
    small = working_image(image, PIXEL_SIZE, settings.working_pixel_size, contrast=contrast)
    chosen = {"threshold": 4.0, "distance": diameter[0], "border": diameter[1] / 2, **limits}
    return pick_blobs(small, settings, Selection(**chosen))


def matched(found: np.ndarray, truth: np.ndarray, within: float) -> tuple[int, float]:
    """How many of the true places have a pick of their own so near, and the root mean square of the distances."""
    distance = np.hypot(*(found[:, None] - truth).transpose(2, 0, 1))
    nearest = distance.argmin(axis=1)
    good = distance[np.arange(len(found)), nearest] < within
    assert len(set(nearest[good])) == good.sum()  # no particle is picked twice
    rms = math.sqrt(np.mean(distance[np.arange(len(found)), nearest][good] ** 2)) if good.any() else math.nan
    return int(good.sum()), rms


# --- definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, bar", [(np.float64, 1e-8), (np.float32, 2e-6)])
def test_the_response_is_its_definition(rng, dtype, bar):
    """Sigma is 5.4 pixels: the sampled kernel and its transform differ by exp(-2 pi^2 sigma^2 / 4) = 1e-62; what is left is rounding."""
    image = rng.normal(size=(45, 52)).astype(dtype)
    diameters = np.array([18.0, 27.0]) * 2.0
    responses = laplacian_responses(image, 2.0, diameters)
    assert responses.dtype == dtype and responses.shape == (2, 45, 52)
    for response, diameter in zip(responses, diameters):
        sigma = 0.5 * SIGMA_OF_RADIUS * diameter / 2.0
        for row, column in ((0, 0), (22, 30), (44, 3), (10, 51)):
            expected = laplacian_response(image.astype(np.float64), row, column, sigma)
            assert response[row, column] == pytest.approx(expected, abs=bar)
            assert abs(response[row, column] + expected) > 100 * bar  # the sign matters


def test_a_ball_responds_most_at_its_own_diameter():
    """The constant that names diameters is the maximum of the definition, and the docstring's 1.2814 its value."""
    at = {factor: ball_response(1.0, factor * SIGMA_OF_RADIUS) for factor in (0.9999, 1.0, 1.0001)}
    assert at[1.0] > at[0.9999] and at[1.0] > at[1.0001]
    assert at[1.0] == pytest.approx(1.2814, abs=5e-5)
    step = ball_response(1.0, SIGMA_OF_RADIUS * math.sqrt(1.15))
    assert 0.98 < step / at[1.0] < 1.0  # between two diameters of the series


def test_the_response_to_a_ball_has_its_size_and_height():
    y, x = np.mgrid[:300, :300] * 2.0
    radius = 80.0
    ball = 2 * np.sqrt(np.maximum(radius**2 - (x - 300) ** 2 - (y - 300) ** 2, 0))
    diameters = np.geomspace(100, 250, 8)
    middle = laplacian_responses(ball, 2.0, diameters)[:, 150, 150]
    expected = [ball_response(radius, 0.5 * SIGMA_OF_RADIUS * d) for d in diameters]
    np.testing.assert_allclose(middle, expected, rtol=5e-4)  # the ball's rim is sampled by pixels of a fortieth of it
    assert best_diameters(middle[:, None], diameters)[0] == pytest.approx(160, rel=0.01)


def test_the_noise_is_that_of_white_noise(rng):
    """Of white noise s the response has the deviation s / (sigma sqrt(2 pi)), sigma in pixels, with particles or without."""
    places = scattered(rng, 40, (640, 720), 60, 20)
    sigma = 0.5 * SIGMA_OF_RADIUS * DIAMETER / PIXEL_SIZE
    expected = 1 / (sigma * math.sqrt(2 * math.pi))
    for which in (places[:0], places):
        image = -micrograph(rng, which, depth=3.0)
        response = laplacian_responses(image, PIXEL_SIZE, np.array([DIAMETER]))[0]
        # a deviation from about 3000 independent values is known to 2 %, what particles leave around them adds a little
        assert quiet_deviation(response, DIAMETER / PIXEL_SIZE) == pytest.approx(expected, rel=0.1)
    assert np.std(response) > 4 * expected  # a plain deviation would count the particles


# --- finding ----------------------------------------------------------------------------------------------------------


def test_particles_are_found_where_they_are(rng):
    """In the middle 0.4 of the noise of a pixel: invisible pixel by pixel, a significance of about 9."""
    truth = scattered(rng, 60, (640, 720), 55, 25)
    found = find(micrograph(rng, truth))
    count, rms = matched(found.picks.position, truth, 0.25 * DIAMETER / PIXEL_SIZE)
    assert count >= 58 and len(found.picks) - count <= 1
    assert rms * PIXEL_SIZE < 0.08 * DIAMETER
    assert (np.diff(found.picks.score) <= 0).all() and not found.reversed_contrast and found.area == 0


def test_strong_particles_are_placed_to_a_hundredth_of_their_diameter(rng):
    truth = scattered(rng, 60, (640, 720), 55, 25)
    found = find(micrograph(rng, truth, depth=8.0))
    count, rms = matched(found.picks.position, truth, 10.0)
    assert count == len(truth) == len(found.picks)
    assert rms * PIXEL_SIZE < 0.01 * DIAMETER


def test_next_to_nothing_is_found_in_noise(rng):
    """Of 24 such images of noise one in four had a maximum above 4 deviations: more than four in four images are not to be expected."""
    picks = [len(find(rng.normal(size=(640, 720)).astype(np.float32)).picks) for _ in range(4)]
    assert sum(picks) <= 4


def test_the_other_contrast_finds_other_things_and_is_told(rng):
    truth = scattered(rng, 60, (640, 720), 60, 25)
    image = micrograph(rng, truth, depth=1.5)
    inverted, raw = find(image, contrast="inverted"), find(image)
    assert inverted.reversed_contrast and not raw.reversed_contrast
    assert matched(inverted.picks.position, truth, 10.0)[0] == 0
    mirrored = find(100 - image, contrast="inverted")
    np.testing.assert_allclose(mirrored.picks.position, raw.picks.position, atol=1e-3)


def test_brightness_and_scale_make_no_difference(rng):
    truth = scattered(rng, 30, (640, 720), 60, 25)
    image = micrograph(rng, truth, depth=1.0)
    before = image.copy()
    first, second = find(image), find(1000 + 37 * image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_allclose(first.picks.position, second.picks.position, atol=0.02)  # float32 of a mean of 2850
    np.testing.assert_allclose(first.picks.significance, second.picks.significance, rtol=1e-3)


def test_places_turn_with_the_micrograph(rng):
    """A mirrored and a transposed micrograph have the same particles: x and y are not mistaken for each other."""
    truth = scattered(rng, 30, (640, 720), 60, 25)
    image = micrograph(rng, truth, depth=4.0)
    for turned, expected in (
        (image[::-1], truth * [1, -1] + [0, 639]),
        (np.ascontiguousarray(image.T), truth[:, ::-1]),
    ):
        count, rms = matched(find(turned).picks.position, expected, 10.0)
        assert count == 30 and rms < 0.7


def test_sizes_are_told_apart(rng):
    truth = scattered(rng, 30, (640, 720), 90, 45)
    sizes = np.where(np.arange(30) % 2, 160.0, 260.0)
    image = micrograph(rng, truth[1::2], diameter=160.0, depth=3.0)
    image += micrograph(rng, truth[::2], diameter=260.0, depth=3.0, noise=0.0) - 50
    found = find(image, (130.0, 320.0)).picks
    nearest = np.hypot(*(found.position[:, None] - truth).transpose(2, 0, 1)).argmin(axis=1)
    assert sorted(nearest) == list(range(30)) and found.diameter is not None
    # the diameter is that of the response, to which the noise and the neighbours add
    np.testing.assert_allclose(found.diameter, sizes[nearest], rtol=0.12)


def test_most_threshold_highest_distance_and_border(rng):
    truth = scattered(rng, 40, (640, 720), 50, 5)
    image = micrograph(rng, truth, depth=2.0)
    everything = find(image, border=0.0, distance=1.0).picks
    assert len(find(image, most=7).picks) == 7
    np.testing.assert_array_equal(find(image, border=0.0, distance=1.0, most=7).picks.position, everything.position[:7])
    middle = float(np.median(everything.significance))
    assert (find(image, threshold=middle).picks.significance >= middle).all()
    assert find(image, highest=middle).picks.significance.max() <= middle
    inside = find(image, border=200.0).picks.position
    assert inside.min() >= 49 and (inside <= np.array([719, 639]) - 49).all()  # 200 A are 50 pixels
    apart = find(image, border=0.0, distance=400.0).picks.position
    distance = np.hypot(*(apart[:, None] - apart).transpose(2, 0, 1)) + 1e9 * np.eye(len(apart))
    assert distance.min() >= 99 and len(apart) < len(everything)


# --- what is not to be picked -----------------------------------------------------------------------------------------


def test_carbon_and_ice_crystals_are_avoided(rng):
    """A third of the image has strong grain, and a crystal lies in the rest: nothing is picked in them, and the rest as before."""
    shape = (640, 900)
    truth = scattered(rng, 60, shape, 55, 25)
    clean = micrograph(rng, truth, shape, depth=1.0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    carbon = x < 300
    k = np.hypot(np.fft.fftfreq(640)[:, None], np.fft.rfftfreq(900))
    grain = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * np.exp(-200 * k**2), s=shape)
    crystal = ((x - 700) ** 2 + (y - 320) ** 2) < 70**2
    dirty = clean + np.where(carbon, 2.0 * grain / grain.std() - 3.0, 0) - 12.0 * crystal
    before, after = find(clean), find(dirty.astype(np.float32))
    assert before.area == 0 and len(before.suspect) == 0
    assert 0.3 < after.area < 0.6

    def near(position: np.ndarray) -> np.ndarray:
        column, row = position.T
        return (column < 300) | ((column - 700) ** 2 + (row - 320) ** 2 < 70**2)

    assert not near(after.picks.position).any()
    far = truth[(truth[:, 0] > 400) & (np.hypot(truth[:, 0] - 700, truth[:, 1] - 320) > 190)]
    assert len(far) > 10 and matched(after.picks.position, far, 12.0)[0] >= len(far) - 1
    assert near(find(dirty.astype(np.float32), variance=math.inf).picks.position).sum() > 5  # the rule is what did it


def test_stripes_and_edges_are_no_particles(rng):
    y, x = np.mgrid[:640, :720]
    noise = 0.05 * rng.normal(size=(640, 720))
    for stripes in (np.sin(2 * np.pi * x / 80), np.sin(2 * np.pi * (x + 2 * y) / 130), 1.0 * (x > 300)):
        found = find((50 + 5 * stripes + noise).astype(np.float32), variance=math.inf)
        assert len(found.picks) <= 2, len(found.picks)


def test_a_slow_change_of_the_ice_makes_no_picks(rng):
    y, x = np.mgrid[:640, :720]
    truth = scattered(rng, 30, (640, 720), 60, 25)
    image = micrograph(rng, truth, depth=1.5) + 0.02 * x - 0.01 * y
    found = find(image.astype(np.float32))
    assert matched(found.picks.position, truth, 10.0)[0] == 30 and len(found.picks) <= 31


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image, words",
    [
        (np.full((64, 64), 7.0, np.float32), "all have the value 7"),
        (np.full((64, 64), np.nan, np.float32), "NaN"),
        (np.where(np.eye(64) > 0, np.inf, 1.0).astype(np.float32), "infinite"),
        (np.zeros((3, 64, 64), np.float32), "shape"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(DataProblem, match=words):
        find(image)


def test_what_has_no_room_is_refused(rng):
    image = rng.normal(size=(100, 120)).astype(np.float32)
    with pytest.raises(SettingsProblem, match="480 x 400 A"):
        find(image, (500.0, 500.0))
    for wrong in ((0.0, 10.0), (20.0, 10.0), (math.nan, 10.0), (10.0, math.inf)):
        with pytest.raises(SettingsProblem):
            BlobSettings(wrong)
    with pytest.raises(SettingsProblem, match="contrast"):
        working_image(image, 1.0, 2.0, contrast="unknown")


def test_one_defect_is_not_a_particle(rng):
    image = micrograph(rng, np.empty((0, 2)))
    image[300, 300] -= 1e6
    assert len(find(image).picks) == 0


def test_the_series_of_diameters_holds_both_ends():
    assert BlobSettings((120.0, 120.0)).diameters.tolist() == [120.0]
    series = BlobSettings((100.0, 210.0)).diameters
    assert series[0] == pytest.approx(100) and series[-1] == pytest.approx(210)
    assert (series[1:] / series[:-1] <= 1.15 + 1e-9).all()
    assert BlobSettings((100.0, 210.0)).working_pixel_size == 100 / PIXELS
