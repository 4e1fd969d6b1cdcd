"""The thickness of the specimen, from the frequencies at which its Thon rings vanish and come back inverted.

Layers of unrelated structure multiply the rings by `sinc(lambda t k^2)` (optics.thickness), which is zero, and changes its sign, at `k = sqrt(n
/ (lambda t))`. Other things damp rings too, but none inverts them: the depth m is held positive here and may otherwise be any sum of
B-splines. For every thickness of a range the best such m is found by least squares with positive coefficients, from the averages
along the rings of the fitted lens; the best thickness is the start of the joint fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.ctf_estimate import PARAMETERS, Lens
from vitreous.estimation.ring_fit import RingFit
from vitreous.estimation.ring_model import Samples, State, ring_wave
from vitreous.estimation.ring_pixels import RingPixels
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

STEP = 50.0  # angstrom
OFFSETS = (-3, -2, -1, 0, 1, 2, 3)  # of the defocus, in standard deviations
SEEN = 10.0  # by how much twice the log-likelihood must lie above that of a thin specimen


@dataclass(frozen=True)
class ThicknessStart:
    """The best thickness and the defocus with it, in angstrom, the coefficients of the depth, and what is gained over a thin specimen, in twice the
    log-likelihood.
    """

    thickness: float
    defocus: float
    depth: Float[np.ndarray, " d"]
    gain: float


def search_thickness(
    samples: Samples, fit: RingFit, pixels: RingPixels, thicknesses: tuple[float, float], known: Lens
) -> ThicknessStart:
    """The best of all thicknesses in a range (angstrom), with a defocus as far from that of `fit` as its error bar allows.

    The rings beyond a node say more of the defocus than those before it, which `fit` is made of.
    """
    low, high = thicknesses
    tried = np.concatenate([[0.0], np.arange(low, high + STEP, STEP)])
    sigma = math.sqrt(fit.covariance[0, 0])
    best: tuple[float, float, float, np.ndarray] = (-math.inf, 0.0, 0.0, fit.state.depth)
    thin = -math.inf
    for offset in OFFSETS:
        lens = np.array(fit.state.lens)
        lens[0] += offset * sigma
        k, count, square, product = _ring_sums(samples, fit.state._replace(lens=lens), pixels, known)
        basis = pixels.splines(len(samples.depth), k)
        curvature = wavelength(known.voltage) * k**2
        for thickness in tried:
            gain, depth = _best_depth(basis * np.sinc(curvature * thickness)[:, None], count, square, product)
            if thickness == 0:
                thin = max(thin, gain)
            elif gain > best[0]:
                best = (gain, float(thickness), float(lens[0]), depth)
    return ThicknessStart(best[1], best[2], best[3], (best[0] - thin) / fit.variance)


def _ring_sums(samples: Samples, state: State, pixels: RingPixels, known: Lens) -> tuple[np.ndarray, ...]:
    """Over circles of one |k|: frequency, number of samples, sum of q^2 and of -q (P/T - 1), for a thin specimen."""
    k = np.hypot(samples.kx, samples.ky)
    ring = np.round((k - pixels.limits[0]) / pixels.step).astype(np.int64)
    lens = np.array(state.lens)
    lens[PARAMETERS.index("thickness")] = 0.0
    background = np.exp(state.background @ samples.background)
    sums = np.zeros((4, int(ring.max()) + 1))
    for power, x, y in zip(samples.power, samples.x, samples.y):
        wave = -ring_wave(lens, samples.kx, samples.ky, x, y, samples.side, known)
        columns = (k, np.ones_like(k), wave**2, wave * (power / background - 1))
        sums += [np.bincount(ring, column, minlength=sums.shape[1]) for column in columns]
    used = sums[1] > 0
    return sums[0, used] / sums[1, used], sums[1, used], sums[2, used], sums[3, used]


def _best_depth(
    basis: np.ndarray, count: np.ndarray, square: np.ndarray, product: np.ndarray
) -> tuple[float, np.ndarray]:
    """What rings of positive depth take from the sum of squares, and the coefficients of the depth.

    The sum over all samples of (r - m w)^2 is, but for a constant, one over circles of square (product / square - m)^2.
    """
    from scipy.optimize import nnls

    seen = square > 1e-3 * count
    norm = np.sqrt(square[seen])
    target = product[seen] / norm
    coefficients, rest = nnls(basis[seen] * norm[:, None], target)
    return float(target @ target) - rest**2, coefficients


def is_seen(start: ThicknessStart) -> bool:
    """Whether the rings are followed beyond a node, so that the thickness is known at all."""
    return start.gain > SEEN and math.isfinite(start.gain)
