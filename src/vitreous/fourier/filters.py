"""Filters: transfer functions of |k|, masks with soft edges, whitening and Wiener deconvolution.

A transfer function takes frequencies k in 1/angstrom (or any other unit, if all its arguments share it) and gives the
factor on the transform. Cut-offs are frequencies too; the cut-off of a resolution d in angstrom is 1 / d. Edges are
centred on the cut-off, where the factor is 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.shells import spread_shells
from vitreous.fourier.transforms import forward, inverse

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX


# --- transfer functions -----------------------------------------------------------------------------------------------


def hard_low_pass(k: Float[Array, " ..."], cutoff: float) -> Float[Array, " ..."]:
    """1 for k <= cutoff, else 0. Its ringing reaches far: a step in the image overshoots by 9 %."""
    k = _as_float(k)
    return (k <= cutoff).astype(k.dtype)


def low_pass(k: Float[Array, " ..."], cutoff: float, edge_width: float) -> Float[Array, " ..."]:
    """1 falling to 0 as half a period of a raised cosine between cutoff - edge_width/2 and cutoff + edge_width/2.

        T = (1 + cos(pi t)) / 2,   t = clip((k - cutoff) / edge_width + 1/2, 0, 1)

    `edge_width` > 0 is the whole width of the edge, in the unit of k.
    """
    if isinstance(edge_width, int | float) and not edge_width > 0:
        raise SettingsProblem(f"an edge {edge_width} wide", "a positive width", "use hard_low_pass for no edge")
    return _falling_cosine(_as_float(k), cutoff - 0.5 * edge_width, edge_width)


def high_pass(k: Float[Array, " ..."], cutoff: float, edge_width: float) -> Float[Array, " ..."]:
    """1 - `low_pass`: removes slow changes, the mean included."""
    return 1.0 - low_pass(k, cutoff, edge_width)


def band_pass(k: Float[Array, " ..."], low: float, high: float, edge_width: float) -> Float[Array, " ..."]:
    """What lies between the frequencies `low` and `high`: `high_pass(low) * low_pass(high)`."""
    return high_pass(k, low, edge_width) * low_pass(k, high, edge_width)


def tanh_low_pass(k: Float[Array, " ..."], cutoff: float, edge_width: float) -> Float[Array, " ..."]:
    """(1 - tanh(pi (k - cutoff) / edge_width)) / 2: as steep at the cut-off as `low_pass`, but never quite 1 or 0."""
    k = _as_float(k)
    return 0.5 - 0.5 * namespace(k, cutoff, edge_width).tanh(math.pi * (k - cutoff) / edge_width)


def gaussian_low_pass(k: Float[Array, " ..."], sigma_k: float) -> Float[Array, " ..."]:
    """exp(-k^2 / (2 sigma_k^2)), with the standard deviation `sigma_k` in the unit of k.

    It is the transform of a Gaussian blur of standard deviation 1 / (2 pi sigma_k), see `sigma_k_of_blur`.
    """
    k = _as_float(k)
    return namespace(k, sigma_k).exp(-0.5 * (k / sigma_k) ** 2)


def gaussian_high_pass(k: Float[Array, " ..."], sigma_k: float) -> Float[Array, " ..."]:
    """1 - `gaussian_low_pass`."""
    return 1.0 - gaussian_low_pass(k, sigma_k)


def sigma_k_of_blur(sigma_x: float) -> float:
    """Standard deviation 1 / (2 pi sigma_x) of the transform of a Gaussian of standard deviation `sigma_x`.

    >>> round(sigma_k_of_blur(4.0), 4)  # pixels to cycles per pixel
    0.0398
    """
    return 1.0 / (2.0 * math.pi * sigma_x)


def sigma_k_of_resolution(resolution: float, amplitude: float = 0.5) -> float:
    """Standard deviation of the Gaussian filter that lets `amplitude`, in (0, 1), through at `resolution` angstrom."""
    if not 0 < amplitude < 1:
        raise SettingsProblem(f"an amplitude of {amplitude}", "a number between 0 and 1")
    return 1.0 / (resolution * math.sqrt(-2.0 * math.log(amplitude)))


def b_factor_envelope(k: Float[Array, " ..."], b_factor: float) -> Float[Array, " ..."]:
    """exp(-B k^2 / 4), B in angstrom^2 and k in 1/angstrom. B > 0 damps amplitudes, B < 0 sharpens.

    >>> round(float(b_factor_envelope(np.array(1 / 5), -100.0)), 4)
    2.7183
    """
    k = _as_float(k)
    return namespace(k, b_factor).exp((-0.25 * b_factor) * k**2)


def apply_filter(
    images: Float[Array, "... y x"], transfer: Float[Array, "... y xh"], ndim: int = 2, *, workers: int | None = None
) -> Float[Array, "... y x"]:
    """Images (or volumes, `ndim=3`) filtered by a transfer function given on the grid of their transform.

    >>> from vitreous.fourier.transforms import radial_frequency
    >>> image = np.random.default_rng(0).standard_normal((32, 32))
    >>> smooth = apply_filter(image, gaussian_low_pass(radial_frequency((32, 32), 1.5), sigma_k_of_resolution(20.0)))
    """
    shape = tuple(images.shape[-ndim:])
    transform = forward(images, ndim, workers=workers)
    dtype = transform.dtype if np.dtype(transfer.dtype).kind == "c" else float_dtype(transform)
    return inverse(transform * transfer.astype(dtype), shape, workers=workers)


# --- inverse filters --------------------------------------------------------------------------------------------------


def whitening_filter(noise_power: Float[Array, "... s"], shape: Sequence[int]) -> Float[Array, "... y xh"]:
    """1 / sqrt(noise power): the filter that makes the noise white, of variance 1 per pixel.

    `noise_power` is per shell as `power_spectrum` measures it; frequencies beyond its last shell take the value of the
    last. A shell without power has nothing to whiten and gets 0.
    """
    xp = namespace(noise_power)
    positive = noise_power > 0
    gain = xp.where(positive, 1.0 / xp.sqrt(xp.where(positive, noise_power, 1.0)), 0.0).astype(noise_power.dtype)
    return spread_shells(gain, shape)


def wiener(
    transform: Complex[Array, "... y xh"], transfer: Array, snr: float | Float[Array, " ..."]
) -> Complex[Array, "... y xh"]:
    """Wiener deconvolution `conj(H) F / (|H|^2 + 1/SNR)`: undoes a transfer function H as far as the noise allows.

    `snr` >= 0 and finite is the ratio of signal power to noise power in the image, one number or one for each
    frequency. Where H or the SNR is 0 the result is 0. The estimate of smallest mean square error (N. Wiener 1949).
    """
    xp = namespace(transform, transfer, snr)
    power = transfer.real**2 + transfer.imag**2 if np.dtype(transfer.dtype).kind == "c" else transfer**2
    return transform * (xp.conj(transfer) * snr / (power * snr + 1.0))


def wiener_by_shell(
    transform: Complex[Array, "... y xh"], transfer: Array, snr: Float[Array, " s"], shape: Sequence[int]
) -> Complex[Array, "... y xh"]:
    """`wiener` with one SNR per shell, for the transform of a box `shape`; beyond the last shell the last SNR holds."""
    return wiener(transform, transfer, spread_shells(snr, shape))


# --- real space -------------------------------------------------------------------------------------------------------


def soft_disc(
    shape: int | Sequence[int], radius_px: float, edge_px: float, *, dtype: np.dtype | type = np.float64
) -> Float[Array, "y x"]:
    """A disc about the origin N // 2: 1 up to `radius_px`, a raised cosine down to 0 at `radius_px + edge_px`.

    `edge_px` = 0 gives a hard edge. A single number as `shape` means a square.
    """
    return _soft_ball((shape, shape) if isinstance(shape, int) else shape, radius_px, edge_px, dtype)


def soft_sphere(
    shape: int | Sequence[int], radius_px: float, edge_px: float, *, dtype: np.dtype | type = np.float64
) -> Float[Array, "z y x"]:
    """A sphere about the origin N // 2: 1 up to `radius_px`, a raised cosine down to 0 at `radius_px + edge_px`."""
    return _soft_ball((shape,) * 3 if isinstance(shape, int) else shape, radius_px, edge_px, dtype)


