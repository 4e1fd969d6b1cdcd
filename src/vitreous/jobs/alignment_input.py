"""What every alignment refuses of its particles, and the numbers that it chooses where none are given."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.local import Progress, silent
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.images import ParticleImages
from vitreous.model.particles import Particles

FRACTION_OF_BOX = 0.85  # of the mask, unless a diameter is given
SMALLEST_MASK = 8  # pixels across
SPREAD = (1e-12, 1e12)  # from the lowest to the highest pixel of an image: sums of squares stay within single precision
FINEST_SHIFT = 2.0  # angstrom: a step that blurs nothing coarser than 4 angstrom


def mask_diameter(diameter: float | None, box: int, pixel_size: float, *, fraction: float = FRACTION_OF_BOX) -> float:
    """The diameter of the circular mask in angstrom: as given, or a fraction of the box. SettingsProblem for one that cannot be."""
    width = box * pixel_size
    if diameter is None:
        return fraction * width
    if not SMALLEST_MASK * pixel_size <= diameter <= width:
        raise SettingsProblem(
            f"--diameter {diameter:g} for images of {box} px of {pixel_size:.4g} A",
            f"a mask from {SMALLEST_MASK * pixel_size:.0f} to {width:.0f} angstrom across",
            f"leave --diameter out for a mask of {fraction:g} of the box",
        )
    return float(diameter)


def shift_step(step: float | None, pixel_size: float) -> float:
    """The step of the finest grid of origins: as given, or the pixel size, or the smallest multiple of it of at least 2 angstrom."""
    return step if step is not None else pixel_size * math.ceil(FINEST_SHIFT / pixel_size - 1e-9)


def refuse_shifts(reach: float, step: float | None, width: float) -> None:
    """Raise SettingsProblem for a search of origins beyond a box of `width` angstrom, or with a step that was given and leaves no other origin."""
    if reach > width / 2:
        raise SettingsProblem(f"--shift-range {reach:g}", f"at most half the box, {width / 2:.0f} angstrom")
    if step is not None and step > reach > 0:
        raise SettingsProblem(
            f"--shift-step {step:g} for origins up to {reach:g} angstrom away", "a step that is at most that range"
        )


def refuse_unusable_images(
    particles: Particles, path: Path, progress: Progress = silent, *, rows: np.ndarray | None = None
) -> None:
    """Raise DataProblem naming the first image (of all, or of these rows) that holds NaN or infinities, one value only, or values beyond all measure."""
    assert particles.images is not None
    looked_at, done = np.arange(len(particles)) if rows is None else rows, 0
    for rows in chunks(looked_at, chunk_size(particles.images.shape[-1])):
        images = particles.images.read(rows)
        low, high = (edge(axis=(1, 2)).astype(np.float64) for edge in (images.min, images.max))
        broken = ~(np.isfinite(low) & np.isfinite(high))
        spread = np.where(broken, 1.0, high) - np.where(broken, 0.0, low)
        for wrong, what in (
            (broken, "holds NaN or infinite values"),
            (low == high, "has one value in all its pixels"),
            (~((SPREAD[0] < spread) & (spread < SPREAD[1])), "has values whose squares single precision cannot hold"),
        ):
            if wrong.any():
                raise DataProblem(
                    f"the image of {particle_name(particles, int(rows[np.argmax(wrong)]), path)} {what}",
                    f"images with finite values that differ, by {SPREAD[0]:g} to {SPREAD[1]:g}",
                    "remove this row, or normalise the images",
                )
        done += len(rows)
        progress(done, len(looked_at))


def particle_name(particles: Particles, row: int, path: Path) -> str:
    """A particle as people find it: its row in the file, and its image."""
    names = particles.names
    stack = names.paths[int(names.path_code[row])]
    if isinstance(particles.images, ParticleImages) and (header := particles.images.headers[names.path_code[row]]):
        stack = str(header.path)
    return f"row {row + 1} of {path} (image {int(names.index[row]) + 1} of {stack})"
