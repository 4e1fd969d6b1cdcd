"""The joint fit of lens, background and depth of the rings, by Fisher scoring from a start that the search has found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.ctf_estimate import PARAMETERS, Lens
from vitreous.estimation.ring_model import UNITS, Samples, State, normal_equations
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

STEPS = 20
ENOUGH = 0.1  # a step that is smaller than this part of every error bar ends the fit
OUTLIER = 4.0  # standard deviations
NO_LIMIT = 1e6
ROUGH = 2  # steps of a fit that only has to find the next band of frequencies
BANDS = (10.0, 7.0, 5.2, 4.0)  # angstrom: as far as the rings are followed, one after the other
ENOUGH_RINGS = 2.5  # that the first band must hold: fewer cannot be told from the background
FIRST_DEPTH = 2  # steps in which the lens stays: without a depth of the rings there is nothing to judge it by
SMOOTH = 0.1  # of the depth, between neighbouring knots
INVERTED = 2.0  # standard deviations by which the depth must be negative for the rings to be called inverted


@dataclass(frozen=True)
class RingFit:
    """The best parameters; the covariance of the fitted lens parameters `names` (angstrom, radian) and of the depth, for independent samples; and the
    variance of P/S - 1.
    """

    state: State
    names: tuple[str, ...]
    covariance: Float[np.ndarray, "p p"]
    depth_covariance: Float[np.ndarray, "d d"]
    variance: float
    converged: bool


def follow_rings(
    samples: Samples, start: State, known: Lens, names: tuple[str, ...], limits: tuple[float, float]
) -> RingFit:
    """Fit the rings band by band from the lowest frequencies outwards, as far as they are there and not inverted.

    Rings at high frequency say most, but fit several defoci a fraction of a ring apart, the more so as a thick specimen inverts them beyond
    a node (optics.thickness). At low frequency there is one answer. Each band starts from the fit of the bands before it, which is good
    to a small part of the next band's rings.
    """
    per_square = wavelength(known.voltage) * abs(float(start.lens[0]))
    rings = {1 / band: per_square * (band**-2 - limits[0] ** 2) for band in BANDS}
    ends = [end for end, count in rings.items() if count > ENOUGH_RINGS and end < limits[1]]
    state = start
    for number, end in enumerate([*ends, limits[1]]):
        hold = FIRST_DEPTH if number == 0 else 0
        fit = fit_rings(samples, state._replace(reach=end), known, names, steps=ROUGH + hold, hold=hold)
        turn = _inversion(samples, fit)
        if turn is not None:
            return fit_rings(samples, fit.state._replace(reach=turn), known, names)
        state = fit.state
    return fit_rings(samples, state, known, names)


def fit_rings(
    samples: Samples,
    start: State,
    known: Lens,
    names: tuple[str, ...],
    *,
    steps: int = STEPS,
    hold: int = 0,
) -> RingFit:
    """Fit the lens parameters `names`, the background, and the depth of the rings up to `start.reach`, together.

    A step moves no defocus by more than a quarter of a ring there. The depth is expected to be smooth, which decides what the samples do not say: its
    coefficients have second differences of about SMOOTH. The lens stays as it is for the first `hold` steps.
    """
    columns = np.array([PARAMETERS.index(name) for name in names])
    units = UNITS[columns]
    ring = 1 / (wavelength(known.voltage) * float(start.reach) ** 2)
    longest = np.array([_longest(name, ring) for name in names]) / units
    count, state, converged = len(names), start, False
    limit = NO_LIMIT
    prior = _smoothness(len(names), samples)
    normal = normal_equations(samples, state, known, names, limit)
    for number in range(steps):
        limit = OUTLIER * math.sqrt(normal.variance)
        free = slice(count if number < hold else 0, None)
        step = np.zeros(len(normal.gradient))
        matrix = normal.matrix + normal.variance * prior
        gradient = normal.gradient - normal.variance * prior @ np.concatenate(
            [np.zeros(count), state.background, state.depth]
        )
        step[free] = _inverse(matrix[free, free]) @ gradient[free]
        step[:count] *= min(1.0, float(np.min(longest / np.maximum(abs(step[:count]), 1e-300))))
        state = _moved(state, step, columns, units)
        normal = normal_equations(samples, state, known, names, limit)
        if number >= hold:
            errors = np.sqrt(normal.variance * np.diag(_inverse(normal.matrix + normal.variance * prior))[:count])
            converged = bool((abs(step[:count]) < ENOUGH * errors).all())
            if converged:
                break
    covariance = _inverse(normal.matrix + normal.variance * prior) * normal.variance
    depth = slice(len(covariance) - len(samples.depth), None)
    return RingFit(
        state,
        names,
        covariance[:count, :count] * np.outer(units, units),
        covariance[depth, depth],
        normal.variance,
        converged,
    )


def _inversion(samples: Samples, fit: RingFit) -> float | None:
    """The lowest frequency at which the depth of the rings has become negative, if it goes on to be so beyond doubt."""
    k = np.hypot(samples.kx, samples.ky)
    order = np.argsort(k)[:: max(1, len(k) // 400)]
    order = order[k[order] <= fit.state.reach]
    basis = samples.depth.T[order].astype(np.float64)
    depth = basis @ fit.state.depth
    errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", basis, fit.depth_covariance, basis), 0.0))
    inverted = depth < -INVERTED * errors
    if not inverted.any():
        return None
    positive = np.nonzero(depth[: int(np.argmax(inverted))] > 0)[0]
    return float(k[order[positive[-1]]]) if len(positive) else None


def _longest(name: str, ring: float) -> float:
    """The longest step of one parameter."""
    return {"phase_shift": 0.5, "slope_x": 0.2, "slope_y": 0.2, "thickness": 300.0}.get(name, ring / 4)


def _moved(state: State, step: np.ndarray, columns: np.ndarray, units: np.ndarray) -> State:
    count, backgrounds = len(columns), len(state.background)
    lens = np.array(state.lens, dtype=np.float64)
    lens[columns] += step[:count] * units
    background = state.background + step[count : count + backgrounds]
    return state._replace(lens=lens, background=background, depth=state.depth + step[count + backgrounds :])


def _smoothness(count: int, samples: Samples) -> np.ndarray:
    """The inverse covariance expected of all parameters: of the depth's second differences, and barely of its size."""
    knots, backgrounds = len(samples.depth), len(samples.background)
    curvature = np.diff(np.eye(knots), n=2, axis=0)
    expected = np.zeros((count + backgrounds + knots,) * 2)
    expected[-knots:, -knots:] = curvature.T @ curvature / SMOOTH**2 + np.eye(knots)
    return expected


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse, of the part that the samples see."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-12 * np.diag(matrix).max()))
    return np.linalg.pinv(matrix / np.outer(scale, scale), rcond=1e-6, hermitian=True) / np.outer(scale, scale)
