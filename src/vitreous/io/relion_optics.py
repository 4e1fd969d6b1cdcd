"""Optics groups as RELION writes them: a block of their own since version 3.1, columns of every particle before.

Units of the files: kV, mm, mrad, and angstrom for the pixel; of the detector pixel, micrometre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem
from vitreous.io.grouping import distinct_rows
from vitreous.model.optics import OpticsGroup
from vitreous.model.table import Table
from vitreous.units import KILOVOLT, MILLIMETRE, MILLIRADIAN

NUMBER = "rlnOpticsGroup"
DIMENSIONALITY = "rlnImageDimensionality"
CONTRAST = "vitreousContrast"  # our own: no RELION label says whether protein is bright or dark
STATE = "vitreousCtfState"  # our own, for states that no RELION label names: Wiener-filtered
WIENER_SNR = "vitreousWienerSnr"
NOTHING = "None"  # in a column of text, of a group that has no value there
_MATRIX = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
_SCALARS = {  # column: (field, factor to the inside unit)
    "rlnImagePixelSize": ("pixel_size", 1.0),
    "rlnImageSize": ("box", 1),
    "rlnVoltage": ("voltage", KILOVOLT),
    "rlnSphericalAberration": ("spherical_aberration", MILLIMETRE),
    "rlnAmplitudeContrast": ("amplitude_contrast", 1.0),
}
_STATES = {"rlnCtfDataAreCtfPremultiplied": CtfState.PREMULTIPLIED, "rlnCtfDataArePhaseFlipped": CtfState.PHASE_FLIPPED}
_ZERNIKE = {"rlnOddZernike": "odd_zernike", "rlnEvenZernike": "even_zernike"}
# columns of a particle table before 3.1 that belong to its optics; removed from it when they have moved to an optics
# block
OLD_PARTICLE_COLUMNS = (
    *_SCALARS,
    "rlnPixelSize",
    "rlnDetectorPixelSize",
    "rlnMagnification",
    "rlnBeamTiltX",
    "rlnBeamTiltY",
    "rlnMtfFileName",
    *_STATES,
)


def numbers(table: Table, name: str) -> np.ndarray:
    """A column as float64. Raises DataProblem naming the first row that holds no finite number."""
    column = table[name]
    try:
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        row = next((i for i, text in enumerate(column) if not _is_number(text)), 0)
        raise DataProblem(f"row {row + 1} of column {name} holds {column[row]!r}", "a number") from None
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataProblem(
            f"row {row + 1} of column {name} holds {values[row]}", "a finite number", "remove or repair that row"
        )
    return values


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def groups_of_block(optics: Table) -> tuple[OpticsGroup, ...]:
    """One group a row of the optics block (3.1 and later). Columns without a field of their own are kept in `extra`."""
    return tuple(
        _group({name: column[row] for name, column in optics.columns.items()}, row + 1) for row in range(len(optics))
    )


def group_index(optics: Table, particles: Table) -> np.ndarray:
    """For each particle the row of its optics group. Group numbers may be any whole numbers, in any order.

    A particle table without group numbers is accepted where there is one group only.
    """
    if NUMBER not in particles:
        if len(optics) == 1:
            return np.zeros(len(particles), dtype=np.int32)
        raise DataProblem(
            f"{len(optics)} optics groups, and no column {NUMBER} among the particles",
            "the group number of each particle",
        )
    known, given = numbers(optics, NUMBER), numbers(particles, NUMBER)
    order = np.argsort(known, kind="stable")
    if (np.diff(known[order]) == 0).any():
        raise DataProblem(f"the optics block numbers its groups {known.astype(int).tolist()}", "each number once")
    place = np.searchsorted(known[order], given).clip(max=len(known) - 1)
    wrong = known[order][place] != given
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataProblem(
            f"row {row + 1} belongs to optics group {given[row]:g}",
            f"one of {known.astype(int).tolist()}, the groups of the optics block",
        )
    return order[place].astype(np.int32)


def groups_of_particles(particles: Table) -> tuple[tuple[OpticsGroup, ...], np.ndarray]:
    """Optics groups of a table without optics block (3.0 and earlier): one for each distinct set of optics columns,
    in order of appearance, and the index of each particle. The pixel size is the image's own, else 10000 x detector
    pixel / magnification."""
    names = [name for name in (*OLD_PARTICLE_COLUMNS, NUMBER) if name in particles]
    first, index = distinct_rows([particles[name] for name in names], len(particles))
    rows = [{name: particles[name][int(row)] for name in names} for row in first]
    return tuple(_group(_modern(row), number) for number, row in enumerate(rows, 1)), index


def _modern(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an old particle row as an optics block has them."""
    modern = {
        name: value
        for name, value in row.items()
        if name not in ("rlnPixelSize", "rlnDetectorPixelSize", "rlnMagnification")
    }
    if "rlnImagePixelSize" not in modern:
        if "rlnPixelSize" in row:
            modern["rlnImagePixelSize"] = row["rlnPixelSize"]
        elif "rlnDetectorPixelSize" in row and "rlnMagnification" in row:
            detector, magnification = _number(row, "rlnDetectorPixelSize"), _number(row, "rlnMagnification")
            if not magnification > 0:
                raise DataProblem(f"a magnification of {magnification}", "a positive number")
            modern["rlnImagePixelSize"] = 10000 * detector / magnification
    return modern


