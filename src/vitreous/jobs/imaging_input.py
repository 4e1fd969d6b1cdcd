"""What every simulation of particle images is told about the microscope and the particles: CTF, shifts, orientations, contrast, seed."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.io.particles import read_particles
from vitreous.jobs.model_input import ModelInput
from vitreous.jobs.ranges import refuse_amplitude_contrast, refuse_defocus_range, refuse_numbers
from vitreous.model.optics import OpticsGroup
from vitreous.optics.delocalisation import largest_defocus_that_fits
from vitreous.optics.electrons import wavelength
from vitreous.simulation.particles import ParticleDistribution
from vitreous.units import KILOVOLT, MICROMETRE, MILLIMETRE


@dataclass(frozen=True)
class ImagingInput(ModelInput):
    """The options that simulations of particle images share.

    Parameters
    ----------
    specimen
        Atomic model, or what else the job takes.
    defocus_um
        Smallest and largest defocus in micrometre, positive for underfocus; each particle's (or micrograph's) is drawn evenly
        between them.
    astigmatism
        Root mean square of the difference between the largest and the smallest defocus of a particle (or micrograph), in
        angstrom.
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

    def refuse_imaging(self) -> None:
        """Raise SettingsProblem for numbers that cannot be."""
        refuse_numbers(
            self,
            positive=("voltage_kv",),
            not_negative=("astigmatism", "shift", "cs_mm", "seed"),
            finite=("b_factor",),
        )
        refuse_amplitude_contrast(self.amplitude_contrast)
        refuse_defocus_range(self.defocus_um)

    @property
    def voltage(self) -> float:
        return self.voltage_kv * KILOVOLT

    def particle_distribution(
        self, box: int, pixel_size: float, euler: np.ndarray | None = None
    ) -> ParticleDistribution:
        """How the particles vary, on images of this grid. `euler`: orientations to use in turn, in place of those of --poses."""
        optics = OpticsGroup(
            pixel_size=pixel_size,
            box=box,
            voltage=self.voltage,
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
            euler=self.orientations() if euler is None else euler,
        )

    def orientations(self) -> np.ndarray | None:
        """The angles of the file of poses, if there is one."""
        if self.poses is None:
            return None
        pose = read_particles(self.poses, load_images=False).pose
        if pose is None:
            raise DataProblem(f"{self.poses} gives no orientations", "angles for each particle")
        return pose.euler

    def box_warnings(self, box: int, pixel_size: float, radius: float | None) -> list[str]:
        """What a box is too small for: a shifted specimen of this radius in angstrom, and the largest defocus."""
        found = []
        if radius is not None and radius + 3 * self.shift > box * pixel_size / 2:
            found.append(
                f"Some particles, shifted by {self.shift:g} Å rms, reach over the edge of their box and come back at "
                "the other side: use a larger --box."
            )
        largest = largest_defocus_that_fits(box, pixel_size, wavelength(self.voltage))
        defocus = max(abs(value) for value in self.defocus_um) * MICROMETRE
        if defocus > largest:
            found.append(
                f"A defocus of {defocus / MICROMETRE:.2f} µm is more than this box holds: beyond "
                f"{largest / MICROMETRE:.2f} µm (N p² / λ) the CTF oscillates faster than the box samples it, and "
                "signal wraps round its edges. Use a larger --box."
            )
        return found
