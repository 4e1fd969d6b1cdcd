"""TIFF micrographs and movies: 8, 16 or 32-bit grey values, one frame a page.

Rows are reversed: TIFF files begin with the top row of a picture, MRC files with the bottom one, and the programs of the field (RELION,
IMOD, MotionCor2) turn TIFF images over when they read them. Without it angles of astigmatism and coordinates would be mirrored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.files import require_file

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SANE_PIXEL = (0.05, 100.0)  # angstrom: a resolution of 72 dots per inch is that of a screen, not of a microscope
_UNIT = {2: 2.54e8, 3: 1e8}  # angstrom per inch and per centimetre, by ResolutionUnit
_IMAGEJ_UNIT = {"a": 1.0, "å": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4, "µm": 1e4, "μm": 1e4, "micron": 1e4}
_EER = (65000, 65001, 65002)  # compressions of electron-event movies


@dataclass(frozen=True)
class TiffHeader:
    """What a TIFF file says: `shape` is (pages, rows, columns); `pixel_size` in angstrom, None if it says none that can be."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    pixel_size: float | None


def is_tiff(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as TIFF files do."""
    with open(path, "rb") as stream:
        return stream.read(4) in SIGNATURES


def read_tiff_header(path: str | os.PathLike[str]) -> TiffHeader:
    """Pages, size and pixel size. Raises FileProblem and FormatProblem for what cannot be read, DataProblem for colours."""
    path = require_file(path)
    with _opened(path) as tiff:
        page = tiff.pages[0]
        _refuse(path, page)
        rows, columns = page.shape
        return TiffHeader(path, (len(tiff.pages), rows, columns), page.dtype, _pixel_size(tiff, page))


def read_tiff_pages(header: TiffHeader) -> Iterator[np.ndarray]:
    """The pages [rows, columns] one after the other, the bottom row first; one at a time is in memory."""
    with _opened(header.path) as tiff:
        for number, page in enumerate(tiff.pages, 1):
            if page.shape != header.shape[1:]:
                raise DataProblem(
                    f"page {number} of {header.path} has {page.shape} pixels, its first page {header.shape[1:]}",
                    "frames of one size",
                )
            yield page.asarray()[::-1]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as tifffile has it; what goes wrong inside is one line."""
    import struct

    from tifffile import TiffFile, TiffFileError

    try:
        with TiffFile(path) as tiff:
            if len(tiff.pages) == 0:
                raise FormatProblem(f"{path} has no pages", "a TIFF image")
            yield tiff
    except (FileProblem, FormatProblem, DataProblem):
        raise
    except TiffFileError as error:
        raise FormatProblem(f"{path} is no TIFF file that can be read ({error})", "a TIFF image") from None
    except (OSError, EOFError, IndexError, KeyError, TypeError, ValueError, RuntimeError, struct.error) as error:
        if "imagecodecs" in str(error):
            raise FileProblem(
                f"{path} is compressed in a way that needs the package imagecodecs",
                "an uncompressed or zip-compressed TIFF file",
                "install imagecodecs, or write the file again without compression",
            ) from None
        raise FileProblem(f"{path} cannot be read ({error})", "a whole TIFF file", "copy it again") from None


def _refuse(path: Path, page: Any) -> None:
    if int(page.compression) in _EER:
        raise FormatProblem(
            f"{path} is an electron-event movie (EER)", "an image or frames", "sum it with the motion correction first"
        )
    if len(page.shape) != 2 or page.dtype is None or page.dtype.kind not in "uif":
        raise DataProblem(
            f"{path} has pages of shape {page.shape} and type {page.dtype}", "grey values, one frame a page"
        )


def _pixel_size(tiff: Any, page: Any) -> float | None:
    """From the resolution tags, per centimetre or inch, or in the unit that ImageJ notes."""
    sizes = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        if tag is None:
            return None
        numerator, denominator = tag.value
        if not (numerator > 0 and denominator > 0):
            return None
        sizes.append(_angstrom_per_unit(tiff, page) * denominator / numerator)
    sane = all(SANE_PIXEL[0] <= size <= SANE_PIXEL[1] for size in sizes)
    return sizes[0] if sane and abs(sizes[1] / sizes[0] - 1) < 1e-3 else None


def _angstrom_per_unit(tiff: Any, page: Any) -> float:
    """0, which makes no sane pixel, if there is no unit."""
    noted = (tiff.imagej_metadata or {}).get("unit") if tiff.is_imagej else None
    if noted is not None:
        text = str(noted).replace("\\u00B5", "µ").replace("\\u00C5", "Å").strip().lower()
        return _IMAGEJ_UNIT.get(text, 0.0)
    unit = page.tags.get("ResolutionUnit")
    return _UNIT.get(int(unit.value) if unit is not None else 2, 0.0)
