"""One micrograph of the job `ctf`: read, estimate, keep what was found. Whatever is finished is not done again."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import InputError
from vitreous.estimation.ctf_estimate import CtfEstimate, Search
from vitreous.estimation.ctf_fit import estimate_ctf, estimate_from_spectrum
from vitreous.estimation.spectrum import stored_spectrum
from vitreous.io.atomic import atomic_path
from vitreous.io.micrographs import Kind, MicrographFile
from vitreous.io.mrc_stack import StackWriter
from vitreous.jobs.ctf_input import CtfItem
from vitreous.jobs.ctf_limits import CtfLimits, reasons_to_reject
from vitreous.jobs.ctf_pictures import spectrum_picture, spectrum_png
from vitreous.jobs.ctf_row import FOLDER, CtfFailure, CtfRow
from vitreous.jobs.folder import plain
from vitreous.jobs.job import named

FILE = "file"  # in NAME.json, beside the row: which bytes it was made of
LABEL = "vitreous ctf: left measured, right fitted"


@dataclass(frozen=True)
class CtfTask:
    """What the estimates of all micrographs share: the job's folder, what is looked for, limits, and threads for each."""

    folder: Path
    search: Search
    limits: CtfLimits
    threads: int


def finished_row(item: CtfItem, task: CtfTask) -> CtfRow | CtfFailure:
    """The row of one micrograph: made now, or found in the folder if its file is the same as then. A file that gives none is a failure.

    Writes NAME_ctf.mrc and NAME_ctf.png, then NAME.json, which says that the micrograph is finished.
    """
    try:
        file = item.open()
        known = earlier_row(item, file, task.folder)
        return known if known is not None else _new_row(item, file, task)
    except InputError as error:
        return CtfFailure(item.name, str(item.path or item.micrograph), named(error.line(), item.micrograph))


def earlier_row(item: CtfItem, file: MicrographFile, folder: Path) -> CtfRow | None:
    """What an interrupted run has finished, if the file has not changed since."""
    record = folder / FOLDER / f"{item.name}.json"
    if not record.is_file():
        return None
    content = json.loads(record.read_text(encoding="utf-8"))
    return CtfRow.from_json(content) if content.pop(FILE) == _identity(file) else None


def _new_row(item: CtfItem, file: MicrographFile, task: CtfTask) -> CtfRow:
    use_persistent_cache()
    started = time.perf_counter()
    estimate = estimate_of(item, file, task)
    row = CtfRow.of_estimate(
        estimate,
        name=item.name,
        path=file.path,
        micrograph=item.micrograph,
        kind=file.kind.value,
        optics_group=item.group_number,
        pixel_size=file.pixel_size,
        shape=file.shape,
        reasons=reasons_to_reject(estimate, task.limits),
        seconds=time.perf_counter() - started,
        header_pixel_size=file.header_pixel_size,
    )
    _write_pictures(estimate, row, task.folder)
    content = {FILE: _identity(file), **row.as_json()}
    with atomic_path(task.folder / FOLDER / f"{item.name}.json") as path:
        path.write_text(
            json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
    return row


def estimate_of(item: CtfItem, file: MicrographFile, task: CtfTask) -> CtfEstimate:
    """The estimate of an image, or of a stored spectrum."""
    if file.kind is Kind.SPECTRUM:
        return estimate_from_spectrum(stored_spectrum(file.read(), file.pixel_size), item.lens, task.search)
    return estimate_ctf(file.read(), file.pixel_size, item.lens, task.search, workers=task.threads)


def _write_pictures(estimate: CtfEstimate, row: CtfRow, folder: Path) -> None:
    """Measured and fitted halves of the spectrum, for programs (MRC, 0 outside the fit) and for people (PNG)."""
    picture = spectrum_picture(estimate)
    with StackWriter(folder / row.spectrum_mrc, estimate.spectrum.pixel_size, label=LABEL) as writer:
        writer.append(np.nan_to_num(picture))
    with atomic_path(folder / row.spectrum_png) as path:
        path.write_bytes(spectrum_png(picture))


def _identity(file: MicrographFile) -> dict[str, Any]:
    """Where the file lies, its size and its time of change."""
    facts = file.path.stat()
    return {"path": str(file.path), "bytes": facts.st_size, "modified": facts.st_mtime_ns}
