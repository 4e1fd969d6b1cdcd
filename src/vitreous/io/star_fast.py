"""The compiled reader of big STAR loops: millions of rows of plain values, one row a line, in one pass over the mapped file.

It gives the same columns as the reader in `star.py` (a property test says so), or declines: a loop with text fields, wrapped rows or other
liberties of CIF is left to that one. Numbers are exact: a decimal number of at most 15 digits and a power of ten up to 22 are both
doubles, so one multiplication or division rounds it correctly (Clinger 1990, doi:10.1145/93542.93557); other numbers are left to Python.
Text is kept as codes into the distinct values: see `TextColumn`.

numba is imported with this module, which therefore is imported only when a loop is long enough.
"""

from __future__ import annotations

import mmap
from typing import Any

import numba
import numpy as np

from vitreous.io.star_columns import decode, typed_column
from vitreous.model.table import TextColumn

CHUNK_ROWS = 1 << 15
_SAMPLE_ROWS = 512
_SLOW_ROOM = 1 << 16
_MORE, _END, _DECLINED = 0, 1, 2
_INTEGER, _FLOAT, _SLOW, _TEXT = 0, 1, 2, 3
_DIGITS_OF_NUMBER = 15
_POWERS = 10.0 ** np.arange(23)
_NOT_A_ROW = (b"_", b"#", b"data_", b"loop_", b"save_", b"stop_", b"global_")
_KEYWORDS = np.array([list(word.ljust(8).encode()) for word in ("data_", "loop_", "save_", "stop_", "global_")], dtype=np.uint8)


def read_columns(content: bytes | mmap.mmap, position: int, count: int) -> tuple[list[Any], int, int] | None:
    """(columns, position after the loop, lines read) of the loop body that starts at `position`; None if it must be read the other way."""
    buffer = np.frombuffer(content, dtype=np.uint8)
    is_text, split = _sample(content, position, count)
    try:
        for _ in range(2 * count + 1):  # each further pass turns at least one column into text, or an image name into plain text
            reader = _LoopReader(buffer, position, is_text, split)
            outcome = reader.read(content)
            if outcome is None or outcome:
                return None if outcome is None else (reader.columns(), reader.position, reader.lines)
            is_text, split = reader.is_text, reader.split
        return None
    finally:
        del buffer, reader  # a map cannot be closed while arrays look at it


