"""The compiled reader of big STAR loops: millions of rows of plain values, one row a line, in one pass over the
mapped file.

It gives the same columns as the reader in `star.py` (a property test says so), or declines: a loop with text fields,
wrapped rows or other liberties of CIF is left to that one. Text is kept as codes into the distinct values: see
`TextColumn`.

numba is imported with this module, which therefore is imported only when a loop is long enough.
"""

from __future__ import annotations

import itertools
import mmap
from typing import Any

import numpy as np

from vitreous.io.star_columns import decode, typed_column
from vitreous.io.star_kernels import DECLINED, DIGITS_OF_NUMBER, INTEGER, MORE, TEXT, encode, rehash, tokenise
from vitreous.model.table import TextColumn

CHUNK_ROWS = 1 << 15
_SAMPLE_ROWS = 512
_SLOW_ROOM = 1 << 16
_NOT_A_ROW = (b"_", b"#", b"data_", b"loop_", b"save_", b"stop_", b"global_")


def read_columns(content: bytes | mmap.mmap, position: int, count: int) -> tuple[list[Any], int, int] | None:
    """(columns, position after the loop, lines read) of the loop body that starts at `position`; None if it must be
    read the other way."""
    buffer = np.frombuffer(content, dtype=np.uint8)
    is_text, split = _sample(content, position, count)
    reader = None
    try:
        for _ in range(
            2 * count + 1
        ):  # each further pass turns one column into text, or its image names into plain text
            reader = _LoopReader(buffer, position, is_text, split)
            outcome = reader.read(content)
            if outcome is None or outcome:
                return None if outcome is None else (reader.columns(), reader.position, reader.lines)
            is_text, split = reader.is_text, reader.split
        return None
    finally:
        del buffer, reader  # a map cannot be closed while arrays look at it


