"""From sums to class averages: the maximisation step of 2D classification, with a prior on the power of each shell.

    A = N / (D + lambda),    lambda(class, ring) = mean D / (T SSNR),    SSNR = 2 FRC / (1 - FRC)

N = sum C X w / sigma^2 and D = sum C^2 w / sigma^2 at each point of a ring. The particles are in two halves; the correlation of their averages on each ring (FRC)
says how much of the power is signal, however broad the posteriors are. Wiener's filter with that ratio is the maximum a posteriori for Gaussian signals of
that power (Scheres 2012, doi:10.1016/j.jmb.2011.11.010, eqs 2-5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.class_sums import ClassSums
from vitreous.alignment.polar_images import masked_about, shift_factors
from vitreous.fourier.polar import PolarGrid, from_polar, to_polar

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

LEAST_SNR = 1e-3
# A class with fewer particles than this has no average of its own.
LEAST_MASS = 1.0
# Where the correlation of the halves has fallen below this it counts as gone for all finer rings.
GONE = 0.143


@dataclass(frozen=True)
class ClassModel:
    """Class averages as images, and the SSNR of each ring."""

    averages: Float[np.ndarray, "k y x"]
    signal_to_noise: Float[np.ndarray, "k r"]


def maximised(sums: ClassSums, grid: PolarGrid, *, tau_fudge: float, radius: float) -> ClassModel:
    """Averages from the sums, masked by a soft disc of `radius` pixels and centred."""
    snr = signal_to_noise(sums, grid)
    data, weight = sums.data.sum(axis=0), np.maximum(sums.weight.sum(axis=0), 0)
    mean = weight.mean(axis=2)
    penalty = mean / (tau_fudge * snr) + 1e-20
    references = (data / (weight + penalty[:, :, None])).astype(np.complex64)
    references[sums.mass < LEAST_MASS] = 0
    averages = masked(from_polar(references, grid), radius)
    return ClassModel(centred(averages, grid, radius), snr)


def best_fit(sums: ClassSums) -> Complex[np.ndarray, "k r h"]:
    """N / D: the averages that fit the images best, without any prior. 0 where there are no images."""
    weight = sums.weight.sum(axis=0)
    return np.where(weight > 0, sums.data.sum(axis=0) / np.where(weight > 0, weight, 1), 0).astype(np.complex64)


def half_averages(sums: ClassSums) -> Complex[np.ndarray, "2 k r h"]:
    """N / D of each half; points that saw next to nothing are damped."""
    weight = np.maximum(sums.weight, 0)
    return sums.data / (weight + 1e-2 * weight.mean(axis=3, keepdims=True) + 1e-20)


def signal_to_noise(sums: ClassSums, grid: PolarGrid) -> Float[np.ndarray, "k r"]:
    """SSNR of each class and ring of the average of both halves, from their correlation; at least `LEAST_SNR`."""
    first, second = half_averages(sums)
    product = (first.real * second.real + first.imag * second.imag).sum(axis=2)
    power = (np.abs(first) ** 2).sum(axis=2), (np.abs(second) ** 2).sum(axis=2)
    correlation = smoothed(product / np.sqrt(np.maximum(power[0] * power[1], 1e-30)))
    correlation = np.clip(correlation, 0, 0.999)
    # The innermost rings have so few independent points that a low value there means nothing.
    gone = np.maximum.accumulate((correlation < GONE) & (grid.ring >= 3), axis=1)
    correlation[gone] = 0
    return np.maximum(2 * correlation / (1 - correlation), LEAST_SNR)


def smoothed(values: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k r"]:
    """Weighted mean of each ring and its two neighbours, 1 : 2 : 1."""
    edge = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    return (edge[:, :-2] + 2 * edge[:, 1:-1] + edge[:, 2:]) / 4


def masked(images: Float[np.ndarray, "k y x"], radius: float) -> Float[np.ndarray, "k y x"]:
    """Images less their background, inside a soft disc."""
    return masked_about(images.astype(np.float32), np.zeros((len(images), 2)), radius).astype(np.float32)


def centred(averages: Float[np.ndarray, "k y x"], grid: PolarGrid, radius: float) -> Float[np.ndarray, "k y x"]:
    """The averages moved, by at most a pixel at a time, so that the centre of mass of their bright part comes to the origin."""
    place = np.arange(averages.shape[-1]) - averages.shape[-1] // 2
    bright = np.maximum(averages - 0.2 * averages.max(axis=(1, 2), keepdims=True), 0)
    total = np.maximum(bright.sum(axis=(1, 2)), 1e-20)
    centre = np.stack([(bright.sum(axis=1) * place).sum(axis=1), (bright.sum(axis=2) * place).sum(axis=1)], 1)
    centre = centre / total[:, None]
    length = np.maximum(np.hypot(*centre.T), 1.0)[:, None]
    moved = to_polar(averages, grid) * shift_factors(grid, centre / length)
    return masked(from_polar(moved, grid), radius)


def reseeded(
    averages: Float[np.ndarray, "k y x"], sums: ClassSums, grid: PolarGrid, radius: float, least: float
) -> np.ndarray:
    """The averages with every class of less than `least` particles replaced by one half of a large class, which keeps the other half.

    The two halves differ by noise only: particles decide in the next iterations whether there are two kinds among them.
    """
    empty = np.flatnonzero(sums.mass < least)
    large = np.argsort(-sums.mass, kind="stable")
    if not len(empty):
        return averages
    snr = signal_to_noise(sums, grid)
    result = averages.copy()
    filtered = half_averages(sums) * (snr / (1 + snr))[None, :, :, None]
    for target, source in zip(empty, large):
        if sums.mass[source] < 4 * least or source == target:
            break
        pair = from_polar(filtered[:, source].astype(np.complex64), grid)
        result[[source, target]] = masked(pair, radius)
    return result
