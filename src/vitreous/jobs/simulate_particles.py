"""The job `simulate particles`: a model or a map becomes a stack of particle images of which everything is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.detection.detectors import detector
from vitreous.detection.recording import dose_per_pixel, sparse_dose
from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.io.particles import write_particles
from vitreous.jobs.imaging_input import ImagingInput
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.report import Source
from vitreous.jobs.simulation_findings import (
    b_factor_warning,
    hydrogen_warning,
    model_findings,
    simulation_findings,
    slab_warning,
)
from vitreous.jobs.simulation_sections import simulation_sections
from vitreous.jobs.specimen import Specimen, radius
from vitreous.model.atoms import Atoms
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.optics.electrons import interaction_constant
from vitreous.scattering.ladder import FLAT, scattering_model
from vitreous.simulation.images import TRIAL_IMAGES, Projector, signal_variance
from vitreous.simulation.noise import Noise, falling_power
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.simulation.recorded_images import ParticleImages, Recording
from vitreous.simulation.wave_images import AtomicScene
from vitreous.specimen.potential import centre_of_mass
from vitreous.specimen.profiles import atom_profiles

STACK = "particles.mrcs"
SNR = 0.1
DETECTOR = "ideal"
SLICE_THICKNESS = 5.0  # angstrom
THREADS = 2
ModelName = Literal["projection", "weak_phase", "phase_object", "ewald", "thick_phase_grating", "rytov", "multislice"]


@dataclass(frozen=True)
class SimulateParticles(ImagingInput):
    """Settings of a simulated set of particles.

    Parameters
    ----------
    specimen
        Atomic model (.cif, .pdb), map (.mrc, .map), or one of bundled:6zu5 (a ribosome), bundled:4ake and bundled:1ake
        (adenylate kinase, open and closed).
    box
        Box of the images in pixels. By default 1.5 times the diameter of a model, or the box of a map; a map is cropped
        to a smaller one in Fourier space.
    pixel_size
        Pixel size in angstrom. Needed for a model; for a map it replaces the one of its header.
    count
        Number of particles.
    resolution
        Finest detail in angstrom that the images must be able to show: a pixel size too coarse for it is refused.
    hydrogens
        Hydrogens as they are in the file, or implicit: those missing are added, spread around their parents.
    solvent
        What the atoms displace: none (vacuum), or displaced, a continuum of ice.
    inner_potential
        Mean inner potential of the displaced solvent in volt; 4.526 (ice of 0.93 g/cm³) unless given.
    model
        How electrons are scattered: projection (the image is linear in the projected map), or a wave through the atoms
        of each particle: weak_phase, phase_object, ewald, thick_phase_grating, rytov, multislice.
    slice_thickness
        Thickness in angstrom of the slabs into which the models with depth cut the atoms; 5 unless given.
    snr
        Signal-to-noise ratio: the variance of a noiseless projection image over all its pixels, CTF included, divided by
        the variance of the noise in a pixel; 0.1 unless given.
    noise
        Spectrum of the noise: white (unless given), falling as 1 / (1 + (10 Å k)²), or none.
    dose
        Electrons per square angstrom that a detector records, instead of noise. Images are then counts, less those of an
        empty pixel.
    detector
        Detector that records the dose, by name (ideal, k2, k3, falcon3, falcon4, ...); ideal unless given.
    """

    specimen: Path
    box: int | None = field(default=None, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    count: int = field(default=1000, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    hydrogens: Literal["file", "implicit"] = field(default="file", kw_only=True)
    solvent: Literal["none", "displaced"] = field(default="none", kw_only=True)
    inner_potential: float | None = field(default=None, kw_only=True)
    model: ModelName = field(default="projection", kw_only=True)
    slice_thickness: float | None = field(default=None, kw_only=True)
    snr: float | None = field(default=None, kw_only=True)
    noise: Literal["white", "falling", "none"] | None = field(default=None, kw_only=True)
    dose: float | None = field(default=None, kw_only=True)
    detector: str | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "simulate particles"

    def __post_init__(self) -> None:
        refuse_numbers(self, positive=("box", "pixel_size", "count", "snr", "resolution", "slice_thickness", "dose"))
        self.refuse_imaging()
        scattering_model(self.model)
        self.refuse_meaningless()
        if self.dose is not None:
            detector(self.detector or DETECTOR, self.voltage)

    def refuse_meaningless(self) -> None:
        """Options of which one makes another do nothing."""
        if self.dose is None and self.detector is not None:
            raise SettingsProblem(f"--detector {self.detector} without a dose", "--dose, in electrons per Å²")
        if self.dose is not None and (given := [n for n in ("snr", "noise") if getattr(self, n) is not None]):
            raise SettingsProblem(
                f"--dose with --{' and --'.join(given)}", "one source of noise", "leave either of them out"
            )
        if self.noise == "none" and self.snr is not None:
            raise SettingsProblem(f"--noise none with --snr {self.snr:g}", "one of the two")
        if self.slice_thickness is not None and self.model in FLAT:
            raise SettingsProblem(
                f"--slice-thickness with --model {self.model}, which has no depth", "a model with slabs: multislice"
            )

    def inputs(self) -> list[Path]:
        return [path for path in (self.sample.file, self.poses) if path is not None]

    @property
    def sample(self) -> Specimen:
        choices = replace(
            self.from_file, hydrogens=self.hydrogens, solvent=self.solvent, inner_potential=self.inner_potential
        )
        return Specimen(self.specimen, self.box, self.pixel_size, self.b_factor, choices)

    def run(self, desk: Desk) -> Outcome:
        use_persistent_cache()
        model = self.sample.atomic_model()
        if model is None and self.model != "projection":
            raise SettingsProblem(
                f"--model {self.model} for the map {self.specimen}", "an atomic model, which a wave can go through"
            )
        if self.pixel_size is not None:
            self.check_resolution(self.pixel_size)
        specimen = self.sample.map() if model is None else self.sample.model_volume(model.atoms)
        self.check_resolution(specimen.pixel_size)
        distribution = self.particle_distribution(specimen.box, specimen.pixel_size)
        particles = draw_particles(distribution, self.count, STACK)
        plain = ParticleImages(Projector(specimen), None if model is None else self.scene(model.atoms, specimen))
        scale = self.scale(plain.projector, distribution)
        truth = Volume(specimen.data * np.float32(scale), specimen.pixel_size)
        images = ParticleImages(
            plain.projector.times(scale),
            None if plain.scene is None else plain.scene.times(scale),
            self.noise_model(truth),
            threads=THREADS,
        )
        self.write_images(desk, images.written(particles), truth.pixel_size)
        write_volume(desk.folder / "truth_map.mrc", truth, label="vitreous truth: the particles are its projections")
        write_particles(desk.folder / "particles.star", particles)
        write_particles(desk.folder / "particles_unposed.star", replace(particles, pose=None))
        outcome = self.outcome(truth, images, particles, scale)
        outcome.warnings = self.warnings(truth, None if model is None else radius(model.atoms))
        if model is not None:
            outcome.findings += model_findings(model)
            outcome.warnings += b_factor_warning(model, self.b_factor)
            outcome.warnings += hydrogen_warning(model) if self.solvent == "displaced" else []
        if images.scene is not None:
            outcome.warnings += slab_warning(images.scene, self.voltage)
        sources = [Source(self.sample.source)] if self.sample.bundled else []
        outcome.sections = simulation_sections(outcome, truth, images, particles, sources)
        return outcome

    def check_resolution(self, pixel_size: float) -> None:
        if self.resolution is not None and 2 * pixel_size > self.resolution:
            raise SettingsProblem(
                f"pixels of {pixel_size:g} A for a resolution of {self.resolution:g} A",
                f"at most {self.resolution / 2:g} A, half of the finest detail",
                "give a smaller --pixel-size",
            )

    def scene(self, atoms: Atoms, volume: Volume) -> AtomicScene | None:
        """The atoms for waves to go through; None for images that are projections of the map."""
        if self.model == "projection":
            return None
        return AtomicScene(
            position=np.asarray(atoms.position - centre_of_mass(atoms), dtype=np.float64),
            profiles=atom_profiles(atoms, extra_b_factor=self.b_factor, displaced=self.sample.displaced(atoms)),
            box=volume.box,
            pixel_size=volume.pixel_size,
            model=scattering_model(self.model),
            slice_thickness=self.slab,
            volume=volume,
        )

    def scale(self, projector: Projector, distribution: ParticleDistribution) -> float:
        """What the specimen is multiplied by.

        Counts have their own scale: an image is E (1 - I), of a weak object E 2 sigma p times the projected volts. Otherwise
        the noise gets the standard deviation 1 (without noise, the signal does).
        """
        variance = signal_variance(projector, draw_particles(distribution, TRIAL_IMAGES))
        if not variance > 0:
            raise DataProblem(f"{self.specimen} gives images without any signal", "a specimen with density in the box")
        if self.dose is not None:
            recording = self.recording(projector.pixel_size)
            return recording.empty * 2 * interaction_constant(self.voltage) * projector.pixel_size
        return math.sqrt((1.0 if self.noise == "none" else self.signal_to_noise) / variance)

    @property
    def signal_to_noise(self) -> float:
        return SNR if self.snr is None else self.snr

    @property
    def slab(self) -> float:
        return SLICE_THICKNESS if self.slice_thickness is None else self.slice_thickness

    def recording(self, pixel_size: float) -> Recording:
        assert self.dose is not None
        camera = detector(self.detector or DETECTOR, self.voltage)
        return Recording(camera, dose_per_pixel(self.dose, pixel_size), self.seed)

    def noise_model(self, volume: Volume) -> Noise | Recording | None:
        if self.dose is not None:
            return self.recording(volume.pixel_size)
        if self.noise == "none":
            return None
        power = falling_power(volume.box, volume.pixel_size) if self.noise == "falling" else None
        return Noise(1.0, power, self.seed)

    def write_images(self, desk: Desk, images: Iterator[np.ndarray], pixel_size: float) -> None:
        """The stack, a chunk at a time."""
        progress = desk.progress("simulate")
        with StackWriter(desk.folder / STACK, pixel_size) as writer:
            for chunk in images:
                writer.append(chunk)
                progress(writer.count, self.count)

    def warnings(self, volume: Volume, radius: float | None) -> list[str]:
        """What the box is too small for."""
        found = self.box_warnings(volume.box, volume.pixel_size, radius)
        if self.dose is not None and (sparse := sparse_dose(dose_per_pixel(self.dose, volume.pixel_size))):
            found.append(sparse[0].upper() + sparse[1:])
        return found

    def outcome(self, truth: Volume, images: ParticleImages, particles: Particles, scale: float) -> Outcome:
        outcome = Outcome(title=f"Simulated particles of {self.sample.name}")
        by_snr = self.dose is None and self.noise != "none"
        snr = self.signal_to_noise if by_snr else None
        outcome.findings = simulation_findings(images, particles, scale=scale, snr=snr)
        outcome.subtitle = (
            f"{self.count:,} particles, {truth.box} px of {truth.pixel_size:.4g} Å, {self.voltage_kv:g} kV"
        )
        outcome.tables = {"pixel_size_angstrom": truth.pixel_size, "specimen": self.sample.source}
        return outcome
