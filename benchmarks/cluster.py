"""What more workers gain: `vitreous reconstruct` and `vitreous classify2d` by one and by more workers of one thread each.

    python benchmarks/cluster.py [--count 20000] [--box 64] [--workers 1 2] [--jobs reconstruct classify2d] [--json FILE]

Timed are the work itself (reading the particles and what the workers do, in a process that has loaded everything; processes of Dask have
been started and have worked once) and whole commands, start of the processes included. Threads and processes take turns, so that a
disturbance hits all alike. All results of a job are compared: they must be the same to the last bit, whoever made them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from measure import Contender, Cost, Run, compare, machine, print_machine, print_table, say, write_json
from programs import Program, vitreous
from reconstruct import Size, simulate

IN_PROCESS, PROCESSES = "threads", "processes"
ONE = {IN_PROCESS: "thread", PROCESSES: "process"}
CLASSES, ITERATIONS = 10, 3
TIMED_TOGETHER = 500  # particles of the warm-up


@dataclass(frozen=True)
class Task:
    """A job that is timed: its command, and its work as a function of particles and workers whose result is arrays."""

    name: str
    words: tuple[str, ...]
    work: Callable[[Any, Any], tuple[np.ndarray, ...]]


def reconstruct_work(particles: Any, workers: Any) -> tuple[np.ndarray, ...]:
    from vitreous.geometry.symmetry import point_group
    from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct

    settings = InversionSettings(point_group("C1").operators, mask_radius=0.4 * particles.images.shape[-1])
    result = reconstruct(particles, settings, workers=workers)
    return (result.map, *result.half_maps)


def classify_work(particles: Any, workers: Any) -> tuple[np.ndarray, ...]:
    from vitreous.alignment.classification import ClassifySettings
    from vitreous.alignment.classify2d import classify2d

    width = particles.images.shape[-1] * particles.pixel_size
    settings = ClassifySettings(
        CLASSES, ITERATIONS, diameter=0.85 * width, shift_range=0.1 * width, shift_step=2 * particles.pixel_size
    )
    result = classify2d(particles, settings, workers=workers)
    return result.averages, result.assignment.pose.euler, result.assignment.log_evidence


TASKS = {
    "reconstruct": Task("reconstruct", ("--diameter", "330"), reconstruct_work),
    "classify2d": Task("classify2d", ("--classes", str(CLASSES), "--iterations", str(ITERATIONS)), classify_work),
}


@contextmanager
def everybody(counts: list[int]) -> Iterator[dict[tuple[str, int], Any]]:
    """Threads and processes, as many as each count says, by (kind, count). Nobody works but who is asked."""
    from vitreous.engine.distributed import dask_workers
    from vitreous.engine.workers import LocalWorkers

    with ExitStack() as stack:
        found: dict[tuple[str, int], Any] = {(IN_PROCESS, count): LocalWorkers(count) for count in counts}
        for count in counts:
            say(f"starting {count} processes")
            found[PROCESSES, count] = stack.enter_context(dask_workers("local", count))
        yield found


def time_work(task: Task, star: Path, counts: list[int], repeats: int) -> list[Cost]:
    """Seconds of the work by each kind and number of workers. Ends the benchmark if two of them do not agree to the last bit."""
    from vitreous.io.particles import read_particles

    first: tuple[np.ndarray, ...] | None = None
    with everybody(counts) as workers:
        particles = read_particles(star)
        few = particles.rows(np.arange(min(TIMED_TOGETHER, len(particles))))
        costs = {key: Cost(label(*key)) for key in workers}
        for key, crew in workers.items():
            say(f"{label(*key)}: warming up")
            task.work(few, crew)
        for _ in range(repeats):
            for key, crew in workers.items():
                clock, cpu = time.perf_counter(), time.process_time()
                result = task.work(read_particles(star), crew)
                costs[key].runs.append(Run(time.perf_counter() - clock, time.process_time() - cpu, 0))
                first = result if first is None else first
                if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, result, strict=True)):
                    sys.exit(f"{task.name}: {label(*key)} gave another result")
    return list(costs.values())


def time_commands(task: Task, program: Program, folder: Path, counts: list[int], repeats: int) -> list[Cost]:
    """Whole commands by each kind and number of workers."""
    contenders = []
    for kind in (IN_PROCESS, PROCESSES):
        for count in counts:
            out = f"{task.name}_{kind}_{count}"
            words = ["particles.star", *task.words, "--out", out, "--force", "--workers", str(count)]
            words += ["--cluster", "local"] if kind == PROCESSES else []
            contenders.append(Contender(label(kind, count), [program.path, task.name, *words]))
    return compare(contenders, folder, repeats)


def label(kind: str, count: int) -> str:
    return f"{count} {kind}" if count != 1 else f"1 {ONE[kind]}"


def print_gains(title: str, costs: list[Cost]) -> dict[str, float]:
    """Wall seconds, and how many times faster than the fewest of the same kind."""
    rows, gains = [[title, "wall s", "runs", "gain"]], {}
    base = costs[0]
    for cost in costs:
        base = cost if cost.name.split()[0] == base.name.split()[0] else base
        gains[cost.name] = base.median("wall_seconds") / cost.median("wall_seconds")
        rows.append([cost.name, cost.spread("wall_seconds"), str(len(cost.runs)), f"{gains[cost.name]:.2f}"])
    print_table(rows)
    return gains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="particles")
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="the fewest are what the others are compared with"
    )
    parser.add_argument("--jobs", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--without-commands", action="store_true", help="time the work alone")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the data are meanwhile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    options = parser.parse_args()
    options.workers = sorted(options.workers)
    facts, program, results = machine(), vitreous(), {}
    print_machine(facts)
    print("Median (smallest-largest) of runs in turn; gain: how many times faster than the fewest of the same kind.")
    with tempfile.TemporaryDirectory(prefix="vitreous-benchmark-", dir=options.work) as name:
        folder = simulate(program, Size(options.count, options.box), options.snr, Path(name))
        for job in options.jobs:
            print(f"\n{job}, {options.count:,} particles of {options.box} px")
            work = time_work(TASKS[job], folder / "particles.star", options.workers, options.repeats)
            results[job] = {"work": [cost.as_json() for cost in work], "work_gain": print_gains("work", work)}
            if not options.without_commands:
                whole = time_commands(TASKS[job], program, folder, options.workers, options.repeats)
                results[job] |= {"whole": [c.as_json() for c in whole], "whole_gain": print_gains("command", whole)}
            print("all results are the same to the last bit")
    write_json(options.json, {"machine": facts, "count": options.count, "box": options.box, "jobs": results})


if __name__ == "__main__":
    main()