def _group(row: Mapping[str, Any], number: int) -> OpticsGroup:
    fields: dict[str, Any] = {"name": str(row.get("rlnOpticsGroupName", f"opticsGroup{number}"))}
    for column, (name, factor) in _SCALARS.items():
        if column in row:
            value = _number(row, column)
            fields[name] = int(value) if name == "box" else value * factor
    if "rlnBeamTiltX" in row or "rlnBeamTiltY" in row:
        fields["beam_tilt"] = tuple(
            _number(row, column) * MILLIRADIAN if column in row else 0.0 for column in ("rlnBeamTiltX", "rlnBeamTiltY")
        )
    for column, name in _ZERNIKE.items():
        if column in row:
            fields[name] = _vector(row[column], column)
    if all(column in row for column in _MATRIX):
        a, b, c, d = (_number(row, column) for column in _MATRIX)
        fields["magnification"] = ((a, b), (c, d))
    fields["ctf_state"] = _state(row)
    if str(row.get(WIENER_SNR, NOTHING)) != NOTHING:
        fields["wiener_snr"] = _number(row, WIENER_SNR)
    used = {"rlnOpticsGroupName", *_SCALARS, "rlnBeamTiltX", "rlnBeamTiltY", *_ZERNIKE, *_STATES, STATE, WIENER_SNR}
    used |= set(_MATRIX) if "magnification" in fields else set()
    used |= {DIMENSIONALITY} if str(row.get(DIMENSIONALITY)) == "2" else set()
    return OpticsGroup(**fields, extra={name: _plain(value) for name, value in row.items() if name not in used})


def _state(row: Mapping[str, Any]) -> CtfState:
    """What has been done about the CTF: RELION's own labels, and ours for what these cannot say."""
    marked = [state for column, state in _STATES.items() if column in row and _number(row, column) != 0]
    theirs = marked[0] if marked else CtfState.RAW
    own = str(row.get(STATE, NOTHING))
    if own == NOTHING:
        return theirs
    if own not in list(CtfState) or (marked and own != theirs):
        expected = f"one of {', '.join(CtfState)}" if not marked else f"{theirs.value}, as RELION's column says"
        raise DataProblem(f"the optics column {STATE} holds {own!r}", expected)
    return CtfState(own)


def _number(row: Mapping[str, Any], column: str) -> float:
    value = row[column]
    if not _is_number(value) or not np.isfinite(float(value)):
        raise DataProblem(f"the optics column {column} holds {value!r}", "a finite number")
    return float(value)


