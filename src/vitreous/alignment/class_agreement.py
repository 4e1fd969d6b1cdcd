"""How well each particle agrees with the others of its class: the test that an image without a particle fails.

The evidence of a particle counts its own noise, which is in its class average, and grows with its contrast: aggregates and small classes do well by
it. So each image is compared with the average of the others of its class, ring by ring, by a correlation that contrast does not enter:

    agreement_i(ring) = sum Re(conj(C_i A_-i) X_i) / sqrt(sum |C_i A_-i|^2 sum |X_i|^2),    A_-i = (N - n_i) / (D - d_i + lambda)

sums over the points of the ring, the image X_i at its most probable angle and origin. N = sum n_i, D = sum d_i over the particles of the class with
n = C X / sigma^2 and d = C^2 / sigma^2 turned back, lambda the prior on the power of the signal as in `class_averages`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.classification import Classification, ClassifySettings
from vitreous.alignment.masked_particles import MaskedParticles
from vitreous.alignment.polar_images import ImageSettings, PolarImages, power_spectra, read_polar_images
from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import LocalWorkers, Workers
from vitreous.fourier.polar import PolarGrid, angular_spectrum, from_angular_spectrum
from vitreous.model.particles import Particles

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

CHUNK = 512  # particles in one piece of work
AT_A_TIME = 256  # images in memory
GONE = 1 / 7  # a ring on which all particles together agree less than this tells nothing of one of them
INNERMOST = 3  # rings that always count: they have so few points that their mean means little


def class_agreement(
    particles: Particles,
    state: Classification,
    settings: ClassifySettings,
    *,
    workers: Workers | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, "n r"]:
    """The agreement of each particle with the others of its class on the rings 1, 2, ... cycles per box, from -1 to 1.

    Rings go as far as any average has more signal than noise. 0 for a particle without a class, or alone in it.
    """
    workers = workers or LocalWorkers()
    seen = MaskedParticles.seen(particles, settings)
    shown = int(np.flatnonzero((state.signal_to_noise > 1).any(axis=0)).max(initial=INNERMOST))
    grid = seen.grid(max(INNERMOST, shown))
    noise = state.noise[:, 1 : grid.last + 1]
    posed = PosedImages(
        replace(seen.particles, pose=None), grid, noise, seen.noise_group, seen.images, state.assignment
    )
    result = np.zeros((len(particles), grid.shape[0]))
    classified = np.flatnonzero(state.assignment.class_index >= 0)
    if not len(classified):
        return result
    chunks = seen.chunks(CHUNK, classified)
    totals = workers.sum_over(
        Totalling(posed, len(state.averages)), chunks, progress=lambda done, total: progress(done, 2 * total)
    )
    penalty = totals.weight.mean(axis=2) / (settings.tau_fudge * state.signal_to_noise[:, 1 : grid.last + 1])
    comparing = Comparing(posed, totals, penalty.astype(np.float32))
    found = workers.map_over(comparing, chunks, progress=lambda done, total: progress(total + done, 2 * total))
    for rows, part in zip(chunks, found):
        result[rows] = part
    return result


def overall_agreement(agreement: Float[np.ndarray, "n r"]) -> tuple[Float[np.ndarray, " n"], int]:
    """One number a particle, the mean over the rings on which all particles together agree by `GONE` or more; and how many rings these are."""
    mean = agreement.mean(axis=0)
    gone = np.flatnonzero(mean[INNERMOST:] < GONE)
    count = INNERMOST + int(gone[0]) if len(gone) else len(mean)
    return agreement[:, :count].mean(axis=1), count


@dataclass(frozen=True)
class ClassTotals:
    """N [k, r, h] and D [k, r, h] of each class."""

    data: Complex[np.ndarray, "k r h"]
    weight: Float[np.ndarray, "k r h"]

    def __add__(self, other: ClassTotals) -> ClassTotals:
        return ClassTotals(self.data + other.data, self.weight + other.weight)


@dataclass(frozen=True)
class PosedImages:
    """Particle images as their classes see them: moved to the middle and turned back. `noise` [g, r]; `group` [n]."""

    particles: Particles
    grid: PolarGrid
    noise: Float[np.ndarray, "g r"]
    group: np.ndarray
    images: ImageSettings
    assignment: Assignment

    def read(self, rows: np.ndarray) -> tuple[PolarImages, Complex[np.ndarray, "m r h"], Float[np.ndarray, "m r h"]]:
        """The images of these rows, of one group, and their n and d."""
        pose = self.assignment.pose
        origin = pose.shift[rows] / self.particles.pixel_size
        images = read_polar_images(
            self.particles.rows(rows), self.grid, self.images, origin, self.assignment.norm[rows]
        )
        weighted = images.weighted(self.noise[self.group[rows[0]]], np.ones(len(rows)))
        back = -pose.euler[rows, 2]
        return images, turned(weighted.data, back, self.grid), turned_power(weighted.power, back, self.grid)


@dataclass(frozen=True)
class Totalling:
    """N and D of the classes over chunks of particles."""

    posed: PosedImages
    classes: int

    def __call__(self, rows: np.ndarray) -> ClassTotals:
        shape = (self.classes, *self.posed.grid.shape)
        data, weight = np.zeros(shape, dtype=np.complex64), np.zeros(shape, dtype=np.float32)
        for start in range(0, len(rows), AT_A_TIME):
            part = rows[start : start + AT_A_TIME]
            _, own_data, own_weight = self.posed.read(part)
            np.add.at(data, self.posed.assignment.class_index[part], own_data)
            np.add.at(weight, self.posed.assignment.class_index[part], own_weight)
        return ClassTotals(data, weight)


@dataclass(frozen=True)
class Comparing:
    """The agreement [m, r] of chunks of particles. `penalty` [k, r]: lambda."""

    posed: PosedImages
    totals: ClassTotals
    penalty: Float[np.ndarray, "k r"]

    def __call__(self, rows: np.ndarray) -> Float[np.ndarray, "m r"]:
        parts = [self.compare(rows[start : start + AT_A_TIME]) for start in range(0, len(rows), AT_A_TIME)]
        return np.concatenate(parts)

    def compare(self, rows: np.ndarray) -> Float[np.ndarray, "m r"]:
        member = self.posed.assignment.class_index[rows]
        images, data, weight = self.posed.read(rows)
        others = np.maximum(self.totals.weight[member] - weight, 0)
        average = (self.totals.data[member] - data) / (others + self.penalty[member][:, :, None] + 1e-20)
        # On one ring the weights w / sigma^2 of all points are the same, and cancel.
        cross = (np.real(average) * np.real(data) + np.imag(average) * np.imag(data)).sum(axis=2, dtype=np.float64)
        model = (np.abs(average) ** 2 * weight).sum(axis=2, dtype=np.float64)
        unit = self.posed.grid.weight / self.posed.noise[self.posed.group[rows[0]]]
        power = (np.abs(images.values) ** 2).sum(axis=2, dtype=np.float64) * unit
        size = np.sqrt(model * power)
        everyone = self.posed.assignment.class_index
        alone = np.bincount(everyone[everyone >= 0], minlength=len(self.penalty))[member] < 2
        return np.where((size > 0) & ~alone[:, None], cross / np.where(size > 0, size, 1), 0.0)


def turned(
    values: Complex[np.ndarray, "m r h"], psi: Float[np.ndarray, " m"], grid: PolarGrid
) -> Complex[np.ndarray, "m r h"]:
    """Transforms x(theta + psi): of images turned by psi."""
    band = grid.angles // 2 + 1
    phases = np.exp(1j * np.multiply.outer(psi, np.arange(band))).astype(np.complex64)
    return from_angular_spectrum(angular_spectrum(values, band) * phases[:, None], grid.angles).astype(np.complex64)


def turned_power(
    power: Float[np.ndarray, "m r h"], psi: Float[np.ndarray, " m"], grid: PolarGrid
) -> Float[np.ndarray, "m r h"]:
    """The same for functions that repeat after half a turn."""
    import scipy.fft

    half = grid.angles // 2
    phases = np.exp(2j * np.multiply.outer(psi, np.arange(half // 2 + 1))).astype(np.complex64)
    spectra = power_spectra(power, half // 2 + 1) * phases[:, None]
    return np.asarray(scipy.fft.irfft(spectra, n=half, axis=-1, workers=1)).astype(np.float32)
