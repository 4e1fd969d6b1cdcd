"""cryoDRGN's tables: poses.pkl, ctf.pkl and z.pkl, read and written as version 4 has them.

poses.pkl    (rotations [n, 3, 3], translations [n, 2]): the matrices are our `R`; a translation is RELION's origin (x, y), the way that brings the
             particle to the centre, as a fraction of the box. A file of rotations alone means no translations.
ctf.pkl      float32 [n, 9]: box (pixels), angstrom per pixel, defocus U and V (angstrom), their angle (degrees), voltage (kV), spherical
             aberration (mm), amplitude contrast, phase shift (degrees). Where a STAR file has no phase shift cryoDRGN writes NaN, which it cannot train with.
z.pkl        the means [n, d] of the latents and then, in a second pickle, the logarithms of their variances [n, d].

cryoDRGN multiplies images by -1 (unless told `--uninvert-data`) and its CTF is negative at k = 0: together, images whose protein is white give a map
whose protein is white. Pickles are read by `plain_pickle`, which runs nothing.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, OutputProblem
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler
from vitreous.io.atomic import atomic_path
from vitreous.io.grouping import distinct_rows
from vitreous.io.plain_pickle import read_plain_pickle, read_plain_pickles
from vitreous.io.relion_optics import with_pixel_size
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.units import DEGREE, KILOVOLT, MILLIMETRE

POSES, CTF, LATENTS = "poses.pkl", "ctf.pkl", "z.pkl"
COLUMNS = 9
LARGEST_LOG_VARIANCE = 80.0  # whose variance float32 can hold
TURN = 1e-3  # how far R R^T of a rotation matrix in single precision, refined by gradients, may be from 1
PROTOCOL = 4  # of the pickles that are written: every Python 3.4 and later reads it


@dataclass(frozen=True)
class CtfTable:
    """A ctf.pkl: `values` [n, 9] float64, and how many rows gave no phase shift (NaN), which is 0 here."""

    values: np.ndarray
    absent_phase_shifts: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def pixel_size(self, box: int) -> float:
        """Angstrom per pixel of images of `box` pixels: the field of view is that of the table. One for all particles, or DataProblem."""
        widths = self.values[:, 0] * self.values[:, 1]
        if np.ptp(widths) > 1e-4 * widths[0]:
            raise DataProblem(
                f"fields of view from {widths.min():g} to {widths.max():g} A in one CTF table", "one for all particles"
            )
        return float(widths[0] / box)

    def optics(self, box: int) -> tuple[tuple[OpticsGroup, ...], np.ndarray]:
        """A group for each voltage, spherical aberration and amplitude contrast, and that of each particle [n]."""
        columns = [self.values[:, column] for column in (5, 6, 7)]
        first, index = distinct_rows(columns, len(self))
        size = self.pixel_size(box)
        groups = []
        for number, row in enumerate(first, 1):
            voltage, aberration, contrast = (_short(float(column[row])) for column in columns)
            groups.append(
                OpticsGroup(
                    name=f"opticsGroup{number}",
                    pixel_size=_short(size),
                    box=box,
                    voltage=voltage * KILOVOLT,
                    spherical_aberration=aberration * MILLIMETRE,
                    amplitude_contrast=contrast,
                )
            )
        return tuple(groups), index

    def parameters(self) -> CtfParameters:
        """Defocus, angle and phase shift."""
        defocus_u, defocus_v, angle, shift = (self.values[:, column] for column in (2, 3, 4, 8))
        return CtfParameters.of(defocus_u, defocus_v, angle * DEGREE, shift * DEGREE)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_poses(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [n, 3, 3] and translations [n, 2], fractions of the box. DataProblem for values that are no poses."""
    value = read_plain_pickle(path)
    parts = value if isinstance(value, tuple | list) and len(value) in (1, 2) else (value,)
    rotation = _numbers(parts[0], path, "rotations", (3, 3))
    if np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max() > TURN or np.linalg.det(rotation).min() < 0:
        raise DataProblem(f"{path} has matrices that are no rotations", "rotation matrices")
    translation = np.zeros((len(rotation), 2))
    if len(parts) == 2:
        translation = _numbers(parts[1], path, "translations", (2,))
    if len(translation) != len(rotation):
        raise DataProblem(
            f"{path} has {len(rotation)} rotations and {len(translation)} translations", "one for each particle"
        )
    if np.abs(translation).max() > 1:
        raise DataProblem(
            f"{path} has a translation of {np.abs(translation).max():g} boxes",
            "fractions of the box",
            "pixels, as versions before 0.3 wrote them, must be divided by the box first",
        )
    return rotation, translation


