"""STAR text and typed columns: which text is a number, and how a value is written so that reading it gives the same
value.

A column becomes int64 or float64 only if nothing is lost by it. Text stays text, exactly as in the file, if any value
of the column is
- no number, or quoted;
- a whole number with leading zeros ("007"), of 16 or more digits, or an exponent without point or sign ("12e4"):
  these are names;
- beyond the range of a double.
Numbers are written in the shortest form that reads back to the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vitreous.errors import DataProblem
from vitreous.model.table import TextColumn

_INTEGER_CHARACTERS = b"0123456789-\n"
_NUMBER_CHARACTERS = b"0123456789-+.eE\n"
_NAME_LIKE = re.compile(rb"\n[+-]?(?:0[0-9]|[0-9]{16,}(?=\n)|[0-9]+[eE][0-9])")
_NOT_FINITE = frozenset([b"nan", b"-nan", b"+nan", b"inf", b"-inf", b"+inf"])
_RESERVED = ("data_", "loop_", "save_", "stop_", "global_")
_BREAKS = re.compile(r"[ \t\x0b\x0c]")


def typed_column(tokens: Sequence[bytes]) -> np.ndarray:
    """The column as int64, float64 or text (object array of str): the first of these that loses nothing."""
    if len(tokens) == 0:
        return np.empty(0, dtype=object)
    joined = b"\n".join(tokens)
    numbers = _integers(tokens, joined)
    if numbers is None:
        numbers = _floats(tokens, joined)
    return text_column(tokens) if numbers is None else numbers


def text_column(tokens: Sequence[bytes]) -> np.ndarray:
    """The column as text: an object array of str. Bytes that are not UTF-8 survive as surrogates."""
    column = np.empty(len(tokens), dtype=object)
    column[:] = [decode(token) for token in tokens]
    return column


def decode(token: bytes) -> str:
    return token.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise DataProblem(f"a text that is no Unicode: {text!r:.60}", "text that a STAR file can hold") from None


def _integers(tokens: Sequence[bytes], joined: bytes) -> np.ndarray | None:
    if joined.translate(None, _INTEGER_CHARACTERS) or _NAME_LIKE.search(b"\n" + joined + b"\n"):
        return None
    try:
        return np.fromiter(map(int, tokens), dtype=np.int64, count=len(tokens))
    except (ValueError, OverflowError):
        return None


def _floats(tokens: Sequence[bytes], joined: bytes) -> np.ndarray | None:
    finite = slice(None)
    if joined.translate(None, _NUMBER_CHARACTERS):
        special = np.array([token.lower() in _NOT_FINITE for token in tokens])
        joined = b"\n".join(token for token, is_special in zip(tokens, special) if not is_special)
        if not special.any() or joined.translate(None, _NUMBER_CHARACTERS):
            return None
        finite = ~special
    try:
        numbers = np.fromiter(map(float, tokens), dtype=np.float64, count=len(tokens))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers[finite]).all() and not _has_names(joined) else None


def _has_names(joined: bytes) -> bool:
    """Whether one of these numbers must stay text. Most columns are "1.25" throughout, and need no regular
    expression."""
    text = b"\n" + joined + b"\n"
    zeros = sum(text.count(sign + b"0") - text.count(sign + b"0.") for sign in (b"\n", b"\n-", b"\n+"))
    plain = zeros == 0 and text.count(b".") == text.count(b"\n") - 1 and b"e" not in text and b"E" not in text
    return not plain and _NAME_LIKE.search(text) is not None


def column_texts(column: np.ndarray | TextColumn) -> list[str]:
    """One string a row, as it stands in a STAR file: quoted where needed. `typed_column` of it gives the column
    back."""
    column = np.asarray(column)
    if column.ndim != 1:
        raise DataProblem(f"a column of shape {column.shape}", "one value a row in a STAR loop")
    if column.dtype.kind in "iub":
        return [str(int(value)) for value in column.tolist()]
    if column.dtype.kind == "f":
        if column.dtype.itemsize < 8:  # the shortest text of the narrow number, not of its double
            return [repr(float(text)) for text in column.astype(str).tolist()]
        return [repr(value) for value in column.tolist()]
    texts = [str(value) for value in column.tolist()]
    if texts and looks_numeric(texts):
        return [f'"{text}"' for text in texts]
    return [quoted(text) for text in texts]


def looks_numeric(texts: Sequence[str]) -> bool:
    """Whether this text column would be read as numbers if written without quotes."""
    if any(not text or _BREAKS.search(text) or "\n" in text for text in texts):
        return False
    return typed_column([encode(text) for text in texts]).dtype.kind in "if"


def quoted(text: str) -> str:
    """The text as one STAR value. Raises DataProblem for characters that a STAR file cannot hold."""
    if "\r" in text or "\0" in text:
        raise DataProblem(f"a text with a control character: {text!r}", "text that a STAR file can hold")
    if "\n" in text:
        return _text_field(text)
    plain = text and not _BREAKS.search(text) and text[0] not in "_#$'\";" and not text.lower().startswith(_RESERVED)
    if plain:
        return text
    for mark in ('"', "'"):
        if not re.search(mark + r"[ \t\x0b\x0c]", text) and not text.endswith(mark):
            return mark + text + mark
    return _text_field(text)


def _text_field(text: str) -> str:
    if "\n;" in text:
        raise DataProblem(f"a text with a line that starts with ';': {text!r}", "text that a STAR file can hold")
    return f"\n;{text}\n;\n"
