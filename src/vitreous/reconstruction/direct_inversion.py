"""Direct Fourier inversion: from images with known poses to half maps and a map, streaming.

Each image contributes its transform times its CTF to a sum N and the CTF squared to a sum D, both by trilinear insertion of the
slice that its pose selects. The map is `N / (D + lambda(s))` with one constant per shell (Wiener regularisation): for Gaussian
noise of variance sigma^2 and signal of variance tau^2 in shell s, `lambda = sigma^2 / tau^2`, which the two half sets give
themselves, `lambda = mean(D_half) (1 - FSC) / FSC` (Scheres 2012, doi:10.1016/j.jmb.2011.11.010, eqs 2-5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.local import Counter, Progress, silent
from vitreous.engine.workers import LocalWorkers, Workers, available_cores, fitting
from vitreous.errors import DataProblem
from vitreous.fourier.interpolation import gridding_correction
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.model.table import Table
from vitreous.optics.aberrations import magnify, wave_factor
from vitreous.optics.ctf import ctf_of_particles, has_odd_phase, odd_phase
from vitreous.optics.ctf_correction import inverse_snr
from vitreous.reconstruction.backprojection import (
    Accumulator,
    complex_values,
    fold_nyquist,
    insert_slices,
    inverse_to_box,
)
from vitreous.reconstruction.projection import PADDING, SliceGrid, slice_grid

if TYPE_CHECKING:
    from jaxtyping import Float

Frequencies = tuple[np.ndarray, np.ndarray]  # (kx, ky)

# A voxel that saw less than this fraction of its shell's mean weight is as good as empty: it is damped, not divided by noise.
LEAST_WEIGHT = 1e-3

# Beyond this a CTF that images were multiplied by is taken out of them; below, their noise would drown in rounding errors.
LEAST_TRANSFER = 1e-2

# States in which the images have been multiplied by their CTF, or nearly so: they are inserted without it.
MULTIPLIED = (CtfState.PREMULTIPLIED, CtfState.WIENER)

# Particles in a shard, for each pixel of the side of the box. A shard's sums take box^3 bytes to move and add, its slices box^2 each to insert: the
# ratio is the same for every box, about 1 to 30.
SHARD_PER_PIXEL = 32

# Pixels over which the disc around a particle falls from 1 to 0: wide enough that its transform stays within a shell or two.
MASK_EDGE = 4.0


@dataclass(frozen=True)
class InversionSettings:
    """How images become sums.

    `operators` [m, 3, 3] are the point group's. `use_ctf=False` takes the images as projections. `mask_radius` in pixels keeps a soft
    disc around each particle and drops what lies beyond, its neighbours above all; None keeps whole images.
    """

    operators: np.ndarray
    use_ctf: bool = True
    contrast: Contrast = Contrast.INVERTED
    padding: int = PADDING
    mask_radius: float | None = None


@dataclass(frozen=True)
class Sums:
    """N and D of one set of particles, centred in z and y, the half x >= 0, folded to [P, P, P // 2 + 1]."""

    values: np.ndarray
    weights: np.ndarray
    box: int
    padding: int = PADDING

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.values + other.values, self.weights + other.weights, self.box, self.padding)


@dataclass(frozen=True)
class Reconstruction:
    """Two half maps (unfiltered: mean gain 1 in each shell), the Wiener map of all particles, and what each shell holds.

    `coverage` [s]: fraction of a shell's voxels with at least `LEAST_WEIGHT` of its mean weight. `regularisation` [s]: lambda.
    """

    half_maps: tuple[np.ndarray, np.ndarray]
    map: np.ndarray
    coverage: Float[np.ndarray, " s"]
    regularisation: Float[np.ndarray, " s"]
    shell_weight: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class ShardTask:
    """The sums of one shard of a half set: what a worker does."""

    particles: Particles
    settings: InversionSettings
    counter: Counter

    def __call__(self, shard: tuple[int, np.ndarray]) -> HalfSums:
        half, rows = shard
        accumulator = inserted_slices(self.particles.rows(rows), self.settings, self.counter)
        return HalfSums({half: accumulator})


