"""Whether random starts found the same map: each laid over each other, either hand, and compared shell by shell.

The agreement of two maps is the mean of their Fourier shell correlation, inside the sphere of the mask, over the shells from `coarsest` to
`finest` angstrom. Coarser shells are left out: any two blobs of one size agree there. Starts of several classes are compared class by class, each
class of one with the one of the other that makes the mean over all particles the largest. The hand has no say: a start that found the mirror
image has found the same as far as images of untilted particles can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.filters import soft_sphere
from vitreous.reconstruction.fsc import MODEL, fourier_shell_correlation
from vitreous.reconstruction.map_alignment import EDGE, Placement, align_maps, place

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST_SHELLS = 4  # that maps are laid over each other by
AGREE = MODEL  # mean FSC from which on two starts count as the same map


@dataclass(frozen=True)
class PairAgreement:
    """Start `second` laid over start `first`: the class `classes[k]` of the second lies over class k of the first as `placements[k]` says;
    `correlation` is their mean FSC.
    """

    first: int
    second: int
    correlation: float
    classes: tuple[int, ...]
    placements: tuple[Placement, ...]

    @property
    def mirrored(self) -> bool:
        """Whether the first class agrees in the other hand."""
        return self.placements[0].mirrored

    @property
    def agrees(self) -> bool:
        return self.correlation >= AGREE


@dataclass(frozen=True)
class StartAgreement:
    """All pairs of `count` starts, which are in order, the best first."""

    count: int
    pairs: tuple[PairAgreement, ...]

    @property
    def matrix(self) -> Float[np.ndarray, "n n"]:
        """Mean FSC of each pair; 1 on the diagonal."""
        result = np.eye(self.count)
        for pair in self.pairs:
            result[pair.first, pair.second] = result[pair.second, pair.first] = pair.correlation
        return result

    def pair(self, first: int, second: int) -> PairAgreement:
        return next(pair for pair in self.pairs if (pair.first, pair.second) == (first, second))

    @property
    def with_best(self) -> tuple[int, ...]:
        """The starts that found the map of the best one, itself included."""
        return (0, *(pair.second for pair in self.pairs if pair.first == 0 and pair.agrees))

    @property
    def disagree(self) -> bool:
        """Whether no other start found the map of the best one; one start alone says nothing either way."""
        return self.count > 1 and len(self.with_best) == 1


def start_agreement(
    starts: Sequence[Float[np.ndarray, "k z y x"]],
    populations: Sequence[Float[np.ndarray, " k"]],
    pixel_size: float,
    *,
    radius: float,
    coarsest: float,
    finest: float,
) -> StartAgreement:
    """Every pair of starts (their maps on one grid, voxels of `pixel_size` angstrom) compared inside a sphere of `radius` voxels.

    A few seconds a pair of maps of 48 voxels.
    """
    comparison = Comparison(pixel_size, radius, coarsest, finest)
    pairs = []
    for first, second in combinations(range(len(starts)), 2):
        pairs.append(comparison.pair(first, second, starts[first], starts[second], populations[first]))
    return StartAgreement(len(starts), tuple(pairs))


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
