"""Averages along the rings of equal phase, whatever their shape, and how far the rings can be followed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.estimation.ctf_estimate import Lens, RingProfile
from vitreous.estimation.ring_model import Samples, State, depth_of_rings, local_gamma, visibility
from vitreous.estimation.ring_pixels import ICE
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

AGREES = 0.5  # correlation above which rings and model agree (as CTFFIND has it)
BESIDE_ICE = ((1 / 4.7, 1 / 4.1), (1 / 3.35, 1 / 3.0))


def equal_phase_frequency(phase: Float[Array, "*p"], defocus: float, known: Lens) -> Float[Array, "*p"]:
    """The frequency in 1/angstrom at which a lens of this defocus, without astigmatism, has the phase chi (radian).

    Solves `chi = pi lambda df k^2 - (pi/2) Cs lambda^3 k^4` for the smaller k. Beyond the largest chi it is the k of that.
    """
    xp, lam = namespace(phase), wavelength(known.voltage)
    if known.spherical_aberration == 0:
        return xp.sqrt(xp.maximum(phase / (math.pi * lam * defocus), 0.0))
    ratio = 2 * known.spherical_aberration * lam * phase / (math.pi * defocus**2)
    root = xp.sqrt(xp.clip(1 - ratio, 0.0, None))
    # (1 - root) / ratio without its cancellation at small phases
    return xp.sqrt(xp.maximum(2 * phase / (math.pi * lam * defocus * (1 + root)), 0.0))


def ring_profile(
    samples: Samples, state: State, known: Lens, limits: tuple[float, float], step: float, *, scale: float = 1.0
) -> RingProfile:
    """Equi-phase averages of all parts, in bins of `step` 1/angstrom between the limits. `scale` multiplies the power."""
    bins = round((limits[1] - limits[0]) / step) + 1
    lens = np.asarray(state.lens)
    constant = float(lens[3]) + math.asin(known.amplitude_contrast)
    background = np.exp(state.background @ samples.background)
    depth = depth_of_rings(samples, state) * visibility(lens, samples.kx, samples.ky, samples.side, known)
    sums, count = np.zeros((6, bins)), np.zeros(bins)
    for power, x, y in zip(samples.power, samples.x, samples.y):
        phase = local_gamma(lens, samples.kx, samples.ky, x, y, known)
        k = equal_phase_frequency(phase - constant, float(lens[0]), known)
        row = np.rint((k - limits[0]) / step).astype(np.int64)
        inside = (row >= 0) & (row < bins)
        wave = -np.cos(2 * phase)
        columns = (power, background, power / background - 1, depth * wave, depth, wave)
        sums += [np.bincount(row[inside], column[inside], minlength=bins) for column in columns]
        count += np.bincount(row[inside], minlength=bins)
    used = count > 0
    means, frequency = sums[:, used] / count[used], limits[0] + step * np.nonzero(used)[0]
    agreement = local_correlation(frequency, means[2], means[5], count[used], float(lens[0]), known)
    power, level, rings, model, deep = means[:5]
    return RingProfile(frequency, power * scale, level * scale, rings, model, deep, agreement, count[used])


def local_correlation(
    frequency: np.ndarray, rings: np.ndarray, wave: np.ndarray, count: np.ndarray, defocus: float, known: Lens
) -> Float[np.ndarray, " s"]:
    """The correlation of two curves over a window of two rings, and never fewer than 9 bins, about each frequency."""
    u = frequency**2
    ring = 1 / (wavelength(known.voltage) * abs(defocus))
    first = np.minimum(np.searchsorted(u, u - ring), np.maximum(np.arange(len(u)) - 4, 0))
    last = np.maximum(np.searchsorted(u, u + ring, side="right"), np.minimum(np.arange(len(u)) + 5, len(u)))

    def window(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(values)])
        return total[last] - total[first]

    weight = window(count)
    mean_rings, mean_wave = window(count * rings) / weight, window(count * wave) / weight
    product = window(count * rings * wave) / weight - mean_rings * mean_wave
    squares = (window(count * rings**2) / weight - mean_rings**2, window(count * wave**2) / weight - mean_wave**2)
    return product / np.sqrt(np.maximum(squares[0] * squares[1], 1e-30))


def fit_resolution(profile: RingProfile) -> float:
    """As far as rings and model agree, in angstrom: where their local correlation first falls below 0.5 after it was above.

    The coarsest resolution of the profile if it never is above.
    """
    good = profile.agreement >= AGREES
    if not good.any():
        return float(1 / profile.frequency[0])
    start = int(np.argmax(good))
    end = start + int(np.argmin(good[start:])) if not good[start:].all() else len(good)
    return float(1 / profile.frequency[end - 1])


def ring_score(profile: RingProfile, resolution: float) -> float:
    """The correlation of rings and model from the coarsest resolution to `resolution`, 0 where it would be negative."""
    used = profile.frequency <= 1 / resolution
    if used.sum() < 3:
        return 0.0
    weight = profile.count[used]
    rings, model = (
        values - np.average(values, weights=weight) for values in (profile.rings[used], profile.model[used])
    )
    norm = math.sqrt(float((weight * rings**2).sum() * (weight * model**2).sum()))
    return max(0.0, float((weight * rings * model).sum()) / norm) if norm > 0 else 0.0


def ice_ring(
    k: Float[np.ndarray, " s"], power: Float[np.ndarray, " s"], count: Float[np.ndarray, " s"]
) -> float | None:
    """How far a spectrum stands above its surroundings between 3.95 and 3.40 angstrom, in parts of them.

    `power` is the mean of `count` samples at the frequencies k (1/angstrom). The surroundings are a straight line, in logarithms,
    through both sides, or through the side of low frequency if the spectrum ends before 3.1 angstrom. None where it ends before 3.6 angstrom.
    """
    level = np.log(np.maximum(power, 1e-300))
    if k[-1] < 1 / 3.6 or k[0] > BESIDE_ICE[0][0]:
        return None
    inside = (k >= ICE[0]) & (k <= ICE[1])
    beside = np.zeros_like(inside)
    for low, high in BESIDE_ICE:
        beside |= (k >= low) & (k <= high)
    slope, start = np.polyfit(k[beside], level[beside], 1, w=np.sqrt(count[beside]))
    expected = np.exp(slope * k[inside] + start)
    return float(np.average(power[inside] / expected, weights=count[inside]) - 1)
