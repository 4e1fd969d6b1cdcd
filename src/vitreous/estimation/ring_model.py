"""The model of a spectrum with Thon rings, and one step of its fit.

The power at the frequency k in a part of the micrograph is taken to be

    S(k) = T(|k|) [1 - m(|k|) q(k)],    q = sinc(lambda t k^2) D(k) cos 2 gamma(k; df(x, y))

T is the smooth mean, m the depth of the rings, t the thickness (optics.thickness, with sinc(x) = sin(pi x)/(pi x)), gamma the phase of
`optics.ctf.gamma`, and df(x, y) the defocus in the middle of the part, which changes linearly over a tilted specimen. Within a part of
side L it changes too, which damps the rings by D = sinc(lambda k^2 g_x L) sinc(lambda k^2 g_y L), g the slope of the defocus.
log T and m are sums of B-splines; m is not held positive, so that it is zero on average where there are no rings.

A periodogram P that averages n independent values has the mean S and the variance S^2/n. The likelihood of such values (Whittle 1953,
doi:10.1007/BF02590998) is largest where `sum (P/S - 1) d log S = 0` for every parameter. Each step solves this equation
linearised about the present parameters (Fisher scoring). Its matrix, times n, is the inverse of their covariance.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace
from vitreous.estimation.ctf_estimate import PARAMETERS, Lens
from vitreous.optics.ctf import gamma
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# What one unit of each parameter is in the fit, so that all numbers are of order 1: 1000 angstrom, radian, 1, 1000 angstrom.
UNITS = np.array([1e3, 1e3, 1e3, 1.0, 1.0, 1.0, 1e3])
LARGEST_DEPTH = 0.95  # of rings, so that a wild step leaves the power positive


class Samples(NamedTuple):
    """Parts of a micrograph: frequencies `kx`, `ky` [p], power [part, p], positions `x`, `y` [part] and the parts' `side`, angstrom.

    `background` [b, p] and `depth` [d, p] are the B-splines of log T and m.
    """

    kx: Float[Array, " p"]
    ky: Float[Array, " p"]
    power: Float[Array, "part p"]
    x: Float[Array, " part"]
    y: Float[Array, " part"]
    side: Any
    background: Float[Array, "b p"]
    depth: Float[Array, "d p"]


class State(NamedTuple):
    """`lens` in the order of PARAMETERS, in angstrom and radian; coefficients of log T and of m; and the frequency `reach`, in
    1/angstrom, beyond which m is 0.
    """

    lens: Float[Array, " q"]
    background: Float[Array, " b"]
    depth: Float[Array, " d"]
    reach: Any = math.inf


@dataclass(frozen=True)
class Normal:
    """The linearised equations `matrix @ step = gradient` of (fitted lens parameters in UNITS, background, depth), the mean square of P/S - 1
    and the sum of weights."""

    matrix: np.ndarray
    gradient: np.ndarray
    variance: float
    weight: float


def local_gamma(lens: Array, kx: Array, ky: Array, x: Array, y: Array, known: Lens) -> Array:
    """gamma in radian at frequencies [p] for a part at (x, y). `lens` as in `State`."""
    xp = namespace(lens, kx)
    defocus, along, across, phase_shift, slope_x, slope_y, _ = (lens[i] for i in range(len(PARAMETERS)))
    return gamma(
        kx,
        ky,
        defocus + slope_x * x + slope_y * y,
        xp.stack([along, across]),
        voltage=known.voltage,
        spherical_aberration=known.spherical_aberration,
        amplitude_contrast=known.amplitude_contrast,
        phase_shift=phase_shift,
    )


def visibility(lens: Array, kx: Array, ky: Array, side: Any, known: Lens) -> Array:
    """`sinc(lambda t k^2) D`: what thickness, and the slope of the defocus within a part, leave of the rings."""
    xp = namespace(lens, kx)
    curvature = wavelength(known.voltage) * (kx * kx + ky * ky)
    _, _, _, _, slope_x, slope_y, thickness = (lens[i] for i in range(len(PARAMETERS)))
    return xp.sinc(curvature * thickness) * xp.sinc(curvature * slope_x * side) * xp.sinc(curvature * slope_y * side)


def ring_wave(lens: Array, kx: Array, ky: Array, x: Array, y: Array, side: Any, known: Lens) -> Array:
    """q at frequencies [p] for a part at (x, y): `sinc(lambda t k^2) D cos 2 gamma`. `lens` as in `State`."""
    phase = local_gamma(lens, kx, ky, x, y, known)
    return visibility(lens, kx, ky, side, known) * namespace(phase).cos(2 * phase)


def normal_equations(samples: Samples, state: State, known: Lens, names: tuple[str, ...], limit: float) -> Normal:
    """The equations of one step for the lens parameters `names`, the background and the depth.

    Samples whose |P/S - 1| is above `limit` count less (Huber's weights).
    """
    matrix, gradient, variance, weight = _compiled(names, known)(samples, state, limit)
    return Normal(np.asarray(matrix, np.float64), np.asarray(gradient, np.float64), float(variance), float(weight))


def depth_of_rings(samples: Samples, state: State) -> np.ndarray:
    """m at the frequencies of the samples [p], in NumPy."""
    depth = np.clip(state.depth @ samples.depth, -LARGEST_DEPTH, LARGEST_DEPTH)
    return np.where(samples.kx**2 + samples.ky**2 <= state.reach**2, depth, 0.0)


def relative_residual(samples: Samples, state: State, known: Lens) -> np.ndarray:
    """P/S - 1 of each sample [part, p], in NumPy."""
    lens, depth = np.asarray(state.lens), depth_of_rings(samples, state)
    waves = [ring_wave(lens, samples.kx, samples.ky, x, y, samples.side, known) for x, y in zip(samples.x, samples.y)]
    return samples.power / (np.exp(state.background @ samples.background) * (1 - depth * np.stack(waves))) - 1


@functools.lru_cache(maxsize=16)
def _compiled(names: tuple[str, ...], known: Lens):
    """The sums of `normal_equations` over all parts, compiled by JAX."""
    import jax
    import jax.numpy as jnp

    columns = [PARAMETERS.index(name) for name in names]
    direction = np.eye(len(PARAMETERS))[:, columns] * UNITS[columns]

    def part(carry, place):
        samples, state, limit, total = carry
        power, x, y = place

        def wave(step):
            lens = state.lens + jnp.asarray(direction, dtype=step.dtype) @ step
            return ring_wave(lens, samples.kx, samples.ky, x, y, samples.side, known)

        zero = jnp.zeros(len(names), dtype=samples.power.dtype)
        q, along = jax.linearize(wave, zero)
        slope = jax.vmap(along)(jnp.eye(len(names), dtype=zero.dtype))
        basis = jnp.where(samples.kx**2 + samples.ky**2 <= state.reach**2, samples.depth, 0.0)
        depth = jnp.clip(state.depth @ basis, -LARGEST_DEPTH, LARGEST_DEPTH)
        shape = 1 - depth * q
        rest = power / (jnp.exp(state.background @ samples.background) * shape) - 1
        weight = jnp.minimum(1.0, limit / jnp.maximum(jnp.abs(rest), limit))
        jacobian = jnp.concatenate([slope * (-depth / shape), samples.background, basis * (-q / shape)])
        weighted = jacobian * weight
        sums = (
            jnp.matmul(weighted, jacobian.T, precision="highest"),
            jnp.matmul(weighted, rest, precision="highest"),
            jnp.sum(weight * rest * rest),
            jnp.sum(weight),
        )
        return (samples, state, limit, jax.tree.map(jnp.add, total, sums)), None

    @jax.jit
    def total(samples, state, limit):
        size = len(names) + len(samples.background) + len(samples.depth)
        dtype = samples.power.dtype
        zeros = (jnp.zeros((size, size), dtype), jnp.zeros(size, dtype), jnp.zeros((), dtype), jnp.zeros((), dtype))
        places = (samples.power, samples.x, samples.y)
        (_, _, _, (matrix, gradient, squares, weight)), _ = jax.lax.scan(part, (samples, state, limit, zeros), places)
        return matrix, gradient, squares / weight, weight

    return total
