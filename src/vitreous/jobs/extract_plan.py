"""What `extract` is going to cut: for each micrograph the whole pixels, and for each pick that is kept its new origin and its CTF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vitreous.errors import DataProblem, InputError, SettingsProblem
from vitreous.io.micrographs import MicrographFile
from vitreous.jobs.ctf_particles import refuse_outside
from vitreous.jobs.extract_input import SAME, ExtractInput, LeftOut, Sheet
from vitreous.jobs.particle_input import HEADER_TOLERANCE
from vitreous.model.optics import OpticsGroup
from vitreous.picking.extraction import cut_pixels, filled_fraction, outside


@dataclass(frozen=True)
class CutItem:
    """One micrograph and the whole pixels (x, y) [n, 2] about which its particles are cut. `pixel_size` in angstrom; `number` of all."""

    number: int
    sheet: Sheet
    shape: tuple[int, int]
    pixel_size: float
    header_pixel_size: float | None
    pixel: np.ndarray


@dataclass(frozen=True)
class Plan:
    """`given` holds the picks that are kept. `rows` are those of each of the `items`. Of each pick, `pixel` [n, 2] is the whole pixel (x, y) about
    which it is cut, `origin` [n, 2] its new origin in angstrom, `filled` [n] the part of its box beyond the border. `outside`: picks whose
    middle is no pixel; `at_edge`: those dropped because their box is not whole.
    """

    given: ExtractInput
    items: tuple[CutItem, ...]
    rows: tuple[np.ndarray, ...]
    pixel: np.ndarray
    origin: np.ndarray
    filled: np.ndarray
    left_out: tuple[LeftOut, ...]
    outside: int
    at_edge: int
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.pixel)

    @property
    def optics(self) -> tuple[OpticsGroup, ...]:
        """The groups of the picks, with the pixel size of their micrographs. Raises DataProblem where these differ within a group."""
        sizes: dict[int, float] = {}
        for item, rows in zip(self.items, self.rows):
            for index in np.unique(self.given.optics_index[rows]).tolist():
                if abs(sizes.setdefault(index, item.pixel_size) / item.pixel_size - 1) > SAME:
                    raise DataProblem(
                        f"micrographs of {sizes[index]:.4g} and {item.pixel_size:.4g} A in optics group '{self.given.optics[index].name}'",
                        "one pixel size",
                        "give --pixel-size, or one group for each",
                    )
        return tuple(
            replace(group, pixel_size=sizes.get(number, group.pixel_size))
            for number, group in enumerate(self.given.optics)
        )


def plan_extraction(given: ExtractInput, box: int, *, recentre: bool, drop: bool) -> Plan:
    """Open the micrographs (headers only) and decide what is cut.

    Raises DataProblem for coordinates far outside (those of another pixel size), for a box that no micrograph holds, and if nothing is left.
    """
    files, left_out = _opened(given)
    refuse_outside(given.particles, {place: file.shape for place, file in files.items()})
    _refuse_box(box, list(files.values()))
    kept = np.isin(given.particles.micrograph, list(files))
    given = given if kept.all() else given.rows(kept)
    pixel, origin, filled, lost = _cuts(given, files, box, recentre)
    at_edge = ~lost & (filled > 0) if drop else np.zeros(len(lost), dtype=bool)
    keep = ~(lost | at_edge)
    if not keep.any():
        raise DataProblem(
            f"none of {len(keep)} boxes of {box} pixels lies in its micrograph",
            "at least one",
            "give a smaller --box, or --edge fill",
        )
    given, pixel = given.rows(keep), pixel[keep]
    items, rows = list[CutItem](), list[np.ndarray]()
    for place, these in rows_by(given.particles.micrograph):
        file, sheet = files[place], given.sheets[place]
        items.append(CutItem(len(items), sheet, file.shape, file.pixel_size, file.header_pixel_size, pixel[these]))
        rows.append(these)
    return Plan(
        given,
        tuple(items),
        tuple(rows),
        pixel,
        origin[keep],
        filled[keep],
        (*given.left_out, *left_out),
        int(lost.sum()),
        int(at_edge.sum()),
        (*given.notes, *_header_notes(items)),
    )


def rows_by(code: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each value of `code`, in rising order, and its rows."""
    order = np.argsort(code, kind="stable")
    values, starts = np.unique(code[order], return_index=True)
    return list(zip(values.tolist(), np.split(order, starts[1:])))


def _opened(given: ExtractInput) -> tuple[dict[int, MicrographFile], list[LeftOut]]:
    files, left_out = {}, []
    for place, sheet in given.sheets.items():
        try:
            files[place] = sheet.open()
        except InputError as error:
            count = int((given.particles.micrograph == place).sum())
            left_out.append(LeftOut(sheet.micrograph, count, error.line()))
    if not files:
        raise DataProblem(f"none of {len(left_out)} micrographs can be read; the first: {left_out[0].reason}")
    return files, left_out


def _refuse_box(box: int, files: Sequence[MicrographFile]) -> None:
    small = next((file for file in files if box > min(file.shape)), None)
    if small is not None:
        raise SettingsProblem(
            f"--box {box} for {small.path} of {small.shape[1]} x {small.shape[0]} pixels",
            "a box that the micrograph holds",
        )


def _cuts(
    given: ExtractInput, files: dict[int, MicrographFile], box: int, recentre: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each pick the whole pixel, the new origin, the part of its box beyond the border, and whether its middle is no pixel."""
    particles, count = given.particles, len(given.particles)
    pixel, origin = np.empty((count, 2), dtype=np.int64), np.empty((count, 2))
    filled, lost = np.empty(count), np.empty(count, dtype=bool)
    for place, these in rows_by(particles.micrograph):
        file = files[place]
        pixel[these], origin[these] = cut_pixels(
            particles.coordinate[these], particles.origin[these], file.pixel_size, recentre=recentre
        )
        filled[these] = filled_fraction(file.shape, pixel[these], box)
        lost[these] = outside(file.shape, pixel[these])
    return pixel, origin, filled, lost


def _header_notes(items: Sequence[CutItem]) -> list[str]:
    """A sentence if headers give another pixel size than the STAR files or the option, which are believed."""
    off = [
        item
        for item in items
        if item.header_pixel_size is not None and abs(item.header_pixel_size / item.pixel_size - 1) >= HEADER_TOLERANCE
    ]
    if not off:
        return []
    return [
        f"The headers of {len(off)} micrographs, such as {off[0].sheet.path}, say {off[0].header_pixel_size:.4g} Å per pixel instead of "
        f"{off[0].pixel_size:.4g} Å: the headers are not believed."
    ]
