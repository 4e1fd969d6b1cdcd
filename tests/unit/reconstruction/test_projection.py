"""Slicing and insertion against the sums that define them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.transforms import inverse
from vitreous.geometry.rotations import matrix_from_euler, random_rotations
from vitreous.reconstruction.backprojection import Accumulator, backproject, fold_nyquist, insert_slices, inverse_to_box
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid, trilinear
from vitreous.reference import projection as reference


def smooth_volume(box: int, rng: np.random.Generator, dtype=np.float64) -> np.ndarray:
    """Blobs inside half of the box, as a particle fills its box."""
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((box,) * 3)
    for centre in rng.uniform(-box / 5, box / 5, size=(12, 3)):
        volume += rng.uniform(0.5, 1.5) * np.exp(
            -((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * 1.3**2)
        )
    return volume.astype(dtype)


@pytest.mark.parametrize("box", [16, 17])
def test_slices_agree_with_the_definition(box, rng):
    volume = smooth_volume(box, rng)
    grid = slice_grid(box)
    rotations = random_rotations(3, rng)
    fast = project(fourier_volume(volume), rotations, grid)
    for rotation, values in zip(rotations, fast, strict=True):
        exact = reference.project(volume, rotation, grid.kx, grid.ky)
        # Trilinear interpolation at padding 2 is good to a few percent for an object that fills half the box: between grid points it
        # loses up to 1 - sinc^2(1/4) = 19 % at the border of the object, which the gridding correction makes good on average only.
        assert np.linalg.norm(values - exact) < 0.05 * np.linalg.norm(exact)
        assert np.linalg.norm(np.conj(values) - exact) > 0.3 * np.linalg.norm(exact)  # the sign of the transform counts


def test_more_padding_is_more_exact(rng):
    volume = smooth_volume(16, rng)
    grid, rotations = slice_grid(16), random_rotations(2, rng)
    exact = np.stack([reference.project(volume, r, grid.kx, grid.ky) for r in rotations])
    errors = [
        np.linalg.norm(project(fourier_volume(volume, padding), rotations, grid) - exact) for padding in (1, 2, 4)
    ]
    # The error of linear interpolation falls with the square of the step.
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3


def test_identity_orientation_is_the_sum_along_z(rng):
    volume = smooth_volume(20, rng)
    grid = slice_grid(20)
    # On the grid nothing is interpolated, so there is nothing to correct.
    slices = project(fourier_volume(volume, correct=False), np.eye(3)[None], grid)
    image = np.fft.fftshift(np.fft.irfft2(half_plane(slices, grid), s=(20, 20)), axes=(1, 2))[0]
    # The image lacks only the corners and the Nyquist frequencies, where blobs of 1.3 voxels have 1e-3.
    assert np.abs(image - volume.sum(axis=0)).max() < 5e-3 * volume.sum(axis=0).max()


def test_psi_turns_the_image_as_the_convention_says(rng):
    volume = smooth_volume(17, rng)
    grid = slice_grid(17)
    quarter = matrix_from_euler(np.array([[0.0, 0.0, np.pi / 2]]))
    slices = project(fourier_volume(volume), quarter, grid)
    image = inverse(half_plane(slices, grid), (17, 17))[0]
    right, wrong = (reference.rotate_and_sum(volume, turns) for turns in (1, -1))
    correlation = [np.corrcoef(image.ravel(), turned.ravel())[0, 1] for turned in (right, wrong)]
    assert correlation[0] > 0.999 and correlation[1] < 0.9


def test_trilinear_is_its_definition(rng):
    data = rng.normal(size=(9, 9, 5)) + 1j * rng.normal(size=(9, 9, 5))
    points = rng.uniform([0, -3.9, -3.9], [3.9, 3.9, 3.9], size=(40, 3))
    fast = trilinear(data, points)
    for point, value in zip(points, fast, strict=True):
        assert value == pytest.approx(reference.trilinear(data, (point[0], point[1] + 4, point[2] + 4)), abs=1e-12)


@pytest.mark.parametrize(("dtype", "bar"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize(("box", "padding"), [(12, 1), (12, 2), (13, 2), (12, 3), (13, 4)])
def test_projection_and_backprojection_are_adjoint(dtype, bar, box, padding, rng):
    """The bars are those of the physics contract for operator pairs."""
    grid, rotations = slice_grid(box), random_rotations(5, rng).astype(dtype)
    volume = rng.normal(size=(box,) * 3).astype(dtype)
    slices = (rng.normal(size=(5, len(grid))) + 1j * rng.normal(size=(5, len(grid)))).astype(
        np.complex128 if dtype == np.float64 else np.complex64
    )
    projected = project(fourier_volume(volume, padding), rotations, grid)
    spread = backproject(slices, rotations, grid, padding)
    left = np.sum((np.conj(projected) * slices).real, dtype=np.float64)
    right = np.sum(volume.astype(np.float64) * spread)
    scale = np.linalg.norm(projected) * np.linalg.norm(slices)
    assert abs(left - right) < bar * scale
    assert projected.dtype == slices.dtype and spread.dtype == dtype


def test_backprojection_agrees_with_its_definition(rng):
    """The transpose of an operator that is 3 % off the exact one is off by about as much."""
    box = 14
    grid, rotation = slice_grid(box), random_rotations(1, rng)
    image = smooth_volume(box, rng)
    values = reference.project(image, rotation[0], grid.kx, grid.ky)
    exact = reference.backproject(values, rotation[0], grid.kx, grid.ky, box)
    ball = soft_sphere(box, box / 3, 1.0)
    fast = backproject(values[None], rotation, grid)
    assert np.linalg.norm((fast - exact) * ball) < 0.05 * np.linalg.norm(exact * ball)


def test_insertion_is_the_transpose_that_jax_derives(rng):
    """The compiled insertion and the automatic transpose of the JAX gather are the same linear map, written twice by different authors."""
    box, count = 10, 4
    grid, rotations = slice_grid(box), random_rotations(count, rng)
    slices = rng.normal(size=(count, len(grid))) + 1j * rng.normal(size=(count, len(grid)))
    with jax.enable_x64(True):
        volume = fourier_volume(jnp.asarray(rng.normal(size=(box,) * 3)))
        _, transpose = jax.vjp(
            lambda data: project(type(volume)(data, box, 2), jnp.asarray(rotations), grid), volume.data
        )
        derived = np.conj(np.asarray(transpose(jnp.asarray(np.conj(slices)))[0]))
    accumulator = Accumulator(box, 2, np.dtype(np.float64))
    insert_slices(
        accumulator, np.ascontiguousarray(slices.T), np.ones((len(grid), count)), rotations, (grid.kx, grid.ky)
    )
    assert np.abs(accumulator.values - derived).max() < 1e-10 * np.abs(derived).max()


def test_jax_and_numpy_agree_and_gradients_are_right(rng):
    volume = smooth_volume(12, rng)
    grid = slice_grid(12)
    euler = rng.uniform(-1, 1, size=(2, 3))
    plain = project(fourier_volume(volume), matrix_from_euler(euler), grid)
    with jax.enable_x64(True):
        data = fourier_volume(jnp.asarray(volume))

        def power(angles):
            return jnp.sum(jnp.abs(project(data, matrix_from_euler(angles), grid) - 1.0) ** 2)

        compiled = jax.jit(lambda r: project(data, r, grid))(matrix_from_euler(jnp.asarray(euler)))
        gradient = np.asarray(jax.grad(power)(jnp.asarray(euler)))
        step = 1e-6
        nudge = np.zeros((2, 3))
        nudge[1, 2] = step
        difference = float(power(jnp.asarray(euler + nudge)) - power(jnp.asarray(euler - nudge))) / (2 * step)
    assert np.abs(np.asarray(compiled) - plain).max() < 1e-10 * np.abs(plain).max()
    # Piecewise linear interpolation has kinks; between them central differences of 1e-6 are good to 1e-4 (the bar for gradients).
    assert gradient[1, 2] == pytest.approx(difference, rel=1e-4)


def test_float32_stays_float32(rng):
    volume = smooth_volume(12, rng, np.float32)
    slices = project(fourier_volume(volume), random_rotations(2, rng).astype(np.float32), slice_grid(12))
    assert slices.dtype == np.complex64


@pytest.mark.parametrize("box", [12, 15])
def test_slice_grid_lists_each_pair_once(box):
    grid = slice_grid(box)
    listed = set(zip(grid.kx.tolist(), grid.ky.tolist(), strict=True))
    assert len(listed) == len(grid)
    assert all((-kx, -ky) not in listed or (kx, ky) == (0, 0) for kx, ky in listed)
    every = {(kx, ky) for kx in range(-box, box + 1) for ky in range(-box, box + 1) if np.hypot(kx, ky) < box / 2}
    assert listed | {(-kx, -ky) for kx, ky in listed} == every


def test_half_plane_is_the_transform_of_a_real_image(rng):
    box = 12
    grid = slice_grid(box)
    image = rng.normal(size=(1, box, box))
    transform = np.fft.rfft2(image)
    rebuilt = half_plane(transform[:, grid.row, grid.column], grid)
    ky, kx = np.meshgrid(np.fft.fftfreq(box) * box, np.arange(box // 2 + 1), indexing="ij")
    inside = np.hypot(kx, ky) < box / 2
    assert np.abs((rebuilt - transform)[:, inside]).max() < 1e-12 * np.abs(transform).max()
    assert np.all(rebuilt[:, ~inside] == 0)


@pytest.mark.parametrize(("box", "padding"), [(8, 2), (9, 2), (8, 3)])
def test_inverse_of_the_padded_transform_is_the_volume(box, padding, rng):
    volume = rng.normal(size=(box,) * 3)
    transform = fourier_volume(volume, padding, correct=False).data
    size = padding * box
    stored = np.array(transform)
    radius = (
        stored.shape[0] - 1
    ) // 2  # the planes at +P/2 repeat those at -P/2: what is inserted there is added, what is read is shared
    stored[radius + size // 2] = 0
    stored[:, radius + size // 2] = 0
    back = inverse_to_box(fold_nyquist(stored, box, padding), box)
    assert np.abs(back - volume).max() < 1e-12


def test_an_odd_padded_size_is_refused():
    with pytest.raises(SettingsProblem, match="even padded size"):
        fourier_volume(np.zeros((9, 9, 9)), 3)
