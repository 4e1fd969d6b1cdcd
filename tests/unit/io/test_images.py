"""Particle images over many stacks: found, checked, and read in any order."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem
from vitreous.io import images as module
from vitreous.io.images import find_stack, open_images
from vitreous.io.mrc_stack import write_stack
from vitreous.model.particles import ImageName

STACKS = {"a.mrcs": 5, "b.mrcs": 3, "sub/c.mrcs": 4}


@pytest.fixture
def stacks(tmp_path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for name, count in STACKS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        made[name] = rng.normal(size=(count, 6, 6)).astype(np.float32)
        write_stack(tmp_path / name, made[name], 1.5, mode=2 if name != "b.mrcs" else 12)
    made["b.mrcs"] = made["b.mrcs"].astype(np.float16).astype(np.float32)
    return made


def names(rows: list[tuple[str, int]]) -> ImageName:
    paths = tuple(dict.fromkeys(path for path, _ in rows))
    return ImageName(
        np.array([index for _, index in rows]), np.array([paths.index(path) for path, _ in rows], dtype=np.int32), paths
    )


ROWS = [("a.mrcs", 0), ("a.mrcs", 1), ("sub/c.mrcs", 3), ("b.mrcs", 2), ("a.mrcs", 4), ("b.mrcs", 0), ("sub/c.mrcs", 0)]


@pytest.mark.parametrize(
    "selection",
    [
        slice(None),
        slice(1, 5),
        slice(None, None, -1),
        np.array([6, 0, 0, 3]),
        np.array([], dtype=int),
        np.arange(7) % 2 == 0,
    ],
)
def test_any_rows_in_any_order(tmp_path, stacks, selection):
    source = open_images(names(ROWS), tmp_path)
    expected = np.array([stacks[path][index] for path, index in ROWS])
    assert source.shape == (7, 6, 6) and len(source) == 7 and source.pixel_size == pytest.approx(1.5)
    found = source.read(selection)
    assert found.dtype == np.float32 and np.array_equal(found, expected[selection])
    assert np.array_equal(source.rows(selection).read(slice(None)), expected[selection])


def test_few_open_maps(tmp_path, stacks, monkeypatch):
    monkeypatch.setattr(module, "_OPEN_STACKS", 1)
    source = open_images(names(ROWS), tmp_path)
    expected = np.array([stacks[path][index] for path, index in ROWS])
    for _ in range(2):
        assert np.array_equal(source.read(slice(None)), expected)
        assert len(source.maps._open) == 1


def test_travels_between_processes_without_its_maps(tmp_path, stacks):
    source = open_images(names(ROWS), tmp_path)
    first = source.read(slice(None))
    packed = pickle.dumps(source)
    assert len(packed) < 4000
    assert np.array_equal(pickle.loads(packed).read(slice(None)), first)


def test_paths(tmp_path, stacks):
    """The folder of the file, then its parents, then --datadir, there also by the last part of the name."""
    deep = tmp_path / "sub" / "job" / "run"
    deep.mkdir(parents=True)
    assert find_stack("a.mrcs", tmp_path) == tmp_path / "a.mrcs"
    assert find_stack(">a.mrcs", tmp_path) == tmp_path / "a.mrcs"
    assert find_stack("sub/c.mrcs", deep) == tmp_path / "sub/c.mrcs"
    assert find_stack("moved/to/a.mrcs", Path("/")) is None
    assert find_stack("moved/to/a.mrcs", Path("/"), [tmp_path]) == tmp_path / "a.mrcs"
    assert find_stack("sub/c.mrcs", Path("/"), [tmp_path]) == tmp_path / "sub/c.mrcs"
    assert find_stack(str(tmp_path / "a.mrcs"), Path("/")) == tmp_path / "a.mrcs"
    assert find_stack("bad\0name", tmp_path) is None


def test_faults(tmp_path, stacks):
    with pytest.raises(FileProblem, match=r"'absent.mrcs' was not found.*--datadir"):
        open_images(names([("a.mrcs", 0), ("absent.mrcs", 0)]), tmp_path)
    with pytest.raises(DataProblem, match=r"row 2 names image 6 of .*a.mrcs; expected an image number from 1 to 5"):
        open_images(names([("a.mrcs", 4), ("a.mrcs", 5)]), tmp_path)
    with pytest.raises(DataProblem, match="row 1 names image 0"):
        open_images(names([("a.mrcs", -1)]), tmp_path)
    write_stack(tmp_path / "large.mrcs", np.zeros((2, 8, 8)), 1.5)
    with pytest.raises(DataProblem, match=r"6 pixels in .*a.mrcs and of 8 pixels in .*large.mrcs"):
        open_images(names([("a.mrcs", 0), ("large.mrcs", 0)]), tmp_path)
    with pytest.raises(DataProblem, match="no particles"):
        open_images(names([]), tmp_path)
    whole = (tmp_path / "a.mrcs").read_bytes()
    (tmp_path / "a.mrcs").write_bytes(whole[:-100])
    with pytest.raises(FileProblem, match="truncated"):
        open_images(names([("a.mrcs", 0)]), tmp_path)


def test_a_stack_that_no_row_names_need_not_exist(tmp_path, stacks):
    chosen = names([("a.mrcs", 0), ("absent.mrcs", 0)]).rows(np.array([0]))
    assert np.array_equal(open_images(chosen, tmp_path).read(slice(None)), stacks["a.mrcs"][:1])


def test_nan_passes_to_the_consumer(tmp_path):
    pixels = np.zeros((2, 4, 4), dtype=np.float32)
    pixels[1, 2, 3] = np.nan
    write_stack(tmp_path / "nan.mrcs", pixels, 1.0)
    found = open_images(names([("nan.mrcs", 0), ("nan.mrcs", 1)]), tmp_path).read(slice(None))
    assert np.array_equal(np.isnan(found), np.isnan(pixels))
