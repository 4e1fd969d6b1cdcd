"""Tables, and text columns kept as codes."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.model.table import Table, TextColumn

NAMES = TextColumn(np.array([0, 1, 0]), ("a.mrcs", "b.mrcs"), np.array([1, 20, 300]), np.array([6, 1, 3]))
TEXTS = ["000001@a.mrcs", "20@b.mrcs", "300@a.mrcs"]
WORDS = TextColumn(np.array([1, 0, 1]), ("x", "y"))


@pytest.mark.parametrize(("column", "texts"), [(NAMES, TEXTS), (WORDS, ["y", "x", "y"])])
def test_behaves_as_an_object_array(column, texts):
    array = np.array(texts, dtype=object)
    assert len(column) == 3 and column.shape == (3,) and column.dtype == object
    assert list(column) == column.tolist() == np.asarray(column).tolist() == texts
    assert column[1] == texts[1] and column[np.int64(-1)] == texts[-1]
    for rows in (slice(1, None), np.array([2, 0]), np.array([True, False, True]), slice(None, None, -1)):
        assert isinstance(column[rows], TextColumn)
        assert column[rows].tolist() == array[rows].tolist()
    assert (column == texts[0]).tolist() == (array == texts[0]).tolist()
    assert (column != texts[0]).tolist() == (array != texts[0]).tolist()
    assert (column == column).all() and np.unique(np.asarray(column)).tolist() == sorted(set(texts))


def test_tables_keep_text_columns():
    table = Table({"n": np.arange(3)}).with_columns({"name": NAMES, "w": ["p", "q", "r"]})
    assert table.names == ["n", "name", "w"] and len(table) == 3 and "name" in table and list(table) == table.names
    assert isinstance(table["name"], TextColumn) and isinstance(table["w"], np.ndarray)
    part = table.rows(np.array([2, 1]))
    assert part["name"].tolist() == [TEXTS[2], TEXTS[1]] and part["n"].tolist() == [2, 1]
    assert table.without("n", "absent").names == ["name", "w"] and table.names == ["n", "name", "w"]
    with pytest.raises(DataProblem, match="different lengths"):
        table.with_columns({"short": np.zeros(2)})
