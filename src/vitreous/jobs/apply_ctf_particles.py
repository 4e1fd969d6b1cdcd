"""Particles are corrected for their CTF, each for its own, a chunk at a time, and written as stacks with a STAR file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.conventions import CtfState
from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.items import over_items
from vitreous.engine.local import Counter
from vitreous.errors import DataProblem
from vitreous.io.cryosparc_fields import OTHER_ABERRATIONS
from vitreous.io.files import require_file
from vitreous.io.mrc_stack import MrcStack, StackWriter
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.relion import IMAGE
from vitreous.jobs.apply_ctf_micrographs import FOLLOWS, LABEL, NO_LABEL, in_words, snr_finding, state_finding
from vitreous.jobs.apply_ctf_settings import CorrectionSettings
from vitreous.jobs.ctf_sections import particle_sections
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.particle_input import header_warning, stacks_of
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.table import Table
from vitreous.optics.ctf import has_odd_phase
from vitreous.optics.ctf_correction import corrected_images, corrected_optics, refuse_corrected
from vitreous.optics.delocalisation import is_aliased
from vitreous.reconstruction.direct_inversion import check_pixels
from vitreous.units import MICROMETRE

STAR, FOLDER = "particles.star", "stacks"
STACK_BYTES = 2**30  # of one stack: what an interrupted run has to do again at most
AT_ONCE = 4  # stacks
SHOWN = 64  # particles whose spectra the report shows


@dataclass(frozen=True)
class Stack:
    """A stack to be written: its name in the job folder and the rows of the particles, all of one optics group."""

    name: str
    rows: np.ndarray


def is_particle_file(path: Path) -> bool:
    """Whether a file lists particles with images: any .cs or .csg file, a STAR file with a column rlnImageName."""
    if path.suffix.lower() != ".star":
        return True
    with open(require_file(path), encoding="utf-8", errors="replace") as lines:
        return any(line.lstrip().startswith(f"_{IMAGE}") for line in lines)


def correct_particles(settings: CorrectionSettings, desk: Desk) -> Outcome:
    """All particles of the file, to stacks and a STAR file in the job folder."""
    particles = ready_particles(settings)
    stacks = planned_stacks(particles)
    (desk.folder / FOLDER).mkdir(exist_ok=True)
    for unfinished in (desk.folder / FOLDER).glob(".*"):  # of a run that was killed
        unfinished.unlink()
    counter = Counter(len(particles), desk.progress("correct"))
    bare = replace(particles, table=Table(), blocks={})  # what else the file says would be copied with every chunk

    def one(stack: Stack) -> None:
        if (desk.folder / stack.name).is_file():  # one that an interrupted run has finished stays
            counter.add(len(stack.rows))
        else:
            write_stack(desk.folder / stack.name, bare, stack.rows, settings, counter.add)

    over_items(one, stacks, workers=min(os.cpu_count() or 1, AT_ONCE))
    write_particles(desk.folder / STAR, corrected_particles(particles, stacks, settings, desk.place or Path()))
    outcome = particle_outcome(particles, settings)
    first = stacks[0]
    assert particles.images is not None
    outcome.sections = particle_sections(
        outcome,
        particles.images.read(first.rows[:SHOWN]),
        MrcStack(desk.folder / first.name).read(slice(0, SHOWN)),
        pixel_size=pixel_size_of(particles, first.rows[0]),
        defocus=defocus_of(particles),
        follows=FOLLOWS[settings.state],
        files=[
            (f"{FOLDER}/", f"The corrected images, {settings.mode}, in {len(stacks)} stack{'s' * (len(stacks) > 1)}"),
            (STAR, "The columns of the file that was read, with the names of these images and their CTF state"),
        ],
    )
    return outcome


def ready_particles(settings: CorrectionSettings) -> Particles:
    """Raw particles with everything that their CTF needs, or an error that says what is wrong with them."""
    source = settings.source
    particles = read_particles(
        source, datadir=settings.datadir, passthrough=settings.passthrough, pixel_size=settings.pixel_size
    )
    if particles.ctf is None:
        raise DataProblem(f"{source} gives no defocus", "CTF parameters for each particle", "estimate the CTF first")
    particles = replace(particles, optics=settings.completed(particles.optics))
    for group in particles.used_optics():
        refuse_corrected(group)
        group.require("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast")
    return particles


def planned_stacks(particles: Particles) -> list[Stack]:
    """Rows by optics group, in the order of the file, in stacks of at most `STACK_BYTES`."""
    assert particles.images is not None
    most = max(1, STACK_BYTES // (4 * particles.images.shape[-1] ** 2))
    pieces = [
        rows
        for number in np.unique(particles.optics_index)
        for rows in chunks(np.flatnonzero(particles.optics_index == number), most)
    ]
    return [Stack(f"{FOLDER}/corrected_{number:04d}.mrcs", rows) for number, rows in enumerate(pieces, 1)]


def write_stack(
    path: Path, particles: Particles, rows: np.ndarray, settings: CorrectionSettings, count: Callable[[int], None]
) -> None:
    """The corrected images of these rows, all of one optics group, a chunk at a time."""
    assert particles.images is not None
    size = pixel_size_of(particles, rows[0])
    label = f"{LABEL}: {settings.state.value}"
    with StackWriter(path, size, mode=settings.mrc_mode, label=label) as writer:
        for some in chunks(rows, chunk_size(particles.images.shape[-1])):
            part = particles.rows(some)
            assert part.images is not None and part.ctf is not None
            images = part.images.read(slice(None))
            check_pixels(images, part)
            group = part.used_optics()[0]
            writer.append(corrected_images(images, group, part.ctf, settings.state, snr=settings.wiener_snr))
            count(len(some))


def corrected_particles(
    particles: Particles, stacks: list[Stack], settings: CorrectionSettings, place: Path
) -> Particles:
    """The particles in the new stacks of the folder `place`, with optics groups that say what has been done."""
    index, code = np.empty(len(particles), dtype=np.int64), np.empty(len(particles), dtype=np.int32)
    for number, stack in enumerate(stacks):
        index[stack.rows], code[stack.rows] = np.arange(len(stack.rows)), number
    optics = tuple(corrected_optics(group, settings.state, snr=settings.wiener_snr) for group in particles.optics)
    names = ImageName(index, code, tuple(str(place / stack.name) for stack in stacks))
    return replace(particles, names=names, optics=optics, images=None)


def particle_outcome(particles: Particles, settings: CorrectionSettings) -> Outcome:
    used, defocus = particles.used_optics(), defocus_of(particles)
    odd = sum(has_odd_phase(group) for group in used)
    even = sum(any(group.even_zernike) for group in used)
    stretched = sum(not np.array_equal(group.magnification, np.eye(2)) for group in used)
    findings = [
        Finding("particles", "particles", len(particles), "", "Corrected, each for its own CTF."),
        state_finding(settings),
        Finding("defocus_lowest_um", "lowest defocus", float(defocus.min()), "µm", "Mean of U and V of a particle.", 3),
        Finding(
            "defocus_highest_um", "highest defocus", float(defocus.max()), "µm", "Mean of U and V of a particle.", 3
        ),
        *snr_finding(settings),
        Finding("optics_groups", "optics groups", len(used), "", "Each with its microscope and aberrations."),
        *(
            Finding(key, label, number, "", f"Optics groups {meaning}")
            for key, label, number, meaning in (
                ("odd_phase_undone", "beam tilt undone", odd, UNDONE),
                ("even_zernike", "even aberrations", even, EVEN),
                ("magnification", "anisotropic magnification", stretched, MAGNIFIED),
            )
            if number
        ),
    ]
    outcome = Outcome(findings, title=f"CTF correction of {settings.source.name}")
    outcome.headline = ("particles", "defocus_lowest_um", "defocus_highest_um")
    outcome.subtitle = f"{len(particles):,} particles, {in_words(settings)}"
    outcome.tables = {"pixel_sizes_angstrom": sorted({group.pixel_size for group in used})}  # type: ignore[type-var]
    outcome.inputs = stacks_of(particles)
    outcome.warnings = particle_warnings(particles, settings)
    return outcome


def particle_warnings(particles: Particles, settings: CorrectionSettings) -> list[str]:
    found = header_warning(particles) if len({group.pixel_size for group in particles.used_optics()}) == 1 else []
    aliased = aliased_particles(particles)
    if aliased:
        found.append(
            f"The defocus of {aliased:,} particles is more than their box holds: near Nyquist their CTF oscillates faster than the "
            "box samples it, and what the lens has spread beyond the box is lost. Extract them in a larger box."
        )
    named = {name for group in particles.used_optics() for name in OTHER_ABERRATIONS if name in group.extra}
    if named:
        found.append(f"{', '.join(sorted(named))} are not zero and were not undone: cryoSPARC does not define them.")
    if settings.state is CtfState.WIENER:
        found.append(NO_LABEL)
    return found


def aliased_particles(particles: Particles) -> int:
    """How many particles have a defocus whose CTF their box does not sample up to Nyquist."""
    assert particles.images is not None and particles.ctf is not None
    box = particles.images.shape[-1]
    return sum(
        aliased_count(particles.optics[number], particles.ctf.defocus[particles.optics_index == number], box)
        for number in np.unique(particles.optics_index)
    )


def aliased_count(group: OpticsGroup, defocus: np.ndarray, box: int) -> int:
    """How many of these defoci (angstrom) have a CTF that a box of this optics group does not sample up to Nyquist."""
    # The displacement at Nyquist, and so whether it fits, changes once as the defocus grows: bisection needs ten tests, not n.
    order = np.sort(np.abs(defocus))
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        fits = not is_aliased(
            box,
            group.pixel_size or 0.0,
            defocus=float(order[middle]),
            voltage=group.voltage or 0.0,
            spherical_aberration=group.spherical_aberration or 0.0,
        )
        low, high = (middle + 1, high) if fits else (low, middle)
    return len(order) - low


def pixel_size_of(particles: Particles, row: int) -> float:
    """Of the optics group of a row; `ready_particles` has seen to it that it is known."""
    size = particles.optics[particles.optics_index[row]].pixel_size
    assert size is not None
    return size


def defocus_of(particles: Particles) -> np.ndarray:
    """Mean defocus of each particle in micrometre."""
    assert particles.ctf is not None
    return particles.ctf.defocus / MICROMETRE


UNDONE = "whose beam tilt and odd Zernike terms were taken out of the phases; the new file has none."
EVEN = "whose even Zernike terms are part of the CTF; they stay in the file."
MAGNIFIED = (
    "whose CTF was taken at the magnified frequencies; the images are not resampled, and the matrix stays in the file."
)
