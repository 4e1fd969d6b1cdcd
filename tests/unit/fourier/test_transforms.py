"""Transforms: agreement with the definition and SciPy, the layout, shifts, changes of box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier import transforms
from vitreous.reference import dft

# Every parity of every axis, in 1, 2 and 3 dimensions.
SHAPES = [(6,), (7,), (6, 8), (6, 7), (5, 8), (5, 7), (4, 6, 8), (4, 5, 6), (5, 4, 7), (3, 5, 7), (4, 4, 5), (5, 6, 4)]
# Rounding of sums of at most a few hundred numbers of order 1, in double precision.
TIGHT = 1e-12
# The same in single precision.
SINGLE = 2e-5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def moved_by_roll(x: np.ndarray, shift: tuple[int, ...]) -> np.ndarray:
    return np.roll(x, shift[::-1], axis=tuple(range(-len(shift), 0)))


# --- definition -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_the_defining_sum(shape, rng):
    x = rng.standard_normal((2, *shape))
    expected = dft.half(dft.dft(x, len(shape)))
    np.testing.assert_allclose(transforms.forward(x, len(shape)), expected, atol=TIGHT)
    assert np.abs(np.conj(transforms.forward(x, len(shape))) - expected).max() > 0.1  # the sign of the exponent shows


@pytest.mark.parametrize("shape", SHAPES)
def test_complex_transform_is_the_defining_sum(shape, rng):
    x = rng.standard_normal((2, *shape)) + 1j * rng.standard_normal((2, *shape))
    expected = dft.dft(x, len(shape))
    np.testing.assert_allclose(transforms.fft(x, len(shape)), expected, atol=TIGHT)
    np.testing.assert_allclose(transforms.ifft(expected, len(shape)), dft.idft(expected, len(shape)), atol=TIGHT)
    np.testing.assert_allclose(transforms.ifft(expected, len(shape)), x, atol=TIGHT)


def test_definition_agrees_with_its_sum_over_samples(rng):
    x = rng.standard_normal((3, 4, 5))
    k = [dft.frequency_numbers(n) / n for n in x.shape]
    at = np.array([dft.dft_at(x, np.array([k[2][3], k[1][2], k[0][1]]))])
    np.testing.assert_allclose(dft.dft(x, 3)[1, 2, 3], at[0], atol=TIGHT)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes_forward_for_batches(shape, rng):
    x = rng.standard_normal((2, 3, *shape))
    back = transforms.inverse(transforms.forward(x, len(shape)), shape)
    np.testing.assert_allclose(back, x, atol=TIGHT)
    one = transforms.inverse(transforms.forward(x[1, 2], len(shape)), shape)
    np.testing.assert_allclose(one, back[1, 2], atol=TIGHT)  # the batch does not matter


def test_inverse_takes_one_size_for_a_cube(rng):
    x = rng.standard_normal((5, 5, 5))
    np.testing.assert_allclose(transforms.inverse(transforms.forward(x, 3), 5, 3), x, atol=TIGHT)


@pytest.mark.parametrize("shape", SHAPES)
def test_agreement_with_scipy(shape, rng):
    x = rng.standard_normal(shape)
    axes = tuple(range(len(shape)))
    np.testing.assert_allclose(
        transforms.forward(x, len(shape)), scipy.fft.rfftn(scipy.fft.ifftshift(x), axes=axes), atol=TIGHT
    )


@pytest.mark.parametrize("size", [256, 1024])
def test_definition_is_as_exact_as_a_double_allows(size, rng):
    # With the remainder of j k taken first each term of the matrix is right to the last digit, and so is their sum.
    x = rng.standard_normal(size)
    exact = transforms.forward(x, 1)
    error = np.abs(dft.half(dft.dft(x, 1)) - exact).max() / np.abs(exact).max()
    assert error < 2e-15
    careless = np.exp(-2j * np.pi * np.outer(dft.frequency_numbers(size), np.arange(size) - size // 2) / size)
    assert np.abs(dft.half(careless @ x) - exact).max() / np.abs(exact).max() > 5 * error


@pytest.mark.parametrize(
    ("step", "expected"), [(0.25, 3.49e-6), (0.4, 7.38e-3), (0.5, 0.0432), (0.6, 0.113), (0.75, 0.2475)]
)
def test_aliasing_of_a_sampled_gaussian(step, expected):
    # exp(-pi x^2) is its own transform. DFT * dx differs by the neighbouring copy, exp(-pi/(4 dx^2)) at Nyquist.
    x = (np.arange(64) - 32) * step
    transform = transforms.forward(np.exp(-np.pi * x**2), 1) * step
    (k,) = transforms.frequencies((64,), step)
    difference = np.abs(transform - np.exp(-np.pi * k**2))
    assert difference.argmax() == 32
    assert difference.max() == pytest.approx(
        expected, rel=0.02
    )  # the three figures to which the table is printed, and further copies


# --- layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_point_at_the_origin_has_phase_zero_everywhere(shape):
    x = np.zeros(shape)
    x[tuple(n // 2 for n in shape)] = 1.0
    np.testing.assert_allclose(transforms.forward(x, len(shape)), 1.0, atol=TIGHT)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_point_has_the_phase_of_its_position(shape):
    ndim = len(shape)
    position = np.array([1, -1, 1][:ndim])  # x, y, z
    x = np.zeros(shape)
    x[tuple(n // 2 + p for n, p in zip(shape, position[::-1]))] = 1.0
    k = transforms.frequencies(shape)
    expected = np.exp(-2j * np.pi * sum(ki * p for ki, p in zip(k, position)))
    np.testing.assert_allclose(transforms.forward(x, ndim), expected, atol=TIGHT)
    assert np.abs(transforms.forward(x, ndim) - np.conj(expected)).max() > 0.1


def test_frequencies_are_in_vector_order_and_in_inverse_angstrom():
    kx, ky, kz = transforms.frequencies((4, 6, 8), 2.0)
    assert (kx.shape, ky.shape, kz.shape) == ((1, 1, 5), (1, 6, 1), (4, 1, 1))
    np.testing.assert_allclose(kx.ravel(), np.arange(5) / 16, atol=1e-15)
    np.testing.assert_allclose(ky.ravel(), np.array([0, 1, 2, -3, -2, -1]) / 12, atol=1e-15)
    np.testing.assert_allclose(kz.ravel(), np.array([0, 1, -2, -1]) / 8, atol=1e-15)
    np.testing.assert_allclose(transforms.radial_frequency((4, 6, 8), 2.0), np.sqrt(kx**2 + ky**2 + kz**2), atol=1e-15)
    assert transforms.frequencies((5,), half=False)[0].tolist() == [0.0, 0.2, 0.4, -0.4, -0.2]
    assert transforms.radial_frequency((8, 8), 1.3, dtype=np.float32).dtype == np.float32


def test_bins_of_a_box_of_128_pixels_of_1_angstrom():
    (k,) = transforms.frequencies((128,), 1.0)
    assert k[1] == 0.0078125
    np.testing.assert_allclose(1 / k[1:4], [128, 64, 42.67], rtol=1e-4)  # printed to four figures
    np.testing.assert_allclose(1 / k[-3:], [2.0645, 2.0317, 2.0], rtol=1e-4)
    assert np.sum((k > 1 / 10) & (k <= 1 / 5)) == 13


@pytest.mark.parametrize("shape", SHAPES)
def test_parseval(shape, rng):
    x = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    power = np.sum(np.abs(transforms.fft(x, len(shape))) ** 2) / math.prod(shape)
    assert power == pytest.approx(np.sum(np.abs(x) ** 2), rel=1e-13)


def test_the_transform_of_a_projection_is_a_central_slice(rng):
    volume = rng.standard_normal((6, 7, 8))
    slice_ = transforms.forward(volume, 3)[0]
    np.testing.assert_allclose(transforms.forward(volume.sum(axis=0), 2), slice_, atol=TIGHT)


@given(st.integers(2, 12), st.integers(2, 12), st.floats(-2, 2), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_linearity(rows, columns, factor, seed):
    a, b = np.random.default_rng(seed).standard_normal((2, rows, columns))
    left = transforms.forward(a + factor * b, 2)
    np.testing.assert_allclose(left, transforms.forward(a, 2) + factor * transforms.forward(b, 2), atol=TIGHT)


# --- precision, purity, JAX -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (4, 6, 5), (5, 4, 6)])
def test_single_precision_stays_single(shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    transform = transforms.forward(x, len(shape), workers=2)
    assert transform.dtype == np.complex64
    assert transforms.inverse(transform, shape).dtype == np.float32
    assert transforms.fft(x, len(shape)).dtype == np.complex64
    assert transforms.ifft(transforms.fft(x, len(shape)), len(shape)).dtype == np.complex64
    assert transforms.translate(x, np.ones(len(shape))).dtype == np.float32
    assert transforms.fourier_crop(x[..., :4, :4], 2, 2)[0].dtype == np.float32
    np.testing.assert_allclose(transform, transforms.forward(x.astype(np.float64), len(shape)), atol=SINGLE)


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (4, 6, 8), (5, 4, 7)])
def test_inputs_are_unchanged(shape, rng):
    ndim = len(shape)
    x = rng.standard_normal(shape)
    transform = transforms.forward(x, ndim)
    full = transforms.fft(x, ndim)
    kept = x.copy(), transform.copy(), full.copy()
    small, large = tuple(n - 1 for n in shape), tuple(n + 3 for n in shape)
    transforms.inverse(transform, shape)
    transforms.ifft(full, ndim)
    transforms.fft(x, ndim)
    transforms.translate(x, np.full(ndim, 0.3))
    transforms.crop_transform(transform, shape, small)
    transforms.pad_transform(transform, shape, large)
    transforms.without_nyquist(transform, shape)
    for before, after in zip(kept, (x, transform, full)):
        np.testing.assert_array_equal(before, after)


def test_strided_input(rng):
    x = rng.standard_normal((8, 6, 4))
    view = x.transpose(2, 0, 1)[::-1, ::2]
    np.testing.assert_allclose(transforms.forward(view, 3), transforms.forward(view.copy(), 3), atol=TIGHT)
    transform = np.asfortranarray(transforms.forward(view, 3))
    np.testing.assert_allclose(transforms.inverse(transform, view.shape), view, atol=TIGHT)


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_jax_agrees_with_numpy_under_jit(shape, rng):
    import jax

    ndim = len(shape)
    x = rng.standard_normal((2, *shape))
    small, large = tuple(n - 2 for n in shape), tuple(n + 3 for n in shape)
    shift = rng.uniform(-2, 2, (2, ndim))

    def everything(x, shift):
        transform = transforms.forward(x, ndim)
        return (
            transform,
            transforms.inverse(transform, shape),
            transforms.ifft(transforms.fft(x, ndim), ndim),
            transforms.translate(x, shift, 1.3),
            transforms.crop_transform(transform, shape, small),
            transforms.pad_transform(transform, shape, large),
            transforms.crop_real(x, small, ndim),
            transforms.pad_real(x, large, ndim),
        )

    expected = everything(x, shift)
    with jax.enable_x64(True):
        for fast, slow in zip(jax.jit(everything)(x, shift), expected):
            assert isinstance(fast, jax.Array)
            np.testing.assert_allclose(fast, slow, atol=TIGHT)
    single = jax.jit(everything)(x.astype(np.float32), shift.astype(np.float32))
    for fast, slow in zip(single, expected):
        assert fast.dtype in (np.float32, np.complex64)
        np.testing.assert_allclose(fast, slow, atol=SINGLE)


def test_gradient_of_a_shift_is_that_of_the_formula(rng):
    import jax

    x, y = rng.standard_normal((2, 6, 7))

    def overlap(shift):
        return (transforms.translate(x, shift, 1.2) * y).sum()

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(overlap))
        for shift in (np.zeros(2), np.array([0.7, -0.4])):
            slope = gradient(shift)
            step = 1e-5
            finite = [(overlap(shift + step * e) - overlap(shift - step * e)) / (2 * step) for e in np.eye(2)]
            np.testing.assert_allclose(slope, finite, rtol=1e-6, atol=1e-7)  # central differences: error step^2


# --- shifts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_translate_is_its_definition(shape, rng):
    x = rng.standard_normal(shape)
    shift = np.array([1.3, -0.6, 2.2][: len(shape)])
    np.testing.assert_allclose(transforms.translate(x, shift * 1.5, 1.5), dft.translate(x, shift), atol=TIGHT)
    assert np.abs(transforms.translate(x, -shift * 1.5, 1.5) - dft.translate(x, shift)).max() > 0.01


def test_translate_by_whole_pixels_is_a_roll(rng):
    x = rng.standard_normal((3, 7, 9))  # odd: no Nyquist term
    np.testing.assert_allclose(transforms.translate(x, np.array([2.0, -3.0])), moved_by_roll(x, (2, -3)), atol=TIGHT)


def test_translate_moves_towards_positive_axes():
    x = np.zeros((9, 9))
    x[4, 4] = 1.0
    moved = transforms.translate(x, np.array([3.0, -6.0]), pixel_size=3.0)  # x = +1, y = -2 pixels
    assert np.unravel_index(moved.argmax(), moved.shape) == (2, 5)


def test_translate_takes_a_shift_for_each_image_or_one_for_all(rng):
    x = rng.standard_normal((4, 6, 6))
    shifts = rng.uniform(-3, 3, (4, 2))
    each = transforms.translate(x, shifts)
    for i in range(4):
        np.testing.assert_allclose(each[i], transforms.translate(x[i], shifts[i]), atol=TIGHT)
    many = transforms.translate(x[0], shifts)  # one image, four shifts
    np.testing.assert_allclose(many[2], transforms.translate(x[0], shifts[2]), atol=TIGHT)


def test_translations_add_up_and_drop_the_nyquist_terms(rng):
    x = rng.standard_normal((6, 8))
    clean = transforms.inverse(transforms.without_nyquist(transforms.forward(x, 2), x.shape), x.shape)
    there = transforms.translate(x, np.array([0.3, 1.9]))
    np.testing.assert_allclose(transforms.translate(there, np.array([-0.3, -1.9])), clean, atol=TIGHT)
    np.testing.assert_allclose(transforms.translate(x, np.zeros(2)), clean, atol=TIGHT)
    kept = transforms.forward(clean, 2)
    assert np.abs(kept[3]).max() < TIGHT and np.abs(kept[:, 4]).max() < TIGHT
    assert np.abs(clean - x).max() > 1e-3  # white noise does have Nyquist terms


def test_shift_theorem(rng):
    x = rng.standard_normal((2, 5, 7))
    shifts = rng.uniform(-4, 4, (2, 2))
    phases = transforms.shift_phases(shifts, transforms.frequencies((5, 7), 1.4))
    np.testing.assert_allclose(
        transforms.forward(x, 2) * phases, transforms.forward(transforms.translate(x, shifts, 1.4), 2), atol=TIGHT
    )
    np.testing.assert_allclose(np.abs(phases), 1.0, atol=TIGHT)  # a shift only turns phases


def test_shift_phases_on_a_list_of_pixels_equal_those_on_the_grid():
    shifts = np.array([[3.1, -2.0], [100.0, 77.7]])
    grids = transforms.frequencies((6, 8), 1.1)
    full = transforms.shift_phases(shifts, grids)
    pixels = [np.broadcast_to(k, (6, 5)).ravel() for k in grids]
    np.testing.assert_allclose(transforms.shift_phases(shifts, pixels), full.reshape(2, -1), atol=TIGHT)
    expected = np.exp(-2j * np.pi * (grids[0] * 100.0 + grids[1] * 77.7))
    np.testing.assert_allclose(full[1], expected, atol=TIGHT)


def test_large_shifts_keep_their_precision_in_single():
    shifts = np.array([[5000.0, -3000.0]], dtype=np.float32)
    grids = transforms.frequencies((64, 64), 1.0, dtype=np.float32)
    phases = transforms.shift_phases(shifts, grids)
    assert phases.dtype == np.complex64
    exact = transforms.shift_phases(shifts.astype(np.float64), transforms.frequencies((64, 64)))
    # 2500 turns in 24 bits would err by 1e-4 turns; with sizes that are powers of two the product is exact.
    assert np.abs(phases - exact).max() < 1e-5


# --- boxes ------------------------------------------------------------------------------------------------------------

BOXES = [
    ((6,), (9,)),
    ((7,), (10,)),
    ((6, 6), (8, 8)),
    ((6, 6), (9, 9)),
    ((5, 5), (8, 8)),
    ((5, 5), (7, 7)),
    ((4, 4, 4), (7, 7, 7)),
    ((4, 6, 5), (8, 12, 10)),
    ((6, 6), (6, 6)),
]


@pytest.mark.parametrize(("small", "large"), BOXES)
def test_crop_undoes_pad(small, large, rng):
    x = rng.standard_normal((2, *small))
    padded, pixel = transforms.fourier_pad(x, large, len(small), 1.2)
    assert pixel == pytest.approx(1.2 * small[-1] / large[-1], rel=1e-15)
    back, pixel = transforms.fourier_crop(padded, small, len(small), pixel)
    np.testing.assert_allclose(back, x, atol=TIGHT)
    assert pixel == pytest.approx(1.2, rel=1e-15)


@pytest.mark.parametrize(("small", "large"), BOXES)
def test_pad_and_crop_of_real_images_are_hermitian(small, large, rng):
    # Only a Hermitian transform survives the way through real space unchanged.
    ndim = len(small)
    padded = transforms.pad_transform(transforms.forward(rng.standard_normal(small), ndim), small, large)
    np.testing.assert_allclose(transforms.forward(transforms.inverse(padded, large), ndim), padded, atol=TIGHT)
    cropped = transforms.crop_transform(transforms.forward(rng.standard_normal(large), ndim), large, small)
    np.testing.assert_allclose(transforms.forward(transforms.inverse(cropped, small), ndim), cropped, atol=TIGHT)


@pytest.mark.parametrize(
    ("small", "large"), [((6, 6), (12, 12)), ((5, 5), (15, 15)), ((6, 6), (18, 18)), ((4, 4, 4), (8, 8, 8))]
)
def test_pad_interpolates_through_the_samples(small, large, rng):
    x = rng.standard_normal(small)
    padded, _ = transforms.fourier_pad(x, large, len(small))
    factor = large[0] // small[0]
    samples = padded[tuple(slice((m // 2) % factor, None, factor) for m in large)]
    np.testing.assert_allclose(samples, x, atol=TIGHT)


@pytest.mark.parametrize(("size", "new"), [(16, 8), (16, 9), (15, 8), (15, 9), (17, 12)])
def test_crop_samples_a_smooth_function_anew(size, new):
    # A wave that both boxes can hold, and a mean: both boxes must show the same function of position about the origin.
    def wave(n: int) -> np.ndarray:
        t = (np.arange(n) - n // 2) / n
        return 2.0 + np.cos(2 * np.pi * (2 * t[:, None] + 3 * t[None, :]) + 0.4)

    cropped, pixel = transforms.fourier_crop(wave(size), new, 2, 1.0)
    np.testing.assert_allclose(cropped, wave(new), atol=TIGHT)
    assert pixel == pytest.approx(size / new, rel=1e-15)
    padded, _ = transforms.fourier_pad(wave(new), size, 2)
    np.testing.assert_allclose(padded, wave(size), atol=TIGHT)


def test_crop_adds_the_two_nyquist_terms():
    # cos at the new Nyquist frequency, sampled anew: alternating signs with full height. Its sine is not seen at all.
    t = np.arange(16) - 8
    cosine, sine = np.cos(2 * np.pi * 4 * t / 16), np.sin(2 * np.pi * 4 * t / 16)
    np.testing.assert_allclose(
        transforms.fourier_crop(cosine, 8, 1)[0], np.where(np.arange(8) % 2, -1.0, 1.0), atol=TIGHT
    )
    np.testing.assert_allclose(transforms.fourier_crop(sine, 8, 1)[0], 0.0, atol=TIGHT)


@pytest.mark.parametrize(("size", "new"), [(6, 9), (6, 10), (7, 9), (7, 10)])
def test_real_crop_and_pad_keep_the_origin(size, new, rng):
    x = rng.standard_normal((2, size, size))
    padded = transforms.pad_real(x, new, 2, value=-3.0)
    np.testing.assert_array_equal(padded[:, new // 2, new // 2], x[:, size // 2, size // 2])
    np.testing.assert_array_equal(transforms.crop_real(padded, size, 2), x)
    assert np.sum(padded == -3.0) == 2 * (new**2 - size**2)


def test_real_padding_samples_the_same_transform_more_finely(rng):
    x = rng.standard_normal((5, 5))
    fine = transforms.forward(transforms.pad_real(x, 10, 2), 2)
    np.testing.assert_allclose(fine[::2, ::2], transforms.forward(x, 2), atol=TIGHT)


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: transforms.forward(np.ones(4), 2), DataProblem),
        (lambda: transforms.forward(np.ones((2, 2, 2, 2)), 4), SettingsProblem),
        (lambda: transforms.inverse(np.ones((4, 3), complex), (4, 6)), DataProblem),
        (lambda: transforms.inverse(np.ones((4, 3), complex), 4), SettingsProblem),
        (lambda: transforms.inverse(np.ones((4, 3), complex), (4, 4), 3), SettingsProblem),
        (lambda: transforms.fourier_crop(np.ones((8, 8)), (4, 6), 2), SettingsProblem),
        (lambda: transforms.fourier_crop(np.ones((8, 8)), 10, 2), SettingsProblem),
        (lambda: transforms.fourier_pad(np.ones((8, 8)), 6, 2), SettingsProblem),
        (lambda: transforms.crop_real(np.ones((8, 8)), 9, 2), SettingsProblem),
        (lambda: transforms.pad_real(np.ones((8, 8)), 7, 2), SettingsProblem),
        (lambda: transforms.crop_transform(np.ones((8, 8), complex), (8, 8), (4, 4)), DataProblem),
    ],
)
def test_faults(call, error):
    with pytest.raises(error, match="expected"):
        call()
