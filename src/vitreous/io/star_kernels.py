"""Compiled loops over the bytes of a STAR file: values of rows, exact numbers, and codes of texts.

Numbers are exact: a whole number below 2^53 and a power of ten up to 22 are both doubles, so one multiplication or
division rounds their product correctly (Clinger 1990, doi:10.1145/93542.93557); other numbers are left to Python.
"""

from __future__ import annotations

import numba
import numpy as np

MORE, END, DECLINED = 0, 1, 2
INTEGER, FLOAT, SLOW, TEXT = 0, 1, 2, 3
DIGITS_OF_NUMBER = 15
_POWERS = 10.0 ** np.arange(23)
_KEYWORDS = np.array(
    [list(word.ljust(8).encode()) for word in ("data_", "loop_", "save_", "stop_", "global_")], dtype=np.uint8
)


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
    """(first byte, byte after the last, where to go on, quoted) of the value at `position`; -1 if the byte is not for
    this reader."""
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
            return (-value if negative else value), FLOAT
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
        return 0.0, TEXT
    if position == stop and not point:
        if leading > 15:
            return 0.0, TEXT
        value = np.float64(mantissa)
        return (-value if negative else value), (FLOAT if signed and not negative else INTEGER)
    if position < stop:
        exponent, valid = _exponent(buffer, position, stop, point)
        if not valid:
            return 0.0, TEXT
        scale += exponent
    if digits > DIGITS_OF_NUMBER or scale > 22 or scale < -22:
        return 0.0, SLOW
    value = np.float64(mantissa)
    value = value / _POWERS[-scale] if scale < 0 else value * _POWERS[scale]
    return (-value if negative else value), FLOAT


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
            return np.nan, FLOAT
        if a == 105 and b == 110 and c == 102:
            return (-np.inf if negative else np.inf), FLOAT
    return 0.0, TEXT


@numba.njit(cache=True, nogil=True)
def tokenise(buffer, position, is_text, slot, numbers, row, spans, worst, slow):
    """Read up to a chunk of rows: numbers into `numbers`, places of text into `spans`.

    Returns (position, rows, lines, status, numbers left to Python).
    """
    size, columns, first_row, lines, left = len(buffer), len(is_text), row, 0, 0
    while True:
        if row - first_row == spans.shape[1] or row == numbers.shape[1] or left + columns > len(slow):
            return position, row, lines, MORE, left
        line = position
        while position < size and _is_blank(buffer, position):
            position += 1
        if position >= size or buffer[position] == 95:  # the end, or a name
            return line, row, lines, END, left
        c = buffer[position]
        if c == 10 or c == 35:
            while position < size and buffer[position] != 10:
                position += 1
            position, lines = position + 1, lines + 1
            continue
        if buffer[line] == 59:
            return line, row, lines, DECLINED, left
        if _is_keyword(buffer, position) and (columns == 1 or _values_of_line(buffer, line) != columns):
            return line, row, lines, END, left
        column = 0
        while position < size and buffer[position] != 10 and buffer[position] != 35:
            start, stop, position, is_quoted = _token_end(buffer, position)
            if start < 0 or column == columns:
                return line, row, lines, DECLINED, left
            if is_text[column]:
                spans[slot[column], row - first_row, 0] = start
                spans[slot[column], row - first_row, 1] = stop
            elif is_quoted:
                worst[column] = TEXT
            else:
                value, kind = _number(buffer, start, stop)
                worst[column] = max(worst[column], FLOAT if kind == SLOW else kind)
                numbers[slot[column], row] = value
                if kind == SLOW:
                    slow[left, 0], slow[left, 1], slow[left, 2], slow[left, 3] = column, row, start, stop
                    left += 1
            column += 1
            while position < size and _is_blank(buffer, position):
                position += 1
        if column != columns:
            return line, row, lines, DECLINED, left
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
def rehash(slots, pool, ends, values):
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
    for i in range(b - a - 1, -1, -1):  # noqa: SIM110 - compiled; from the back, because names differ at their ends
        if left[a + i] != right[c + i]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def encode(buffer, spans, done, codes, numbers, digits, first_row, split, slots, pool, ends, state):
    """Codes of the rows from `done` on. Returns the row that it stopped at for want of room, all rows, or -1 for a
    name without number."""
    mask = np.uint64(len(slots) - 1)
    for i in range(done, len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        row = first_row + i
        if split:
            number, at = np.int64(0), start
            while at < stop and 48 <= buffer[at] <= 57 and at - start < 16:
                number = number * 10 + (buffer[at] - 48)
                at += 1
            if at in (start, stop) or buffer[at] != 64 or at - start > 15:
                return -1
            numbers[row], digits[row] = number, at - start
            start = at + 1
        code = state[2]
        if not (state[0] > 0 and _same(buffer, start, stop, pool, ends[code], ends[code + 1])):
            place = _hash(buffer, start, stop) & mask
            while slots[place] >= 0 and not _same(
                buffer, start, stop, pool, ends[slots[place]], ends[slots[place] + 1]
            ):
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
