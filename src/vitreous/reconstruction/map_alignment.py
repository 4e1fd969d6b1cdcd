"""Laying one map over another: all rotations, shifts and both hands, by the mean of their Fourier shell correlation.

    score(R, t) = mean over shells of  Re sum F(R^T k) exp(-2 pi i k.t) conj(G(k)) / (|F|_s |G|_s)

Each shell counts alike, so that the strong low frequencies do not decide alone. Maps [z, y, x] of one box with the origin at index N // 2; lengths in voxels. A map
with a point group lies alike in several ways: the search goes over all rotations, and any of them will do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.transforms import frequencies, inverse, shift_phases
from vitreous.geometry.orientation_grid import orientation_grid
from vitreous.geometry.rotations import matrix_from_rotation_vector
from vitreous.reconstruction.projection import FourierVolume, values_at
from vitreous.reconstruction.slicing import sliced

EDGE = 3.0  # voxels, of the sphere in which the maps are compared
COARSE_BAND = 6  # shells of the search
COARSE_ORDER = 2  # of its orientations: at most some 10 degrees off, a third of a wave of the last shell at a third of the box from the centre
CANDIDATES = 6
ROTATIONS_PER_CHUNK = 1024


@dataclass(frozen=True)
class Placement:
    """How a map is laid over another: mirrored in z first (if so), then turned by `rotation`, then moved by `shift` (x, y, z) voxels.

    `score` is the mean of the Fourier shell correlation over the shells compared.
    """

    rotation: np.ndarray
    shift: np.ndarray
    mirrored: bool
    score: float


def mirror(volume: np.ndarray) -> np.ndarray:
    """The map of the other hand: z becomes -z about the origin, N // 2."""
    return np.roll(volume[::-1], 1 - volume.shape[0] % 2, axis=0)


def other_hand(rotation: np.ndarray) -> np.ndarray:
    """The rotations [..., 3, 3] at which the mirror image (z to -z) of a map has the projections that the map has at `rotation`: S R S, S = diag(1, 1, -1)."""
    sign = np.array([1.0, 1.0, -1.0])
    return rotation * sign[:, None] * sign


def place(volume: np.ndarray, placement: Placement) -> np.ndarray:
    """The map where `placement` lays it: V'(r) = V(R^T (r - t)), on the same grid, without interpolation error.

    Frequencies at and beyond Nyquist along any direction are left out: a turned cube has other corners.
    """
    box = volume.shape[0]
    volume = mirror(volume) if placement.mirrored else volume
    shape = (box,) * 3
    kx, ky, kz = np.broadcast_arrays(*frequencies(shape))
    k = np.stack([kx, ky, kz], axis=-1)
    inside = (k**2).sum(axis=-1) < 0.25 * (1 - 1e-9)
    transform = np.zeros(k.shape[:-1], dtype=complex)
    # R^T k of row vectors is k R
    transform[inside] = transform_at(volume.astype(np.float64), k[inside] @ placement.rotation, eps=1e-9)
    moved = transform * shift_phases(placement.shift, frequencies(shape))
    return inverse(moved, shape).astype(volume.dtype)


def align_maps(
    moving: np.ndarray,
    fixed: np.ndarray,
    *,
    shells: int,
    radius: float,
    hands: tuple[bool, ...] = (False, True),
    order: int = COARSE_ORDER,
) -> Placement:
    """The placement of `moving` with the best score over `fixed` up to this shell, both inside a soft sphere of `radius` voxels.

    A search over a grid of orientations, for each of which one transform gives all shifts, at the first shells; the best ones, at least a grid step and
    a half apart, are improved there, and the best of these with all shells, a few more at a time.
    """
    sphere = soft_sphere(fixed.shape[0], radius, EDGE)
    target = sliced((fixed * sphere).astype(np.float32))
    hand_maps = {hand: mirror(moving) if hand else moving for hand in hands}
    sources = {hand: sliced((volume * sphere).astype(np.float32)) for hand, volume in hand_maps.items()}
    coarse = min(COARSE_BAND, shells)
    starts = [start for hand in hands for start in search(sources[hand], target, coarse, order, mirrored=hand)]
    starts = sorted(starts, key=lambda start: -start.score)[: 2 * CANDIDATES]
    found = [improve(sources[start.mirrored], target, start, coarse) for start in starts]
    middle = (coarse + shells) // 2
    found = sorted(found, key=lambda one: -one.score)[:CANDIDATES]
    found = [improve(sources[one.mirrored], target, one, middle) for one in found]
    best = max(found, key=lambda one: one.score)
    # Hands may only part at high resolution: the better one of each goes to the end.
    finalists = [
        max((one for one in found if one.mirrored is hand), key=lambda one: one.score, default=best) for hand in hands
    ]
    finished = [improve(sources[one.mirrored], target, one, shells) for one in finalists]
    return max(finished, key=lambda one: one.score)


