"""Running independent sums in this process, one thread each, with one progress count."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
Progress = Callable[[int, int], None]  # (items done, items in all)


def silent(done: int, total: int) -> None:
    """A progress report that nobody reads."""


class Counter:
    """Adds up the items done by several threads and reports the sum. `stop` makes the next count raise in every thread.

    A counter that is sent to another process counts there for nobody: whoever sent it learns by other ways how far the work is, and
    says so by `reach`.
    """

    def __init__(self, total: int, report: Progress = silent):
        self.total, self.done, self._report = total, 0, report
        self._reached = 0
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def add(self, items: int) -> None:
        if self._stopped.is_set():
            raise InterruptedError("another part of the job failed")
        with self._lock:
            self.done += items
            self._tell(self.done)

    def reach(self, done: int) -> None:
        """At least so many items are done, whoever did them."""
        with self._lock:
            self._tell(done)

    def _tell(self, done: int) -> None:
        if done > self._reached:
            self._reached = done
            self._report(done, self.total)

    def __reduce__(self) -> tuple:
        return (Counter, (self.total,))

    def stop(self) -> None:
        self._stopped.set()


def side_by_side(tasks: Sequence[Callable[[], Result]], counter: Counter) -> list[Result]:
    """Run each task in a thread of its own and return their results in the order given.

    The work must release the interpreter lock (array code does). The first error stops the others and is raised.
    """
    if len(tasks) == 1:
        return [tasks[0]()]

    def guarded(task: Callable[[], Result]) -> Result:
        try:
            return task()
        except BaseException:
            counter.stop()
            raise

    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(guarded, task) for task in tasks]
    failures = [error for future in futures if (error := future.exception()) is not None]
    # The first real failure says what went wrong; the interruptions it caused in the other threads do not.
    for error in sorted(failures, key=lambda e: isinstance(e, InterruptedError)):
        raise error
    return [future.result() for future in futures]
