"""Pictures: sizes, areas, hands, and grey scales."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vitreous.errors import DataProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.jobs.pictures import GUTTER, data_uri, image_gallery, isosurface_picture, slices_picture
from vitreous.jobs.surface import FRONT, SIDE, TOP, SurfaceView, draw_surface

BOX = 48


def ball(z: int = 0, y: int = 0, x: int = 0, radius: float = 6) -> np.ndarray:
    """A smooth ball whose surface at 0.5 has this radius, at an offset from the origin."""
    return np.roll(soft_sphere(BOX, radius - 2, 4, dtype=np.float32), (z, y, x), (0, 1, 2))


def pixels_of(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    image.verify()
    return np.asarray(Image.open(io.BytesIO(png)))


def centre(weights: np.ndarray) -> tuple[float, float]:
    """Centre of gravity from the middle of the picture: to the right, and upwards, as fractions of its size."""
    size = weights.shape[0]
    rows, columns = np.indices(weights.shape)
    total = weights.sum()
    return (columns * weights).sum() / total / size - 0.5 + 0.5 / size, 0.5 - 0.5 / size - (
        rows * weights
    ).sum() / total / size


def seen(volume: np.ndarray, rotation: np.ndarray = FRONT, size: int = 96) -> np.ndarray:
    return draw_surface(SurfaceView(volume, 0.5, field=BOX), rotation, size=size)


# --- isosurfaces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "size"), [(8, 200), (14, 96), (14, 300)])
def test_a_sphere_covers_its_disc(radius, size):
    picture = pixels_of(isosurface_picture(ball(radius=radius), 0.5, [FRONT], size=size, field=BOX))
    assert picture.shape == (size, size, 4)
    # opacity is 0.7 to 1 where covered: pixels of the rim count when more than about half of them is
    area = (picture[..., 3] > 0.4 * 255).sum()
    assert area == pytest.approx(np.pi * (radius / BOX * size) ** 2, rel=0.03)


def test_a_sphere_is_round_and_shaded_from_the_upper_left():
    view = SurfaceView(ball(radius=14), 0.5, field=BOX)
    surface = view.seen(FRONT, 96)
    rows, columns = np.nonzero(surface.covered)
    x, y = (columns + 0.5) / 96 * BOX - BOX / 2, BOX / 2 - (rows + 0.5) / 96 * BOX
    z = np.sqrt(np.clip(14**2 - x**2 - y**2, 0, None))
    inner = np.hypot(x, y) < 10  # at the rim depth and normal change from pixel to pixel
    expected = np.stack([x, y, z], axis=-1)[inner] / 14
    assert (surface.normal[inner] * expected).sum(axis=1).min() > 0.995  # within 6 degrees
    depth = surface.depth[inner] * BOX
    np.testing.assert_allclose(depth - depth.min(), (z[inner].max() - z[inner]), atol=0.25)  # a quarter of a voxel
    picture = draw_surface(view, FRONT, size=96)[..., :3].sum(axis=-1)
    assert picture[35, 35] > 1.3 * picture[60, 60]


@pytest.mark.parametrize(
    ("rotation", "where"),
    [
        (FRONT, {"x": (1, 0), "y": (0, 1), "z": (0, 0)}),
        (SIDE, {"x": (0, 0), "y": (0, 1), "z": (-1, 0)}),
        (TOP, {"x": (1, 0), "y": (0, 0), "z": (0, 1)}),
    ],
)
def test_views_are_right_handed(rotation, where):
    """A ball 12 voxels along an axis appears where the rotation takes that axis: x to the right, y up."""
    for axis, expected in where.items():
        right, up = centre(seen(ball(**{axis: 12}), rotation)[..., 3])
        # a twelfth of a voxel for the origin of an even box at index N/2, half a voxel from its middle
        assert (right * BOX, up * BOX) == pytest.approx((12 * expected[0], 12 * expected[1]), abs=0.6)
    assert np.linalg.det(rotation) == pytest.approx(1)
    third = rotation[2]  # what points at the viewer hides what is behind it
    offset = {name: int(12 * value) for name, value in zip("xyz", third)}
    behind = {name: -value for name, value in offset.items()}
    both = seen(ball(**offset, radius=4) + ball(**behind, radius=9), rotation)
    only = seen(ball(**offset, radius=4), rotation)
    middle = slice(44, 52), slice(44, 52)
    np.testing.assert_allclose(both[middle][..., :3], only[middle][..., :3], atol=0.05)


def test_turning_by_any_angle_keeps_the_shape():
    angle = np.radians(37.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    right, up = centre(seen(ball(x=12), turn)[..., 3])
    assert (right * BOX, up * BOX) == pytest.approx((12 * np.cos(angle), 12 * np.sin(angle)), abs=0.6)


def test_background_is_transparent_and_far_parts_fade():
    picture = seen(ball(x=-12, z=14) + ball(x=12, z=-14))
    assert picture[0, 0, 3] == 0 and picture[:, 48, 3].max() == 0
    near, far = picture[:, :48, 3].max(), picture[:, 48:, 3].max()
    assert near == pytest.approx(1, abs=0.02) and 0.6 < far < near - 0.1


def test_the_field_fits_the_surface():
    small = SurfaceView(ball(radius=5), 0.5)
    assert 10 < small.field < 18
    assert SurfaceView(ball(x=15, radius=5), 0.5).field == pytest.approx(2 * (20 + 2), abs=2)
    assert SurfaceView(np.pad(ball(radius=5), 40), 0.5).field == pytest.approx(small.field)


def test_large_maps_are_binned_and_stay_in_place():
    large = np.zeros((160,) * 3, np.float32)
    large[100:140, 60:100, 60:100] = ball(radius=12)[4:44, 4:44, 4:44]  # centred at z = 120, 40 voxels from the origin
    view = SurfaceView(large, 0.5, field=160.0)
    right, up = centre(draw_surface(view, SIDE, size=128)[..., 3])
    assert (right * 160, up * 160) == pytest.approx((-40, 0), abs=1.0)


def test_all_views_stand_side_by_side():
    picture = pixels_of(isosurface_picture(ball(radius=10), 0.5, size=64))
    assert picture.shape == (64, 3 * 64 + 2 * GUTTER, 4)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(DataProblem, match="threshold"):
        isosurface_picture(ball(), threshold)


# --- grey pictures ---------------------------------------------------------------------------------------------------


def test_slices_and_projections_are_right_handed():
    """One ball at +x, +y and +z: each panel shows its two axes to the right and upwards."""
    picture = pixels_of(slices_picture(ball(x=10, y=6, z=14, radius=4), size=96))
    assert picture.shape == (2 * 96 + GUTTER, 3 * 96 + 2 * GUTTER, 4)
    lower = picture[96 + GUTTER :, :, 0].astype(float)
    expected = [(10, 6), (10, 14), (6, 14)]
    for column, (right, up) in enumerate(expected):
        panel = lower[:, column * (96 + GUTTER) :][:, :96]
        found = centre(np.where(panel > 60, panel, 0))
        assert (found[0] * BOX, found[1] * BOX) == pytest.approx((right, up), abs=0.8)
    upper = pixels_of(slices_picture(ball(x=10, y=6, radius=4), size=96))[:96, :96, 0].astype(float)
    found = centre(np.where(upper > 60, upper, 0))
    assert (found[0] * BOX, found[1] * BOX) == pytest.approx((10, 6), abs=0.8)
    absent = pixels_of(slices_picture(ball(x=10, z=9, radius=4), size=96))[:96]
    assert (
        absent[:, :96, 0].max() == 0 and absent[:, 96 + GUTTER :, 0].max() > 200
    )  # cut by the plane y = 0, not by z = 0


def test_one_hot_pixel_does_not_blacken_an_image():
    image = np.random.default_rng(0).standard_normal((64, 64))
    image[5, 5] = 1e6
    grey = pixels_of(image_gallery([image], size=64))[..., 0]
    assert 90 < grey.mean() < 165 and grey.std() > 30


def test_galleries_lay_out_row_by_row_y_upwards():
    images = np.zeros((5, 16, 16))
    images[3, 12:, 12:] = 1  # high y and x
    sheet = pixels_of(image_gallery(images, columns=3, size=20, same_scale=True))
    assert sheet.shape == (2 * 20 + GUTTER, 3 * 20 + 2 * GUTTER, 4)
    bright = np.argwhere(sheet[..., 0] > 128)
    assert (bright[:, 0] >= 20 + GUTTER).all() and (bright[:, 0] < 20 + GUTTER + 8).all()  # second row, at the top
    assert (bright[:, 1] < 20).all() and (bright[:, 1] >= 12).all()  # first column, at the right
    assert (sheet[20 + GUTTER :, 2 * (20 + GUTTER) :, 3] == 0).all()  # the empty sixth place
    assert (sheet[:20, 20 : 20 + GUTTER, 3] == 0).all()


def test_constant_and_broken_images_are_drawn_nonetheless():
    images = [np.full((8, 8), 3.0), np.full((8, 8), np.nan)]
    sheet = pixels_of(image_gallery(images, size=16))
    assert sheet[8, 8, 0] == pytest.approx(128, abs=1) and sheet[8, 30, 0] == 0
    with pytest.raises(DataProblem, match="no images"):
        image_gallery([])


def test_data_addresses_hold_the_file():
    png = image_gallery(np.zeros((1, 8, 8)), size=8)
    assert base64.b64decode(data_uri(png).removeprefix("data:image/png;base64,")) == png
