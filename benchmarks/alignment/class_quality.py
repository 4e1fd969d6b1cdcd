"""How good class averages are: their likeness to true projections, and how alike the views are that a class holds.

Rotations are those of the project: `r_image = R @ r_object`, and the third row of R is the direction of view. Lengths in pixels, angles in radian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitreous.fourier.filters import soft_disc
from vitreous.fourier.transforms import forward, frequencies, inverse, shift_phases
from vitreous.geometry.orientation_grid import orientation_grid
from vitreous.geometry.rotations import matrix_from_rotation_vector, view_direction
from vitreous.reconstruction.projection import FourierVolume, half_plane, project, slice_grid
from vitreous.reconstruction.slicing import sliced

EDGE = 3.0  # pixels, of the disc in which images are compared
COARSE_ORDER = 3  # of the grid of orientations that is searched: 36,864, 7.4 degrees apart
COARSE_BAND = 0.4  # of the Nyquist frequency, in the search
CANDIDATES = 4  # orientations that are then improved
ROUGH, FINE = 60, 200  # evaluations for each of these, and for the best of them once more
REACH = 5  # pixels: an average may be off the centre by so much
SLICES_PER_CHUNK = 4096


# --- likeness to a projection -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """The projection nearest to an image: its correlation with it, the rotation, and where the image lies (x, y), in pixels from the centre."""

    correlation: float
    rotation: np.ndarray
    shift: np.ndarray


def masked_correlation(image: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Pearson's correlation of two images [y, x] whose pixels count as much as `mask` says; 0 where one of them is constant.

    Any factor above 0 and any constant may be applied to either. An image of the opposite contrast correlates negatively.
    """
    first, second = (each - (each * mask).sum() / mask.sum() for each in (np.float64(image), np.float64(other)))
    power = (mask * first**2).sum() * (mask * second**2).sum()
    return float((mask * first * second).sum() / math.sqrt(power)) if power > 0 else 0.0


