"""Interpolation: kernels and their transforms, definition, exactness, rotation, gridding correction."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier import interpolation
from vitreous.fourier.transforms import fourier_pad, translate
from vitreous.reference import interpolation as definition

TIGHT = 1e-12  # rounding of sums of at most 64 products of order 1
LOCAL = ["nearest", "linear", "cubic"]
METHODS = [*LOCAL, "spline", "fourier"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(13)


def grid_points(shape: tuple[int, ...]) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")[::-1]
    return np.stack([g.ravel() for g in grids], axis=-1).astype(float)


# --- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCAL)
def test_kernels_are_their_definitions(name):
    x = np.concatenate([np.linspace(-3, 3, 241), [-0.5, 0.5]])
    fast, slow = getattr(interpolation, f"kernel_{name}"), getattr(definition, f"kernel_{name}")
    np.testing.assert_allclose(fast(x), [slow(v) for v in x], atol=1e-14)
    assert fast(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", [*LOCAL, "spline"])
def test_kernels_sum_to_one_over_the_samples(name):
    x = np.linspace(-0.5, 0.499, 50)[:, None] + np.arange(-3, 4)
    np.testing.assert_allclose(getattr(interpolation, f"kernel_{name}")(x).sum(axis=1), 1.0, atol=1e-14)


@pytest.mark.parametrize("name", LOCAL)
def test_transforms_of_kernels_are_their_integrals(name):
    kernel, fast = getattr(definition, f"kernel_{name}"), getattr(interpolation, f"kernel_{name}_ft")
    for u in (0.0, 1e-3, 0.25, 0.5, 0.8, 1.0, 1.7):
        # Midpoint rule, step 1/1000: error of order step^2, also for the box, whose ends fall between midpoints.
        assert fast(np.array(u)) == pytest.approx(definition.kernel_transform(kernel, u), abs=2e-6)
    assert fast(np.float32([0.0, 0.3])).dtype == np.float32


def test_transform_of_the_cubic_kernel_is_stable_near_zero():
    # Flat at zero to third order (the kernel is exact on parabolas): 1 - O(u^4); no cancellation in single precision.
    u = np.float32([0, 1e-6, 1e-4, 1e-3])
    np.testing.assert_allclose(interpolation.kernel_cubic_ft(u), 1.0, atol=3e-7)


def test_gridding_correction_is_a_separable_product():
    for box in (16, 17):
        line = np.sinc((np.arange(box) - box // 2) / (2 * box))
        cube = interpolation.gridding_correction(box, 2)
        np.testing.assert_allclose(cube, line[:, None, None] ** 2 * line[:, None] ** 2 * line**2, atol=1e-15)
        assert cube[box // 2, box // 2, box // 2] == 1.0
        np.testing.assert_allclose(interpolation.gridding_correction(box, 2, "nearest", 1), line, atol=1e-15)
        assert interpolation.gridding_correction(box, 2, "cubic", 2, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(("padding", "ratio"), [(1, 0.339), (2, 0.970)])
def test_a_radial_sinc_squared_would_be_wrong_in_the_corner(padding, ratio):
    box = 32
    corner = interpolation.gridding_correction(box, padding, "linear", 3)[0, 0, 0]
    radial = np.sinc(np.sqrt(3) * 0.5 / padding) ** 2
    assert radial / corner == pytest.approx(ratio, abs=5e-4)  # printed to three figures


@pytest.mark.parametrize("kernel", LOCAL)
@pytest.mark.parametrize("padding", [1, 2])
def test_gridding_correction_is_what_interpolating_the_transform_does(kernel, padding):
    # Interpolate the transform of a point at r between its samples: the mean amplitude at r is the correction.
    box, position = 16, 6
    size = box * padding
    transform = np.exp(-2j * np.pi * (np.arange(size) - size // 2) * position / size)
    fine = np.arange(0, size, 1 / 64)
    values = interpolation.interpolate(transform, (fine - size // 2)[:, None], kernel, boundary="wrap")
    amplitude = np.mean(values * np.exp(2j * np.pi * (fine - size // 2) * position / size))
    expected = interpolation.gridding_correction(box, padding, kernel, 1)[box // 2 + position]
    # 64 points per sample stand for the integral: an error of 1/64^2 of the kernel's bend.
    assert abs(amplitude) == pytest.approx(expected, abs=4e-4)


def test_half_way_between_fourier_samples_linear_keeps_a_cosine():
    # A feature at r of a box of N: |cos(pi r / N)| half-way between samples; 0.707 for r 32 in 128, 0.924 in 256.
    for box, expected in ((128, 0.707), (256, 0.924)):
        transform = np.exp(-2j * np.pi * (np.arange(box) - box // 2) * 32 / box)
        half_way = interpolation.interpolate(transform, np.array([[10.5]]), "linear")
        assert abs(half_way[0]) == pytest.approx(expected, abs=5e-4)


# --- values at points -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LOCAL)
@pytest.mark.parametrize("shape", [(7,), (8,), (6, 7), (5, 8), (4, 5, 6), (5, 4, 7)])
def test_interpolation_is_the_sum_over_all_samples(method, shape, rng):
    samples = rng.standard_normal((2, *shape))
    points = rng.uniform(-6, 6, (40, len(shape)))  # inside and outside
    kernel = getattr(definition, f"kernel_{method}")
    expected = [[definition.interpolate(s, p, kernel).real for p in points] for s in samples]
    np.testing.assert_allclose(interpolation.interpolate(samples, points, method), expected, atol=TIGHT)
    mirrored = interpolation.interpolate(samples, -points, method)
    assert np.abs(mirrored - expected).max() > 0.1


@pytest.mark.parametrize("shape", [(7,), (8,), (6, 7), (5, 8), (4, 5, 6), (3, 4, 5)])
def test_fourier_interpolation_is_the_sum_over_all_samples(shape, rng):
    samples = rng.standard_normal((2, *shape))
    points = rng.uniform(-6, 6, (10, len(shape)))
    expected = [[definition.interpolate_fourier(s, p).real for p in points] for s in samples]
    np.testing.assert_allclose(interpolation.interpolate(samples, points, "fourier"), expected, atol=TIGHT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(7,), (6, 7), (5, 4, 6)])
@pytest.mark.parametrize("boundary", ["zero", "wrap", "edge"])
def test_samples_are_met(method, shape, boundary, rng):
    samples = rng.standard_normal(shape)
    points = grid_points(shape)
    values = interpolation.interpolate(samples, points, method, boundary=boundary).reshape(shape)
    np.testing.assert_allclose(values, samples, atol=TIGHT)


def test_boundaries():
    samples = np.array([1.0, 2.0, 4.0, 8.0])  # at -2, -1, 0, 1
    points = np.array([[-3.0], [1.5], [2.0]])
    assert interpolation.interpolate(samples, points, "linear").tolist() == [0.0, 4.0, 0.0]
    assert interpolation.interpolate(samples, points, "linear", boundary="edge").tolist() == [1.0, 8.0, 8.0]
    assert interpolation.interpolate(samples, points, "linear", boundary="wrap").tolist() == [8.0, 4.5, 1.0]


@pytest.mark.parametrize(("method", "degree"), [("linear", 1), ("cubic", 2), ("spline", 3)])
def test_polynomials_are_reproduced(method, degree, rng):
    x = np.arange(41) - 20.0
    points = rng.uniform(-3, 3, (30, 1))
    coefficients = rng.standard_normal(degree + 1)
    samples = np.polyval(coefficients, x)
    # The spline's coefficients see the edge 17 samples away: 0.268^17 of its jump, some thousands.
    tolerance = 1e-5 if method == "spline" else 1e-12
    values = interpolation.interpolate(samples, points, method)
    np.testing.assert_allclose(values, np.polyval(coefficients, points[:, 0]), atol=tolerance)
    beyond = interpolation.interpolate(x ** (degree + 1), points, method)
    assert np.abs(beyond - points[:, 0] ** (degree + 1)).max() > 1e-3  # and not one degree more


@given(st.integers(3, 12), st.floats(-20, 20), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_fourier_is_exact_on_waves_that_the_box_holds(size, position, seed):
    k = int(np.random.default_rng(seed).integers(0, (size + 1) // 2))
    samples = np.cos(2 * np.pi * k * (np.arange(size) - size // 2) / size + 0.7)
    value = interpolation.interpolate(samples, np.array([[position]]), "fourier")
    assert value[0] == pytest.approx(np.cos(2 * np.pi * k * position / size + 0.7), abs=1e-12)


def test_spline_agrees_with_scipy(rng):
    samples = rng.standard_normal((9, 8))
    points = rng.uniform(-8, 8, (50, 2))
    expected = scipy.ndimage.map_coordinates(samples, [points[:, 1] + 4, points[:, 0] + 4], order=3, mode="grid-wrap")
    np.testing.assert_allclose(
        interpolation.interpolate(samples, points, "spline", boundary="wrap"), expected, atol=TIGHT
    )


def test_linear_agrees_with_scipy(rng):
    samples = rng.standard_normal((6, 7, 8))
    points = rng.uniform(-2, 2, (50, 3))
    expected = scipy.ndimage.map_coordinates(samples, (points[:, ::-1] + [3, 3, 4]).T, order=1)
    np.testing.assert_allclose(interpolation.interpolate(samples, points), expected, atol=TIGHT)


def test_points_for_all_arrays_or_for_each(rng):
    samples, points = rng.standard_normal((3, 6, 7)), rng.uniform(-3, 3, (3, 11, 2))
    for method in METHODS:
        each = interpolation.interpolate(samples, points, method)
        shared = interpolation.interpolate(samples, points[1], method)
        alone = interpolation.interpolate(samples[1], points[1], method)
        np.testing.assert_allclose(each[1], alone, atol=TIGHT)
        np.testing.assert_allclose(shared[1], alone, atol=TIGHT)
        folded = interpolation.interpolate(samples[1], points, method)  # one array, points in any arrangement
        np.testing.assert_allclose(folded[1], alone, atol=TIGHT)


def test_complex_samples(rng):
    samples = rng.standard_normal((6, 7)) + 1j * rng.standard_normal((6, 7))
    points = rng.uniform(-3, 3, (11, 2))
    for method in METHODS:
        both = interpolation.interpolate(samples, points, method)
        parts = [interpolation.interpolate(part, points, method) for part in (samples.real, samples.imag)]
        np.testing.assert_allclose(both, parts[0] + 1j * parts[1], atol=TIGHT)


def test_many_points_in_pieces(rng, monkeypatch):
    samples, points = rng.standard_normal((2, 4, 5, 6)), rng.uniform(-3, 3, (2, 25, 3))
    whole = [interpolation.interpolate(samples, points, method) for method in METHODS]
    monkeypatch.setattr(interpolation, "_PIECE", 7)
    monkeypatch.setattr(interpolation, "_NUMBERS", 100)
    for method, expected in zip(METHODS, whole):
        np.testing.assert_allclose(interpolation.interpolate(samples, points, method), expected, atol=TIGHT)


# --- rotation and resampling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [11, 12])
def test_rotation_turns_from_x_towards_y(method, size):
    image = np.zeros((size, size))
    image[size // 2, size // 2 + 3] = 1.0  # a point on +x
    turned = interpolation.rotate_image(image, np.pi / 2, method)
    expected = np.zeros((size, size))
    expected[size // 2 + 3, size // 2] = 1.0  # on +y
    inner = np.s_[1:, 1:]  # the first row and column of an even box turn out of it
    np.testing.assert_allclose(turned[inner], expected[inner], atol=1e-9 if method != "nearest" else 0)


def blobs(size: int, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    centres = np.random.default_rng(seed).uniform(-0.27 * size, 0.27 * size, (12, 2))
    return sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 2.5**2)) for a, b in centres)


@pytest.mark.parametrize(
    ("method", "tolerance"), [("linear", 0.06), ("cubic", 8e-3), ("spline", 1e-3), ("fourier", 1e-6)]
)
def test_rotation_of_blobs_is_the_rotated_blobs(method, tolerance):
    # Gaussians of 2.5 pixels and height 1: the tolerance is the method's own error on them, each better than the last.
    size, angle = 64, 0.7
    y, x = np.mgrid[:size, :size] - size // 2
    centre = np.array([12.0, -7.0])

    def blob(c):
        return np.exp(-((x - c[0]) ** 2 + (y - c[1]) ** 2) / (2 * 2.5**2))

    moved = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ centre
    turned = interpolation.rotate_image(blob(centre), angle, method)
    seen = np.hypot(x, y) < 31  # the corners look outside the box, where "fourier" repeats it
    np.testing.assert_allclose(turned[seen], blob(moved)[seen], atol=tolerance)
    assert np.abs(interpolation.rotate_image(blob(centre), -angle, method) - blob(moved)).max() > 0.5


@pytest.mark.parametrize(("method", "correlation"), [("linear", 0.948), ("spline", 0.99999)])
def test_thirty_six_turns_of_ten_degrees(method, correlation):
    image = blobs(96)
    turned = image
    for _ in range(36):
        turned = interpolation.rotate_image(turned, np.deg2rad(10), method)
    # The figure depends a little on where the blobs lie: 1e-2 for linear, and for the spline 1e-5 of 1e-5.
    tolerance = 0.02 if method == "linear" else 2e-5
    assert np.corrcoef(turned.ravel(), image.ravel())[0, 1] == pytest.approx(correlation, abs=tolerance)


def test_rotations_for_each_image(rng):
    images, angles = rng.standard_normal((3, 8, 8)), np.array([0.1, 1.0, -2.0])
    turned = interpolation.rotate_image(images, angles)
    for i in range(3):
        np.testing.assert_allclose(turned[i], interpolation.rotate_image(images[i], angles[i]), atol=TIGHT)


def test_resample_magnifies_about_the_origin(rng):
    image = rng.standard_normal((9, 9))
    large = interpolation.resample(image, np.eye(2) / 3, (27, 27), "linear")
    np.testing.assert_allclose(large[1::3, 1::3], image, atol=TIGHT)  # origin 13 on origin 4
    fine, _ = fourier_pad(image, 27, 2)
    band_limited = interpolation.resample(image, np.eye(2) / 3, (27, 27), "fourier")
    np.testing.assert_allclose(band_limited, fine, atol=TIGHT)


def test_resample_a_volume_with_a_rotation(rng):
    volume = rng.standard_normal((7, 7, 7))
    about_z = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x to y
    turned = interpolation.resample(volume, about_z.T)
    np.testing.assert_allclose(turned, np.rot90(volume, 1, axes=(2, 1)), atol=TIGHT)
    assert np.abs(interpolation.resample(volume, about_z) - turned).max() > 0.1


def test_fourier_values_at_shifted_points_are_the_translated_image(rng):
    image = rng.standard_normal((7, 9))
    moved = interpolation.interpolate(image, grid_points((7, 9)) - [1.3, -0.4], "fourier").reshape(7, 9)
    np.testing.assert_allclose(moved, translate(image, np.array([1.3, -0.4])), atol=TIGHT)


# --- JAX, dtypes, faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "shape"), [*((m, (6, 7)) for m in METHODS), ("linear", (4, 5, 6)), ("fourier", (4, 5, 6))]
)
def test_jax_agrees_with_numpy_under_jit(method, shape, rng):
    import jax

    samples, points = rng.standard_normal((2, *shape)), rng.uniform(-5, 5, (2, 9, len(shape)))
    boundaries = ("zero", "wrap", "edge") if method != "fourier" else ("wrap",)

    def call(s, p):
        return [interpolation.interpolate(s, p, method, boundary=boundary) for boundary in boundaries]

    expected = call(samples, points)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(call)(samples, points), expected, atol=TIGHT)
    single = call(samples.astype(np.float32), points.astype(np.float32))
    assert single[0].dtype == np.float32
    if method != "nearest":  # a point may fall on the other side of a boundary
        np.testing.assert_allclose(single, expected, atol=2e-5)


def test_vmap_and_single_precision_under_jit(rng):
    import jax

    samples = rng.standard_normal((2, 6, 7)).astype(np.float32)
    points = rng.uniform(-5, 5, (2, 9, 2)).astype(np.float32)
    got = jax.jit(jax.vmap(lambda s, p: interpolation.interpolate(s, p, "cubic")))(samples, points)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, interpolation.interpolate(samples, points, "cubic"), atol=2e-5)


@pytest.mark.parametrize("method", ["linear", "cubic", "spline", "fourier"])
def test_gradients(method, rng):
    import jax

    samples, points = rng.standard_normal((6, 7)), rng.uniform(-2, 2, (5, 2))

    def total(s, p):
        return (interpolation.interpolate(s, p, method) ** 2).sum()

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
        by_samples, by_points = gradient(samples, points)
        direction, step = rng.standard_normal((5, 2)), 1e-6
        finite = (total(samples, points + step * direction) - total(samples, points - step * direction)) / (2 * step)
        assert np.sum(by_points * direction) == pytest.approx(finite, rel=1e-6)  # central differences
        # A square of a linear map: half of samples . gradient is the value itself.
        assert np.sum(by_samples * samples) / 2 == pytest.approx(total(samples, points), rel=1e-12)
        assert np.all(np.isfinite(gradient(samples, np.round(points))[1]))  # on the samples


def test_gradients_of_kernel_transforms_are_finite_at_zero():
    import jax

    def total(u):
        names = ("nearest", "linear", "cubic")
        return sum(getattr(interpolation, f"kernel_{name}_ft")(u) for name in names)

    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(total))
        assert slope(0.0) == 0.0
        assert slope(0.3) == pytest.approx((total(0.3 + 1e-6) - total(0.3 - 1e-6)) / 2e-6, rel=1e-6)


def test_inputs_are_unchanged(rng):
    samples, points = rng.standard_normal((6, 7)), rng.uniform(-5, 5, (9, 2))
    kept = samples.copy(), points.copy()
    for method in METHODS:
        interpolation.interpolate(samples, points, method, boundary="wrap")
        interpolation.rotate_image(samples, 0.3, method)
    np.testing.assert_array_equal(samples, kept[0])
    np.testing.assert_array_equal(points, kept[1])


def test_integer_samples_are_interpolated_as_numbers():
    assert interpolation.interpolate(np.array([0, 1]), np.array([[-0.5]])).tolist() == [0.5]


def test_faults(rng):
    image, points = np.ones((4, 4)), np.zeros((1, 2))
    for call in (
        lambda: interpolation.interpolate(image, points, "sinc"),
        lambda: interpolation.interpolate(image, points, boundary="reflect"),
        lambda: interpolation.gridding_correction(8, 2, "fourier"),
    ):
        with pytest.raises(SettingsProblem, match="expected"):
            call()
    with pytest.raises(DataProblem, match="coordinates"):
        interpolation.interpolate(image, np.zeros((1, 3)))
    with pytest.raises(DataProblem, match="points of shape"):
        interpolation.interpolate(np.ones((3, 4, 4)), np.zeros((2, 1, 2)))
