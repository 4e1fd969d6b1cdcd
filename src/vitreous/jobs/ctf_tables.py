"""The STAR files of the job `ctf`: micrographs with a good CTF, and those to reject with the evidence.

RELION's columns have RELION's names and units (angstrom, degrees). What it has no name for begins with `vitreous`; every `...Error` is a
standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vitreous.io.micrograph_table import MicrographTable
from vitreous.jobs.ctf_row import CtfFailure, CtfRow
from vitreous.units import DEGREE

SELECTED, REJECTED = "micrographs_ctf.star", "rejected.star"
WHY = "vitreousRejectReason"
NO_NUMBER = float("nan")
# of an earlier estimate, which this one does not repeat
STALE = (
    "rlnCtfImage",
    "rlnCtfValidationScore",
    "rlnCtfBfactor",
    "rlnCtfScalefactor",
    "rlnPhaseShift",
    "rlnCtfIceRingDensity",
)
_Value = Callable[[CtfRow], float | None]
ALWAYS: dict[str, _Value] = {
    "rlnDefocusU": lambda row: row.defocus_u,
    "rlnDefocusV": lambda row: row.defocus_v,
    "rlnCtfAstigmatism": lambda row: 2 * row.amplitude,
    "rlnDefocusAngle": lambda row: row.angle / DEGREE,
    "rlnCtfFigureOfMerit": lambda row: row.score,
    "rlnCtfMaxResolution": lambda row: row.fit_resolution,
    "vitreousDefocusError": lambda row: row.defocus_sigma,
    "vitreousAstigmatismError": lambda row: _times(row.amplitude_sigma, 2),
    "vitreousDefocusAngleError": lambda row: _times(row.angle_sigma, 1 / DEGREE),
}
# columns that are written only if some micrograph has a value
WHERE_FITTED: dict[str, _Value] = {
    "rlnPhaseShift": lambda row: None if row.phase_shift_sigma is None else row.phase_shift / DEGREE,
    "vitreousPhaseShiftError": lambda row: _times(row.phase_shift_sigma, 1 / DEGREE),
    "rlnCtfIceRingDensity": lambda row: row.ice_ring,
    "vitreousTiltDeg": lambda row: _times(row.tilt, 1 / DEGREE),
    "vitreousTiltDegError": lambda row: _times(row.tilt_sigma, 1 / DEGREE),
    "vitreousTiltAxisDeg": lambda row: _times(row.axis, 1 / DEGREE),
    "vitreousTiltAxisDegError": lambda row: _times(row.axis_sigma, 1 / DEGREE),
    "vitreousThickness": lambda row: row.thickness,
    "vitreousThicknessError": lambda row: row.thickness_sigma,
    "vitreousSpectrumBfactor": lambda row: row.b_factor,
    "vitreousSpectrumBfactorError": lambda row: row.b_factor_sigma,
}
FOUND, SIGNIFICANCE, IMAGE = "vitreousCtfFound", "vitreousCtfSignificance", "rlnCtfImage"


def why_rejected(result: CtfRow | CtfFailure) -> str:
    """One line; "" of a good micrograph."""
    if isinstance(result, CtfFailure):
        return f"Not read: {result.reason}"
    return " ".join(([] if result.found else [f"No CTF found. {result.evidence}"]) + list(result.reasons))


def with_ctf(
    table: MicrographTable, results: Sequence[CtfRow | CtfFailure], image_name: Callable[[CtfRow], str]
) -> MicrographTable:
    """The table with the CTF of each row, columns of an earlier estimate replaced. `image_name` is what rlnCtfImage says.

    Where no CTF was found its numbers are nan: nothing that could be taken for a defocus.
    """
    found = [row if isinstance(row, CtfRow) and row.found else None for row in results]
    columns: dict[str, Any] = {name: _numbers(value, found) for name, value in ALWAYS.items()}
    for name, value in WHERE_FITTED.items():
        numbers = _numbers(value, found)
        if not np.isnan(numbers).all():
            columns[name] = numbers
    columns[FOUND] = np.array([int(row is not None) for row in found], dtype=np.int64)
    columns[SIGNIFICANCE] = _numbers(
        lambda row: row.significance, [row if isinstance(row, CtfRow) else None for row in results]
    )
    columns[IMAGE] = np.array([image_name(row) if isinstance(row, CtfRow) else "None" for row in results], dtype=object)
    kept = table.table.without(*STALE, *ALWAYS, *WHERE_FITTED, FOUND, SIGNIFICANCE, IMAGE, WHY)
    return MicrographTable(table.optics, table.optics_index, kept.with_columns(columns), table.block, table.others)


def replaced_columns(table: MicrographTable) -> list[str]:
    """Columns of an earlier estimate that `with_ctf` replaces or leaves out."""
    return [name for name in table.table if name in {*STALE, *ALWAYS, *WHERE_FITTED, FOUND, SIGNIFICANCE, WHY}]


def selected_and_rejected(
    table: MicrographTable, results: Sequence[CtfRow | CtfFailure]
) -> tuple[MicrographTable, MicrographTable]:
    """The rows without and with something against them; the latter say what."""
    why = np.array([why_rejected(result) for result in results], dtype=object)
    bad = np.array([text != "" for text in why], dtype=bool)
    return table.rows(~bad), table.rows(bad).with_columns({WHY: why[bad]})


def _numbers(value: _Value, rows: Sequence[CtfRow | None]) -> np.ndarray:
    numbers = [None if row is None else value(row) for row in rows]
    return np.array([NO_NUMBER if number is None else round(float(number), 6) for number in numbers])


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
