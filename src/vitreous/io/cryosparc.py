"""cryoSPARC particles (.cs, .csg), versions 2 to 5: read into `Particles`, and written.

Where cryoSPARC's conventions differ from ours (docs/conventions.md), they are converted here:
- `alignments3D/pose` is a rotation vector; its matrix is the transpose of R;
- shifts are in pixels of `alignments3D/psize_A`, which is not `blob/psize_A` if the alignment was done on downsampled images;
- `blob/idx` counts from 0; `blob/path` may start with '>', which is not part of the name;
- `blob/sign` is -1 for images whose protein is dark;
- `alignments3D/split` is 0 or 1; `ctf/tilt_A` is Cs sin(tilt).

Its other aberrations (`ctf/shift_A`, `trefoil_A`, `tetra_A`, `anisomag`) have no documented definition: where they are not zero they are kept
in `OpticsGroup.extra` under their names, and written back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler, matrix_from_rotation_vector, rotation_vector_from_matrix
from vitreous.io.carried import CARRIED_HALF, OPTICS_PREFIX, TYPED_FIELDS, for_cryosparc
from vitreous.io.cs_container import read_dataset, write_dataset
from vitreous.io.cs_group import UID, read_group, with_passthrough
from vitreous.io.grouping import distinct_rows
from vitreous.io.images import open_images
from vitreous.io.relion import TYPED_COLUMNS, as_folders
from vitreous.io.relion_optics import CONTRAST, NUMBER, numbers, with_pixel_size
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table, TextColumn
from vitreous.units import KILOVOLT, MILLIMETRE

_OTHER_ABERRATIONS = {"ctf/shift_A": 2, "ctf/trefoil_A": 2, "ctf/tetra_A": 4, "ctf/anisomag": 4}
_GROUP_COLUMNS = ("ctf/exp_group_id", "ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A", "blob/shape", "ctf/tilt_A", *_OTHER_ABERRATIONS)
_CTF = {  # column: (field, value where the column is absent)
    "ctf/df1_A": ("defocus_u", None),
    "ctf/df2_A": ("defocus_v", None),
    "ctf/df_angle_rad": ("defocus_angle", 0.0),
    "ctf/phase_shift_rad": ("phase_shift", 0.0),
    "ctf/bfactor": ("b_factor", 0.0),
    "ctf/scale": ("scale", 1.0),
}


def read_particles(
    path: str | os.PathLike[str],
    *,
    passthrough: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    datadir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    load_images: bool = True,
    pixel_size: float | None = None,
) -> Particles:
    """The particles of a .cs file, with the columns of its passthrough files, or of a .csg group. Images are found but not read.

    Poses are those of `alignments3D`; where there are none, in-plane angles of `alignments2D` with rot = tilt = 0. Exposure groups
    become optics groups. Other arguments and errors as for `relion.read_particles`.
    """
    path = Path(path)
    table = read_group(path) if path.suffix == ".csg" else read_dataset(path)
    table = with_passthrough(table, as_folders(passthrough), str(path))
    if len(table) == 0:
        raise DataProblem(f"{path} has no particles", "at least one row")
    missing = [name for name in ("blob/path", "blob/idx") if name not in table]
    if missing:
        raise DataProblem(f"{path} does not name its images ({' and '.join(missing)} missing)", "particles with a blob", "give the passthrough file of its job")
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
    columns = [name for name in table if name in _GROUP_COLUMNS or name.startswith(OPTICS_PREFIX)]
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
    extra = {name: tuple(_short(x) for x in np.ravel(row[name])) for name in _OTHER_ABERRATIONS if name in row and np.any(row[name])}
    carried = {name.removeprefix(OPTICS_PREFIX): value for name, value in row.items() if name.startswith(OPTICS_PREFIX)}
    fields.update({name: _CARRIED[name](value) for name, value in carried.items() if name in _CARRIED})
    extra.update({name: value.item() if isinstance(value, np.generic) else value for name, value in carried.items() if name not in _CARRIED})
    return OpticsGroup(**fields, extra={NUMBER: own, **extra})


# fields of an optics group for which cryoSPARC has no column of its own
_CARRIED: dict[str, Any] = {
    "name": str,
    "beam_tilt": lambda v: (float(v[0]), float(v[1])),
    "odd_zernike": lambda v: tuple(np.asarray(v, dtype=float).tolist()),
    "even_zernike": lambda v: tuple(np.asarray(v, dtype=float).tolist()),
    "magnification": lambda v: ((float(v[0]), float(v[1])), (float(v[2]), float(v[3]))),
    "ctf_state": lambda v: CtfState(str(v)) if str(v) in CtfState else CtfState.RAW,
}


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
    return Pose(euler, shift * _alignment_pixel(table, kind)[:, None])


def _need_width(values: np.ndarray, width: int | None, name: str) -> None:
    if values.shape[1:] != (() if width is None else (width,)):
        raise DataProblem(f"{name} of shape {values.shape[1:]}", f"{width or 1} numbers a row")


def _alignment_pixel(table: Table, kind: str) -> np.ndarray:
    """The pixel in which the shifts are given: that of the images that were aligned."""
    name = next((name for name in (f"{kind}/psize_A", "blob/psize_A") if name in table), None)
    if name is None:
        raise DataProblem(f"{kind}/shift without a pixel size", f"{kind}/psize_A or blob/psize_A", "give the passthrough file of its job")
    column = np.asarray(table[name])
    return column.astype(str).astype(np.float64) if column.dtype == np.float32 and (column == column[0]).all() else numbers(table, name)


def _ctf(table: Table) -> CtfParameters | None:
    if "ctf/df1_A" not in table:
        return None
    columns: dict[str, np.ndarray] = {}
    for name, (field, absent) in _CTF.items():
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
        raise DataProblem(f"blob/sign with the values {signs.tolist()}", "one contrast for all particles", "split the file by blob/sign")
    return Contrast.RAW if signs[0] < 0 else Contrast.INVERTED


def write_particles(path: str | os.PathLike[str], particles: Particles, *, container: str = "numpy") -> None:
    """Write particles as a .cs file. Fields that cryoSPARC lacks are carried with the prefixes "relion/" and "relion_optics/".

    Raises DataProblem if the pixel size is unknown or, for particles with a CTF, the voltage, Cs or amplitude contrast.
    """
    if len(particles) == 0:
        raise DataProblem(f"no particles to write to {path}", "at least one")
    table = particles.table
    table = table if "blob/path" in table else for_cryosparc(table, TYPED_COLUMNS)
    uid = table[UID] if UID in table else _new_uids(particles.names)
    columns = {UID: uid, **_blob_columns(particles), **_ctf_columns(particles), **_alignment_columns(particles), **_carried_optics(particles)}
    kept = {name: column for name, column in table.columns.items() if name not in _STALE and not name.startswith(OPTICS_PREFIX)}
    write_dataset(path, Table({UID: uid, **kept, **columns}), container=container)


# columns that are written from `Particles`, and must not stay behind where it has none
_STALE = TYPED_FIELDS | {UID}


def _new_uids(names: ImageName) -> np.ndarray:
    """A distinct number for each row, the same for the same images: splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), a bijection, of a
    counter that starts at a hash of the image names."""
    digest = hashlib.blake2b("\n".join(names.paths).encode("utf-8", "surrogateescape") + names.index.tobytes(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        x = np.frombuffer(digest, dtype="<u8")[0] + np.arange(1, len(names) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _per_particle(particles: Particles, values: Sequence[Any], dtype: Any) -> np.ndarray:
    return np.array(values, dtype=dtype)[particles.optics_index]


def _blob_columns(particles: Particles) -> dict[str, Any]:
    for group in particles.used_optics():
        group.require("pixel_size")
    columns: dict[str, Any] = {
        "blob/path": TextColumn(particles.names.path_code, particles.names.paths),
        "blob/idx": particles.names.index.astype(np.uint32),
        "blob/psize_A": _per_particle(particles, [group.pixel_size or 0 for group in particles.optics], np.float32),
    }
    if all(group.box for group in particles.used_optics()):
        columns["blob/shape"] = _per_particle(particles, [(group.box or 0, group.box or 0) for group in particles.optics], np.uint32)
    if particles.contrast is not Contrast.UNKNOWN:
        columns["blob/sign"] = np.full(len(particles), -1 if particles.contrast is Contrast.RAW else 1, dtype=np.float32)
    return columns


def _ctf_columns(particles: Particles) -> dict[str, Any]:
    own = [group.extra.get(NUMBER, number) for number, group in enumerate(particles.optics, 1)]
    usable = all(isinstance(n, int) and n > 0 for n in own) and len(set(own)) == len(own)
    columns: dict[str, Any] = {"ctf/exp_group_id": _per_particle(particles, [n - 1 for n in own] if usable else range(len(own)), np.uint32)}
    for name, field, factor in (
        ("ctf/accel_kv", "voltage", KILOVOLT),
        ("ctf/cs_mm", "spherical_aberration", MILLIMETRE),
        ("ctf/amp_contrast", "amplitude_contrast", 1.0),
    ):
        if particles.ctf is not None:
            for group in particles.used_optics():
                group.require(field)
        values = [getattr(group, field) for group in particles.optics]
        if all(value is not None for value in values):
            columns[name] = _per_particle(particles, [value / factor for value in values], np.float32)
    if particles.ctf is None:
        return columns
    columns.update({name: getattr(particles.ctf, field).astype(np.float32) for name, (field, _) in _CTF.items()})
    tilts = [np.sin(group.beam_tilt) * (group.spherical_aberration or 0) for group in particles.optics]
    columns["ctf/tilt_A"] = _per_particle(particles, tilts, np.float32)
    for name, width in _OTHER_ABERRATIONS.items():
        columns[name] = _per_particle(particles, [_vector(group.extra.get(name), width) for group in particles.optics], np.float32)
    if "ctf/type" not in particles.table:
        columns["ctf/type"] = TextColumn(np.zeros(len(particles), dtype=np.int32), ("imported",))
    return columns


def _vector(value: Any, width: int) -> tuple[float, ...]:
    """The numbers of an aberration from `extra`: a tuple, or the text "[a,b]" that it was in a STAR file; zeros if absent."""
    if value is None or value == "None":
        return (0.0,) * width
    parts = value.strip("[]").split(",") if isinstance(value, str) else value
    try:
        numbers_ = tuple(float(part) for part in parts)
    except ValueError:
        numbers_ = ()
    if len(numbers_) != width:
        raise DataProblem(f"an aberration of {value!r}", f"{width} numbers")
    return numbers_


def _alignment_columns(particles: Particles) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if particles.half_set is not None:
        columns["alignments3D/split"] = (particles.half_set - 1).astype(np.uint32)
        if (particles.half_set == particles.half_set[0]).all():  # one half alone: cryoSPARC's field could not be told from an unused one
            columns[CARRIED_HALF] = particles.half_set.astype(np.int64)
    if particles.pose is None:
        return columns
    plane = "alignments2D/pose" in particles.table and "alignments3D/pose" not in particles.table
    kind = "alignments2D" if plane else "alignments3D"
    pixel = _alignment_pixel(particles.table, kind) if f"{kind}/psize_A" in particles.table else None
    if pixel is None:
        pixel = _per_particle(particles, [group.pixel_size or 1 for group in particles.optics], np.float64)
    if plane:
        columns[f"{kind}/pose"] = particles.pose.euler[:, 2].astype(np.float32)
    else:
        columns[f"{kind}/pose"] = _rotation_vectors(particles)
    columns[f"{kind}/shift"] = (particles.pose.shift / pixel[:, None]).astype(np.float32)
    columns[f"{kind}/psize_A"] = pixel.astype(np.float32)
    return columns


def _rotation_vectors(particles: Particles) -> np.ndarray:
    """The poses as cryoSPARC has them; the file's own vectors, which may be longer than pi, where they still say the same."""
    assert particles.pose is not None
    matrix = np.swapaxes(matrix_from_euler(particles.pose.euler), -1, -2)
    vectors = np.asarray(rotation_vector_from_matrix(matrix)).astype(np.float32)
    if "alignments3D/pose" not in particles.table:
        return vectors
    own = numbers(particles.table, "alignments3D/pose")
    same = np.abs(matrix_from_rotation_vector(own) - matrix).max(axis=(-2, -1)) < 1e-6  # single precision of a vector
    return np.where(same[:, None], own, vectors).astype(np.float32)


