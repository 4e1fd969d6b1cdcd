"""Particles as alignment sees them: masked about their origins, on rings, their noise known by groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment, unassigned
from vitreous.alignment.class_matching import chunk_rows
from vitreous.alignment.noise_start import NoiseStart, NoiseStartSums
from vitreous.alignment.polar_images import ImageSettings, disc_area
from vitreous.alignment.settings import AlignmentSettings
from vitreous.engine.workers import Workers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.polar import PolarGrid, polar_grid
from vitreous.model.particles import Particles
from vitreous.model.table import Table
from vitreous.reconstruction.direct_inversion import MASK_EDGE

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class MaskedParticles:
    """`particles` without what only files need, `radius` of the mask (pixels), the `noise_group` of each, how `images` are read, and the origin `home` (pixels)
    that the file gives each.
    """

    particles: Particles
    radius: float
    noise_group: Int[np.ndarray, " n"]
    images: ImageSettings
    home: Float[np.ndarray, "n 2"]

    @staticmethod
    def seen(particles: Particles, settings: AlignmentSettings) -> MaskedParticles:
        """As the settings say. Raises DataProblem for particles without images, SettingsProblem for a mask that does not fit them."""
        if particles.images is None:
            raise DataProblem("particles without images", "a file with image names")
        box, pixel_size, diameter = particles.images.shape[-1], particles.pixel_size, settings.diameter
        radius = diameter / 2 / pixel_size - MASK_EDGE / 2
        if not 2 <= radius <= box / 2:
            raise SettingsProblem(
                f"a mask of {diameter:g} angstrom for a box of {box * pixel_size:.0f}",
                f"between {(4 + MASK_EDGE) * pixel_size:.0f} and {box * pixel_size:.0f} angstrom",
                "give the particle's --diameter",
            )
        home = np.zeros((len(particles), 2)) if particles.pose is None else particles.pose.shift / pixel_size
        images = ImageSettings(radius, settings.use_ctf, settings.contrast)
        lean = replace(particles, table=Table(), blocks={})
        return MaskedParticles(lean, radius, particles.optics_index.astype(int), images, home)

    @property
    def box(self) -> int:
        assert self.particles.images is not None
        return self.particles.images.shape[-1]

    @property
    def width(self) -> float:
        """The box in angstrom."""
        return self.box * self.particles.pixel_size

    @property
    def nyquist(self) -> int:
        """The last ring whose points all lie below Nyquist."""
        return (self.box + 1) // 2 - 1

    @property
    def disc(self) -> float:
        """The share of white noise that the mask lets through."""
        return disc_area(self.radius) / self.box**2

    @property
    def turns(self) -> int:
        """The number of in-plane angles of a circle is a multiple of this."""
        return 1

    def grid(self, last: int) -> PolarGrid:
        """The rings up to `last`, with as many points as the masked particle needs."""
        return polar_grid(self.box, last, extent=2 * (self.radius + MASK_EDGE), turns=self.turns)

    def chunks(
        self, size: int, rows: Int[np.ndarray, " m"] | None = None, *, half: Int[np.ndarray, " n"] | None = None
    ) -> list[np.ndarray]:
        """Particles (all, or `rows`) in pieces of at most `size`, of one noise group and, if it is given, one half set (0 or 1)."""
        cohort = self.noise_group if half is None else 2 * self.noise_group + half
        return chunk_rows(cohort, size, rows)

    def first_look(
        self, workers: Workers, size: int, chosen: Int[np.ndarray, " n"], subsets: int
    ) -> tuple[NoiseStartSums, Float[np.ndarray, "g s"], Assignment]:
        """What the images say before they are compared with anything: sums of the random `subsets` that are `chosen` [n], spectra of the noise of each group, and
        particles without class and pose whose norm is known. Reads them in pieces of `size`.
        """
        grid = self.grid(self.nyquist)
        reading = NoiseStart(self.particles, grid, self.images, self.noise_group, chosen, subsets, self.home)
        sums: NoiseStartSums = workers.sum_over(reading, self.chunks(size))
        norm = np.ones(len(self.particles))
        norm[sums.rows] = sums.norm
        assignment = replace(unassigned(len(self.particles), self.particles.pose), norm=norm)
        return sums, sums.noise(grid, self.disc), assignment
