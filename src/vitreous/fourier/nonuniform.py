"""Fourier transforms between grids and arbitrary points, by the non-uniform FFT (finufft) in the house conventions.

    transform_at            F(k_p) = sum_r x[r] exp(-2 pi i k_p.r)          grid -> any frequencies   (type 2)
    transform_at_adjoint    y[r] = sum_p c_p exp(+2 pi i k_p.r)             any frequencies -> grid   (type 1, adjoint)
    transform_of_points     F(k) = sum_j w_j exp(-2 pi i k.r_j)             any positions -> frequency grid   (type 1)

r is counted in pixels from the origin (index N // 2, any N), k in cycles per pixel, both as vectors (x, y[, z]).
The relative error is about `eps`; single precision reaches 1e-6 or so, double 1e-14. The alternative, interpolation in
a padded transform, is faster and has an error that does not go away. A. H. Barnett, J. Magland and L. af Klinteberg
2019, doi:10.1137/18M120885X.

NumPy only: finufft runs on the CPU and is loaded at the first call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import complex_dtype, float_dtype
from vitreous.errors import DataProblem, SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Num


def transform_at(
    x: Num[np.ndarray, "... y x"],
    k: Float[np.ndarray, "p d"],
    *,
    eps: float = 1e-6,
    threads: int | None = None,
    upsampling: float | None = None,
) -> Complex[np.ndarray, "... p"]:
    """The transform of real or complex arrays of d = 1, 2 or 3 axes at the frequencies `k`, in cycles per pixel.

    At the frequencies of `fourier.transforms.frequencies` this is `forward`. Leading axes are batch axes and share the
    points. The precision is that of `x`. It is periodic in k with period 1. `upsampling` is that of finufft's fine grid,
    2 or 1.25, by default its own choice: 1.25 needs less memory and, for as many points as pixels, half the time.

    >>> image = np.zeros((8, 8)); image[4, 5] = 1.0  # a point at x = 1
    >>> bool(np.isclose(transform_at(image, np.array([[0.25, 0.1]]), eps=1e-12)[0], -1j))
    True
    """
    ndim = _dimensions(k)
    if x.ndim < ndim:
        raise DataProblem(f"frequencies of {ndim} components for an array of {x.ndim} axes", "at most as many as axes")
    dtype = complex_dtype(x)
    batch, grid = x.shape[:-ndim], x.shape[-ndim:]
    modes = np.ascontiguousarray(x.reshape(-1, *grid), dtype=dtype)
    options = {"eps": eps, "threads": threads, "upsampling": upsampling}
    values = _call(f"nufft{ndim}d2", _phases(k, dtype), modes, isign=-1, **options)
    return values.reshape(*batch, len(k))


def transform_at_adjoint(
    coefficients: Num[np.ndarray, "... p"],
    k: Float[np.ndarray, "p d"],
    shape: Sequence[int],
    *,
    eps: float = 1e-6,
    threads: int | None = None,
    upsampling: float | None = None,
) -> Complex[np.ndarray, "... y x"]:
    """The adjoint of `transform_at` onto arrays of `shape`: <transform_at(x), c> = <x, transform_at_adjoint(c)>.

    It is not the inverse: points are summed as they lie, without density weights. For real arrays the adjoint is its
    real part.
    """
    ndim = _dimensions(k)
    if len(shape) != ndim:
        raise DataProblem(f"frequencies of {ndim} components for a box {tuple(shape)}", "one component for each axis")
    if coefficients.shape[-1] != len(k):
        raise DataProblem(f"{coefficients.shape[-1]} coefficients for {len(k)} frequencies", "one for each")
    dtype = complex_dtype(coefficients)
    batch = coefficients.shape[:-1]
    strengths = np.ascontiguousarray(coefficients.reshape(-1, len(k)), dtype=dtype)
    options = {"eps": eps, "threads": threads, "upsampling": upsampling}
    sums = _call(f"nufft{ndim}d1", _phases(k, dtype), strengths, tuple(shape), isign=1, **options)
    return sums.reshape(*batch, *shape)


def transform_of_points(
    positions: Float[np.ndarray, "n d"],
    weights: Float[np.ndarray, "... n"],
    shape: Sequence[int],
    pixel_size: float = 1.0,
    *,
    eps: float = 1e-6,
    threads: int | None = None,
    upsampling: float | None = None,
) -> Complex[np.ndarray, "... y xh"]:
    """The transform of weighted points (atoms) at `positions` (x, y[, z]) in angstrom, on the grid of a box `shape`.

    The frequencies are those of `fourier.transforms.frequencies(shape, pixel_size)`, Nyquist terms included, in `rfftn`
    layout. It is the transform of deltas, not of their sampled image: multiply by a form factor and `inverse` gives the
    density per voxel. Weights may be real or complex [..., n]; the precision is theirs. `upsampling` is that of
    `transform_at`.
    """
    ndim = _dimensions(positions)
    if len(shape) != ndim:
        raise DataProblem(f"positions of {ndim} components for a box {tuple(shape)}", "one component for each axis")
    if weights.shape[-1] != len(positions):
        raise DataProblem(f"{weights.shape[-1]} weights for {len(positions)} positions", "one for each")
    dtype = complex_dtype(weights)
    cycles = np.asarray(positions, dtype=np.float64) / (np.asarray(shape[::-1]) * pixel_size)
    # The last axis keeps k = 0 ... N//2 only: moved down by its middle, that is a full range of modes half as long.
    columns = shape[-1] // 2 + 1
    middle = np.exp(-2j * math.pi * ((columns // 2 * cycles[:, 0]) % 1.0))
    strengths = np.ascontiguousarray((weights * middle).reshape(-1, len(positions)), dtype=dtype)
    modes = (*shape[:-1], columns)
    options = {"eps": eps, "threads": threads, "upsampling": upsampling}
    sums = _call(f"nufft{ndim}d1", _phases(cycles, dtype), strengths, modes, isign=-1, **options)
    sums = sums.reshape(*weights.shape[:-1], *modes)
    return np.fft.ifftshift(sums, axes=tuple(range(-ndim, -1))) if ndim > 1 else sums


def _dimensions(vectors: np.ndarray) -> int:
    if vectors.ndim != 2 or vectors.shape[1] not in (1, 2, 3):
        raise DataProblem(f"vectors of shape {vectors.shape}", "[p, d] with d = 1, 2 or 3")
    return vectors.shape[1]


def _phases(cycles: np.ndarray, dtype: np.dtype) -> list[np.ndarray]:
    """2 pi times the cycles without whole turns, contiguous, in the order of array axes (z, y, x)."""
    real = float_dtype(np.empty(0, dtype))
    phases = []
    for axis in range(cycles.shape[1])[::-1]:  # one after the other: a fraction of the memory of all at once
        turns = np.array(cycles[:, axis], dtype=np.float64)
        turns -= np.round(turns)
        turns *= 2 * math.pi
        phases.append(turns.astype(real, copy=False))
    return phases


def _call(
    name: str,
    phases: list[np.ndarray],
    *arguments: Any,
    isign: int,
    eps: float,
    threads: int | None,
    upsampling: float | None = None,
) -> np.ndarray:
    if not 0 < eps < 1:
        raise SettingsProblem(f"a tolerance eps of {eps}", "a number between 0 and 1")
    import finufft

    if upsampling not in (None, 1.25, 2.0):
        raise SettingsProblem(f"an upsampling of {upsampling}", "1.25 or 2")
    options: dict[str, Any] = {} if threads is None else {"nthreads": threads}
    if upsampling is not None:
        options["upsampfac"] = upsampling
    return getattr(finufft, name)(*phases, *arguments, isign=isign, eps=eps, **options)
