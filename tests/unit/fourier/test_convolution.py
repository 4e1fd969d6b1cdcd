"""Convolution: four loops, SciPy, the theorem, padding and centres."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import SettingsProblem
from vitreous.fourier import convolution
from vitreous.fourier.transforms import forward
from vitreous.reference import convolution as definition

KERNELS = [(3, 3), (4, 4), (2, 5), (1, 1), (5, 4), (1, 4)]
IMAGES = [(7, 9), (8, 6)]
WAYS = [convolution.convolve_direct, convolution.convolve_fourier]
TIGHT = 1e-12  # rounding of sums of at most 100 products of order 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def upper(kernel: np.ndarray) -> tuple[int, int]:
    return kernel.shape[0] // 2, kernel.shape[1] // 2


def lower(kernel: np.ndarray) -> tuple[int, int]:
    return (kernel.shape[0] - 1) // 2, (kernel.shape[1] - 1) // 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel_shape", KERNELS)
@pytest.mark.parametrize("shape", IMAGES)
def test_convolution_is_four_loops(way, kernel_shape, shape, rng):
    x, kernel = rng.standard_normal(shape), rng.standard_normal(kernel_shape)
    np.testing.assert_allclose(way(x, kernel, "full"), definition.convolve_full(x, kernel), atol=TIGHT)
    np.testing.assert_allclose(way(x, kernel, "valid"), definition.convolve_valid(x, kernel), atol=TIGHT)
    for centre, index in (("upper", upper(kernel)), ("lower", lower(kernel))):
        same, circular = way(x, kernel, "same", centre=centre), way(x, kernel, "circular", centre=centre)
        np.testing.assert_allclose(same, definition.convolve_same(x, kernel, index), atol=TIGHT)
        np.testing.assert_allclose(circular, definition.convolve_circular(x, kernel, index), atol=TIGHT)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel_shape", KERNELS)
def test_agreement_with_scipy(way, kernel_shape, rng):
    x, kernel = rng.standard_normal((8, 9)), rng.standard_normal(kernel_shape)
    for mode in ("full", "valid", "same"):
        np.testing.assert_allclose(
            way(x, kernel, mode, centre="lower"), scipy.signal.convolve2d(x, kernel, mode), atol=TIGHT
        )
    np.testing.assert_allclose(way(x, kernel), scipy.ndimage.convolve(x, kernel, mode="constant"), atol=TIGHT)
    np.testing.assert_allclose(way(x, kernel, "circular"), scipy.ndimage.convolve(x, kernel, mode="wrap"), atol=TIGHT)
    if all(k % 2 == 0 for k in kernel_shape):  # the trap: for even kernels the two programs differ by one sample
        assert np.abs(way(x, kernel, centre="upper") - way(x, kernel, centre="lower")).max() > 0.1


@pytest.mark.parametrize("way", [convolution.correlate_direct, convolution.correlate_fourier])
@pytest.mark.parametrize("kernel_shape", KERNELS)
def test_correlation(way, kernel_shape, rng):
    x = rng.standard_normal((8, 9)) + 1j * rng.standard_normal((8, 9))
    template = rng.standard_normal(kernel_shape) + 1j * rng.standard_normal(kernel_shape)
    np.testing.assert_allclose(way(x, template), definition.correlate_same(x, template, upper(template)), atol=TIGHT)
    lowered = way(x, template, centre="lower")
    np.testing.assert_allclose(lowered, definition.correlate_same(x, template, lower(template)), atol=TIGHT)
    for mode in ("full", "valid", "same"):
        np.testing.assert_allclose(way(x, template, mode), scipy.signal.correlate(x, template, mode), atol=TIGHT)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("mode", ["same", "circular"])
def test_correlation_peaks_where_the_template_lies(size, mode, rng):
    template = rng.standard_normal((size, size))
    x = np.zeros((16, 17))
    x[6 : 6 + size, 3 : 3 + size] = template
    peak = convolution.correlate_fourier(x, template, mode)
    assert np.unravel_index(peak.argmax(), peak.shape) == (6 + size // 2, 3 + size // 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [8, 9])
def test_the_theorem_in_the_house_layout(way, size, rng):
    x, kernel = rng.standard_normal((2, size, size))
    product = forward(x, 2) * forward(kernel, 2)
    np.testing.assert_allclose(forward(way(x, kernel, "circular"), 2), product, atol=1e-10)  # values of order 100
    assert np.abs(forward(way(x, kernel[::-1, ::-1], "circular"), 2) - product).max() > 1  # a flipped kernel shows


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["same", "circular"])
def test_a_delta_at_the_origin_of_the_kernel_changes_nothing(way, size, mode, rng):
    x = rng.standard_normal((6, 7))
    delta = np.zeros((size, size))
    delta[size // 2, size // 2] = 1.0
    np.testing.assert_allclose(way(x, delta, mode), x, atol=TIGHT)


@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_both_ways_agree_in_one_dimension_and_commute(n, k, seed):
    generator = np.random.default_rng(seed)
    x, kernel = generator.standard_normal(n), generator.standard_normal(k)
    for mode in ("full", "same"):
        direct = convolution.convolve_direct(x, kernel, mode)
        np.testing.assert_allclose(convolution.convolve_fourier(x, kernel, mode), direct, atol=TIGHT)
    np.testing.assert_allclose(convolution.convolve_direct(kernel, x, "full"), np.convolve(x, kernel), atol=TIGHT)


@pytest.mark.parametrize(
    ("direct", "by_fourier"), [WAYS, (convolution.correlate_direct, convolution.correlate_fourier)]
)
def test_three_dimensions_and_batches(direct, by_fourier, rng):
    x, kernel = rng.standard_normal((2, 5, 6, 7)), rng.standard_normal((2, 3, 4))
    for mode in ("full", "same", "valid", "circular"):
        a, b = direct(x, kernel, mode), by_fourier(x, kernel, mode, workers=2)
        np.testing.assert_allclose(b, a, atol=TIGHT)
        np.testing.assert_allclose(direct(x[1], kernel, mode), a[1], atol=TIGHT)


def test_two_boxes_make_a_trapezium():
    # Widths 300 and 150, heights 1 and 0.6: a plateau of 90 up to |x| = 75, half of it at 150, zero beyond 225.
    x = np.arange(-512, 512) + 0.5
    wide, narrow = (np.abs(x) < 150) * 1.0, (np.abs(x[512 - 75 : 512 + 75]) < 75) * 0.6
    result = convolution.convolve_fourier(wide, narrow)
    position = np.arange(-512, 512) + 0.0  # two half-sample centres add up to a whole one
    assert result[np.abs(position) <= 74] == pytest.approx(90.0, rel=1e-12)
    assert np.abs(result[np.abs(position) >= 226]).max() < 1e-10
    # The narrow box stands half a sample off its origin, so the result is centred at -1/2, where the flanks pass 45.
    flank = np.interp([-150.5, 149.5], position, result)
    np.testing.assert_allclose(flank, 45.0, atol=0.6)  # one sample of the flank is 0.6 high


def test_gaussians_convolve_to_the_sum_of_their_variances():
    # exp(-a x^2), a = 1, 2, 3: (pi / sqrt(11)) exp(-6 x^2 / 11), in either order.
    step = 0.05
    x = (np.arange(401) - 200) * step
    one, two, three = (np.exp(-a * x**2) for a in (1, 2, 3))
    first = convolution.convolve_fourier(convolution.convolve_fourier(one, two), three) * step**2
    second = convolution.convolve_fourier(one, convolution.convolve_fourier(two, three)) * step**2
    np.testing.assert_allclose(first, np.pi / np.sqrt(11) * np.exp(-6 * x**2 / 11), atol=1e-12)
    np.testing.assert_allclose(first, second, atol=1e-14)
    assert first[200] == pytest.approx(0.947226, abs=1e-6)


def test_jax_agrees_with_numpy_and_has_gradients(rng):
    import jax

    x, kernel = rng.standard_normal((2, 6, 7)), rng.standard_normal((3, 4))

    def everything(x, kernel):
        ways = (*WAYS, convolution.correlate_direct, convolution.correlate_fourier)
        return [way(x, kernel, mode) for way in ways for mode in ("full", "same", "valid", "circular")]

    expected = everything(x, kernel)
    with jax.enable_x64(True):
        for fast, slow in zip(jax.jit(everything)(x, kernel), expected):
            np.testing.assert_allclose(fast, slow, atol=TIGHT)
        # The gradient of sum(y * conv(x)) in x is the correlation of y with the kernel, about the same centre.
        y = rng.standard_normal(x.shape)
        gradient = jax.jit(jax.grad(lambda v: (convolution.convolve_fourier(v, kernel) * y).sum()))(x)
        np.testing.assert_allclose(gradient, convolution.correlate_direct(y, kernel), atol=TIGHT)


def test_single_precision_and_inputs(rng):
    x, kernel = rng.standard_normal((8, 8)).astype(np.float32), rng.standard_normal((3, 3)).astype(np.float32)
    kept = x.copy(), kernel.copy()
    for way in WAYS:
        for mode in ("full", "same", "valid", "circular"):
            result = way(x, kernel, mode)
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, way(x.astype(float), kernel.astype(float), mode), atol=1e-5)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(kernel, kept[1])
    assert convolution.convolve_direct(np.arange(4), np.array([1, 1]), "full").tolist() == [0, 1, 3, 5, 3]


@pytest.mark.parametrize("way", WAYS)
def test_faults(way):
    for arguments in (
        (np.ones((3, 3)), np.ones((4, 4)), "valid"),
        (np.ones((3, 3)), np.ones((4, 4)), "circular"),
        (np.ones(3), np.ones((2, 2))),
        (np.ones(3), np.ones(2), "wrap"),
    ):
        with pytest.raises(SettingsProblem, match="expected"):
            way(*arguments)
    with pytest.raises(SettingsProblem, match="upper"):
        way(np.ones(3), np.ones(2), "same", centre="middle")
