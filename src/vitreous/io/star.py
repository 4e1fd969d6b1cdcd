"""STAR files: blocks of name-value pairs or of one table (a loop), read and written without loss.

The dialect is RELION's and its relatives': CIF tokens (quotes, comments, text fields), where one line is one row. On
top of CIF it takes a name without a value, and a two-column row without its second, for an empty text, as RELION's
job files have them.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vitreous.errors import FormatProblem, OutputProblem
from vitreous.io.atomic import atomic_path
from vitreous.io.files import require_file
from vitreous.io.star_columns import column_texts, decode, encode, quoted, text_column, typed_column
from vitreous.model.table import Table

Pairs = dict[str, str]

_IN_MEMORY_BYTES = 1 << 26  # smaller files are read whole, larger ones are mapped
_FAST_LOOP_BYTES = 1 << 26  # a loop at least this long is worth the start-up of the compiled reader
_FAST_ROWS = 1 << 17  # the same for writing
_PLAIN_LOOP_BYTES = 1 << 28  # a longer one would not fit into memory as Python objects
_SPACE = rb"[ \t\r\x0b\x0c]"
_TOKEN = re.compile(
    rb"""'((?:[^']|'(?!%(s)s|$))*)'(?=%(s)s|$) | "((?:[^"]|"(?!%(s)s|$))*)"(?=%(s)s|$) | (\#.*) | ([^ \t\r\x0b\x0c]+)"""
    % {b"s": _SPACE},
    re.X | re.S,
)
_MARKS = (b"'", b'"', b"#", b"\x0b", b"\x0c")  # with none of these in it, a line is its words
_VERSION = re.compile(rb"#\s*version\s+(\d+)|#.*RELION;?\s*version\s+([\w.]+)")
_REMARK = re.compile(
    rb"\s*kk= .*local resolution="
)  # RELION's local-resolution FSC file has these lines between its blocks
_KEYWORD = re.compile(rb"data_|loop_|save_|stop_|global_|_", re.I)


class StarFile(dict[str, Pairs | Table]):
    """Blocks by name, in the order of the file: `Pairs` (text by name) or a `Table`. Names are without `data_` and
    the first `_`.

    `version` is what a comment such as "# version 30001" says, "" if there is none.
    """

    version: str = ""

    def tables(self) -> Iterator[tuple[str, Table]]:
        """The blocks that are tables, with their names."""
        return ((name, block) for name, block in self.items() if isinstance(block, Table))


def read_star(path: str | os.PathLike[str]) -> StarFile:
    """Every block of a STAR file. Columns are int64, float64 or text: see `star_columns`.

    Raises FileProblem if it cannot be read, FormatProblem naming the line that does not fit.
    """
    path = require_file(path)
    with open(path, "rb") as stream:
        if os.fstat(stream.fileno()).st_size <= _IN_MEMORY_BYTES:
            content = stream.read()
            if b"\r" in content:
                content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            return _Reader(content, str(path)).read()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _Reader(mapped, str(path)).read()


def parse_star(content: bytes, name: str = "STAR text") -> StarFile:
    """The blocks of a STAR file given as bytes; `name` is for messages."""
    return _Reader(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), name).read()


