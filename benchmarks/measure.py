"""What whole processes cost: wall time, CPU time and peak memory, of several programs in turn."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
MIB = 2**20


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds on the clock, CPU seconds, peak memory in bytes.

    CPU time is user and system time of all its processes. Memory is the resident set of the largest of them; pages of
    files that it has mapped count.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Contender:
    """A program in a comparison: the command that is timed, and what runs once before, untimed, to warm the caches.

    `warm_up` is the command itself unless given. `repeats` is None for as many as the comparison asks for.
    """

    name: str
    command: Sequence[str]
    warm_up: Sequence[str] | None = None
    repeats: int | None = None


@dataclass
class Cost:
    """The runs of one contender."""

    name: str
    runs: list[Run] = field(default_factory=list)

    def values(self, quantity: str) -> list[float]:
        return [getattr(run, quantity) for run in self.runs]

    def median(self, quantity: str) -> float:
        return statistics.median(self.values(quantity))

    def spread(self, quantity: str, unit: float = 1.0, digits: int = 2) -> str:
        """Median, and the smallest and largest where there are several: "1.52 (1.49-1.60)"."""
        values = [value / unit for value in self.values(quantity)]
        middle = f"{statistics.median(values):.{digits}f}"
        return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"

    def as_json(self) -> dict:
        quantities = ("wall_seconds", "cpu_seconds", "peak_bytes")
        medians = {f"median_{quantity}": self.median(quantity) for quantity in quantities}
        return {"name": self.name, **medians, "runs": [asdict(run) for run in self.runs]}


class CommandFailed(SystemExit):
    """A command ended with another status than 0: one line on stderr, and the benchmark ends."""


def environment() -> dict[str, str]:
    """The environment that all programs get alike: ours, but Python may keep its byte code, as it does by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measure(command: Sequence[str], folder: Path, log: Path) -> Run:
    """Run a command in a folder, its output going to `log`. Raises CommandFailed with the end of its output."""
    reading, writing = os.pipe()
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(writing), *map(str, command)]
    with open(log, "wb") as output, open(reading, encoding="utf-8") as answer:
        try:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = subprocess.Popen(launcher, cwd=folder, env=environment(), pass_fds=[writing], **streams)
        finally:
            os.close(writing)
        text = answer.read()
        process.wait()
    used = json.loads(text) if text else {"status": process.returncode}
    if used["status"] != 0:
        end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        raise CommandFailed(f"`{' '.join(map(str, command))}` ended with {used['status']}: {' | '.join(end)}")
    return Run(used["wall_seconds"], used["cpu_seconds"], used["peak_bytes"])


def compare(contenders: Sequence[Contender], folder: Path, repeats: int) -> list[Cost]:
    """Run every contender once untimed, then all of them in turn, `repeats` times: what disturbs one disturbs all."""
    for number, contender in enumerate(contenders):
        say(f"{contender.name}: warming up")
        measure(contender.warm_up or contender.command, folder, folder / f"warm_up_{number}.log")
    costs = [Cost(contender.name) for contender in contenders]
    for repeat in range(repeats):
        for number, (contender, cost) in enumerate(zip(contenders, costs)):
            if repeat < (repeats if contender.repeats is None else contender.repeats):
                cost.runs.append(measure(contender.command, folder, folder / f"run_{number}.log"))
                say(f"{contender.name}: run {repeat + 1} took {cost.runs[-1].wall_seconds:.2f} s")
    return costs


def say(line: str) -> None:
    """Tell a person who waits how far it has come."""
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    """What the numbers depend on: processor, cores that we may use, system, Python, and how busy the machine was."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2)
    return {
        "processor": processor(),
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": load,
    }


def processor() -> str:
    """The model of the processor, as far as the system says."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def print_machine(facts: dict[str, object]) -> None:
    """One line of what `machine` found."""
    hardware = f"{facts['processor']}, {facts['cores']} cores, Python {facts['python']}"
    print(f"{hardware}, load {facts['load']} before the first run")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of text in aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("  ".join(cells).rstrip())


def write_json(path: Path | None, content: dict) -> None:
    """Write the content where a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
