"""What the programs leave behind: classes, poses and maps, by image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alignment.picks import image_keys
from comparison import kept_cost
from measure import Cost, Run
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io.mrc_stack import MrcStack
from vitreous.io.particles import read_particles
from vitreous.io.relion_optics import numbers
from vitreous.model.particles import Particles

CLASS = "rlnClassNumber"


@dataclass(frozen=True)
class Classes:
    """Class averages [k, y, x], and for each of the particles asked for its class, from 0 (-1: in none)."""

    averages: np.ndarray
    class_index: np.ndarray

    @property
    def population(self) -> np.ndarray:
        return np.bincount(self.class_index[self.class_index >= 0], minlength=len(self.averages))


@dataclass(frozen=True)
class Poses:
    """Rotations [n, 3, 3] and origins [n, 2] in angstrom of the particles asked for."""

    rotation: np.ndarray
    shift: np.ndarray


def rows_of(found: Particles, wanted: Particles) -> np.ndarray:
    """For each wanted particle its row in `found`. Raises KeyError for one that is not there."""
    row = {key: number for number, key in enumerate(image_keys(found))}
    return np.array([row[key] for key in image_keys(wanted)])


def classes_in(star: Path, averages: Path, wanted: Particles) -> Classes:
    """The result of a 2D classification."""
    particles = read_particles(star, load_images=False)
    number = numbers(particles.table, CLASS).astype(int)[rows_of(particles, wanted)]
    return Classes(MrcStack(averages).read(slice(None)), number - 1)


def poses_in(star: Path, wanted: Particles) -> Poses:
    """The poses of a particle file."""
    particles = read_particles(star, load_images=False)
    if particles.pose is None:
        raise ValueError(f"{star} holds no poses")
    pose = particles.pose.rows(rows_of(particles, wanted))
    return Poses(matrix_from_euler(pose.euler), pose.shift)


def relion_files(folder: Path, iteration: int) -> tuple[Path, Path]:
    """The particles and the class averages (or, of a 3D run, the place of the map) after an iteration."""
    start = folder / f"run_it{iteration:03d}"
    stack, volume = Path(f"{start}_classes.mrcs"), Path(f"{start}_class001.mrc")
    return Path(f"{start}_data.star"), stack if stack.is_file() else volume


def last_iteration(folder: Path) -> int:
    """The last iteration that a RELION run has finished, 0 for none."""
    return max((int(path.name[6:9]) for path in folder.glob("run_it*_data.star")), default=0)


def relion_half_maps(folder: Path) -> list[Path]:
    """The unfiltered half maps of an auto-refinement: the final ones, else those of the last iteration."""
    final = [folder / f"run_half{half}_class001_unfil.mrc" for half in (1, 2)]
    if all(path.is_file() for path in final):
        return final
    last = last_iteration(folder)
    names = [f"run_it{last:03d}_half{half}_class001" for half in (1, 2)]
    unfiltered = [folder / f"{name}_unfil.mrc" for name in names]
    return unfiltered if all(path.is_file() for path in unfiltered) else [folder / f"{name}.mrc" for name in names]


def iteration_seconds(folder: Path) -> list[float]:
    """Seconds of each iteration of a RELION run, from the times of its files."""
    written = [path.stat().st_mtime for path in sorted(folder.glob("run_it*_data.star"))]
    return [float(seconds) for seconds in np.diff(sorted(written))]


def earlier_cost(folder: Path) -> tuple[Cost, str] | None:
    """What an earlier run has cost, and when it was; None where there is none.

    Of a RELION run that was stopped there are the times of its files: from the beginning to its last iteration, CPU time and memory unknown.
    """
    seconds = iteration_seconds(folder)
    kept = kept_cost(folder)
    if kept is not None or not seconds:
        return kept
    return Cost("RELION, stopped", [Run(sum(seconds), float("nan"), 0)]), f"{last_iteration(folder)} iterations"
