"""Pickles that hold plain values: numbers, text, containers and numerical arrays. Reading one runs nothing that the file asks for.

A pickle is a program: what it names is imported and called. Here nothing is imported. The few names by which Python and NumPy write arrays
and containers stand for functions of this module, which build the value from its bytes and check them; any other name is refused.
cryoDRGN keeps its latents, poses and CTFs in such files.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.files import require_file

DEEPEST = 50  # containers within containers
NUMERICAL = re.compile(r"[?bhilqpBHILQPefdgFDG]|[biufc]\d{1,2}|[SU]\d{1,6}")
ARCHIVE = b"PK"  # how a zip file begins


def read_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """The first value of the file. Raises what `read_plain_pickles` raises."""
    return read_plain_pickles(path, at_most=1)[0]


def read_plain_pickles(path: str | os.PathLike[str], at_most: int | None = None) -> list[Any]:
    """All values of a file, one pickle after the other, as several calls of `pickle.dump` write them (cryoDRGN's z.pkl has two).

    Arrays of numbers, truth values and text are given as NumPy arrays. Raises FileProblem for a file that cannot be read, FormatProblem for
    one that is no pickle or is cut off, and DataProblem, with its name, for a pickle that asks for any other class or function.
    """
    path = require_file(path)
    values: list[Any] = []
    with open(path, "rb") as stream:
        if stream.read(2) == ARCHIVE:
            raise FormatProblem(f"{path} is a zip archive, as PyTorch writes", "a pickle of plain values")
        stream.seek(0)
        size = os.fstat(stream.fileno()).st_size
        while stream.tell() < size and (at_most is None or len(values) < at_most):
            values.append(_value(stream, path))
    return values


def _value(stream: IO[bytes], path: Path) -> Any:
    try:
        return _finished(_PlainUnpickler(stream, path).load())
    except (DataProblem, MemoryError):
        raise
    except Exception as error:  # whatever a damaged pickle makes of itself
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FormatProblem(f"{path} is no whole pickle ({reason})", "a pickle of plain values") from None


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], path: Path):
        super().__init__(stream, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        make = _MAKERS.get((module.replace("numpy._core", "numpy.core"), name))
        if make is None:
            raise DataProblem(
                f"{self._path} asks for {module}.{name}", "numbers, text, containers and numerical arrays alone"
            )
        return SealedFunction(make)

    def persistent_load(self, pid: Any) -> Any:
        raise DataProblem(f"{self._path} refers to objects outside itself", "a pickle that holds its values")


class SealedFunction:
    """A function as an unpickler calls it, which a file cannot change."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]):
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a function with a state")


class _Dtype:
    """The type of an array's elements, to be: its letter first, its byte order with the state."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or not NUMERICAL.fullmatch(code):
            raise ValueError(f"an array of elements of type {code!r}")
        self.code = code
        self.order: Literal["<", ">", "=", "|"] = "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise ValueError(f"a byte order {order!r}")
        self.order = order

    def dtype(self) -> np.dtype:
        kind = np.dtype(self.code)
        return kind if self.order == "|" else kind.newbyteorder(self.order)


class _Array:
    """An array to be: made empty, its content comes with the state."""

    __slots__ = ("value",)

    def __init__(self, *_: Any):
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # as Python 2 wrote bytes
        content = content.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise ValueError("an array that is not one of plain numbers")
    return np.frombuffer(bytes(content), dtype.dtype()).reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (1,), "C")[0]


def _bytearray(text: str | bytes = b"", encoding: Any = "latin1") -> bytearray:
    return bytearray(_encoded(text, encoding) if isinstance(text, str) else bytes(memoryview(text)))


def _encoded(text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): lambda: None,  # only ever named as the class that `_reconstruct` makes
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): OrderedDict,
    **{(m, "bytes"): lambda: b"" for m in ("builtins", "__builtin__")},  # how old protocols write no bytes at all
    **{(m, "set"): set for m in ("builtins", "__builtin__")},
    **{(m, "frozenset"): frozenset for m in ("builtins", "__builtin__")},
    **{(m, "complex"): complex for m in ("builtins", "__builtin__")},
    **{(m, "bytearray"): _bytearray for m in ("builtins", "__builtin__")},
}


def _finished(value: Any, done: dict[int, tuple[Any, Any]] | None = None, depth: int = 0) -> Any:
    """The value with arrays in place of what they were built from. What is referred to several times is built once: `done` keeps, by its
    identity, each container (so that the identity stays its own) and what was made of it."""
    done = {} if done is None else done
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} containers within each other")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, _Dtype):
        return value.dtype()
    if isinstance(value, SealedFunction):
        raise ValueError("a function in place of a value")
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return value
    if id(value) not in done:
        done[id(value)] = (value, _finished_container(value, done, depth + 1))
    return done[id(value)][1]


def _finished_container(value: Any, done: dict[int, tuple[Any, Any]], depth: int) -> Any:
    if isinstance(value, dict):
        return type(value)((_finished(key, done, depth), _finished(item, done, depth)) for key, item in value.items())
    return type(value)(_finished(item, done, depth) for item in value)