def _carried_optics(particles: Particles) -> dict[str, Any]:
    """Columns for what an optics group knows and cryoSPARC does not: per particle, because a .cs file has no other place."""
    groups, columns = particles.optics, {}
    if any(group.name != f"opticsGroup{group.extra.get(NUMBER, number)}" for number, group in enumerate(groups, 1)):
        columns["name"] = [group.name for group in groups]
    for name in ("odd_zernike", "even_zernike"):
        width = max(len(getattr(group, name)) for group in groups)
        if width:
            columns[name] = [(*getattr(group, name), *(0.0,) * (width - len(getattr(group, name)))) for group in groups]
    if any(group.magnification != ((1.0, 0.0), (0.0, 1.0)) for group in groups):
        columns["magnification"] = [(*group.magnification[0], *group.magnification[1]) for group in groups]
    if any(group.beam_tilt != (0.0, 0.0) for group in groups):  # exact also where Cs is 0 or single precision is not enough
        columns["beam_tilt"] = [group.beam_tilt for group in groups]
    if any(group.ctf_state is not CtfState.RAW for group in groups):
        columns["ctf_state"] = [group.ctf_state.value for group in groups]
    labels = dict.fromkeys(label for group in groups for label in group.extra if label not in (NUMBER, CONTRAST) and label not in _OTHER_ABERRATIONS)
    for label in labels:
        columns[label] = [group.extra.get(label, "None") for group in groups]
    return {OPTICS_PREFIX + name: _spread(values, particles.optics_index) for name, values in columns.items()}


def _spread(values: list[Any], index: np.ndarray) -> Any:
    if any(isinstance(value, str) for value in values):
        texts = tuple(dict.fromkeys(str(value) for value in values))
        return TextColumn(np.array([texts.index(str(value)) for value in values], dtype=np.int32)[index], texts)
    return np.array(values)[index]