def background_statistics(
    images: Float[Array, "... y x"], radius_px: float
) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
    """Mean and standard deviation of the pixels farther than `radius_px` from the origin of each image."""
    _, mean, deviation = _background(images, radius_px)
    return mean, deviation


def normalise_background(images: Float[Array, "... y x"], radius_px: float) -> Float[Array, "... y x"]:
    """Images whose background, the pixels farther than `radius_px` from the origin, has mean 0 and deviation 1.

    An image whose background is constant, to rounding, has no scale: its mean is removed and nothing is divided.
    Raises SettingsProblem if no pixel lies outside the circle.
    """
    centred, _, deviation = _background(images, radius_px)
    safe = namespace(images).where(deviation > 0, deviation, 1.0).astype(centred.dtype)
    return centred / safe[..., None, None]


def _background(images: Array, radius_px: float) -> tuple[Array, Array, Array]:
    """Images minus the mean of their background, that mean, and the background's standard deviation."""
    if images.ndim < 2:
        raise DataProblem(f"an array of {images.ndim} axes", "an image [y, x] or a stack [n, y, x]")
    xp = namespace(images)
    outside = _squared_radius(images.shape[-2:]) > radius_px**2
    if not outside.any():
        raise SettingsProblem(
            f"a background outside {radius_px} pixels of a box {tuple(images.shape[-2:])}",
            "at least one pixel",
            "give a smaller radius",
        )
    weights = xp.asarray(outside / outside.sum(), dtype=float_dtype(images))
    mean = xp.sum(images * weights, axis=(-2, -1))
    centred = images - mean[..., None, None]
    variance = xp.sum(centred**2 * weights, axis=(-2, -1))
    rounding = 8.0 * float(np.finfo(centred.dtype).eps)  # what the mean of a constant image may be off by
    positive = variance > (rounding * mean) ** 2
    deviation = xp.where(positive, xp.sqrt(xp.where(positive, variance, 1.0)), 0.0).astype(variance.dtype)
    return centred, mean, deviation


