"""MRC files: headers, volumes, images and stacks of the MRC2014 format and of what programs made of it before.

Format: Cheng et al. 2015, J. Struct. Biol. 192:146, doi:10.1016/j.jsb.2015.04.002. Read are the modes 0 (int8), 1
(int16), 2 (float32), 4 (complex64), 6 (uint16) and 12 (float16), in both byte orders, with extended headers, plain or
packed by gzip or bzip2. Pixels of plain files are memory-mapped: nothing is read before it is asked for.
"""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.files import require_file
from vitreous.model.volume import Volume

HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
_OTHER_MODES = {3: "complex int16", 16: "RGB", 101: "packed 4-bit"}
_PIECE = 1 << 24


@dataclass(frozen=True)
class MrcHeader:
    """What the header of an MRC file says, in the order of the file: `shape` is (sections, rows, columns).

    `pixel_size` is (x, y, z) in angstrom, None where the header gives none (0, negative, or no sampling); a single
    image may have 0 in z. `axes` says which of x (1), y (2), z (3) the columns, rows and sections are; `start` is
    (nxstart, nystart, nzstart).
    """

    path: Path
    shape: tuple[int, int, int]
    mode: int
    dtype: np.dtype
    pixel_size: tuple[float, float, float] | None
    start: tuple[int, int, int]
    axes: tuple[int, int, int]
    space_group: int
    extended_type: str
    extended_bytes: int
    byte_order: str  # "little" or "big"
    compression: str  # "", "gzip" or "bzip2"
    labels: tuple[str, ...]

    @property
    def data_offset(self) -> int:
        """Byte at which the pixels start."""
        return HEADER_BYTES + self.extended_bytes

    @property
    def data_bytes(self) -> int:
        """Bytes that the pixels take."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def read_header(path: str | os.PathLike[str]) -> MrcHeader:
    """The header of an MRC file, checked: known mode, positive shape, and (of plain files) all pixels present.

    Raises FileProblem (missing, empty, LFS pointer, truncated) and FormatProblem (not MRC, unknown mode).
    """
    path = require_file(path)
    compression = _compression(path)
    raw = _read_bytes(path, compression, HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        verb = "unpacks to" if compression else "has"
        raise FileProblem(
            f"{path} {verb} {len(raw)} bytes",
            f"an MRC header of {HEADER_BYTES} bytes",
            "the file is truncated or of another kind",
        )
    header = _parse_header(path, raw, compression)
    if not compression:
        have, need = path.stat().st_size, header.data_offset + header.data_bytes
        if have < need:
            raise FileProblem(
                f"{path} has {have} bytes",
                f"{need} bytes for {header.shape} pixels of mode {header.mode}",
                "the file is truncated: copy it again",
            )
    return header


def read_data(header: MrcHeader) -> np.ndarray:
    """The pixels [sections, rows, columns] in the type and byte order of the file: a read-only memory map, or an
    array if packed."""
    if not header.compression:
        try:
            return np.memmap(header.path, dtype=header.dtype, mode="r", offset=header.data_offset, shape=header.shape)
        except (OSError, ValueError) as error:
            raise FileProblem(
                f"{header.path} cannot be read any more ({error})",
                "the file as it was when opened",
                "do not change it meanwhile",
            ) from None
    need = header.data_offset + header.data_bytes
    raw = _read_bytes(header.path, header.compression, need)
    if len(raw) < need:
        raise FileProblem(
            f"{header.path} unpacks to {len(raw)} bytes",
            f"{need} bytes for {header.shape} pixels of mode {header.mode}",
            "the file is truncated: copy it again",
        )
    return np.frombuffer(raw, dtype=header.dtype, offset=header.data_offset).reshape(header.shape)


def read_sections(header: MrcHeader) -> Iterator[np.ndarray]:
    """The sections [rows, columns] one after the other, in the type and byte order of the file; one at a time is in memory."""
    rows, columns = header.shape[1:]
    need = rows * columns * header.dtype.itemsize
    try:
        with _open(header.path, header.compression) as stream:
            skipped = header.data_offset
            while skipped > 0 and (piece := stream.read(min(skipped, _PIECE))):
                skipped -= len(piece)
            for number in range(header.shape[0]):
                raw = stream.read(need)
                if len(raw) < need:
                    raise FileProblem(
                        f"{header.path} ends in section {number + 1}",
                        f"{header.shape[0]} sections",
                        "the file is truncated: copy it again",
                    )
                yield np.frombuffer(raw, dtype=header.dtype).reshape(rows, columns)
    except (EOFError, OSError, zlib.error) as error:
        raise FileProblem(
            f"{header.path} cannot be read to its end ({error})", "a whole file", "copy it again"
        ) from None


def read_volume(path: str | os.PathLike[str], pixel_size: float | None = None) -> Volume:
    """A map as float32 [z, y, x], whatever the order of axes in the file, with its pixel size in angstrom.

    `pixel_size` replaces the header's; it is needed where the header says 0 ("unknown"). The start fields and the
    origin of the header place the map in a crystal or beside a model: they are not used here, the origin of a volume
    is its centre voxel.
    """
    header = read_header(path)
    if header.shape[0] == 1:
        raise DataProblem(f"{path} holds one image of {header.shape[1:]} pixels", "a volume of at least two sections")
    if header.mode == 4:
        raise DataProblem(f"{path} holds complex numbers (mode 4)", "a real-space map")
    if len(set(header.shape)) != 1:
        raise DataProblem(f"{path} has the shape {header.shape}", "a cubic map", "crop or pad it to a cube")
    order = [header.axes.index(axis) for axis in (3, 2, 1)]  # where z, y, x are among (columns, rows, sections)
    data = read_data(header).transpose([2 - position for position in order])
    return Volume(np.ascontiguousarray(as_float(data)), _volume_pixel_size(header, pixel_size))


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """A single image (a micrograph, a spectrum) as float32 [y, x]; complex64 if the file is complex (mode 4).

    Its pixel size, where known, is in `read_header(path).pixel_size`.
    """
    header = read_header(path)
    if header.shape[0] != 1:
        raise DataProblem(f"{path} holds {header.shape[0]} sections", "one image", "name a single micrograph or image")
    return as_float(read_data(header)[0])


def as_float(values: np.ndarray) -> np.ndarray:
    """A copy in single precision, native byte order. NaNs of every kind pass quietly: whoever uses the pixels decides
    what they mean."""
    with np.errstate(invalid="ignore"):
        return np.array(values, dtype=np.complex64 if values.dtype.kind == "c" else np.float32)


def _compression(path: Path) -> str:
    with open(path, "rb") as stream:
        start = stream.read(3)
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    return "bzip2" if start == b"BZh" else ""


def _read_bytes(path: Path, compression: str, count: int) -> bytes:
    """At most the first `count` unpacked bytes. Read in pieces: a wild count from a broken header allocates nothing."""
    pieces: list[bytes] = []
    try:
        with _open(path, compression) as stream:
            while count > 0 and (piece := stream.read(min(count, _PIECE))):
                pieces.append(piece)
                count -= len(piece)
    except EOFError:
        pass  # a packed file that ends early: the caller finds too few bytes and says so
    except (OSError, zlib.error, ValueError) as error:
        raise FileProblem(
            f"{path} cannot be unpacked ({error})", f"a whole {compression} file", "copy it again"
        ) from None
    return b"".join(pieces)


def _open(path: Path, compression: str) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File:
    if compression == "gzip":
        return gzip.open(path, "rb")
    return bz2.BZ2File(path) if compression == "bzip2" else open(path, "rb")


def _parse_header(path: Path, raw: bytes, compression: str) -> MrcHeader:
    record, byte_order = _record(path, raw)
    nx, ny, nz, mode = (int(record[name]) for name in ("nx", "ny", "nz", "mode"))
    extended_bytes = int(record["nsymbt"])
    if mode in _OTHER_MODES:
        raise FormatProblem(
            f"{path} has mode {mode} ({_OTHER_MODES[mode]})",
            f"one of the modes {sorted(MODES)}",
            "convert it to float32 (mode 2)",
        )
    if extended_bytes < 0:
        raise FormatProblem(
            f"{path} gives {extended_bytes} bytes of extended header", "zero or more", "the header is damaged"
        )
    axes = (int(record["mapc"]), int(record["mapr"]), int(record["maps"]))
    labels = (bytes(label).split(b"\0")[0].decode("latin-1").strip() for label in record["label"])
    return MrcHeader(
        path=path,
        shape=(nz, ny, nx),
        mode=mode,
        dtype=np.dtype(MODES[mode]).newbyteorder("<" if byte_order == "little" else ">"),
        pixel_size=_pixel_size(record),
        start=(int(record["nxstart"]), int(record["nystart"]), int(record["nzstart"])),
        axes=axes if sorted(axes) == [1, 2, 3] else (1, 2, 3),
        space_group=int(record["ispg"]),
        extended_type=bytes(record["exttyp"]).strip(b"\0 ").decode("latin-1"),
        extended_bytes=extended_bytes,
        byte_order=byte_order,
        compression=compression,
        labels=tuple(label for label in labels if label),
    )


def _record(path: Path, raw: bytes) -> tuple[np.void, str]:
    """The header in the byte order that makes sense. The machine stamp decides only if both do: many files have a
    wrong one."""
    orders = ["little", "big"] if raw[212] != 0x11 else ["big", "little"]
    for order in orders:
        record = np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder("<" if order == "little" else ">"), count=1)[0]
        if _plausible(record):
            return record, order
    raise FormatProblem(
        f"{path} has no valid MRC header",
        "an MRC file (.mrc, .mrcs, .map)",
        "check that the file is what its name says",
    )


def _plausible(record: np.void) -> bool:
    shape = [int(record[name]) for name in ("nx", "ny", "nz")]
    axes = sorted(int(record[name]) for name in ("mapc", "mapr", "maps"))
    known_mode = int(record["mode"]) in MODES or int(record["mode"]) in _OTHER_MODES
    return known_mode and min(shape) > 0 and axes in ([1, 2, 3], [0, 0, 0])


def _pixel_size(record: np.void) -> tuple[float, float, float] | None:
    sizes = []
    for axis in "xyz":
        cell, samples = float(record["cella"][axis]), int(record["m" + axis])
        size = cell / samples if samples > 0 and np.isfinite(cell) and cell > 0 else 0.0
        sizes.append(size)
    return (sizes[0], sizes[1], sizes[2]) if sizes[0] > 0 and sizes[1] > 0 else None


def _volume_pixel_size(header: MrcHeader, given: float | None) -> float:
    if given is not None:
        return float(given)
    if header.pixel_size is None or header.pixel_size[2] <= 0:
        raise DataProblem(
            f"{header.path} has pixel size 0 in its header (unknown)", "a pixel size in angstrom", "give --pixel-size"
        )
    low, high = min(header.pixel_size), max(header.pixel_size)
    if high > low * 1.001:
        raise DataProblem(
            f"{header.path} has voxels of {header.pixel_size} A",
            "one size along x, y and z",
            "resample it, or give --pixel-size",
        )
    return header.pixel_size[0]
