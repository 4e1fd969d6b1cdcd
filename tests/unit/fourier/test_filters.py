"""Filters: closed forms, edges, masks, whitening, Wiener, background statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier import filters
from vitreous.fourier.shells import power_spectrum, shell_count
from vitreous.fourier.transforms import forward, inverse, radial_frequency


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


# --- transfer functions -----------------------------------------------------------------------------------------------


def test_values_on_the_edge_of_a_raised_cosine():
    k = np.array([0.0, 0.15, 0.175, 0.2, 0.225, 0.25, 0.4])
    expected = [1, 1, 0.5 + np.sqrt(0.125), 0.5, 0.5 - np.sqrt(0.125), 0, 0]
    np.testing.assert_allclose(filters.low_pass(k, 0.2, 0.1), expected, atol=1e-15)
    np.testing.assert_allclose(filters.high_pass(k, 0.2, 0.1), 1 - np.array(expected), atol=1e-15)
    assert filters.hard_low_pass(k, 0.2).tolist() == [1, 1, 1, 1, 0, 0, 0]


@given(st.floats(0.05, 0.4), st.floats(0.01, 0.2))
@settings(max_examples=30, deadline=None)
def test_low_passes_fall_from_one_to_zero_through_one_half(cutoff, edge):
    k = np.linspace(0, 1, 501)
    for transfer in (filters.low_pass, filters.tanh_low_pass):
        value = transfer(k, cutoff, edge)
        assert np.all(np.diff(value) <= 1e-15) and value.min() >= 0 and value.max() <= 1
        assert transfer(np.array(cutoff), cutoff, edge) == pytest.approx(0.5, abs=1e-12)
    step = 1e-6  # both edges are equally steep at the cut-off: pi / (2 edge)
    slopes = [
        (t(cutoff + step, cutoff, edge) - t(cutoff - step, cutoff, edge)) / (2 * step)
        for t in (filters.low_pass, filters.tanh_low_pass)
    ]
    np.testing.assert_allclose(slopes, -np.pi / (2 * edge), rtol=1e-5)


def test_band_pass_keeps_the_band():
    k = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.3])
    np.testing.assert_allclose(filters.band_pass(k, 0.05, 0.2, 0.02), [0, 0.5, 1, 1, 0.5, 0], atol=1e-15)


def test_gaussians_have_the_width_that_they_name():
    assert filters.gaussian_low_pass(np.array(0.1), 0.1) == pytest.approx(np.exp(-0.5), rel=1e-15)
    assert filters.gaussian_high_pass(np.array(0.1), 0.1) == pytest.approx(1 - np.exp(-0.5), rel=1e-15)
    for amplitude in (0.5, np.exp(-1), 0.143):
        sigma = filters.sigma_k_of_resolution(8.0, amplitude)
        assert filters.gaussian_low_pass(np.array(1 / 8.0), sigma) == pytest.approx(amplitude, rel=1e-14)


@pytest.mark.parametrize(("sigma_x", "sigma_u", "half"), [(1, 0.159, 0.187), (2, 0.0796, 0.0937), (4, 0.0398, 0.0468)])
def test_a_gaussian_blur_is_a_gaussian_filter(sigma_x, sigma_u, half):
    # The table is printed to three figures.
    assert filters.sigma_k_of_blur(sigma_x) == pytest.approx(sigma_u, rel=3e-3)
    assert filters.gaussian_low_pass(np.array(half), filters.sigma_k_of_blur(sigma_x)) == pytest.approx(0.5, rel=5e-3)
    x = np.arange(128) - 64
    kernel = np.exp(-(x**2) / (2 * sigma_x**2)) / (np.sqrt(2 * np.pi) * sigma_x)
    transfer = filters.gaussian_low_pass(radial_frequency((128,)), filters.sigma_k_of_blur(sigma_x))
    # Neighbouring copies of the sampled kernel's transform overlap: at Nyquist as much again, exp(-pi^2 sigma^2 / 2).
    np.testing.assert_allclose(forward(kernel, 1), transfer, atol=1.01 * np.exp(-(np.pi**2) * sigma_x**2 / 2) + 1e-14)


def test_a_kernel_that_halves_a_tenth_of_a_cycle_per_pixel_is_1874_thousandths_of_a_pixel_wide():
    assert filters.gaussian_low_pass(np.array(0.1), filters.sigma_k_of_blur(1.874)) == pytest.approx(0.5, abs=2e-4)


def test_b_factor():
    assert filters.b_factor_envelope(np.array(1 / 5), -100.0) == pytest.approx(2.718, abs=5e-4)
    assert filters.b_factor_envelope(np.array(1 / 4), -100.0) == pytest.approx(4.77, abs=5e-3)
    assert filters.b_factor_envelope(np.array(1 / 4), 100.0) == pytest.approx(0.21, abs=5e-3)  # the sign shows
    for b, resolution in ((50, 3.54), (100, 5.0), (200, 7.07)):  # 1/e at sqrt(B) / 2, printed to three figures
        assert filters.b_factor_envelope(np.array(1 / resolution), b) == pytest.approx(np.exp(-1), rel=3e-3)


def test_apply_filter_multiplies_a_wave_by_its_transfer():
    t = np.arange(24) - 12
    wave = np.cos(2 * np.pi * (3 * t[:, None] + 4 * t[None, :]) / 24 + 0.3)
    k = radial_frequency((24, 24), 2.0)
    filtered = filters.apply_filter(wave, filters.gaussian_low_pass(k, 0.1))
    np.testing.assert_allclose(filtered, np.exp(-0.5 * (5 / 48 / 0.1) ** 2) * wave, atol=1e-13)
    volume = filters.apply_filter(np.broadcast_to(wave, (4, 24, 24)), np.ones((4, 24, 13)), 3)
    np.testing.assert_allclose(volume[2], wave, atol=1e-13)
    complex_transfer = np.full((24, 13), 1j) * np.where(np.arange(13) % 12, 1, 0)  # a quarter of a turn, k >= 0
    np.testing.assert_allclose(
        filters.apply_filter(wave, complex_transfer),
        np.cos(2 * np.pi * (3 * t[:, None] + 4 * t[None, :]) / 24 + 0.3 + np.pi / 2),
        atol=1e-13,
    )


def test_a_hard_cut_of_a_step_overshoots_by_nine_per_cent():
    x = np.zeros(2048)
    x[512:1536] = 1.0
    cut = filters.apply_filter(x, filters.hard_low_pass(radial_frequency((2048,)), 0.05), 1)
    assert cut.max() - 1 == pytest.approx(
        0.0895, abs=2e-3
    )  # Gibbs: 8.95 % of the step, here with about a hundred waves
    soft = filters.apply_filter(x, filters.gaussian_low_pass(radial_frequency((2048,)), 0.02), 1)
    assert soft.max() - 1 < 1e-6


# --- Wiener and whitening ---------------------------------------------------------------------------------------------


def test_wiener_formula(rng):
    transform = rng.standard_normal((3, 6, 4)) + 1j * rng.standard_normal((3, 6, 4))
    ctf = rng.uniform(-1, 1, (6, 4))
    np.testing.assert_allclose(filters.wiener(transform, ctf, 4.0), ctf * transform / (ctf**2 + 1 / 4.0), rtol=1e-13)
    blur = ctf * np.exp(0.7j)
    expected = np.conj(blur) * transform / (np.abs(blur) ** 2 + 1 / 4.0)
    np.testing.assert_allclose(filters.wiener(transform, blur, 4.0), expected, rtol=1e-13)
    assert np.all(filters.wiener(transform, ctf, 0.0) == 0)  # nothing to recover
    assert np.all(filters.wiener(transform, 0 * ctf, 1e6) == 0)  # lost frequencies stay lost, and finite


def test_wiener_by_shell_takes_the_snr_of_each_frequency(rng):
    transform = rng.standard_normal((8, 5)) + 1j * rng.standard_normal((8, 5))
    ctf = rng.uniform(-1, 1, (8, 5))
    snr = np.array([5.0, 3.0, 1.0, 0.5, 0.1])
    got = filters.wiener_by_shell(transform, ctf, snr, (8, 8))
    shell = np.minimum(np.rint(radial_frequency((8, 8)) * 8).astype(int), 4)
    np.testing.assert_allclose(got, ctf * transform / (ctf**2 + 1 / snr[shell]), rtol=1e-13)


def test_the_smallest_transfer_of_a_sampled_gaussian_blur():
    x = np.arange(512) - 256
    for sigma, smallest, tolerance in ((1, 0.0144, 5e-3), (2, 5.4e-9, 2e-2)):  # printed to three and two figures
        kernel = np.exp(-(x**2) / (2 * sigma**2))
        assert np.abs(forward(kernel / kernel.sum(), 1)).min() == pytest.approx(smallest, rel=tolerance)


def test_wiener_beats_division_and_doing_nothing_on_a_blurred_noisy_signal(rng):
    x = np.arange(512) - 256
    kernel = np.exp(-(x**2) / 8.0)
    blur = forward(kernel / kernel.sum(), 1)
    truth = ((np.abs(x + 40) < 30) + 0.0) + 2.0 * (x == 60)
    seen = inverse(forward(truth, 1) * blur, 512, 1) + rng.normal(0, 1e-3, 512)

    def error(estimate):
        return np.sqrt(np.mean((estimate - truth) ** 2))

    best = min(error(inverse(filters.wiener(forward(seen, 1), blur, snr), 512, 1)) for snr in 10.0 ** np.arange(1, 9))
    assert best < 0.85 * error(seen)
    assert error(inverse(forward(seen, 1) / blur, 512, 1)) > 1e3  # noise of 1e-3 divided by 5e-9


def test_whitening_makes_coloured_noise_white(rng):
    shape = (16, 16)
    colour = filters.gaussian_low_pass(radial_frequency(shape), 0.2) + 0.1
    noise = filters.apply_filter(rng.standard_normal((400, *shape)), 3.0 * colour)
    measured = power_spectrum(noise, 2, corners=True).mean(axis=0)
    white = filters.apply_filter(noise, filters.whitening_filter(measured, shape))
    np.testing.assert_allclose(power_spectrum(white, 2, corners=True).mean(axis=0), 1.0, rtol=1e-12)  # by construction
    assert np.mean(white**2) == pytest.approx(1.0, rel=1e-12)
    dead = filters.whitening_filter(np.array([0.0, 4.0, 1.0]), (4, 4))
    assert dead[0, 0] == 0 and dead[0, 1] == 0.5


# --- masks and backgrounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, 21])
def test_soft_disc_by_its_radius(size):
    y, x = np.mgrid[:size, :size] - size // 2
    r = np.hypot(x, y)
    mask = filters.soft_disc(size, 5.0, 3.0)
    expected = np.where(r <= 5, 1, np.where(r >= 8, 0, 0.5 + 0.5 * np.cos(np.pi * (r - 5) / 3)))
    np.testing.assert_allclose(mask, expected, atol=1e-14)
    np.testing.assert_array_equal(filters.soft_disc((size, size), 5.0, 0), (r <= 5).astype(float))
    assert filters.soft_disc((size, size + 4), 5.0, 2.0, dtype=np.float32).dtype == np.float32


def test_soft_sphere_through_its_middle_is_the_disc():
    sphere = filters.soft_sphere(18, 5.5, 2.0)
    np.testing.assert_allclose(sphere[9], filters.soft_disc(18, 5.5, 2.0), atol=1e-14)
    assert sphere.sum() == pytest.approx(4 / 3 * np.pi * 6.5**3, rel=0.02)  # half height at radius + edge / 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_normalise_background(dtype, rng):
    images = (rng.normal(5.0, 3.0, (4, 24, 24)) + 50 * filters.soft_disc(24, 6, 2)).astype(dtype)
    kept = images.copy()
    normal = filters.normalise_background(images, 9.0)
    y, x = np.mgrid[:24, :24] - 12
    outside = normal[:, np.hypot(x, y) > 9.0]
    tolerance = 1e-12 if dtype == np.float64 else 2e-6  # rounding of a mean over 330 values of order 5
    np.testing.assert_allclose(outside.mean(axis=1), 0, atol=tolerance)
    np.testing.assert_allclose(outside.std(axis=1), 1, rtol=tolerance)
    assert normal.dtype == dtype
    np.testing.assert_array_equal(images, kept)
    mean, deviation = filters.background_statistics(images, 9.0)
    np.testing.assert_allclose(normal * deviation[:, None, None] + mean[:, None, None], images, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(filters.normalise_background(images[2], 9.0), normal[2], rtol=1e-6)
    again = filters.normalise_background(3.0 * images - 7.0, 9.0)
    np.testing.assert_allclose(again, normal, atol=10 * tolerance)  # scale and offset do not matter


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("value", [0.0, 3.0, 0.1, -1234.567])
def test_a_constant_image_becomes_zero(dtype, value):
    # Rounding of the mean may leave a few units in the last place; they must not be blown up to a deviation of 1.
    result = filters.normalise_background(np.full((30, 30), value, dtype), 7.0)
    assert np.abs(result).max() <= 8 * np.finfo(dtype).eps * abs(value)
    assert filters.background_statistics(np.full((30, 30), value, dtype), 7.0)[1] == 0


# --- JAX, dtypes, faults ----------------------------------------------------------------------------------------------


def test_transfer_functions_keep_single_precision_and_agree_with_jax():
    import jax

    k = radial_frequency((12, 12), 1.5)
    count = shell_count((12, 12))

    def everything(k):
        noise = k[0, :count] + 0.1
        return (
            filters.hard_low_pass(k, 0.2),
            filters.low_pass(k, 0.2, 0.05),
            filters.band_pass(k, 0.1, 0.2, 0.05),
            filters.tanh_low_pass(k, 0.2, 0.05),
            filters.gaussian_low_pass(k, 0.1),
            filters.gaussian_high_pass(k, 0.1),
            filters.b_factor_envelope(k, 80.0),
            filters.whitening_filter(noise, (12, 12)),
            filters.wiener(k + 0.5j, k - 0.1, 3.0).real,
            filters.normalise_background(k[None, :7, :7] ** 2, 2.0),
            filters.apply_filter(k[:, :6], filters.low_pass(k[:, :4], 0.2, 0.1)),
        )

    expected = everything(k)
    for slow, single in zip(expected, everything(k.astype(np.float32))):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, slow, atol=2e-5)
    with jax.enable_x64(True):
        for fast, slow in zip(jax.jit(everything)(k), expected):
            np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_gradients_with_respect_to_filter_parameters_are_finite():
    import jax

    k = radial_frequency((12, 12), 1.5)

    def total(p):
        passed = (
            filters.low_pass(k, p[0], p[1]) * filters.gaussian_low_pass(k, p[2]) * filters.b_factor_envelope(k, p[3])
        )
        return passed.sum() + filters.wiener(k + 0.0, k * 0, p[0]).sum()

    with jax.enable_x64(True):
        p = np.array([0.2, 0.05, 0.1, 50.0])
        slope = jax.jit(jax.grad(total))(p)
        finite = [(total(p + 1e-6 * e) - total(p - 1e-6 * e)) / 2e-6 for e in np.eye(4)]
        np.testing.assert_allclose(slope, finite, rtol=1e-5, atol=1e-7)  # central differences
        constant = jax.jit(jax.grad(lambda v: filters.normalise_background(v, 1.0).sum()))(np.ones((4, 4)))
        assert np.all(np.isfinite(constant))


def test_faults():
    with pytest.raises(SettingsProblem, match="at least one pixel"):
        filters.normalise_background(np.ones((8, 8)), 20.0)
    with pytest.raises(DataProblem, match="image"):
        filters.normalise_background(np.ones(8), 2.0)
    with pytest.raises(SettingsProblem, match="between 0 and 1"):
        filters.sigma_k_of_resolution(8.0, 1.0)
    with pytest.raises(SettingsProblem, match="hard_low_pass"):
        filters.low_pass(np.ones(3), 0.2, 0.0)
