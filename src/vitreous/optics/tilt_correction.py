"""Correction of the CTF of a tilted specimen, whose defocus changes along the image. Signs are those of physics.md (a).

Three corrections of a recorded image, each with the defocus of the place it makes:

    premultiplied    the CTF once more: `tilt.tilted_contrast_adjoint`
    phase_flipped    the sign of the CTF
    wiener_filtered  the specimen o that makes `|S o - image|^2 + |o|^2 / snr` least, S the image of a tilted specimen

A filter that is a function of the phase gamma, odd and with W(pi - gamma) = W(gamma), is a sum of sines of odd multiples,
`W = sum_m b_m sin(m gamma)`. Because gamma is linear in the defocus, each of them is one fast transform with m times the
phase and m times the shift of `tilt.tilted_contrast`: the filter of every pixel's own defocus without strips or tiles.

The sign of the CTF jumps where the CTF is 0, and its series converges slowly. Here it is blurred along the phase by a
Gaussian of small rms: what it does to the image then differs from |CTF| by less than 0.35 rms, and only about the zeros.

The Wiener filter of each pixel, `sin / (sin^2 + 1/snr)`, has a series that converges as `(sqrt(1 + 1/snr) - sqrt(1/snr))^m`
(`wiener_series`). It is not the best linear correction of a tilted image, though: a pixel filtered for its own defocus
meets signal that scatterers further up or down the slope sent there. The least squares, by conjugate gradients with
the exact adjoint, count each scatterer with its own defocus. benchmarks/tilt.py compares them.

The mean of an image passes like any other frequency: subtract it first if it means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype
from vitreous.conventions import Contrast, CtfState
from vitreous.engine.local import Progress, silent
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.nonuniform import transform_at_adjoint
from vitreous.fourier.transforms import fft, forward, frequencies, inverse, without_nyquist
from vitreous.optics.ctf import named_contrast
from vitreous.optics.ctf_correction import inverse_snr, state_factor
from vitreous.optics.tilt import (
    TiltedCtf,
    batches,
    checked_images,
    phase_factor,
    satellites,
    tilted_contrast,
    tilted_contrast_adjoint,
    transform_options,
)

if TYPE_CHECKING:
    from jaxtyping import Float

SIGN_RMS = 0.15  # radian
LARGEST_SIGN_RMS = 0.5  # beyond, the sign is blurred into the next zero
MOST_STEPS = 300


def phase_flipped(
    images: Float[np.ndarray, "*batch y x"],
    pixel_size: float,
    lens: TiltedCtf,
    *,
    contrast: Contrast | str = Contrast.INVERTED,
    sign_rms: float = SIGN_RMS,
    eps: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, "*batch y x"]:
    """Images with the sign of their local CTF undone: what had the transfer sin(gamma) has |sin(gamma)|.

    Without a tilt the sign is exact. `contrast` names the CTF whose sign it is: "inverted" leaves the contrast of the specimen as it is in the image, dark
    protein dark; "raw" makes dark protein bright. The sign is blurred along the phase by a Gaussian of `sign_rms` radian (from
    0.01 to 0.5), with `sign_series`. Batches, precision and errors are those of `tilt.tilted_contrast`.
    """
    coefficients = sign_series(sign_rms)
    if lens.plane.tilt == 0:
        return _filtered_alike(
            images, pixel_size, lens, lambda phase, _: state_factor(np.sin(phase), CtfState.PHASE_FLIPPED), contrast
        )
    return filtered_by_phase(
        images, pixel_size, lens, coefficients, contrast=contrast, eps=eps, threads=threads, progress=progress
    )


def wiener_filtered(
    images: Float[np.ndarray, "*batch y x"],
    pixel_size: float,
    lens: TiltedCtf,
    *,
    snr: float | Float[np.ndarray, "y xh"],
    contrast: Contrast | str = Contrast.INVERTED,
    envelope: Float[np.ndarray, "y xh"] | None = None,
    tolerance: float = 1e-3,
    eps: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, "*batch y x"]:
    """The specimen that explains the images best: `(S^T S + 1/snr) o = S^T image`, solved to a residual of `tolerance`.

    S is `tilt.tilted_contrast` by the scatterer, with this `contrast` and `envelope`. `snr` is the power of the specimen over the
    power of the noise, one number or values on the half grid of `frequencies(shape, pixel_size)`: for signal and noise of
    these powers the result is the linear estimate with the least error. Without a tilt it is the Wiener filter `CTF / (CTF^2 + 1/snr)`.
    Steps of the conjugate gradients cost two fast transforms each; 3 suffice at a signal-to-noise ratio of 0.1, about 6 at 1 and
    15 at 10. Raises SettingsProblem for an snr that is not positive, or so large that 300 steps do not suffice.
    """
    images = checked_images(images, pixel_size)
    shape = images.shape[-2:]
    penalty = inverse_snr(snr, np.float64)
    if penalty.ndim and penalty.shape != (shape[0], shape[1] // 2 + 1):
        raise DataProblem(
            f"signal-to-noise ratios of shape {penalty.shape}", "one number, or the half grid of the image"
        )
    if lens.plane.tilt == 0:

        def weight(phase: np.ndarray, damping: np.ndarray) -> np.ndarray:
            return state_factor(
                np.sin(phase) * damping * (1.0 if envelope is None else envelope), CtfState.WIENER, snr=snr
            )

        return _filtered_alike(images, pixel_size, lens, weight, contrast)
    kind: Any = {"contrast": contrast, "envelope": envelope, "eps": eps, "threads": threads}
    damping, precondition = _penalty(penalty, envelope, shape)
    flat = images.reshape(-1, *shape)
    result = np.empty_like(flat)
    for index, image in enumerate(flat):
        one = lens.rows(len(flat), index) if lens.batch else lens

        def normal(o: np.ndarray, one: TiltedCtf = one) -> np.ndarray:
            there = tilted_contrast(o, pixel_size, one, **kind)
            return tilted_contrast_adjoint(there, pixel_size, one, **kind) + damping(o)

        target = tilted_contrast_adjoint(image, pixel_size, one, **kind)
        result[index] = _conjugate_gradients(normal, precondition, target, tolerance, progress)
    return result.reshape(images.shape)


def filtered_by_phase(
    images: Float[np.ndarray, "*batch y x"],
    pixel_size: float,
    lens: TiltedCtf,
    coefficients: Sequence[float],
    *,
    contrast: Contrast | str = Contrast.INVERTED,
    eps: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, "*batch y x"]:
    """Each pixel by the filter `W = b_0 sin(gamma) + b_1 sin(3 gamma) + b_2 sin(5 gamma) + ...` of its own defocus.

    `coefficients` are the b: `sign_series`, `wiener_series`, or any others. One fast transform each. B factors of the lens have no
    part in this. Batches, precision and errors are those of `tilt.tilted_contrast`.
    """
    sign = -1.0 if named_contrast(contrast) is Contrast.RAW else 1.0
    images = checked_images(images, pixel_size)
    dtype, shape = float_dtype(images), images.shape[-2:]
    options = transform_options(dtype, math.prod(shape), eps, threads)
    result = np.zeros(images.shape, dtype)
    for rows, part in batches(images, replace(lens, b_factor=0.0)):
        factor = phase_factor(part, shape, pixel_size, None, dtype)
        spectrum, step = fft(images[rows], 2) * factor, factor * factor
        for order, coefficient in enumerate(coefficients):
            points = satellites(shape, pixel_size, part, 2 * order + 1)
            weighted = spectrum.reshape(*spectrum.shape[:-2], -1)
            image = np.imag(transform_at_adjoint(weighted, points, shape, **options))
            result[rows] += (sign * coefficient / math.prod(shape)) * image
            spectrum *= step
            progress(order + 1, len(coefficients))
    return result


def sign_series(rms: float = SIGN_RMS, *, tolerance: float = 1e-3) -> list[float]:
    """Coefficients of the sign of the sine, blurred by a Gaussian of `rms` radian: `b_m = 4/(pi m) exp(-m^2 rms^2 / 2)`, m odd.

    As many as leave less than `tolerance` in sum: 10 at 0.15.

    >>> [round(b, 4) for b in sign_series(0.5)]
    [1.1236, 0.1378, 0.0112]
    """
    if not 0.01 <= rms <= LARGEST_SIGN_RMS:
        raise SettingsProblem(f"a sign blurred by {rms} radian", f"0.01 to {LARGEST_SIGN_RMS}")
    orders = np.arange(1, 2 * math.ceil(6 / rms), 2)
    return _truncated(4 / (math.pi * orders) * np.exp(-0.5 * (orders * rms) ** 2), tolerance)


def wiener_series(snr: float, *, tolerance: float = 1e-3) -> list[float]:
    """Coefficients of `sin / (sin^2 + 1/snr)`: `b_n = (1 - q) q^n / sqrt(c (1 + c))`, `q = (sqrt(1 + c) - sqrt(c))^2`, c = 1/snr.

    q is 0.024 at a ratio of 0.1, 0.17 at 1 and 0.54 at 10. As many as leave less than `tolerance` of the first.
    """
    if not 0 < snr < 1e6:
        raise SettingsProblem(f"a signal-to-noise ratio of {snr}", "a positive number below 1e6")
    c = 1 / snr
    ratio = 1 / (math.sqrt(1 + c) + math.sqrt(c)) ** 2  # the same number without the difference of two large ones
    count = 2 + math.ceil(math.log(tolerance) / math.log(ratio))
    powers = ratio ** np.arange(count)
    return _truncated((1 - ratio) / math.sqrt(c * (1 + c)) * powers, tolerance * (1 - ratio) / math.sqrt(c * (1 + c)))


def _filtered_alike(
    images: np.ndarray,
    pixel_size: float,
    lens: TiltedCtf,
    weight: Callable[[np.ndarray, np.ndarray], np.ndarray],
    contrast: Contrast | str,
) -> np.ndarray:
    """Without a tilt: the transform times a function of the phase and of `exp(-B k^2 / 4)`, Nyquist terms dropped."""
    sign = -1.0 if named_contrast(contrast) is Contrast.RAW else 1.0
    images = checked_images(images, pixel_size)
    shape = images.shape[-2:]
    kx, ky = frequencies(shape, pixel_size)
    result = np.empty_like(images)
    for rows, part in batches(images, lens):
        damping = np.exp(-0.25 * np.asarray(part.b_factor)[..., None, None] * (kx * kx + ky * ky))
        factor = (sign * weight(part.phase(kx, ky), damping)).astype(images.dtype)
        result[rows] = inverse(without_nyquist(forward(images[rows], 2) * factor, shape), shape)
    return result


def _truncated(coefficients: np.ndarray, tolerance: float) -> list[float]:
    """The first coefficients, without a tail whose sum is below the tolerance."""
    tail = np.cumsum(np.abs(coefficients)[::-1])[::-1]
    return [float(b) for b in coefficients[: max(1, int(np.sum(tail >= tolerance)))]]


def _penalty(
    inverse_snr: np.ndarray, envelope: np.ndarray | None, shape: tuple[int, int]
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """The operator 1/snr, and the inverse of (mean CTF^2 + 1/snr), which brings all frequencies to one scale."""
    if inverse_snr.ndim == 0 and envelope is None:
        return lambda o: float(inverse_snr) * o, lambda o: o
    curve = np.broadcast_to(inverse_snr, (shape[0], shape[1] // 2 + 1))
    scale = 1 / (0.5 * (1.0 if envelope is None else np.asarray(envelope) ** 2) + curve)

    def multiplied(o: np.ndarray, by: np.ndarray) -> np.ndarray:
        return inverse(forward(o, 2) * by.astype(o.dtype), shape)

    return lambda o: multiplied(o, curve), lambda o: multiplied(o, scale)


def _conjugate_gradients(
    operator: Callable[[np.ndarray], np.ndarray],
    precondition: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    tolerance: float,
    progress: Progress,
) -> np.ndarray:
    """x with |target - operator(x)| <= tolerance |target|."""
    x, residual = np.zeros_like(target), target.copy()
    direction = precondition(residual)
    height, goal = _inner(residual, direction), tolerance * math.sqrt(_inner(target, target))
    start = math.sqrt(_inner(residual, residual))
    for _ in range(MOST_STEPS):
        norm = math.sqrt(_inner(residual, residual))
        if norm <= goal:
            return x
        progress(int(100 * math.log(start / norm) / -math.log(tolerance)), 100)
        step = operator(direction)
        length = height / _inner(direction, step)
        x += length * direction
        residual -= length * step
        moved = precondition(residual)
        height, former = _inner(residual, moved), height
        direction = moved + (height / former) * direction
    raise SettingsProblem(
        f"a signal-to-noise ratio for which {MOST_STEPS} steps do not suffice", "a smaller one", "divide it by ten"
    )


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b, dtype=np.float64))