# --- parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ball:
    """The independent whole frequencies k [p, 3] (x, y, z) of the shells 1, 2, ..., shell by shell; `shell` [p] of each, `count` [s] of each shell."""

    k: np.ndarray
    shell: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, shells: int) -> Ball:
        line = np.arange(-shells, shells + 1)
        k = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
        x, y, z = k.T
        half = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
        shell = np.rint(np.sqrt((k**2).sum(axis=1))).astype(int)
        keep = np.flatnonzero(half & (shell <= shells))
        keep = keep[np.argsort(shell[keep], kind="stable")]
        return cls(k[keep], shell[keep], np.bincount(shell[keep])[1:])

    def whitened(self, values: np.ndarray) -> np.ndarray:
        """Values [..., p] with unit power in every shell; a shell without power stays 0."""
        first = np.concatenate(
            [[0], np.cumsum(self.count)[:-1]]
        )  # frequencies are sorted by shell, and each shell has some
        power = np.add.reduceat(np.abs(values) ** 2, first, axis=-1)
        scale = np.where(power > 0, 1 / np.sqrt(np.where(power > 0, power, 1.0)), 0.0)
        return values * np.repeat(scale, self.count, axis=-1)


def search(source: FourierVolume, target: FourierVolume, shells: int, order: int, *, mirrored: bool) -> list[Placement]:
    """The best grid orientations with their best shifts."""
    ball, size = Ball.of(shells), 3 * shells  # a grid of a third of a wave
    fixed = np.conj(ball.whitened(values_at(target, ball.k.astype(np.float32)))) / np.float32(shells)
    rotations = orientation_grid(order).matrix.astype(np.float32)
    scores, shifts = np.empty(len(rotations)), np.empty((len(rotations), 3))
    index = tuple(ball.k[:, axis] % size for axis in (2, 1, 0))
    for start in range(0, len(rotations), ROTATIONS_PER_CHUNK):
        rows = slice(start, start + ROTATIONS_PER_CHUNK)
        values = ball.whitened(values_at(source, ball.k.astype(np.float32) @ rotations[rows])) * fixed
        scores[rows], shifts[rows] = best_shifts(values, index, size, target.box)
    apart = 1.5 * math.radians(59.1 / 2**order)
    chosen = separate(scores, rotations, 2 * CANDIDATES, apart)
    return [Placement(rotations[row], shifts[row], mirrored, float(scores[row])) for row in chosen]


def best_shifts(
    values: np.ndarray, index: tuple[np.ndarray, ...], size: int, box: int
) -> tuple[np.ndarray, np.ndarray]:
    """The largest of `Re sum c exp(-2 pi i k.t / box)` over a grid of shifts t, and the shift (x, y, z) in voxels, for each row of `values`."""
    import scipy.fft

    grid = np.zeros((len(values), size, size, size), dtype=np.complex64)
    grid[:, *index] = values
    sums = np.real(np.asarray(scipy.fft.fftn(grid, axes=(1, 2, 3)))).reshape(len(values), -1)
    at = sums.argmax(axis=1)
    zyx = np.stack(np.unravel_index(at, (size,) * 3), axis=-1)
    wrapped = (zyx + size // 2) % size - size // 2
    return sums[np.arange(len(values)), at], wrapped[:, ::-1] * (box / size)


def separate(scores: np.ndarray, rotations: np.ndarray, count: int, apart: float) -> list[int]:
    """The rows of the highest scores, each at least `apart` (radian) from all better ones."""
    chosen: list[int] = []
    for row in np.argsort(-scores, kind="stable")[: 200 * count]:
        traces = np.einsum("nij,ij->n", rotations[chosen], rotations[row]) if chosen else np.zeros(0)
        if (traces < 1 + 2 * math.cos(apart)).all():
            chosen.append(int(row))
        if len(chosen) == count:
            break
    return chosen


def improve(source: FourierVolume, target: FourierVolume, start: Placement, shells: int) -> Placement:
    """The placement near a start with the best score up to a shell, by the simplex of Nelder and Mead."""
    from scipy.optimize import minimize

    ball = Ball.of(shells)
    k = ball.k.astype(np.float32)
    fixed = np.conj(ball.whitened(values_at(target, k))) / np.float32(shells)

    def at(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return matrix_from_rotation_vector(x[:3]) @ start.rotation, start.shift + x[3:]

    def loss(x: np.ndarray) -> float:
        rotation, shift = at(x)
        values = ball.whitened(values_at(source, k @ rotation.astype(np.float32))) * fixed
        return -float((values * np.exp((-2j * np.pi / target.box) * (ball.k @ shift))).sum().real)

    # A tenth of a wave at the last shell and at a third of the box from the centre.
    wave = target.box / shells
    step = 0.1 * wave * np.array([3 / target.box] * 3 + [1.0] * 3)
    simplex = np.concatenate([np.zeros((1, 6)), np.diag(step)])
    found = minimize(
        loss,
        np.zeros(6),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 5e-4, "fatol": 1e-5, "maxfev": 250},
    )
    return Placement(*at(found.x), start.mirrored, -float(found.fun))
