"""The two containers of cryoSPARC's .cs files: bytes to a `Table` and back.

NUMPY (cryoSPARC 2 to 5): one structured array in NumPy's .npy format, text as fixed-width bytes; headers may be very
long.

CSDAT (4.2 and later, optional): columns one after another, each on its own compressed by lz4:

    bytes     what
    6         \\x95CSDAT
    4         h, length of the header (uint32; all numbers little-endian)
    h         JSON: {"length": rows, "dtype": [[name, type] or [name, type, shape], ...], "compression": "lz4" or null,
              "compressed_fields": [names]}
    4 + c     for each column, absent if there are no rows: c (uint32), then its c bytes; one lz4 block (without size)
    if its name
              is among the compressed fields, plain values otherwise. Text ("|O") is a uint64 a row: an offset into
              the heap
    rest      the heap: texts, each ended by a zero byte; offset 0 is the empty text
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vitreous.errors import FileProblem, FormatProblem, OutputProblem
from vitreous.io.atomic import atomic_path
from vitreous.io.files import require_file
from vitreous.model.table import Table, TextColumn

NUMPY, CSDAT = b"\x93NUMPY", b"\x95CSDAT"
CONTAINERS = {"numpy": NUMPY, "csdat": CSDAT}
_CHUNK_ROWS = 1 << 14
_MAX_HEADER = 1 << 28
_LZ4_RATIO = 260  # lz4 packs no better than 255 : 1; more is a damaged header
_UINT32_MAX = (1 << 32) - 1


def read_dataset(path: str | os.PathLike[str]) -> Table:
    """Every column of a .cs file, in the file's own types; text columns are `TextColumn`.

    Raises FileProblem (missing, empty, truncated) and FormatProblem (another kind of file, a damaged header).
    """
    path = require_file(path)
    with open(path, "rb") as stream:
        start = stream.read(6)
        if start == NUMPY:
            return _read_numpy(path, stream)
        if start == CSDAT:
            return _read_csdat(path, stream)
    raise FormatProblem(f"{path} is not a .cs file (it starts with {start!r})", "a cryoSPARC dataset")


def dataset_container(path: str | os.PathLike[str]) -> str:
    """Which container a .cs file uses: "numpy" or "csdat"."""
    with open(require_file(path), "rb") as stream:
        start = stream.read(6)
    return next((name for name, magic in CONTAINERS.items() if magic == start), "")


def _read_numpy(path: Path, stream: BinaryIO) -> Table:
    version, width = stream.read(2), 2
    reader = np.lib.format.read_array_header_1_0
    if version != b"\1\0":  # later versions differ in the width of the length field and in the encoding of the names
        reader, width = np.lib.format.read_array_header_2_0, 4
    length = int.from_bytes(stream.read(width), "little")
    if version not in (b"\1\0", b"\2\0", b"\3\0") or length > path.stat().st_size:
        raise FormatProblem(f"{path} has a damaged header", "a cryoSPARC dataset", "copy the file again")
    stream.seek(len(NUMPY) + len(version))
    try:
        shape, _, dtype = reader(stream, max_header_size=_MAX_HEADER)
    except Exception as error:  # the header is text that NumPy evaluates: what a damaged one raises is anyone's guess
        raise FormatProblem(
            f"{path} has a damaged header ({type(error).__name__})", "a cryoSPARC dataset", "copy the file again"
        ) from None
    if dtype.names is None or len(shape) != 1 or dtype.hasobject or dtype.itemsize == 0:
        raise FormatProblem(
            f"{path} holds an array of {dtype} and shape {shape}", "rows of named columns, without pickled objects"
        )
    rows, offset = int(shape[0]), stream.tell()
    have, need = path.stat().st_size - offset, rows * dtype.itemsize
    if rows < 0 or have < need:
        raise FileProblem(
            f"{path} has {have} bytes of rows", f"{need} bytes for {rows} rows", "the file is truncated: copy it again"
        )
    if rows == 0:
        return Table({name: _column(np.empty(0, dtype[name])) for name in dtype.names})
    records = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(rows,))
    columns = {name: np.empty((rows, *dtype[name].shape), dtype=dtype[name].base) for name in dtype.names}
    for start in range(0, rows, _CHUNK_ROWS):  # a few rows at a time: each part of the file passes through memory once
        chunk = np.array(records[start : start + _CHUNK_ROWS])
        for name, values in columns.items():
            values[start : start + len(chunk)] = chunk[name]
    return Table({name: _column(values) for name, values in columns.items()})


def _column(values: np.ndarray) -> np.ndarray | TextColumn:
    """Fixed-width bytes as text; other values in native byte order."""
    if values.dtype.kind == "S" and values.ndim == 1:
        return _pooled(values, lambda value: value.decode("utf-8", "surrogateescape"))
    if values.dtype.kind == "U" and values.ndim == 1:
        return _pooled(values, str)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _pooled(values: np.ndarray, decode: Any) -> TextColumn:
    """Text by codes. Rows of one stack follow each other: only the first of each run is looked up."""
    if len(values) == 0:
        return TextColumn(np.empty(0, dtype=np.int32), ())
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    pool: dict[Any, int] = {}
    run_codes = np.array([pool.setdefault(value, len(pool)) for value in values[starts].tolist()], dtype=np.int32)
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    return TextColumn(np.repeat(run_codes, lengths), tuple(decode(value) for value in pool))


def _read_csdat(path: Path, stream: BinaryIO) -> Table:
    size = path.stat().st_size
    rows, fields, packed = _csdat_header(path, stream, size)
    raw: dict[str, bytes] = {}
    for name, dtype, shape in fields if rows else ():
        length = int.from_bytes(_exactly(path, stream, 4, size), "little")
        content = _exactly(path, stream, length, size)
        raw[name] = _unpack(path, name, content, rows * _row_bytes(dtype, shape), packed=name in packed)
    heap = stream.read()
    columns: dict[str, Any] = {}
    for name, dtype, shape in fields:
        text = dtype == "|O"
        values = np.frombuffer(raw.get(name, b""), dtype="<u8" if text else dtype).reshape((rows, *shape))
        columns[name] = _heap_text(path, name, values, heap) if text else values.astype(values.dtype.newbyteorder("="))
    return Table(columns)


def _csdat_header(
    path: Path, stream: BinaryIO, size: int
) -> tuple[int, list[tuple[str, str, tuple[int, ...]]], set[str]]:
    length = int.from_bytes(_exactly(path, stream, 4, size), "little")
    try:
        header = json.loads(_exactly(path, stream, length, size))
        rows, fields = header["length"], [_field(*description) for description in header["dtype"]]
        packed = {str(name) for name in header["compressed_fields"]} if header["compression"] == "lz4" else set()
        if not isinstance(rows, int) or rows < 0 or header["compression"] not in ("lz4", None):
            raise ValueError(header["compression"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatProblem(
            f"{path} has a damaged header ({type(error).__name__}: {error})",
            "a cryoSPARC dataset",
            "copy the file again",
        ) from None
    if len({name for name, _, _ in fields}) < len(fields):
        raise FormatProblem(f"{path} names a column twice", "each column once")
    return rows, fields, packed


def _field(name: Any, dtype: Any, shape: Sequence[int] = ()) -> tuple[str, str, tuple[int, ...]]:
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list | tuple):
        raise ValueError(f"column {name!r} of type {dtype!r}")
    if dtype != "|O" and np.dtype(dtype).kind not in "iufcb":
        raise ValueError(f"type {dtype!r}")
    if not all(isinstance(n, int) and 0 < n < 1 << 20 for n in shape) or len(shape) > 8:
        raise ValueError(f"shape {shape!r}")
    return name, dtype, tuple(shape)


def _row_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return (8 if dtype == "|O" else np.dtype(dtype).itemsize) * int(np.prod(shape, dtype=object))


def _exactly(path: Path, stream: BinaryIO, count: int, size: int) -> bytes:
    """The next `count` bytes; the size of the file is checked first, so that a damaged length allocates nothing."""
    content = stream.read(count) if stream.tell() + count <= size else b""
    if len(content) < count:
        raise FileProblem(f"{path} ends within its data", "a whole dataset", "the file is truncated: copy it again")
    return content


def _unpack(path: Path, name: str, content: bytes, count: int, *, packed: bool) -> bytes:
    import lz4.block

    if packed and count <= len(content) * _LZ4_RATIO:
        try:
            content = lz4.block.decompress(content, uncompressed_size=count)
        except (lz4.block.LZ4BlockError, ValueError, OverflowError, MemoryError):
            content = b""
    if len(content) != count:
        raise FormatProblem(
            f"the column {name} of {path} does not hold {count} bytes",
            "values for every row",
            "the file is damaged: copy it again",
        )
    return content


def _heap_text(path: Path, name: str, offsets: np.ndarray, heap: bytes) -> TextColumn:
    if offsets.ndim != 1 or (len(offsets) and int(offsets.max()) >= max(len(heap), 1)):
        raise FormatProblem(
            f"the text column {name} of {path} points outside its texts",
            "offsets inside",
            "the file is damaged: copy it again",
        )

    def decode(offset: int) -> str:
        end = heap.find(b"\0", offset)
        return heap[offset : len(heap) if end < 0 else end].decode("utf-8", "surrogateescape")

    return _pooled(offsets, decode)


def write_dataset(path: str | os.PathLike[str], table: Table, *, container: str = "numpy") -> None:
    """Write the columns as a .cs file, "numpy" (every version reads it; the default of cryoSPARC too) or "csdat"."""
    if container not in CONTAINERS:
        raise OutputProblem(f"a .cs container called '{container}'", f"one of {', '.join(CONTAINERS)}")
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        (_write_numpy if container == "numpy" else _write_csdat)(stream, table)


def _write_numpy(stream: BinaryIO, table: Table) -> None:
    columns = {name: _fixed_width(column) for name, column in table.columns.items()}
    records = np.empty(
        len(table), dtype=[(name, values.dtype.str, values.shape[1:]) for name, values in columns.items()]
    )
    for name, values in columns.items():
        records[name] = values
    header = np.lib.format.header_data_from_array_1_0(records)
    try:
        np.lib.format.write_array_header_1_0(stream, header)
    except ValueError:  # too long for the first version of the format
        np.lib.format.write_array_header_2_0(stream, header)
    stream.write(records.view(np.uint8).data if len(records) else b"")  # ndarray.tofile hides why a write fails


def _fixed_width(column: Any) -> np.ndarray:
    if not _is_text(column):
        return np.asarray(column)
    codes, pool = _codes(column)
    texts = [_checked(value) for value in pool]
    return np.array(texts or [b""], dtype=f"S{max((len(text) for text in texts), default=1) or 1}")[codes]


def _is_text(column: Any) -> bool:
    return isinstance(column, TextColumn) or np.asarray(column).dtype.kind in "OUS"


def _codes(column: Any) -> tuple[np.ndarray, Sequence[str]]:
    if isinstance(column, TextColumn) and column.numbers is None:
        return column.codes, column.values
    pool: dict[str, int] = {}
    codes = np.array([pool.setdefault(str(value), len(pool)) for value in column], dtype=np.int64)
    return codes, tuple(pool)


def _checked(text: str) -> bytes:
    if "\0" in text:
        raise OutputProblem(f"a text with a zero byte: {text!r}", "text that a .cs file can hold")
    return text.encode("utf-8", "surrogateescape")


def _write_csdat(stream: BinaryIO, table: Table) -> None:
    import lz4.block

    heap, places, columns = bytearray(b"\0"), {"": 0}, {}
    for name, column in table.columns.items():
        if _is_text(column):
            codes, pool = _codes(column)
            offsets = np.array([_place(heap, places, value) for value in pool] or [0], dtype="<u8")
            columns[name] = ("|O", offsets[codes])
        else:
            values = np.ascontiguousarray(column)
            values = values.astype(values.dtype.newbyteorder("<"))
            columns[name] = (values.dtype.str, values)
    plain = {"uid"} | {
        name for name, (_, values) in columns.items() if values.nbytes > 0x7E000000
    }  # the largest lz4 block
    packed = [name for name in columns if name not in plain]
    descriptions = [
        [name, kind, *([list(values.shape[1:])] if values.ndim > 1 else [])] for name, (kind, values) in columns.items()
    ]
    header = json.dumps(
        {"length": len(table), "dtype": descriptions, "compression": "lz4", "compressed_fields": packed}
    ).encode()
    stream.write(CSDAT + len(header).to_bytes(4, "little") + header)
    for name, (_, values) in columns.items() if len(table) else ():
        if values.nbytes > _UINT32_MAX:
            raise OutputProblem(
                f"the column {name} takes {values.nbytes} bytes",
                "less than 4 GB in a CSDAT file",
                "use the container 'numpy'",
            )
        content = lz4.block.compress(values.tobytes(), store_size=False) if name in packed else values.tobytes()
        stream.write(len(content).to_bytes(4, "little") + content)
    stream.write(heap)


def _place(heap: bytearray, places: dict[str, int], text: str) -> int:
    if text not in places:
        places[text] = len(heap)
        heap += _checked(text) + b"\0"
    return places[text]
