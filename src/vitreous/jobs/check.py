"""The job `check`, the convention doctor: proves or rejects what a particle file says, one line each with its evidence."""

from __future__ import annotations

import hashlib
from collections import Counter as Tally
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.errors import FileProblem, SettingsProblem, VitreousError
from vitreous.geometry.symmetry import point_group
from vitreous.io.images import find_stack, open_images
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import square_stack_header
from vitreous.io.particles import read_particles
from vitreous.io.relion import as_folders
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.particle_input import ParticleInput, declared_contrast, with_half_sets
from vitreous.jobs.report import Section
from vitreous.model.particles import LoadedImages, Particles
from vitreous.reconstruction.diagnosis import TRIAL_CHECKS, Status, Verdict, diagnose, pixel_size_verdict
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.resampling import at_most

LARGEST_BOX = 96  # larger images are Fourier-cropped for the trials: conventions show at low resolution
TRIALS_EXPECTED = 22
LEAST_PARTICLES = 20  # fewer make no trial
SUBSET_BYTES = 2**29


@dataclass(frozen=True)
class Check(ParticleInput):
    """Settings of the convention doctor.

    Parameters
    ----------
    map
        A map that the particles should give: its scale tests the pixel size.
    subset
        Most particles to look at, evenly spread over the file.
    """

    map: Path | None = field(default=None, kw_only=True)
    subset: int = field(default=2500, kw_only=True)

    name: ClassVar[str] = "check"

    def inputs(self) -> list[Path]:
        return [path for path in (self.particles, *self.passthrough, self.map) if path is not None]

    def run(self, desk: Desk) -> Outcome:
        group = point_group(self.symmetry)
        if self.subset < LEAST_PARTICLES:
            raise SettingsProblem(f"--subset {self.subset}", f"at least {LEAST_PARTICLES} particles")
        particles = read_particles(
            self.particles, passthrough=self.passthrough, load_images=False, pixel_size=self.pixel_size
        )
        readable, path_verdict = readable_rows(particles, self.particles.parent, self.datadir)
        verdicts = [path_verdict, duplicate_names(particles), half_set_verdict(particles)]
        if len(readable):
            part = particles.rows(readable)
            part = replace(part, images=open_images(part.names, self.particles.parent, as_folders(self.datadir)))
            loaded, sound, pixel_verdict = load_subset(part, self.subset)
            verdicts += [pixel_verdict, same_pixels(loaded)]
            verdicts += self.trials(loaded.rows(sound), group.operators, desk)
        return outcome_of(verdicts, self.particles.name, len(particles))

    def trials(self, particles: Particles, operators: np.ndarray, desk: Desk) -> list[Verdict]:
        """The checks that need a map: contrast, CTF, rotations, shifts, pixel size."""
        if particles.pose is None:
            return [
                Verdict(check, Status.UNKNOWN, "the file gives no orientations to test it with")
                for check in TRIAL_CHECKS
            ]
        if len(particles) < LEAST_PARTICLES:
            return [
                Verdict(check, Status.UNKNOWN, f"{len(particles)} sound images are too few for a trial")
                for check in TRIAL_CHECKS
            ]
        try:
            particles = with_half_sets(at_most(particles, LARGEST_BOX), "file", self.seed)[0]
            if len(np.unique(particles.half_set)) < 2:  # type: ignore[arg-type]
                particles = with_half_sets(particles, "random", self.seed)[0]
            settings = InversionSettings(
                operators, use_ctf=particles.ctf is not None, contrast=declared_contrast(particles, self.contrast)
            )
            bar = desk.progress("trial reconstructions")
            verdicts, case = diagnose(
                particles, settings, seed=self.seed, report=lambda done: bar(done, max(done, TRIALS_EXPECTED))
            )
        except VitreousError as error:
            return [Verdict(check, Status.UNKNOWN, error.line()) for check in TRIAL_CHECKS]
        if self.map is None:
            return [*verdicts, Verdict("pixel size", Status.UNKNOWN, "give --map to test it")]
        reference = read_volume(self.map)
        return [*verdicts, pixel_size_verdict(case, reference.data.astype(np.float32), reference.pixel_size)]


def readable_rows(particles: Particles, folder: Path, datadir: Path | None) -> tuple[np.ndarray, Verdict]:
    """Rows whose image exists, and the verdict on paths."""
    names = particles.names
    counts = np.zeros(len(names.paths), dtype=np.int64)  # images in each stack, none in what cannot be read
    unreadable: list[str] = []
    for code in np.unique(names.path_code):
        path = find_stack(names.paths[code], folder, as_folders(datadir))
        try:
            if path is None:
                raise FileProblem(f"'{names.paths[code]}' is nowhere")
            counts[code] = square_stack_header(path).shape[0]
        except VitreousError as error:
            unreadable.append(error.line())
    good = (names.index >= 0) & (names.index < counts[names.path_code])
    if good.all():
        evidence = f"{len(particles):,} images in {len(np.unique(names.path_code)):,} stacks are all there"
        return np.arange(len(particles)), Verdict("paths", Status.PASS, evidence)
    first = unreadable[0] if unreadable else f"row {int(np.flatnonzero(~good)[0]) + 1} points outside its stack"
    evidence = f"{(~good).sum():,} of {len(particles):,} images cannot be read, {len(unreadable)} stacks are unreadable: {first}"
    return np.flatnonzero(good), Verdict("paths", Status.FAULT, evidence)


