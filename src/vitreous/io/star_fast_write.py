"""The compiled writer of big STAR loops: the same text as `star_columns.column_texts` gives, made without Python
objects.

A number is written with the fewest decimals that read back to the same bits, found by trial of 0 to 9 decimals;
numbers that need more, or an exponent, are left to Python's `repr`, which writes the same form. numba is imported
with this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from vitreous.io.star_columns import column_texts, encode, looks_numeric, quoted
from vitreous.model.table import Table, TextColumn

CHUNK_ROWS = 1 << 15
_FLOAT, _INTEGER, _TEXT = 0, 1, 2
_POWERS = 10.0 ** np.arange(10)
_NUMBER_WIDTH = 26
_PYTHON = -1


def loop_bytes(table: Table) -> Iterator[bytes]:
    """The rows of the table as STAR text, in pieces."""
    columns = [_Column(column) for column in table.columns.values()]
    for start in range(0, len(table), CHUNK_ROWS):
        parts = [column.chunk(slice(start, start + CHUNK_ROWS)) for column in columns]
        yield _format(parts, min(CHUNK_ROWS, len(table) - start))


class _Column:
    """A column prepared once: values of a `TextColumn` are encoded and quoted for all rows together."""

    def __init__(self, column: Any):
        self.column = column
        self.values: list[bytes] | None = None
        if isinstance(column, TextColumn):
            values = {code: column.values[code] for code in map(int, np.unique(column.codes))}
            if column.numbers is None and looks_numeric(list(values.values())):
                texts = {code: f'"{value}"' for code, value in values.items()}
            else:
                texts = {
                    code: quoted(value if column.numbers is None else "1@" + value) for code, value in values.items()
                }
            plain = (
                all(text[2:] == values[code] for code, text in texts.items()) if column.numbers is not None else True
            )
            if plain:
                skip = 0 if column.numbers is None else 2
                self.values = [encode(texts.get(code, "")[skip:]) for code in range(len(column.values))]

    def chunk(self, rows: slice) -> tuple[int, np.ndarray, np.ndarray | None, np.ndarray | None, list[bytes]]:
        """(kind, numbers or codes, image numbers, their digits, texts)."""
        column = self.column
        if self.values is not None:
            numbers = None if column.numbers is None else column.numbers[rows]
            return (
                _TEXT,
                column.codes[rows],
                numbers,
                None if column.digits is None else column.digits[rows],
                self.values,
            )
        values = column[rows] if isinstance(column, TextColumn) else np.asarray(column)[rows]
        if not isinstance(values, TextColumn) and values.dtype == np.float64 and values.ndim == 1:
            return _FLOAT, values, None, None, []
        if (
            not isinstance(values, TextColumn)
            and values.dtype.kind in "ib"
            and values.ndim == 1
            and values.min() > np.iinfo(np.int64).min
        ):
            return _INTEGER, values.astype(np.int64), None, None, []
        return _TEXT, np.arange(len(values)), None, None, [encode(text) for text in column_texts(values)]


def _format(parts: list[tuple[int, np.ndarray, np.ndarray | None, np.ndarray | None, list[bytes]]], rows: int) -> bytes:
    kinds = np.array([part[0] for part in parts])
    slots = np.array([int((kinds[:n] == kind).sum()) for n, kind in enumerate(kinds)])
    floats = _stack([part[1] for part in parts if part[0] == _FLOAT], rows, np.float64)
    integers = _stack([part[1] for part in parts if part[0] == _INTEGER], rows, np.int64)
    texts = [part for part in parts if part[0] == _TEXT]
    pool = [value for part in texts for value in part[4]]
    bases = np.cumsum([0] + [len(part[4]) for part in texts])
    codes = _stack([part[1] + base for part, base in zip(texts, bases)], rows, np.int64)
    image = _stack([np.zeros(rows, np.int64) if part[2] is None else part[2] for part in texts], rows, np.int64)
    digits = _stack([np.full(rows, -1) if part[3] is None else part[3] for part in texts], rows, np.int64)
    decimals = _decimals(floats)
    left = np.argwhere(decimals == _PYTHON)
    float_codes = np.zeros(floats.shape, dtype=np.int64)
    float_codes[decimals == _PYTHON] = len(pool) + np.arange(len(left))
    pool += [repr(value).encode() for value in floats[decimals == _PYTHON].tolist()]
    ends = np.cumsum([0] + [len(value) for value in pool])
    widths = np.diff(ends)
    room = (
        rows * (_NUMBER_WIDTH * (len(parts) + len(texts)) + len(parts))
        + int(widths[codes].sum())
        + int(widths[len(pool) - len(left) :].sum())
    )
    out = np.empty(room, dtype=np.uint8)
    pool_bytes = np.frombuffer(b"".join(pool) or b" ", dtype=np.uint8)
    size = _write(
        out, rows, kinds, slots, floats, decimals, float_codes, integers, codes, image, digits, pool_bytes, ends
    )
    return out[:size].tobytes()


def _stack(columns: list[np.ndarray], rows: int, dtype: Any) -> np.ndarray:
    return np.array(columns, dtype=dtype) if columns else np.empty((0, rows), dtype=dtype)


@numba.njit(cache=True, nogil=True)
def _decimals(values):
    """The fewest decimals (0 to 9) that give each number back, -1 where more are needed or `repr` uses an exponent."""
    found = np.full(values.shape, _PYTHON, dtype=np.int8)
    for column in range(values.shape[0]):
        for row in range(values.shape[1]):
            size = abs(values[column, row])
            if size != 0 and not 1e-4 <= size < 1e15:
                continue
            for count in range(10):
                scaled = np.rint(size * _POWERS[count])
                if scaled > 9007199254740992.0:
                    break
                if scaled / _POWERS[count] == size:
                    found[column, row] = count
                    break
    return found


@numba.njit(cache=True, nogil=True)
def _put_integer(out, place, value, width):
    """Digits of a non-negative number, at least `width`, padded with zeros."""
    digits, rest = 1, value // 10
    while rest > 0:
        digits, rest = digits + 1, rest // 10
    digits = max(digits, width)
    for i in range(digits - 1, -1, -1):
        out[place + i] = 48 + value % 10
        value //= 10
    return place + digits


@numba.njit(cache=True, nogil=True)
def _put_pool(out, place, pool, start, stop):
    for i in range(start, stop):
        out[place + i - start] = pool[i]
    return place + stop - start


@numba.njit(cache=True, nogil=True)
def _put_float(out, place, value, decimals):
    if value < 0 or (value == 0 and np.signbit(value)):
        out[place] = 45
        place += 1
    count = max(decimals, 1)
    power = np.int64(_POWERS[decimals])
    scaled = np.int64(np.rint(abs(value) * _POWERS[decimals]))
    place = _put_integer(out, place, scaled // power, 1)
    out[place] = 46
    return _put_integer(out, place + 1, scaled % power, count)


@numba.njit(cache=True, nogil=True)
def _write(out, rows, kinds, slots, floats, decimals, float_codes, integers, codes, image, digits, pool, ends):
    place = 0
    for row in range(rows):
        for column in range(len(kinds)):
            slot = slots[column]
            if column > 0:
                out[place] = 32
                place += 1
            if kinds[column] == _FLOAT:
                if decimals[slot, row] == _PYTHON:
                    code = float_codes[slot, row]
                    place = _put_pool(out, place, pool, ends[code], ends[code + 1])
                else:
                    place = _put_float(out, place, floats[slot, row], decimals[slot, row])
            elif kinds[column] == _INTEGER:
                value = integers[slot, row]
                if value < 0:
                    out[place] = 45
                    place += 1
                place = _put_integer(out, place, abs(value), 1)
            else:
                if digits[slot, row] >= 0:
                    place = _put_integer(out, place, image[slot, row], digits[slot, row])
                    out[place] = 64
                    place += 1
                code = codes[slot, row]
                place = _put_pool(out, place, pool, ends[code], ends[code + 1])
        out[place] = 10
        place += 1
    return place
