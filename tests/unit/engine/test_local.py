"""Chunks, and sums side by side."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.local import Counter, side_by_side


def test_chunks_cover_the_rows_in_order():
    rows = np.arange(23)
    pieces = list(chunks(rows, 5))
    assert [len(p) for p in pieces] == [5, 5, 5, 5, 3]
    assert np.array_equal(np.concatenate(pieces), rows)


@pytest.mark.parametrize("box", [1, 16, 64, 128, 512, 4096])
def test_chunk_memory_is_bounded(box):
    size = chunk_size(box)
    assert 1 <= size <= 512
    assert size == 1 or size * box * box * 4 <= 24 * 2**20


def test_results_come_in_the_order_of_the_tasks():
    gate = threading.Event()

    def first() -> str:
        gate.wait(5)
        return "first"

    def second() -> str:
        gate.set()
        return "second"

    assert side_by_side([first, second], Counter(2)) == ["first", "second"]


def test_progress_adds_up_over_threads():
    seen: list[tuple[int, int]] = []
    counter = Counter(100, lambda done, total: seen.append((done, total)))
    side_by_side([lambda: [counter.add(1) for _ in range(50)] and None] * 2, counter)
    assert [done for done, _ in seen] == list(range(1, 101))


def test_the_first_failure_stops_the_others_and_is_raised():
    counter = Counter(10)
    started = threading.Event()

    def endless() -> None:
        started.set()
        while True:
            counter.add(0)

    def failing() -> None:
        started.wait(5)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        side_by_side([endless, failing], counter)
