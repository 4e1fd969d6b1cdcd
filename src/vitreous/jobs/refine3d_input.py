"""What a 3D refinement starts from: references on the grid and scale of the images, half sets, the size of the particle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.alignment.reference_scale import reference_scale
from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, low_pass
from vitreous.fourier.transforms import radial_frequency
from vitreous.geometry.rotations import random_rotations
from vitreous.io.mrc import read_volume
from vitreous.jobs.refine_ctf import read_reference
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume
from vitreous.reconstruction.map_resampling import SAME, resampled_map
from vitreous.reconstruction.mask import Mask, mask_from_values
from vitreous.reconstruction.particle_extent import map_radius
from vitreous.reconstruction.projection import fourier_volume, project, slice_grid

DIAMETER_ROOM = 1.1  # of the mask beyond the particle in the reference: a coarse map does not show all of it
LARGEST_DIAMETER, WITHOUT_MEASURE = 0.9, 0.85  # of the box
SMALLEST_DIAMETER = 8  # pixels
SMALLEST_REFERENCE = 0.25  # of the box: a particle fills more of it
# Of the references of several classes: random waves of about two periods across the particle, each with this amplitude in all.
WAVES, WAVE_STRENGTH, WAVE_PERIODS = 24, 0.25, 2.0
SYMMETRY_VIEWS = 24
LEAST_SYMMETRY = 0.8  # correlation of a map with its turned copies: one in another setting has far less
DIFFERENT_SCALE = 1.5  # factor between the greys of reference and images that is worth a sentence


@dataclass(frozen=True)
class StartMaps:
    """`maps` [k, z, y, x] on the grid of the images; `changes`: what was done to them, a few words each; `notes`: what is odd about them, a sentence each."""

    maps: np.ndarray
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def refuse_other_scale(volume: Volume, path: Path, width: float, resolution: float) -> None:
    """Raise DataProblem for a map whose voxels cannot show `resolution` angstrom, or that is far smaller than images `width` angstrom wide."""
    own = volume.box * volume.pixel_size
    if 2 * volume.pixel_size > resolution or own < SMALLEST_REFERENCE * width:
        raise DataProblem(
            f"{path} has {volume.box} voxels of {volume.pixel_size:.4g} A and is {own:.4g} A wide",
            f"voxels of at most {resolution / 2:g} A, and a map about as wide as the images, {width:.4g} A",
            "give --reference-pixel-size if the header of the map is wrong",
        )


def read_start_maps(
    paths: Sequence[Path], box: int, pixel_size: float, own_pixel_size: float | None, start_resolution: float
) -> StartMaps:
    """The maps of the files on `box` voxels of `pixel_size` angstrom; `own_pixel_size` replaces that of their headers. They must be able to show
    `start_resolution` angstrom.
    """
    maps, changes = [], []
    for path in paths:
        volume = read_reference(path, own_pixel_size)
        if not np.ptp(volume.data) > 0:
            raise DataProblem(f"{path} has one value in all voxels", "a map of the particle")
        refuse_other_scale(volume, path, box * pixel_size, start_resolution)
        other = abs(volume.pixel_size / pixel_size - 1) > SAME
        if other or volume.box != box:
            changes.append(
                f"resampled from {volume.box} voxels of {volume.pixel_size:.4g} Å to {box} of {pixel_size:.4g} Å"
            )
        maps.append(resampled_map(volume.data, volume.pixel_size, box, pixel_size))
    return StartMaps(np.stack(maps), tuple(dict.fromkeys(changes)))


def read_start_mask(path: Path, box: int, pixel_size: float) -> Mask:
    """A soft mask, resampled to the grid of the images if it is on another."""
    volume = read_volume(path)
    if not mask_from_values(volume.data).values.any():  # refuses a map taken for a mask
        raise DataProblem(f"{path} is 0 everywhere", "a mask that keeps the particle, values from 0 to 1")
    return mask_from_values(np.clip(resampled_map(volume.data, volume.pixel_size, box, pixel_size), 0, 1))


def reference_diameter(maps: np.ndarray, pixel_size: float) -> float:
    """The diameter of the mask in angstrom: that of the largest reference and some room, or most of the box if none stands out."""
    box = maps.shape[-1] * pixel_size
    radii = [map_radius(volume, pixel_size) for volume in maps]
    found = [2 * DIAMETER_ROOM * radius for radius in radii if radius is not None and radius > 0]
    return min(max(found), LARGEST_DIAMETER * box) if found else WITHOUT_MEASURE * box


def checked_diameter(diameter: float, box: int, pixel_size: float) -> float:
    """The diameter, if a mask of it leaves something of the images and of what is around the particle."""
    least, most = SMALLEST_DIAMETER * pixel_size, box * pixel_size
    if not least <= diameter <= most:
        raise SettingsProblem(
            f"--diameter {diameter:g} for images of {box} px of {pixel_size:.4g} A",
            f"a mask from {least:.0f} to {most:.0f} angstrom across",
            "leave --diameter out to have it measured on the reference",
        )
    return diameter


def on_scale(
    start: StartMaps, particles: Particles, *, diameter: float, resolution: float, use_ctf: bool, contrast: Contrast
) -> StartMaps:
    """The maps times the one factor that fits their mean to the images."""
    pixel_size = particles.pixel_size
    fit = reference_scale(
        particles,
        start.maps.mean(axis=0),
        radius=diameter / 2 / pixel_size,
        coarsest=diameter,
        finest=resolution / 2,
        use_ctf=use_ctf,
        contrast=contrast,
    )
    changes, notes = list(start.changes), list(start.notes)
    if not fit.seen:
        notes.append(
            "The images have no more power around their middle than beyond the mask: they are very noisy, far off centre, or empty."
        )
    if not 1 / DIFFERENT_SCALE < fit.scale < DIFFERENT_SCALE:
        changes.append(f"its contrast multiplied by {fit.scale:.3g}")
    return StartMaps(start.maps * np.float32(fit.scale), tuple(changes), tuple(notes))


def filtered(maps: np.ndarray, pixel_size: float, resolution: float) -> np.ndarray:
    """The maps [k, z, y, x] without what is finer than `resolution` angstrom."""
    k = radial_frequency(maps.shape[1:], pixel_size, dtype=np.float32)
    return apply_filter(maps, low_pass(k, 1 / resolution, 0.25 / resolution), 3)


def several_maps(maps: np.ndarray, classes: int, operators: np.ndarray, periods: float, seed: int) -> np.ndarray:
    """`classes` references of one, each multiplied by 1 + g with waves g of its own (seeded), so that the classes can part.

    g(x) = sum_j a_j cos(2 pi k_j x + phase_j), over all symmetry copies of k_j; `periods` of a wave in the box, about.
    """
    if len(maps) == classes:
        return maps
    box = maps.shape[-1]
    axis = (np.arange(box) - box // 2) / box
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    made = []
    for number in range(classes):
        rng = np.random.default_rng([seed, number])
        wave = rng.normal(size=(WAVES, 3))
        wave *= periods / np.linalg.norm(wave, axis=1, keepdims=True)
        phase = rng.uniform(0, 2 * np.pi, WAVES)
        field = np.zeros(len(points), dtype=np.float32)
        for operator in operators:
            for k, start in zip(wave @ operator.T, phase):
                field += np.cos(2 * np.pi * (points @ k.astype(np.float32)) + np.float32(start))
        field *= WAVE_STRENGTH / max(float(field.std()), 1e-6)
        made.append(maps[0] * (1 + field.reshape((box,) * 3)))
    return np.stack(made).astype(np.float32)


def symmetry_agreement(volume: np.ndarray, operators: np.ndarray, pixel_size: float, resolution: float) -> float:
    """Mean correlation of a map with its copies turned by the operators, at frequencies up to `resolution`; 1 for one operator."""
    if len(operators) == 1:
        return 1.0
    grid = slice_grid(volume.shape[-1], max(4.0, volume.shape[-1] * pixel_size / resolution))
    centred = volume - volume.mean()
    transform = fourier_volume(centred)
    views = random_rotations(SYMMETRY_VIEWS, np.random.default_rng(0))
    here = project(transform, views.astype(np.float32), grid)
    power = float((np.abs(here) ** 2).sum())
    found = []
    for operator in operators[1:]:
        there = project(transform, (views @ operator).astype(np.float32), grid)
        found.append(
            float((here * there.conj()).real.sum()) / np.sqrt(max(power * float((np.abs(there) ** 2).sum()), 1e-30))
        )
    return float(np.mean(found))


def with_halves(particles: Particles, option: str, seed: int, path: Path) -> tuple[Particles, bool]:
    """The particles with half sets, and whether they were drawn here: those of the file if it has any and "file" is asked for."""
    count = len(particles)
    if count < 2:
        raise DataProblem(f"{path} holds one particle", "at least two: one for each half set")
    if option == "file" and particles.half_set is not None:
        sizes = np.bincount(particles.half_set, minlength=3)[1:3]
        if not sizes.all():
            raise DataProblem(
                f"all particles of {path} are in half set {1 + int(sizes.argmax())}",
                "two half sets",
                "give --half-sets random",
            )
        return particles, False
    halves = np.random.default_rng(seed).permutation(np.arange(count) % 2 + 1).astype(np.int8)
    return replace(particles, half_set=halves), True


def start_poses(particles: Particles, *, local: bool, path: Path) -> Particles:
    """The particles with the poses of the file for a local start; else with its origins, if it has any, but without its angles."""
    if particles.pose is None:
        if local:
            raise DataProblem(
                f"--local for {path}, which gives no orientations", "angles for each particle", "leave --local out"
            )
        return particles
    if local:
        return particles
    return replace(particles, pose=Pose(np.zeros_like(particles.pose.euler), particles.pose.shift))
