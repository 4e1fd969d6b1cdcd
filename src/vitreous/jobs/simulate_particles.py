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
from vitreous.fourier.filters import apply_filter, b_factor_envelope
from vitreous.fourier.transforms import fourier_crop, radial_frequency
from vitreous.io.atoms import read_atoms
from vitreous.io.bundled import PREFIX, bundled_source, load_bundled
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.report import Source
from vitreous.jobs.simulation_sections import simulation_sections
from vitreous.model.atoms import Atoms
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.optics.delocalisation import largest_defocus_that_fits
from vitreous.optics.electrons import wavelength
from vitreous.simulation.images import TRIAL_IMAGES, Projector, signal_variance, simulate_images
from vitreous.simulation.noise import Noise, falling_power
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.specimen.potential import centre_of_mass, potential_volume
from vitreous.units import KILOVOLT, MICROMETRE, MILLIMETRE

STACK = "particles.mrcs"
MODEL_SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent")
MAP_SUFFIXES = (".mrc", ".map", ".ccp4")
# The box that a model gets by itself, in diameters: room for the signal that the defocus carries outwards.
ROOM = 1.5


@dataclass(frozen=True)
class SimulateParticles:
    """Settings of a simulated set of particles.

    Parameters
    ----------
    specimen
        Atomic model (.cif, .pdb), map (.mrc, .map), or bundled:6zu5 (a ribosome), bundled:4ake, bundled:1ake (adenylate kinase).
    box
        Box of the images in pixels. By default 1.5 times the diameter of a model, or the box of a map; a map is cropped to a smaller one in Fourier space.
    pixel_size
        Pixel size in angstrom. Needed for a model; for a map it replaces the one of its header.
    count
        Number of particles.
    snr
        Signal-to-noise ratio: the variance of a noiseless image over all its pixels, CTF included, divided by the variance of the noise in a pixel.
    noise
        Spectrum of the noise: white, falling as 1 / (1 + (10 Å k)²), or none.
    defocus_um
        Smallest and largest defocus in micrometre, positive for underfocus; each particle's is drawn evenly between them.
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
        positive = {
            "box": self.box,
            "pixel-size": self.pixel_size,
            "count": self.count,
            "snr": self.snr,
            "voltage-kv": self.voltage_kv,
        }
        for option, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise SettingsProblem(f"--{option} {value}", "a positive number")
        for option, value in {
            "astigmatism": self.astigmatism,
            "shift": self.shift,
            "cs-mm": self.cs_mm,
            "seed": self.seed,
        }.items():
            if not 0 <= value < math.inf:
                raise SettingsProblem(f"--{option} {value}", "0 or more")
        if not -1 <= self.amplitude_contrast <= 1:
            raise SettingsProblem(f"--amplitude-contrast {self.amplitude_contrast}", "a fraction from -1 to 1")
        if not math.isfinite(self.b_factor):
            raise SettingsProblem(f"--b-factor {self.b_factor}", "a finite number")
        low, high = self.defocus_um
        if not -math.inf < low <= high < math.inf:
            raise SettingsProblem(f"--defocus-um {low} {high}", "two numbers of micrometres, the smaller first")

    def inputs(self) -> list[Path]:
        return [path for path in (self.specimen, self.poses) if path is not None and not is_bundled(path)]

    def run(self, desk: Desk) -> Outcome:
        use_persistent_cache()
        specimen, warnings = self.volume()
        distribution = self.distribution(specimen)
        particles = draw_particles(distribution, self.count, STACK)
        projector = Projector(specimen)
        variance = signal_variance(projector, draw_particles(distribution, TRIAL_IMAGES))
        if not variance > 0:
            raise DataProblem(f"{self.specimen} gives images without any signal", "a specimen with density in the box")
        # Images are scaled so that the noise has standard deviation 1, or without noise the signal: the truth is scaled with them.
        scale = math.sqrt((1.0 if self.noise == "none" else self.snr) / variance)
        truth = Volume(specimen.data * np.float32(scale), specimen.pixel_size)
        projector, noise = projector.times(scale), self.noise_model(truth)
        self.write_images(desk, simulate_images(projector, particles, noise), truth.pixel_size)
        write_volume(
            desk.folder / "truth_map.mrc", truth, label="vitreous truth: the particles are projections of this map"
        )
        write_particles(desk.folder / "particles.star", particles)
        write_particles(desk.folder / "particles_unposed.star", replace(particles, pose=None))
        outcome = self.outcome(truth, particles, scale, [*warnings, *self.warnings(truth)])
        sources = [Source(describe_specimen(self.specimen))] if is_bundled(self.specimen) else []
        outcome.sections = simulation_sections(outcome, truth, projector, particles, noise, sources)
        return outcome

    def volume(self) -> tuple[Volume, list[str]]:
        """The specimen on the grid of the images, in its own units (volt, for a model), and warnings."""
        kind = specimen_kind(self.specimen)
        if kind == "map":
            return self.map_volume(read_volume(self.specimen, self.pixel_size)), []
        atoms = (
            load_bundled(str(self.specimen).removeprefix(PREFIX))
            if kind == "bundled"
            else read_atoms(self.specimen, waters=False)
        )
        return self.model_volume(atoms)

    def model_volume(self, atoms: Atoms) -> tuple[Volume, list[str]]:
        """The potential of a model, its centre of mass at the box centre."""
        if self.pixel_size is None:
            raise SettingsProblem(
                f"no pixel size for the model {self.specimen}", "angstrom per pixel of the images", "give --pixel-size"
            )
        radius = float(np.linalg.norm(atoms.position - centre_of_mass(atoms), axis=1).max())
        box = self.box or fitting_box(ROOM * 2 * radius / self.pixel_size)
        width = box * self.pixel_size
        if width < 2 * (radius + self.pixel_size):
            raise SettingsProblem(
                f"a box of {box} px of {self.pixel_size:g} A = {width:.0f} A for a model {2 * radius:.0f} A across",
                f"at least {math.ceil(2 * radius / self.pixel_size) + 2} px",
                "give a larger --box or --pixel-size",
            )
        warnings = []
        if radius + 3 * self.shift > width / 2:
            warnings.append(
                f"Some particles, shifted by {self.shift:g} A rms, reach over the edge of their box and come back at the other side: use a larger --box."
            )
        single = replace(atoms, position=np.asarray(atoms.position, dtype=np.float32))
        return potential_volume(single, box, self.pixel_size, extra_b_factor=self.b_factor), warnings

    def map_volume(self, volume: Volume) -> Volume:
        """A map, blurred and cropped as asked."""
        data, pixel_size = volume.data, volume.pixel_size
        if not np.isfinite(data).all():
            raise DataProblem(f"{self.specimen} holds values that are not finite numbers", "a map")
        if self.box is not None and self.box > volume.box:
            raise SettingsProblem(
                f"--box {self.box} for a map of {volume.box} px",
                f"at most {volume.box}",
                "pad the map first, or choose a smaller box",
            )
        if self.box is not None and self.box < volume.box:
            data, pixel_size = fourier_crop(data, self.box, 3, pixel_size)
        if self.b_factor:
            data = apply_filter(
                data, b_factor_envelope(radial_frequency(data.shape, pixel_size, dtype=np.float32), self.b_factor), 3
            )
        return Volume(np.asarray(data, dtype=np.float32), pixel_size)

    def distribution(self, volume: Volume) -> ParticleDistribution:
        optics = OpticsGroup(
            pixel_size=volume.pixel_size,
            box=volume.box,
            voltage=self.voltage_kv * KILOVOLT,
            spherical_aberration=self.cs_mm * MILLIMETRE,
            amplitude_contrast=self.amplitude_contrast,
            ctf_state=CtfState(self.ctf_state),
        )
        low, high = (value * MICROMETRE for value in self.defocus_um)
        return ParticleDistribution(
            optics,
            (low, high),
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
        return Noise(1.0, falling_power(volume.box, volume.pixel_size) if self.noise == "falling" else None, self.seed)

    def write_images(self, desk: Desk, images: Iterator[np.ndarray], pixel_size: float) -> None:
        """The stack, a chunk at a time."""
        progress = desk.progress("simulate")
        with StackWriter(desk.folder / STACK, pixel_size) as writer:
            for chunk in images:
                writer.append(chunk)
                progress(writer.count, self.count)

    def warnings(self, volume: Volume) -> list[str]:
        largest = largest_defocus_that_fits(volume.box, volume.pixel_size, wavelength(self.voltage_kv * KILOVOLT))
        defocus = max(abs(value) for value in self.defocus_um) * MICROMETRE
        if defocus <= largest:
            return []
        return [
            f"A defocus of {defocus / MICROMETRE:.2f} µm is more than this box holds: beyond {largest / MICROMETRE:.2f} µm (N p² / λ) the CTF oscillates faster than "
            "the box samples it, and signal wraps round its edges. Use a larger --box."
        ]

    def outcome(self, truth: Volume, particles: Particles, scale: float, warnings: list[str]) -> Outcome:
        assert particles.ctf is not None
        low, high = (float(f(particles.ctf.defocus)) / MICROMETRE for f in (np.min, np.max))
        snr = None if self.noise == "none" else self.snr
        findings = [
            Finding(
                "particles",
                "particles",
                self.count,
                meaning="Images in particles.mrcs; particles.star says how each was made.",
            ),
            Finding(
                "box",
                "box",
                truth.box,
                "px",
                f"Images of {truth.box} x {truth.box} pixels of {truth.pixel_size:.4g} Å; nothing finer than {2 * truth.pixel_size:.2f} Å is in them (Nyquist).",
            ),
            Finding(
                "snr",
                "signal-to-noise",
                snr,
                "",
                "Variance of a noiseless image over all its pixels, CTF included, divided by the variance of the noise.",
                3,
            ),
            Finding(
                "defocus_lowest_um",
                "lowest defocus",
                low,
                "µm",
                "Underfocus: the lower it is, the weaker the low frequencies and the farther the fine detail reaches.",
            ),
            Finding(
                "defocus_highest_um",
                "highest defocus",
                high,
                "µm",
                "The more defocus, the more contrast, and the farther detail is carried out of place.",
            ),
            Finding(
                "scale",
                "scale",
                scale,
                "",
                "truth_map.mrc is the specimen times this number, so that the noise of the images has standard deviation 1 (without noise, the signal).",
                6,
            ),
        ]
        outcome = Outcome(findings, warnings, title=f"Simulated particles of {specimen_name(self.specimen)}")
        outcome.subtitle = (
            f"{self.count:,} particles, {truth.box} px of {truth.pixel_size:.4g} Å, {self.voltage_kv:g} kV"
        )
        outcome.tables = {"pixel_size_angstrom": truth.pixel_size, "specimen": describe_specimen(self.specimen)}
        return outcome


def is_bundled(path: Path) -> bool:
    return str(path).startswith(PREFIX)


def specimen_kind(path: Path) -> Literal["bundled", "model", "map"]:
    """What a specimen is, by its name."""
    if is_bundled(path):
        return "bundled"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-2:-1] if suffixes[-1:] in ([".gz"], [".bz2"]) else suffixes[-1:]
    if last and last[0] in MODEL_SUFFIXES:
        return "model"
    if last and last[0] in MAP_SUFFIXES:
        return "map"
    raise SettingsProblem(
        f"{path} is neither a model nor a map by its name",
        f"a name that ends in one of {', '.join((*MODEL_SUFFIXES, *MAP_SUFFIXES))}, or bundled:6zu5",
    )


def specimen_name(path: Path) -> str:
    return str(path).removeprefix(PREFIX).upper() if is_bundled(path) else path.name


def describe_specimen(path: Path) -> str:
    """What to say, and whom to cite, for a specimen."""
    return bundled_source(str(path).removeprefix(PREFIX)) if is_bundled(path) else path.name


def fitting_box(pixels: float) -> int:
    """The smallest even box of at least this many pixels whose transforms are fast (no prime factor above 5)."""
    from scipy.fft import next_fast_len

    return 2 * next_fast_len(math.ceil(pixels / 2), real=True)
