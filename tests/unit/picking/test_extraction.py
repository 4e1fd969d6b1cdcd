"""Cutting particles out: which pixels, what is left of the way, and what is done to the images. Signs and half pixels count."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import background_statistics
from vitreous.fourier.transforms import crop_transform, forward, inverse, translate
from vitreous.picking.extraction import (
    Recipe,
    brightness,
    cut_boxes,
    cut_pixels,
    dust_pixels,
    filled_fraction,
    outside,
    particle_images,
    without_dust,
    without_ramp,
)

SHAPE = (60, 75)
PLAIN = {"invert": False, "ramp": False, "normalise": False}


def defined_box(image: np.ndarray, x: int, y: int, box: int) -> np.ndarray:
    """Pixel by pixel: the origin of the box, index N // 2, is the pixel (x, y); beyond the border stands the nearest pixel."""
    height, width = image.shape
    cut = np.empty((box, box), image.dtype)
    for i in range(box):
        for j in range(box):
            row, column = y + i - box // 2, x + j - box // 2
            cut[i, j] = image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return cut


@pytest.fixture
def micrograph(rng) -> np.ndarray:
    return rng.normal(100.0, 5.0, SHAPE).astype(np.float32)


# --- where ------------------------------------------------------------------------------------------------------------

PLACES = np.array([[30, 30], [3, 29], [74, 59], [0, 0], [40, 8], [37, 8], [-2, 30]])


@pytest.mark.parametrize("box", [16, 17])
def test_boxes_are_those_of_the_definition(micrograph, box):
    before = micrograph.copy()
    boxes = cut_boxes(micrograph, PLACES, box)
    assert boxes.dtype == np.float32 and np.array_equal(micrograph, before)
    for cut, (x, y) in zip(boxes, PLACES):
        assert np.array_equal(cut, defined_box(micrograph, x, y, box))
        assert not np.array_equal(cut, defined_box(micrograph, x + 1, y, box))  # a box one pixel off is another box
        assert not np.array_equal(cut, defined_box(micrograph, y, x, box)) or x == y  # x is x


def test_jax_cuts_the_same_boxes(micrograph):
    import jax
    import jax.numpy as jnp

    cut = jax.jit(cut_boxes, static_argnums=2)(jnp.asarray(micrograph), jnp.asarray(PLACES), 16)
    assert np.array_equal(np.asarray(cut), cut_boxes(micrograph, PLACES, 16))


def test_the_filled_part_is_what_lies_outside():
    inside = np.zeros(SHAPE, dtype=np.float32)
    padded = np.pad(inside, 40, constant_values=1.0)  # 1 beyond the border
    for box in (16, 17):
        counted = [cut.mean() for cut in cut_boxes(padded, PLACES + 40, box)]
        assert np.allclose(filled_fraction(SHAPE, PLACES, box), counted, atol=1e-6)  # float32 means of 289 pixels
    assert filled_fraction(SHAPE, np.array([[500, 30]]), 16) == 1.0
    assert (
        outside(SHAPE, np.array([[0, 0], [74, 59], [75, 0], [0, 60], [-1, 5], [5, -1]])).tolist()
        == [False] * 2 + [True] * 4
    )


def test_coordinate_and_origin_say_the_same_centre_before_and_after(rng):
    coordinate, origin = rng.uniform(-5, 90, (200, 2)), rng.normal(0, 20, (200, 2))
    centre = coordinate - origin / 1.7
    for recentre in (False, True):
        pixel, left = cut_pixels(coordinate, origin, 1.7, recentre=recentre)
        assert np.allclose(pixel - left / 1.7, centre, atol=1e-10)
        assert np.abs(pixel + left / 1.7 - centre).max() > 0.9  # the sign of an origin
        aim = centre if recentre else coordinate
        assert np.abs(pixel - aim).max() <= 0.5 + 1e-12
    assert np.abs(left).max() <= 0.5 * 1.7 + 1e-9  # recentred particles are in the middle
    sizes = np.where(np.arange(200) < 100, 1.7, 2.0)
    assert np.array_equal(cut_pixels(coordinate, origin, sizes)[1][:100], cut_pixels(coordinate, origin, 1.7)[1][:100])


def test_half_a_pixel_is_rounded_up_everywhere():
    """Not to even numbers, which would shift every second row of a grid of picks."""
    assert cut_pixels(np.array([[0.5, 1.5], [2.5, -0.5]]), np.zeros((2, 2)), 1.0)[0].tolist() == [[1, 2], [3, 0]]


# --- what is done to the images ---------------------------------------------------------------------------------------


