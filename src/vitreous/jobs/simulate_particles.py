"""The job `simulate particles`: a model or a map becomes a stack of particle images of which everything is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.report import Source
from vitreous.jobs.simulation_sections import simulation_sections
from vitreous.jobs.specimen import Specimen
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.optics.delocalisation import largest_defocus_that_fits
from vitreous.optics.electrons import wavelength
from vitreous.simulation.images import TRIAL_IMAGES, Projector, signal_variance, simulate_images
from vitreous.simulation.noise import Noise, falling_power
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.units import KILOVOLT, MICROMETRE, MILLIMETRE

STACK = "particles.mrcs"


@dataclass(frozen=True)
class SimulateParticles:
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
    snr
        Signal-to-noise ratio: the variance of a noiseless image over all its pixels, CTF included, divided by the
        variance of the noise in a pixel.
    noise
        Spectrum of the noise: white, falling as 1 / (1 + (10 Å k)²), or none.
    defocus_um
        Smallest and largest defocus in micrometre, positive for underfocus; each particle's is drawn evenly between
        them.
    astigmatism
        Root mean square of the difference between the largest and the smallest defocus of a particle, in angstrom.
    voltage_kv
        Voltage in kilovolt.
    cs_mm
        Spherical aberration in millimetre.
    amplitude_contrast
        Amplitude contrast, a fraction.
    b_factor
        B factor in angstrom², blurring the specimen in addition to the B factors of its atoms.
    shift
        Standard deviation of the particles' offsets from the box centre along x and along y, in angstrom.
    poses
        Particle file whose orientations are used in turn. By default orientations are drawn evenly from all rotations.
    contrast
        Sign of the protein: inverted (bright, as reconstruction expects) or raw (dark, as the detector saw it).
    ctf_state
        What has been done to the images about their CTF.
    seed
        Seed of everything random. Particle i depends on the seed and on i, not on the count.
    """

    specimen: Path
    box: int | None = field(default=None, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    count: int = field(default=1000, kw_only=True)
    snr: float = field(default=0.1, kw_only=True)
    noise: Literal["white", "falling", "none"] = field(default="white", kw_only=True)
    defocus_um: tuple[float, float] = field(default=(0.8, 2.0), kw_only=True)
    astigmatism: float = field(default=200.0, kw_only=True)
    voltage_kv: float = field(default=300.0, kw_only=True)
    cs_mm: float = field(default=2.7, kw_only=True)
    amplitude_contrast: float = field(default=0.1, kw_only=True)
    b_factor: float = field(default=0.0, kw_only=True)
    shift: float = field(default=3.0, kw_only=True)
    poses: Path | None = field(default=None, kw_only=True)
    contrast: Literal["inverted", "raw"] = field(default="inverted", kw_only=True)
    ctf_state: Literal["raw", "phase_flipped", "premultiplied"] = field(default="raw", kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "simulate particles"

    def __post_init__(self) -> None:
        positive = ("box", "pixel_size", "count", "snr", "voltage_kv")
        for name in (*positive, "astigmatism", "shift", "cs_mm", "seed"):
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if value is None:
                continue
            if not 0 <= value < math.inf or (name in positive and value == 0):
                raise SettingsProblem(f"{option} {value}", "a positive number" if name in positive else "0 or more")
        if not -1 <= self.amplitude_contrast <= 1:
            raise SettingsProblem(f"--amplitude-contrast {self.amplitude_contrast}", "a fraction from -1 to 1")
        if not math.isfinite(self.b_factor):
            raise SettingsProblem(f"--b-factor {self.b_factor}", "a finite number")
        low, high = self.defocus_um
        if not -math.inf < low <= high < math.inf:
            raise SettingsProblem(f"--defocus-um {low} {high}", "two numbers of micrometres, the smaller first")

    def inputs(self) -> list[Path]:
        return [path for path in (self.sample.file, self.poses) if path is not None]

    @property
    def sample(self) -> Specimen:
        return Specimen(self.specimen, self.box, self.pixel_size, self.b_factor)

    def run(self, desk: Desk) -> Outcome:
        use_persistent_cache()
        specimen, radius = self.sample.volume()
        distribution = self.distribution(specimen)
        particles = draw_particles(distribution, self.count, STACK)
        projector = Projector(specimen)
        variance = signal_variance(projector, draw_particles(distribution, TRIAL_IMAGES))
        if not variance > 0:
            raise DataProblem(f"{self.specimen} gives images without any signal", "a specimen with density in the box")
        # The noise gets the standard deviation 1 (without noise, the signal does), and the truth is scaled to suit.
        scale = math.sqrt((1.0 if self.noise == "none" else self.snr) / variance)
        truth = Volume(specimen.data * np.float32(scale), specimen.pixel_size)
        projector, noise = projector.times(scale), self.noise_model(truth)
        self.write_images(desk, simulate_images(projector, particles, noise), truth.pixel_size)
        write_volume(desk.folder / "truth_map.mrc", truth, label="vitreous truth: the particles are its projections")
        write_particles(desk.folder / "particles.star", particles)
        write_particles(desk.folder / "particles_unposed.star", replace(particles, pose=None))
        outcome = self.outcome(truth, particles, scale)
        outcome.warnings = self.warnings(truth, radius)
        sources = [Source(self.sample.source)] if self.sample.bundled else []
        outcome.sections = simulation_sections(outcome, truth, projector, particles, noise, sources)
        return outcome

    def distribution(self, volume: Volume) -> ParticleDistribution:
        optics = OpticsGroup(
            pixel_size=volume.pixel_size,
            box=volume.box,
            voltage=self.voltage_kv * KILOVOLT,
            spherical_aberration=self.cs_mm * MILLIMETRE,
            amplitude_contrast=self.amplitude_contrast,
            ctf_state=CtfState(self.ctf_state),
        )
        low, high = self.defocus_um
        return ParticleDistribution(
            optics,
            (low * MICROMETRE, high * MICROMETRE),
            astigmatism=self.astigmatism,
            shift=self.shift,
            contrast=Contrast(self.contrast),
            seed=self.seed,
            euler=self.orientations(),
        )

    def orientations(self) -> np.ndarray | None:
        """The angles of the file of poses, if there is one."""
        if self.poses is None:
            return None
        pose = read_particles(self.poses, load_images=False).pose
        if pose is None:
            raise DataProblem(f"{self.poses} gives no orientations", "angles for each particle")
        return pose.euler

    def noise_model(self, volume: Volume) -> Noise | None:
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
        found = []
        if radius is not None and radius + 3 * self.shift > volume.box * volume.pixel_size / 2:
            found.append(
                f"Some particles, shifted by {self.shift:g} Å rms, reach over the edge of their box and come back at "
                "the other side: use a larger --box."
            )
        largest = largest_defocus_that_fits(volume.box, volume.pixel_size, wavelength(self.voltage_kv * KILOVOLT))
        defocus = max(abs(value) for value in self.defocus_um) * MICROMETRE
        if defocus > largest:
            found.append(
                f"A defocus of {defocus / MICROMETRE:.2f} µm is more than this box holds: beyond "
                f"{largest / MICROMETRE:.2f} µm (N p² / λ) the CTF oscillates faster than the box samples it, and "
                "signal wraps round its edges. Use a larger --box."
            )
        return found

    def outcome(self, truth: Volume, particles: Particles, scale: float) -> Outcome:
        assert particles.ctf is not None
        box, pixel_size = truth.box, truth.pixel_size
        low, high = (float(f(particles.ctf.defocus)) / MICROMETRE for f in (np.min, np.max))
        snr = None if self.noise == "none" else self.snr
        findings = [
            Finding(
                "particles",
                "particles",
                self.count,
                "",
                "Images in particles.mrcs; the STAR file says how each was made.",
            ),
            Finding(
                "box", "box", box, "px", f"Pixels of {pixel_size:.4g} Å: nothing finer than {2 * pixel_size:.2f} Å."
            ),
            Finding("snr", "signal-to-noise", snr, "", SNR_MEANING, 3),
            Finding(
                "defocus_lowest_um", "lowest defocus", low, "µm", "Low defocus: weak contrast, detail in its place."
            ),
            Finding(
                "defocus_highest_um", "highest defocus", high, "µm", "High defocus: contrast, detail carried far away."
            ),
            Finding("scale", "scale", scale, "", SCALE_MEANING, 6),
        ]
        outcome = Outcome(findings, title=f"Simulated particles of {self.sample.name}")
        outcome.subtitle = f"{self.count:,} particles, {box} px of {pixel_size:.4g} Å, {self.voltage_kv:g} kV"
        outcome.tables = {"pixel_size_angstrom": pixel_size, "specimen": self.sample.source}
        return outcome


SNR_MEANING = "Variance of a noiseless image over all its pixels, CTF included, divided by the variance of the noise."
SCALE_MEANING = (
    "truth_map.mrc is the specimen times this number: the noise of the images then has standard deviation 1 (without "
    "noise, the signal has)."
)