@dataclass(frozen=True)
class HalfSums:
    """The slices of half set 1, 2 or both, inserted."""

    halves: dict[int, Accumulator]

    def absorb(self, other: HalfSums) -> HalfSums:
        """These sums with others added, in place: sums are large, and nobody else needs the parts."""
        for half, accumulator in other.halves.items():
            if half in self.halves:
                np.add(self.halves[half].sums, accumulator.sums, out=self.halves[half].sums)
            else:
                self.halves[half] = accumulator
        return self

    def accumulators(self) -> Iterator[Accumulator]:
        """Those of half set 1 and of half set 2, each let go as it is taken."""
        for half in (1, 2):
            yield self.halves.pop(half)


def half_set_shards(particles: Particles) -> list[tuple[int, np.ndarray]]:
    """The work cut into shards, (half set, rows): the two half sets in turn, so that two workers have one each.

    The cut depends on the particles and their box alone: whatever the number of workers, the same sums are added in the same order.
    """
    assert particles.half_set is not None and particles.images is not None
    largest = SHARD_PER_PIXEL * particles.images.shape[-1]
    shards: list[tuple[int, int, np.ndarray]] = []
    for half in (1, 2):
        members = np.flatnonzero(particles.half_set == half)
        if len(members) == 0:
            raise DataProblem(
                f"half set {half} has no particles",
                "particles in both half sets",
                "let the program split them with --split random",
            )
        parts = np.array_split(members, -(-len(members) // largest))
        shards += [(place, half, rows) for place, rows in enumerate(parts)]
    return [(half, rows) for _, half, rows in sorted(shards, key=lambda shard: shard[:2])]


def split_symmetry(operators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor a point group into grid symmetries and the rest: every operator is one of `exact` after one of `inserted`.

    `exact` are the operators that permute the voxels (signed permutation matrices): applying them to the finished sums costs nothing
    and interpolates nothing. `inserted` are representatives of the cosets: each slice is inserted once for each.
    """
    exact = np.array([s for s in operators if np.allclose(np.abs(s).max(axis=1), 1, atol=1e-9)])
    inserted, covered = [], np.zeros(len(operators), dtype=bool)
    for i, operator in enumerate(operators):
        if covered[i]:
            continue
        inserted.append(operator)
        for s in exact:
            covered |= np.abs(operators - operator @ s).max(axis=(1, 2)) < 1e-6
    return exact, np.array(inserted)


def accumulate(particles: Particles, settings: InversionSettings, counter: Counter | None = None) -> Sums:
    """Sum the slices of all particles of the set, a chunk at a time, in the order of the rows."""
    exact, _ = split_symmetry(settings.operators)
    return finish_sums(inserted_slices(particles, settings, counter or Counter(len(particles))), exact)


def inserted_slices(particles: Particles, settings: InversionSettings, counter: Counter) -> Accumulator:
    """The slices of all particles of the set, inserted a chunk at a time in the order of the rows."""
    if particles.images is None or particles.pose is None:
        raise DataProblem("particles without images or poses", "a file with image names, angles and shifts")
    box = particles.images.shape[-1]
    _, inserted = split_symmetry(settings.operators)
    accumulator = Accumulator(box, settings.padding)
    for group in np.unique(particles.optics_index):
        members = np.flatnonzero(particles.optics_index == group)
        grid = recorded_grid(slice_grid(box), particles.optics[group])
        for rows in chunks(members, chunk_size(box)):
            part = particles.rows(rows)
            data, weight, frequencies = weighted_slices(part, settings, grid)
            assert part.pose is not None
            rotation = matrix_from_euler(part.pose.euler)
            for operator in inserted:
                insert_slices(accumulator, data, weight, rotation @ operator, frequencies)
            counter.add(len(rows))
    return accumulator


def recorded_grid(grid: SliceGrid, group: OpticsGroup) -> SliceGrid:
    """The pixels of the grid whose true frequencies, after the group's magnification, lie inside the grid's radius too."""
    true_x, true_y = magnify(grid.kx, grid.ky, group.magnification)
    inside = np.hypot(true_x, true_y) < grid.radius
    return grid if inside.all() else SliceGrid(grid.box, grid.radius, grid.kx[inside], grid.ky[inside])


def weighted_slices(
    part: Particles, settings: InversionSettings, grid: SliceGrid
) -> tuple[np.ndarray, np.ndarray, Frequencies]:
    """One chunk of one optics group as pixel-major (values [p, n], weights [p, n]) and the frequencies (kx, ky) of its pixels.

    Values are the transforms, moved so that the particle lies on the origin, times the CTF; weights are the CTF squared.
    """
    state = ctf_state(part, settings)
    data, weight, _, frequencies = centred_slices(part, settings, grid, multiply=state not in MULTIPLIED)
    if state is CtfState.WIENER:
        data *= weight + inverse_snr(wiener_snr(part.used_optics()[0]), np.float32)  # premultiplied, exactly
    return data, weight, frequencies


def measured_slices(
    part: Particles, settings: InversionSettings, grid: SliceGrid
) -> tuple[np.ndarray, np.ndarray, Frequencies]:
    """One chunk of one optics group as (values [n, p], CTF [n, p]) and the frequencies (kx, ky) of its pixels: `value = CTF x slice + noise`.

    Values are the transforms, moved so that the particle lies on the origin. Of images that were multiplied by their CTF the factor is taken out
    again; where it is smaller than LEAST_TRANSFER both are 0, as nothing is known there.
    """
    state = ctf_state(part, settings)
    data, weight, transfer, frequencies = centred_slices(part, settings, grid, multiply=False)
    values = np.ascontiguousarray(data.T)
    if state in MULTIPLIED:
        if state is CtfState.WIENER:
            values *= weight.T + inverse_snr(wiener_snr(part.used_optics()[0]), np.float32)
        known = np.abs(transfer) >= LEAST_TRANSFER
        values = np.where(known, values / np.where(known, transfer, 1), 0)
        transfer = np.where(known, transfer, 0)
    return values, transfer, frequencies


def ctf_state(part: Particles, settings: InversionSettings) -> CtfState:
    """What has been done to the images about their CTF, as far as it matters."""
    return part.ctf_state if settings.use_ctf else CtfState.RAW


def centred_slices(
    part: Particles, settings: InversionSettings, grid: SliceGrid, *, multiply: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Frequencies]:
    """(transforms [p, n] of images whose particle lies on the origin, CTF squared [p, n], CTF [n, p], frequencies); the first times the CTF if `multiply`."""
    import scipy.fft

    from vitreous.reconstruction.insertion_kernel import mask_discs, weigh

    assert part.images is not None and part.pose is not None
    pixels = part.images.read(slice(None))
    check_pixels(pixels, part)
    box = grid.box
    shift = part.pose.shift / part.pixel_size - box // 2  # brings the particle to index 0, the origin
    if settings.mask_radius is not None:
        masked = np.empty_like(pixels)
        mask_discs(pixels, -shift[:, 0], -shift[:, 1], settings.mask_radius, MASK_EDGE, masked)
        pixels = masked
    transforms = scipy.fft.rfft2(pixels, workers=1)
    phase_x = np.exp(-2j * np.pi / box * np.outer(shift[:, 0], np.arange(box // 2 + 1))).astype(np.complex64)
    phase_y = np.exp(-2j * np.pi * np.outer(shift[:, 1], np.fft.fftfreq(box))).astype(np.complex64)
    factor, antisymmetric, frequencies = contrast_transfer(part, settings, grid)
    data = np.empty((len(grid), len(part)), dtype=np.complex64)
    weight = np.empty((len(grid), len(part)), dtype=np.float32)
    weigh(transforms, grid.row, grid.column, phase_x, phase_y, factor, antisymmetric, multiply, data, weight)
    return data, weight, factor, frequencies


def contrast_transfer(
    part: Particles, settings: InversionSettings, grid: SliceGrid
) -> tuple[np.ndarray, np.ndarray, Frequencies]:
    """(CTF [n, p], factor [p] that undoes beam tilt and odd aberrations, frequencies (kx, ky) of the object in cycles per box).

    The last are those of the grid after the group's anisotropic magnification: where in the volume the image's pixels belong.
    """
    group = part.used_optics()[0]
    per_box = 1 / (grid.box * part.pixel_size)
    kx, ky = grid.kx * per_box, grid.ky * per_box
    true_x, true_y = magnify(kx, ky, group.magnification)
    places = (true_x / per_box, true_y / per_box)
    nothing = np.ones(len(grid), dtype=np.complex64)
    if not settings.use_ctf:
        sign = -1 if settings.contrast is Contrast.RAW else 1
        return np.full((len(part), len(grid)), sign, dtype=np.float32), nothing, places
    if part.ctf is None:
        raise DataProblem(
            "particles without CTF parameters", "a defocus for each particle", "add the columns, or give --no-ctf"
        )
    factor = ctf_of_particles(group, part.ctf, kx, ky, contrast=settings.contrast, dtype=np.float32)
    if part.ctf_state is CtfState.PHASE_FLIPPED:
        # The images' phases are right already, up to the contrast that the whole stack has.
        factor = np.abs(factor) if settings.contrast is Contrast.INVERTED else -np.abs(factor)
    undo = wave_factor(-odd_phase(group, kx, ky)).astype(np.complex64) if has_odd_phase(group) else nothing
    if part.ctf_state in MULTIPLIED and settings.contrast is Contrast.RAW:
        undo = -undo  # dark protein stays dark under multiplication by +sin(gamma), and no factor here turns it
    return factor, undo, places


def wiener_snr(group: OpticsGroup) -> float:
    """The ratio that the images of this group were Wiener-filtered with. Raises DataProblem if it is not known."""
    if group.wiener_snr is None:
        raise DataProblem(
            f"the images of optics group '{group.name}' are Wiener-filtered with an unknown signal-to-noise ratio",
            "the ratio, from which their weights follow",
            "reconstruct from the images before the filter, or give --no-ctf to take them as plain projections",
        )
    return group.wiener_snr


def check_pixels(pixels: np.ndarray, part: Particles) -> None:
    """Raise DataProblem naming the first image with a pixel that is not a finite number."""
    # One pass: a sum is finite exactly when all of its terms are (float32 images are far from overflowing a float64 sum).
    bad = np.flatnonzero(~np.isfinite(pixels.sum(axis=(1, 2), dtype=np.float64)))
    if len(bad):
        raise DataProblem(
            f"image {part.names.text(bad[0])} holds NaN or infinite pixels",
            "finite numbers",
            "remove it; `vitreous check` counts such images",
        )


def finish_sums(accumulator: Accumulator, exact: np.ndarray) -> Sums:
    """Complete the half at x = 0 from its mirror image, apply the grid symmetries, fold the Nyquist planes."""
    sums = accumulator.sums
    plane = sums[:, :, 0]
    mirror = plane[::-1, ::-1] * np.array([1, -1, 1], dtype=plane.dtype)
    sums[:, :, 0] = plane + mirror
    if len(exact) > 1:
        sums = symmetrise(sums, exact)
    box, padding = accumulator.box, accumulator.padding
    folded = fold_nyquist(sums, box, padding)
    return Sums(complex_values(folded), np.ascontiguousarray(folded[..., 2]), box, padding)


def symmetrise(sums: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """`sum over S of sums(S k)` for signed permutation matrices S: flips and transpositions of the whole cube, no interpolation."""
    radius = sums.shape[2] - 1
    mirror = sums[::-1, ::-1, :0:-1] * np.array([1, -1, 1], dtype=sums.dtype)
    cube = np.concatenate([mirror, sums], axis=2)
    total = np.zeros_like(sums)
    for operator in exact:
        turned = operator[::-1, ::-1]  # rows and columns in the order of the axes, z y x
        source = np.abs(turned).argmax(axis=1)
        sign = turned[np.arange(3), source]
        flipped = cube[tuple(slice(None, None, -1) if s < 0 else slice(None) for s in sign)]
        total += flipped.transpose(*np.argsort(source), 3)[:, :, radius:]
    return total


def solve(halves: tuple[Sums, Sums], threads: int = -1) -> Reconstruction:
    """Half maps and the map from the sums of the two half sets, on so many threads (-1: one for each core)."""
    from vitreous.reconstruction.insertion_kernel import divide, shell_statistics

    first, second = halves
    box, padding = first.box, first.padding
    values, weights = (first.values, second.values), (first.weights, second.weights)
    floors = np.zeros((2, box // 2 + 1))
    statistics = shell_statistics(values, weights, box, floors)
    voxels = np.maximum(statistics[:, 0], 1)
    mean = np.maximum(statistics[:, 1:3].T / voxels, np.finfo(np.float32).tiny)
    statistics = shell_statistics(values, weights, box, LEAST_WEIGHT * mean)
    power = np.sqrt(statistics[:, 3] * statistics[:, 4])
    regularisation = mean.mean(axis=0) * noise_to_signal(
        statistics[:, 5] / np.maximum(power, np.finfo(np.float64).tiny)
    )
    correction = gridding_correction(box, padding, "linear", 3)
    half = np.empty(first.values.shape, dtype=np.complex64)

    def invert(numerator: np.ndarray, denominator: np.ndarray, gain: np.ndarray) -> np.ndarray:
        divide(numerator, denominator, box, regularisation, gain, half)
        return (inverse_to_box(half, box, threads) / correction).astype(np.float32)

    maps = [invert(v, w, 1 + regularisation / m) for v, w, m in zip(values, weights, mean, strict=True)]
    both = first + second
    whole = invert(both.values, both.weights, np.ones(len(voxels)))
    return Reconstruction((maps[0], maps[1]), whole, statistics[:, 6] / voxels, regularisation, mean.sum(axis=0))


def noise_to_signal(correlation: np.ndarray) -> np.ndarray:
    """`(1 - FSC) / FSC` per shell, between `LEAST_WEIGHT` and 1000; once the FSC has fallen below 0.01 it counts as gone."""
    kept = np.clip(correlation, 1e-3, 1 - LEAST_WEIGHT)
    below = np.flatnonzero(correlation[1:] < 0.01) + 1  # shell 0 is the mean of the map, a matter of normalisation
    if len(below):
        kept[below[0] :] = 1e-3
    return (1 - kept) / kept


def reconstruct(
    particles: Particles,
    settings: InversionSettings,
    progress: Progress = silent,
    *,
    workers: Workers | None = None,
) -> Reconstruction:
    """Reconstruct both half sets and solve for the maps. The result does not depend on the workers (default: threads of this process)."""
    if particles.half_set is None:
        raise DataProblem("particles without half sets", "a half set (1 or 2) for each particle")
    if particles.images is None:
        raise DataProblem("particles without images", "a file with image names")
    box = particles.images.shape[-1]
    particles = replace(particles, table=Table(), blocks={})  # what else the file says would travel with every chunk
    counter, workers = Counter(len(particles), progress), workers or LocalWorkers()
    sums = workers.sum_over(
        ShardTask(particles, settings, counter),
        half_set_shards(particles),
        add=HalfSums.absorb,
        at_once=fitting(Accumulator.bytes_of(box, settings.padding)),
        on_error=counter.stop,
        progress=lambda done, total: counter.reach(done * len(particles) // total),
    )
    exact, _ = split_symmetry(settings.operators)
    first, second = (finish_sums(half, exact) for half in sums.accumulators())
    return solve((first, second), min(workers.count, available_cores()))