def projection(volume: FourierVolume, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The projection [y, x] of a volume turned by `rotation` [3, 3], moved by `shift` (x, y) pixels, without CTF."""
    grid, shape = slice_grid(volume.box), (volume.box, volume.box)
    transform = half_plane(project(volume, rotation[None], grid), grid)[0]
    return inverse(transform * shift_phases(shift, frequencies(shape)), shape)


def nearest_projections(averages: np.ndarray, truth: np.ndarray, diameter: float) -> list[Match]:
    """For each average [k, y, x] the projection of `truth` [z, y, x] that correlates best with it inside a disc of this diameter.

    Over all views, in-plane angles and shifts up to 5 pixels: a search on a grid of orientations at low resolution, then the best four are improved at full
    resolution. Projections are those of the true map: neither CTF nor noise. A constant average has correlation 0.
    """
    volume = sliced(np.asarray(truth, dtype=np.float64))
    mask = soft_disc(volume.box, diameter / 2, EDGE)
    candidates = coarse_search(np.asarray(averages, dtype=np.float64), volume, mask)
    found = []
    for image, starts in zip(averages, candidates):
        rough = [improved(image, volume, mask, *start, evaluations=ROUGH) for start in starts]
        best = max(rough, key=lambda match: match.correlation)
        found.append(improved(image, volume, mask, best.rotation, best.shift, evaluations=FINE))
    return found


def coarse_search(
    averages: np.ndarray, volume: FourierVolume, mask: np.ndarray
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """For each average the (rotation, shift) of the best grid points, at most one for each neighbourhood.

    The correlation of every average at every shift with every slice is one product of matrices: with the masked average A, the slice P and the
    shift t it is `Re sum A conj(P exp(-2 pi i k t)) / (|A| |P|)`. The mask is on the average alone, the particle being inside it.
    """
    grid = slice_grid(volume.box, COARSE_BAND * volume.box / 2)
    used = slice(1, None)  # the zero frequency is first: means have no say
    shifts = shift_grid(REACH)
    transforms = forward(without_mean(averages, mask), 2)[:, grid.row, grid.column][:, used]
    phases = shift_phases(-shifts, [k[used] / volume.box for k in (grid.kx, grid.ky)])
    moved = transforms[:, None] * phases
    norm = np.sqrt((np.abs(transforms) ** 2).sum(axis=1))
    columns = as_real(moved / np.where(norm > 0, norm, 1.0)[:, None, None]).reshape(-1, 2 * transforms.shape[1]).T
    rotations = orientation_matrices(COARSE_ORDER)
    best = np.empty((len(rotations), len(averages)))
    at = np.empty((len(rotations), len(averages)), dtype=int)
    for start in range(0, len(rotations), SLICES_PER_CHUNK):
        rows = slice(start, start + SLICES_PER_CHUNK)
        slices = project(volume, rotations[rows], grid)[:, used]
        slices = slices / np.sqrt((np.abs(slices) ** 2).sum(axis=1))[:, None]
        scores = (as_real(slices).astype(np.float32) @ columns.astype(np.float32)).reshape(
            len(slices), len(averages), -1
        )
        best[rows], at[rows] = scores.max(axis=2), scores.argmax(axis=2)
    return [
        [(rotations[row], shifts[at[row, k]]) for row in distinct(best[:, k], rotations, CANDIDATES)]
        for k in range(len(averages))
    ]


def improved(
    image: np.ndarray,
    volume: FourierVolume,
    mask: np.ndarray,
    rotation: np.ndarray,
    shift: np.ndarray,
    *,
    evaluations: int,
) -> Match:
    """The match near a start, by the simplex of Nelder and Mead in three small turns and two shifts."""
    from scipy.optimize import minimize

    def place(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return matrix_from_rotation_vector(x[:3]) @ rotation, shift + x[3:]

    def loss(x: np.ndarray) -> float:
        return -masked_correlation(image, projection(volume, *place(x)), mask)

    step = 0.5 * np.array([0.13, 0.13, 0.13, 1.0, 1.0])  # half of a grid step: 7.4 degrees, 1 pixel
    simplex = np.concatenate([np.zeros((1, 5)), np.diag(step)])
    found = minimize(
        loss,
        np.zeros(5),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 2e-3, "fatol": 1e-5, "maxfev": evaluations},
    )
    return Match(-float(found.fun), *place(found.x))


def without_mean(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The images less their mean under the mask, times the mask."""
    mean = (images * mask).sum(axis=(1, 2)) / mask.sum()
    return (images - mean[:, None, None]) * mask


def as_real(values: np.ndarray) -> np.ndarray:
    """Complex values [..., p] as real vectors [..., 2 p] whose scalar product is the real part of the complex one."""
    return np.concatenate([values.real, values.imag], axis=-1)


def shift_grid(reach: int) -> np.ndarray:
    """Whole shifts (x, y) inside a circle, [m, 2]."""
    line = np.arange(-reach, reach + 1)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return points[(points**2).sum(axis=1) <= reach**2].astype(float)


@lru_cache(maxsize=2)
def orientation_matrices(order: int) -> np.ndarray:
    return orientation_grid(order).matrix


def distinct(scores: np.ndarray, rotations: np.ndarray, count: int, *, apart: float = math.radians(15.0)) -> list[int]:
    """The rows of the highest scores, each at least `apart` from all better ones."""
    chosen: list[int] = []
    for row in np.argsort(-scores, kind="stable")[: 100 * count]:
        # trace(A^T B) = 1 + 2 cos(angle)
        traces = np.einsum("nij,ij->n", rotations[chosen], rotations[row]) if chosen else np.zeros(0)
        if (traces < 1 + 2 * math.cos(apart)).all():
            chosen.append(int(row))
        if len(chosen) == count:
            break
    return chosen


# --- purity of views --------------------------------------------------------------------------------------------------


def view_spread(rotation: np.ndarray, *, mirror: bool = False) -> float:
    """Mean angle between the views of these particles [n, 3, 3] and their middle, radian; nan for none.

    Turns in the plane have no say. With `mirror` a view and the opposite one, whose image is the mirror image, are the same: the middle is then
    an axis, the one along which the views lie; without it the direction of their sum.
    """
    directions = view_direction(rotation)
    if len(directions) == 0:
        return math.nan
    if mirror:
        axis = np.linalg.eigh(directions.T @ directions)[1][:, -1]
        cosine = np.abs(directions @ axis)
    else:
        total = directions.sum(axis=0)
        length = np.linalg.norm(total)
        if length < 1e-9 * len(directions):  # no middle at all
            return math.pi / 2
        cosine = directions @ (total / length)
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)).mean())


def mean_view_spread(
    rotation: np.ndarray, class_index: np.ndarray, *, mirror: bool = False
) -> tuple[float, dict[int, float]]:
    """The spread of every class, and their mean over the particles (a class counts as much as it holds)."""
    classes, counts = np.unique(class_index, return_counts=True)
    spread = {int(k): view_spread(rotation[class_index == k], mirror=mirror) for k in classes}
    return float(np.average(list(spread.values()), weights=counts)), spread


def ideal_spread(classes: int, *, mirror: bool = False) -> float:
    """The spread if the sphere of views were cut into this many equal caps: `(sin a - a cos a) / (1 - cos a)`, 1 - cos a = 2 / classes.

    With `mirror` each class has two opposite caps of half the area. Caps do not tile the sphere: no classification of views from everywhere is quite as
    tight. Classes drawn by lot have 90 degrees, with `mirror` 57.3.
    """
    fraction = (1.0 if mirror else 2.0) / classes
    a = math.acos(max(-1.0, 1.0 - fraction))
    return (math.sin(a) - a * math.cos(a)) / fraction


def used_classes(population: Sequence[float]) -> float:
    """The number of classes in use: exp of the entropy of their populations."""
    share = np.asarray(population, dtype=float)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
