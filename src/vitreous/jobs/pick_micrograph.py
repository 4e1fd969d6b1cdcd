"""One micrograph of the job `pick`: read, find, keep what was found. Whatever is finished is not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, InputError
from vitreous.io.atomic import atomic_path
from vitreous.io.micrographs import MicrographFile
from vitreous.jobs.folder import plain
from vitreous.jobs.job import named
from vitreous.jobs.pick_input import PickItem
from vitreous.optics.ctf import ctf_of_particles
from vitreous.optics.ctf_correction import state_factor
from vitreous.picking.blobs import BlobSettings, pick_blobs
from vitreous.picking.picks import Picks
from vitreous.picking.selection import Selected, Selection
from vitreous.picking.template_search import TransferFunction, pick_templates
from vitreous.picking.templates import TemplateBank
from vitreous.picking.working_image import working_image

FOLDER = "micrographs"  # in the job folder: NAME.json
FILE = "file"  # in NAME.json, beside the row: which bytes it was made of
DIGITS = 6


@dataclass(frozen=True)
class PickFailure:
    """A micrograph in which nothing could be looked for: its name in the job, its name in STAR files, and why, in one line."""

    name: str
    micrograph: str
    reason: str


@dataclass(frozen=True)
class PickRow:
    """One micrograph: its size (rows, columns) and pixel size in angstrom, and what was found in it (`Selected`)."""

    name: str
    path: str
    micrograph: str
    shape: tuple[int, int]
    pixel_size: float
    header_pixel_size: float | None
    picks: Picks
    suspect: Picks
    area: float
    reversed_contrast: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**content, "picks": _plain_picks(self.picks), "suspect": _plain_picks(self.suspect)}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> PickRow:
        """The row that `as_json` described, also after a journey through a file."""
        both = {name: _picks(content[name]) for name in ("picks", "suspect")}
        return PickRow(**{**content, "shape": tuple(content["shape"]), **both})


def _plain_picks(picks: Picks) -> dict[str, list]:
    """Columns as lists; those that this kind of picks lacks are left out."""
    columns = {one.name: getattr(picks, one.name) for one in fields(Picks)}
    return {name: np.round(column, DIGITS).tolist() for name, column in columns.items() if column is not None}


def _picks(content: Mapping[str, list]) -> Picks:
    columns: dict[str, Any] = {name: np.array(values, dtype=np.float64) for name, values in content.items()}
    columns["position"] = columns["position"].reshape(-1, 2)
    if "template" in columns:
        columns["template"] = columns["template"].astype(np.int64)
    return Picks(**columns)


@dataclass(frozen=True)
class PickTask:
    """What all micrographs share: the job's folder, what is looked for (`blobs`, or a bank of templates for each pixel size of `banks`,
    angstrom), limits (`usual_threshold`: that of templates instead of the selection's), contrast, and threads for each.
    """

    folder: Path
    selection: Selection
    contrast: str
    threads: int
    blobs: BlobSettings | None = None
    banks: Mapping[float, TemplateBank] | None = None
    usual_threshold: bool = False

    def search(self, item: PickItem, file: MicrographFile) -> Selected:
        """What is in one micrograph. Raises DataProblem and SettingsProblem for one in which nothing can be looked for."""
        image = file.read()
        if self.blobs is not None:
            small = working_image(
                image, file.pixel_size, self.blobs.working_pixel_size, contrast=self.contrast, workers=self.threads
            )
            return pick_blobs(small, self.blobs, self.selection)
        assert self.banks is not None
        bank = self.banks[finest_pixel(file.pixel_size, self.banks)]
        small = working_image(image, file.pixel_size, bank.pixel_size, contrast=self.contrast, workers=self.threads)
        return pick_templates(small, bank, self.selection, transfer_of(item), usual=self.usual_threshold)


def finest_pixel(pixel_size: float, banks: Mapping[float, TemplateBank]) -> float:
    """The key of the bank for micrographs of this pixel size: the finest pixels that are not finer than theirs."""
    return min(size for size in banks if size >= pixel_size * (1 - 1e-6))


def transfer_of(item: PickItem) -> TransferFunction | None:
    """What the micrograph's lens, and whatever has been done about it since, made of protein that is bright; None if no CTF is known."""
    if item.ctf is None:
        return None
    ctf, group = item.ctf, item.group

    def transfer(kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
        value = ctf_of_particles(group, ctf, kx, ky)[0]
        return (
            value
            if group.ctf_state is CtfState.RAW
            else value * state_factor(value, group.ctf_state, snr=group.wiener_snr)
        )

    return transfer


def finished_row(item: PickItem, task: PickTask) -> PickRow | PickFailure:
    """The row of one micrograph: made now, or found in the folder if its file is the same as then. A file that gives none is a failure."""
    from scipy import fft as scipy_fft

    try:
        if item.no_ctf:
            raise DataProblem(f"nothing is picked in '{item.micrograph}', because {item.no_ctf}")
        file = item.open()
        known = earlier_row(item, file, task.folder)
        if known is not None:
            return known
        with scipy_fft.set_workers(task.threads):  # of this thread alone
            return _new_row(item, file, task)
    except InputError as error:
        return PickFailure(item.name, item.micrograph, named(error.line(), item.micrograph))


def earlier_row(item: PickItem, file: MicrographFile, folder: Path) -> PickRow | None:
    """What an interrupted run has finished, if the file has not changed since."""
    record = folder / FOLDER / f"{item.name}.json"
    if not record.is_file():
        return None
    content = json.loads(record.read_text(encoding="utf-8"))
    return PickRow.from_json(content) if content.pop(FILE) == _identity(file) else None


def limited_threads(threads: int) -> threadpool_limits:
    """Matrix products on so many threads each, as long as this context lasts: micrographs are side by side already."""
    return threadpool_limits(threads, user_api="blas")


def _new_row(item: PickItem, file: MicrographFile, task: PickTask) -> PickRow:
    started = time.perf_counter()
    selected = task.search(item, file)
    row = PickRow(
        name=item.name,
        path=str(file.path),
        micrograph=item.micrograph,
        shape=(int(file.shape[0]), int(file.shape[1])),
        pixel_size=float(file.pixel_size),
        header_pixel_size=file.header_pixel_size,
        picks=selected.picks,
        suspect=selected.suspect,
        area=selected.area,
        reversed_contrast=selected.reversed_contrast,
        seconds=time.perf_counter() - started,
    )
    content = plain(row.as_json())
    with atomic_path(task.folder / FOLDER / f"{item.name}.json") as path:
        text = json.dumps({FILE: plain(_identity(file)), **content}, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    return PickRow.from_json(content)  # as a run that goes on reads it, to the last digit


def _identity(file: MicrographFile) -> dict[str, Any]:
    """Where the file lies, its size and its time of change."""
    facts = file.path.stat()
    return {"path": str(file.path), "bytes": facts.st_size, "modified": facts.st_mtime_ns}
