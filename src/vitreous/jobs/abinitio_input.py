"""What a map from nothing is made of: some of the particles, with no more pixels than the search compares."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.errors import SettingsProblem
from vitreous.jobs.alignment_input import refuse_unusable_images
from vitreous.jobs.refine3d_input import start_poses
from vitreous.model.particles import Particles
from vitreous.reconstruction.resampling import at_most

# Nyquist of the working images lies at this part of the finest resolution compared: what is beyond costs time and says nothing.
NYQUIST_SHARE = 2 / 3
LEAST_BOX = 24  # pixels: smaller maps are all interpolation
LEAST_PARTICLES = 20  # for each class


def refuse_few_particles(count: int, classes: int, path: Path) -> None:
    """Raise if so many particles cannot give so many maps."""
    if count < LEAST_PARTICLES * classes:
        raise SettingsProblem(
            f"--classes {classes} for the {count} particles of {path}"
            if classes > 1
            else f"{count} particle{'s' * (count != 1)} in {path}",
            f"at least {LEAST_PARTICLES} particles for each map",
            f"give at most --classes {count // LEAST_PARTICLES}" if count >= LEAST_PARTICLES and classes > 1 else "",
        )


def refuse_band(start: float, end: float, diameter: float, pixel_size: float) -> None:
    """Raise SettingsProblem unless the particle is larger than the resolution to begin with, and this coarser than the one to end at, which the pixels hold."""
    if not 2 * pixel_size <= end:
        raise SettingsProblem(f"--end-resolution {end:g}", f"at least {2 * pixel_size:.2f} angstrom (Nyquist)")
    if not start < diameter:
        raise SettingsProblem(f"--start-resolution {start:g}", f"finer than the mask, {diameter:.0f} angstrom")


def working_box(box: int, pixel_size: float, finest: float) -> int:
    """The box in pixels of images that hold frequencies up to 1.5 / `finest`: even, good for transforms, at most `box`.

    >>> working_box(64, 3.54, 15.0), working_box(256, 1.0, 12.0), working_box(32, 4.0, 8.0)
    (48, 64, 32)
    """
    from scipy.fft import next_fast_len

    wanted = max(LEAST_BOX, 2 * box * pixel_size / (NYQUIST_SHARE * finest))
    half: int = next_fast_len(math.ceil(wanted / 2), real=True)  # type: ignore[assignment]
    return min(box, 2 * half)


def drawn_rows(count: int, most: int, seed: int) -> np.ndarray:
    """The rows of at most `most` particles, drawn at random, in order."""
    return np.sort(np.random.default_rng([seed, 5]).permutation(count)[:most])


def working_particles(
    particles: Particles, box: int, rows: np.ndarray, path: Path, progress: Progress = silent
) -> Particles:
    """These particles in memory on `box` pixels, in random halves, without the orientations of the file but with its origins.

    Raises DataProblem naming the first image that holds no numbers, or one value only.
    """
    refuse_unusable_images(particles, path, progress, rows=rows)
    lean = replace(start_poses(particles, local=False, path=path), half_set=None)
    return at_most(lean.rows(rows), box)
