"""Masks in real space: soft-edged regions that hold the particle and leave out the solvent.

An automatic mask is made in five steps: low-pass filter the map, take what is above a threshold, keep the large
connected pieces, grow them by a few voxels, and let the edge fall as a raised cosine. A hard edge would correlate half
maps at all resolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, low_pass, soft_sphere
from vitreous.fourier.transforms import radial_frequency

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

LOW_PASS = 15.0  # angstrom: proteins are blobs, side chains and noise are gone
LEAST_LOW_PASS_PIXELS = 4.0
GROW, LEAST_GROW_PIXELS = 6.0, 2.0  # angstrom, voxels
EDGE, LEAST_EDGE_PIXELS = 12.0, 4.0
NOISE_FLOOR = 2.0  # standard deviations of the solvent: 2 % of its voxels lie above, in specks too small to be kept
LEAST_PIECE = 0.1  # of the largest piece


@dataclass(frozen=True)
class Mask:
    """A mask [z, y, x] in [0, 1], float32, and the facts that tell whether it is a sensible one.

    `volume_fraction` is its mean. `threshold` (on the map low-passed to `low_pass` angstrom) and the numbers of
    connected `pieces` found and `kept` are None for a mask that was not made from a map. `particle_voxels` counts the
    voxels before growing.
    """

    values: np.ndarray
    volume_fraction: float
    touches_border: bool
    threshold: float | None = None
    low_pass: float | None = None
    pieces: int | None = None
    kept: int | None = None
    particle_voxels: int | None = None

    @property
    def empty(self) -> bool:
        return self.volume_fraction == 0

    @property
    def full(self) -> bool:
        """Whether it covers more than the sphere that fits into the box: then it masks next to nothing."""
        return self.volume_fraction > math.pi / 6

    def warnings(self) -> list[str]:
        """What is odd about it, a sentence each; empty for a sensible mask."""
        found = []
        if self.empty:
            found.append("The mask is empty: nothing in the map stands out from its background.")
        elif self.full:
            found.append(f"The mask covers {self.volume_fraction:.0%} of the box and so removes hardly any noise.")
        if self.touches_border and not self.full:
            found.append(
                "The mask reaches the border of the box: the particle may be cut off, or the threshold is too low."
            )
        return found


def mask_from_values(values: Float[np.ndarray, "z y x"], **facts: float | int | None) -> Mask:
    """Any array as a `Mask`. Raises DataProblem for values outside [0, 1], as a map taken for a mask has them."""
    if not (np.isfinite(values).all() and values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
        raise DataProblem(f"mask values from {values.min():.3g} to {values.max():.3g}", "values from 0 to 1")
    values = np.clip(values, 0, 1).astype(np.float32)
    faces = (values[side] for axis in range(3) for side in _faces(axis))
    touches = any(bool((face > 0.5).any()) for face in faces)
    return Mask(values, float(values.mean(dtype=np.float64)), touches, **facts)  # type: ignore[arg-type]


def spherical_mask(box: int, radius_px: float, edge_px: float) -> Mask:
    """A sphere about the origin of the box: 1 up to `radius_px` voxels, 0 beyond `radius_px + edge_px`."""
    if not radius_px > 0 or edge_px < 0:
        raise SettingsProblem(
            f"a spherical mask of radius {radius_px} and edge {edge_px} voxels",
            "a positive radius and an edge of at least 0",
        )
    return mask_from_values(soft_sphere(box, radius_px, edge_px, dtype=np.float32))


def automatic_mask(
    volume: Float[np.ndarray, "z y x"],
    pixel_size: float,
    *,
    threshold: float | None = None,
    low_pass_resolution: float | None = None,
    grow_px: float | None = None,
    edge_px: float | None = None,
) -> Mask:
    """A soft mask around the particle in a map (better: in the mean of two half maps), protein positive.

    The map is low-passed to `low_pass_resolution` angstrom (default 15, but at least 4 pixels). `threshold` on that map
    defaults to `density_threshold`. Pieces with less than a tenth of the voxels of the largest one are dropped. The
    rest grows by `grow_px` voxels (default 6 angstrom, but at least 2 voxels); over a further `edge_px` (default 12
    angstrom, but at least 4 voxels) the mask falls to 0. A map without any contrast gives an empty mask.

    >>> blob = soft_sphere(32, 6, 4)
    >>> mask = automatic_mask(blob, 5.0, grow_px=2, edge_px=3)
    >>> float(mask.values[16, 16, 16]), float(mask.values[16, 16, 30]), mask.warnings()
    (1.0, 0.0, [])
    """
    if not np.isfinite(volume).all():
        raise DataProblem("a map with values that are no numbers", "finite values", "look for NaN in the map")
    grow_px = max(LEAST_GROW_PIXELS, GROW / pixel_size) if grow_px is None else grow_px
    edge_px = max(LEAST_EDGE_PIXELS, EDGE / pixel_size) if edge_px is None else edge_px
    if grow_px < 0 or edge_px < 0:
        raise SettingsProblem(f"a mask grown by {grow_px} with an edge of {edge_px} voxels", "numbers of at least 0")
    resolution = (
        max(LOW_PASS, LEAST_LOW_PASS_PIXELS * pixel_size) if low_pass_resolution is None else low_pass_resolution
    )
    shape = tuple(volume.shape)
    k = radial_frequency(shape, pixel_size, dtype=np.float32)
    smooth = apply_filter(np.asarray(volume, dtype=np.float32), low_pass(k, 1 / resolution, 0.25 / resolution), 3)
    level = density_threshold(smooth) if threshold is None else float(threshold)
    particle, pieces, kept = largest_pieces(smooth > level)
    values = soft_edge(particle, grow_px, edge_px)
    voxels = int(particle.sum())
    return mask_from_values(
        values, threshold=level, low_pass=resolution, pieces=pieces, kept=kept, particle_voxels=voxels
    )


def density_threshold(smooth: Float[np.ndarray, "z y x"]) -> float:
    """The level that separates particle from solvent in a low-passed map.

    Half-way between the solvent (the median of the sphere that fits into the box) and Otsu's threshold, which splits
    the histogram of that sphere into two classes of the largest variance between them (Otsu 1979,
    doi:10.1109/TSMC.1979.4310076). Otsu's level alone lies at half the density of the strong parts and cuts the weak
    ones off. In noisy maps the level is raised to 2 standard deviations of the solvent above its median, the
    deviation taken from the voxels below the median, where there is no particle.
    """
    inside = smooth[soft_sphere(smooth.shape[0], smooth.shape[0] / 2 - 1, 0, dtype=np.bool_)]
    solvent = float(np.median(inside))
    below = inside[inside <= solvent] - solvent
    deviation = 1.4826 * float(np.median(-below))
    return max(solvent + (_otsu(inside) - solvent) / 2, solvent + NOISE_FLOOR * deviation)


def level_enclosing(volume: Float[np.ndarray, "z y x"], voxels: int) -> float:
    """The level above which `voxels` voxels of the map lie: a contour of a given volume, for pictures."""
    if not 0 < voxels < volume.size:
        raise SettingsProblem(f"a contour around {voxels} voxels", f"a number between 1 and {volume.size - 1}")
    return float(np.partition(volume, volume.size - voxels, axis=None)[volume.size - voxels])


def masked_for_display(
    volume: Float[np.ndarray, "z y x"], mask: Mask
) -> tuple[Float[np.ndarray, "z y x"], float | None]:
    """The map inside its mask, and the level of a contour to draw it at (None if there is nothing to draw).

    The contour holds half of the voxels that the mask was grown from (of a mask that was given: a third of those it
    covers): these were outlined at low resolution, and at higher resolution the density draws together within them.
    """
    voxels = mask.particle_voxels // 2 if mask.particle_voxels is not None else int((mask.values > 0.5).sum()) // 3
    shown = volume * mask.values
    if voxels < 1 or not shown.min() < shown.max():
        return shown, None
    level = level_enclosing(shown, voxels)
    return shown, level if shown.min() < level < shown.max() else None


def largest_pieces(
    region: Bool[np.ndarray, "z y x"], least: float = LEAST_PIECE
) -> tuple[Bool[np.ndarray, "z y x"], int, int]:
    """(Region of the connected pieces that have at least `least` of the voxels of the largest, pieces found, pieces
    kept).
    """
    labels, count = connected_pieces(region)
    if count == 0:
        return region, 0, 0
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= max(1, least * sizes.max())
    return keep[labels], count, int(keep.sum())


def connected_pieces(region: Bool[np.ndarray, "z y x"]) -> tuple[Int[np.ndarray, "z y x"], int]:
    """Label the pieces of a region from 1 on, 0 outside, and count them. Voxels that share a face are connected.

    Rows are cut into runs, runs that touch are the edges of a graph, and each run takes over the lowest label in reach
    by repeated hooking and pointer jumping (Shiloach & Vishkin 1982): a logarithmic number of passes over the runs.
    """
    first = region.copy()
    first[:, :, 1:] &= ~region[:, :, :-1]  # the first voxel of each run
    run = np.where(region, np.cumsum(first.ravel(), dtype=np.int32).reshape(region.shape), 0)
    touching = [_touching(run[1:], run[:-1]), _touching(run[:, 1:], run[:, :-1])]
    one, other = np.concatenate([pair[0] for pair in touching]), np.concatenate([pair[1] for pair in touching])
    parent = np.arange(int(first.sum()) + 1, dtype=np.int32)
    while True:
        here, there = parent[one], parent[other]
        apart = here != there
        if not apart.any():
            break
        one, other = one[apart], other[apart]
        here, there = here[apart], there[apart]
        np.minimum.at(parent, np.maximum(here, there), np.minimum(here, there))
        while True:
            higher = parent[parent]
            if np.array_equal(higher, parent):
                break
            parent = higher
    roots, label = np.unique(parent, return_inverse=True)  # run 0, the outside, stays label 0
    return label.astype(np.int32)[run], len(roots) - 1


def soft_edge(region: Bool[np.ndarray, "z y x"], grow_px: float, edge_px: float) -> Float[np.ndarray, "z y x"]:
    """1 within `grow_px` voxels of the region, then half a period of a cosine down to 0 at `grow_px + edge_px`,
    float32.
    """
    reach = math.ceil(grow_px + edge_px)
    if reach == 0 or not region.any():
        return region.astype(np.float32)
    square = squared_distance(region, reach)
    steps = np.sqrt(
        np.arange(reach**2 + 2, dtype=np.float64)
    )  # distances are roots of whole numbers: one cosine for each
    fall = np.clip((steps - grow_px) / edge_px, 0, 1) if edge_px > 0 else (steps > grow_px).astype(float)
    return (0.5 + 0.5 * np.cos(np.pi * fall)).astype(np.float32)[square]


def squared_distance(region: Bool[np.ndarray, "z y x"], reach: int) -> Int[np.ndarray, "z y x"]:
    """Squared distance in voxels from the nearest voxel of the region, exact up to `reach`, `reach^2 + 1` beyond.

    Along each axis in turn, the least of the values nearby plus their squared distance (Saito & Toriwaki 1994): exact
    in three passes.
    """
    if not 0 < reach <= 100:
        raise SettingsProblem(f"a mask that reaches {reach} voxels beyond the particle", "at most 100")
    far = reach**2 + 1
    distance = np.full(region.shape, far, dtype=np.int16)
    window = _window(region, reach)
    inner = np.where(region[window], 0, far).astype(np.int16)
    for axis in range(3):
        before = np.moveaxis(inner, axis, 0)
        after = before.copy()
        for step in range(1, min(reach, len(before) - 1) + 1):
            np.minimum(after[step:], before[:-step] + np.int16(step**2), out=after[step:])
            np.minimum(after[:-step], before[step:] + np.int16(step**2), out=after[:-step])
        inner = np.moveaxis(after, 0, axis)
    distance[window] = np.minimum(inner, far)
    return distance


def _otsu(values: np.ndarray, bins: int = 512) -> float:
    """The threshold that maximises the variance between the classes below and above it."""
    count, edges = np.histogram(values, bins)
    centre = (edges[1:] + edges[:-1]) / 2
    weight = np.cumsum(count) / count.sum()
    moment = np.cumsum(count * centre) / count.sum()
    both = weight * (1 - weight)
    between = np.where(both > 0, (moment[-1] * weight - moment) ** 2 / np.where(both > 0, both, 1), 0)
    return float(edges[1:][between.argmax()])


def _touching(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs that lie side by side in two neighbouring stacks of rows, each pair once a row."""
    both = (a > 0) & (b > 0)
    one, other = a[both], b[both]
    new = np.ones(len(one), bool)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return one[new], other[new]


def _window(region: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The smallest box around the region, with a margin."""
    window = []
    for axis in range(3):
        occupied = np.flatnonzero(region.any(axis=tuple(other for other in range(3) if other != axis)))
        window.append(slice(max(int(occupied[0]) - margin, 0), int(occupied[-1]) + margin + 1))
    return tuple(window)


def _faces(axis: int) -> list[tuple]:
    before = (slice(None),) * axis
    return [(*before, 0), (*before, -1)]
