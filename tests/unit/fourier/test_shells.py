"""Shells: agreement with a count over all frequencies, Hermitian weights, spectra, radial means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem
from vitreous.fourier import shells
from vitreous.fourier.transforms import fft, forward, radial_frequency
from vitreous.reference import dft

SHAPES = [(6,), (7,), (6, 6), (7, 7), (6, 8), (9, 6), (6, 6, 6), (5, 5, 5), (4, 6, 7)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def full_shells(shape: tuple[int, ...]) -> np.ndarray:
    """round(|k| N pixel_size) on all frequencies, by the definition; N is the smallest size."""
    grids = np.meshgrid(*(dft.frequency_numbers(n) / n for n in shape), indexing="ij")
    return np.rint(np.sqrt(sum(g**2 for g in grids)) * min(shape)).astype(int)


def summed(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    return np.array([values[index == s].sum() for s in range(count)])


@pytest.mark.parametrize("shape", SHAPES)
def test_shell_index_is_its_definition(shape):
    np.testing.assert_array_equal(shells.shell_index(shape, half=False), full_shells(shape))
    np.testing.assert_array_equal(shells.shell_index(shape), dft.half(full_shells(shape)))
    if len(set(shape)) == 1:  # |k| N pixel_size half-way between two shells happens in boxes of unequal sizes only
        by_angstrom = np.rint(radial_frequency(shape, 1.37) * shape[0] * 1.37)
        np.testing.assert_array_equal(shells.shell_index(shape), by_angstrom)
    assert shells.shell_count(shape, corners=True) == full_shells(shape).max() + 1
    assert shells.shell_count(shape) == min(shape) // 2 + 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("corners", [False, True])
def test_sum_over_the_half_equals_the_sum_over_all_frequencies(shape, corners, rng):
    x = rng.standard_normal((2, *shape))
    power = np.abs(forward(x, len(shape))) ** 2
    everywhere = np.abs(fft(x, len(shape))) ** 2
    count = shells.shell_count(shape, corners=corners)
    expected = np.array([summed(v, full_shells(shape), count) for v in everywhere])
    got = shells.shell_sum(power, shape, corners=corners)
    np.testing.assert_allclose(got, expected, rtol=1e-12)  # sums of a few hundred positive doubles
    sizes = summed(np.ones(shape), full_shells(shape), count)
    np.testing.assert_array_equal(shells.shell_size(shape, corners=corners), sizes)
    np.testing.assert_allclose(shells.shell_mean(power, shape, corners=corners), expected / sizes, rtol=1e-12)
    unweighted = np.array([summed(v, shells.shell_index(shape), count) for v in power])
    assert not np.allclose(got, unweighted)  # forgetting the conjugate half shows


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_hermitian_weights_count_every_frequency(size):
    assert shells.hermitian_weights(size).sum() == size


@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_parseval_over_shells(shape, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    power = shells.power_spectrum(x, len(shape), corners=True)
    total = np.sum(power * shells.shell_size(shape, corners=True))
    assert total == pytest.approx(np.sum(x**2), rel=1e-12)


def test_every_voxel_is_in_one_shell():
    assert shells.shell_size((12, 12, 12), corners=True).sum() == 12**3


def test_white_noise_has_a_flat_spectrum_of_its_variance(rng):
    x = rng.normal(0, 1.7, (300, 16, 16))
    spectrum = shells.power_spectrum(x, 2).mean(axis=0)
    deviation = (
        np.sqrt(2 / (300 * shells.shell_size((16, 16)))) * 1.7**2
    )  # of a mean of chi-squared, at least one degree each
    assert np.all(np.abs(spectrum - 1.7**2) < 5 * deviation)


def test_power_spectrum_of_a_wave_is_in_its_shell():
    x = np.cos(2 * np.pi * 3 * (np.arange(16) - 8) / 16)
    np.testing.assert_allclose(shells.power_spectrum(np.tile(x, (16, 1)), 2).argmax(), 3)


@pytest.mark.parametrize("shape", [(7,), (8, 8), (7, 7), (6, 9), (6, 6, 6), (5, 6, 7)])
def test_rotational_average_is_its_definition(shape, rng):
    x = rng.standard_normal((3, *shape))
    grids = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    radius = np.rint(np.sqrt(sum(g**2 for g in grids))).astype(int)
    expected = [[v[radius == r].mean() for r in range(min(shape) // 2 + 1)] for v in x]
    np.testing.assert_allclose(shells.rotational_average(x, len(shape)), expected, atol=1e-13)


def test_rotational_average_of_a_function_of_the_radius():
    y, x = np.mgrid[:33, :33] - 16
    average = shells.rotational_average(np.rint(np.hypot(x, y)))
    np.testing.assert_allclose(average, np.arange(17), atol=1e-13)


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (4, 4, 4)])
def test_spread_shells_is_the_adjoint_of_the_sum(shape, rng):
    count = shells.shell_count(shape, corners=True)
    profile = rng.standard_normal(count)
    values = rng.standard_normal((*shape[:-1], shape[-1] // 2 + 1))
    spread = shells.spread_shells(profile, shape)
    left = np.sum(spread * values * shells.hermitian_weights(shape[-1]))
    assert left == pytest.approx(np.sum(profile * shells.shell_sum(values, shape, corners=True)), rel=1e-12)
    short = shells.spread_shells(profile[:3], shape)
    assert np.all(short[shells.shell_index(shape) >= 2] == profile[2])


def test_resolution_of_shells():
    assert shells.resolution_of_shell(20, 100, 1.5) == 7.5
    resolution = shells.resolution_of_shell(np.arange(4), 64, 2.0)
    assert resolution[0] == math.inf and resolution.tolist()[1:] == [128.0, 64.0, 128 / 3]
    np.testing.assert_allclose(shells.shell_of_resolution(resolution[1:], 64, 2.0), [1, 2, 3], rtol=1e-15)
    assert shells.resolution_of_shell(50, 100, 1.5) == 2 * 1.5  # Nyquist is two pixels


@pytest.mark.parametrize("shape", [(7, 6), (6, 5, 6)])
def test_jax_agrees_with_numpy_under_jit(shape, rng):
    import jax

    x = rng.standard_normal((2, *shape))
    ndim = len(shape)

    def everything(x):
        power = shells.power_spectrum(x, ndim, corners=True)
        return (
            power,
            shells.power_spectrum(x, ndim),
            shells.rotational_average(x, ndim),
            shells.spread_shells(power, shape),
        )

    expected = everything(x)
    with jax.enable_x64(True):
        for fast, slow in zip(jax.jit(everything)(x), expected):
            np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)  # the same sums in another order
    for fast, slow in zip(jax.jit(everything)(x.astype(np.float32)), expected):
        assert fast.dtype == np.float32
        np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-5)  # single precision


def test_gradient_of_the_total_power_is_twice_the_image(rng):
    import jax

    x = rng.standard_normal((5, 6))
    size = shells.shell_size((5, 6), corners=True)
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(lambda v: (shells.power_spectrum(v, 2, corners=True) * size).sum()))(x)
    np.testing.assert_allclose(gradient, 2 * x, atol=1e-12)  # Parseval: the total is the sum of squares


def test_single_precision_and_inputs(rng):
    x = rng.standard_normal((2, 12, 12, 12)).astype(np.float32)
    kept = x.copy()
    spectrum = shells.power_spectrum(x, 3)
    assert spectrum.dtype == np.float32 and shells.rotational_average(x, 3).dtype == np.float32
    np.testing.assert_allclose(
        spectrum, shells.power_spectrum(x.astype(float), 3), rtol=1e-5
    )  # single precision transform
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(shells.power_spectrum(x[1], 3), spectrum[1])  # the batch does not matter


def test_faults():
    with pytest.raises(DataProblem, match="half transform"):
        shells.shell_sum(np.ones((6, 6)), (6, 6))
    with pytest.raises(DataProblem, match="real"):
        shells.shell_sum(np.ones((6, 4), complex), (6, 6))
