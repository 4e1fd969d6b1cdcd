"""How fast the Thon rings fade towards high frequency: the B factor of what is seen in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.ring_fit import RingFit
from vitreous.estimation.ring_pixels import BACKGROUND_KNOTS, DEPTH_KNOTS, RingPixels
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

POINTS = 40
CLEAR = 2.0  # standard deviations that the depth must be above 0 to count
DIRECTIONS = 16


def rings_b_factor(
    pixels: RingPixels, fit: RingFit, voltage: float, *, factor: float, resolution: float, side: float
) -> tuple[float, float]:
    """B in angstrom^2 and its standard deviation: the power in the rings, m T, falls as exp(-B k^2 / 2), to the `resolution` in angstrom.

    What the sampling of the spectrum takes from the rings (`sampling_loss`) is divided out; the structure of the specimen is not, nor
    the detector. `factor` widens the covariance of the fit for samples that are not independent; `side` is that of the tiles, 0 for a whole
    micrograph. NaN if the rings are too faint.
    """
    k = np.linspace(pixels.limits[0], min(1 / resolution, float(fit.state.reach)), POINTS)
    basis = pixels.splines(DEPTH_KNOTS, k)
    depth = basis @ fit.state.depth
    errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", basis, fit.depth_covariance, basis) * factor, 0.0))
    used = (depth > CLEAR * errors) & (errors > 0)
    if used.sum() < 5:
        return math.nan, math.nan
    loss = sampling_loss(k[used], float(fit.state.lens[0]), voltage, step=pixels.step, side=side)
    level = pixels.splines(BACKGROUND_KNOTS, k[used]) @ fit.state.background
    weight = depth[used] / errors[used]
    inverse = np.linalg.pinv(np.stack([np.ones(used.sum()), -(k[used] ** 2) / 2], axis=1) * weight[:, None])
    b_factor = (inverse @ ((np.log(depth[used] / loss) + level) * weight))[1]
    spread = (inverse * weight) @ (basis[used] / depth[used, None])  # d(fit)/d(coefficients of the depth)
    return float(b_factor), math.sqrt(max(float((spread @ fit.depth_covariance @ spread.T * factor)[1, 1]), 0.0))


def sampling_loss(
    k: Float[np.ndarray, " k"], defocus: float, voltage: float, *, step: float, side: float = 0.0
) -> Float[np.ndarray, " k"]:
    """The part of the rings' depth that the sampling of the spectrum leaves, on average over directions.

    The lens spreads the frequency k by `r = lambda df k` to either side, so that the rings are waves of period 1/(2r) in Fourier space. The mean over a
    square of side `step` leaves sinc(2 r_x step) sinc(2 r_y step) of them, tiles of `side` angstrom (1 - 2 |r_x|/side)(1 - 2 |r_y|/side).
    """
    angle = (np.arange(DIRECTIONS) + 0.5) * (np.pi / 2 / DIRECTIONS)
    moved = 2 * wavelength(voltage) * abs(defocus) * k[:, None]
    x, y = moved * np.cos(angle), moved * np.sin(angle)
    if side:
        left = np.clip(1 - x / side, 0.05, 1) * np.clip(1 - y / side, 0.05, 1)
    else:
        left = np.sinc(np.minimum(x * step, 0.9)) * np.sinc(np.minimum(y * step, 0.9))
    return left.mean(axis=1)
