"""A function over many items, a few at a time: memory is that of the items in work, not of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from vitreous.engine.local import Progress, silent

Item = TypeVar("Item")
Result = TypeVar("Result")


def over_items(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, progress: Progress = silent
) -> list[Result]:
    """`[function(item) for item in items]`, `workers` of them at the same time in threads; results in the order of the items.

    The work must release the interpreter lock (array code does). `progress` counts finished items, one call at a time. The first error, and
    an interruption, lets the items in work end, starts no other, and is raised.
    """
    done = 0

    def count(future: Future[Result]) -> None:
        nonlocal done
        if not future.cancelled() and future.exception() is None:
            done += 1
            progress(done, len(items))

    with ThreadPoolExecutor(max(1, min(workers, len(items)))) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            waiting = set(futures)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    count(future)
                    future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]
