"""Convolution and correlation, as a sum over the taps of the kernel and as a product of transforms.

    full:      c[m] = sum_j kernel[j] x[m - j],                     size N + K - 1
    same:      c[i] = sum_j kernel[j] x[i - j + centre],            size N, zero outside x
    valid:     the part of `full` where every tap meets x,          size N - K + 1, K <= N
    circular:  as `same`, x repeated without end,                   size N, K <= N

`centre` is the tap that stands on the sample itself. A kernel is a real-space array, so its origin is index K // 2, for
odd and even K: the tap "upper" (as in `scipy.ndimage`). For even K `scipy.signal` takes (K - 1) // 2 in its mode
"same": the tap "lower". For odd K both are the middle. The modes full and valid need no centre.

Both ways give the same numbers. Over taps it takes N K operations, over transforms (N + K) log(N + K): small kernels
win in real space. The kernel's axes are the axes that are convolved; leading axes of x are batch axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitreous.arrays import namespace
from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Num

    Array = Any  # NumPy or JAX

Mode = Literal["full", "same", "valid", "circular"]
Centre = Literal["upper", "lower"]


def convolve_direct(
    x: Num[Array, "... y x"], kernel: Num[Array, "v u"], mode: Mode = "same", *, centre: Centre = "upper"
) -> Num[Array, "... y x"]:
    """Convolution as a weighted sum of shifted copies of x, one for each tap of the kernel.

    Modes and centre: see the module.

    >>> convolve_direct(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5]), "full")
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    xp = namespace(x, kernel)
    sizes = _sizes(x, kernel, mode)
    widths = [_margins(n, k, mode, _centre(k, centre)) for n, k in zip(sizes, kernel.shape)]
    batch = [(0, 0)] * (x.ndim - kernel.ndim)
    padded = xp.pad(x, batch + widths, mode="wrap" if mode == "circular" else "constant")
    lengths = [padded.shape[a] - k + 1 for a, k in zip(range(-kernel.ndim, 0), kernel.shape)]
    total = None
    for tap in itertools.product(*(range(k) for k in kernel.shape)):
        starts = [k - 1 - t for k, t in zip(kernel.shape, tap)]
        term = padded[(..., *(slice(s, s + n) for s, n in zip(starts, lengths)))] * kernel[tap]
        total = term if total is None else total + term
    return total


def convolve_fourier(
    x: Num[Array, "... y x"],
    kernel: Num[Array, "v u"],
    mode: Mode = "same",
    *,
    centre: Centre = "upper",
    workers: int | None = None,
) -> Num[Array, "... y x"]:
    """Convolution as a product of transforms, zero-padded so that the edges do not meet (except in mode "circular").

    See the module for modes and centre. Integers become floating numbers.
    """
    xp = namespace(x, kernel)
    sizes = _sizes(x, kernel, mode)
    shape = tuple(sizes) if mode == "circular" else tuple(_fast_size(n + k - 1) for n, k in zip(sizes, kernel.shape))
    product = _product(xp, x, kernel, shape, workers)
    if mode == "circular":
        return xp.roll(product, [-_centre(k, centre) for k in kernel.shape], axis=tuple(range(-kernel.ndim, 0)))
    starts = [{"full": 0, "same": _centre(k, centre), "valid": k - 1}[mode] for k in kernel.shape]
    lengths = [{"full": n + k - 1, "same": n, "valid": n - k + 1}[mode] for n, k in zip(sizes, kernel.shape)]
    return product[(..., *(slice(s, s + n) for s, n in zip(starts, lengths)))]


def correlate_direct(
    x: Num[Array, "... y x"], template: Num[Array, "v u"], mode: Mode = "same", *, centre: Centre = "upper"
) -> Num[Array, "... y x"]:
    """Correlation `c[i] = sum_j x[i + j - centre] conj(template[j])`, over the taps of the template.

    Mode "same" and "circular" are largest at the sample on which the template's centre tap lies when it fits. With
    centre "upper" this is `scipy.signal.correlate`, for even and odd templates.
    """
    return convolve_direct(x, _turned(template), mode, centre=_opposite(centre))


def correlate_fourier(
    x: Num[Array, "... y x"],
    template: Num[Array, "v u"],
    mode: Mode = "same",
    *,
    centre: Centre = "upper",
    workers: int | None = None,
) -> Num[Array, "... y x"]:
    """`correlate_direct` as a product of transforms."""
    return convolve_fourier(x, _turned(template), mode, centre=_opposite(centre), workers=workers)


def _product(xp, x: Array, kernel: Array, shape: Sequence[int], workers: int | None) -> Array:
    """Circular convolution on a box `shape`, both arrays starting at index 0."""
    axes = tuple(range(-kernel.ndim, 0))
    fft: Any
    options: dict[str, Any]
    is_complex = any(np.dtype(a.dtype).kind == "c" for a in (x, kernel))
    if xp is np:
        from scipy import fft

        options = {"axes": axes, "workers": workers}
    else:
        fft, options = xp.fft, {"axes": axes}
    if is_complex:
        return fft.ifftn(fft.fftn(x, s=shape, **options) * fft.fftn(kernel, s=shape, **options), **options)
    product = fft.rfftn(x, s=shape, **options) * fft.rfftn(kernel, s=shape, **options)
    return fft.irfftn(product, s=shape, **options)


def _fast_size(size: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(size, real=True))  # type: ignore[arg-type]


def _sizes(x: Array, kernel: Array, mode: Mode) -> tuple[int, ...]:
    if mode not in ("full", "same", "valid", "circular"):
        raise SettingsProblem(f"the convolution mode '{mode}'", "full, same, valid or circular")
    if x.ndim < kernel.ndim:
        raise SettingsProblem(
            f"a kernel of {kernel.ndim} axes for an array of {x.ndim}", "at most as many axes as the array"
        )
    sizes = tuple(x.shape[x.ndim - kernel.ndim :])
    if mode in ("valid", "circular") and any(k > n for n, k in zip(sizes, kernel.shape)):
        raise SettingsProblem(
            f"a kernel of {tuple(kernel.shape)} on {sizes} samples in mode '{mode}'",
            "a kernel no larger than the array",
            "use mode 'full' or 'same'",
        )
    return sizes


def _centre(size: int, centre: Centre) -> int:
    if centre not in ("upper", "lower"):
        raise SettingsProblem(f"the centre '{centre}'", "'upper' (K // 2) or 'lower' ((K - 1) // 2)")
    return size // 2 if centre == "upper" else (size - 1) // 2


def _opposite(centre: Centre) -> Centre:
    """The centre of a template once it has been turned round."""
    return {"upper": "lower", "lower": "upper"}.get(centre, centre)  # type: ignore[return-value]


def _turned(template: Array) -> Array:
    xp = namespace(template)
    return xp.conj(xp.flip(template))


def _margins(size: int, kernel_size: int, mode: Mode, centre: int) -> tuple[int, int]:
    """Samples to add before and after so that the sliding kernel gives exactly the result's samples."""
    if mode == "valid":
        return 0, 0
    if mode == "full":
        return kernel_size - 1, kernel_size - 1
    return kernel_size - 1 - centre, centre
