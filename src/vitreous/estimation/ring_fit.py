"""The joint fit of lens, background and depth of the rings, by Fisher scoring from a start that the search has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.ctf_estimate import PARAMETERS, Lens
from vitreous.estimation.ring_model import UNITS, Samples, State, normal_equations
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

STEPS = 25
ENOUGH = 0.02  # a step that is smaller than this part of every error bar ends the fit
OUTLIER = 4.0  # standard deviations
FIRST_LIMIT = 4.0


@dataclass(frozen=True)
class RingFit:
    """The best parameters, the covariance of the fitted lens parameters `names` (angstrom, radian) and of the depth for independent samples, and
    the variance of P/S - 1.

    `deviance` is twice the log-likelihood that the rings gain over a spectrum without rings.
    """

    state: State
    names: tuple[str, ...]
    covariance: Float[np.ndarray, "p p"]
    depth_covariance: Float[np.ndarray, "d d"]
    variance: float
    converged: bool

    def scaled(self, factor: float) -> tuple[np.ndarray, np.ndarray]:
        return self.covariance * factor, self.depth_covariance * factor


def fit_rings(samples: Samples, start: State, known: Lens, names: tuple[str, ...], largest_k: float) -> RingFit:
    """Fit the lens parameters `names`, the background and the depth together.

    A step moves no defocus by more than a quarter of a ring at `largest_k`, so that the fit stays on the ring where it starts.
    """
    columns = np.array([PARAMETERS.index(name) for name in names])
    units = UNITS[columns]
    ring = 1 / (wavelength(known.voltage) * largest_k**2)
    longest = np.array([_longest(name, ring) for name in names]) / units
    count = len(names)
    state, limit, converged = start, FIRST_LIMIT, False
    normal = normal_equations(samples, state, known, names, limit)
    for number in range(STEPS):
        limit = OUTLIER * np.sqrt(normal.variance)
        normal = normal_equations(samples, state, known, names, limit)
        free = (
            slice(count, None) if number < 2 else slice(0, None)
        )  # at first the lens stays: there is no depth to judge it by
        step = np.zeros(len(normal.gradient))
        step[free] = _solve(normal.matrix[free, free], normal.gradient[free])
        if number >= 2:
            step[:count] *= min(1.0, float(np.min(longest / np.maximum(abs(step[:count]), 1e-300))))
        state = _moved(state, step, columns, units)
        if number >= 2:
            errors = np.sqrt(normal.variance * np.diag(np.linalg.pinv(normal.matrix))[:count])
            if (abs(step[:count]) < ENOUGH * errors).all():
                converged = True
                break
    normal = normal_equations(samples, state, known, names, limit)
    covariance = np.linalg.pinv(normal.matrix) * normal.variance
    depth = slice(len(covariance) - samples.depth.shape[1], None)
    return RingFit(
        State(*(np.asarray(part, dtype=np.float64) for part in state)),
        names,
        covariance[:count, :count] * np.outer(units, units),
        covariance[depth, depth],
        normal.variance,
        converged,
    )


def _longest(name: str, ring: float) -> float:
    """The longest step of one parameter."""
    return {"phase_shift": 0.5, "slope_x": 0.2, "slope_y": 0.2, "thickness": 300.0}.get(name, ring / 4)


def _moved(state: State, step: np.ndarray, columns: np.ndarray, units: np.ndarray) -> State:
    count, backgrounds = len(columns), len(state.background)
    lens = np.array(state.lens, dtype=np.float64)
    lens[columns] += step[:count] * units
    return State(lens, state.background + step[count : count + backgrounds], state.depth + step[count + backgrounds :])


def _solve(matrix: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The step; a little is added to the diagonal for functions that no sample sees."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-12 * np.diag(matrix).max()))
    scaled = matrix / np.outer(scale, scale) + 1e-6 * np.eye(len(matrix))
    return np.linalg.solve(scaled, gradient / scale) / scale