def _vector(text: Any, column: str) -> tuple[float, ...]:
    """The numbers of a vector such as "[0.1,2,-3]"; an empty one is no coefficients."""
    inner = str(text).strip().removeprefix("[").removesuffix("]")
    parts = [part for part in inner.replace(",", " ").split() if part]
    if not all(_is_number(part) and np.isfinite(float(part)) for part in parts):
        raise DataProblem(f"the optics column {column} holds {text!r}", "a vector of numbers such as [0.1,2,-3]")
    return tuple(float(part) for part in parts)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def optics_block(groups: Sequence[OpticsGroup]) -> tuple[Table, np.ndarray]:
    """The optics block (3.1 and later) of these groups, and the number of each: the file's own where all have one,
    else 1, 2, ..."""
    own = [group.extra.get(NUMBER) for group in groups]
    keep = all(isinstance(number, int) for number in own) and len(set(own)) == len(own)
    group_numbers = np.array(own if keep else range(1, len(groups) + 1), dtype=np.int64)
    rows = [{NUMBER: int(number), **_row(group)} for number, group in zip(group_numbers, groups)]
    columns: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name, _ABSENT.get(name, NOTHING)) for row in rows]
        if not any(isinstance(value, str) for value in values):
            columns[name] = np.array(values)
        else:
            columns[name] = np.array([str(value) for value in values], dtype=object)
    return Table(columns), group_numbers


# what a group that lacks a column has in it where another group has the column
_ABSENT: dict[str, Any] = {
    **dict.fromkeys(("rlnBeamTiltX", "rlnBeamTiltY", "rlnMagMat01", "rlnMagMat10"), 0.0),
    **dict.fromkeys(("rlnMagMat00", "rlnMagMat11"), 1.0),
    **dict.fromkeys(_STATES, 0),
    **dict.fromkeys(_ZERNIKE, "[]"),
}


def _row(group: OpticsGroup) -> dict[str, Any]:
    row: dict[str, Any] = {"rlnOpticsGroupName": group.name}
    for column, (name, factor) in _SCALARS.items():
        value = getattr(group, name)
        if value is not None:
            row[column] = value if name == "box" else rounded(value / factor)
    row[DIMENSIONALITY] = 2
    if group.beam_tilt != (0.0, 0.0):
        row["rlnBeamTiltX"], row["rlnBeamTiltY"] = (rounded(value / MILLIRADIAN) for value in group.beam_tilt)
    for column, name in _ZERNIKE.items():
        if getattr(group, name):
            row[column] = "[" + ",".join(repr(value) for value in getattr(group, name)) + "]"
    if group.magnification != ((1.0, 0.0), (0.0, 1.0)):
        row.update(zip(_MATRIX, (value for line in group.magnification for value in line)))
    row["rlnCtfDataAreCtfPremultiplied"] = int(group.ctf_state is CtfState.PREMULTIPLIED)
    if group.ctf_state is CtfState.PHASE_FLIPPED:
        row["rlnCtfDataArePhaseFlipped"] = 1
    if group.ctf_state is CtfState.WIENER:
        row[STATE] = group.ctf_state.value
    if group.wiener_snr is not None:
        row[WIENER_SNR] = group.wiener_snr
    return {**row, **{name: value for name, value in group.extra.items() if name != NUMBER}}


def rounded(value: float) -> float:
    """The value at 12 significant digits: a change of unit there and back gives the number that the file had."""
    return float(f"{value:.12g}")


def with_pixel_size(groups: Sequence[OpticsGroup], pixel_size: float | None) -> tuple[OpticsGroup, ...]:
    """The groups with a pixel size given by hand in place of their own; unchanged if None."""
    return (
        tuple(groups) if pixel_size is None else tuple(replace(group, pixel_size=float(pixel_size)) for group in groups)
    )
