"""Workers in processes of this machine, for work that keeps the interpreter busy: threads of one process would wait for each other.

Each process is a fresh interpreter that reads the function and then item after item from its input, and writes what comes out to its
output, as pickles. So a script needs no `if __name__ == "__main__"`, and functions come from modules that can be imported, not from
the script itself.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from vitreous.engine.allocation import keep_freed_memory
from vitreous.engine.local import Progress
from vitreous.engine.single_thread import SingleThread
from vitreous.engine.workers import IN_FLIGHT_PER_WORKER, LocalWorkers, OrderedWorkers, available_cores, in_order
from vitreous.errors import SettingsProblem, VitreousError

Item = TypeVar("Item")
Result = TypeVar("Result")
WATCHED = 1.0  # seconds between looks at whether the process that asks is still there


class ProcessWorkers(OrderedWorkers):
    """Processes of one thread each, for as long as one sum or map lasts. A second is spent on starting them: items should take several.

    `processes`: by default one for each core that this process may use. One process is this one.

    >>> import operator
    >>> ProcessWorkers(2).map_over(operator.neg, [1, 2, 3])
    [-1, -2, -3]
    """

    def __init__(self, processes: int | None = None):
        if processes is not None and processes < 1:
            raise SettingsProblem(f"{processes} workers", "at least 1")
        self._processes = processes or available_cores()

    @property
    def count(self) -> int:
        return self._processes

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
        count = max(1, min(self._processes, len(items), at_once or self._processes))
        if count == 1:
            yield from LocalWorkers(1).results(function, items, at_once, on_error, progress, bounded=bounded)
            return
        most = max(count, min(at_once or len(items), IN_FLIGHT_PER_WORKER * count))
        processes = [_Process(pickle.dumps(function, protocol=5)) for _ in range(count)]
        idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in processes:
            idle.put(process)

        def work(item: Item) -> Result:
            process = idle.get()
            try:
                return process.answer(item)
            finally:
                idle.put(process)

        with ThreadPoolExecutor(count) as pool:
            try:
                yield from in_order(
                    lambda item: pool.submit(work, item), items, lambda: most, progress, bounded=bounded
                )
            except BaseException:
                on_error()
                raise
            finally:  # whoever waits for an answer need not wait for the end of the item
                for process in processes:
                    process.end()


class _Process:
    """One interpreter that works."""

    def __init__(self, function: bytes):
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "vitreous.engine.processes", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **single},
        )
        self._function = function

    def answer(self, item: Any) -> Any:
        """The function of the item; raises what the function raised."""
        said, heard = self._popen.stdin, self._popen.stdout
        assert said is not None and heard is not None
        try:
            if self._function:  # from a thread that may wait: a pipe takes little at a time
                said.write(self._function)
                self._function = b""
            said.write(pickle.dumps(item, protocol=5))
            said.flush()
            good, result = pickle.load(heard)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise VitreousError(
                f"a process that worked has ended (exit status {self._popen.wait()})",
                "one that ends when the work does",
                "it may have needed more memory than there is: give fewer --workers",
            ) from error
        if not good:
            raise result
        return result

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not yet sent has nobody to read it
                    pipe.close()


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Read a function, then items, until the input ends; answer each with (True, its result) or (False, the error)."""
    with SingleThread() as single:
        function = _next(asked)
        while (item := _next(asked)) is not _NOTHING:
            try:
                single.hold()
                answer = (True, function(item))
            except Exception as error:
                answer = (False, error)
            answers.write(pickle.dumps(answer, protocol=5))
            answers.flush()


_NOTHING = object()


def _next(asked: BinaryIO) -> Any:
    try:
        return pickle.load(asked)
    except EOFError:
        return _NOTHING


def _end_when_left_alone(parent: int) -> None:
    """Nobody wants the result of an item whose asker was killed."""
    while os.getppid() == parent:
        time.sleep(WATCHED)
    os._exit(1)


def main() -> None:
    """What each process runs. An interruption of the command is for the process that began it to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    threading.Thread(target=_end_when_left_alone, args=(int(sys.argv[1]),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints must not stand between the answers
    try:
        serve(sys.stdin.buffer, answers)
    except BrokenPipeError:  # nobody is left to hear it
        os._exit(1)


if __name__ == "__main__":
    main()
