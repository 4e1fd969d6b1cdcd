"""Interpolation on a regular grid: kernels, their transforms, values at points, rotation, gridding correction.

Positions are in pixels from the origin of the array (index N // 2), as vectors (x, y[, z]).

| method  | taps  | exact on              | kernel                          | transform, u in cycles per sample   |
|---------|-------|-----------------------|---------------------------------|-------------------------------------|
| nearest | 1     | constants             | 1 for -1/2 <= x < 1/2           | sinc(u)                             |
| linear  | 2     | lines                 | 1 - abs(x)                      | sinc(u)^2                           |
| cubic   | 4     | parabolas             | Keys' piecewise cubic, a = -1/2 | sinc(u)^3 (3 sinc(u) - 2 cos(pi u)) |
| spline  | all   | cubics                | cubic B-spline, prefiltered     | sinc(u)^4 / (2/3 + cos(2 pi u) / 3) |
| fourier | all   | band-limited periodic | sum of all waves of the box     | 1 up to Nyquist, 0 beyond           |

Taps are per axis. sinc(u) = sin(pi u) / (pi u). In more than one dimension the kernel is the product over the axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import fft, frequencies, ifft

if TYPE_CHECKING:
    from jaxtyping import Float, Num

    Array = Any  # NumPy or JAX

Method = Literal["nearest", "linear", "cubic", "spline", "fourier"]
Boundary = Literal["zero", "wrap", "edge"]
Kernel = Literal["nearest", "linear", "cubic"]

_PIECE = 10_000  # points that NumPy treats at once: their numbers fit into a cache
_NUMBERS = 1_000_000  # numbers in the largest intermediate of Fourier interpolation in NumPy


# --- kernels ----------------------------------------------------------------------------------------------------------


def kernel_nearest(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """1 for -1/2 <= x < 1/2, else 0."""
    x = _as_float(x)
    return ((x >= -0.5) & (x < 0.5)).astype(x.dtype)


def kernel_linear(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """1 - |x| for |x| < 1, else 0."""
    xp, x = namespace(x), _as_float(x)
    return xp.maximum(1.0 - xp.abs(x), 0.0)


def kernel_cubic(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """Keys' cubic convolution kernel, a = -1/2: smooth, 0 from |x| = 2 (doi:10.1109/TASSP.1981.1163711)."""
    xp, x = namespace(x), _as_float(x)
    d = xp.abs(x)
    inner = (1.5 * d - 2.5) * d * d + 1.0
    outer = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return xp.where(d < 1.0, inner, xp.where(d < 2.0, outer, xp.zeros_like(d)))