def read_ctf(path: str | os.PathLike[str]) -> CtfTable:
    """A ctf.pkl; phase shifts that are NaN count as absent, and are 0."""
    values = _numbers(read_plain_pickle(path), path, "CTFs", (COLUMNS,), finite=False)
    absent = np.isnan(values[:, -1])
    values[absent, -1] = 0.0
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataProblem(f"row {row + 1} of {path} has a value that is no number", "numbers in all columns")
    if (values[:, [0, 1, 5]] <= 0).any():
        raise DataProblem(f"{path} has a box, pixel size or voltage that is not positive", "a ctf.pkl of cryoDRGN's")
    return CtfTable(values, int(absent.sum()))


def read_latents(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Means [n, d] and, where the file has them, variances [n, d] of the latents."""
    mean, *more = read_plain_pickles(path, at_most=2)
    mean = _numbers(mean, path, "latents", (-1,))
    if not more:
        return mean, None
    log_variance = _numbers(more[0], path, "log variances", (-1,))
    if log_variance.shape != mean.shape:
        raise DataProblem(f"{path} has latents {mean.shape} and variances {log_variance.shape}", "one for each")
    if log_variance.max() > LARGEST_LOG_VARIANCE:
        raise DataProblem(f"{path} has a variance of e^{log_variance.max():g}", "logarithms of variances")
    return mean, np.exp(log_variance)


def with_poses(particles: Particles, path: str | os.PathLike[str]) -> Particles:
    """The particles with the poses of a poses.pkl; their box and pixel size make angstrom of fractions."""
    rotation, translation = read_poses(path)
    _same_length(len(rotation), particles, path)
    shift = translation * box_of(particles) * particles.pixel_size
    return replace(particles, pose=Pose(euler_from_matrix(rotation), shift))


def with_ctf(
    particles: Particles, table: CtfTable, path: str | os.PathLike[str], *, pixel_size: float | None = None
) -> Particles:
    """The particles with the CTFs and optics of a ctf.pkl; B factors and scales, which it has not, stay.

    `pixel_size` (angstrom) takes the place of the table's. `path` is named in errors.
    """
    _same_length(len(table), particles, path)
    optics, index = table.optics(box_of(particles))
    optics = with_pixel_size(optics, pixel_size)
    ctf = table.parameters()
    if particles.ctf is not None:
        ctf = replace(ctf, b_factor=particles.ctf.b_factor, scale=particles.ctf.scale)
    return replace(particles, optics=optics, optics_index=index, ctf=ctf)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_cryodrgn_inputs(folder: str | os.PathLike[str], particles: Particles) -> None:
    """Write poses.pkl and ctf.pkl, which `cryodrgn train_vae` takes with the same images in the same order.

    What the tables have no column for (B factors, scales, beam tilt, further aberrations, half sets) is left out. DataProblem for particles without poses
    or CTFs, with several pixel sizes or a magnification matrix, or whose images are corrected for their CTF already.
    """
    poses, ctf = pose_arrays(particles), ctf_array(particles)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputProblem(f"the folder {folder} cannot be made: {reason}", "", "choose another") from None
    write_pickles(Path(folder) / POSES, poses)
    write_pickles(Path(folder) / CTF, ctf)


def write_latents(path: str | os.PathLike[str], mean: np.ndarray, variance: np.ndarray) -> None:
    """Write a z.pkl: means [n, d] and variances [n, d] of the latents."""
    write_pickles(path, mean.astype(np.float32), np.log(variance).astype(np.float32))


def write_pickles(path: str | os.PathLike[str], *values: Any) -> None:
    """One pickle after the other in a file."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        for value in values:
            pickle.dump(value, stream, protocol=PROTOCOL)


def pose_arrays(particles: Particles) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [n, 3, 3] and translations [n, 2] as fractions of the box."""
    if particles.pose is None:
        raise DataProblem("particles without poses", "a file with angles and shifts", "refine them first")
    return matrix_from_euler(particles.pose.euler), particles.pose.shift / (box_of(particles) * particles.pixel_size)


def ctf_array(particles: Particles) -> np.ndarray:
    """The table [n, 9]; phase shifts that the particles do not have are 0."""
    if particles.ctf is None:
        raise DataProblem("particles without CTFs", "a file with defocus values", "estimate them first")
    if particles.ctf_state is not CtfState.RAW:
        raise DataProblem(
            f"images that are {particles.ctf_state.value}",
            "images as they were recorded: cryoDRGN multiplies its projections by the CTF",
        )
    box, pixel_size, ctf = box_of(particles), particles.pixel_size, particles.ctf
    for group in particles.used_optics():
        group.require("voltage", "spherical_aberration", "amplitude_contrast")
        if np.abs(np.asarray(group.magnification) - np.eye(2)).max() > 0:
            raise DataProblem(
                f"optics group '{group.name}' has an anisotropic magnification",
                "none: cryoDRGN's files have no place for it",
            )
    names = ("voltage", "spherical_aberration", "amplitude_contrast")
    units = (KILOVOLT, MILLIMETRE, 1.0)
    optics = np.array([[(getattr(g, n) or 0.0) / unit for n, unit in zip(names, units)] for g in particles.optics])
    count = len(particles)
    angles = (ctf.defocus_angle / DEGREE, ctf.phase_shift / DEGREE)
    columns = [np.full(count, float(box)), np.full(count, pixel_size), ctf.defocus_u, ctf.defocus_v, angles[0]]
    return np.column_stack([*columns, optics[particles.optics_index], angles[1]]).astype(np.float32)


# --- what both have in common -----------------------------------------------------------------------------------------


def box_of(particles: Particles) -> int:
    """Pixels along an edge of the images, of which all must have as many."""
    boxes = {group.box for group in particles.used_optics()}
    if particles.images is not None:
        boxes = {particles.images.shape[-1]}
    box = next(iter(boxes)) if len(boxes) == 1 else None
    if box is None:
        raise DataProblem(f"particles of boxes {sorted(map(str, boxes))}", "one box, in the file or by its images")
    return box


def _numbers(
    value: Any, path: str | os.PathLike[str], what: str, shape: tuple[int, ...], *, finite: bool = True
) -> np.ndarray:
    """The value as float64 [n, *shape]; -1 stands for any length."""
    array = np.asarray(value) if isinstance(value, np.ndarray | list) else None
    wanted = ", ".join("d" if length < 0 else str(length) for length in shape)
    fits = array is not None and array.dtype.kind in "fiu" and array.ndim == len(shape) + 1 and len(array) > 0
    if not fits or any(want not in (-1, got) for want, got in zip(shape, array.shape[1:])):  # type: ignore[union-attr]
        found = type(value).__name__ if array is None else f"{array.dtype} {array.shape}"
        raise DataProblem(
            f"{path} holds {found} for its {what}", f"numbers [n, {wanted}]", "name the file of this kind"
        )
    array = np.array(array, dtype=np.float64)
    if finite and not np.isfinite(array).all():
        raise DataProblem(f"{path} has {what} that are no numbers", "finite numbers")
    return array


def _same_length(count: int, particles: Particles, path: str | os.PathLike[str]) -> None:
    if count != len(particles):
        raise DataProblem(
            f"{path} has {count} rows and there are {len(particles)} images",
            "one row for each, in the same order",
            "name the files that belong together",
        )


def _short(value: float) -> float:
    """A float32 as the shortest decimal number that gives it."""
    return float(str(np.float32(value)))
