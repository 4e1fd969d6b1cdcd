"""Rows that share the same values in several columns: how optics groups are found where a file has none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vitreous.model.table import TextColumn


def distinct_rows(columns: Iterable[np.ndarray | TextColumn], count: int) -> tuple[np.ndarray, np.ndarray]:
    """(first, index): the first row of each distinct combination of values, in order of appearance, and the
    combination of each row.

    A column [n, ...] may have several values a row. NaN equals NaN. Columns that are constant, the usual case, cost
    one comparison.
    """
    index = np.zeros(count, dtype=np.int64)
    for column in columns:
        for values in _scalar_columns(column):
            if (values != values[0]).any():
                _, code = np.unique(values, return_inverse=True)
                _, index = np.unique(index * (int(code.max()) + 1) + code, return_inverse=True)
    _, first, index = np.unique(index, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return np.sort(first), rank[index].astype(np.int32)


def _scalar_columns(column: np.ndarray | TextColumn) -> list[np.ndarray]:
    if isinstance(column, TextColumn) and column.numbers is None:
        return [column.codes]
    values = np.asarray(column)
    values = values.astype(str) if values.dtype == object else values
    return list(values.reshape(len(values), -1).T)
