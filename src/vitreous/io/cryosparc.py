"""cryoSPARC particles (.cs, .csg), versions 2 to 5: read into `Particles`, and written.

Where cryoSPARC's conventions differ from ours (docs/conventions.md), they are converted here:
- `alignments3D/pose` is a rotation vector; its matrix is the transpose of R;
- shifts are in pixels of `alignments3D/psize_A`, which is not `blob/psize_A` if the alignment was done on downsampled
  images;
- `blob/idx` counts from 0; `blob/path` may start with '>', which is not part of the name;
- `blob/sign` is -1 for images whose protein is dark;
- `alignments3D/split` is 0 or 1; `ctf/tilt_A` is Cs sin(tilt).

Its other aberrations (`ctf/shift_A`, `trefoil_A`, `tetra_A`, `anisomag`) have no documented definition: where they
are not zero they are kept in `OpticsGroup.extra` under their names, and written back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.geometry.rotations import (
    euler_from_matrix,
    matrix_from_rotation_vector,
)
from vitreous.io.carried import CARRIED_HALF, OPTICS_PREFIX, TYPED_FIELDS, for_cryosparc
from vitreous.io.cryosparc_columns import new_uids, particle_columns
from vitreous.io.cryosparc_fields import CTF, GROUP_COLUMNS, OTHER_ABERRATIONS, alignment_pixel
from vitreous.io.cs_container import read_dataset, write_dataset
from vitreous.io.cs_group import UID, read_group, with_passthrough
from vitreous.io.grouping import distinct_rows
from vitreous.io.images import open_images
from vitreous.io.relion import TYPED_COLUMNS, as_folders
from vitreous.io.relion_optics import NUMBER, numbers, with_pixel_size
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table, TextColumn
from vitreous.units import KILOVOLT, MILLIMETRE


def read_particles(
    path: str | os.PathLike[str],
    *,
    passthrough: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    datadir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    load_images: bool = True,
    pixel_size: float | None = None,
) -> Particles:
    """The particles of a .cs file, with the columns of its passthrough files, or of a .csg group. Images are found
    but not read.

    Poses are those of `alignments3D`; where there are none, in-plane angles of `alignments2D` with rot = tilt = 0.
    Exposure groups become optics groups. Other arguments and errors as for `relion.read_particles`.
    """
    path = Path(path)
    table = read_group(path) if path.suffix == ".csg" else read_dataset(path)
    table = with_passthrough(table, as_folders(passthrough), str(path))
    if len(table) == 0:
        raise DataProblem(f"{path} has no particles", "at least one row")
    missing = [name for name in ("blob/path", "blob/idx") if name not in table]
    if missing:
        raise DataProblem(
            f"{path} does not name its images ({' and '.join(missing)} missing)",
            "particles with a blob",
            "give the passthrough file of its job",
        )
    groups, index = _optics(table)
    names = _image_names(table)
    images = open_images(names, path.parent, as_folders(datadir)) if load_images else None
    if images is not None:
        groups = tuple(replace(group, box=images.box) if group.box is None else group for group in groups)
    return Particles(
        names=names,
        optics=with_pixel_size(groups, pixel_size),
        optics_index=index,
        pose=_pose(table),
        ctf=_ctf(table),
        half_set=_half_set(table),
        contrast=_contrast(table),
        images=images,
        table=table,
        origin="cryoSPARC",
    )


def _image_names(table: Table) -> ImageName:
    column = table["blob/path"]
    if not isinstance(column, TextColumn):
        raise DataProblem(f"blob/path holds {np.asarray(column).dtype}", "the names of image files")
    paths = tuple(str(value) for value in column.values)
    if not all(path.removeprefix(">") for path in paths):
        raise DataProblem("a row with an empty blob/path", "the name of an image file")
    index = np.asarray(numbers(table, "blob/idx")).astype(np.int64)
    return ImageName(index, column.codes.astype(np.int32), paths)


def _optics(table: Table) -> tuple[tuple[OpticsGroup, ...], np.ndarray]:
    columns = [name for name in table if name in GROUP_COLUMNS or name.startswith(OPTICS_PREFIX)]
    first, index = distinct_rows([table[name] for name in columns], len(table))
    groups = [_group({name: table[name][int(row)] for name in columns}, number) for number, row in enumerate(first, 1)]
    own = [group.extra[NUMBER] for group in groups]
    if len(set(own)) < len(own):
        groups = [replace(group, extra={**group.extra, NUMBER: number}) for number, group in enumerate(groups, 1)]
    return tuple(groups), index


def _group(row: Mapping[str, Any], number: int) -> OpticsGroup:
    shape = np.asarray(row.get("blob/shape", 0)).ravel().tolist()
    if len(set(shape)) != 1:
        raise DataProblem(f"images of shape {shape}", "square particle images")
    own = int(row["ctf/exp_group_id"]) + 1 if "ctf/exp_group_id" in row else number
    cs = _short(row.get("ctf/cs_mm"), MILLIMETRE)
    fields: dict[str, Any] = {
        "name": f"opticsGroup{own}",
        "pixel_size": _short(row.get("blob/psize_A")),
        "box": int(shape[0]) or None,
        "voltage": _short(row.get("ctf/accel_kv"), KILOVOLT),
        "spherical_aberration": cs,
        "amplitude_contrast": _short(row.get("ctf/amp_contrast")),
        "beam_tilt": _beam_tilt(row.get("ctf/tilt_A"), cs),
    }
    extra = {
        name: tuple(_short(x) for x in np.ravel(row[name]))
        for name in OTHER_ABERRATIONS
        if name in row and np.any(row[name])
    }
    carried = {name.removeprefix(OPTICS_PREFIX): value for name, value in row.items() if name.startswith(OPTICS_PREFIX)}
    fields.update({name: _CARRIED[name](value) for name, value in carried.items() if name in _CARRIED})
    extra.update(
        {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in carried.items()
            if name not in _CARRIED
        }
    )
    return OpticsGroup(**fields, extra={NUMBER: own, **extra})


# fields of an optics group for which cryoSPARC has no column of its own
_CARRIED: dict[str, Any] = {
    "name": str,
    "beam_tilt": lambda v: (float(v[0]), float(v[1])),
    "odd_zernike": lambda v: _coefficients(v),
    "even_zernike": lambda v: _coefficients(v),
    "magnification": lambda v: ((float(v[0]), float(v[1])), (float(v[2]), float(v[3]))),
    "ctf_state": lambda v: _ctf_state(str(v)),
    "wiener_snr": lambda v: float(v) if np.isfinite(v) else None,
}


def _coefficients(values: Any) -> tuple[float, ...]:
    """Zernike coefficients; groups with fewer than others are filled up with NaN in the common column."""
    numbers_ = np.atleast_1d(np.asarray(values, dtype=np.float64))
    return tuple(numbers_[np.isfinite(numbers_)].tolist())


def _ctf_state(text: str) -> CtfState:
    if text not in list(CtfState):
        raise DataProblem(f"a CTF state '{text}'", f"one of {', '.join(CtfState)}")
    return CtfState(text)


def _short(value: Any, factor: float = 1.0) -> float | None:
    """A single-precision number as the double of its shortest text: 2.95, not 2.950000047683716."""
    if value is None:
        return None
    if not np.isfinite(value):
        raise DataProblem(f"an optics value of {value}", "a finite number")
    return float(str(value)) * factor


def _beam_tilt(tilt: Any, cs: float | None) -> tuple[float, float]:
    if tilt is None or not cs or not np.any(tilt):
        return (0.0, 0.0)
    sine = np.asarray(tilt, dtype=np.float64) / cs
    if not (np.abs(sine) <= 1).all():
        raise DataProblem(f"ctf/tilt_A {tuple(tilt)} with Cs {cs} A", "a tilt, |tilt_A| <= Cs")
    return (float(np.arcsin(sine[0])), float(np.arcsin(sine[1])))


def _pose(table: Table) -> Pose | None:
    kind = next((kind for kind in ("alignments3D", "alignments2D") if f"{kind}/pose" in table), None)
    if kind is None:
        return None
    pose = numbers(table, f"{kind}/pose")
    if kind == "alignments3D":
        _need_width(pose, 3, f"{kind}/pose")
        euler = np.asarray(euler_from_matrix(np.swapaxes(matrix_from_rotation_vector(pose), -1, -2)))
    else:
        _need_width(pose, None, f"{kind}/pose")
        euler = np.stack([np.zeros_like(pose), np.zeros_like(pose), pose], axis=-1)
    if f"{kind}/shift" not in table:
        return Pose(euler, np.zeros((len(table), 2)))
    shift = numbers(table, f"{kind}/shift")
    _need_width(shift, 2, f"{kind}/shift")
    return Pose(euler, shift * alignment_pixel(table, kind)[:, None])


def _need_width(values: np.ndarray, width: int | None, name: str) -> None:
    if values.shape[1:] != (() if width is None else (width,)):
        raise DataProblem(f"{name} of shape {values.shape[1:]}", f"{width or 1} numbers a row")


def _ctf(table: Table) -> CtfParameters | None:
    if "ctf/df1_A" not in table:
        return None
    columns: dict[str, np.ndarray] = {}
    for name, (field, absent) in CTF.items():
        if name in table:
            columns[field] = numbers(table, name)
        else:
            columns[field] = columns["defocus_u"] if absent is None else np.full(len(table), absent)
    return CtfParameters(**columns)


def _half_set(table: Table) -> np.ndarray | None:
    if CARRIED_HALF in table:
        split = numbers(table, CARRIED_HALF) - 1
    elif "alignments3D/split" in table:
        split = numbers(table, "alignments3D/split")
    else:
        return None
    if CARRIED_HALF not in table and (split == split[0]).all():  # not divided yet: cryoSPARC has no other way to say so
        return None
    if not np.isin(split, (0, 1)).all():
        raise DataProblem(f"alignments3D/split with the values {np.unique(split)[:5].tolist()}", "0 or 1")
    return (split + 1).astype(np.int8)


def _contrast(table: Table) -> Contrast:
    if "blob/sign" not in table:
        return Contrast.UNKNOWN
    signs = np.unique(numbers(table, "blob/sign"))
    if len(signs) > 1:
        raise DataProblem(
            f"blob/sign with the values {signs.tolist()}",
            "one contrast for all particles",
            "split the file by blob/sign",
        )
    return Contrast.RAW if signs[0] < 0 else Contrast.INVERTED


def write_particles(path: str | os.PathLike[str], particles: Particles, *, container: str = "numpy") -> None:
    """Write particles as a .cs file. Fields that cryoSPARC lacks are carried with the prefixes "relion/" and
    "relion_optics/".

    Raises DataProblem if the pixel size is unknown or, for particles with a CTF, the voltage, Cs or amplitude contrast.
    """
    if len(particles) == 0:
        raise DataProblem(f"no particles to write to {path}", "at least one")
    table = particles.table
    table = table if "blob/path" in table else for_cryosparc(table, TYPED_COLUMNS)
    uid = table[UID] if UID in table else new_uids(particles.names)
    # what `Particles` has in fields of its own must not stay behind in columns where it has none
    kept = {
        name: column
        for name, column in table.columns.items()
        if name not in TYPED_FIELDS and not name.startswith(OPTICS_PREFIX)
    }
    write_dataset(path, Table({UID: uid, **kept, **particle_columns(particles)}), container=container)