def _sample(content: bytes | mmap.mmap, position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are text, and which of them are numbered names, by the first rows. Later rows may add to the first, not take from it."""
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
    split = np.array([bool(column) and all(_is_numbered(word) for word in column) for column in columns], dtype=np.bool_)
    return is_text, split


def _is_numbered(word: bytes) -> bool:
    number, mark, _ = word.partition(b"@")
    return bool(mark) and number.isdigit() and len(number) <= _DIGITS_OF_NUMBER


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
        status = _MORE
        while status == _MORE:
            self._make_room()
            start_row, start = self.rows, self.position
            self.position, self.rows, lines, status, slow = _tokenise(
                self.buffer, start, self.is_text, self.slot, self.numbers, self.rows, self.spans, self.worst, self.slow
            )
            self.lines += int(lines)
            if status == _DECLINED:
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
                self.worst[column] = _TEXT
            self.numbers[self.slot[column], row] = value
        return self._kinds_hold()

    def _kinds_hold(self) -> bool:
        wrong = (self.worst == _TEXT) & ~self.is_text
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
                found.append(values.astype(np.int64) if self.worst[column] == _INTEGER else values)
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
            done = _encode(
                self.buffer, spans, done, self.codes, self.numbers, self.digits, self.rows, self.split, self.slots, self.pool, self.ends, self.state
            )
            if done < 0:
                return False
        self.rows += len(spans)
        return True

    def _make_room(self, rows: int) -> None:
        for name in ("codes", "numbers", "digits") if self.split else ("codes",):
            values = getattr(self, name)
            if len(values) < self.rows + rows:
                setattr(self, name, np.concatenate([values[: self.rows], np.empty(len(values) // 4 + rows, dtype=values.dtype)]))

    def _grow(self, longest: int) -> None:
        values, used = int(self.state[0]), int(self.state[1])
        if (values + 2) * 2 > len(self.slots):
            self.slots = np.full(4 * len(self.slots), -1, dtype=np.int32)
            self.ends = np.concatenate([self.ends, np.zeros(3 * len(self.ends), dtype=np.int64)])
            _rehash(self.slots, self.pool, self.ends, values)
        if used + longest + 1 > len(self.pool):
            self.pool = np.concatenate([self.pool, np.empty(len(self.pool) + longest + 1, dtype=np.uint8)])

    def column(self) -> TextColumn:
        values, used = int(self.state[0]), int(self.state[1])
        pool, ends = self.pool[:used].tobytes(), self.ends[: values + 1].tolist()
        texts = tuple(decode(pool[start:stop]) for start, stop in zip(ends, ends[1:]))
        numbers, digits = (self.numbers[: self.rows], self.digits[: self.rows]) if self.split else (None, None)
        return TextColumn(self.codes[: self.rows], texts, numbers, digits)


@numba.njit(cache=True, nogil=True, inline="always")
def _is_blank(buffer, position):
    """Space, tab, or the first half of a Windows line end."""
    c = buffer[position]
    return c == 32 or c == 9 or (c == 13 and (position + 1 >= len(buffer) or buffer[position + 1] == 10))


@numba.njit(cache=True, nogil=True)
def _is_keyword(buffer, position):
    for word in range(len(_KEYWORDS)):
        length = 7 if word == 4 else 5
        if position + length <= len(buffer):
            same = True
            for i in range(length):
                c = buffer[position + i]
                c = c + 32 if 65 <= c <= 90 else c
                if c != _KEYWORDS[word, i]:
                    same = False
                    break
            if same:
                return True
    return False


@numba.njit(cache=True, nogil=True)
def _token_end(buffer, position):
    """(first byte, byte after the last, where to go on, quoted) of the value at `position`; -1 if the byte is not for this reader."""
    size, c = len(buffer), buffer[position]
    if c == 34 or c == 39:
        end = position + 1
        while end < size and buffer[end] != 10:
            if buffer[end] == c and (end + 1 >= size or buffer[end + 1] == 10 or _is_blank(buffer, end + 1)):
                return position + 1, end, end + 1, True
            end += 1
    end = position
    while end < size:
        c = buffer[end]
        if c <= 32:
            if c == 10 or _is_blank(buffer, end):
                break
            if 11 <= c <= 13:
                return -1, -1, -1, False
        end += 1
    return position, end, end, False


@numba.njit(cache=True, nogil=True)
def _values_of_line(buffer, position):
    """How many values the line has, -1 if something in it is quoted or a comment."""
    size, count = len(buffer), 0
    while position < size and buffer[position] != 10:
        if _is_blank(buffer, position):
            position += 1
            continue
        c = buffer[position]
        if c == 34 or c == 39 or c == 35:
            return -1
        while position < size and buffer[position] != 10 and not _is_blank(buffer, position):
            position += 1
        count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _number(buffer, start, stop):
    """(value, kind) of the text between two bytes: `star_columns` says what counts as a number."""
    position = start
    negative = buffer[position] == 45
    signed = negative or buffer[position] == 43
    if signed:
        position += 1
    first = position
    if stop - first <= 18 and buffer[first] != 48:  # the common form, in one tight loop
        whole, dot = np.int64(0), np.int64(-1)
        while position < stop:
            c = np.int64(buffer[position]) - 48
            if 0 <= c <= 9:
                whole = whole * 10 + c
            elif c == -2 and dot < 0:
                dot = position
            else:
                break
            position += 1
        if position == stop and dot >= 0 and stop - first > 1 and whole < 1 << 53:
            value = whole / _POWERS[stop - 1 - dot]
            return (-value if negative else value), _FLOAT
        position = first
    mantissa, digits, leading, scale, point = np.uint64(0), 0, 0, 0, False
    while position < stop:
        c = buffer[position]
        if 48 <= c <= 57:
            leading += 0 if point else 1
            if digits > 0 or c != 48:
                digits += 1
            if digits <= 18:
                mantissa = mantissa * np.uint64(10) + np.uint64(c - 48)
                scale -= 1 if point else 0
        elif c == 46 and not point:
            point = True
        else:
            break
        position += 1
    any_digit = position - first - (1 if point else 0) > 0
    if not any_digit:
        return _special(buffer, first, stop, negative)
    if leading > 1 and buffer[first] == 48:
        return 0.0, _TEXT
    if position == stop and not point:
        if leading > 15:
            return 0.0, _TEXT
        value = np.float64(mantissa)
        return (-value if negative else value), (_FLOAT if signed and not negative else _INTEGER)
    if position < stop:
        exponent, valid = _exponent(buffer, position, stop, point)
        if not valid:
            return 0.0, _TEXT
        scale += exponent
    if digits > _DIGITS_OF_NUMBER or scale > 22 or scale < -22:
        return 0.0, _SLOW
    value = np.float64(mantissa)
    value = value / _POWERS[-scale] if scale < 0 else value * _POWERS[scale]
    return (-value if negative else value), _FLOAT


@numba.njit(cache=True, nogil=True)
def _exponent(buffer, position, stop, point):
    """(exponent, valid) of "e-05". Without a point before it an exponent needs a sign: "12e4" is a name."""
    if buffer[position] != 69 and buffer[position] != 101:
        return 0, False
    position += 1
    negative = position < stop and buffer[position] == 45
    if position < stop and (negative or buffer[position] == 43):
        position += 1
    elif not point:
        return 0, False
    if position >= stop:
        return 0, False
    exponent = 0
    while position < stop:
        c = buffer[position]
        if not 48 <= c <= 57:
            return 0, False
        exponent = min(exponent * 10 + (c - 48), 100000)
        position += 1
    return (-exponent if negative else exponent), True


@numba.njit(cache=True, nogil=True)
def _special(buffer, start, stop, negative):
    if stop - start == 3:
        a, b, c = buffer[start] | 32, buffer[start + 1] | 32, buffer[start + 2] | 32
        if a == 110 and b == 97 and c == 110:
            return np.nan, _FLOAT
        if a == 105 and b == 110 and c == 102:
            return (-np.inf if negative else np.inf), _FLOAT
    return 0.0, _TEXT


@numba.njit(cache=True, nogil=True)
def _tokenise(buffer, position, is_text, slot, numbers, row, spans, worst, slow):
    """Read up to a chunk of rows: numbers into `numbers`, places of text into `spans`.

    Returns (position, rows, lines, status, numbers left to Python).
    """
    size, columns, first_row, lines, left = len(buffer), len(is_text), row, 0, 0
    while True:
        if row - first_row == spans.shape[1] or row == numbers.shape[1] or left + columns > len(slow):
            return position, row, lines, _MORE, left
        line = position
        while position < size and _is_blank(buffer, position):
            position += 1
        if position >= size or buffer[position] == 95:  # the end, or a name
            return line, row, lines, _END, left
        c = buffer[position]
        if c == 10 or c == 35:
            while position < size and buffer[position] != 10:
                position += 1
            position, lines = position + 1, lines + 1
            continue
        if buffer[line] == 59:
            return line, row, lines, _DECLINED, left
        if _is_keyword(buffer, position) and (columns == 1 or _values_of_line(buffer, line) != columns):
            return line, row, lines, _END, left
        column = 0
        while position < size and buffer[position] != 10 and buffer[position] != 35:
            start, stop, position, is_quoted = _token_end(buffer, position)
            if start < 0 or column == columns:
                return line, row, lines, _DECLINED, left
            if is_text[column]:
                spans[slot[column], row - first_row, 0] = start
                spans[slot[column], row - first_row, 1] = stop
            elif is_quoted:
                worst[column] = _TEXT
            else:
                value, kind = _number(buffer, start, stop)
                worst[column] = max(worst[column], _FLOAT if kind == _SLOW else kind)
                numbers[slot[column], row] = value
                if kind == _SLOW:
                    slow[left, 0], slow[left, 1], slow[left, 2], slow[left, 3] = column, row, start, stop
                    left += 1
            column += 1
            while position < size and _is_blank(buffer, position):
                position += 1
        if column != columns:
            return line, row, lines, _DECLINED, left
        while position < size and buffer[position] != 10:
            position += 1
        position, row, lines = position + 1, row + 1, lines + 1


@numba.njit(cache=True, nogil=True)
def _hash(buffer, start, stop):
    """FNV-1a."""
    value = np.uint64(14695981039346656037)
    for i in range(start, stop):
        value = (value ^ np.uint64(buffer[i])) * np.uint64(1099511628211)
    return value ^ (value >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def _rehash(slots, pool, ends, values):
    mask = np.uint64(len(slots) - 1)
    for code in range(values):
        place = _hash(pool, ends[code], ends[code + 1]) & mask
        while slots[place] >= 0:
            place = (place + np.uint64(1)) & mask
        slots[place] = code


@numba.njit(cache=True, nogil=True)
def _same(left, a, b, right, c, d):
    if b - a != d - c:
        return False
    for i in range(b - a - 1, -1, -1):  # names differ at their ends
        if left[a + i] != right[c + i]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _encode(buffer, spans, done, codes, numbers, digits, first_row, split, slots, pool, ends, state):
    """Codes of the rows from `done` on. Returns the row that it stopped at for want of room, all rows, or -1 for a name without number."""
    mask = np.uint64(len(slots) - 1)
    for i in range(done, len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        row = first_row + i
        if split:
            number, at = np.int64(0), start
            while at < stop and 48 <= buffer[at] <= 57 and at - start < 16:
                number = number * 10 + (buffer[at] - 48)
                at += 1
            if at == start or at == stop or buffer[at] != 64 or at - start > 15:
                return -1
            numbers[row], digits[row] = number, at - start
            start = at + 1
        code = state[2]
        if not (state[0] > 0 and _same(buffer, start, stop, pool, ends[code], ends[code + 1])):
            place = _hash(buffer, start, stop) & mask
            while slots[place] >= 0 and not _same(buffer, start, stop, pool, ends[slots[place]], ends[slots[place] + 1]):
                place = (place + np.uint64(1)) & mask
            code = slots[place]
            if code < 0:
                if (state[0] + 1) * 2 > len(slots) or state[0] + 1 >= len(ends) or state[1] + stop - start > len(pool):
                    return i
                code = state[0]
                slots[place] = code
                for j in range(stop - start):
                    pool[state[1] + j] = buffer[start + j]
                state[1] += stop - start
                state[0] += 1
                ends[state[0]] = state[1]
            state[2] = code
        codes[row] = code
    return len(spans)
