"""Run one command and write what it used to a file descriptor as JSON: wall and CPU seconds, peak memory, exit status.

    python -I -S launcher.py DESCRIPTOR COMMAND [ARGUMENT ...]

A process of its own, and as small a one as can be: on Linux a new process inherits the peak memory of the one that
started it, so that a large parent would be mistaken for the command. CPU time and memory are those of the command and
of every process that it waited for.
"""

import json
import os
import sys
import time


def launch(command: list[str]) -> dict[str, float]:
    """Run the command, its output going where ours goes."""
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return {
        "wall_seconds": wall,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
        "status": os.waitstatus_to_exitcode(status),
    }


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)  # it is ours: the command must not keep it open
    with open(int(sys.argv[1]), "w", encoding="utf-8") as stream:
        json.dump(launch(sys.argv[2:]), stream)
