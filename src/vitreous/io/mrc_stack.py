"""A stack of particle images in one MRC file: read lazily, and written chunk by chunk."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from vitreous.errors import DataProblem, OutputProblem
from vitreous.io.atomic import atomic_path
from vitreous.io.mrc import HEADER_BYTES, MODES, MrcHeader, as_float, read_data, read_header
from vitreous.model.volume import Volume

LABEL = "vitreous"
_WRITTEN_MODES = (2, 12)


class MrcStack:
    """The images of one .mrcs (or .mrc) file as an `ImageSource`: float32 [m, y, x] when read, on disk until then.

    A file with one image is a stack of one. Raises DataProblem for images that are not square, or complex.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.header = square_stack_header(path)
        self._data: np.ndarray | None = None
        self._selection: np.ndarray | None = None

    @property
    def pixel_size(self) -> float | None:
        """Pixel size of the header, angstrom; None where it says 0."""
        return None if self.header.pixel_size is None else self.header.pixel_size[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self), self.header.shape[1], self.header.shape[2])

    def __len__(self) -> int:
        return self.header.shape[0] if self._selection is None else len(self._selection)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """The images of these rows, float32 [m, y, x]."""
        if self._data is None:
            self._data = read_data(self.header)
        chosen = rows if self._selection is None else self._selection[rows]
        return as_float(self._data[chosen])

    def rows(self, selection: slice | np.ndarray) -> MrcStack:
        """The stack of the selected rows, in the order given."""
        chosen = object.__new__(MrcStack)
        chosen.header, chosen._data = self.header, self._data
        own = np.arange(self.header.shape[0]) if self._selection is None else self._selection
        chosen._selection = own[selection]
        return chosen

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_data": None}  # a memory map does not travel between processes; it is opened again


def square_stack_header(path: str | os.PathLike[str]) -> MrcHeader:
    """The header of a stack of particle images. Raises DataProblem if they are not square or not real."""
    header = read_header(path)
    if header.shape[1] != header.shape[2]:
        raise DataProblem(
            f"{path} holds images of {header.shape[2]} x {header.shape[1]} pixels", "square particle images"
        )
    if header.mode == 4:
        raise DataProblem(f"{path} holds complex numbers (mode 4)", "real-space particle images")
    return header


