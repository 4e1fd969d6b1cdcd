"""How the views of the particles are spread over the sphere, and what that does to a reconstruction.

A view along the direction d (in the object's frame, `geometry.rotations.view_direction`) fills the central plane of
Fourier space perpendicular to d: it helps the directions n with n . d = 0. A direction that few planes contain is known
badly, however many particles there are.

The figure here is the sampling compensation factor SCF* of Baldwin & Lyumkis (2020,
doi:10.1016/j.pbiomolbio.2019.09.002; 2021, doi:10.1016/j.pbiomolbio.2020.06.003). s(n) counts the views whose plane
passes within half a voxel of the point n R at the Fourier radius R,

    s(n) = #{d : |n . d| R < 1/2}.

With <s> its mean over the half sphere, q the fraction of points that no view reaches, and <1/s> the mean over the
others,

    1 / SCF* = <s> (<1/s> + 1/2 q / (1 - q)).

It is 1 for perfectly even views. As long as q = 0, the signal-to-noise ratio of a shell is that of even views times
SCF*: 0.5 means that half of the particles, evenly spread, would do as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Float

FOURIER_RADIUS = 50.0  # voxels; the authors' choice, kept so that figures compare
POINTS = 2000  # on the half sphere
SINGLY = 20_000  # more views than this are gathered in cells before they are counted
CELLS_N_SIDE = 64
VIEWS_PER_PIXEL = 4.0


@dataclass(frozen=True)
class OrientationCoverage:
    """The views of a set of particles, symmetry copies included.

    `density` [12 n_side^2] is the number of views in each HEALPix pixel (ring numbering) over its mean: 1 where even
    views would be. `efficiency` is SCF* at `fourier_radius` voxels, and `efficiency_if_even` what the same number of
    views, drawn evenly at random, would have: below 1 because chance is uneven. `unsampled` is q, the fraction of
    directions that no view reaches at that radius.
    """

    views: int
    density: np.ndarray
    efficiency: float
    efficiency_if_even: float
    unsampled: float
    fourier_radius: float

    @property
    def n_side(self) -> int:
        return math.isqrt(len(self.density) // 12)


def orientation_coverage(
    directions: Float[np.ndarray, "n 3"],
    *,
    operators: Float[np.ndarray, "m 3 3"] | None = None,
    fourier_radius: float = FOURIER_RADIUS,
    n_side: int | None = None,
) -> OrientationCoverage:
    """Spread and efficiency of viewing directions (unit vectors in the object's frame: the third rows of the pose
    matrices).

    `operators` are those of the point group, whose copies of each view count as views. `n_side` of the density defaults
    to the finest with at least four views a pixel, from 4 to 32.

    >>> from_one_side = np.tile([0.0, 0.0, 1.0], (100, 1))
    >>> coverage = orientation_coverage(from_one_side)
    >>> coverage.efficiency < 0.05, coverage.unsampled > 0.9
    (True, True)
    """
    directions = np.asarray(directions, dtype=np.float64)
    if directions.ndim != 2 or directions.shape[1] != 3 or len(directions) == 0:
        raise DataProblem(f"viewing directions of shape {directions.shape}", "at least one unit vector, [n, 3]")
    if not fourier_radius > 1:
        raise SettingsProblem(f"a Fourier radius of {fourier_radius} voxels", "a number above 1")
    views = directions if operators is None else symmetry_copies(directions, operators)
    points = half_sphere(POINTS)
    cells, weights = (views, None) if len(views) <= SINGLY else gather(views, CELLS_N_SIDE)
    sampling = count_planes(points, cells, fourier_radius, weights=weights)
    return OrientationCoverage(
        views=len(views),
        density=view_density(views, n_side if n_side is not None else _finest_n_side(len(views))),
        efficiency=sampling_compensation(sampling),
        efficiency_if_even=sampling_compensation_of_chance(float(sampling.mean())),
        unsampled=float((sampling == 0).mean()),
        fourier_radius=fourier_radius,
    )


def symmetry_copies(
    directions: Float[np.ndarray, "n 3"], operators: Float[np.ndarray, "m 3 3"]
) -> Float[np.ndarray, "n*m 3"]:
    """All directions from which the same image of a symmetric object is seen: S.T @ d for every operator S, one block
    per operator.
    """
    return np.concatenate([directions @ operator for operator in np.asarray(operators, dtype=np.float64)])


def view_density(directions: Float[np.ndarray, "n 3"], n_side: int) -> Float[np.ndarray, " pixel"]:
    """Views in each HEALPix pixel (ring numbering) over their mean number."""
    import healpix

    pixel = healpix.vec2pix(n_side, *np.asarray(directions, dtype=np.float64).T)
    counts = np.bincount(pixel, minlength=12 * n_side**2)
    return counts / counts.mean()


def count_planes(
    points: Float[np.ndarray, "p 3"],
    directions: Float[np.ndarray, "n 3"],
    fourier_radius: float,
    *,
    weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " p"]:
    """s(n): the number (or summed weight) of views whose plane passes within half a voxel of each point."""
    half_width = np.float32(0.5 / fourier_radius)
    points = np.asarray(points, dtype=np.float32)
    total = np.zeros(len(points))
    for start in range(0, len(directions), 2048):
        block = np.asarray(directions[start : start + 2048], dtype=np.float32)
        distance = points @ block.T
        near = np.abs(distance, out=distance) < half_width
        if weights is None:
            total += np.count_nonzero(near, axis=1)
        else:
            total += near.astype(np.float32) @ weights[start : start + 2048].astype(np.float32)
    return total


def sampling_compensation(sampling: Float[np.ndarray, " p"]) -> float:
    """SCF* of the counts s(n) on evenly spread points; 0 if no point is reached at all."""
    reached = sampling[sampling > 0]
    if len(reached) == 0:
        return 0.0
    missing = 1 - len(reached) / len(sampling)
    return float(1 / (sampling.mean() * ((1 / reached).mean() + missing / (1 - missing) / 2)))


def sampling_compensation_of_chance(mean: float) -> float:
    """SCF* expected of views drawn evenly at random, when a point is reached by `mean` of them: s is then a Poisson
    number.

    For large numbers it is 1 - 1/mean.
    """
    if mean > 300:
        return 1 - 1 / mean
    counts = np.arange(1, int(mean + 12 * math.sqrt(mean) + 30))
    log_probability = counts * math.log(mean) - mean - np.cumsum(np.log(counts))
    probability = np.exp(log_probability)
    missing = math.exp(-mean)
    reciprocal = (probability / counts).sum() / (1 - missing)
    return float(1 / (mean * (reciprocal + missing / (1 - missing) / 2)))


def half_sphere(count: int) -> Float[np.ndarray, "count 3"]:
    """Evenly spread unit vectors with z > 0: a Fibonacci spiral of equal areas and golden-angle turns."""
    step = np.arange(count)
    z = (step + 0.5) / count
    turn = step * (math.pi * (3 - math.sqrt(5)))
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=-1)


def gather(
    directions: Float[np.ndarray, "n 3"], n_side: int
) -> tuple[Float[np.ndarray, "c 3"], Float[np.ndarray, " c"]]:
    """(Mean direction, number) of the views in each occupied HEALPix cell, views from opposite sides taken together:
    they fill one plane.
    """
    import healpix

    one_side = np.where(directions[:, 2:] < 0, -directions, directions)
    pixel = healpix.vec2pix(n_side, *one_side.T)
    number = np.bincount(pixel, minlength=12 * n_side**2)
    mean = np.stack(
        [np.bincount(pixel, weights=one_side[:, axis], minlength=12 * n_side**2) for axis in range(3)], axis=-1
    )
    occupied = number > 0
    mean = mean[occupied]
    return mean / np.linalg.norm(mean, axis=1, keepdims=True), number[occupied].astype(np.float64)


def _finest_n_side(views: int) -> int:
    return next((n for n in (32, 16, 8) if views / (12 * n**2) >= VIEWS_PER_PIXEL), 4)
