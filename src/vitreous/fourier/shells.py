"""Sums and means over shells of Fourier space, and over rings of real space.

The shell of a frequency is `s = round(|k| N pixel_size)`: shells are one Fourier pixel wide and shell s has resolution
N pixel_size / s. If the sizes of a box differ, N is the smallest, so that no shell is thinner than the coarsest
sampling.

A half transform (`rfftn` layout) leaves out the conjugates of its columns. The columns k = 0 and, for even N, k = N/2
are complete and count once, all others count twice: with these weights a sum over the half equals the sum over all
frequencies.

Shells run from 0 to N // 2 (Nyquist along the axes); `corners=True` adds those that only the corners of the box reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem
from vitreous.fourier.transforms import forward, frequencies

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Array = Any  # NumPy or JAX


def shell_count(shape: Sequence[int], *, corners: bool = False) -> int:
    """Number of shells of a box: N // 2 + 1, or with `corners` up to the farthest frequency."""
    box = min(shape)
    if not corners:
        return box // 2 + 1
    return round(math.sqrt(sum((n // 2 * (box / n)) ** 2 for n in shape))) + 1


def shell_index(shape: Sequence[int], *, half: bool = True) -> Int[np.ndarray, "... y xh"]:
    """Shell of every frequency of the transform of a box `shape`, corners included."""
    squares: np.ndarray = sum((k**2 for k in _shell_coordinates(shape, half=half)), np.zeros(()))
    return np.rint(np.sqrt(squares)).astype(np.int32)


def hermitian_weights(size: int) -> Float[np.ndarray, " xh"]:
    """How often each column of a half transform counts, for a last axis of `size` samples: 1 for k = 0 and N/2, else 2.

    >>> hermitian_weights(6), hermitian_weights(5)
    (array([1., 2., 2., 1.]), array([1., 2., 2.]))
    """
    weights = np.full(size // 2 + 1, 2.0)
    weights[0] = 1.0
    if size % 2 == 0:
        weights[-1] = 1.0
    return weights


def shell_sum(
    values: Float[Array, "... y xh"], shape: Sequence[int], *, corners: bool = False
) -> Float[Array, "... s"]:
    """Sum of real `values` on the half transform of a box `shape` over each shell of the whole Fourier space.

    For the terms of a Fourier shell correlation, pass `(F * conj(G)).real` and `abs(F)**2`. Leading axes are batch
    axes. NumPy sums are made in double precision, plane by plane, with no memory to speak of; the result has the dtype
    of the values.
    """
    _check(values, (*shape[:-1], shape[-1] // 2 + 1))
    coordinates = _shell_coordinates(shape, half=True)
    return _radial_sum(values, coordinates[::-1], hermitian_weights(shape[-1]), shell_count(shape, corners=corners))


def shell_mean(
    values: Float[Array, "... y xh"], shape: Sequence[int], *, corners: bool = False
) -> Float[Array, "... s"]:
    """Mean of real `values` on the half transform of a box `shape` over each shell."""
    total = shell_sum(values, shape, corners=corners)
    return total / namespace(values).asarray(shell_size(shape, corners=corners), dtype=total.dtype)


def shell_size(shape: Sequence[int], *, corners: bool = False) -> Float[np.ndarray, " s"]:
    """Number of frequencies of the whole Fourier space of a box `shape` in each shell.

    >>> shell_size((4, 4))
    array([1., 8., 6.])
    """
    ones = np.ones((*shape[:-1], 1))
    return shell_sum(np.broadcast_to(ones, (*shape[:-1], shape[-1] // 2 + 1)), shape, corners=corners)


def power_spectrum(images: Float[Array, "... y x"], ndim: int, *, corners: bool = False) -> Float[Array, "... s"]:
    """Mean over each shell of |F|^2 divided by the number of pixels: white noise of variance v has v in every shell.

    Times `shell_size` and summed over all shells, corners included, it is the sum of the squared pixels (Parseval).
    """
    shape = tuple(images.shape[-ndim:])
    transform = forward(images, ndim)
    power = transform.real**2 + transform.imag**2
    return shell_mean(power, shape, corners=corners) * (1.0 / math.prod(shape))


def rotational_average(images: Float[Array, "... y x"], ndim: int = 2) -> Float[Array, "... r"]:
    """Mean of the pixels at each rounded distance 0 ... N // 2 px from the origin of real space (index N // 2)."""
    shape = tuple(images.shape[-ndim:])
    coordinates = np.meshgrid(*(np.arange(n) - n // 2.0 for n in shape), indexing="ij", sparse=True)
    count = min(shape) // 2 + 1
    total = _radial_sum(images, coordinates, np.ones(shape[-1]), count)
    pixels = _radial_sum(np.broadcast_to(1.0, shape), coordinates, np.ones(shape[-1]), count)
    return total / namespace(images).asarray(pixels, dtype=total.dtype)


def spread_shells(
    per_shell: Float[Array, "... s"], shape: Sequence[int], *, half: bool = True
) -> Float[Array, "... y xh"]:
    """A value per shell on the frequencies of a box `shape`; beyond its last shell the last value is repeated."""
    index = np.minimum(shell_index(shape, half=half), per_shell.shape[-1] - 1)
    return namespace(per_shell).take(per_shell, index, axis=-1)


def resolution_of_shell(shell: Float[Array, " ..."], box: int, pixel_size: float) -> Float[Array, " ..."]:
    """Resolution N pixel_size / s of a shell in angstrom; infinite for shell 0.

    >>> float(resolution_of_shell(20, 100, 1.5))
    7.5
    """
    xp = namespace(shell)
    shell = xp.asarray(shell)
    return xp.where(shell > 0, box * pixel_size / xp.where(shell > 0, shell, 1), math.inf)


def shell_of_resolution(resolution: Float[Array, " ..."], box: int, pixel_size: float) -> Float[Array, " ..."]:
    """Shell N pixel_size / d of a resolution in angstrom, not rounded."""
    return box * pixel_size / resolution


def _shell_coordinates(shape: Sequence[int], *, half: bool) -> list[np.ndarray]:
    """(kx, ky[, kz]) in units of one shell, as open grids; for equal sizes exact whole numbers."""
    box = min(shape)
    numbers = [np.rint(k * n) for k, n in zip(frequencies(shape, half=half), shape[::-1])]
    return [k * (box / n) for k, n in zip(numbers, shape[::-1])]


def _radial_sum(values: Array, coordinates: Sequence[np.ndarray], weights: np.ndarray, count: int) -> Array:
    """Sum of values times column weights over rounded radii below `count`; `coordinates` are in the order of axes."""
    xp = namespace(values)
    ndim = len(coordinates)
    if xp is not np:
        return _radial_sum_jax(xp, values, coordinates, weights, count)
    grid = values.shape[-ndim:]
    stack = values.reshape(-1, *grid)
    result = np.zeros((len(stack), count + 1))
    squares = [c**2 for c in coordinates]
    if ndim == 3:
        heights = squares[0].ravel()
        for height in np.unique(heights):  # the planes at +z and -z share their shells
            index = _radius(height + squares[1][0] + squares[2][0], count)
            for z in np.flatnonzero(heights == height):
                _add_planes(result, stack[:, z], weights, index)
    else:
        _add_planes(result, stack, weights, _radius(sum(squares[1:], squares[0]), count))
    return result[:, :count].reshape(*values.shape[:-ndim], count).astype(float_dtype(values))


def _add_planes(result: np.ndarray, planes: np.ndarray, weights: np.ndarray, index: np.ndarray) -> None:
    for row, plane in zip(result, planes):
        row += np.bincount(index, weights=(plane * weights).ravel(), minlength=len(row))


def _radius(squares: np.ndarray, count: int) -> np.ndarray:
    """Rounded radius; whatever lies beyond falls into the one bin after the last."""
    return np.minimum(np.rint(np.sqrt(squares)), count).astype(np.intp).ravel()


def _radial_sum_jax(xp, values: Array, coordinates: Sequence[np.ndarray], weights: np.ndarray, count: int) -> Array:
    grid = values.shape[-len(coordinates) :]
    index = _radius(sum((c**2 for c in coordinates), np.zeros(())), count)
    weighted = values * xp.asarray(weights, dtype=values.dtype)
    flat = weighted.reshape(*values.shape[: -len(grid)], math.prod(grid))
    sums = xp.zeros((*flat.shape[:-1], count + 1), dtype=values.dtype).at[..., index].add(flat)
    return sums[..., :count]


def _check(values: Array, expected: tuple[int, ...]) -> None:
    if tuple(values.shape[-len(expected) :]) != expected:
        raise DataProblem(
            f"values of shape {tuple(values.shape)}", f"last axes {expected}, the half transform of the box"
        )
    if np.dtype(values.dtype).kind == "c":
        raise DataProblem(
            "complex values to be summed over shells", "real ones", "pass (F * conj(G)).real or abs(F)**2"
        )
