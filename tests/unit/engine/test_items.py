"""A function over many items: order, bounds, progress, failures, interruptions."""

from __future__ import annotations

import threading
import time

import pytest

from vitreous.engine.items import over_items


def test_results_are_in_the_order_of_the_items():
    def late_first(item: int) -> int:
        time.sleep(0.02 * (3 - item))
        return item * item

    assert over_items(late_first, range(4), workers=4) == [0, 1, 4, 9]
    assert over_items(late_first, [], workers=2) == []


def test_no_more_than_the_workers_are_in_work():
    lock, at_work, most = threading.Lock(), 0, 0

    def counted(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.005)
        with lock:
            at_work -= 1

    over_items(counted, range(20), workers=3)
    assert most == 3


def test_progress_counts_every_item_once():
    seen: list[tuple[int, int]] = []
    over_items(lambda item: item, range(9), workers=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 9) for done in range(1, 10)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_first_error_starts_no_other_item_and_is_raised(error):
    started = []

    def failing(item: int) -> None:
        started.append(item)
        if item == 1:
            raise error("broken")
        time.sleep(0.01)

    with pytest.raises(error, match="broken"):
        over_items(failing, range(200), workers=2)
    assert len(started) < 100  # those waiting were let go