def kernel_spline(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """The cubic B-spline: 4/6, 1/6, 0 at 0, 1, 2. By itself it smooths: turn samples into coefficients first."""
    xp, x = namespace(x), _as_float(x)
    d = xp.abs(x)
    inner = (0.5 * d - 1.0) * d * d + 2.0 / 3.0
    rest = xp.maximum(2.0 - d, 0.0)
    return xp.where(d < 1.0, inner, rest * rest * rest / 6.0)


def kernel_nearest_ft(u: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """sinc(u): the transform of `kernel_nearest` at u cycles per sample."""
    return _sinc(_as_float(u))


def kernel_linear_ft(u: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """sinc(u)^2: the transform of `kernel_linear` at u cycles per sample."""
    return _sinc(_as_float(u)) ** 2


def kernel_cubic_ft(u: Float[Array, " ..."]) -> Float[Array, " ..."]:
    """sinc(u)^3 (3 sinc(u) - 2 cos(pi u)): the transform of `kernel_cubic` at u cycles per sample.

    The kernel is 3 cubic B-splines minus two quadratic ones, half a sample to either side, whose transforms are powers
    of sinc.
    """
    xp, u = namespace(u), _as_float(u)
    s = _sinc(u)
    return s**3 * (3.0 * s - 2.0 * xp.cos(math.pi * u))


_KERNELS = {"nearest": kernel_nearest, "linear": kernel_linear, "cubic": kernel_cubic, "spline": kernel_spline}
_TRANSFORMS = {"nearest": kernel_nearest_ft, "linear": kernel_linear_ft, "cubic": kernel_cubic_ft}
_TAPS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2), "spline": (-1, 0, 1, 2)}


def gridding_correction(
    box: int, padding: float, kernel: Kernel = "linear", ndim: int = 3, *, dtype: np.dtype | type = np.float64
) -> Float[np.ndarray, "z y x"]:
    """What interpolation between Fourier samples multiplies real space with: divide by it to correct.

    Interpolating the transform with a kernel multiplies the array by the kernel's transform at u = x / (padding * box),
    for x pixels from the origin of an array of `box` pixels that was padded to `padding * box`. The kernel is a product
    over the axes and so is this: it is not a function of the radius. In the corner of a cube of linear interpolation
    the radial sinc^2 would be 0.339 times the right value without padding, and 0.970 times with padding 2.
    """
    if kernel not in _TRANSFORMS:
        raise SettingsProblem(f"the interpolation kernel '{kernel}'", f"one of {', '.join(_TRANSFORMS)}")
    line = _TRANSFORMS[kernel]((np.arange(box) - box // 2) / (padding * box))
    product = np.ones(())
    for _ in range(ndim):
        product = product[..., None] * line
    return product.astype(dtype)


# --- values at points -------------------------------------------------------------------------------------------------


def interpolate(
    samples: Num[Array, "... y x"],
    points: Float[Array, "... p d"],
    method: Method = "linear",
    *,
    boundary: Boundary = "zero",
) -> Num[Array, "... p"]:
    """Values of arrays of d = 1, 2 or 3 axes at `points`, vectors (x[, y, z]) in pixels from the origin (index N // 2).

    `points` [p, d] serve all leading axes of `samples`; or give [..., p, d] with these same leading axes. Outside the
    samples: "zero", "wrap" (periodic) or "edge" (the outermost sample repeated); "fourier" is periodic by nature. Real
    or complex samples. Differentiable in both arguments under JAX (nearest: in the samples).

    "spline" is the most exact local method. Its samples are first turned into B-spline coefficients, as if periodic,
    which shows within a few pixels of the edges; boundary "zero" cuts it off half a pixel outside the samples.

    Cost per point: 1, 2^d, 4^d, 4^d samples, and N^d for "fourier", for which `fourier.nonuniform.transform_at` is the
    fast way.

    >>> cell = np.array([[0.0, 0.0], [0.0, 1.0]])  # samples at x, y = -1, 0
    >>> interpolate(cell, np.array([[-0.75, -0.5]]), "linear")
    array([0.125])
    """
    if method not in ("fourier", *_TAPS):
        raise SettingsProblem(f"the interpolation method '{method}'", "nearest, linear, cubic, spline or fourier")
    if boundary not in ("zero", "wrap", "edge"):
        raise SettingsProblem(f"the boundary '{boundary}'", "zero, wrap or edge")
    ndim = points.shape[-1]
    if ndim not in (1, 2, 3) or samples.ndim < ndim:
        raise DataProblem(
            f"points of {ndim} coordinates in an array of {samples.ndim} axes", "1, 2 or 3, at most the array's axes"
        )
    batch = tuple(samples.shape[:-ndim])
    if batch and points.ndim > 2 and tuple(points.shape[:-2]) != batch:
        raise DataProblem(
            f"points of shape {tuple(points.shape)} for arrays of shape {tuple(samples.shape)}",
            f"[p, {ndim}] or [{batch}, p, {ndim}]",
        )
    if method == "fourier":
        return _interpolate_fourier(samples, points)
    if method == "spline":
        samples = _spline_coefficients(samples, ndim)
    return _interpolate_local(samples, points, method, boundary)


def resample(
    samples: Num[Array, "... y x"],
    matrix: Float[Array, "... d d"],
    shape: Sequence[int] | None = None,
    method: Method = "cubic",
    *,
    boundary: Boundary = "zero",
) -> Num[Array, "... v u"]:
    """Samples seen through a linear map about the origin: `out(r) = in(matrix @ r)`, r = (x, y[, z]) in pixels.

    `matrix` says where each output pixel looks in the input: the identity divided by m magnifies m times, a rotation
    matrix's transpose rotates. `shape` is the box of the result (None: as the input). One matrix for all, or one for
    each leading index of `samples`.
    """
    xp = namespace(samples, matrix)
    ndim = matrix.shape[-1]
    shape = tuple(samples.shape[-ndim:]) if shape is None else tuple(shape)
    matrix = xp.asarray(matrix, dtype=float_dtype(samples))
    grid = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")[::-1]
    grid = [xp.asarray(g.ravel(), dtype=matrix.dtype) for g in grid]
    rows = [sum(matrix[..., i, j, None] * grid[j] for j in range(ndim)) for i in range(ndim)]
    values = interpolate(samples, xp.stack(rows, axis=-1), method, boundary=boundary)
    return values.reshape(*values.shape[:-1], *shape)


def rotate_image(
    images: Num[Array, "... y x"], angle: Float[Array, " ..."], method: Method = "cubic", *, boundary: Boundary = "zero"
) -> Num[Array, "... y x"]:
    """Images turned about their origin by `angle` radian from +x towards +y: what was at r goes to A r.

        A = [[cos, -sin], [sin, cos]],   out(r) = in(A^T r)

    With y drawn downwards the picture turns clockwise for angle > 0. One angle, or one for each image. The in-plane
    angle psi of RELION turns the other way: a projection at psi is the one at 0 turned by -psi.
    """
    xp = namespace(images, angle)
    angle = xp.asarray(angle, dtype=float_dtype(images))
    cosine, sine = xp.cos(angle), xp.sin(angle)
    transpose = xp.stack([xp.stack([cosine, sine], axis=-1), xp.stack([-sine, cosine], axis=-1)], axis=-2)
    return resample(images, transpose, None, method, boundary=boundary)


def _interpolate_local(samples: Array, points: Array, method: str, boundary: Boundary) -> Array:
    """One term for each tap, written out: XLA makes a single loop of them, ten times faster than an axis of taps."""
    xp = namespace(samples, points)
    ndim, dtype = points.shape[-1], float_dtype(samples)
    sizes = samples.shape[-ndim:]
    gather = _gatherer(xp, samples, points, ndim)

    def values(piece: Array) -> Array:
        axes = []
        for axis, size in enumerate(sizes):
            layout = (size, math.prod(sizes[axis + 1 :]))
            axes.append(_axis_taps(xp, piece[..., ndim - 1 - axis] + size // 2, layout, method, boundary, dtype))
        total: Any = 0.0
        for taps in itertools.product(*axes):
            weight = math.prod((weight for _, weight in taps[1:]), start=taps[0][1])
            total = total + gather(sum(index for index, _ in taps)) * weight
        return total

    return _in_pieces(xp, points, _PIECE, values)


def _in_pieces(xp, points: Array, step: int, values: Callable[[Array], Array]) -> Array:
    """`values(points)`; in NumPy for `step` points at a time, so that intermediates stay small."""
    count = points.shape[-2] if points.ndim > 1 else 1
    if xp is not np or count <= step:
        return values(points)
    return xp.concatenate([values(points[..., i : i + step, :]) for i in range(0, count, step)], axis=-1)


def _spline_coefficients(samples: Array, ndim: int) -> Array:
    """Periodic samples divided, in Fourier space, by the transform of the B-spline at the samples."""
    sizes = samples.shape[-ndim:]
    grids = frequencies(sizes, half=False, dtype=float_dtype(samples))
    transfer = math.prod((2.0 + np.cos(2.0 * math.pi * u)) / 3.0 for u in grids)
    coefficients = ifft(fft(samples, ndim) / transfer, ndim)
    return coefficients if np.dtype(samples.dtype).kind == "c" else coefficients.real


def _axis_taps(
    xp, position: Array, layout: tuple[int, int], method: str, boundary: Boundary, dtype
) -> list[tuple[Array, Array]]:
    """For each tap along one axis: the sample's offset in the flat array, and its weight."""
    size, stride = layout
    if method == "spline" and boundary == "edge":
        position = xp.clip(position, 0, size - 1)
    base = xp.floor(position + 0.5) if method == "nearest" else xp.floor(position)
    fraction = position - base
    base = base.astype(int)
    taps = []
    for offset in _TAPS[method]:
        weight, index = _KERNELS[method](fraction - offset).astype(dtype), base + offset
        # The coefficients of a spline are periodic, also where its values are not.
        periodic = method == "spline" or boundary == "wrap"
        if boundary == "zero":
            near = (position >= -0.5) & (position < size - 0.5) if method == "spline" else (index >= 0) & (index < size)
            weight = xp.where(near, weight, xp.zeros_like(weight))
        index = index % size if periodic else xp.clip(index, 0, size - 1)
        taps.append((index * stride, weight))
    return taps


def _gatherer(xp, samples: Array, points: Array, ndim: int) -> Callable[[Array], Array]:
    """A function from flat indices [..., p] to the samples there, for every leading index of the samples."""
    batch = samples.shape[: samples.ndim - ndim]
    flat = samples.reshape(*batch, -1)
    if not batch:
        return lambda index: flat[index]
    if points.ndim <= 2:
        return lambda index: xp.take(flat, index, axis=-1)
    return lambda index: xp.take_along_axis(flat, index, axis=-1)


def _interpolate_fourier(samples: Array, points: Array) -> Array:
    """1/N sum_k F(k) exp(2 pi i k.p / N); an even axis' Nyquist term is a cosine: samples are met, real stays real."""
    xp = namespace(samples, points)
    ndim = points.shape[-1]
    sizes = samples.shape[-ndim:]
    transform = fft(samples, ndim) * (1.0 / math.prod(sizes))
    points = points.astype(float_dtype(samples))
    step = max(1, _NUMBERS // (math.prod(sizes) // sizes[-1] + sum(sizes)))
    values = _in_pieces(xp, points, step, lambda piece: _sum_waves(xp, transform, piece, sizes))
    return values if np.dtype(samples.dtype).kind == "c" else values.real


def _sum_waves(xp, transform: Array, points: Array, sizes: Sequence[int]) -> Array:
    """Sum over the last axis as a matrix product, then over each axis before it."""
    ndim = len(sizes)
    waves = [_waves(xp, points[..., ndim - 1 - axis], size) for axis, size in enumerate(sizes)]
    for axis in range(ndim):  # each becomes [..., k, p], with room for the axes that are still to be summed
        waves[axis] = xp.swapaxes(waves[axis], -1, -2)
    last = waves[-1] if ndim < 3 else waves[-1][..., None, :, :]
    precise = {} if xp is np else {"precision": "highest"}
    if ndim == 1:
        return xp.matmul(transform[..., None, :], last, **precise)[..., 0, :]
    total = xp.matmul(transform, last, **precise)
    if ndim == 3:
        total = xp.sum(total * waves[1][..., None, :, :], axis=-2)
    return xp.sum(total * waves[0], axis=-2)


def _waves(xp, position: Array, size: int) -> Array:
    """exp(2 pi i k p / N) for all k of an axis in the order of the transform: [..., p, k]."""
    numbers = np.fft.fftfreq(size, 1 / size)
    turns = position[..., None] * xp.asarray(numbers / size, dtype=position.dtype)
    waves = xp.exp(2j * math.pi * (turns - xp.round(turns)))
    if size % 2:
        return waves
    nyquist = xp.asarray(np.arange(size) == size // 2)
    return xp.where(nyquist, waves.real + 0j * waves.imag, waves)


def _sinc(u: Array) -> Array:
    """sin(pi u) / (pi u), 1 at u = 0, with finite derivatives."""
    xp = namespace(u)
    small = xp.abs(u) < 1e-12
    safe = math.pi * xp.where(small, xp.ones_like(u), u)
    return xp.where(small, xp.ones_like(u), xp.sin(safe) / safe)


def _as_float(x: Array) -> Array:
    x = namespace(x).asarray(x)
    return x if np.dtype(x.dtype).kind == "f" else x * 1.0
