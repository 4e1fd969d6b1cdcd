"""Columns that one format carries for the other, so that a conversion there and back loses nothing.

RELION keeps columns whose labels it does not know, and cryoSPARC fields with prefixes that it does not know. A STAR
file made from a .cs file therefore has cryoSPARC's own fields under their names ("uid", "alignments3D/error"; vectors
as "[a,b]"), and a .cs file made from a STAR file has RELION's own columns with the prefix "relion/".
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from vitreous.model.table import Table, TextColumn

PREFIX = "relion/"
OPTICS_PREFIX = "relion_optics/"
CARRIED_HALF = PREFIX + "rlnRandomSubset"
_EXACT_INTEGERS = 10**15  # longer whole numbers are names: text in a STAR file
# fields of a .cs file that `Particles` has in fields of its own
TYPED_FIELDS = frozenset(
    [CARRIED_HALF, "blob/path", "blob/idx", "blob/sign", "blob/psize_A", "blob/shape"]
    + [f"alignments3D/{name}" for name in ("split", "pose", "shift", "psize_A")]
    + [
        f"ctf/{name}"
        for name in (
            "exp_group_id",
            "accel_kv",
            "cs_mm",
            "amp_contrast",
            "tilt_A",
            "shift_A",
            "trefoil_A",
            "tetra_A",
            "anisomag",
        )
    ]
    + [f"ctf/{name}" for name in ("df1_A", "df2_A", "df_angle_rad", "phase_shift_rad", "bfactor", "scale")]
)


def is_cryosparc(name: str) -> bool:
    """Whether a column has the name of a cryoSPARC field."""
    return name == "uid" or "/" in name


def for_star(table: Table, typed: Container[str]) -> Table:
    """The columns of a .cs table for a STAR file, without the `typed` ones, which `Particles` has in fields of its
    own."""
    columns: dict[str, Any] = {}
    for name, column in table.columns.items():
        if name in typed:
            continue
        if name.startswith(PREFIX):
            columns[name.removeprefix(PREFIX)] = column
        elif not name.startswith(OPTICS_PREFIX):
            columns[name] = _scalar(column)
    return Table(columns)


def for_cryosparc(table: Table, typed: Container[str]) -> Table:
    """The columns of a STAR table for a .cs file: cryoSPARC's own restored, RELION's with a prefix, without the
    `typed` ones."""
    columns: dict[str, Any] = {}
    for name, column in table.columns.items():
        if is_cryosparc(name):
            columns[name] = _restored(name, column)
        elif name not in typed:
            columns[PREFIX + name] = column
    return Table(columns)


def _scalar(column: Any) -> Any:
    """A column with one value a row: vectors become text, narrow floats the double of their shortest text."""
    if isinstance(column, TextColumn):
        return column
    if column.ndim > 1:
        flat = column.reshape(len(column), -1)
        if flat.dtype.kind == "f":
            flat = _short_doubles(flat)
        return np.array(["[" + ",".join(map(repr, row)) + "]" for row in flat.tolist()] or [""], dtype=object)[
            : len(column)
        ]
    if column.dtype.kind == "f":
        return _short_doubles(column)
    if column.dtype.kind in "iu" and len(column) and int(column.max()) >= _EXACT_INTEGERS:
        return np.array([str(value) for value in column.tolist()], dtype=object)
    return column.astype(np.int64) if column.dtype.kind in "iub" else column


def _short_doubles(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.float64 else values.astype(str).astype(np.float64)


def _restored(name: str, column: Any) -> Any:
    """A cryoSPARC field from its STAR column, in the type that cryoSPARC uses: uint64 for identities, uint32,
    float32, vectors."""
    values = np.asarray(column)
    if name == "uid" or name.endswith(("_uid", "/import_sig")):
        texts = [str(value) for value in values.tolist()]
        if all(text.isascii() and text.isdigit() and int(text) < 1 << 64 for text in texts):
            return np.array([int(text) for text in texts], dtype=np.uint64)
    if values.dtype == object:
        return _vectors(values, column)
    if values.dtype.kind == "i" and len(values) and values.min() >= 0 and values.max() < 1 << 32:
        return values.astype(np.uint32)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        same = np.array_equal(_short_doubles(narrow), values, equal_nan=True)
        return narrow if same else values
    return values


def _vectors(values: np.ndarray, column: Any) -> Any:
    rows = []
    for text in values.tolist():
        if not (text.startswith("[") and text.endswith("]")):
            return column
        try:
            rows.append([float(part) for part in text[1:-1].split(",")])
        except ValueError:
            return column
    if not rows or len({len(row) for row in rows}) != 1:
        return column
    whole = all("." not in text and "n" not in text for text in values.tolist())
    return np.array(rows).astype(np.uint32 if whole and min(map(min, rows)) >= 0 else np.float32)
