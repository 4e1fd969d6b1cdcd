"""Non-uniform transforms: definition, adjoint, agreement with the FFT, precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier import nonuniform
from vitreous.fourier.transforms import forward, frequencies, radial_frequency
from vitreous.reference import dft

SHAPES = [(7,), (8,), (6, 7), (5, 8), (6, 6), (4, 5, 6), (5, 4, 7), (4, 4, 4)]
TIGHT = 1e-11  # eps = 1e-13 of sums of at most 150 numbers of order 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def grid_list(shape: tuple[int, ...], pixel_size: float = 1.0) -> np.ndarray:
    grids = np.broadcast_arrays(*frequencies(shape, pixel_size))
    return np.stack([g.ravel() for g in grids], axis=-1)


@pytest.mark.parametrize("shape", SHAPES)
def test_grid_to_points_is_the_defining_sum(shape, rng):
    x = rng.standard_normal((2, *shape))
    k = rng.uniform(-1.5, 1.5, (12, len(shape)))  # beyond one period as well
    expected = [[dft.dft_at(image, q) for q in k] for image in x]
    got = nonuniform.transform_at(x, k, eps=1e-13)
    np.testing.assert_allclose(got, expected, atol=TIGHT)
    assert np.abs(np.conj(got) - expected).max() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_at_the_frequencies_of_the_grid_it_is_the_fft(shape, rng):
    x = rng.standard_normal(shape)
    transform = forward(x, len(shape))
    np.testing.assert_allclose(nonuniform.transform_at(x, grid_list(shape), eps=1e-13), transform.ravel(), atol=TIGHT)


@pytest.mark.parametrize("shape", SHAPES)
def test_points_to_grid_is_the_defining_sum(shape, rng):
    k = rng.uniform(-0.5, 0.5, (9, len(shape)))
    c = rng.standard_normal((2, 9)) + 1j * rng.standard_normal((2, 9))
    got = nonuniform.transform_at_adjoint(c, k, shape, eps=1e-13)
    assert got.shape == (2, *shape)
    grids = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")[::-1]
    phases = np.exp(2j * np.pi * np.tensordot(k, np.stack(grids), axes=(1, 0)))
    np.testing.assert_allclose(got, np.tensordot(c, phases, axes=(1, 0)), atol=TIGHT)


@given(st.integers(0, len(SHAPES) - 1), st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_adjoint_in_double_precision(which, count, seed):
    shape, generator = SHAPES[which], np.random.default_rng(seed)
    x = generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
    k = generator.uniform(-0.5, 0.5, (count, len(shape)))
    c = generator.standard_normal(count) + 1j * generator.standard_normal(count)
    left = np.vdot(c, nonuniform.transform_at(x, k, eps=1e-13, threads=1))
    right = np.vdot(nonuniform.transform_at_adjoint(c, k, shape, eps=1e-13, threads=1), x)
    scale = np.linalg.norm(c) * np.linalg.norm(x) * np.sqrt(count)
    assert abs(left - right) < 1e-10 * scale  # the bar; about 1e-14 is reached
    assert abs(np.conj(left) - right) > 1e-6 * scale or abs(left.imag) < 1e-6 * scale


@pytest.mark.parametrize("shape", [(16, 15), (12, 12, 11)])
def test_adjoint_in_single_precision(shape, rng):
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    k = rng.uniform(-0.5, 0.5, (200, len(shape)))
    c = (rng.standard_normal((3, 200)) + 1j * rng.standard_normal((3, 200))).astype(np.complex64)
    values = nonuniform.transform_at(x, k, eps=1e-6)
    sums = nonuniform.transform_at_adjoint(c, k, shape, eps=1e-6)
    assert values.dtype == np.complex64 and sums.dtype == np.complex64
    for i in range(3):
        scale = np.linalg.norm(c[i]) * np.linalg.norm(values[i])
        assert abs(np.vdot(c[i], values[i]) - np.vdot(sums[i], x[i])) < 1e-5 * scale
    exact = nonuniform.transform_at(x.astype(float), k, eps=1e-13)
    assert np.linalg.norm(values - exact) < 1e-5 * np.linalg.norm(exact)  # eps, and phases held in 24 bits


@pytest.mark.parametrize("shape", SHAPES)
def test_atoms_on_the_frequency_grid_are_the_defining_sum(shape, rng):
    ndim, pixel = len(shape), 1.7
    positions, weights = rng.uniform(-30, 30, (11, ndim)), rng.standard_normal((2, 11))  # in the box and far outside
    got = nonuniform.transform_of_points(positions, weights, shape, pixel, eps=1e-13)
    k = grid_list(shape, pixel)
    expected = np.array([[dft.points_transform_at(positions, w, q) for q in k] for w in weights])
    np.testing.assert_allclose(got.reshape(2, -1), expected, atol=TIGHT)
    assert np.abs(np.conj(got).reshape(2, -1) - expected).max() > 0.1
    assert nonuniform.transform_of_points(positions, weights.astype(np.float32), shape, pixel).dtype == np.complex64


def test_atoms_on_pixels_are_the_fft_of_their_image(rng):
    image = np.zeros((9, 7))
    image[2, 5], image[6, 1] = 1.5, -0.5
    positions = np.array([[5 - 3, 2 - 4], [1 - 3, 6 - 4]]) * 2.0  # x, y in angstrom
    got = nonuniform.transform_of_points(positions, np.array([1.5, -0.5]), (9, 7), 2.0, eps=1e-13)
    np.testing.assert_allclose(got, forward(image, 2), atol=TIGHT)


def test_atoms_project_by_leaving_out_the_beam_direction(rng):
    positions, weights = rng.uniform(-5, 5, (20, 3)), rng.standard_normal(20)
    volume = nonuniform.transform_of_points(positions, weights, (10, 11, 12), eps=1e-13)
    image = nonuniform.transform_of_points(positions[:, :2], weights, (11, 12), eps=1e-13)
    np.testing.assert_allclose(volume[0], image, atol=TIGHT)


def test_a_gaussian_atom_becomes_its_density():
    # A unit Gaussian of variance s2 at r: its transform times the phase of r, back in real space the density per pixel.
    shape, s2, position = (32, 32), 4.0, np.array([[2.3, -1.6]])
    transform = nonuniform.transform_of_points(position, np.ones(1), shape, eps=1e-13)
    from vitreous.fourier.transforms import inverse

    density = inverse(transform * np.exp(-2 * np.pi**2 * s2 * radial_frequency(shape) ** 2), shape)
    y, x = np.mgrid[:32, :32] - 16
    expected = np.exp(-((x - 2.3) ** 2 + (y + 1.6) ** 2) / (2 * s2)) / (2 * np.pi * s2)
    np.testing.assert_allclose(
        density, expected, atol=1e-9
    )  # the Gaussian at Nyquist: exp(-2 pi^2 4 / 4) = 3e-9, spread over pixels


def test_inputs_are_unchanged_and_layout_does_not_matter(rng):
    x, k, c = rng.standard_normal((3, 6, 7)), rng.uniform(-0.5, 0.5, (9, 2)), rng.standard_normal((3, 9)) + 0j
    kept = x.copy(), k.copy(), c.copy()
    values = nonuniform.transform_at(x, k, eps=1e-13, threads=1)
    nonuniform.transform_at_adjoint(c, k, (6, 7), eps=1e-13)
    nonuniform.transform_of_points(k, c[0].real, (6, 7), eps=1e-13)
    for before, after in zip(kept, (x, k, c)):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(
        nonuniform.transform_at(np.asfortranarray(x), np.asfortranarray(k), eps=1e-13), values, atol=TIGHT
    )
    np.testing.assert_allclose(nonuniform.transform_at(x[1], k, eps=1e-13), values[1], atol=TIGHT)


def test_faults():
    image, k = np.ones((4, 4)), np.zeros((3, 2))
    for call in (
        lambda: nonuniform.transform_at(image, np.zeros((3, 4))),
        lambda: nonuniform.transform_at(image, np.zeros((3, 3))),
        lambda: nonuniform.transform_at_adjoint(np.ones(3), k, (4, 4, 4)),
        lambda: nonuniform.transform_at_adjoint(np.ones(2), k, (4, 4)),
        lambda: nonuniform.transform_of_points(k, np.ones(2), (4, 4)),
        lambda: nonuniform.transform_of_points(k, np.ones(3), (4,)),
    ):
        with pytest.raises(DataProblem, match="expected"):
            call()
    with pytest.raises(SettingsProblem, match="eps"):
        nonuniform.transform_at(image, k, eps=0.0)


@pytest.mark.parametrize("upsampling", [1.25, 2.0])
def test_upsampling_changes_the_cost_and_not_the_sum(upsampling, rng):
    x, k = rng.standard_normal((12, 15)), rng.uniform(-0.5, 0.5, (40, 2))
    expected = nonuniform.transform_at(x, k, eps=1e-13)
    got = nonuniform.transform_at(x, k, eps=1e-6, upsampling=upsampling)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()  # eps, and a margin of ten
    back = nonuniform.transform_at_adjoint(got, k, x.shape, eps=1e-6, upsampling=upsampling)
    whole = nonuniform.transform_at_adjoint(expected, k, x.shape, eps=1e-13)
    assert np.abs(back - whole).max() < 1e-5 * np.abs(whole).max()
    with pytest.raises(SettingsProblem, match="upsampling"):
        nonuniform.transform_at(x, k, upsampling=3.0)
