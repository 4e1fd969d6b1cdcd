"""Checkpoints: what is loaded is what was saved, to the last bit; damaged, foreign and older files are refused in words."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum

import numpy as np
import pytest

from vitreous.alignment.assignment import unassigned
from vitreous.alignment.classification import Classification
from vitreous.alignment.refinement import Refinement, RefineSettings, RefineStep
from vitreous.engine.checkpoint import load_state, save_state
from vitreous.errors import DataProblem, FileProblem, OutputProblem
from vitreous.model.pose import Pose


class Colour(StrEnum):
    RED = "r"
    GREEN = "g"


@dataclass(frozen=True)
class Inner:
    value: float
    items: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    colour: Colour
    inner: Inner | None
    many: tuple[Inner, ...]
    array: np.ndarray
    flag: bool
    single: np.float32
    count: int


def outer(**changes) -> Outer:
    state = Outer(
        "pentagram ⛤ \x00",
        Colour.GREEN,
        Inner(math.nan, (1, 2)),
        (Inner(math.inf), Inner(-0.0, (3,))),
        np.arange(6, dtype=np.complex64).reshape(2, 3)[:, ::-1],
        True,
        np.float32(0.1),
        2**60,
    )
    return replace(state, **changes)


def refinement(count: int = 5) -> Refinement:
    rng = np.random.default_rng(1)
    cube = rng.normal(size=(2, 1, 4, 4, 4)).astype(np.float32)
    step = RefineStep(float("inf"), 2, 4.0, 12.5, -1e5, 0.3, 0.1, 1.5, math.nan, 2.0)
    return Refinement(
        3,
        cube,
        cube * 2,
        np.ones(1),
        rng.normal(size=(1, 3)),
        rng.normal(size=(2, 1, 3)),
        np.ones(2),
        unassigned(count, Pose(rng.normal(size=(count, 3)), rng.normal(size=(count, 2)))),
        np.array([1, 2, 1, 2, 1], dtype=np.int8),
        (step, replace(step, order=3)),
        False,
    )


def assert_same(one, other, name="state"):
    """Equal to the last bit, types included: NaN is NaN, -0.0 is not 0.0, float32 is not float64."""
    assert type(one) is type(other), name
    if is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name), f"{name}.{field.name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), name
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_same(first, second, f"{name}.{index}")
    elif isinstance(one, np.ndarray | np.generic):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes(), name
    elif isinstance(one, float):
        assert repr(one) == repr(other), name
    else:
        assert one == other, name


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (outer(), Outer),
        (outer(inner=None, many=(), array=np.zeros((0, 3))), Outer),
        (refinement(), Refinement),
        (replace(refinement(), steps=(), converged=True), Refinement),
        (RefineSettings(symmetry="D2", finest=None), RefineSettings),
    ],
)
def test_what_is_loaded_is_what_was_saved(tmp_path, state, kind):
    save_state(tmp_path / "state.npz", state)
    assert_same(load_state(tmp_path / "state.npz", kind), state)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]  # nothing temporary stays


def test_a_difference_of_one_bit_would_be_seen():
    with pytest.raises(AssertionError):
        assert_same(outer(), outer(many=(Inner(math.inf), Inner(0.0, (3,)))))
    with pytest.raises(AssertionError):
        assert_same(refinement(), replace(refinement(), scale=np.nextafter(np.ones(2), 2)))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "state.npz"
    save_state(path, refinement())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataProblem, match="damaged"):
        load_state(path, Refinement)


def test_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "state.npz"
    state = replace(refinement(), half_maps=np.full((2, 1, 32, 32, 32), 7.0, dtype=np.float32))
    save_state(path, state)
    content = bytearray(path.read_bytes())
    at = content.find(np.float32(7.0).tobytes() * 100) + 200
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataProblem, match="damaged"):  # by the check sum of the archive
        load_state(path, Refinement)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileProblem, match=r"none\.npz"):
        load_state(tmp_path / "none.npz", Refinement)
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", state=np.array([{"a": 1}], dtype=object))  # pickled inside
    np.save(tmp_path / "one.npy", np.ones(3))
    for name in ("text.npz", "arrays.npz", "objects.npz", "one.npy"):
        with pytest.raises(DataProblem, match="not a saved state"):
            load_state(tmp_path / name, Refinement)


def test_a_state_of_another_class_is_named(tmp_path):
    save_state(tmp_path / "state.npz", refinement())
    with pytest.raises(DataProblem, match="class Refinement; expected Classification"):
        load_state(tmp_path / "state.npz", Classification)


def rewritten(path, change):
    """The file with its JSON header changed."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays["state"].tobytes())
    change(header)
    arrays["state"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)


def test_states_of_other_versions_are_refused(tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, outer())
    rewritten(path, lambda header: header.update(format=99))
    with pytest.raises(DataProblem, match="format 99"):
        load_state(path, Outer)
    save_state(path, outer())
    rewritten(path, lambda header: header["content"]["fields"]["inner"]["fields"].pop("items"))
    with pytest.raises(DataProblem, match="another version of the program: Inner differs in items"):
        load_state(path, Outer)
    save_state(path, outer())
    rewritten(path, lambda header: header["content"]["fields"]["colour"].update(member="BLUE"))
    with pytest.raises(DataProblem, match="BLUE; expected one of RED, GREEN"):
        load_state(path, Outer)


def test_a_file_cannot_name_classes_that_the_state_does_not(tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, outer())
    rewritten(path, lambda header: header["content"]["fields"]["inner"].update({"class": "Pose"}))
    with pytest.raises(DataProblem, match="holds a Pose inside a Outer"):
        load_state(path, Outer)


def test_values_that_cannot_be_kept_are_refused_when_saving(tmp_path):
    path = tmp_path / "state.npz"
    with pytest.raises(TypeError, match=r"state\.array is an array of objects"):
        save_state(path, outer(array=np.array(["a", 1], dtype=object)))
    with pytest.raises(TypeError, match=r"state\.name is of type list"):
        save_state(path, outer(name=[1]))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    save_state(path, outer(count=1))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputProblem, match="No space left"):
        save_state(path, outer(count=2))
    monkeypatch.undo()
    assert load_state(path, Outer).count == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"]
    with pytest.raises(OutputProblem, match="cannot be written"):
        save_state(tmp_path / "absent" / "state.npz", outer())
