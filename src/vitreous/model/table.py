"""A table: named columns of equal length. What a STAR loop or a .cs file is once it has been read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitreous.errors import DataProblem


class TextColumn:
    """A column of text that repeats itself, kept as codes: row i is `values[codes[i]]`.

    Image names repeat but for their number: with `numbers` and `digits`, row i is `numbers[i]`, padded with zeros to
    `digits[i]` digits, then "@", then the value. Behaves as an object array of `str` in slices, selections, iteration
    and NumPy functions; millions of rows cost 4 to 13 bytes each instead of 100.
    """

    dtype = np.dtype(object)
    ndim = 1

    def __init__(
        self,
        codes: np.ndarray,
        values: Sequence[str],
        numbers: np.ndarray | None = None,
        digits: np.ndarray | None = None,
    ):
        self.codes, self.values, self.numbers, self.digits = codes, values, numbers, digits

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.codes),)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, int | np.integer):
            return self._text(int(rows))
        return TextColumn(
            self.codes[rows],
            self.values,
            None if self.numbers is None else self.numbers[rows],
            None if self.digits is None else self.digits[rows],
        )

    def _text(self, row: int) -> str:
        value = self.values[int(self.codes[row])]
        if self.numbers is None or self.digits is None:
            return value
        return f"{str(int(self.numbers[row])).zfill(int(self.digits[row]))}@{value}"

    def __iter__(self) -> Iterator[str]:
        return (self._text(row) for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        column = np.empty(len(self), dtype=object)
        if self.numbers is None:
            pool = np.empty(len(self.values), dtype=object)
            pool[:] = list(self.values)
            column[:] = pool[self.codes]
        else:
            column[:] = list(self)
        return column if dtype is None else column.astype(dtype)

    def tolist(self) -> list[str]:
        return self.__array__().tolist()

    def __eq__(self, other: Any) -> Any:
        return np.asarray(self) == (np.asarray(other) if isinstance(other, TextColumn) else other)

    def __ne__(self, other: Any) -> Any:
        return ~np.asarray(self == other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TextColumn({len(self)} rows, {len(self.values)} values)"


@dataclass(frozen=True)
class Table:
    """Named columns of equal length, in order.

    A column is a NumPy array whose first axis is the rows: float64, int64, or text (dtype object holding `str`; of
    large files a `TextColumn`, which behaves like one). Tables of .cs files keep that format's own types, vectors
    included. Columns are not copied and must not be modified: `with_columns` makes a new table.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataProblem(f"columns of different lengths: {lengths}", "one length for all columns of a table")

    def __len__(self) -> int:
        return next((len(column) for column in self.columns.values()), 0)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    def with_columns(self, columns: Mapping[str, Any]) -> Table:
        """This table with columns replaced or added at the end."""
        new = {name: value if isinstance(value, TextColumn) else np.asarray(value) for name, value in columns.items()}
        return Table({**self.columns, **new})

    def without(self, *names: str) -> Table:
        """This table without the named columns; names that it does not have are ignored."""
        return Table({name: column for name, column in self.columns.items() if name not in names})

    def rows(self, selection: np.ndarray | slice) -> Table:
        """The selected rows, in the order given."""
        return Table({name: column[selection] for name, column in self.columns.items()})
