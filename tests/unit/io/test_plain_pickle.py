"""Pickles of plain values: what Python and NumPy wrote comes back; whatever asks for more is refused, and does not run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.plain_pickle import read_plain_pickle, read_plain_pickles

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def written(folder: Path, *values, protocol: int = 4) -> Path:
    path = folder / "values.pkl"
    with open(path, "wb") as stream:
        for value in values:
            pickle.dump(value, stream, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_and_arrays_come_back(tmp_path, rng, protocol):
    arrays = (
        rng.normal(size=(5, 3)).astype(np.float32),
        np.asfortranarray(rng.normal(size=(4, 2))),
        rng.integers(0, 9, 7),
        np.array([True, False]),
        np.arange(3, dtype=">i2"),
        np.array(["a", "bc"]),
        np.zeros((0, 3), np.float32),
        rng.normal(size=3) + 1j,
    )
    value = {
        "arrays": arrays,
        "scalar": np.float32(2.5),
        "dtype": np.dtype("f4"),
        "flag": None,
        "more": [1, 2.5, "x", b"y", {3, 4}],
    }
    value["ordered"] = OrderedDict(a=arrays[0])
    back = read_plain_pickle(written(tmp_path, value, protocol=protocol))
    for mine, given in zip(back["arrays"], arrays):
        assert mine.dtype == given.dtype and np.array_equal(mine, given)
    assert np.array_equal(back["ordered"]["a"], arrays[0]) and list(back["ordered"]) == ["a"]
    assert back["scalar"] == 2.5 and back["dtype"] == np.float32 and back["flag"] is None
    assert back["more"] == value["more"]
    back["arrays"][0][:] = 0  # a value of one's own


def test_one_pickle_after_the_other(tmp_path, rng):
    """cryoDRGN's z.pkl: means, then logarithms of variances."""
    mean, log_variance = rng.normal(size=(2, 6, 8)).astype(np.float32)
    values = read_plain_pickles(written(tmp_path, mean, log_variance))
    assert len(values) == 2 and np.array_equal(values[0], mean) and np.array_equal(values[1], log_variance)
    assert np.array_equal(read_plain_pickle(tmp_path / "values.pkl"), mean)


def test_the_same_value_twice_is_read_once(tmp_path):
    nested = [np.arange(3)]
    for _ in range(40):
        nested = [nested, nested]  # 2^40 lists, if each were built anew
    back = read_plain_pickle(written(tmp_path, nested))
    assert back[0] is back[1]


class Command:
    """What a hostile file holds: a call, made while it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "said"),
    [(os.system, "system"), (eval, "eval"), (np.load, "load"), (getattr, "getattr"), (open, "open")],
)
def test_a_call_is_refused_by_name_and_not_made(tmp_path, monkeypatch, function, said, protocol):
    monkeypatch.chdir(tmp_path)
    argument = {"system": "touch ran", "eval": "open('ran', 'w')", "load": "ran.npy", "getattr": "ran", "open": "ran"}[
        said
    ]
    arguments = (argument, "w") if said == "open" else (argument, "upper") if said == "getattr" else (argument,)
    path = written(tmp_path, [np.zeros(2), Command(function, *arguments)], protocol=protocol)
    with pytest.raises(DataProblem, match=said) as refused:
        read_plain_pickle(path)
    assert "\n" not in refused.value.line() and path.name in refused.value.line()
    assert not (tmp_path / "ran").exists()


def test_objects_of_other_classes_are_refused(tmp_path):
    for value in (Path("x"), np.array([Path("x")], dtype=object), np.rec.array([(1, 2.0)]), np.random.default_rng(0)):
        with pytest.raises((DataProblem, FormatProblem)):
            read_plain_pickle(written(tmp_path, value))


def test_a_type_of_elements_cannot_be_made_one_of_pointers(tmp_path):
    """NumPy's own reader lets a file say that 8 bytes are an object."""
    path = written(tmp_path, np.arange(2.0), protocol=2)
    content = path.read_bytes()
    assert content.count(b"f8") == 1
    for code in (b"O8", b"V8", b"M8"):
        path.write_bytes(content.replace(b"f8", code))
        with pytest.raises(FormatProblem, match="type"):
            read_plain_pickle(path)


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\ndtype\n.",  # a function, not a value
        b"cnumpy\ndtype\n}U\x08__code__NsbN.",  # a state for a function
        b"cnumpy.core.multiarray\n_reconstruct\n(tR.",  # an array without content
        b"Pother\n.",  # an object outside
        b"\x82\x01.",  # an extension
        b"]\x94h\x00a.",  # a list that holds itself
        b"garbage",
        b"\x80\x09.",
    ],
)
def test_other_programs_are_refused_in_one_line(tmp_path, program):
    path = tmp_path / "odd.pkl"
    path.write_bytes(program)
    with pytest.raises((DataProblem, FormatProblem)) as refused:
        read_plain_pickle(path)
    assert "odd.pkl" in refused.value.line() and "\n" not in refused.value.line()


def test_cut_files_and_archives_are_said(tmp_path):
    path = written(tmp_path, np.arange(100.0))
    content = path.read_bytes()
    for length in range(1, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(FormatProblem):
            read_plain_pickle(path)
    path.write_bytes(b"PK\x03\x04" + bytes(30))
    with pytest.raises(FormatProblem, match="PyTorch"):
        read_plain_pickle(path)
    path.write_bytes(b"")
    with pytest.raises(FileProblem, match="empty"):
        read_plain_pickle(path)


def test_a_shape_that_does_not_fit_is_refused(tmp_path):
    path = written(tmp_path, np.arange(4.0), protocol=2)
    content = path.read_bytes()
    assert content.count(b"K\x04\x85") == 1  # the shape (4,)
    path.write_bytes(content.replace(b"K\x04\x85", b"K\x05\x85"))
    with pytest.raises(FormatProblem, match="reshape"):
        read_plain_pickle(path)
