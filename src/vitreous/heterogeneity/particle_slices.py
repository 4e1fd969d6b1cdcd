"""Particles as every landscape sees them: slices of the object's transform, centred, in units of their noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.particles import Particles
from vitreous.model.table import Table
from vitreous.optics.aberrations import magnify
from vitreous.reconstruction.direct_inversion import InversionSettings, measured_slices
from vitreous.reconstruction.projection import SliceGrid

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


@dataclass(frozen=True)
class ParticleSlices:
    """n particles at the p pixels of a SliceGrid: `value = transfer x F(points) + noise`, where noise has E|noise|^2 = 1.

    So the log-likelihood of a map with the transform F is, but for a constant, `-sum_p |value - transfer F(point)|^2`: each pixel stands for
    itself and its conjugate. `basis` [n, 2, 3]: the pixel (kx, ky) lies at the frequency `kx basis[0] + ky basis[1]` of the object (x, y, z), in
    cycles per box; its rows are those of the particle's rotation, and anisotropic magnification is in it.
    """

    values: Complex[np.ndarray, "n p"]
    transfer: Float[np.ndarray, "n p"]
    basis: Float[np.ndarray, "n 2 3"]

    def __len__(self) -> int:
        return len(self.values)

    def points(self, grid: SliceGrid) -> Float[np.ndarray, "n p 3"]:
        """Where each pixel lies in the object's transform."""
        plane = np.stack([grid.kx, grid.ky], axis=-1).astype(self.basis.dtype)
        return plane @ self.basis

    def rows(self, selection: np.ndarray | slice) -> ParticleSlices:
        """Some of these particles."""
        return ParticleSlices(self.values[selection], self.transfer[selection], self.basis[selection])


@dataclass(frozen=True)
class SliceReader:
    """Reads any particles of a set as ParticleSlices at the pixels of `grid`.

    `sigma` [g, s]: the noise of each optics group in each shell, `sqrt E|F|^2` of the transforms; None leaves values as they are.
    """

    particles: Particles
    settings: InversionSettings
    grid: SliceGrid
    sigma: np.ndarray | None = None

    def __post_init__(self) -> None:
        lean = replace(
            self.particles, table=Table(), blocks={}
        )  # what else the file says would be sliced with every batch
        object.__setattr__(self, "particles", lean)

    def __len__(self) -> int:
        return len(self.particles)

    def rows(self, selection: np.ndarray) -> SliceReader:
        """A reader of some of the particles."""
        return replace(self, particles=self.particles.rows(selection))

    def read(self, rows: np.ndarray) -> ParticleSlices:
        """The slices of these particles, in this order. DataProblem names an image with pixels that are no numbers."""
        rows = np.asarray(rows)
        part = self.particles.rows(rows)
        if part.images is None or part.pose is None:
            raise DataProblem("particles without images or poses", "a file with image names, angles and shifts")
        count, pixels = len(rows), len(self.grid)
        values = np.empty((count, pixels), dtype=np.complex64)
        transfer = np.empty((count, pixels), dtype=np.float32)
        basis = np.empty((count, 2, 3), dtype=np.float32)
        for group in np.unique(part.optics_index):
            members = np.flatnonzero(part.optics_index == group)
            some = part if len(members) == count else part.rows(members)
            assert some.pose is not None
            value, factor, (true_x, true_y) = measured_slices(some, self.settings, self.grid)
            beyond = np.hypot(true_x, true_y) >= self.grid.box / 2  # after a magnification
            scale = self._scale(int(group))
            values[members], transfer[members] = value * scale, np.where(beyond, 0, factor * scale)
            matrix = part.optics[group].magnification
            axes = np.array([magnify(1.0, 0.0, matrix), magnify(0.0, 1.0, matrix)])  # where kx = 1 and ky = 1 lie
            basis[members] = axes @ matrix_from_euler(some.pose.euler)[:, :2]
        return ParticleSlices(values, transfer, basis)

    def _scale(self, group: int) -> np.ndarray | np.float32:
        if self.sigma is None:
            return np.float32(1)
        return (1 / self.sigma[group][self.grid.shell]).astype(np.float32)
