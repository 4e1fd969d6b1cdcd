"""Arrays of PyTorch's files, without PyTorch: `torch.save` writes a zip archive of one pickle and the bytes of each array.

The pickle says how the arrays are named and where their bytes are. As in `plain_pickle` nothing that it names is imported: the few names that
PyTorch writes stand for classes of this module, any other is refused. Only the arrays that are asked for are read.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.files import require_file
from vitreous.io.plain_pickle import SealedFunction

STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # the upper half of a float32
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
EXPECTED = "a file that torch.save has written (PyTorch 1.6 or later)"


def read_state_dict(path: str | os.PathLike[str], entry: str) -> dict[str, np.ndarray]:
    """The named arrays of one entry of a checkpoint, for example `model_state_dict`; bfloat16 becomes float32.

    Raises FileProblem for a file that cannot be read, FormatProblem for one that is damaged or was not written by `torch.save`, and DataProblem
    for one that names other classes than arrays and containers, or has no such entry.
    """
    path = require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = _Unpickler(io.BytesIO(_stored(archive, "data.pkl")), path).load()
            if not isinstance(content, dict) or not isinstance(content.get(entry), dict):
                found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
                raise DataProblem(f"{path} has no entry {entry} (it has: {found})", "a checkpoint with it")
            order = _stored(archive, "byteorder").decode() if _member(archive, "byteorder") else "little"
            tensors = {str(name): tensor for name, tensor in content[entry].items() if isinstance(tensor, _Tensor)}
            return {name: tensor.array(archive, order) for name, tensor in tensors.items()}
    except (DataProblem, MemoryError):
        raise
    except Exception as error:  # whatever a damaged archive or pickle makes of itself
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FormatProblem(f"{path} is no file of PyTorch's, or damaged ({reason})", EXPECTED) from None


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """The member `name` of the one folder that the archive has."""
    return next((info for info in archive.infolist() if info.filename.partition("/")[2] == name), None)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member. PyTorch compresses nothing, so that a member is no larger than the file."""
    info = _member(archive, name)
    if info is None:
        raise ValueError(f"no {name} in the archive")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(info)


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, path: Path):
        super().__init__(stream, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return _Kind(STORAGES[name], name)
        if (module, name) not in _MAKERS:
            raise DataProblem(f"{self._path} asks for {module}.{name}", "arrays and containers alone")
        return SealedFunction(_MAKERS[(module, name)])

    def persistent_load(self, pid: Any) -> Any:
        word, kind, key, _, count = pid
        if word != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str) or not isinstance(count, int):
            raise ValueError("bytes of an unknown kind")
        return _Storage(kind, key, count)


@dataclass(frozen=True)
class _Kind:
    """The type of the elements of a storage."""

    code: str
    name: str

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a type with a state")


@dataclass(frozen=True)
class _Storage:
    """`count` elements, the bytes of the member data/KEY."""

    kind: _Kind
    key: str
    count: int


class _Dict(dict):
    """An ordered dictionary; what a module notes about itself beside its arrays is left out."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Tensor:
    """An array to be: part of a storage, its steps counted in elements."""

    __slots__ = ("offset", "shape", "steps", "storage")

    def __init__(self, storage: Any, offset: Any, shape: Any, steps: Any, *_: Any):
        numbers = (offset, *shape, *steps)
        if not isinstance(storage, _Storage) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("an array that is not part of its bytes")
        size = int(np.prod(shape, dtype=object)) if shape else 1
        last = offset + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
        if size > storage.count or (size and last >= storage.count):
            raise ValueError("an array larger than its bytes")
        self.storage, self.offset, self.shape, self.steps = storage, offset, shape, steps

    def __setstate__(self, state: Any) -> None:
        raise ValueError("an array with a state")

    def array(self, archive: zipfile.ZipFile, order: str) -> np.ndarray:
        code = np.dtype(self.storage.kind.code).newbyteorder(">" if order == "big" else "<")
        flat = np.frombuffer(_stored(archive, f"data/{self.storage.key}"), dtype=code)
        if len(flat) != self.storage.count:
            raise ValueError(f"{len(flat)} instead of {self.storage.count} numbers in data/{self.storage.key}")
        flat = flat[self.offset :]
        steps = tuple(step * flat.itemsize for step in self.steps)
        view = np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)
        array = view.astype(code.newbyteorder("="))
        if self.storage.kind.name == "BFloat16Storage":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