def _soft_ball(shape: Sequence[int], radius_px: float, edge_px: float, dtype: np.dtype | type) -> Array:
    """The profile is worked out once for each squared radius, a whole number, and looked up for every voxel."""
    squares = _squared_radius(shape)
    radius = np.sqrt(np.arange(squares.max() + 1))
    hard = isinstance(edge_px, int | float) and edge_px == 0
    profile: Array = radius <= radius_px if hard else _falling_cosine(radius, radius_px, edge_px)
    return profile.astype(dtype)[squares]


def _squared_radius(shape: Sequence[int]) -> np.ndarray:
    axes = [(np.arange(n) - n // 2).reshape([-1] + [1] * (len(shape) - i - 1)) for i, n in enumerate(shape)]
    return sum((a.astype(np.int32) ** 2 for a in axes), np.zeros((), np.int32))


def _falling_cosine(x: Array, start: float, width: float) -> Array:
    """1 up to `start`, 0 from `start + width`, half a period of a cosine between."""
    xp = namespace(x, start, width)
    return 0.5 + 0.5 * xp.cos(math.pi * xp.clip((x - start) / width, 0.0, 1.0))


def _as_float(x: Array) -> Array:
    x = namespace(x).asarray(x)
    return x if np.dtype(x.dtype).kind == "f" else x * 1.0
