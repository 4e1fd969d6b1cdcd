"""What every job on a particle file is told: the file, its symmetry, where its images are, and corrections of what it says."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.particles import read_particles
from vitreous.model.particles import Particles

# Hashing thousands of stacks would take longer than reading them.
STACKS_RECORDED = 64
HEADER_TOLERANCE = 0.01
# Angstrom: a tenth of a millimetre, and ten metres, which a Lorentz lens may have. Phases beyond them are rounding errors.
LARGEST_DEFOCUS, LARGEST_ABERRATION = 1e6, 1e11


@dataclass(frozen=True)
class ImageInput:
    """The options that all jobs on particle files share.

    Parameters
    ----------
    particles
        Particle file: STAR (.star) or cryoSPARC (.cs, .csg).
    datadir
        Folder in which the image paths of the file start, if not beside the file.
    passthrough
        cryoSPARC files with the columns that the particle file lacks, merged by uid.
    contrast
        Sign of the protein in the images: inverted (bright), raw (dark), or what the file records; inverted if it records nothing.
    pixel_size
        Pixel size in angstrom, instead of the file's.
    seed
        Seed of everything that is drawn at random: half sets, phases, shuffled orientations.
    """

    particles: Path
    datadir: Path | None = field(default=None, kw_only=True)
    passthrough: tuple[Path, ...] = field(default=(), kw_only=True)
    contrast: Literal["file", "inverted", "raw"] = field(default="file", kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class ParticleInput(ImageInput):
    """The options that jobs on the particles of a map share.

    Parameters
    ----------
    particles
        Particle file with poses: STAR (.star) or cryoSPARC (.cs, .csg).
    symmetry
        Point group: C1, C2, D2, T, O, I, ...
    """

    symmetry: str = field(default="C1", kw_only=True)


def ready_particles(options: ImageInput, *, use_ctf: bool, poses: bool = True) -> Particles:
    """Particles that a reconstruction can take, or an error that says what they lack. `poses`: orientations are among that."""
    path = options.particles
    particles = read_particles(
        path, datadir=options.datadir, passthrough=options.passthrough, pixel_size=options.pixel_size
    )
    if poses and particles.pose is None:
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
    refuse_broken_rows(particles, path, use_ctf)
    if use_ctf:
        refuse_absurd_ctf(particles, path)
    particles.pixel_size  # noqa: B018 - mixed or unknown pixel sizes are refused here
    particles.ctf_state  # noqa: B018
    if not use_ctf and particles.ctf_state is CtfState.PREMULTIPLIED:
        raise SettingsProblem(
            f"--no-ctf for {path}, whose images are CTF-premultiplied", "images without the CTF in them"
        )
    return particles


def refuse_broken_rows(particles: Particles, path: Path, use_ctf: bool) -> None:
    """Raise DataProblem naming the first row whose pose or CTF is no number."""
    columns: dict[str, np.ndarray] = {}
    if particles.pose is not None:
        columns |= {"angles": particles.pose.euler, "shifts": particles.pose.shift}
    if use_ctf and particles.ctf is not None:
        columns |= {name.replace("_", " "): getattr(particles.ctf, name) for name in particles.ctf.__dataclass_fields__}
    for name, values in columns.items():
        broken = ~np.isfinite(values.reshape(len(particles), -1)).all(axis=1)
        if broken.any():
            row = int(np.flatnonzero(broken)[0]) + 1
            raise DataProblem(
                f"the {name} of row {row} of {path} are not finite numbers ({broken.sum()} such rows)",
                "numbers",
                "remove these rows",
            )


def refuse_absurd_ctf(particles: Particles, path: Path) -> None:
    """Raise DataProblem for a defocus or spherical aberration that no microscope has: another unit, or a broken row."""
    assert particles.ctf is not None
    largest = np.maximum(np.abs(particles.ctf.defocus_u), np.abs(particles.ctf.defocus_v))
    if (largest > LARGEST_DEFOCUS).any():
        row = int(np.argmax(largest > LARGEST_DEFOCUS))
        raise DataProblem(
            f"the defocus of row {row + 1} of {path} is {largest[row]:.4g} A",
            f"at most {LARGEST_DEFOCUS:g} A, which is {LARGEST_DEFOCUS * 1e-4:g} um",
            "remove or repair that row",
        )
    for group in particles.used_optics():
        if group.spherical_aberration is not None and abs(group.spherical_aberration) > LARGEST_ABERRATION:
            raise DataProblem(
                f"the spherical aberration of optics group '{group.name}' of {path} is {group.spherical_aberration * 1e-7:.4g} mm",
                f"at most {LARGEST_ABERRATION * 1e-7:g} mm",
                "repair the optics block",
            )


def header_warning(particles: Particles) -> list[str]:
    """A sentence if the stacks' headers give another pixel size than the particle file, which is believed."""
    header = getattr(particles.images, "pixel_size", None)
    if header is None or abs(header / particles.pixel_size - 1) < HEADER_TOLERANCE:
        return []
    return [
        f"The headers of the stacks say {header:.4g} Å per pixel, the particle file {particles.pixel_size:.4g} Å: the file is believed."
    ]


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