def blob(shape: tuple[int, int], x: float, y: float) -> np.ndarray:
    """A lopsided particle whose centre of mass is (x, y): two Gaussians."""
    rows, columns = np.indices(shape)
    return sum(
        weight * np.exp(-((columns - x - dx) ** 2 + (rows - y - dy) ** 2) / (2 * sigma**2))
        for weight, dx, dy, sigma in ((1.0, 1.2, -0.4, 2.0), (0.5, -2.4, 0.8, 2.0))
    )


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, -0.5), (-0.3, 0.2), (0.49, 0.1)])
def test_a_particle_is_where_its_origin_says(offset):
    """Moved by its origin, the image is that of a particle in the middle. Half a pixel off, or the other sign, is not."""
    x, y = 30 + offset[0], 27 + offset[1]
    pixel, origin = cut_pixels(np.array([[x, y]]), np.zeros((1, 2)), 2.0)
    images = particle_images(-blob(SHAPE, x, y), pixel, Recipe(32, 12.0, invert=True, ramp=False, normalise=False))
    truth = blob((32, 32), 16.0, 16.0)
    moved = translate(images, origin / 2.0)[0]
    # the particle fades to 1e-5 at the edge of the box, which is where its periodic images begin
    assert np.abs(moved - truth).max() < 1e-4
    for wrong in (origin + 1.0, -origin if any(offset) else origin - 1.0):
        assert np.abs(translate(images, wrong / 2.0)[0] - truth).max() > 0.02


@pytest.mark.parametrize(("box", "size"), [(32, 16), (33, 20), (32, 31), (30, 15)])
def test_reduced_images_are_cropped_transforms(micrograph, box, size):
    pixel = np.array([[30, 30], [40, 20]])
    images = particle_images(micrograph, pixel, Recipe(box, 10.0, size, **PLAIN))
    boxes = np.stack([defined_box(micrograph, x, y, box) for x, y in pixel])
    expected = inverse(crop_transform(forward(boxes, 2), (box, box), (size, size)), (size, size))
    assert images.shape == (2, size, size) and images.dtype == np.float32
    assert np.array_equal(images, expected)
    assert images.mean() == pytest.approx(boxes.mean(), rel=1e-6)  # values stay on their scale


def test_a_reduced_particle_stays_in_the_middle():
    """The origin of the box is the origin of the smaller box: a particle cut at its centre has its mass there."""
    rows, columns = np.indices((90, 90)) - 45
    image = np.exp(-(rows**2 + columns**2) / (2 * 4.0**2))  # a width that the smaller box resolves
    small = particle_images(image, np.array([[45, 45]]), Recipe(64, 25.0, 32, **PLAIN))[0]
    rows, columns = np.indices(small.shape) - 16
    assert abs((small * rows).sum() / small.sum()) < 1e-6 and abs((small * columns).sum() / small.sum()) < 1e-6


def test_dark_protein_becomes_bright(rng):
    image = (500 - 30 * blob(SHAPE, 30, 30) + rng.normal(0, 2, SHAPE)).astype(np.float32)
    pixel = np.array([[30, 30]])
    bright = particle_images(image, pixel, Recipe(32, 10.0))
    assert bright[0, 16, 16] > 5 and brightness(bright, 10.0)[0] > 1
    dark = particle_images(image, pixel, Recipe(32, 10.0, invert=False))
    assert np.allclose(dark, -bright, atol=1e-4)  # single precision of 30 deviations
    assert brightness(dark, 10.0)[0] < -1


def test_the_background_has_mean_0_and_deviation_1(micrograph):
    for size in (None, 16):
        recipe = Recipe(32, 10.0, size)
        images = particle_images(micrograph, np.array([[30, 30], [50, 20], [2, 2]]), recipe)
        mean, deviation = background_statistics(images, recipe.final_radius)
        assert np.abs(mean).max() < 1e-5 and np.abs(deviation - 1).max() < 1e-5  # single precision


def test_a_ramp_is_taken_away_and_nothing_else(rng):
    rows, columns = np.indices((33, 40)) * 1.0
    plane = 1000 + 3.0 * rows - 2.0 * columns
    flat = rng.normal(0, 1, (2, 33, 40))
    flat = without_ramp(flat, 9.0)
    assert np.abs(without_ramp(flat + plane, 9.0) - flat).max() < 1e-9
    assert np.abs(without_ramp(flat, 9.0) - flat).max() < 1e-12  # done once is done
    single = without_ramp((flat + plane).astype(np.float32), 9.0)
    assert (
        single.dtype == np.float32 and np.abs(single - flat).max() < 2e-3
    )  # counts of 1100 have steps of 1e-4 in float32
    # what is inside the circle has no say in the plane
    disc = np.hypot(np.arange(33)[:, None] - 16, np.arange(40) - 20) <= 9.0
    spot = np.where(disc & (np.arange(40) > 22), 50.0, 0.0)
    assert np.abs(without_ramp(flat + spot, 9.0) - (flat + spot)).max() < 1e-12


