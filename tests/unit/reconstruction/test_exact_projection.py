"""The non-uniform FFT against the sums that define slices, and the fast pair against it."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.fourier.filters import soft_sphere
from vitreous.geometry.rotations import random_rotations
from vitreous.reconstruction.backprojection import backproject
from vitreous.reconstruction.exact_projection import backproject_exactly, project_exactly
from vitreous.reconstruction.projection import fourier_volume, project, slice_grid
from vitreous.reference import projection as reference


@pytest.mark.parametrize("box", [12, 13])
def test_exact_slices_are_the_definition(box, rng):
    volume, grid = rng.normal(size=(box,) * 3), slice_grid(box)
    rotations = random_rotations(3, rng)
    exact = np.stack([reference.project(volume, r, grid.kx, grid.ky) for r in rotations])
    fast = project_exactly(volume, rotations, grid, eps=1e-12)
    assert np.abs(fast - exact).max() < 1e-10 * np.abs(exact).max()
    assert np.abs(np.conj(fast) - exact).max() > 0.1 * np.abs(exact).max()  # the sign counts


@pytest.mark.parametrize("box", [12, 13])
def test_exact_backprojection_is_the_definition(box, rng):
    grid, rotations = slice_grid(box), random_rotations(3, rng)
    slices = rng.normal(size=(3, len(grid))) + 1j * rng.normal(size=(3, len(grid)))
    exact = sum(reference.backproject(s, r, grid.kx, grid.ky, box) for s, r in zip(slices, rotations, strict=True))
    fast = backproject_exactly(slices, rotations, grid, eps=1e-12)
    assert np.abs(fast - exact).max() < 1e-10 * np.abs(exact).max()


@pytest.mark.parametrize(("dtype", "eps", "bar"), [(np.float64, 1e-13, 1e-10), (np.float32, 1e-6, 1e-5)])
def test_the_exact_pair_is_adjoint(dtype, eps, bar, rng):
    """The bars are those of the physics contract for operator pairs."""
    grid, rotations = slice_grid(16), random_rotations(6, rng).astype(dtype)
    volume = rng.normal(size=(16,) * 3).astype(dtype)
    slices = (rng.normal(size=(6, len(grid))) + 1j * rng.normal(size=(6, len(grid)))).astype(
        np.result_type(dtype, np.complex64)
    )
    projected = project_exactly(volume, rotations, grid, eps=eps)
    left = np.sum(np.real(np.conj(projected) * slices), dtype=np.float64)
    right = np.sum(volume.astype(np.float64) * backproject_exactly(slices, rotations, grid, eps=eps))
    assert abs(left - right) < bar * np.linalg.norm(projected) * np.linalg.norm(slices)


def test_the_fast_pair_is_the_exact_one_up_to_interpolation(rng):
    """A particle of half the box: trilinear interpolation at padding 2 keeps within a few percent of the exact operators."""
    box = 32
    grid, rotations = slice_grid(box), random_rotations(8, rng)
    ball = soft_sphere(box, box / 5, 3)
    volume = rng.normal(size=(box,) * 3) * ball
    exact = project_exactly(volume, rotations, grid, eps=1e-10)
    assert np.linalg.norm(project(fourier_volume(volume), rotations, grid) - exact) < 0.04 * np.linalg.norm(exact)
    back = backproject_exactly(exact, rotations, grid, eps=1e-10) * ball
    assert np.linalg.norm(backproject(exact, rotations, grid) * ball - back) < 0.04 * np.linalg.norm(back)
