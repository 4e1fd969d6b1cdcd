"""Workers: who computes a function of many items, in which the answer does not depend on who computed what.

A long computation is cut into items in a way that depends on the data alone (a fixed number of particles, say), never on the number of
workers. Sums are added in the order of the items, one after the other, so that any number of workers gives the same bits.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from vitreous.engine.local import Progress, silent
from vitreous.engine.single_thread import SingleThread
from vitreous.errors import SettingsProblem

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items in work and results that wait for their turn to be added are together at most this many for each worker: with one, a worker would
# idle while another finishes what must be added before its own.
IN_FLIGHT_PER_WORKER = 2


_NOTHING: Any = object()


def nothing() -> None:
    """What is done about an error by those who have nothing to do about it."""


def ignored(result: Any) -> None:
    """What is done about a result by those who wait for all of them."""


def plus(total: Any, result: Any) -> Any:
    """total + result"""
    return total + result


class Workers(Protocol):
    """Computes `function(item)` for many items; `count` is how many at the same time.

    Functions are picklable: frozen dataclasses with `__call__`, functions of a module, `functools.partial` of these. What is large and
    the same for all items (references, tables) belongs to the function, which travels once in a call; what an item names (rows, a
    path) belongs to the item. `progress` counts finished items. The first error stops the rest and is raised.
    """

    @property
    def count(self) -> int: ...

    def sum_over(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        add: Callable[[Result, Result], Result] = plus,
        at_once: int | None = None,
        on_error: Callable[[], None] = nothing,
        progress: Progress = silent,
    ) -> Result:
        """`((f(items[0]) + f(items[1])) + f(items[2])) + ...`, additions in this order whoever computed what.

        Results need `+`, or `add(total, result)`, which may change and return `total`: nobody else has it. `at_once`: at most this
        many items in work and results waiting, for results that are large; memory is that of these, however many items there are.
        `on_error` is called before the items in work are waited for, so that they may end early. Raises ValueError for no items: the
        sum of nothing has no type.
        """
        ...

    def map_over(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        at_once: int | None = None,
        on_error: Callable[[], None] = nothing,
        on_result: Callable[[Result], None] = ignored,
        progress: Progress = silent,
    ) -> list[Result]:
        """`[f(items[0]), f(items[1]), ...]`, results in the order of the items. `at_once`: at most this many items in work. `on_result` is given
        each result, in this order, as soon as those before it are there."""
        ...


class OrderedWorkers(ABC):
    """Workers made of one method: the results of a function in the order of the items, one after the other."""

    @abstractmethod
    def results(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        at_once: int | None,
        on_error: Callable[[], None],
        progress: Progress,
        *,
        bounded: bool,
    ) -> Generator[Result, None, None]:
        """The results; if `bounded`, few of them in memory at a time. The other options are those of `Workers`."""
        ...

    def sum_over(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        add: Callable[[Result, Result], Result] = plus,
        at_once: int | None = None,
        on_error: Callable[[], None] = nothing,
        progress: Progress = silent,
    ) -> Result:
        """The sum, added from the left."""
        with closing(self.results(function, items, at_once, on_error, progress, bounded=True)) as results:
            total = next(results, _NOTHING)
            if total is _NOTHING:
                raise ValueError("the sum of no items")
            for result in results:
                total = add(total, result)
                del result  # frees it before the next is made
            return total

    def map_over(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        at_once: int | None = None,
        on_error: Callable[[], None] = nothing,
        on_result: Callable[[Result], None] = ignored,
        progress: Progress = silent,
    ) -> list[Result]:
        """The list of the results."""
        found = []
        with closing(self.results(function, items, at_once, on_error, progress, bounded=False)) as results:
            for result in results:
                on_result(result)
                found.append(result)
        return found


class LocalWorkers(OrderedWorkers):
    """Threads of this process: for array code, which releases the interpreter lock. Linear algebra runs on one thread in each.

    `threads`: by default one for each core that this process may use.

    >>> LocalWorkers(2).sum_over(abs, [-1, 2, -3])
    6
    >>> LocalWorkers(2).map_over(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(self, threads: int | None = None):
        if threads is not None and threads < 1:
            raise SettingsProblem(f"{threads} workers", "at least 1")
        self._threads = threads or available_cores()

    @property
    def count(self) -> int:
        return self._threads

    def results(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        at_once: int | None,
        on_error: Callable[[], None],
        progress: Progress,
        *,
        bounded: bool,
    ) -> Generator[Result, None, None]:
        threads = max(1, min(self._threads, len(items), at_once or self._threads))
        with SingleThread() as single:

            def work(item: Item) -> Result:
                single.hold()
                return function(item)

            if threads == 1:
                for done, item in enumerate(items, start=1):
                    yield work(item)
                    progress(done, len(items))
                return
            most = max(threads, min(at_once or len(items), IN_FLIGHT_PER_WORKER * threads))
            with ThreadPoolExecutor(threads) as pool:
                try:
                    submit = partial(pool.submit, work)
                    yield from in_order(submit, items, lambda: most, progress, bounded=bounded)
                except BaseException:
                    on_error()
                    raise


def in_order(
    submit: Callable[[Item], Future[Result]],
    items: Sequence[Item],
    most: Callable[[], int],
    progress: Progress,
    *,
    bounded: bool,
) -> Generator[Result, None, None]:
    """Results in the order of the items, `most()` of which are in work at the same time; if `bounded`, those that wait to be taken count too.

    The first error is raised as soon as it is known, and no other item is begun.
    """
    waiting: deque[Future[Result]] = deque()  # in the order of the items, from the next to be taken
    running: set[Future[Result]] = set()
    following, done = iter(items), 0
    try:
        while True:
            room = max(1, most()) - len(waiting if bounded else running)
            for item in islice(following, max(0, room)):
                waiting.append(submit(item))
                running.add(waiting[-1])
            if not waiting:
                return
            if waiting[0] not in running:
                yield waiting.popleft().result()
                continue
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                done += 1
                progress(done, len(items))
            del finished, future  # or they would keep results that have been taken
    finally:  # an error, an interruption, or a taker that had enough: what has not begun never will
        for future in waiting:
            future.cancel()


def available_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def fitting(result_bytes: int) -> int:
    """How many results of this size a quarter of the machine's memory holds, at least 2."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return 2
    return max(2, memory // 4 // max(1, result_bytes))
