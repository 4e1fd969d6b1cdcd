"""What a demonstration found beside what was true: picks, defoci and poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import FormatProblem
from vitreous.geometry.rotations import angular_distance, compose, matrix_from_euler
from vitreous.io.micrograph_star import Coordinates, read_coordinates, read_micrographs
from vitreous.io.particles import read_particles
from vitreous.io.relion_optics import numbers
from vitreous.io.star import read_star
from vitreous.jobs.truth_comparison import Comparison
from vitreous.model.table import Table
from vitreous.reconstruction.map_alignment import Placement, other_hand
from vitreous.units import DEGREE

if TYPE_CHECKING:
    from jaxtyping import Float, Int

WITHIN = 60.0  # angstrom from the centre of a particle: a pick of it


@dataclass(frozen=True)
class Pairs:
    """Places found beside true ones: the rows of each that belong together, `found` [m] and `true` [m], their `distance` [m] in angstrom, and how many
    there are in all.
    """

    found: Int[np.ndarray, " m"]
    true: Int[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]
    found_count: int
    true_count: int

    def __len__(self) -> int:
        return len(self.found)

    @property
    def recall(self) -> float:
        """The part of the true places that was found."""
        return len(self) / self.true_count

    @property
    def precision(self) -> float:
        """The part of what was found that is true; 1 where nothing was."""
        return len(self) / self.found_count if self.found_count else 1.0


@dataclass(frozen=True)
class PoseErrors:
    """Of each particle that is one: how far its orientation is from the true one (`angle`, radian), and how far its centre is from
    the true centre in the image (`centre`, angstrom).
    """

    angle: Float[np.ndarray, " m"]
    centre: Float[np.ndarray, " m"]


def true_places(truth: Coordinates) -> tuple[np.ndarray, Float[np.ndarray, "n 2"]]:
    """Micrograph and centre in pixels of the true particles."""
    assert truth.optics.pixel_size is not None
    names = np.array([Path(name).name for name in truth.names])[truth.micrograph]
    return names, truth.pixel - truth.pose.shift / micrograph_pixel_size(truth)


def micrograph_pixel_size(truth: Coordinates) -> float:
    assert truth.optics.pixel_size is not None
    return truth.optics.pixel_size


def table_places(table: Table, pixel_size: float) -> tuple[np.ndarray, Float[np.ndarray, "n 2"]]:
    """Micrograph and centre in pixels of the rows of a file: coordinate - origin / pixel size, where it has origins."""
    names = np.array([Path(str(name)).name for name in table["rlnMicrographName"]])
    place = np.stack([numbers(table, f"rlnCoordinate{axis}") for axis in "XY"], axis=-1)
    if "rlnOriginXAngst" in table:
        place = place - np.stack([numbers(table, f"rlnOrigin{axis}Angst") for axis in "XY"], axis=-1) / pixel_size
    return names, place


def pairs(
    found: tuple[np.ndarray, Float[np.ndarray, "n 2"]],
    true: tuple[np.ndarray, Float[np.ndarray, "t 2"]],
    pixel_size: float,
    *,
    within: float = WITHIN,
) -> Pairs:
    """Which of the places found belong to which true ones: in one micrograph, at most `within` angstrom apart, each at most once, the nearest first."""
    rows, columns, distances = [], [], []
    for name in np.unique(true[0]):
        here, there = np.flatnonzero(found[0] == name), np.flatnonzero(true[0] == name)
        apart = np.linalg.norm(found[1][here][:, None] - true[1][there], axis=-1) * pixel_size
        near = np.argwhere(apart <= within)
        for row, column in near[np.argsort(apart[tuple(near.T)], kind="stable")]:
            if here[row] not in rows and there[column] not in columns:
                rows.append(here[row])
                columns.append(there[column])
                distances.append(apart[row, column])
    return Pairs(
        np.array(rows, dtype=int), np.array(columns, dtype=int), np.array(distances), len(found[0]), len(true[0])
    )


def picked(picks: Path, coordinates: Path) -> Pairs:
    """The rows of a file of picks or particles beside those of coordinates.star."""
    truth = read_coordinates(coordinates)
    table = read_star(picks)["particles"]
    if not isinstance(table, Table):
        raise FormatProblem(f"the block 'particles' of {picks} is no table", "one row a particle")
    size = micrograph_pixel_size(truth)
    return pairs(table_places(table, size), true_places(truth), size)


def defocus_errors(estimated: Path, true: Path) -> Float[np.ndarray, " m"]:
    """Estimated minus true mean defocus of each micrograph for which one was found, in angstrom."""
    (_, names, ctf, _), (_, true_names, true_ctf, _) = read_micrographs(estimated), read_micrographs(true)
    at = {Path(name).name: row for row, name in enumerate(true_names)}
    rows = [at[Path(name).name] for name in names]
    return (ctf.defocus_u + ctf.defocus_v) / 2 - (true_ctf.defocus_u + true_ctf.defocus_v)[rows] / 2


def pose_errors(
    particles: Path, coordinates: Path, placement: Placement, pixel_size: float, *, mirrored: bool
) -> PoseErrors:
    """Refined poses beside the true ones.

    `placement` lays the true map over the refined one of the right hand, with voxels of `pixel_size` angstrom: a point x of the particle lies at
    R_p x + t in that map, so that the true pose R of a particle is compared with R_refined R_p. If the refined map was the mirror image (`mirrored`),
    its poses are those of the other hand: with S the reflection in z, S R_refined S shows the right one, since a projection
    along z does not know z from -z.
    """
    truth = read_coordinates(coordinates)
    refined = read_particles(particles, load_images=False)
    assert refined.pose is not None
    size = micrograph_pixel_size(truth)
    matrix = matrix_from_euler(refined.pose.euler)
    if mirrored:
        matrix = other_hand(matrix)
    names, place = table_places(refined.table, size)
    # The centre of the true map lies at t in the refined one, and is seen where the refined pose turns it.
    place = place + (matrix @ (placement.shift * pixel_size))[:, :2] / size
    both = pairs((names, place), true_places(truth), size)
    turned = compose(matrix[both.found], np.broadcast_to(placement.rotation, (len(both), 3, 3)))
    return PoseErrors(angular_distance(turned, matrix_from_euler(truth.pose.euler[both.true])), both.distance)


def median_degrees(angle: np.ndarray) -> float | None:
    return float(np.median(angle)) / DEGREE if len(angle) else None


@dataclass(frozen=True)
class Truths:
    """All that was found beside all that was true: the map, the picks, the picks that were kept, defoci (angstrom, estimated minus true), poses."""

    comparison: Comparison
    picks: Pairs
    kept: Pairs
    defocus: Float[np.ndarray, " m"]
    poses: PoseErrors