def name_keys(particles: Particles) -> np.ndarray:
    """One number for each image name: equal numbers are equal names."""
    return particles.names.path_code.astype(np.int64) << 40 | particles.names.index


def duplicate_names(particles: Particles) -> Verdict:
    """Whether the file lists an image twice."""
    keys = name_keys(particles)
    twice = len(keys) - len(np.unique(keys))
    if twice:
        repeated, counts = np.unique(keys, return_counts=True)
        row = int(np.flatnonzero(keys == repeated[counts > 1][0])[1]) + 1
        return Verdict(
            "duplicates",
            Status.FAULT,
            f"{twice:,} rows name an image that an earlier row names; the first is row {row}",
        )
    return Verdict("duplicates", Status.PASS, f"{len(keys):,} rows name {len(keys):,} different images")


def half_set_verdict(particles: Particles) -> Verdict:
    """Whether half sets are there, disjoint and of about the same size."""
    if particles.half_set is None:
        return Verdict("half sets", Status.UNKNOWN, "the file has none: they will be drawn at random")
    sizes = [int((particles.half_set == half).sum()) for half in (1, 2)]
    keys = name_keys(particles)
    shared = len(np.intersect1d(keys[particles.half_set == 1], keys[particles.half_set == 2]))
    evidence = f"{sizes[0]:,} and {sizes[1]:,} particles, {shared} images in both"
    # Random halves of n differ by more than 6 root n once in 5e8.
    uneven = abs(sizes[0] - sizes[1]) > max(0.2 * sum(sizes), 6 * np.sqrt(sum(sizes)))
    return Verdict("half sets", Status.FAULT if shared or uneven or min(sizes) == 0 else Status.PASS, evidence)


def load_subset(particles: Particles, most: int) -> tuple[Particles, np.ndarray, Verdict]:
    """(The subset in memory, its sound rows, the verdict on its pixels)."""
    assert particles.images is not None
    box = particles.images.shape[-1]
    most = min(most, len(particles), max(LEAST_PARTICLES, SUBSET_BYTES // (4 * box * box)))
    rows = np.unique(np.linspace(0, len(particles) - 1, most).astype(int))
    part = particles.rows(rows)
    assert part.images is not None
    pixels = part.images.read(slice(None))
    with np.errstate(invalid="ignore", over="ignore"):
        broken = ~np.isfinite(pixels).all(axis=(1, 2))
        constant = ~broken & (pixels.max(axis=(1, 2)) == pixels.min(axis=(1, 2)))
    unsound = broken | constant
    sound = np.flatnonzero(~unsound)
    looked = f"{len(rows):,} of {len(particles):,} images looked at"
    if len(sound) < len(rows):
        first = int(rows[np.flatnonzero(unsound)[0]]) + 1
        evidence = f"{broken.sum()} with NaN or infinite pixels, {constant.sum()} constant ({looked}); the first is row {first}"
        return replace(part, images=LoadedImages(pixels)), sound, Verdict("pixels", Status.FAULT, evidence)
    return (
        replace(part, images=LoadedImages(pixels)),
        sound,
        Verdict("pixels", Status.PASS, f"all finite, none constant ({looked})"),
    )


def same_pixels(loaded: Particles) -> Verdict:
    """Whether two rows of the subset show the same pixels under different names."""
    assert isinstance(loaded.images, LoadedImages)
    different = np.unique(name_keys(loaded), return_index=True)[
        1
    ]  # one image under one name is the other check's business
    digests = [hashlib.blake2b(loaded.images.pixels[row].tobytes(), digest_size=16).digest() for row in different]
    twice = [digest for digest, count in Tally(digests).items() if count > 1]
    if twice:
        return Verdict(
            "repeated images",
            Status.FAULT,
            f"{len(twice)} images appear more than once, pixel for pixel, among the {len(digests):,} looked at",
        )
    return Verdict("repeated images", Status.PASS, f"no two of the {len(digests):,} images looked at are equal")


def outcome_of(verdicts: list[Verdict], name: str, count: int) -> Outcome:
    """Verdicts as findings: each check by name, with its evidence."""
    findings = [Finding(v.check.replace(" ", "_"), v.check, v.status.value, "", v.evidence) for v in verdicts]
    faults = [v for v in verdicts if v.status is Status.FAULT]
    outcome = Outcome(findings, title=f"Check of {name}", subtitle=f"{count:,} particles: {len(faults)} faults")
    outcome.warnings = [f"{v.check}: {v.evidence}" for v in faults]
    outcome.tables = {
        "evidence": {v.check.replace(" ", "_"): v.evidence for v in verdicts},
        "faults": [v.check for v in faults],
    }
    outcome.sections = [
        Section(
            "Verdicts", "Each line is one thing that the file says, tested on its images.", numbers=outcome.numbers()
        )
    ]
    return outcome
