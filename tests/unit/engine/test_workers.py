"""Threads that share out items: order, memory, errors, interruptions, one thread of linear algebra in each."""

from __future__ import annotations

import signal
import threading
import time
import weakref

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from vitreous.engine.workers import IN_FLIGHT_PER_WORKER, LocalWorkers, available_cores, fitting
from vitreous.errors import SettingsProblem

COUNTS = [1, 2, 4]


class Terms:
    """Float32 terms of very different sizes, of which the sum depends on the order. The later an item, the sooner it is done."""

    def __init__(self, rng: np.random.Generator):
        self.values = (rng.normal(size=(24, 64)) * 10.0 ** rng.uniform(-4, 4, size=(24, 1))).astype(np.float32)

    def __call__(self, item: int) -> np.ndarray:
        time.sleep(0.002 * (23 - item) % 0.007)
        return self.values[item].copy()


def pair(left: str, right: str) -> str:
    return f"({left}+{right})"


@pytest.mark.parametrize("threads", COUNTS)
def test_additions_are_in_the_order_of_the_items_from_the_left(threads):
    def late_first(item: int) -> str:
        time.sleep(0.02 * (3 - item))
        return str(item)

    assert LocalWorkers(threads).sum_over(late_first, range(4), add=pair) == "(((0+1)+2)+3)"
    assert LocalWorkers(threads).map_over(late_first, range(4)) == ["0", "1", "2", "3"]
    assert LocalWorkers(threads).sum_over(str, [7], add=pair) == "7"
    assert LocalWorkers(threads).map_over(str, []) == []
    with pytest.raises(ValueError, match="no items"):
        LocalWorkers(threads).sum_over(str, [], add=pair)


def test_any_number_of_workers_gives_the_same_bits(rng):
    terms = Terms(rng)
    sums = [LocalWorkers(threads).sum_over(terms, range(24)) for threads in COUNTS]
    assert all(np.array_equal(sums[0], other) for other in sums)
    backwards = LocalWorkers(1).sum_over(terms, range(23, -1, -1))
    assert not np.array_equal(sums[0], backwards)  # so the order is what made them equal


def test_the_sum_may_grow_in_place_and_parts_are_let_go(rng):
    terms, kept = Terms(rng), []

    def add(total: np.ndarray, part: np.ndarray) -> np.ndarray:
        kept.append(weakref.ref(part))
        total += part
        return total

    total = LocalWorkers(2).sum_over(terms, range(24), add=add)
    assert np.array_equal(total, LocalWorkers(1).sum_over(terms, range(24)))
    assert [reference() for reference in kept] == [None] * 23


class Alive:
    """A result that counts itself as long as it exists."""

    lock, now, most = threading.Lock(), 0, 0

    def __init__(self) -> None:
        with Alive.lock:
            Alive.now += 1
            Alive.most = max(Alive.most, Alive.now)

    def __del__(self) -> None:
        with Alive.lock:
            Alive.now -= 1


@pytest.mark.parametrize(("at_once", "most"), [(None, IN_FLIGHT_PER_WORKER * 3), (3, 3), (2, 2)])
def test_memory_is_that_of_a_few_results(at_once, most):
    def slow_first(item: int) -> Alive:
        time.sleep(0.1 if item == 0 else 0.001)
        return Alive()

    Alive.now = Alive.most = 0
    LocalWorkers(3).sum_over(slow_first, range(40), add=lambda total, part: total, at_once=at_once)
    assert Alive.most <= most + 2  # the total, and the part that is being added


def test_a_slow_item_does_not_keep_a_list_waiting():
    """Results of a list are all kept: whoever is free goes on."""
    begun = []

    def slow_first(item: int) -> None:
        begun.append(item)
        if item == 0:
            deadline = time.monotonic() + 5
            while len(begun) < 20 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(begun) == 20

    LocalWorkers(2).map_over(slow_first, range(20))


def test_no_more_than_the_workers_are_in_work():
    lock, at_work, most = threading.Lock(), 0, []

    def counted(_: int) -> None:
        nonlocal at_work
        with lock:
            at_work += 1
            most.append(at_work)
        time.sleep(0.003)
        with lock:
            at_work -= 1

    LocalWorkers(3).map_over(counted, range(30))
    assert max(most) == 3
    most.clear()
    LocalWorkers(3).map_over(counted, range(10), at_once=1)
    assert max(most) == 1


@pytest.mark.parametrize("threads", COUNTS)
def test_progress_counts_every_item_once(threads):
    seen: list[tuple[int, int]] = []
    LocalWorkers(threads).sum_over(abs, range(9), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 9) for done in range(1, 10)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("threads", COUNTS)
def test_the_first_error_starts_no_other_item_and_is_raised(threads, error):
    begun, told = [], threading.Event()

    def failing(item: int) -> int:
        begun.append(item)
        if item == 1:
            raise error("broken")
        told.wait(0.2 if item < 4 else 0)
        return item

    with pytest.raises(error, match="broken"):
        LocalWorkers(threads).sum_over(failing, range(200), on_error=told.set)
    assert len(begun) < 100
    assert told.is_set() or threads == 1  # alone, nobody else is in work


def test_an_error_in_an_addition_ends_the_work():
    begun = []

    def slow(item: int) -> int:
        begun.append(item)
        time.sleep(0.005)
        return item

    def refuse(total: int, part: int) -> int:
        raise ValueError("cannot be added")

    with pytest.raises(ValueError, match="cannot be added"):
        LocalWorkers(2).sum_over(slow, range(100), add=refuse)
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count < 20


def test_an_interruption_while_waiting_ends_the_work_and_gives_the_cores_back():
    before, begun = threads_of_linear_algebra(), []

    def slow(item: int) -> int:
        begun.append(item)
        if item == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.02)
        return item

    with pytest.raises(KeyboardInterrupt):
        LocalWorkers(2).sum_over(slow, range(100))
    assert len(begun) < 20
    assert threads_of_linear_algebra() == before


def threads_of_linear_algebra() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()}


@pytest.mark.parametrize("threads", COUNTS)
def test_linear_algebra_runs_on_one_thread_meanwhile(threads):
    import scipy.linalg  # noqa: F401 - a library of its own

    before = threads_of_linear_algebra()
    during = LocalWorkers(threads).map_over(lambda _: threads_of_linear_algebra(), range(6))
    assert during == [{1}] * 6
    assert threads_of_linear_algebra() == before


def test_workers_within_workers_leave_the_outer_ones_on_one_thread():
    def inner(_: int) -> set[int]:
        LocalWorkers(2).map_over(abs, range(4))
        return threads_of_linear_algebra()

    assert LocalWorkers(2).map_over(inner, range(4)) == [{1}] * 4


@pytest.mark.parametrize("threads", [0, -2])
def test_no_workers_are_refused(threads):
    with pytest.raises(SettingsProblem, match="at least 1"):
        LocalWorkers(threads)


def test_by_default_all_cores_work():
    assert LocalWorkers().count == available_cores() >= 1


def test_what_fits_into_memory_is_never_less_than_two():
    assert fitting(10**18) == 2
    assert fitting(10**6) > fitting(10**7) >= 2
