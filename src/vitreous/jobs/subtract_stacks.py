"""Subtracted images are written as stacks with a STAR file, a chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.engine.chunks import chunks
from vitreous.engine.local import Counter, Progress
from vitreous.io.mrc_stack import StackWriter
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.model.table import TextColumn
from vitreous.simulation.images import IMAGES_PER_CHUNK
from vitreous.simulation.recentring import cut_out
from vitreous.simulation.subtraction import SubtractionMaps, subtracted_images

STAR, FOLDER = "particles.star", "stacks"
STACK_BYTES = 2**30  # of one stack: what an interrupted run has to do again at most
ORIGINAL = "rlnImageOriginalName"
SCALE = "vitreousSubtractionScale"  # our own: what the subtracted image of the map was multiplied by


@dataclass(frozen=True)
class Cut:
    """Images cut out anew about the voxel `centre` (x, y, z from the map's origin), in boxes of `box` pixels that lie
    `offset` [n, 2] pixels off; `pose` is what is then true of them.
    """

    centre: np.ndarray
    box: int
    pose: Pose
    offset: np.ndarray


@dataclass(frozen=True)
class Subtraction:
    """What is subtracted from which particles, times `scale` [n], and what becomes of the images."""

    particles: Particles
    maps: SubtractionMaps
    scale: np.ndarray
    cut: Cut | None
    mrc_mode: int

    @property
    def box(self) -> int:
        return self.maps.box if self.cut is None else self.cut.box


@dataclass(frozen=True)
class Stack:
    """A stack to be written: its name in the job folder, the map (0 or 1) and the rows of its particles."""

    name: str
    half: int
    rows: np.ndarray


def planned_stacks(subtraction: Subtraction) -> list[Stack]:
    """Rows by half set where there are two maps, in the order of the file, in stacks of at most `STACK_BYTES`."""
    most = max(IMAGES_PER_CHUNK, STACK_BYTES // (4 * subtraction.box**2) // IMAGES_PER_CHUNK * IMAGES_PER_CHUNK)
    pieces = [
        (half, rows) for half, members in subtraction.maps.rows(subtraction.particles) for rows in chunks(members, most)
    ]
    return [Stack(f"{FOLDER}/subtracted_{i:04d}.mrcs", half, rows) for i, (half, rows) in enumerate(pieces, 1)]


def write_stacks(folder: Path, subtraction: Subtraction, progress: Progress) -> list[Stack]:
    """All stacks that are not there yet; those that an interrupted run has finished stay."""
    stacks = planned_stacks(subtraction)
    (folder / FOLDER).mkdir(exist_ok=True)
    for unfinished in (folder / FOLDER).glob(".*"):  # of a run that was killed
        unfinished.unlink()
    counter = Counter(len(subtraction.particles), progress)
    for stack in stacks:
        if (folder / stack.name).is_file():
            counter.add(len(stack.rows))
        else:
            write_stack(folder / stack.name, subtraction, stack, counter)
    return stacks


def write_stack(path: Path, subtraction: Subtraction, stack: Stack, counter: Counter) -> None:
    part = subtraction.particles.rows(stack.rows)
    images = subtracted_images(part, subtraction.maps.removed_projectors[stack.half], subtraction.scale[stack.rows])
    with StackWriter(path, part.pixel_size, mode=subtraction.mrc_mode, label="vitreous signal subtraction") as writer:
        for rows, chunk in zip(chunks(stack.rows, IMAGES_PER_CHUNK), images):
            cut = subtraction.cut
            writer.append(chunk if cut is None else cut_out(chunk, cut.offset[rows], cut.box)[0])
            counter.add(len(rows))


def subtracted_particles(
    subtraction: Subtraction, stacks: list[Stack], source: Path, place: Path, datadir: Path | None
) -> Particles:
    """The particles in the new stacks of the folder `place`, with the names that their images had before."""
    particles, cut = subtraction.particles, subtraction.cut
    index, code = np.empty(len(particles), dtype=np.int64), np.empty(len(particles), dtype=np.int32)
    for number, stack in enumerate(stacks):
        index[stack.rows], code[stack.rows] = np.arange(len(stack.rows)), number
    former = lasting_names(particles, source, place, () if datadir is None else (datadir,)).names
    paths = tuple(path.removeprefix(">") for path in former.paths)
    original = TextColumn(former.path_code, paths, former.index + 1, np.full(len(former), 6, dtype=np.uint8))
    table = particles.table.with_columns({ORIGINAL: original, SCALE: subtraction.scale.round(6)})
    return replace(
        particles,
        names=ImageName(index, code, tuple(str(place / stack.name) for stack in stacks)),
        optics=tuple(replace(group, box=subtraction.box) for group in particles.optics),
        pose=particles.pose if cut is None else cut.pose,
        table=table,
        images=None,
    )