def test_dust_is_found_and_replaced(rng):
    images = rng.normal(100, 5, (3, 32, 32))
    images[0, 3, 4], images[0, 16, 16], images[1, 30, 2], images[1, 30, 3] = 1e5, 160.0, 40.0, 5e3
    dust = dust_pixels(images, 10.0, 8.0)
    assert np.argwhere(dust).tolist() == [[0, 3, 4], [0, 16, 16], [1, 30, 2], [1, 30, 3]]  # the 1e5 hides none
    noise = np.full(images.shape, 2.0)
    clean = without_dust(images, dust, 10.0, noise)
    assert np.array_equal(clean[~dust], images[~dust])
    assert np.allclose(clean[dust], 110, atol=1.5)  # mean + 2 deviations of 740 pixels of background
    assert not dust_pixels(np.ones((1, 32, 32)), 10.0, 5.0).any()
    images_of = particle_images(images[0], np.array([[16, 16]]), Recipe(32, 10.0, dust=8.0, **PLAIN), noise=noise[:1])
    assert np.array_equal(images_of, clean[:1])


def test_dust_goes_before_anything_spreads_it(rng):
    """A cosmic ray in a reduced image would be a cross of ripples: there is none."""
    image = rng.normal(0, 1, (64, 64))
    struck = image.copy()
    struck[5, 50] += 1000.0
    recipe, pixel = Recipe(64, 20.0, 32, dust=8.0), np.array([[32, 32]])
    noise = np.zeros((1, 64, 64))
    quiet, cleaned = (particle_images(one, pixel, recipe, noise=noise) for one in (image, struck))
    spoiled = particle_images(struck, pixel, Recipe(64, 20.0, 32))
    assert np.abs(cleaned - quiet).max() < 1.0 < np.abs(spoiled - quiet).max()
    assert np.median(np.abs(cleaned - quiet)) < 0.01 < np.median(np.abs(spoiled - quiet))


def test_jax_makes_the_same_images(micrograph):
    import jax
    import jax.numpy as jnp

    noise = np.random.default_rng(1).standard_normal((2, 32, 32)).astype(np.float32)
    micrograph[20, 30] = 1e4
    recipe, pixel = Recipe(32, 10.0, 16, dust=6.0), np.array([[30, 30], [40, 20]])
    ours = particle_images(micrograph, pixel, recipe, noise=noise)

    def middle(image):
        images = particle_images(image, jnp.asarray(pixel), recipe, noise=noise)
        return images[0, 8, 8], images

    (_, theirs), slope = jax.jit(jax.value_and_grad(middle, has_aux=True))(jnp.asarray(micrograph))
    assert (
        theirs.dtype == jnp.float32 and np.abs(np.asarray(theirs) - ours).max() < 2e-4
    )  # single precision of counts of 100
    assert np.isfinite(np.asarray(slope)).all() and float(slope[30, 30]) < 0  # inverted contrast


def test_a_constant_image_divides_nothing_by_zero():
    images = particle_images(np.full((40, 40), 7.0), np.array([[20, 20]]), Recipe(16, 6.0))
    assert np.abs(images).max() < 1e-9 and brightness(images, 6.0)[0] == 0


def test_what_cannot_be_is_refused():
    with pytest.raises(SettingsProblem, match="reduced to 33"):
        Recipe(32, 10.0, 33)
    with pytest.raises(SettingsProblem, match="circle"):
        Recipe(32, 16.5)
    with pytest.raises(SettingsProblem, match="a box of 1 "):
        Recipe(1, 0.5)
    with pytest.raises(SettingsProblem, match="dust"):
        Recipe(32, 10.0, dust=0.0)
    with pytest.raises(SettingsProblem, match="no noise"):
        particle_images(np.zeros((40, 40)), np.array([[20, 20]]), Recipe(16, 6.0, dust=5.0))
    with pytest.raises(SettingsProblem, match="plane"):
        without_ramp(np.zeros((1, 2, 2)), 1.2)
    with pytest.raises(DataProblem, match="3 axes"):
        cut_boxes(np.zeros((2, 8, 8)), np.array([[4, 4]]), 4)
