"""A disk that fills up while a file is written: one clear error, and nothing half-written left behind."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import OutputProblem
from vitreous.io.cs_container import write_dataset
from vitreous.io.mrc_stack import StackWriter, write_stack, write_volume
from vitreous.io.star import write_star
from vitreous.model.table import Table
from vitreous.model.volume import Volume

LIMIT = 1 << 14
BIG = Table({"uid": np.arange(5000, dtype=np.uint64), "a/b": np.random.default_rng(0).normal(size=5000)})


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond LIMIT: the system refuses the write as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def chunked(path: Path) -> None:
    with StackWriter(path, 1.0) as writer:
        for _ in range(10):
            writer.append(np.zeros((4, 32, 32)))


WRITERS: dict[str, Callable[[Path], None]] = {
    "volume": lambda path: write_volume(path, Volume(np.zeros((32, 32, 32), np.float32), 1.0)),
    "stack": lambda path: write_stack(path, np.zeros((32, 32, 32)), 1.0),
    "chunked stack": chunked,
    "star": lambda path: write_star(path, {"x": BIG.without("uid")}),
    "cs, numpy": lambda path: write_dataset(path, BIG),
    "cs, csdat": lambda path: write_dataset(path, BIG, container="csdat"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk(tmp_path, name):
    path = tmp_path / "out"
    path.write_text("what was there before")
    with small_disk(), pytest.raises(OutputProblem, match="out cannot be written: the file is too large") as caught:
        WRITERS[name](path)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and path.read_text() == "what was there before"


@pytest.mark.parametrize("name", WRITERS)
def test_missing_folder(tmp_path, name):
    with pytest.raises(OutputProblem, match="its folder does not exist"):
        WRITERS[name](tmp_path / "absent" / "out")


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_writers_work_where_there_is_room(tmp_path, name):
    """The faults above are faults of the disk, not of the writers."""
    WRITERS[name](tmp_path / "out")
    assert (tmp_path / "out").stat().st_size > LIMIT
