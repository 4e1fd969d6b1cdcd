"""The job `reconstruct`: particles with known poses become two half maps, a map, its resolution, and a report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.symmetry import point_group
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.map_products import MapAnalysis, analyse, save_maps
from vitreous.jobs.map_sections import map_sections, orientation_section
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import InversionSettings, Reconstruction, reconstruct
from vitreous.reconstruction.particle_extent import particle_radius

# Hashing thousands of stacks would take longer than reading them.
STACKS_RECORDED = 64


@dataclass(frozen=True)
class Reconstruct:
    """Settings of a reconstruction.

    Parameters
    ----------
    particles
        Particle file with poses: STAR (.star) or cryoSPARC (.cs, .csg).
    symmetry
        Point group: C1, C2, D2, T, O, I, ...
    datadir
        Folder in which the image paths of the file start, if not beside the file.
    diameter
        Particle diameter in angstrom: images are masked by a soft disc of this size. 0 keeps whole images; by default the diameter is measured on a trial map.
    contrast
        Sign of the protein in the images: inverted (bright), raw (dark), or what the file records; inverted if it records nothing.
    ctf
        Correct for the CTF.
    split
        Half sets: those of the file, or random ones.
    pixel_size
        Pixel size in angstrom, instead of the file's.
    seed
        Seed of the random split and of the phase randomisation.
    """

    particles: Path
    symmetry: str = field(default="C1", kw_only=True)
    datadir: Path | None = field(default=None, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    contrast: Literal["file", "inverted", "raw"] = field(default="file", kw_only=True)
    ctf: bool = field(default=True, kw_only=True)
    split: Literal["file", "random"] = field(default="file", kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "reconstruct"

    def inputs(self) -> list[Path]:
        return [self.particles]

    def run(self, desk: Desk) -> Outcome:
        group = point_group(self.symmetry)
        particles = ready_particles(self.particles, datadir=self.datadir, pixel_size=self.pixel_size, use_ctf=self.ctf)
        particles, split_note = with_half_sets(particles, self.split, self.seed)
        settings = InversionSettings(
            group.operators, use_ctf=self.ctf, contrast=declared_contrast(particles, self.contrast)
        )
        settings = replace(settings, mask_radius=self.mask_radius(particles, settings))
        result = reconstruct(particles, settings, desk.progress("reconstruct"))
        analysis = analyse(result.half_maps, result.map, particles.pixel_size, seed=self.seed)
        save_maps(desk.folder, analysis)
        if split_note:
            write_particles(desk.folder / "particles.star", particles)
        return self.outcome(particles, settings, result, analysis, split_note)

    def mask_radius(self, particles: Particles, settings: InversionSettings) -> float | None:
        """Radius in pixels of the disc that images are masked with; None for whole images."""
        if self.diameter is None:
            return particle_radius(particles, settings)
        if self.diameter < 0:
            raise SettingsProblem(f"--diameter {self.diameter}", "a positive number of angstrom, or 0 for whole images")
        return self.diameter / 2 / particles.pixel_size or None

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
        outcome = Outcome(findings, analysis.warnings(), title=f"Reconstruction of {self.particles.name}")
        if split_note:
            outcome.warnings.append(split_note)
        outcome.inputs = stacks_of(particles)
        outcome.headline = ("resolution_angstrom", "particles", "b_factor_angstrom2", "orientation_efficiency")
        outcome.subtitle = f"{len(particles):,} particles, {self.symmetry}, {box} px of {pixel_size:.4g} Å"
        outcome.tables = analysis.tables() | {"coverage": result.coverage.tolist(), "pixel_size_angstrom": pixel_size}
        outcome.sections = [*map_sections(outcome, analysis), section]
        return outcome


def ready_particles(path: Path, *, datadir: Path | None, pixel_size: float | None, use_ctf: bool) -> Particles:
    """Particles that a reconstruction can take, or an error that says what they lack."""
    particles = read_particles(path, datadir=datadir, pixel_size=pixel_size)
    if particles.pose is None:
        raise DataProblem(
            f"{path} gives no orientations", "angles for each particle", "use a file that a refinement has written"
        )
    if use_ctf and particles.ctf is None:
        raise DataProblem(
            f"{path} gives no defocus", "CTF parameters for each particle", "estimate the CTF first, or give --no-ctf"
        )
    if use_ctf:
        for group in particles.used_optics():
            group.require("voltage", "spherical_aberration", "amplitude_contrast")
    particles.pixel_size  # noqa: B018 - mixed or unknown pixel sizes are refused here
    particles.ctf_state  # noqa: B018
    if not use_ctf and particles.ctf_state is CtfState.PREMULTIPLIED:
        raise SettingsProblem(
            f"--no-ctf for {path}, whose images are CTF-premultiplied", "images without the CTF in them"
        )
    return particles


def stacks_of(particles: Particles) -> list[Path]:
    """The image stacks, for provenance: the first `STACKS_RECORDED` of them."""
    headers = getattr(particles.images, "headers", ())
    return [header.path for header in headers if header is not None][:STACKS_RECORDED]


def declared_contrast(particles: Particles, option: str) -> Contrast:
    """The contrast that an option names; "file" is what the file records, and bright protein if it records nothing."""
    if option != "file":
        return Contrast(option)
    return Contrast.INVERTED if particles.contrast is Contrast.UNKNOWN else particles.contrast


def with_half_sets(particles: Particles, split: str, seed: int) -> tuple[Particles, str]:
    """The particles with half sets, and a sentence if these were made here."""
    if split == "file" and particles.half_set is not None:
        return particles, ""
    halves = np.random.default_rng(seed).permutation(np.arange(len(particles)) % 2 + 1).astype(np.int8)
    reason = "The file names no half sets" if particles.half_set is None else "As asked"
    note = f"{reason}: they were drawn at random (seed {seed}) and written to particles.star; poses refined together make their FSC optimistic."
    return replace(particles, half_set=halves), note
