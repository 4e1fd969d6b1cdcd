"""The job `reconstruct`: particles with known poses become two half maps, a map, its resolution, and a report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from vitreous.geometry.symmetry import point_group
from vitreous.io.particles import write_particles
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.image_disc import disc_radius
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.map_products import MapAnalysis, analyse, save_maps
from vitreous.jobs.map_sections import map_sections, orientation_section
from vitreous.jobs.particle_input import (
    ParticleInput,
    declared_contrast,
    header_warning,
    ready_particles,
    stacks_of,
    with_half_sets,
)
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import InversionSettings, Reconstruction, reconstruct


@dataclass(frozen=True)
class Reconstruct(ClusterOptions, ParticleInput):
    """Settings of a reconstruction.

    Parameters
    ----------
    diameter
        Particle diameter in angstrom: images are masked by a soft disc of this size. 0 keeps whole images; by default the diameter is measured on a trial map.
    ctf
        Correct for the CTF.
    split
        Half sets: those of the file, or random ones.
    """

    diameter: float | None = field(default=None, kw_only=True)
    ctf: bool = field(default=True, kw_only=True)
    split: Literal["file", "random"] = field(default="file", kw_only=True)

    name: ClassVar[str] = "reconstruct"

    def inputs(self) -> list[Path]:
        return [self.particles, *self.passthrough]

    def run(self, desk: Desk) -> Outcome:
        group = point_group(self.symmetry)
        particles = ready_particles(self, use_ctf=self.ctf)
        particles, split_note = with_half_sets(particles, self.split, self.seed)
        settings = InversionSettings(
            group.operators, use_ctf=self.ctf, contrast=declared_contrast(particles, self.contrast)
        )
        settings = replace(settings, mask_radius=disc_radius(self.diameter, particles, settings))
        with workers_of(self) as workers:
            result = reconstruct(particles, settings, desk.progress("reconstruct"), workers=workers)
        analysis = analyse(result.half_maps, result.map, particles.pixel_size, seed=self.seed)
        save_maps(desk.folder, analysis)
        if split_note:
            write_particles(desk.folder / "particles.star", particles)
        return self.outcome(particles, settings, result, analysis, split_note)

    def outcome(
        self,
        particles: Particles,
        settings: InversionSettings,
        result: Reconstruction,
        analysis: MapAnalysis,
        split_note: str,
    ) -> Outcome:
        pixel_size, box = particles.pixel_size, result.map.shape[0]
        disc = None if settings.mask_radius is None else 2 * settings.mask_radius * pixel_size
        assert particles.half_set is not None
        halves = [int((particles.half_set == half).sum()) for half in (1, 2)]
        section, efficiency = orientation_section(particles, settings.operators, result.coverage, pixel_size)
        findings = [
            Finding(
                "particles",
                "particles",
                len(particles),
                meaning=f"Images that went into the map: {halves[0]} in one half set, {halves[1]} in the other.",
            ),
            Finding(
                "box",
                "box",
                box,
                "px",
                f"Images of {box} x {box} pixels of {pixel_size:.4g} Å; nothing finer than {2 * pixel_size:.2f} Å can be seen (Nyquist).",
            ),
            Finding(
                "symmetry",
                "symmetry",
                self.symmetry,
                meaning=f"Each image counts {len(settings.operators)} times, once for each of its equivalent orientations.",
            ),
            Finding(
                "disc_diameter_angstrom",
                "image disc",
                disc,
                "Å",
                "Images were masked by a soft disc of this diameter around the particle, which removes its neighbours.",
                0,
            ),
            *analysis.findings(),
            efficiency,
        ]
        outcome = Outcome(
            findings, analysis.warnings() + header_warning(particles), title=f"Reconstruction of {self.particles.name}"
        )
        if split_note:
            outcome.warnings.append(split_note)
        outcome.inputs = stacks_of(particles)
        outcome.headline = ("resolution_angstrom", "particles", "b_factor_angstrom2", "orientation_efficiency")
        outcome.subtitle = f"{len(particles):,} particles, {self.symmetry}, {box} px of {pixel_size:.4g} Å"
        outcome.tables = analysis.tables() | {"coverage": result.coverage.tolist(), "pixel_size_angstrom": pixel_size}
        outcome.sections = [*map_sections(outcome, analysis), section]
        return outcome
