"""Transforms in the house layout, their frequencies, shifts, and changes of box.

    F(k) = sum_j x_j exp(-2 pi i k.(j - N//2) / N),     x_j = 1/N sum_k F(k) exp(+2 pi i k.(j - N//2) / N)

The last `ndim` axes (1, 2 or 3) are transformed, leading axes are batch axes. The transform of a real array keeps the
half of the last axis with k >= 0 (`rfftn`), zero frequency in the corner. The real-space origin is index N // 2, so a
point at the centre has phase 0.

For an even N moving the origin is a change of sign of every second frequency, which costs less than moving the samples;
for an odd N the samples are moved.

The Nyquist frequency of an even N stands for +N/2 and -N/2 at once. `translate` drops it, because a shift turns the two
in opposite senses. `pad_transform` shares it equally between the two, `crop_transform` adds the two up again: both keep
real images real, and cropping what was padded gives the original back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem, SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Inexact, Num

    Array = Any  # NumPy or JAX


# --- transforms -------------------------------------------------------------------------------------------------------


def forward(x: Num[Array, "... y x"], ndim: int, *, workers: int | None = None) -> Complex[Array, "... y xh"]:
    """Transform of a real array over its last `ndim` axes, unnormalised, in `rfftn` layout.

    The result has `N // 2 + 1` columns on the last axis. NumPy input is transformed by `scipy.fft` on `workers` threads
    (None: SciPy's own setting, one thread unless `scipy.fft.set_workers` says otherwise), in single precision if it is
    float32; JAX input by XLA.

    >>> image = np.zeros((8, 8)); image[4, 4] = 1.0  # a point at the origin
    >>> bool(np.allclose(forward(image, 2), 1.0))
    True
    """
    xp, axes, sizes = namespace(x), _axes(ndim), _sizes_of(x, ndim)
    x = _origin_to_corner(x, xp, ndim)
    if xp is not np:
        return _alternate(xp.fft.rfftn(x, axes=axes), sizes, half=True)
    from scipy import fft as scipy_fft

    transform: Any = scipy_fft.rfftn(x, axes=axes, workers=workers)
    return _alternate_in_place(transform, sizes, half=True)


def inverse(
    transform: Complex[Array, "... y xh"],
    shape: int | Sequence[int],
    ndim: int | None = None,
    *,
    workers: int | None = None,
) -> Float[Array, "... y x"]:
    """The real array whose `forward` transform this is: the inverse over the last axes, times 1/N.

    `shape` gives the sizes of these axes in real space, because N // 2 + 1 columns belong to an even and to an odd N; a
    single number with `ndim` means a square or a cube. Only the Hermitian part of the columns 0 and N/2 has an effect.
    """
    xp, sizes = namespace(transform), _sizes(shape, ndim)
    axes = _axes(len(sizes))
    _check_half(transform, sizes)
    if xp is not np:
        x = xp.fft.irfftn(_alternate(transform, sizes, half=True), s=sizes, axes=axes)
    else:
        from scipy import fft as scipy_fft

        copied = _alternate_copy(transform, sizes, half=True)
        x = scipy_fft.irfftn(copied, s=sizes, axes=axes, workers=workers, overwrite_x=copied is not transform)
    return _corner_to_origin(x, xp, len(sizes))


def fft(x: Num[Array, "... y x"], ndim: int, *, workers: int | None = None) -> Complex[Array, "... y x"]:
    """Transform of a real or complex array over its last `ndim` axes, unnormalised: all frequencies, zero first."""
    xp, axes, sizes = namespace(x), _axes(ndim), _sizes_of(x, ndim)
    x = _origin_to_corner(x, xp, ndim)
    if xp is not np:
        return _alternate(xp.fft.fftn(x, axes=axes), sizes, half=False)
    from scipy import fft as scipy_fft

    transform: Any = scipy_fft.fftn(x, axes=axes, workers=workers)
    return _alternate_in_place(transform, sizes, half=False)


def ifft(transform: Complex[Array, "... y x"], ndim: int, *, workers: int | None = None) -> Complex[Array, "... y x"]:
    """The complex array whose `fft` this is: the inverse over the last `ndim` axes, times 1/N."""
    xp, axes, sizes = namespace(transform), _axes(ndim), _sizes_of(transform, ndim)
    if xp is not np:
        x = xp.fft.ifftn(_alternate(transform, sizes, half=False), axes=axes)
    else:
        from scipy import fft as scipy_fft

        copied = _alternate_copy(transform, sizes, half=False)
        x = scipy_fft.ifftn(copied, axes=axes, workers=workers, overwrite_x=copied is not transform)
    return _corner_to_origin(x, xp, ndim)


# --- frequencies ------------------------------------------------------------------------------------------------------


def frequencies(
    shape: Sequence[int], pixel_size: float = 1.0, *, half: bool = True, dtype: np.dtype | type = np.float64
) -> tuple[Float[Array, " ..."], ...]:
    """Spatial frequencies (kx, ky[, kz]) in 1/angstrom of a real-space box `shape` = ([z,] y, x), as an open grid.

    Each array has as many axes as `shape` and size 1 along all but its own, so that `kx**2 + ky**2` has the shape of
    the transform and no memory is spent on repetition. The Nyquist frequency of an even axis is -1/(2 pixel_size), and
    +1/(2 pixel_size) on the last axis when it is `half`. With the default `pixel_size` the unit is cycles per pixel,
    from -0.5 to 0.5.

    >>> [k.shape for k in frequencies((6, 8), 1.5)]
    [(1, 5), (6, 1)]
    """
    grids = []
    for axis, size in enumerate(shape):
        is_half = half and axis == len(shape) - 1
        k = np.fft.rfftfreq(size) if is_half else np.fft.fftfreq(size)
        open_shape = [1] * len(shape)
        open_shape[axis] = len(k)
        grids.append((k.reshape(open_shape) / pixel_size).astype(dtype))
    return tuple(grids[::-1])


def radial_frequency(
    shape: Sequence[int], pixel_size: float = 1.0, *, half: bool = True, dtype: np.dtype | type = np.float64
) -> Float[Array, "... y xh"]:
    """|k| in 1/angstrom on the grid of the transform of a box `shape`."""
    squares: np.ndarray = sum((k**2 for k in frequencies(shape, half=half)), np.zeros(()))
    return (np.sqrt(squares) / pixel_size).astype(dtype)


def without_nyquist(transform: Complex[Array, "... y xh"], shape: Sequence[int]) -> Complex[Array, "... y xh"]:
    """The transform of a box `shape` with the Nyquist rows and columns of its even axes set to zero."""
    xp = namespace(transform)
    for keep in _keeps(shape):
        transform = transform * xp.asarray(keep, dtype=float_dtype(transform))
    return transform


# --- shifts -----------------------------------------------------------------------------------------------------------


def shift_phases(shifts: Float[Array, "... d"], grids: Sequence[Float[Array, " ..."]]) -> Complex[Array, " ..."]:
    """exp(-2 pi i k.s): the factor on a transform whose image moves by `shifts` = (x, y[, z]) angstrom.

    Positive shifts move towards positive axes. `grids` are frequencies (kx, ky[, kz]) in 1/angstrom, the open grid of
    `frequencies` or arrays of one shape such as a list of pixels. The result has the leading axes of `shifts`, then the
    axes of the grid. Whole turns are removed before the exponential, so that large shifts keep their precision. A shift
    does not act on Nyquist terms by a phase: drop them with `without_nyquist`.
    """
    xp = namespace(shifts, *grids)
    shapes = {np.shape(k) for k in grids}
    factors = [_turns(xp, k, s) for k, s in zip(grids, _components(xp, shifts, grids[0].ndim))]
    if len(shapes) > 1:  # an open grid: the exponential of each axis, then their product
        return math.prod((_unit_circle(xp, turns) for turns in factors[1:]), start=_unit_circle(xp, factors[0]))
    return _unit_circle(xp, sum(factors[1:], factors[0]))


def translate(
    images: Float[Array, "... y x"],
    shifts: Float[Array, "... d"],
    pixel_size: float = 1.0,
    *,
    workers: int | None = None,
) -> Float[Array, "... y x"]:
    """Images or volumes moved by `shifts` = (x, y[, z]) angstrom, sub-pixel, by phase ramps; the box wraps round.

    `shifts` has one vector for all, or one for each image: its last axis says how many axes are moved (1, 2 or 3). A
    RELION origin used as shift brings the particle to the box centre. The Nyquist terms of even sizes are dropped, also
    by a shift of zero.

    >>> image = np.zeros((9, 9)); image[4, 4] = 1.0
    >>> moved = translate(image, np.array([2.0, -1.0]))
    >>> tuple(int(i) for i in np.unravel_index(moved.argmax(), moved.shape))  # y, x
    (3, 6)
    """
    xp = namespace(images, shifts)
    dtype = float_dtype(images)
    shifts = xp.asarray(shifts, dtype=dtype)
    ndim = shifts.shape[-1]
    sizes = _sizes_of(images, ndim)
    transform = forward(images, ndim, workers=workers)
    grids = frequencies(sizes, pixel_size, dtype=dtype)
    for k, keep, component in zip(grids, _keeps(sizes)[::-1], _components(xp, shifts, ndim)):
        ramp = _unit_circle(xp, _turns(xp, k, component)) * xp.asarray(keep, dtype=dtype)
        transform = transform * ramp
    return inverse(transform, sizes, workers=workers)


def _components(xp, shifts: Array, grid_ndim: int) -> list[Array]:
    """x, y[, z] of the shifts, each with an axis of size 1 for every axis of the grid."""
    shifts = xp.asarray(shifts)
    return [shifts[(..., i) + (None,) * grid_ndim] for i in range(shifts.shape[-1])]


def _turns(xp, k: Array, shift: Array) -> Array:
    turns = k * shift
    return turns - xp.round(turns)


def _unit_circle(xp, turns: Array) -> Array:
    return xp.exp(-2j * math.pi * turns)


# --- boxes ------------------------------------------------------------------------------------------------------------


def fourier_crop(
    x: Float[Array, "... y x"], shape: int | Sequence[int], ndim: int, pixel_size: float = 1.0
) -> tuple[Float[Array, "... v u"], float]:
    """The same field of view on fewer samples, and the new pixel size `pixel_size * N / M`.

    What is left is the image limited to frequencies up to the new Nyquist frequency, sampled anew about the origin.
    Values, and so the mean, stay on their scale. All axes must shrink by the same factor, because an image has one
    pixel size.
    """
    sizes, new_sizes = _sizes_of(x, ndim), _sizes(shape, ndim)
    size = resampled_pixel_size(pixel_size, sizes, new_sizes)
    return inverse(crop_transform(forward(x, ndim), sizes, new_sizes), new_sizes), size


def fourier_pad(
    x: Float[Array, "... y x"], shape: int | Sequence[int], ndim: int, pixel_size: float = 1.0
) -> tuple[Float[Array, "... v u"], float]:
    """The same field of view on more samples (Fourier interpolation), and the new pixel size `pixel_size * N / M`.

    Values stay on their scale; the samples of the old grid that lie on the new one keep their values. `fourier_crop`
    gives the original back.
    """
    sizes, new_sizes = _sizes_of(x, ndim), _sizes(shape, ndim)
    size = resampled_pixel_size(pixel_size, sizes, new_sizes)
    return inverse(pad_transform(forward(x, ndim), sizes, new_sizes), new_sizes), size


def resampled_pixel_size(pixel_size: float, shape: Sequence[int], new_shape: Sequence[int]) -> float:
    """`pixel_size * N / M` for a field of view that is sampled by M instead of N pixels.

    Raises SettingsProblem if the axes do not all change by the same factor.
    """
    old, new = shape[-1], new_shape[-1]
    if any(n * new != m * old for n, m in zip(shape, new_shape)):
        raise SettingsProblem(
            f"a box of {tuple(shape)} resampled to {tuple(new_shape)}",
            "one factor for all axes",
            "crop or pad the image in real space first",
        )
    return pixel_size * old / new


def crop_transform(
    transform: Complex[Array, "... y xh"], shape: Sequence[int], new_shape: Sequence[int]
) -> Complex[Array, "... v uh"]:
    """The transform of a box `shape` cut to the frequencies of a smaller box `new_shape`, times prod(M / N).

    At the Nyquist frequency of an even new size the terms of +M/2 and -M/2 fall on one sample and are added.
    """
    xp, ndim = namespace(transform), len(shape)
    _check_half(transform, shape)
    _check_order(new_shape, shape, "crop")
    size, new = shape[-1], new_shape[-1]
    transform = transform[..., : new // 2 + 1]
    for axis in range(-ndim, -1):
        transform = _crop_axis(xp, transform, axis, new_shape[axis])
    if new < size and new % 2 == 0:
        column = transform[..., -1:]
        opposite = column
        for axis in range(-ndim, -1):  # the column of -M/2, by Hermitian symmetry: conj F(-k)
            opposite = xp.roll(xp.flip(opposite, axis), 1, axis)
        transform = xp.concatenate([transform[..., :-1], column + xp.conj(opposite)], axis=-1)
    return transform * _ratio(new_shape, shape)


def pad_transform(
    transform: Complex[Array, "... y xh"], shape: Sequence[int], new_shape: Sequence[int]
) -> Complex[Array, "... v uh"]:
    """The transform of a box `shape` with zeros up to the frequencies of a larger box `new_shape`, times prod(M / N).

    The Nyquist term of an even old size is shared equally between +N/2 and -N/2.
    """
    xp, ndim = namespace(transform), len(shape)
    _check_half(transform, shape)
    _check_order(shape, new_shape, "pad")
    size, new = shape[-1], new_shape[-1]
    if new > size and size % 2 == 0:
        transform = xp.concatenate([transform[..., :-1], transform[..., -1:] * 0.5], axis=-1)
    for axis in range(-ndim, -1):
        transform = _pad_axis(xp, transform, axis, new_shape[axis])
    missing = new // 2 + 1 - transform.shape[-1]
    if missing:
        transform = xp.concatenate([transform, _zeros(xp, transform, -1, missing)], axis=-1)
    return transform * _ratio(new_shape, shape)


def crop_real(x: Num[Array, "... y x"], shape: int | Sequence[int], ndim: int) -> Num[Array, "... v u"]:
    """The middle of the last `ndim` axes: the origin N // 2 becomes the origin M // 2. The pixel size stays."""
    sizes, new_sizes = _sizes_of(x, ndim), _sizes(shape, ndim)
    _check_order(new_sizes, sizes, "crop")
    return x[(..., *(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(sizes, new_sizes)))]


def pad_real(
    x: Num[Array, "... y x"], shape: int | Sequence[int], ndim: int, *, value: float = 0.0
) -> Num[Array, "... v u"]:
    """The last `ndim` axes set into a larger box filled with `value`: the origin N // 2 becomes M // 2."""
    sizes, new_sizes = _sizes_of(x, ndim), _sizes(shape, ndim)
    _check_order(sizes, new_sizes, "pad")
    before = [m // 2 - n // 2 for n, m in zip(sizes, new_sizes)]
    widths = [(0, 0)] * (x.ndim - ndim) + [(b, m - n - b) for b, n, m in zip(before, sizes, new_sizes)]
    return namespace(x).pad(x, widths, constant_values=value)


def _crop_axis(xp, transform: Array, axis: int, new: int) -> Array:
    size = transform.shape[axis]
    if new == size:
        return transform
    positive = _take(transform, axis, 0, (new + 1) // 2)
    negative = _take(transform, axis, size - new // 2, size)
    if new % 2 == 0:
        nyquist = _take(negative, axis, 0, 1) + _take(transform, axis, new // 2, new // 2 + 1)
        return xp.concatenate([positive, nyquist, _take(negative, axis, 1, new // 2)], axis=axis)
    return xp.concatenate([positive, negative], axis=axis)


def _pad_axis(xp, transform: Array, axis: int, new: int) -> Array:
    size = transform.shape[axis]
    if new == size:
        return transform
    positive = _take(transform, axis, 0, (size + 1) // 2)
    negative = _take(transform, axis, (size + 1) // 2, size)
    if size % 2:
        return xp.concatenate([positive, _zeros(xp, transform, axis, new - size), negative], axis=axis)
    nyquist = _take(negative, axis, 0, 1) * 0.5
    zeros = _zeros(xp, transform, axis, new - size - 1)
    return xp.concatenate([positive, nyquist, zeros, nyquist, _take(negative, axis, 1, size // 2)], axis=axis)


def _take(x: Array, axis: int, start: int, stop: int) -> Array:
    return x[(..., slice(start, stop)) + (slice(None),) * (-axis - 1)]


def _zeros(xp, like: Array, axis: int, count: int) -> Array:
    shape = list(like.shape)
    shape[axis] = count
    return xp.zeros(shape, dtype=like.dtype)


def _ratio(new_shape: Sequence[int], shape: Sequence[int]) -> float:
    return math.prod(new_shape) / math.prod(shape)


# --- moving the origin ------------------------------------------------------------------------------------------------


def _origin_to_corner(x: Array, xp, ndim: int) -> Array:
    odd = [axis for axis in _axes(ndim) if x.shape[axis] % 2]
    return xp.fft.ifftshift(x, axes=odd) if odd else x


def _corner_to_origin(x: Array, xp, ndim: int) -> Array:
    odd = [axis for axis in _axes(ndim) if x.shape[axis] % 2]
    return xp.fft.fftshift(x, axes=odd) if odd else x


def _signs(sizes: Sequence[int], *, half: bool) -> list[np.ndarray | None]:
    """(-1)^k along each axis, which moves the origin of an even axis by half the box; None for odd axes."""
    signs: list[np.ndarray | None] = []
    for axis, size in enumerate(sizes):
        length = size // 2 + 1 if half and axis == len(sizes) - 1 else size
        signs.append(None if size % 2 else 1.0 - 2.0 * (np.arange(length) % 2))
    return signs


def _alternate(transform: Array, sizes: Sequence[int], *, half: bool) -> Array:
    xp, dtype = namespace(transform), float_dtype(transform)
    for axis, sign in enumerate(_signs(sizes, half=half)):
        if sign is not None:
            transform = transform * xp.asarray(sign.reshape([-1] + [1] * (len(sizes) - axis - 1)), dtype=dtype)
    return transform


def _alternate_in_place(transform: np.ndarray, sizes: Sequence[int], *, half: bool) -> np.ndarray:
    """The signs on an array of our own, as real numbers: a third of the time of a complex product."""
    return _multiply_signs(transform, transform, sizes, half=half)


def _alternate_copy(transform: np.ndarray, sizes: Sequence[int], *, half: bool) -> np.ndarray:
    """The signs on a copy of the transform; the transform itself if there are none."""
    if all(size % 2 for size in sizes):
        return transform
    transform = np.ascontiguousarray(transform)
    return _multiply_signs(transform, np.empty_like(transform), sizes, half=half)


def _multiply_signs(source: np.ndarray, target: np.ndarray, sizes: Sequence[int], *, half: bool) -> np.ndarray:
    signs = _signs(sizes, half=half)
    if all(sign is None for sign in signs):
        return target
    dtype = float_dtype(source)
    last = signs[-1] if signs[-1] is not None else np.ones(source.shape[-1])
    plane = np.repeat(last, 2).astype(dtype)
    if len(signs) > 1 and (rows := signs[-2]) is not None:
        plane = rows.astype(dtype)[:, None] * plane
    pairs, result = source.view(dtype), target.view(dtype)
    if len(signs) == 3 and signs[0] is not None:
        np.multiply(pairs[..., 0::2, :, :], plane, out=result[..., 0::2, :, :])
        np.multiply(pairs[..., 1::2, :, :], -plane, out=result[..., 1::2, :, :])
    else:
        np.multiply(pairs, plane, out=result)
    return target


def _keeps(sizes: Sequence[int]) -> list[np.ndarray]:
    """For each axis, in order: 0 at its Nyquist frequency and 1 elsewhere, as open grids in `rfftn` layout."""
    return [(2 * np.abs(k) < 1 - 1e-12) | (size % 2 == 1) for k, size in zip(frequencies(sizes)[::-1], sizes)]


# --- shapes -----------------------------------------------------------------------------------------------------------


def _axes(ndim: int) -> tuple[int, ...]:
    if ndim not in (1, 2, 3):
        raise SettingsProblem(f"a transform over {ndim} axes", "1, 2 or 3")
    return tuple(range(-ndim, 0))


def _sizes_of(x: Inexact[Array, " ..."], ndim: int) -> tuple[int, ...]:
    if np.ndim(x) < ndim or ndim < 1:
        raise DataProblem(f"an array of {np.ndim(x)} axes", f"at least the {ndim} that are transformed")
    return tuple(x.shape[-ndim:])


def _sizes(shape: int | Sequence[int], ndim: int | None) -> tuple[int, ...]:
    if isinstance(shape, int | np.integer):
        if ndim is None:
            raise SettingsProblem(f"the single size {shape}", "one size for each axis", "give ndim, or all sizes")
        return (int(shape),) * ndim
    if ndim is not None and len(shape) != ndim:
        raise SettingsProblem(f"sizes {tuple(shape)} for {ndim} axes", "one size for each axis")
    return tuple(int(n) for n in shape)


def _check_half(transform: Array, sizes: Sequence[int]) -> None:
    expected = (*sizes[:-1], sizes[-1] // 2 + 1)
    if tuple(transform.shape[-len(sizes) :]) != expected:
        raise DataProblem(
            f"a transform of shape {tuple(transform.shape)}", f"last axes {expected} for a box of {tuple(sizes)}"
        )


def _check_order(small: Sequence[int], large: Sequence[int], verb: str) -> None:
    if len(small) != len(large) or any(not 1 <= s <= n for s, n in zip(small, large)):
        old, new = (large, small) if verb == "crop" else (small, large)
        raise SettingsProblem(
            f"a {verb} from {tuple(old)} to {tuple(new)}", f"sizes that a {verb} can reach along each axis"
        )
