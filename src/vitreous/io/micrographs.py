"""Micrographs as files: MRC and TIFF images, movies that are summed, and stored power spectra.

A file of several sections or pages is a movie: its frames are added up one by one, as they are (no motion is corrected, no gain
applied). A stored spectrum holds amplitudes on the whole plane, zero frequency in the middle, as RELION writes `..._PS.mrc`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem
from vitreous.io.files import require_file
from vitreous.io.images import find_stack
from vitreous.io.mrc import MrcHeader, read_header, read_sections
from vitreous.io.tiff import TiffHeader, is_tiff, read_tiff_header, read_tiff_pages

SPECTRUM_ENDING = "_PS"
SQUARE = 1e-3  # relative difference up to which pixels are square
_PACKED = (".gz", ".bz2")


class Kind(StrEnum):
    """What a file of a micrograph holds."""

    MICROGRAPH = "micrograph"
    MOVIE = "movie"
    SPECTRUM = "spectrum"


@dataclass(frozen=True)
class MicrographFile:
    """A micrograph on disk: `shape` (rows, columns), `frames` 1 unless it is a movie, `pixel_size` in angstrom, and `header_pixel_size`,
    what the file itself says (None where it says 0)."""

    header: MrcHeader | TiffHeader
    kind: Kind
    shape: tuple[int, int]
    frames: int
    pixel_size: float
    header_pixel_size: float | None

    @property
    def path(self) -> Path:
        return self.header.path

    def read(self) -> np.ndarray:
        """The image, the sum of the frames, or the amplitudes: float32 [y, x]. Memory: one frame and the sum."""
        sections = read_sections if isinstance(self.header, MrcHeader) else read_tiff_pages
        total: np.ndarray | None = None
        for frame in sections(self.header):  # type: ignore[arg-type]
            with np.errstate(invalid="ignore", over="ignore"):
                # float32 counts whole electrons exactly up to 2^24: more than any movie has in a pixel
                total = (
                    frame.astype(np.float32) if total is None else np.add(total, frame, out=total, casting="same_kind")
                )
        assert total is not None
        return total


def open_micrograph(
    path: str | os.PathLike[str], *, spectrum: bool = False, pixel_size: float | None = None
) -> MicrographFile:
    """What a file holds, from its header alone. It is a spectrum if its name ends in `_PS`, or if told so. `pixel_size` replaces the header's.

    Raises FileProblem and FormatProblem for what cannot be read, DataProblem for what is no micrograph (complex numbers, a map, colours)
    and for a pixel size that nobody knows.
    """
    path = require_file(path)
    header = read_tiff_header(path) if is_tiff(path) else read_header(path)
    frames, rows, columns = header.shape
    spectrum = spectrum or is_spectrum_name(path)
    if isinstance(header, MrcHeader):
        if header.mode == 4:
            raise DataProblem(f"{path} holds complex numbers (mode 4)", "a micrograph, or amplitudes of its spectrum")
        if frames > 1 and frames == rows == columns:
            raise DataProblem(f"{path} holds a cube of {frames} voxels", "a micrograph, a movie or a spectrum")
    if spectrum and frames > 1:
        raise DataProblem(f"{path} holds {frames} sections", "one spectrum")
    kind = Kind.SPECTRUM if spectrum else Kind.MICROGRAPH if frames == 1 else Kind.MOVIE
    known = pixel_size or _pixel_size(header)
    return MicrographFile(header, kind, (rows, columns), frames, known, _x_pixel_size(header))


def is_spectrum_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a stored spectrum: `..._PS.mrc`."""
    return bare_name(path).endswith(SPECTRUM_ENDING)


def bare_name(path: str | os.PathLike[str]) -> str:
    """The name of a file without its folder and endings.

    >>> bare_name("job/movies/x.01.mrc.gz")
    'x.01'
    """
    name = Path(path)
    return Path(name.stem).stem if name.suffix.lower() in _PACKED else name.stem


def find_micrograph(name: str, folder: Path, datadir: Sequence[Path] = ()) -> Path | None:
    """Where the micrograph that a STAR file in `folder` calls `name` lies: from that folder, from those above it, from the current one,
    or from `datadir`; None if nowhere. An ending `:mrc`, RELION's note of the format, is not part of the name."""
    name = name.removesuffix(":mrc")
    found = find_stack(name, folder, datadir)
    return Path(name) if found is None and Path(name).is_file() else found


def _pixel_size(header: MrcHeader | TiffHeader) -> float:
    size = _x_pixel_size(header)
    if size is None:
        says = (
            "has pixel size 0 in its header (unknown)"
            if isinstance(header, MrcHeader)
            else "does not say its pixel size"
        )
        raise DataProblem(f"{header.path} {says}", "a pixel size in angstrom", "give --pixel-size")
    if isinstance(header, MrcHeader) and header.pixel_size is not None:
        x, y, _ = header.pixel_size
        if abs(x / y - 1) > SQUARE:
            raise DataProblem(f"{header.path} has pixels of {x:.4g} x {y:.4g} A", "square pixels", "give --pixel-size")
    return size


def _x_pixel_size(header: MrcHeader | TiffHeader) -> float | None:
    size = header.pixel_size
    return size[0] if isinstance(size, tuple) else size
