"""The particles of one micrograph fitted together: a defocus each, their mean, and one astigmatism for all.

Change of defocus of particle i is `m + e_i`: m of the micrograph, e_i its own, which comes from a Gaussian of standard
deviation `spread`: particles lie at different heights of the ice, and what an image says of its defocus is often less
than what its neighbours say. The astigmatism changes by (a1, a2), the same for all, with a Gaussian of its own.

First the defocus is scanned exhaustively, so that no neighbouring optimum is taken for the best one; from there Newton's
method leads to the maximum of the posterior. Its equations have the form of an arrow: every e_i meets only itself
and the few parameters that are shared, so that they are solved in a time proportional to the number of particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitreous.estimation.particle_likelihood import ParticleLikelihood, Slopes, finer

if TYPE_CHECKING:
    from jaxtyping import Float

# Spreads in angstrom whose likelihood is looked at.
SPREADS = (0.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1200.0)
FINE = 80  # points of a scan on each side of 0, by interpolation
ITERATIONS = 25
CONVERGED = 0.02  # of a standard deviation
AT_THE_EDGE = 0.98


@dataclass(frozen=True)
class Freedom:
    """What may change. `defocus`: of each particle, one of the micrograph for all, or none; `astigmatism`: one for all, or
    none; `common`: whether there is a micrograph whose mean can change (else every e_i is about 0).

    Angstrom: `spread` of the particles' own defoci, `astigmatism_spread` of each component of the change of astigmatism,
    `reach` the largest change of defocus; `spreads` those whose likelihood is wanted.
    """

    defocus: Literal["particle", "micrograph", "none"] = "particle"
    astigmatism: bool = True
    common: bool = True
    spread: float = 200.0
    astigmatism_spread: float = 300.0
    reach: float = 2000.0
    spreads: tuple[float, ...] = SPREADS

    @property
    def shared(self) -> list[int]:
        """Which of (defocus, astigmatism along, across) all particles share."""
        first = [0] if self.common and self.defocus != "none" else []
        return first + ([1, 2] if self.astigmatism else [])

    @property
    def own(self) -> bool:
        return self.defocus == "particle"


@dataclass(frozen=True)
class MicrographFit:
    """Of n particles: `change` [n, 3] of defocus and astigmatism, `sigma` [n] of the defocus, `gain` [n] in log-likelihood
    (nats); shared: `common` [3] and `common_sigma` [3], NaN where nothing was fitted. `at_edge` [n]: the change ran into the range.
    `spread_evidence`: log of the likelihood that the scan gives each of the spreads asked for.
    """

    change: Float[np.ndarray, "n 3"]
    sigma: Float[np.ndarray, " n"]
    gain: Float[np.ndarray, " n"]
    common: Float[np.ndarray, " 3"]
    common_sigma: Float[np.ndarray, " 3"]
    at_edge: np.ndarray
    spread_evidence: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class _State:
    """`common` [3] of (m, a1, a2) and `own` [n], the e_i."""

    common: np.ndarray
    own: np.ndarray

    def change(self) -> np.ndarray:
        change = np.tile(self.common, (len(self.own), 1))
        change[:, 0] += self.own
        return change


def fit_micrograph(likelihood: ParticleLikelihood, freedom: Freedom, offsets: Float[np.ndarray, " g"]) -> MicrographFit:
    """The most probable change and its uncertainty. `offsets`: the grid of the scan over defocus, in angstrom."""
    before = likelihood.at(np.zeros((len(likelihood), 3))).value
    evidence = np.zeros(len(freedom.spreads))
    state = _State(np.zeros(3), np.zeros(len(likelihood)))
    if freedom.defocus != "none":
        table, offsets = finer(likelihood.scan(offsets), offsets, freedom.reach / FINE)
        state = _best_of_scan(table, offsets, freedom)
        if freedom.own:
            evidence = spread_evidence(table, offsets, freedom.spreads, common=freedom.common)
    state, slopes = _climb(likelihood, freedom, state)
    sigma, common_sigma = _uncertainty(slopes, freedom)
    change = state.change()
    common = np.full(3, np.nan)
    common[freedom.shared] = state.common[freedom.shared]
    at_edge = np.abs(change[:, 0]) >= AT_THE_EDGE * freedom.reach
    return MicrographFit(change, sigma, slopes.value - before, common, common_sigma, at_edge, evidence)


def spread_evidence(
    table: Float[np.ndarray, "n g"],
    offsets: Float[np.ndarray, " g"],
    spreads: Sequence[float] = SPREADS,
    *,
    common: bool = True,
) -> Float[np.ndarray, " s"]:
    """Log of the likelihood of each spread: `sum_i log sum_d exp(L_i(d)) N(d; m, spread)`, at the best mean m, 0 without
    a common one. `table` is a scan over the changes of defocus `offsets` (angstrom, evenly spaced, 0 in their middle)."""
    by_mean = _by_mean(table, offsets, spreads, common=common)
    return by_mean.max(axis=1)


def _by_mean(
    table: np.ndarray, offsets: np.ndarray, spreads: Sequence[float], *, common: bool
) -> Float[np.ndarray, "s g"]:
    """Log-likelihood of each spread and each mean m on the grid (of m = 0 alone without a common mean), the particles' own
    defoci integrated out. One matrix product: many small ones would spend their time waiting for each other's threads."""
    means = offsets if common else offsets[len(offsets) // 2 : len(offsets) // 2 + 1]
    widths = np.maximum(np.asarray(spreads, dtype=float), 1e-3 * (offsets[1] - offsets[0]))
    distance = (offsets[:, None, None] - means) / widths[:, None]  # [offset, spread, mean]
    weights = _exponential(-(distance**2) / 2)
    weights /= weights.sum(axis=0)
    top = table.max(axis=1, keepdims=True)
    sums = _exponential(table - top) @ weights.reshape(len(offsets), -1)
    return (np.log(np.maximum(sums, 1e-300)) + top).sum(axis=0).reshape(len(widths), len(means))


def _exponential(values: np.ndarray) -> np.ndarray:
    """exp, and 0 below exp(-200): products of numbers near the smallest double take a hundred times as long."""
    return np.where(values > -200, np.exp(np.maximum(values, -200)), 0.0)


def _best_of_scan(table: np.ndarray, offsets: np.ndarray, freedom: Freedom) -> _State:
    count = len(table)
    if not freedom.own:
        mean = offsets[np.argmax(table.sum(axis=0))]
        return _State(np.array([mean, 0.0, 0.0]), np.zeros(count))
    mean = offsets[np.argmax(_by_mean(table, offsets, (freedom.spread,), common=True))] if freedom.common else 0.0
    best = offsets[np.argmax(table - (offsets - mean) ** 2 / (2 * freedom.spread**2), axis=1)]
    return _State(np.array([mean, 0.0, 0.0]), best - mean)


def _climb(likelihood: ParticleLikelihood, freedom: Freedom, state: _State) -> tuple[_State, Slopes]:
    """Newton steps to the maximum of the posterior, shortened where they would lead down."""
    slopes = likelihood.at(state.change())
    height, damping = _posterior(slopes, state, freedom), 0.0
    for _ in range(ITERATIONS):
        step, size = _step(slopes, state, freedom, damping)
        trial = _inside(_State(state.common + step.common, state.own + step.own), freedom)
        there = likelihood.at(trial.change())
        reached = _posterior(there, trial, freedom)
        # sums in single precision: what is lost to rounding is no reason to turn back
        if reached >= height - 1e-6 * np.abs(slopes.value).sum():
            state, slopes, height, damping = trial, there, reached, damping / 8 if damping > 1e-3 else 0.0
        else:
            damping = max(4 * damping, 0.3)
        if size < CONVERGED:
            break
    return state, slopes


def _posterior(slopes: Slopes, state: _State, freedom: Freedom) -> float:
    prior = ((state.common[1:] / freedom.astigmatism_spread) ** 2).sum() / 2 if freedom.astigmatism else 0.0
    if freedom.own:
        prior += ((state.own / freedom.spread) ** 2).sum() / 2
    return float(slopes.value.sum() - prior)


def _inside(state: _State, freedom: Freedom) -> _State:
    """The state with every change of defocus within the range."""
    mean = np.clip(state.common[0], -freedom.reach, freedom.reach)
    own = np.clip(mean + state.own, -freedom.reach, freedom.reach) - mean if freedom.own else state.own
    return _State(np.array([mean, *state.common[1:]]), own)


def _arrow(slopes: Slopes, freedom: Freedom, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The curvature: shared block [s, s], row between each particle and the shared ones [n, s], and own [n].

    The mean curvature is never negative; a particle's own is the exact one where that is steeper, so that a step in its
    defocus does not leap over a maximum that is narrow because of the noise.
    """
    curvature = slopes.fisher.copy()
    curvature[:, 0, 0] = np.maximum(curvature[:, 0, 0], slopes.exact[:, 0, 0])
    shared = freedom.shared
    block = curvature[:, shared][:, :, shared].sum(axis=0)
    prior = np.array([0.0 if index == 0 else freedom.astigmatism_spread**-2 for index in shared])
    block = block + np.diag(prior + damping * np.diag(block) + 1e-12)
    return block, curvature[:, 0][:, shared], curvature[:, 0, 0] * (1 + damping) + freedom.spread**-2


def _step(slopes: Slopes, state: _State, freedom: Freedom, damping: float) -> tuple[_State, float]:
    """A Newton step, and how long it is in standard deviations."""
    shared, count = freedom.shared, len(slopes.value)
    block, cross, own = _arrow(slopes, freedom, damping)
    prior = np.array([0.0 if i == 0 else state.common[i] / freedom.astigmatism_spread**2 for i in shared])
    slope = slopes.gradient[:, shared].sum(axis=0) - prior
    own_slope = slopes.gradient[:, 0] - state.own / freedom.spread**2
    if freedom.own:
        block = block - (cross / own[:, None]).T @ cross
        slope = slope - cross.T @ (own_slope / own)
    move = np.linalg.solve(block, slope) if shared else np.zeros(0)
    own_move = (own_slope - cross @ move) / own if freedom.own else np.zeros(count)
    common = np.zeros(3)
    common[shared] = move
    lengths = [np.abs(move) * np.sqrt(np.maximum(np.diag(block), 0)), np.abs(own_move) * np.sqrt(own)]
    return _State(common, own_move), float(max((part.max() for part in lengths if part.size), default=0.0))


def _uncertainty(slopes: Slopes, freedom: Freedom) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of each particle's defocus and of the shared parameters, from the curvature of the posterior."""
    shared, count = freedom.shared, len(slopes.value)
    block, cross, own = _arrow(slopes, freedom, 0.0)
    if freedom.own:
        block = block - (cross / own[:, None]).T @ cross
    covariance = np.linalg.inv(block) if shared else np.zeros((0, 0))
    common_sigma = np.full(3, np.nan)
    common_sigma[shared] = np.sqrt(np.maximum(np.diag(covariance), 0))
    if freedom.defocus == "none":
        return np.full(count, np.nan), common_sigma
    # the defocus of a particle is m + e_i, and e_i follows the shared ones by -cross / own
    along = np.zeros((count, len(shared)))
    if 0 in shared:
        along[:, shared.index(0)] = 1.0
    variance = np.zeros(count)
    if freedom.own:
        along = along - cross / own[:, None]
        variance = 1 / own
    variance = variance + np.einsum("ns,st,nt->n", along, covariance, along)
    return np.sqrt(np.maximum(variance, 0)), common_sigma
