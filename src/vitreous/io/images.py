"""Particle images spread over many stacks, as one lazy stack in the order of the particle file."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem, FileProblem
from vitreous.io.mrc import MrcHeader, read_data
from vitreous.io.mrc_stack import square_stack_header
from vitreous.model.particles import ImageName

_OPEN_STACKS = 64


def find_stack(name: str, folder: Path, datadir: Sequence[Path] = ()) -> Path | None:
    """Where the stack called `name` lies: tried in `folder` (that of the particle file), in its parents up to the
    root, then in each `datadir`, there also by its last part alone. A leading '>' is cryoSPARC's and not part of the
    name. None if it is nowhere."""
    relative = Path(name.removeprefix(">"))
    folder = folder.resolve()
    for base in (folder, *folder.parents, *datadir):
        if _is_file(base / relative):
            return base / relative
    return next((base / relative.name for base in datadir if _is_file(base / relative.name)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


class _Maps:
    """At most `_OPEN_STACKS` memory maps at a time, the least recently used closed first. Empty again after a trip
    between processes."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, header: MrcHeader) -> np.ndarray:
        with self._lock:
            data = self._open.pop(header.path, None)
            data = read_data(header) if data is None else data
            self._open[header.path] = data
            while len(self._open) > _OPEN_STACKS:
                self._open.popitem(last=False)
            return data

    def __reduce__(self) -> tuple:
        return (_Maps, ())


@dataclass(frozen=True)
class ParticleImages:
    """An `ImageSource` over many stacks: row i is image `names.index[i]` of the stack `headers[names.path_code[i]]`.

    Made by `open_images`, which checks every stack and every row; reading trusts it.
    """

    names: ImageName
    headers: tuple[MrcHeader | None, ...]  # None for a stack that no row names
    box: int
    maps: _Maps

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.names), self.box, self.box)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def pixel_size(self) -> float | None:
        """The pixel size of the stacks' headers in angstrom, None if they give none or differ by more than 0.1 %."""
        sizes = [h.pixel_size[0] for h in self.headers if h is not None and h.pixel_size is not None]
        return sizes[0] if sizes and max(sizes) <= min(sizes) * 1.001 else None

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """The images of these rows in the order given, float32 [m, y, x]."""
        chosen = self.names.rows(rows)
        images = np.empty((len(chosen), self.box, self.box), dtype=np.float32)
        with np.errstate(
            invalid="ignore"
        ):  # NaNs of every kind pass quietly: whoever uses the pixels decides what they mean
            for code, place in _groups(chosen.path_code):
                header = self.headers[code]
                assert header is not None
                pixels = self.maps.get(header)
                images[place] = pixels[_as_slice(chosen.index[place])]
                _release(pixels)
        return images

    def rows(self, selection: slice | np.ndarray) -> ParticleImages:
        """The lazy stack of the selected rows, in the order given; memory maps are shared."""
        return ParticleImages(self.names.rows(selection), self.headers, self.box, self.maps)


def open_images(names: ImageName, folder: Path, datadir: Sequence[Path] = ()) -> ParticleImages:
    """Find and check the stacks of all particles; no pixel is read.

    Raises FileProblem naming a stack that is missing or truncated, DataProblem for rows that point outside their
    stack and for boxes that differ.
    """
    if len(names) == 0:
        raise DataProblem("no particles", "at least one row")
    counts = np.bincount(names.path_code, minlength=len(names.paths))
    highest = np.full(len(names.paths), -1, dtype=np.int64)
    lowest = np.zeros(len(names.paths), dtype=np.int64)
    np.maximum.at(highest, names.path_code, names.index)
    np.minimum.at(lowest, names.path_code, names.index)
    headers: list[MrcHeader | None] = []
    for code, name in enumerate(names.paths):
        if counts[code] == 0:
            headers.append(None)
            continue
        path = find_stack(name, folder, datadir)
        if path is None:
            raise FileProblem(
                f"the stack '{name}' was not found beside {folder}, above it, or in --datadir",
                "the images that the particle file names",
                "give the folder that the names start from as --datadir",
            )
        header = square_stack_header(path)
        if highest[code] >= header.shape[0] or lowest[code] < 0:
            _refuse_row(names, code, header)
        headers.append(header)
    return ParticleImages(names, tuple(headers), _one_box(headers), _Maps())


def _refuse_row(names: ImageName, code: int, header: MrcHeader) -> None:
    outside = (names.path_code == code) & ((names.index >= header.shape[0]) | (names.index < 0))
    row = int(np.flatnonzero(outside)[0])
    raise DataProblem(
        f"row {row + 1} names image {int(names.index[row]) + 1} of {header.path}",
        f"an image number from 1 to {header.shape[0]}, the number of images in that stack",
        "the stack and the particle file do not belong together",
    )


def _one_box(headers: Sequence[MrcHeader | None]) -> int:
    known = [header for header in headers if header is not None]
    box = known[0].shape[1]
    for header in known:
        if header.shape[1] != box:
            raise DataProblem(
                f"images of {box} pixels in {known[0].path} and of {header.shape[1]} pixels in {header.path}",
                "one box size for all particles",
                "crop or rescale them to one box",
            )
    return box


def _release(pixels: np.ndarray) -> None:
    """Let go of the pages of a memory map that have been copied: they stay in the system's cache, but no longer count as this
    process's memory, which so does not grow with the stack."""
    mapped = getattr(pixels, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _groups(codes: np.ndarray) -> list[tuple[int, slice | np.ndarray]]:
    """(code, places) for each stack: a slice if its rows follow each other, else the row numbers."""
    if len(codes) == 0:
        return []
    breaks = np.flatnonzero(np.diff(codes)) + 1
    starts, stops = np.concatenate([[0], breaks]), np.concatenate([breaks, [len(codes)]])
    if len(np.unique(codes[starts])) == len(starts):
        return [(int(codes[a]), slice(int(a), int(b))) for a, b in zip(starts, stops)]
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    return [(int(codes[part[0]]), part) for part in np.split(order, edges)]


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """The same rows as a slice where they are consecutive: a slice is copied without a gather."""
    first = int(index[0])
    consecutive = int(index[-1]) - first == len(index) - 1 and bool((np.diff(index) == 1).all())
    return slice(first, first + len(index)) if consecutive else index
