"""The defoci of particles between two rounds of a 3D refinement, by the means of `ctf refine`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.engine.compilation import use_persistent_cache
from vitreous.engine.local import Progress
from vitreous.errors import DataProblem
from vitreous.estimation.ctf_refinement import RefinementSettings, refine_ctf
from vitreous.estimation.micrograph_fit import Freedom
from vitreous.estimation.reference_images import References
from vitreous.jobs.refine_ctf_tables import micrographs_of
from vitreous.model.optics import CtfParameters
from vitreous.model.particles import Particles
from vitreous.reconstruction.fsc import half_map_curves
from vitreous.reconstruction.mask import automatic_mask

COARSEST = 30.0  # angstrom: solvent and mask spoil what is coarser


@dataclass(frozen=True)
class RefinedDefocus:
    """New CTFs of all particles, found with the state after `iteration`."""

    ctf: CtfParameters
    iteration: int


def better_defoci(
    particles: Particles, state: Refinement, settings: RefineSettings, progress: Callable[[str], Progress]
) -> RefinedDefocus:
    """Defocus of each particle and astigmatism of each micrograph, against the map of the particle's own half set.

    Raises DataProblem if the half maps agree at no resolution that would tell a defocus.
    """
    assert particles.ctf is not None
    first, second = state.half_maps[0, 0], state.half_maps[1, 0]
    mask = automatic_mask((first + second) / 2, particles.pixel_size)
    values = None if mask.empty else mask.values
    resolution = (
        half_map_curves(first, second, particles.pixel_size, mask=values, seed=settings.seed).resolution().value
    )
    if resolution is None or resolution > COARSEST / 2:
        raise DataProblem(
            f"--refine-defocus with half maps that agree to {'no resolution' if resolution is None else f'{resolution:.1f} A'}",
            f"half maps that agree to {COARSEST / 2:g} angstrom or better",
            "leave --refine-defocus out",
        )
    maps = tuple(half if values is None else half * values for half in (first, second))
    use_persistent_cache()
    micrographs = micrographs_of(particles)
    posed = replace(particles, pose=state.assignment.pose, half_set=state.half_set)
    known = micrographs is not None
    refined = refine_ctf(
        posed,
        References(maps, particles.pixel_size, COARSEST, resolution),
        RefinementSettings(Freedom("particle", astigmatism=known, common=known), contrast=settings.contrast),
        micrograph=None if micrographs is None else micrographs.index,
        progress=progress,
    )
    assert refined.particles.ctf is not None
    return RefinedDefocus(refined.particles.ctf, state.iteration)
