"""The ground of a landscape: the particles, their consensus map and noise, how far the images go, and who is left out of the training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.errors import SettingsProblem
from vitreous.heterogeneity.consensus import Consensus, consensus, whitened_reader
from vitreous.heterogeneity.particle_slices import SliceReader
from vitreous.jobs.image_disc import disc_radius
from vitreous.jobs.landscape_input import LandscapeInput
from vitreous.jobs.map_products import MapAnalysis, analyse
from vitreous.jobs.particle_input import declared_contrast
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import InversionSettings

BEYOND = 1.1  # a latent can show detail a little finer than the consensus, in which moving parts are blurred
COARSEST = 6  # rings that are always used
HELD_OUT, MOST_HELD_OUT, FEWEST = (
    0.1,
    1000,
    100,
)  # fraction and number of particles that are not trained on; none of fewer than FEWEST particles


@dataclass(frozen=True)
class Ground:
    """`reader` gives slices in units of their noise within `radius` cycles per box. `trained` and `held_out` are rows of the particles."""

    particles: Particles
    inversion: InversionSettings
    consensus: Consensus
    analysis: MapAnalysis
    reader: SliceReader
    radius: float
    trained: np.ndarray
    held_out: np.ndarray

    @property
    def box(self) -> int:
        return self.consensus.map.shape[0]

    @property
    def particle_radius(self) -> float:
        """Radius of the particle in voxels."""
        return self.inversion.mask_radius or 0.4 * self.box


def ground_of(particles: Particles, job: LandscapeInput, progress: Progress = silent) -> Ground:
    """Everything that holds before anything is learned. The particles have half sets."""
    assert particles.images is not None
    settings = InversionSettings(np.eye(3)[None], use_ctf=job.ctf, contrast=declared_contrast(particles, job.contrast))
    settings = replace(settings, mask_radius=disc_radius(job.diameter, particles, settings))
    together = consensus(particles, settings, progress)
    analysis = analyse(together.half_maps, together.map, particles.pixel_size, seed=job.seed)
    radius = final_radius(analysis, job.finest, together.map.shape[0])
    reader = whitened_reader(particles, settings, together.sigma, radius)
    trained, held_out = split(len(particles), job.seed)
    return Ground(particles, settings, together, analysis, reader, radius, trained, held_out)


def final_radius(analysis: MapAnalysis, finest: float | None, box: int) -> float:
    """Cycles per box up to which images are compared: of `finest` angstrom, or a tenth beyond where the half maps agree."""
    width = box * analysis.pixel_size
    if finest is not None:
        if not 2 * analysis.pixel_size <= finest <= width / COARSEST:
            raise SettingsProblem(
                f"--finest {finest:g}",
                f"a resolution from {2 * analysis.pixel_size:.2f} (Nyquist) to {width / COARSEST:.0f} angstrom",
            )
        return width / finest
    resolution = analysis.resolution.value
    return box / 2 if resolution is None else float(np.clip(BEYOND * width / resolution, COARSEST, box / 2))


def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are trained on, and a tenth, at most MOST_HELD_OUT, that only judge what was learned."""
    if count < FEWEST:
        return np.arange(count), np.arange(0)
    order = np.random.default_rng([seed, 4]).permutation(count)
    aside = min(int(HELD_OUT * count), MOST_HELD_OUT)
    return np.sort(order[aside:]), np.sort(order[:aside])
