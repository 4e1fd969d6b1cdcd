"""Files of PyTorch's, made here as it makes them: their arrays, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, FileProblem, FormatProblem, VitreousError
from vitreous.io.torch_file import STORAGES, read_state_dict

CODES = {code: name for name, code in STORAGES.items() if name != "BFloat16Storage"}


class Storage:
    """What a pickle of PyTorch's refers to by a persistent id."""

    def __init__(self, kind: type, key: str, count: int):
        self.id = ("storage", kind, key, "cpu", count)


class Tensor:
    """An array as PyTorch pickles it."""

    def __init__(self, storage: Storage, offset: int, shape: tuple, steps: tuple, make):
        self.parts, self.make = (storage, offset, shape, steps, False, OrderedDict()), make

    def __reduce__(self):
        return self.make, self.parts


@pytest.fixture
def torch(monkeypatch):
    """Modules named as PyTorch's, so that pickle can write their names."""
    top, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES:
        setattr(top, name, type(name, (), {"__module__": "torch"}))
    exec("def _rebuild_tensor_v2(*parts): pass\ndef _rebuild_parameter(*parts): pass", utils.__dict__)
    top._utils = utils
    monkeypatch.setitem(sys.modules, "torch", top)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return top


class Writer:
    """`torch.save`, in short."""

    def __init__(self, torch, path: Path, order: str = "little", compression: int = zipfile.ZIP_STORED):
        self.torch, self.path, self.order, self.compression = torch, path, order, compression
        self.stored: list[bytes] = []

    def tensor(self, array: np.ndarray, *, kind: str | None = None, offset: int = 0, shape=None, steps=None) -> Tensor:
        """An array, or that part of its elements which `offset`, `shape` and `steps` name."""
        kind = kind or CODES[array.dtype.str[1:] if array.dtype != bool else "?"]
        storage = Storage(getattr(self.torch, kind), str(len(self.stored)), array.size)
        self.stored.append(np.ascontiguousarray(array).astype(array.dtype.newbyteorder(self.order[0])).tobytes())
        own = tuple(step // array.itemsize for step in array.strides)
        return Tensor(storage, offset, shape or array.shape, steps or own, self.torch._utils._rebuild_tensor_v2)

    def save(self, content) -> Path:
        stream = io.BytesIO()
        pickler = pickle.Pickler(stream, protocol=2)
        pickler.persistent_id = lambda value: value.id if isinstance(value, Storage) else None
        pickler.dump(content)
        with zipfile.ZipFile(self.path, "w", self.compression) as archive:
            archive.writestr("run/data.pkl", stream.getvalue())
            archive.writestr("run/byteorder", self.order)
            for number, content in enumerate(self.stored):
                archive.writestr(f"run/data/{number}", content)
        return self.path


@pytest.fixture
def writer(torch, tmp_path) -> Writer:
    return Writer(torch, tmp_path / "weights.pkl")


@pytest.mark.parametrize("order", ["little", "big"])
def test_arrays_come_back(torch, tmp_path, rng, order):
    writer = Writer(torch, tmp_path / "weights.pkl", order)
    arrays = {code: (100 * rng.normal(size=(3, 4))).astype(code) for code in CODES} | {"scalar": np.array(2.5, "f4")}
    state = OrderedDict((name, writer.tensor(array)) for name, array in arrays.items())
    state.note = "kept by PyTorch beside the arrays"
    whole = rng.normal(size=20).astype(np.float32)
    state["part"] = writer.tensor(whole, offset=2, shape=(3, 2), steps=(1, 3))  # columns of a larger array
    halves = rng.normal(size=5).astype(np.float32)
    state["brain"] = writer.tensor((halves.view(np.uint32) >> 16).astype(np.uint16), kind="BFloat16Storage")
    state["parameter"] = Tensor(None, 0, (), (), torch._utils._rebuild_parameter)
    state["parameter"].parts = (writer.tensor(whole), True, OrderedDict())
    read = read_state_dict(
        writer.save({"epoch": 3, "model_state_dict": state, "other": [1, 2.0, None]}), "model_state_dict"
    )
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array), name
    np.testing.assert_array_equal(read["part"], whole[2:8].reshape(2, 3).T)
    np.testing.assert_allclose(read["brain"], halves, rtol=2**-7)  # a mantissa of 7 bits, cut
    np.testing.assert_array_equal(read["parameter"], whole)


def test_an_array_beyond_its_bytes_is_refused(writer):
    for part in (
        {"offset": 1, "shape": (4,), "steps": (1,)},
        {"shape": (9, 9), "steps": (0, 0)},
        {"shape": (2,), "steps": (-1,)},
    ):
        array = writer.tensor(np.arange(4.0), **part)
        with pytest.raises(FormatProblem):
            read_state_dict(writer.save({"a": OrderedDict(x=array)}), "a")


def test_bytes_that_are_short_or_compressed_are_refused(torch, tmp_path):
    writer = Writer(torch, tmp_path / "w.pkl")
    state = {"a": OrderedDict(x=writer.tensor(np.arange(4.0)))}
    writer.stored[0] = writer.stored[0][:-8]
    with pytest.raises(FormatProblem, match="3 instead of 4"):
        read_state_dict(writer.save(state), "a")
    writer = Writer(torch, tmp_path / "w.pkl", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatProblem, match="compressed"):
        read_state_dict(writer.save({"a": OrderedDict(x=writer.tensor(np.zeros(1000)))}), "a")


class Command:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_call_is_refused_by_name_and_not_made(writer, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataProblem, match="system") as refused:
        read_state_dict(writer.save({"a": OrderedDict(x=Command())}), "a")
    assert "\n" not in refused.value.line() and not (tmp_path / "ran").exists()


def test_a_state_for_what_is_not_a_value_is_refused(writer):
    """A pickle may give any object that it names a state: here a class and a type of elements."""
    for name in (b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n"):
        with zipfile.ZipFile(writer.path, "w") as archive:
            archive.writestr("run/data.pkl", b"\x80\x02" + name + b"}b.")
        with pytest.raises(FormatProblem, match="state"):
            read_state_dict(writer.path, "a")


def test_other_files_are_refused_in_one_line(writer, tmp_path):
    whole = writer.save({"a": OrderedDict(x=writer.tensor(np.arange(4.0)))}).read_bytes()
    cases = {"cut": whole[:-40], "old": pickle.dumps({"a": 1}), "text": b"weights"}
    for name, content in cases.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(content)
        with pytest.raises(FormatProblem) as refused:
            read_state_dict(path, "a")
        assert name in refused.value.line() and "torch.save" in refused.value.line()
    with pytest.raises(DataProblem, match=r"no entry model.*it has: a"):
        read_state_dict(writer.path, "model")
    with pytest.raises(FileProblem):
        read_state_dict(tmp_path / "none.pkl", "a")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(FormatProblem, match=r"no data\.pkl"):
        read_state_dict(tmp_path / "other.zip", "a")


WHOLE = (Path(__file__).resolve().parents[2] / "agreement" / "cryodrgn" / "weights.pkl").read_bytes()
PICKLE = slice(0, 8000)  # where its pickle lies


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, PICKLE.stop), st.integers(0, 255)), max_size=12), st.data())
def test_any_bytes_end_in_arrays_or_in_one_line(tmp_path_factory, edits, data):
    content = bytearray(WHOLE)
    for place, value in edits:
        content[place] = value
    path = tmp_path_factory.mktemp("fuzz") / "w.pkl"
    path.write_bytes(bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(1, len(content))))]))
    try:
        read_state_dict(path, "model_state_dict")
    except VitreousError as error:
        assert "\n" not in error.line()