class StackWriter:
    """Writes a stack larger than memory: append chunks, then close. The file appears under its name only when complete.

        with StackWriter("particles.mrcs", pixel_size=1.2) as writer:
            for chunk in chunks:            # each [m, y, x]
                writer.append(chunk)

    Images that come in another order than that of the stack are put into their places with `place`. `mode` is 2 (float32) or 12 (float16). If
    the block fails, nothing is left behind.
    """

    def __init__(self, path: str | os.PathLike[str], pixel_size: float, *, mode: int = 2, label: str = LABEL):
        if mode not in _WRITTEN_MODES:
            raise OutputProblem(f"MRC mode {mode}", f"one of {_WRITTEN_MODES} (float32, float16)")
        if not pixel_size > 0:
            raise OutputProblem(f"pixel size {pixel_size} A for {path}", "a positive number of angstrom")
        self.path, self.pixel_size, self.mode, self.label = Path(path), float(pixel_size), mode, label
        self.count, self._placed = 0, 0
        self._image_shape: tuple[int, ...] | None = None
        self._statistics = _Statistics()

    def __enter__(self) -> StackWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._stream = stack.enter_context(open(temporary, "w+b"))
            self._stream.write(bytes(HEADER_BYTES))
            self._exit = stack.pop_all()
        return self

    def append(self, images: np.ndarray) -> None:
        """Add images [m, y, x], or one image [y, x], at the end."""
        encoded = self._encoded(images)
        self._stream.write(encoded.view(np.uint8).data if encoded.size else b"")
        self.count += len(encoded)

    def place(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Write images [m, y, x] as those of the `rows`, from 0, of the stack. Each row must be written once."""
        encoded = self._encoded(images)
        for row, image in zip(rows.tolist(), encoded, strict=True):
            self._stream.seek(HEADER_BYTES + row * image.nbytes)
            self._stream.write(image.view(np.uint8).data)
            self.count = max(self.count, row + 1)
        self._stream.seek(0, os.SEEK_END)

    def _encoded(self, images: np.ndarray) -> np.ndarray:
        """The images [m, y, x] as they are written, counted."""
        images = np.asarray(images)
        images = images[None] if images.ndim == 2 else images
        shape = self._image_shape or images.shape[1:]
        if images.ndim != 3 or images.shape[1:] != shape:
            raise DataProblem(f"images of shape {images.shape} for {self.path}", f"[m, {', '.join(map(str, shape))}]")
        self._image_shape = shape
        encoded = _encode(images, self.mode, self.path)
        self._statistics.add(encoded)
        self._placed += len(encoded)
        return encoded

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._exit.__exit__(kind, error, trace)
            return
        with self._exit:
            if self._image_shape is None or self.count == 0:
                raise DataProblem(f"no images for {self.path}", "at least one image")
            if self._placed != self.count:
                raise DataProblem(f"{self._placed} images for the {self.count} places of {self.path}", "one for each")
            header = _header((self.count, *self._image_shape), self.mode, self.pixel_size, self._statistics, self.label)
            header["mz"], header["cella"]["z"], header["ispg"] = (
                1,
                self.pixel_size,
                0,
            )  # a stack of images, not a volume
            self._stream.seek(0)
            self._stream.write(header.tobytes())
            self._stream.flush()


def write_stack(path: str | os.PathLike[str], images: np.ndarray, pixel_size: float, *, mode: int = 2) -> None:
    """Write images [n, y, x] as a stack, float32 (mode 2) or float16 (mode 12)."""
    with StackWriter(path, pixel_size, mode=mode) as writer:
        writer.append(images)


def write_volume(path: str | os.PathLike[str], volume: Volume, *, label: str = LABEL) -> None:
    """Write a map as float32 (mode 2) with its pixel size and a label of at most 80 characters."""
    data = np.ascontiguousarray(volume.data, dtype="<f4")
    statistics = _Statistics()
    for section in data:
        statistics.add(section)
    header = _header(data.shape, 2, volume.pixel_size, statistics, label)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(header.tobytes())
        stream.write(data.view(np.uint8).data)


def _encode(images: np.ndarray, mode: int, path: Path) -> np.ndarray:
    with np.errstate(over="ignore"):
        encoded = np.ascontiguousarray(images, dtype=np.dtype(MODES[mode]).newbyteorder("<"))
    if mode == 12 and not np.array_equal(np.isfinite(encoded), np.isfinite(images)):
        raise DataProblem(
            f"values beyond 65504 for {path}",
            "values that float16 can hold",
            "write float32 (mode 2) or normalise the images",
        )
    return encoded


class _Statistics:
    """Minimum, maximum, mean and standard deviation of everything added, in one pass."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        if values.size == 0:
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        mean = float(values.mean(dtype=np.float64))
        spread = float(values.var(dtype=np.float64)) * values.size
        shift = mean - (self.total / self.count if self.count else mean)
        self.squares += spread + shift**2 * self.count * values.size / (self.count + values.size)
        self.total += mean * values.size
        self.count += values.size

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self.squares / self.count))


def _header(shape: tuple[int, ...], mode: int, pixel_size: float, statistics: _Statistics, label: str) -> np.ndarray:
    """An MRC2014 header (little-endian) of a volume of this shape (sections, rows, columns)."""
    header = np.zeros((), dtype=HEADER_DTYPE)
    for axis, size in zip("zyx", shape):
        header["n" + axis] = header["m" + axis] = size
        header["cella"][axis] = size * pixel_size
    header["cellb"]["alpha"] = header["cellb"]["beta"] = header["cellb"]["gamma"] = 90.0
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["mode"], header["ispg"], header["nversion"] = mode, 1, 20141
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    with np.errstate(over="ignore"):
        header["dmin"], header["dmax"], header["dmean"] = statistics.low, statistics.high, statistics.mean
        header["rms"] = statistics.deviation
    header["nlabl"] = 1
    header["label"][0] = label.encode("ascii", "replace")[:80]
    return header
