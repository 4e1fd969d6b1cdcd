"""Transforms on rings: values, quadrature, half circles and their spectra, and what turning is."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import blobs, in_plane

from vitreous.errors import SettingsProblem
from vitreous.fourier.polar import (
    EPS,
    MARGIN,
    PolarGrid,
    angular_band,
    angular_spectrum,
    from_angular_spectrum,
    from_polar,
    half_circle,
    polar_grid,
    to_polar,
    whole_circle,
    whole_turns,
)
from vitreous.fourier.transforms import forward

BOX, REACH = 32, 7.0
EXTENT = 2 * (REACH + 4.5)  # three standard deviations beyond the outermost blob


def image(box: int = BOX, *, psi: float = 0.0, seed: int = 1) -> np.ndarray:
    """One image [1, y, x] of blobs, turned by psi, less a broad blob that makes its sum 0."""
    rng = np.random.default_rng(seed)
    picture = blobs(rng, reach=REACH).images(in_plane(np.array([psi])), np.zeros((1, 2)), box)
    axis = np.arange(box) - box // 2
    broad = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 3.0**2))
    return picture - broad * picture.sum() / broad.sum()


def transform_at(picture: np.ndarray, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """sum x exp(-2 pi i k.r) at frequencies in cycles per box."""
    place = np.arange(picture.shape[-1]) - picture.shape[-1] // 2
    along = [np.exp(-2j * np.pi * k[..., None] * place / len(place)) for k in (kx, ky)]
    return np.einsum("yx,...y,...x->...", picture, along[1], along[0])


def closeness(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference over the norm."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("box", [32, 33])
def test_values_on_the_axes_are_those_of_the_cartesian_transform(box):
    picture = np.random.default_rng(0).normal(size=(2, box, box))
    grid = PolarGrid(box, 1, 15, 64, box)
    values, plane = to_polar(picture, grid), forward(picture, 2)
    found = np.stack([values[:, :, 0], values[:, :, 16]])  # angles 0 and a quarter turn: +x, then +y
    expected = np.stack([plane[:, 0, 1:16], plane[:, 1:16, 0]])
    assert closeness(found, expected) < 2 * EPS  # what the non-uniform transform promises, and a factor for chance
    assert closeness(np.conj(found), expected) > 0.5
    assert closeness(found[::-1], expected) > 0.5  # x and y changed places


def test_values_between_the_pixels():
    picture = image()
    grid = polar_grid(BOX, 12, extent=EXTENT, first=2)
    assert closeness(to_polar(picture, grid)[0], transform_at(picture[0], *grid.frequencies)) < 2 * EPS


def test_double_precision_is_kept_and_inputs_are_left_alone():
    picture = image()
    before = picture.copy()
    grid = polar_grid(BOX, 12, extent=EXTENT)
    assert to_polar(picture, grid).dtype == np.complex128
    assert to_polar(picture.astype(np.float32), grid).dtype == np.complex64
    np.testing.assert_array_equal(picture, before)


def test_the_other_half_of_a_circle_is_the_conjugate():
    picture, grid = image(), polar_grid(BOX, 12, extent=EXTENT)
    kx, ky = grid.frequencies
    assert closeness(np.conj(to_polar(picture, grid)[0]), transform_at(picture[0], -kx, -ky)) < 2 * EPS


def test_whole_circles_are_real_and_part_and_imaginary_part():
    values = np.exp(1j * np.array([[0.1, 0.9, 2.0]]))
    circle = whole_circle(values)
    np.testing.assert_array_equal(circle[:, :3], values.real + values.imag)
    np.testing.assert_array_equal(circle[:, 3:], values.real - values.imag)  # of the conjugate


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_half_circle_undoes_whole_circle(dtype):
    rng = np.random.default_rng(2)
    values = (rng.normal(size=(3, 4, 10)) + 1j * rng.normal(size=(3, 4, 10))).astype(dtype)
    back = half_circle(whole_circle(values))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, values, atol=4 * np.finfo(dtype).eps)  # numbers of about 1, two additions


def test_a_whole_spectrum_holds_everything():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 10)) + 1j * rng.normal(size=(2, 10))
    np.testing.assert_allclose(from_angular_spectrum(angular_spectrum(values, 11), 20), values, atol=1e-13)


def test_the_band_of_the_grid_holds_the_content():
    """J_m(x) falls below 1e-3 within `MARGIN` of m = x, for blobs that end within the extent."""
    picture, grid = image(), polar_grid(BOX, 15, extent=EXTENT)
    values = to_polar(picture, grid)
    assert grid.band < grid.angles // 2 + 1
    back = from_angular_spectrum(angular_spectrum(values, grid.band), grid.angles)
    assert closeness(back, values) < 1e-3
    short = from_angular_spectrum(angular_spectrum(values, grid.band // 4), grid.angles)
    assert closeness(short, values) > 1e-2


def test_products_over_whole_circles_are_products_of_half_circles():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 3, 8)) + 1j * rng.normal(size=(2, 3, 8))
    expected = 2 * np.real(np.conj(a) * b).sum(axis=-1)
    np.testing.assert_allclose((whole_circle(a) * whole_circle(b)).sum(axis=-1), expected, atol=1e-13)
    m = np.arange(9)
    factor = np.where((m == 0) | (m == 8), 1, 2) / 16
    spectra = np.real(np.conj(angular_spectrum(a, 9)) * angular_spectrum(b, 9)) @ factor
    np.testing.assert_allclose(spectra, expected, atol=1e-13)


@pytest.mark.parametrize("box", [32, 33])
def test_quadrature_of_products(box):
    """A sum over all Fourier pixels is N^2 times one over pixels, and 2 pi k / M for each point of the circles.

    Without the pixel at k = 0, where the images are 0, trapezia are right to the fourth derivative in k; what aliases lies more than a box apart.
    """
    a, b = image(box), image(box, psi=0.4)
    grid = polar_grid(box, (box + 1) // 2 - 1, extent=EXTENT)
    products = whole_circle(to_polar(a, grid)[0]) * whole_circle(to_polar(b, grid)[0])
    found = (products * grid.weight[:, None]).sum()
    np.testing.assert_allclose(found, (a * b).sum() * box**2, rtol=2e-3)


@pytest.mark.parametrize(("box", "bar"), [(32, 5e-3), (48, 1e-3)])
def test_images_come_back_from_their_rings(box, bar):
    """Within the disc that holds the content: aliases lie beyond it, and move away with the box."""
    picture, grid = image(box), polar_grid(box, box // 2 - 1, extent=EXTENT)
    axis = np.arange(box) - box // 2
    disc = np.hypot(axis[:, None], axis) < EXTENT / 2
    values = to_polar(picture, grid)
    assert closeness(from_polar(values, grid)[:, disc], picture[:, disc]) < bar
    assert closeness(from_polar(np.conj(values), grid)[:, disc], picture[:, disc]) > 0.5


@pytest.mark.parametrize("psi", [0.7, -2.5])
def test_turning_an_image_multiplies_its_spectrum_by_phases(psi):
    """X'(k) = X(Rz(psi)^T k), and Rz(psi)^T turns k by +psi: X'(theta) = X(theta + psi)."""
    grid = polar_grid(BOX, 12, extent=EXTENT)
    before, after = (angular_spectrum(to_polar(image(psi=angle), grid), grid.band) for angle in (0.0, psi))
    m = np.arange(grid.band)
    assert closeness(before * np.exp(1j * m * psi), after) < 2e-3  # blobs are cut at the edge of the box at 1e-3
    assert closeness(before * np.exp(-1j * m * psi), after) > 0.5


def test_the_grid_is_as_coarse_as_the_content_allows():
    wide, narrow = (polar_grid(64, 20, extent=extent) for extent in (60.0, 20.0))
    assert narrow.angles < wide.angles
    for grid, extent in ((wide, 60.0), (narrow, 20.0)):
        assert grid.band == angular_band(20, extent, 64) == int(np.ceil(np.pi * 20 * extent / 64)) + MARGIN
        assert grid.angles >= 2 * grid.band and grid.angles % 2 == 0
        assert grid.shape == (20, grid.angles // 2)
    assert polar_grid(64, 99, extent=20.0).last == 31  # below the Nyquist frequency
    inner = wide.within(7)
    assert (inner.last, inner.angles) == (7, wide.angles)
    np.testing.assert_array_equal(inner.frequencies[0], wide.frequencies[0][:7])
    assert wide.within(50) == wide


@pytest.mark.parametrize("last", [6, 11, 14, 20, 29])
def test_a_grid_made_for_turns_has_them_as_whole_points(last):
    """And costs little for it: points, and turns beyond those asked for, are at most a third more together."""
    plain, made = (polar_grid(64, last, extent=60.0, turns=turns) for turns in (1, 30))
    count = whole_turns(made.angles, 30)
    assert made.angles % count == 0 and count >= 30
    assert plain.angles <= made.angles <= 1.26 * plain.angles + 2
    assert made.angles * count <= 4 / 3 * plain.angles * 30
    assert whole_turns(97, 30) == 97 and whole_turns(16, 30) == 30  # a prime number; fewer points than turns


@pytest.mark.parametrize(
    ("first", "last", "angles"), [(0, 5, 16), (3, 2, 16), (1, 16, 16), (1, 5, 15), (1, 5, 2)], ids=str
)
def test_impossible_grids_are_refused(first, last, angles):
    with pytest.raises(SettingsProblem, match="rings"):
        PolarGrid(32, first, last, angles, 20.0)