def write_star(path: str | os.PathLike[str], blocks: Mapping[str, Mapping[str, Any] | Table]) -> None:
    """Write blocks of pairs and tables, so that `read_star` gives them back; complete or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        version = getattr(blocks, "version", "")
        for name, block in blocks.items():
            stream.write(encode(f"\n# version {version}\n" if version.isdigit() else ""))
            stream.write(encode(f"\ndata_{_checked_name(name)}\n\n"))
            for piece in _loop_text(block) if isinstance(block, Table) else _pairs_text(block):
                stream.write(piece)


def _checked_name(name: str) -> str:
    if re.search(r"[\s\0]", name):
        raise OutputProblem(f"a block called {name!r}", "a name without spaces")
    return name


def _checked_column(name: str) -> str:
    if re.search(r"[\s\0]", name):
        raise OutputProblem(f"a column called {name!r}", "a name without spaces")
    return name


def _pairs_text(pairs: Mapping[str, Any]) -> Iterator[bytes]:
    width = max((len(name) for name in pairs), default=0) + 2
    for name, value in pairs.items():
        yield encode(f"_{_checked_column(name):<{width}} {quoted(str(value))}\n")
    yield b"\n"


def _loop_text(table: Table) -> Iterator[bytes]:
    yield encode("loop_\n" + "".join(f"_{_checked_column(name)} #{number}\n" for number, name in enumerate(table, 1)))
    if len(table) >= _FAST_ROWS:
        from vitreous.io.star_fast_write import loop_bytes

        yield from loop_bytes(table)
    else:
        texts = [column_texts(column) for column in table.columns.values()]
        yield encode("".join(" ".join(row) + "\n" for row in zip(*texts)))
    yield b"\n"


class _Reader:
    """A cursor over the lines of a file."""

    def __init__(self, content: bytes | mmap.mmap, name: str):
        self.content, self.name = content, name
        self.position, self.line_number, self.size = 0, 0, len(content)
        self.start, self.next_mark = 0, -1
        self.file = StarFile()

    def problem(self, got: str, expected: str, remedy: str = "") -> FormatProblem:
        return FormatProblem(f"{self.name}, line {self.line_number}: {got}", expected, remedy)

    def lines(self) -> Iterator[bytes]:
        """The lines from here on, without their ends; `back` returns to the start of the last one."""
        while self.position < self.size:
            end = self.content.find(b"\n", self.position)
            end = self.size if end < 0 else end
            line = self.content[self.position : end]
            self.start, self.position = self.position, end + 1
            self.line_number += 1
            yield line

    def back(self) -> None:
        self.position, self.line_number = self.start, self.line_number - 1

    def marked(self) -> bool:
        """Whether the last line may have quotes or comments in it, or starts as a text field does."""
        if self.next_mark < self.start:
            places = [place for mark in _MARKS if (place := self.content.find(mark, self.start)) >= 0]
            self.next_mark = min(places, default=self.size)
        return self.next_mark < self.position or self.content[self.start : self.start + 1] == b";"

    def read(self) -> StarFile:
        block: str | None = None
        for line in self.lines():
            words = line.split(None, 1)
            if not words:
                continue
            word = words[0].lower()
            if word.startswith(b"#"):
                self.note_version(line)
            elif word.startswith(b"data_"):
                block = self.open_block(line)
            elif block is None:
                shown = "holds binary data" if b"\0" in line else f"is {line[:40]!r}"
                raise FormatProblem(
                    f"{self.name} is not a STAR file: line {self.line_number} {shown}",
                    "a line that starts with 'data_'",
                )
            elif word == b"loop_":
                self.read_loop(block)
            elif word.startswith(b"_"):
                self.read_pair(block, line)
            else:
                raise self.problem(
                    f"the value {line[:40]!r} belongs to no name", "a name that starts with '_', 'loop_' or 'data_'"
                )
        if block is None:
            raise FormatProblem(f"{self.name} is not a STAR file: it holds no block", "a line that starts with 'data_'")
        return self.file

    def note_version(self, line: bytes) -> None:
        found = _VERSION.search(line)
        if found and not self.file.version:
            self.file.version = decode(found[1] or found[2])

    def open_block(self, line: bytes) -> str:
        word, rest = (*line.split(None, 1), b"")[:2]
        if rest.strip() and not rest.lstrip().startswith(b"#"):
            raise self.problem(f"{rest[:40]!r} after the name of a block", "nothing more on that line")
        name = decode(word[len(b"data_") :])
        if name in self.file:
            raise self.problem(
                f"a second block called '{name}'", "each block name once", "rename or remove one of the two"
            )
        self.file[name] = {}
        return name

    def read_pair(self, block: str, line: bytes) -> None:
        tokens = self.tokens(line)
        if len(tokens) == 1:
            tokens.append(self.value_of_next_line())
        if len(tokens) != 2:
            raise self.problem(f"{len(tokens) - 1} values for one name", "one value", "quote a value that has spaces")
        pairs, name = self.file[block], decode(tokens[0][0][1:])
        if isinstance(pairs, Table):
            raise self.problem(f"the block '{block}' has a pair after its loop", "one kind of content in a block")
        if name in pairs:
            raise self.problem(f"a second value for '{name}'", "each name once in a block")
        pairs[name] = decode(tokens[1][0])

    def value_of_next_line(self) -> tuple[bytes, bool]:
        """The value that stands on a line of its own, or the empty text if another name or block follows."""
        for line in self.lines():
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            if line.startswith(b";"):
                return self.text_field(line), True
            if not _KEYWORD.match(line.lstrip()):
                tokens = self.tokens(line)
                if len(tokens) == 1:
                    return tokens[0]
                raise self.problem(f"{len(tokens)} values for one name", "one value")
            self.back()
            break
        return b"", True

    def text_field(self, first: bytes) -> bytes:
        """A value of several lines, from a line that starts with ';' to the next one that does."""
        parts, opened = [first[1:]], self.line_number
        for line in self.lines():
            if line.startswith(b";"):
                if line[1:].strip():
                    raise self.problem(f"{line[1:40]!r} after the end of a text field", "nothing more on that line")
                return b"\n".join(parts)
            parts.append(line)
        raise FormatProblem(
            f"{self.name}: the text field opened on line {opened} is never closed", "a line that starts with ';'"
        )

    def tokens(self, line: bytes) -> list[tuple[bytes, bool]]:
        """(value, was quoted) for each value of the line."""
        found = []
        for match in _TOKEN.finditer(line):
            single, double, comment, plain = match.groups()
            if plain is not None:
                found.append((plain, False))
            elif comment is None:
                found.append((double if single is None else single, True))
        return found

    def read_loop(self, block: str) -> None:
        if isinstance(self.file[block], Table) or self.file[block]:
            raise self.problem(f"the block '{block}' holds more than one table", "one kind of content in a block")
        names = self.column_names()
        columns = self.fast_columns(len(names)) if self.size - self.position >= _FAST_LOOP_BYTES else None
        if columns is None:
            columns = self.columns(len(names))
        self.file[block] = Table(dict(zip(names, columns)))

    def column_names(self) -> list[str]:
        names: list[str] = []
        for line in self.lines():
            words = line.split(None, 1)
            if not words or words[0].startswith(b"#"):
                continue
            if not words[0].startswith(b"_"):
                self.back()
                break
            if len(words) > 1 and not words[1].startswith(b"#"):
                raise self.problem(f"{words[1][:40]!r} after a column name", "nothing, or a comment such as '#1'")
            names.append(decode(words[0][1:]))
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self.problem(f"the column '{twice}' appears twice", "each column once in a loop")
        return names

    def fast_columns(self, count: int) -> list[Any] | None:
        """The columns by the compiled reader, or None if this loop is not plain enough for it."""
        from vitreous.io.star_fast import read_columns

        found = read_columns(self.content, self.position, count) if count else None
        if found is not None:
            columns, self.position, lines = found
            self.line_number += lines
            return columns
        if self.size - self.position > _PLAIN_LOOP_BYTES:
            raise FormatProblem(
                f"{self.name}: the loop of {count} columns after line {self.line_number} has rows of another "
                "length, or text fields",
                "one row a line in a file of this size",
                "the file may be truncated or damaged",
            )
        return None

    def columns(self, count: int) -> list[np.ndarray]:
        """The columns of the loop whose first row is next. A column with a quoted value is text."""
        values, quotes = self.values(count)
        return [text_column(values[n::count]) if n in quotes else typed_column(values[n::count]) for n in range(count)]

    def values(self, count: int) -> tuple[list[bytes], set[int]]:
        """All values, row after row, and the columns in which something is quoted.

        A row is one line, or several lines that hold its values between them; a line never holds more than one row:
        an unquoted space in a name would shift every value after it.
        """
        values: list[bytes] = []
        quotes: set[int] = set()
        pending: list[bytes] = []
        for line in self.lines():
            marked = self.marked()
            words = [] if marked else line.split()
            if len(words) == count > 1 and not pending and words[0][:1] != b"_":
                values += words
                continue
            if _KEYWORD.match(line.lstrip()):
                self.back()
                break
            if not line.strip() or _REMARK.match(line):
                continue
            for value, is_quoted in self.line_values(line):
                if len(pending) >= count:
                    raise self.problem(
                        f"more values than the {count} columns of the loop",
                        "one row a line",
                        "quote a value that has spaces",
                    )
                if is_quoted:
                    quotes.add(len(pending))
                pending.append(value)
            if count == 2 and len(pending) == 1 and not line.startswith(b";") and not self.next_is_text_field():
                quotes.add(1)
                pending.append(b"")
            if len(pending) == count and count > 0:
                values += pending
                pending = []
        if pending:
            raise self.problem(
                f"the last row has {len(pending)} of {count} values",
                "a whole row",
                "the file may be truncated: copy it again",
            )
        return values, quotes

    def line_values(self, line: bytes) -> list[tuple[bytes, bool]]:
        return [(self.text_field(line), True)] if line.startswith(b";") else self.tokens(line)

    def next_is_text_field(self) -> bool:
        return self.content[self.position : self.position + 1] == b";"
