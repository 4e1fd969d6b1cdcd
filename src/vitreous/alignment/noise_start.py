"""What is known before the first iteration: the noise of each group, the norm of each image, and averages of random subsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.class_averages import masked
from vitreous.alignment.polar_images import ImageSettings, read_polar_images
from vitreous.errors import DataProblem
from vitreous.fourier.polar import PolarGrid, from_polar
from vitreous.model.particles import Particles

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

READ_AT_A_TIME = 128


@dataclass(frozen=True)
class NoiseStartSums:
    """`power` [g, r]: sum of |X|^2 over circles; `count` [g]; `data`, `weight` [k, r, h] of random subsets; `spectra` [n, r]
    mean |X|^2 of each of `rows` [n], of `group` [n]."""

    power: Float[np.ndarray, "g r"]
    count: Float[np.ndarray, " g"]
    data: Complex[np.ndarray, "k r h"]
    weight: Float[np.ndarray, "k r h"]
    rows: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    spectra: Float[np.ndarray, "n r"]

    def __add__(self, other: NoiseStartSums) -> NoiseStartSums:
        return NoiseStartSums(
            self.power + other.power,
            self.count + other.count,
            self.data + other.data,
            self.weight + other.weight,
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("rows", "group", "spectra")),
        )

    def noise(self, grid: PolarGrid, passed: float) -> Float[np.ndarray, "g s"]:
        """Variance of unmasked noise per shell: all power counts as noise at first. Shell 0, which is never compared, repeats shell 1."""
        rings = self.power / (np.maximum(self.count, 1)[:, None] * grid.angles * passed)
        rings = np.where(self.count[:, None] > 0, rings, 1.0)
        return np.concatenate([rings[:, :1], rings], axis=1)

    @property
    def norm(self) -> Float[np.ndarray, " n"]:
        """Root of each image's power over that of its group, over the outer half of the rings, where noise is nearly all there is."""
        outer = slice(self.spectra.shape[1] // 2, None)
        mean = self.power / np.maximum(self.count, 1)[:, None]
        return np.sqrt((self.spectra[:, outer] / mean[self.group][:, outer]).mean(axis=1))

    def averages(self, grid: PolarGrid, radius: float, last: float) -> Float[np.ndarray, "k y x"]:
        """Averages of the random subsets on the rings up to `last`, corrected for the CTF as if the SSNR were 1 / 5."""
        damped = self.weight + 5 * self.weight.mean(axis=2, keepdims=True) + 1e-20
        values = (self.data / damped * (grid.ring <= last)[:, None]).astype(np.complex64)
        return masked(from_polar(values, grid), radius)


@dataclass(frozen=True)
class NoiseStart:
    """`start(rows) -> NoiseStartSums`, rows of one optics group. `chosen` [n]: the random subset of each particle, of `subsets`."""

    particles: Particles
    grid: PolarGrid
    images: ImageSettings
    group: Int[np.ndarray, " n"]
    chosen: Int[np.ndarray, " n"]
    subsets: int
    origin: Float[np.ndarray, "n 2"]

    def __call__(self, rows: Int[np.ndarray, " n"]) -> NoiseStartSums:
        groups, shape = int(self.group.max()) + 1, self.grid.shape
        group = int(self.group[rows[0]])
        power, count = np.zeros((groups, shape[0])), np.zeros(groups)
        data = np.zeros((self.subsets, *shape), dtype=np.complex64)
        weight = np.zeros((self.subsets, *shape), dtype=np.float32)
        spectra = np.zeros((len(rows), shape[0]))
        count[group] = len(rows)
        for start in range(0, len(rows), READ_AT_A_TIME):
            part = rows[start : start + READ_AT_A_TIME]
            read = read_polar_images(
                self.particles.rows(part), self.grid, self.images, self.origin[part], np.ones(len(part))
            )
            here = 2 * (np.abs(read.values) ** 2).sum(axis=2, dtype=np.float64)
            self.refuse_flat(here, part)
            spectra[start : start + len(part)] = here
            power[group] += here.sum(axis=0)
            weighted = read.weighted(np.ones(shape[0]), np.ones(len(part)))
            np.add.at(data, self.chosen[part], weighted.data)
            np.add.at(weight, self.chosen[part], weighted.power)
        return NoiseStartSums(power, count, data, weight, rows, np.full(len(rows), group), spectra)

    def refuse_flat(self, power: Float[np.ndarray, "n r"], rows: Int[np.ndarray, " n"]) -> None:
        """Raise DataProblem naming the first image without any variation."""
        flat = np.flatnonzero(power.sum(axis=1) <= 0)
        if len(flat):
            raise DataProblem(
                f"image {self.particles.names.text(int(rows[flat[0]]))} is constant (zero variance)",
                "images of particles",
                "remove it; `vitreous check` finds such images",
            )
