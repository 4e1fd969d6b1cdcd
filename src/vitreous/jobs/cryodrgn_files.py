"""Particles and landscapes to cryoDRGN's files and back: what `vitreous convert` does with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.conventions import Contrast
from vitreous.errors import OutputProblem, SettingsProblem
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.io.cryodrgn import (
    CTF,
    LATENTS,
    POSES,
    read_ctf,
    with_ctf,
    with_poses,
    write_cryodrgn_inputs,
    write_latents,
)
from vitreous.io.mrc_stack import MrcStack, write_volume
from vitreous.io.particles import SUFFIXES, read_particles, write_particles
from vitreous.jobs.cryodrgn_run import read_run
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.landscape_folder import PARTICLES, read_landscape
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import ImageName, Particles

LEAST_VARIANCE = float(np.finfo(np.float32).tiny)  # whose logarithm is finite


@dataclass(frozen=True)
class CryodrgnTables:
    """The tables of cryoDRGN's that belong to images: either or both."""

    poses: Path | None = None
    ctf: Path | None = None


# --- to cryoDRGN ------------------------------------------------------------------------------------------------------


def write_for_cryodrgn(source: Path, folder: Path, *, pixel_size: float | None = None, force: bool = False) -> Outcome:
    """poses.pkl and ctf.pkl of a particle file, or, with z.pkl, of the folder of a trained landscape, and the command that trains on them."""
    landscape = read_landscape(source) if source.is_dir() else None
    images = source if landscape is None else source / PARTICLES
    particles = with_box(images, pixel_size)
    names = [POSES, CTF] if landscape is None else [POSES, CTF, LATENTS]
    there = [folder / name for name in names if (folder / name).exists()]
    if there and not force:
        raise OutputProblem(f"{there[0]} exists", "a new folder", "choose another, or give --force")
    write_cryodrgn_inputs(folder, particles)
    if landscape is not None:
        variance = np.maximum(landscape.latents.deviation**2, LEAST_VARIANCE)
        write_latents(folder / LATENTS, landscape.latents.mean, variance)
    sign = " --uninvert-data" if particles.contrast is Contrast.RAW else ""
    command = f"cryodrgn train_vae {images} --poses {folder / POSES} --ctf {folder / CTF}{sign} --zdim 8 -o RUN"
    findings = [
        Finding("particles", "particles", len(particles)),
        Finding("files", "files", ", ".join(names)),
        Finding("command", "to train", command),
    ]
    return Outcome(findings, left_out(particles))


def with_box(path: Path, pixel_size: float | None) -> Particles:
    """The particles of a file; their images are looked for only if the file does not say how large they are."""
    particles = read_particles(path, load_images=False, pixel_size=pixel_size)
    if all(group.box for group in particles.used_optics()):
        return particles
    return read_particles(path, pixel_size=pixel_size)


def left_out(particles: Particles) -> list[str]:
    """What cryoDRGN's tables have no column for, in sentences."""
    ctf, groups = particles.ctf, particles.used_optics()
    assert ctf is not None
    lost = {
        "B factors": bool(np.any(ctf.b_factor)),
        "CTF scales": bool(np.any(ctf.scale != 1)),
        "beam tilt": any(any(group.beam_tilt) for group in groups),
        "aberrations": any(any(group.odd_zernike) or any(group.even_zernike) for group in groups),
    }
    named = [name for name, there in lost.items() if there]
    said = [f"cryoDRGN's files have no place for {', '.join(named)}: they are left out"] if named else []
    if particles.contrast is Contrast.UNKNOWN:
        said.append("the contrast is unknown: if the protein is dark in these images, train with --uninvert-data")
    return said


# --- from cryoDRGN ----------------------------------------------------------------------------------------------------


def read_from_cryodrgn(
    source: Path, target: Path, tables: CryodrgnTables, *, pixel_size: float | None = None
) -> Outcome:
    """A particle file of a stack (or of the images of another particle file) with the poses and CTFs of cryoDRGN's tables, row by row."""
    of_stack = source.suffix not in SUFFIXES
    particles = particles_of_stack(source, pixel_size, tables) if of_stack else with_box(source, pixel_size)
    said: list[str] = []
    if tables.ctf is not None:
        table = read_ctf(tables.ctf)
        particles = with_ctf(particles, table, tables.ctf, pixel_size=pixel_size)
        if table.absent_phase_shifts:
            said.append(
                f"{table.absent_phase_shifts} of {len(table)} particles have no phase shift in {tables.ctf}: it is 0"
            )
    if tables.poses is not None:
        particles = with_poses(particles, tables.poses)
    write_particles(target, lasting_names(particles, source, target.parent) if of_stack else particles)
    return Outcome([Finding("particles", "particles", len(particles))], said)


def particles_of_stack(source: Path, pixel_size: float | None, tables: CryodrgnTables) -> Particles:
    """All images of a stack. The pixel size is the one given, else that of the CTF table, else the header's."""
    stack = MrcStack(source)
    size = pixel_size or stack.pixel_size
    if size is None and tables.ctf is None:
        raise SettingsProblem(
            f"{source} does not give its pixel size (the header says 0)", "a pixel size", "give --pixel-size or --ctf"
        )
    count = len(stack)
    names = ImageName(np.arange(count), np.zeros(count, dtype=np.int32), (source.name,))
    group = OpticsGroup(pixel_size=size, box=stack.shape[-1])
    return Particles(names, (group,), np.zeros(count, dtype=np.int32))


def write_decoded_map(
    folder: Path, target: Path, latent: Sequence[float], *, box: int | None = None, pixel_size: float | None = None
) -> Outcome:
    """The map that the network of a run gives at a latent, as `cryodrgn eval_vol` makes it."""
    run = read_run(folder, pixel_size=pixel_size)
    if len(latent) != run.decoder.dimensions:
        raise SettingsProblem(
            f"a latent of {len(latent)} numbers",
            f"{run.decoder.dimensions}, as the run in {folder} has",
            "give --latent",
        )
    volume = decoded_volume(run.decoder, np.asarray(latent), box)
    write_volume(target, volume)
    findings = [
        Finding("voxels", "voxels along an edge", volume.box),
        Finding("pixel_size_angstrom", "pixel size", volume.pixel_size, "Å", digits=3),
    ]
    return Outcome(findings)