def _sample(content: bytes | mmap.mmap, position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are text, and which of them are numbered names, by the first rows. Later rows may add to the
    first, not take from it."""
    rows: list[list[bytes]] = []
    while len(rows) < _SAMPLE_ROWS:
        end = content.find(b"\n", position)
        if end < 0:
            break
        words = content[position:end].split()
        position = end + 1
        if len(words) == count and not words[0].lower().startswith(_NOT_A_ROW):
            rows.append(words)
        elif words:
            break
    columns = list(zip(*rows)) if rows else [()] * count
    is_text = np.array([bool(column) and typed_column(column).dtype == object for column in columns], dtype=np.bool_)
    split = np.array(
        [bool(column) and all(_is_numbered(word) for word in column) for column in columns], dtype=np.bool_
    )
    return is_text, split


def _is_numbered(word: bytes) -> bool:
    number, mark, _ = word.partition(b"@")
    return bool(mark) and number.isdigit() and len(number) <= DIGITS_OF_NUMBER


class _LoopReader:
    """One pass over a loop with a given guess of its column types."""

    def __init__(self, buffer: np.ndarray, position: int, is_text: np.ndarray, split: np.ndarray):
        self.buffer, self.position, self.is_text, self.split = buffer, position, is_text.copy(), split.copy()
        self.lines, self.rows = 0, 0
        self.slot = np.where(is_text, np.cumsum(is_text) - 1, np.cumsum(~is_text) - 1)
        capacity = max(CHUNK_ROWS, self._estimate())
        self.numbers = np.empty((int((~is_text).sum()), capacity))
        self.spans = np.empty((int(is_text.sum()), CHUNK_ROWS, 2), dtype=np.int64)
        self.worst = np.zeros(len(is_text), dtype=np.uint8)  # the least number-like kind seen in each column
        self.slow = np.empty((_SLOW_ROOM, 4), dtype=np.int64)
        self.encoders = [_Encoder(buffer, bool(split[column]), capacity) for column in np.flatnonzero(is_text)]

    def _estimate(self) -> int:
        start = self.buffer[self.position : self.position + (1 << 20)]
        lines = int(np.count_nonzero(start == 10))
        return int((len(self.buffer) - self.position) * (max(lines, 1) / max(len(start), 1)) * 1.02) + CHUNK_ROWS

    def read(self, content: bytes | mmap.mmap) -> bool | None:
        """True when done, False if the guess was wrong (it is corrected), None to decline."""
        status = MORE
        while status == MORE:
            self._make_room()
            start_row, start = self.rows, self.position
            self.position, self.rows, lines, status, slow = tokenise(
                self.buffer, start, self.is_text, self.slot, self.numbers, self.rows, self.spans, self.worst, self.slow
            )
            self.lines += int(lines)
            if status == DECLINED:
                return None
            if not self._parse_slow(content, slow) or not self._kinds_hold() or not self._encode(self.rows - start_row):
                return False
            _release(content, start, self.position)
        return True

    def _make_room(self) -> None:
        if self.numbers.shape[1] - self.rows < CHUNK_ROWS:
            grown = np.empty((len(self.numbers), int(self.numbers.shape[1] * 1.25) + CHUNK_ROWS))
            grown[:, : self.rows] = self.numbers[:, : self.rows]
            self.numbers = grown

    def _parse_slow(self, content: bytes | mmap.mmap, count: int) -> bool:
        """Numbers beyond the exact method, by Python. One that overflows makes its column text."""
        for column, row, start, stop in self.slow[:count].tolist():
            value = float(content[start:stop])
            if not np.isfinite(value):
                self.worst[column] = TEXT
            self.numbers[self.slot[column], row] = value
        return self._kinds_hold()

    def _kinds_hold(self) -> bool:
        wrong = (self.worst == TEXT) & ~self.is_text
        self.is_text |= wrong
        return not wrong.any()

    def _encode(self, rows: int) -> bool:
        for number, column in enumerate(np.flatnonzero(self.is_text)):
            if not self.encoders[number].add(self.spans[number, :rows]):
                self.split[column] = False
                return False
        return True

    def columns(self) -> list[Any]:
        found: list[Any] = []
        for column, slot in enumerate(self.slot.tolist()):
            if self.is_text[column]:
                found.append(self.encoders[slot].column())
            else:
                values = self.numbers[slot, : self.rows]
                found.append(values.astype(np.int64) if self.worst[column] == INTEGER else values)
        return found


def _release(content: bytes | mmap.mmap, start: int, stop: int) -> None:
    """Give back the pages that have been read, so that memory does not grow with the file."""
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        page = mmap.PAGESIZE
        first, last = start // page * page, stop // page * page
        if last > first:
            content.madvise(mmap.MADV_DONTNEED, first, last - first)


class _Encoder:
    """Text as codes: a hash table of the distinct values of one column, grown as needed."""

    def __init__(self, buffer: np.ndarray, split: bool, capacity: int):
        self.buffer, self.split, self.rows = buffer, split, 0
        self.codes = np.empty(capacity, dtype=np.int32)
        self.numbers = np.empty(capacity if split else 0, dtype=np.int64)
        self.digits = np.empty(capacity if split else 0, dtype=np.uint8)
        self.slots = np.full(1 << 12, -1, dtype=np.int32)
        self.pool = np.empty(1 << 16, dtype=np.uint8)
        self.ends = np.zeros(1 << 11, dtype=np.int64)
        self.state = np.zeros(3, dtype=np.int64)  # values, pool bytes, code of the row before

    def add(self, spans: np.ndarray) -> bool:
        """Encode more rows; False if one of them is not a numbered name although the column is read as such."""
        self._make_room(len(spans))
        done = 0
        while done < len(spans):
            longest = int((spans[done:, 1] - spans[done:, 0]).max())
            self._grow(longest)
            done = encode(
                self.buffer,
                spans,
                done,
                self.codes,
                self.numbers,
                self.digits,
                self.rows,
                self.split,
                self.slots,
                self.pool,
                self.ends,
                self.state,
            )
            if done < 0:
                return False
        self.rows += len(spans)
        return True

    def _make_room(self, rows: int) -> None:
        for name in ("codes", "numbers", "digits") if self.split else ("codes",):
            values = getattr(self, name)
            if len(values) < self.rows + rows:
                setattr(
                    self,
                    name,
                    np.concatenate([values[: self.rows], np.empty(len(values) // 4 + rows, dtype=values.dtype)]),
                )

    def _grow(self, longest: int) -> None:
        values, used = int(self.state[0]), int(self.state[1])
        if (values + 2) * 2 > len(self.slots):
            self.slots = np.full(4 * len(self.slots), -1, dtype=np.int32)
            self.ends = np.concatenate([self.ends, np.zeros(3 * len(self.ends), dtype=np.int64)])
            rehash(self.slots, self.pool, self.ends, values)
        if used + longest + 1 > len(self.pool):
            self.pool = np.concatenate([self.pool, np.empty(len(self.pool) + longest + 1, dtype=np.uint8)])

    def column(self) -> TextColumn:
        values, used = int(self.state[0]), int(self.state[1])
        pool, ends = self.pool[:used].tobytes(), self.ends[: values + 1].tolist()
        texts = tuple(decode(pool[start:stop]) for start, stop in itertools.pairwise(ends))
        numbers, digits = (self.numbers[: self.rows], self.digits[: self.rows]) if self.split else (None, None)
        return TextColumn(self.codes[: self.rows], texts, numbers, digits)
