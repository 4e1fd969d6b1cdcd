"""The job `ctf refine`: particles with poses get better CTFs by comparison with a map that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.estimation.ctf_refinement import CtfRefinement, RefinementSettings, refine_ctf
from vitreous.estimation.micrograph_fit import Freedom
from vitreous.estimation.reference_images import References
from vitreous.io.mrc import read_volume
from vitreous.io.particles import write_particles
from vitreous.io.star import write_star
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.particle_input import ParticleInput, declared_contrast, header_warning, ready_particles, stacks_of
from vitreous.jobs.postprocess import read_mask, read_pair
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.refine_ctf_findings import refinement_findings, refinement_warnings
from vitreous.jobs.refine_ctf_sections import refinement_sections
from vitreous.jobs.refine_ctf_tables import Micrographs, micrograph_rows, micrographs_of, with_errors
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import half_map_curves
from vitreous.reconstruction.mask import Mask, automatic_mask
from vitreous.units import MICROMETRE

REFINED = "particles_ctf_refined.star"
MICROGRAPHS = "micrographs_ctf_refined.star"


@dataclass(frozen=True)
class RefineCtf:
    """Settings of a CTF refinement.

    Parameters
    ----------
    particles
        Particle file with poses and CTFs: STAR (.star) or cryoSPARC (.cs, .csg).
    reference
        Map that the poses belong to, in the box of the particles. Better give two half maps.
    half_maps
        Half maps 1 and 2: each particle is compared with that of its own half set, so that the halves stay independent and the resolution in use is theirs.
    mask
        Soft mask for the reference, values from 0 to 1; by default one is made.
    automatic_mask
        Make a mask where none is given.
    defocus
        Fit a defocus for each particle, one change for all particles of a micrograph, or none.
    astigmatism
        Fit one change of astigmatism for each micrograph, or none. By default fitted where the file names micrographs.
    beam_tilt
        Fit the beam tilt of each optics group.
    magnification
        Fit the anisotropic magnification of each optics group.
    defocus_range_um
        Largest change of defocus, in micrometre, that is looked for on either side.
    spread
        Standard deviation, in angstrom, of the defoci of the particles of a micrograph about their mean; measured unless given.
    astigmatism_spread
        Standard deviation, in angstrom, that each component of a change of astigmatism is expected to have.
    resolution
        Finest resolution in angstrom that is compared; by default that of the half maps (FSC 0.143), or with one map the pixel size's.
    coarsest
        Coarsest resolution in angstrom that is compared: solvent and mask spoil what is coarser.
    passes
        How often everything is refined in turn, at most.
    datadir
        Folder in which the image paths of the file start, if not beside the file.
    passthrough
        cryoSPARC files with the columns that the particle file lacks, merged by uid.
    contrast
        Sign of the protein in the images: inverted (bright), raw (dark), or what the file records; inverted if it records nothing.
    pixel_size
        Pixel size in angstrom of particles and maps, instead of their files'.
    seed
        Seed of the phase randomisation behind the resolution of the half maps.
    """

    particles: Path
    reference: Path | None = field(default=None, kw_only=True)
    half_maps: tuple[Path, Path] | None = field(default=None, kw_only=True)
    mask: Path | None = field(default=None, kw_only=True)
    automatic_mask: bool = field(default=True, kw_only=True)
    defocus: Literal["particle", "micrograph", "none"] = field(default="particle", kw_only=True)
    astigmatism: Literal["micrograph", "none"] | None = field(default=None, kw_only=True)
    beam_tilt: bool = field(default=False, kw_only=True)
    magnification: bool = field(default=False, kw_only=True)
    defocus_range_um: float = field(default=0.2, kw_only=True)
    spread: float | None = field(default=None, kw_only=True)
    astigmatism_spread: float = field(default=300.0, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    coarsest: float = field(default=30.0, kw_only=True)
    passes: int = field(default=3, kw_only=True)
    datadir: Path | None = field(default=None, kw_only=True)
    passthrough: tuple[Path, ...] = field(default=(), kw_only=True)
    contrast: Literal["file", "inverted", "raw"] = field(default="file", kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "ctf refine"

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=(
                "defocus_range_um",
                "spread",
                "astigmatism_spread",
                "resolution",
                "coarsest",
                "pixel_size",
                "passes",
            ),
        )
        if (self.reference is None) == (self.half_maps is None):
            raise SettingsProblem(
                "no reference" if self.reference is None else "--reference and --half-maps together",
                "a map (--reference MAP) or two half maps (--half-maps HALF1 HALF2)",
            )
        if self.resolution is not None and self.resolution >= self.coarsest:
            raise SettingsProblem(
                f"--resolution {self.resolution:g} and --coarsest {self.coarsest:g}", "the finer one as --resolution"
            )
        if self.defocus == "none" and self.astigmatism == "none" and not (self.beam_tilt or self.magnification):
            raise SettingsProblem(
                "nothing to be fitted", "one of --defocus, --astigmatism, --beam-tilt, --magnification"
            )

    def inputs(self) -> list[Path]:
        maps = [self.reference, *(self.half_maps or ()), self.mask]
        return [self.particles, *self.passthrough, *(path for path in maps if path is not None)]

    def run(self, desk: Desk) -> Outcome:
        use_persistent_cache()
        particles = self.read_particles()
        micrographs = micrographs_of(particles)
        settings = self.settings(particles, micrographs)
        references, resolution = self.references(particles)
        refined = refine_ctf(
            particles,
            references,
            settings,
            micrograph=None if micrographs is None else micrographs.index,
            progress=desk.progress,
        )
        table = micrograph_rows(refined, micrographs)
        write_particles(desk.folder / REFINED, with_errors(refined))
        if micrographs is not None:
            write_star(desk.folder / MICROGRAPHS, {"micrographs": table})
        return self.outcome(particles, refined, settings, micrographs, resolution)

    def read_particles(self) -> Particles:
        source = ParticleInput(
            self.particles, datadir=self.datadir, passthrough=self.passthrough, pixel_size=self.pixel_size
        )
        return ready_particles(source, use_ctf=True)

    def settings(self, particles: Particles, micrographs: Micrographs | None) -> RefinementSettings:
        if micrographs is None and (self.defocus == "micrograph" or self.astigmatism == "micrograph"):
            option = "--defocus" if self.defocus == "micrograph" else "--astigmatism"
            raise DataProblem(
                f"{option} micrograph for {self.particles}, which names no micrographs",
                "a column rlnMicrographName",
                f"give {option} {'particle' if option == '--defocus' else 'none'}",
            )
        freedom = Freedom(
            self.defocus,
            astigmatism=micrographs is not None and self.astigmatism != "none",
            common=micrographs is not None,
            astigmatism_spread=self.astigmatism_spread,
            reach=self.defocus_range_um * MICROMETRE,
        )
        if self.defocus == "none" and not (freedom.astigmatism or self.beam_tilt or self.magnification):
            raise DataProblem(
                f"--defocus none for {self.particles}, which names no micrographs and so has no astigmatism to be fitted",
                "something to be fitted",
                "give --beam-tilt or --magnification",
            )
        return RefinementSettings(
            freedom,
            self.spread,
            self.beam_tilt,
            self.magnification,
            declared_contrast(particles, self.contrast),
            self.passes,
        )

    def references(self, particles: Particles) -> tuple[References, float | None]:
        """The masked maps and the resolutions in use; and the resolution of the half maps, None with one map."""
        if self.half_maps is not None:
            volumes = read_pair(*self.half_maps, self.pixel_size)
            if particles.half_set is None:
                raise DataProblem(
                    f"--half-maps for {self.particles}, which names no half sets",
                    "a half set (rlnRandomSubset) for each particle",
                    "use the particles.star that `vitreous reconstruct` wrote beside the half maps",
                )
        else:
            assert self.reference is not None
            volumes = (read_reference(self.reference, self.pixel_size),)
        mask = self.chosen_mask(volumes)
        resolution = None
        if len(volumes) == 2:
            values = None if mask is None else mask.values
            curves = half_map_curves(
                volumes[0].data, volumes[1].data, volumes[0].pixel_size, mask=values, seed=self.seed
            )
            resolution = curves.resolution().value
            if resolution is None and self.resolution is None:
                raise DataProblem(
                    "half maps that agree at no resolution", "an FSC above 0.143", "give --resolution, or better maps"
                )
        maps = tuple(volume.data if mask is None else volume.data * mask.values for volume in volumes)
        finest = self.resolution or resolution or 2 * volumes[0].pixel_size
        return References(maps, volumes[0].pixel_size, self.coarsest, finest), resolution

    def chosen_mask(self, volumes: tuple[Volume, ...]) -> Mask | None:
        if self.mask is not None:
            return read_mask(self.mask, volumes[0])
        if not self.automatic_mask:
            return None
        mask = automatic_mask(np.asarray(sum(volume.data for volume in volumes)), volumes[0].pixel_size)
        return None if mask.empty else mask

    def outcome(
        self,
        particles: Particles,
        refined: CtfRefinement,
        settings: RefinementSettings,
        micrographs: Micrographs | None,
        resolution: float | None,
    ) -> Outcome:
        findings = refinement_findings(refined, settings, micrographs)
        outcome = Outcome(findings, title=f"CTF refinement of {self.particles.name}")
        outcome.warnings = header_warning(particles) + refinement_warnings(refined, settings, resolution)
        if self.reference is not None:
            outcome.warnings.append(
                "One map for all particles: if it was made of them, their noise is in it and is refined against itself. "
                "Half maps (--half-maps) avoid that."
            )
        outcome.inputs = stacks_of(particles)
        outcome.headline = ("particles", "log_likelihood_gain", "defocus_change_rms_angstrom", "defocus_sigma_angstrom")
        outcome.subtitle = (
            f"{len(particles):,} particles, {refined.images.references.box} px of {particles.pixel_size:.4g} Å"
        )
        outcome.tables = {"per_micrograph": micrograph_rows(refined, micrographs).columns} if micrographs else {}
        outcome.sections = refinement_sections(outcome, refined, settings, micrographs)
        return outcome


def read_reference(path: Path, pixel_size: float | None) -> Volume:
    """A map without NaN."""
    volume = read_volume(path, pixel_size)
    if not np.isfinite(volume.data).all():
        raise DataProblem(f"{path} holds NaN or infinite voxels", "finite numbers")
    return replace(volume, data=np.asarray(volume.data, dtype=np.float32))
