"""Particle STAR files of RELION 1.x to 5, read into `Particles` and written as version 3.1 and later have them.

Label names and units: RELION's `metadata_label.h`; the change of 3.1 (optics groups, origins in angstrom): Zivanov,
Nakane & Scheres 2020, IUCrJ 7:253, doi:10.1107/S2052252520000081.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.carried import TYPED_FIELDS, for_star
from vitreous.io.images import ParticleImages, open_images
from vitreous.io.relion_optics import (
    CONTRAST,
    NUMBER,
    OLD_PARTICLE_COLUMNS,
    group_index,
    groups_of_block,
    groups_of_particles,
    numbers,
    optics_block,
    with_pixel_size,
)
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table, TextColumn
from vitreous.units import DEGREE

IMAGE = "rlnImageName"
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst")
_CTF = {  # column: (field, factor to the inside unit, value where the column is absent)
    "rlnDefocusU": ("defocus_u", 1.0, None),
    "rlnDefocusV": ("defocus_v", 1.0, None),
    "rlnDefocusAngle": ("defocus_angle", DEGREE, 0.0),
    "rlnPhaseShift": ("phase_shift", DEGREE, 0.0),
    "rlnCtfBfactor": ("b_factor", 1.0, 0.0),
    "rlnCtfScalefactor": ("scale", 1.0, 1.0),
}
_HALF = "rlnRandomSubset"
# lengths in pixels up to 3.0, and what they are called in angstrom since
_PIXEL_COLUMNS = {
    f"rlnOrigin{axis}{prior}": f"rlnOrigin{axis}{prior}Angst" for axis in "XYZ" for prior in ("", "Prior")
}


# columns that `Particles` has in fields of its own; what else a table holds is carried along
TYPED_COLUMNS = frozenset([IMAGE, NUMBER, _HALF, *_ANGLES, *_SHIFTS, *_CTF, *_PIXEL_COLUMNS, *OLD_PARTICLE_COLUMNS])


def read_particles(
    path: str | os.PathLike[str],
    *,
    datadir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    load_images: bool = True,
    pixel_size: float | None = None,
) -> Particles:
    """The particles of a STAR file of any RELION generation. Images are found and checked but not read.

    Old files are converted: origins from pixels to angstrom, optics columns to optics groups. Values that a file does
    not give are None (optics), 0 (phase shift, B factor, origins) or 1 (CTF scale). `pixel_size` replaces that of
    every group, before origins are converted. `datadir` names folders in which image paths start, tried after the
    file's folder and its parents. With `load_images=False` no image file needs to exist.

    Raises FileProblem, FormatProblem (no particle block) and DataProblem (no rows, values that are not numbers, rows
    outside a stack).
    """
    path = Path(path)
    star = read_star(path)
    block, optics = particle_blocks(star, str(path))
    table = star[block]
    assert isinstance(table, Table)
    if len(table) == 0:
        raise DataProblem(f"{path} has no particles in its block '{block}'", "at least one row")
    groups, index = _optics(star, table, optics)
    groups = with_pixel_size(groups, pixel_size)
    names = image_names(table[IMAGE])
    images = open_images(names, path.parent, as_folders(datadir)) if load_images else None
    return Particles(
        names=names,
        optics=groups if images is None else _with_box(groups, index, images),
        optics_index=index,
        pose=_pose(table, groups, index),
        ctf=ctf_of_table(table),
        half_set=_half_set(table),
        contrast=_contrast(groups),
        images=images,
        table=table,
        origin=generation(star, optics),
        blocks={name: content for name, content in star.items() if name not in (block, optics)},
    )


def as_folders(datadir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> tuple[Path, ...]:
    """The folders that `datadir` names: none, one or several."""
    if datadir is None:
        return ()
    return (Path(datadir),) if isinstance(datadir, str | os.PathLike) else tuple(Path(folder) for folder in datadir)


def particle_blocks(star: StarFile, name: str) -> tuple[str, str | None]:
    """The names of the particle block and of the optics block (None before 3.1), found by their columns: names
    mislead."""
    tables = dict(star.tables())
    candidates = [block for block in tables if IMAGE in tables[block]]
    if not candidates:
        blocks = ", ".join(f"'{block}'" for block in star) or "none"
        raise FormatProblem(f"{name} has no block with a column {IMAGE} (its blocks: {blocks})", "a particle STAR file")
    block = next((known for known in ("particles", "images") if known in candidates), candidates[0])
    described = [
        other
        for other, table in tables.items()
        if NUMBER in table and IMAGE not in table and len(table) and _describes_optics(table)
    ]
    return block, "optics" if "optics" in described else next(iter(described), None)


def _describes_optics(table: Table) -> bool:
    return any(
        name in table for name in ("rlnVoltage", "rlnImagePixelSize", "rlnSphericalAberration", "rlnOpticsGroupName")
    )


def generation(star: StarFile, optics: str | None) -> str:
    """Which RELION wrote the file, as far as it says."""
    if star.version.isdigit() and int(star.version) >= 30000:
        major, minor = int(star.version) // 10000, int(star.version) % 10000
        return f"RELION {major}.{minor}" if major == 3 else f"RELION {major}"
    if star.version:
        return f"RELION {star.version}"
    return "RELION 3.0 or earlier" if optics is None else "RELION 3.1 or later"


def _optics(star: StarFile, table: Table, optics: str | None) -> tuple[tuple[OpticsGroup, ...], np.ndarray]:
    if optics is None:
        return groups_of_particles(table)
    block = star[optics]
    assert isinstance(block, Table)
    return groups_of_block(block), group_index(block, table)


def image_names(column: np.ndarray | TextColumn) -> ImageName:
    """Image names "index@path", index from 1 with or without leading zeros; a name without '@' is the first image of
    its file."""
    if isinstance(column, TextColumn) and column.numbers is not None and all(column.values):
        if not (column.numbers > 0).all():
            _refuse_name(column, int(np.argmin(column.numbers)))
        return ImageName(column.numbers - 1, column.codes, tuple(column.values))
    codes: dict[str, int] = {}
    index, path_code = np.empty(len(column), dtype=np.int64), np.empty(len(column), dtype=np.int32)
    for row, name in enumerate(column):
        number, mark, path = str(name).partition("@")
        if not mark:
            number, path = "1", number
        if not (number.isascii() and number.isdigit() and 0 < len(number) < 16 and int(number) > 0 and path):
            _refuse_name(column, row)
        index[row] = int(number) - 1
        path_code[row] = codes.setdefault(path, len(codes))
    return ImageName(index, path_code, tuple(codes))


def _refuse_name(column: np.ndarray | TextColumn, row: int) -> None:
    raise DataProblem(
        f"row {row + 1} names its image {column[row]!r}", "a name such as 000001@stack.mrcs, counted from 1"
    )


def _with_box(groups: tuple[OpticsGroup, ...], index: np.ndarray, images: ParticleImages) -> tuple[OpticsGroup, ...]:
    for group in (groups[i] for i in np.unique(index)):
        if group.box is not None and group.box != images.box:
            raise DataProblem(
                f"optics group '{group.name}' gives images of {group.box} pixels, their stacks hold {images.box}",
                "the same in both",
                "correct rlnImageSize",
            )
    return tuple(group if group.box is not None else replace(group, box=images.box) for group in groups)


def _pose(table: Table, groups: Sequence[OpticsGroup], index: np.ndarray) -> Pose | None:
    """Angles (all three) and origins; None if an angle is missing: an in-plane angle alone is no orientation."""
    if not all(name in table for name in _ANGLES):
        return None
    euler = np.stack([numbers(table, name) for name in _ANGLES], axis=-1) * DEGREE
    shift = np.zeros((len(table), 2))
    for axis, (new, old) in enumerate(zip(_SHIFTS, ("rlnOriginX", "rlnOriginY"))):
        if new in table:
            shift[:, axis] = numbers(table, new)
        elif old in table:
            shift[:, axis] = numbers(table, old) * _pixel_sizes(groups, index)
    return Pose(euler, shift)


def _pixel_sizes(groups: Sequence[OpticsGroup], index: np.ndarray) -> np.ndarray:
    for number in np.unique(index):
        groups[number].require("pixel_size")
    return np.array([np.nan if group.pixel_size is None else group.pixel_size for group in groups])[index]


def ctf_of_table(table: Table) -> CtfParameters | None:
    """The CTF of each row of a table of particles or micrographs; None if it has no defocus."""
    if "rlnDefocusU" not in table:
        return None
    columns = {}
    for name, (field, factor, absent) in _CTF.items():
        if name in table:
            columns[field] = numbers(table, name) * factor
        elif absent is None:  # a file with one defocus has no astigmatism
            columns[field] = columns["defocus_u"]
        else:
            columns[field] = np.full(len(table), absent)
    return CtfParameters(**columns)


def _half_set(table: Table) -> np.ndarray | None:
    if _HALF not in table:
        return None
    half = numbers(table, _HALF)
    if not half.any():  # RELION's way of saying that there are none yet
        return None
    wrong = (half != 1) & (half != 2)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataProblem(f"row {row + 1} has {_HALF} {half[row]:g}", "half set 1 or 2")
    return half.astype(np.int8)


def _contrast(groups: Sequence[OpticsGroup]) -> Contrast:
    """What vitreous has noted in the optics block; UNKNOWN in files of other programs."""
    noted = {str(group.extra.get(CONTRAST)) for group in groups}
    return Contrast(noted.pop()) if len(noted) == 1 and noted <= set(Contrast) else Contrast.UNKNOWN


def write_particles(path: str | os.PathLike[str], particles: Particles) -> None:
    """Write particles as RELION 3.1 and later have them: a block `optics` and a block `particles`, then the file's
    other blocks.

    Columns without a field in `Particles` are written as they were read; those with one are brought up to date, and a
    number that did not change keeps its digits. Columns of versions before 3.1 are replaced by their successors.
    """
    if len(particles) == 0:
        raise DataProblem(f"no particles to write to {path}", "at least one")
    optics, group_numbers = optics_block(particles.optics)
    optics = optics.without(CONTRAST)
    if particles.contrast is not Contrast.UNKNOWN:
        optics = optics.with_columns({CONTRAST: np.array([particles.contrast.value] * len(optics), dtype=object)})
    table = _modern_table(particles).with_columns(_typed_columns(particles))
    table = table.with_columns({NUMBER: group_numbers[particles.optics_index]})
    others = {name: block for name, block in particles.blocks.items() if name not in ("optics", "particles")}
    star = StarFile({"optics": optics, "particles": table, **others})
    star.version = "30001"
    write_star(path, star)


def _modern_table(particles: Particles) -> Table:
    """The columns as read, without those that RELION 3.1 gave up (converted where they are lengths in pixels)."""
    table = particles.table
    if "blob/path" in table:
        table = for_star(table, TYPED_FIELDS)
    stale = [name for name in (*OLD_PARTICLE_COLUMNS, *_PIXEL_COLUMNS) if name in table]
    priors = {}
    for old, new in _PIXEL_COLUMNS.items():
        if old in table and new not in table and (particles.pose is None or new not in _SHIFTS):
            priors[new] = numbers(table, old) * _pixel_sizes(particles.optics, particles.optics_index)
    table = table.without(*stale).with_columns(priors)
    if particles.pose is None and all(name in table for name in _ANGLES):
        table = table.without(*_ANGLES, *_SHIFTS)
    if particles.ctf is None:
        table = table.without(*_CTF)
    return table if particles.half_set is not None else table.without(_HALF)


def _typed_columns(particles: Particles) -> dict[str, np.ndarray]:
    """The columns that have a field in `Particles`, in the units of the file."""
    table, columns = particles.table, {}
    columns[IMAGE] = _image_column(particles.names, table)
    if particles.ctf is not None:
        for name, (field, factor, absent) in _CTF.items():
            values = getattr(particles.ctf, field)
            if name in table or absent is None or (values != absent).any():
                columns[name] = _unchanged(table, name, values / factor)
    if particles.pose is not None:
        for axis, name in enumerate(_ANGLES):
            columns[name] = _unchanged(table, name, particles.pose.euler[:, axis] / DEGREE)
        for axis, name in enumerate(_SHIFTS):
            columns[name] = _unchanged(table, name, particles.pose.shift[:, axis])
    if particles.half_set is not None:
        columns[_HALF] = particles.half_set.astype(np.int64)
    return columns


def _unchanged(table: Table, name: str, values: np.ndarray) -> np.ndarray:
    """The values, but with the digits of the file where they differ from it by rounding only; others at 9 decimals."""
    values = np.asarray(values, dtype=np.float64)
    new = np.round(values, 9)
    if name not in table:
        return new
    old = numbers(table, name)
    return np.where(np.abs(old - values) <= 1e-9 * np.maximum(1, np.abs(values)), old, new)


def _image_column(names: ImageName, table: Table) -> np.ndarray | TextColumn:
    """Image names as text: the file's own where they still say the same, else with six digits."""
    if IMAGE in table and _same_names(image_names(table[IMAGE]), names):
        return table[IMAGE]
    paths = tuple(path.removeprefix(">") for path in names.paths)  # cryoSPARC's mark, which other programs do not know
    return TextColumn(names.path_code, paths, names.index + 1, np.full(len(names), 6, dtype=np.uint8))


def _same_names(left: ImageName, right: ImageName) -> bool:
    if not np.array_equal(left.index, right.index):
        return False
    places = {path: code for code, path in enumerate(left.paths)}
    translation = np.array([places.get(path, -1) for path in right.paths], dtype=np.int64)
    return np.array_equal(left.path_code, translation[right.path_code])
