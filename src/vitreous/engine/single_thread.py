"""Linear algebra on one thread: workers fill the cores themselves, and the number of threads can change the last bit of a product."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any


class SingleThread:
    """While the block lasts, libraries of linear algebra and OpenMP use one thread for each thread that has called `hold`.

        with SingleThread() as single:
            single.hold()   # in each thread, before each piece of work: libraries may have been loaded since the last

    At the end the libraries have the number of threads that they had before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._former: dict[str, tuple[Any, int]] = {}  # of each library file: what controls it, the number it had
        self._seen = threading.local()

    def __enter__(self) -> SingleThread:
        self.hold()
        return self

    def hold(self) -> None:
        """Limit the libraries that are loaded now. Costs nothing if no module was imported since the last call in this thread."""
        if getattr(self._seen, "modules", 0) == len(sys.modules):
            return
        from threadpoolctl import ThreadpoolController

        with self._lock:
            for library in ThreadpoolController().lib_controllers:
                self._former.setdefault(library.filepath, (library, library.num_threads or 1))
                library.set_num_threads(1)
        self._seen.modules = len(sys.modules)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for library, threads in self._former.values():
            library.set_num_threads(threads)
