"""Whether random starts found the same map: each laid over the best one, either hand, and compared shell by shell.

The agreement of two maps is the mean of their Fourier shell correlation, inside the sphere of the mask, over the shells from `coarsest` to
`finest` angstrom. Coarser shells are left out: any two blobs of one size agree there. Starts of several classes are compared class by class, each
class of one with the one of the other that makes the mean over all particles the largest. The hand has no say: a start that found the mirror
image has found the same as far as images of untilted particles can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.filters import soft_sphere
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.reconstruction.map_alignment import EDGE, Placement, align_maps, place

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST_SHELLS = 4  # that maps are laid over each other by
# Mean FSC from which on two starts count as the same map. Wrong maps of real particles reach 0.75 with each other, being wrong in the same way; right ones 0.94.
AGREE = 0.8


@dataclass(frozen=True)
class PairAgreement:
    """Start `second` laid over start `first`: the class `classes[k]` of the second lies over class k of the first as `placements[k]` says;
    `correlation` is their mean FSC. `scored`: whether its score is as good.
    """

    first: int
    second: int
    correlation: float
    classes: tuple[int, ...]
    placements: tuple[Placement, ...]
    scored: bool = True

    @property
    def mirrored(self) -> bool:
        """Whether the first class agrees in the other hand."""
        return self.placements[0].mirrored

    @property
    def agrees(self) -> bool:
        return self.scored and self.correlation >= AGREE


@dataclass(frozen=True)
class StartAgreement:
    """The best start, the first, with each of the others, which are in order, the best first."""

    pairs: tuple[PairAgreement, ...]

    @property
    def correlation(self) -> Float[np.ndarray, " n"]:
        """Mean FSC of each start with the best one; 1 for this."""
        return np.array([1.0, *(pair.correlation for pair in self.pairs)])

    def pair(self, second: int) -> PairAgreement:
        """The best start with this one, which is not the best."""
        return self.pairs[second - 1]

    @property
    def with_best(self) -> tuple[int, ...]:
        """The starts that found the map of the best one, itself included."""
        return (0, *(pair.second for pair in self.pairs if pair.agrees))

    @property
    def confirmed(self) -> bool:
        """Whether another start found the map of the best one."""
        return len(self.with_best) > 1

    @property
    def disagree(self) -> bool:
        """Whether no other start found the map of the best one; one start alone says nothing either way."""
        return bool(self.pairs) and not self.confirmed


def start_agreement(
    starts: Sequence[Float[np.ndarray, "k z y x"]],
    scores: Sequence[float],
    population: Float[np.ndarray, " k"],
    pixel_size: float,
    *,
    least_score: float,
    radius: float,
    coarsest: float,
    finest: float,
) -> StartAgreement:
    """The first of the starts (their maps on one grid, voxels of `pixel_size` angstrom; the `population` of its classes) compared with each of the
    others inside a sphere of `radius` voxels. A start with less than `least_score` confirms nothing, however much its map resembles: both may be wrong in the same way.

    A few seconds a pair of maps of 48 voxels.
    """
    comparison = Comparison(pixel_size, radius, coarsest, finest)
    pairs = []
    for second in range(1, len(starts)):
        pair = comparison.pair(0, second, starts[0], starts[second], population)
        pairs.append(replace(pair, scored=bool(scores[second] >= least_score)))
    return StartAgreement(tuple(pairs))


@dataclass(frozen=True)
class Comparison:
    """How two maps are compared: voxels of `pixel_size` angstrom in a sphere of `radius` voxels, over the shells from `coarsest` to `finest`."""

    pixel_size: float
    radius: float
    coarsest: float
    finest: float

    def pair(
        self, first: int, second: int, fixed: np.ndarray, moving: np.ndarray, population: np.ndarray
    ) -> PairAgreement:
        """Classes joined one to one so that the mean correlation, by the populations of the first, is the largest."""
        from scipy.optimize import linear_sum_assignment

        found = [[self.placed(one, other) for other in moving] for one in fixed]
        share = np.asarray(population) / np.sum(population)
        table = np.array([[value for value, _ in row] for row in found]) * share[:, None]
        rows, columns = linear_sum_assignment(table, maximize=True)
        placements = tuple(found[row][column][1] for row, column in zip(rows, columns))
        return PairAgreement(first, second, float(table[rows, columns].sum()), tuple(map(int, columns)), placements)

    def placed(self, fixed: np.ndarray, moving: np.ndarray) -> tuple[float, Placement]:
        """Mean FSC of a map laid over another, and how it was laid."""
        width = fixed.shape[-1] * self.pixel_size
        shells = int(np.clip(width / self.finest, LEAST_SHELLS, fixed.shape[-1] // 2 - 1))
        placement = align_maps(moving, fixed, shells=shells, radius=self.radius)
        sphere = soft_sphere(fixed.shape[-1], self.radius, EDGE)
        curve = fourier_shell_correlation(place(moving, placement) * sphere, fixed * sphere, self.pixel_size)
        first = min(int(np.ceil(width / self.coarsest)), shells)
        return float(curve.correlation[first : shells + 1].mean()), placement
