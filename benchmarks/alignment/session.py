"""What every part of the comparison works with: options, programs, timing in turn, targets."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignment.commands import Task
from alignment.outputs import keep_cost, kept_cost
from measure import MIB, Contender, Cost, compare, print_table
from programs import Program


@dataclass(frozen=True)
class Target:
    """What was to be reached, its limit as text, what vitreous reached, and whether that is met; None where it was not measured."""

    what: str
    limit: str
    reached: str
    met: bool | None

    @property
    def row(self) -> list[str]:
        return [self.what, self.limit, self.reached, {True: "met", False: "MISSED", None: "-"}[self.met]]


@dataclass
class Session:
    """Options, programs, and all that was found so far."""

    options: argparse.Namespace
    vitreous: Program
    relion: Program | None
    targets: list[Target] = field(default_factory=list)
    result: dict[str, object] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        """The folder of what the programs write."""
        folder = self.options.data.resolve() / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def folder(self, name: str) -> Path:
        """A folder for one program's output, without what an interrupted run of vitreous has left: it would go on from there, and be timed as a whole run."""
        path = self.runs / name
        path.mkdir(exist_ok=True)
        for left in (*self.runs.glob(f".{name}.*.partial"), *path.glob(".*.partial")):
            shutil.rmtree(left)
        return path

    def iterations(self, full: int) -> int:
        """Iterations of both programs in the timed comparison."""
        asked = self.options.relion_iterations
        return full if asked is None or self.relion is None else min(full, asked)

    def task(self, star: str, pixel_size: float, diameter: float, iterations: int) -> Task:
        return Task(star, pixel_size, diameter, iterations, self.options.threads)

    def time(
        self, place: Path, ours: Sequence[str], theirs: Sequence[str] | None, relion_folder: Path
    ) -> tuple[Cost, Cost | None]:
        """What both cost, run in turn in the folder `place`; the peer's run is an earlier one where that was asked for.

        vitreous is run once untimed and `--repeats` times, RELION, which needs minutes, once.
        """
        label = self.vitreous.label
        contenders = [Contender(label, ours)]
        earlier = kept_cost(relion_folder) if self.options.reuse_relion and theirs is not None else None
        if theirs is not None and earlier is None and self.relion is not None:
            contenders.append(Contender(self.relion.label, theirs, [self.relion.path, "--version"], 1))
        costs = compare(contenders, place, self.options.repeats)
        if earlier is not None:
            print(
                f"{earlier[0].name} was not run: its output and times are those of {earlier[1]}, on a machine as busy as it was then"
            )
            return costs[0], earlier[0]
        if len(costs) == 1:
            return costs[0], None
        keep_cost(relion_folder, costs[1])
        return costs[0], costs[1]

    def print_costs(self, ours: Cost, theirs: Cost | None, iterations: dict[str, int | None]) -> None:
        """Wall and CPU time, memory, seconds an iteration, and how many times ours RELION's are."""
        rows = [["", "wall s", "CPU s", "peak MiB", "runs", "iterations", "wall s each", "wall ratio", "CPU ratio"]]
        for cost in (ours, theirs):
            if cost is None:
                continue
            count = iterations.get(cost.name)
            each = "-" if not count else f"{cost.median('wall_seconds') / count:.2f}"
            ratios = [f"{cost.median(q) / ours.median(q):.1f}" for q in ("wall_seconds", "cpu_seconds")]
            spreads = [
                cost.spread("wall_seconds", digits=1),
                cost.spread("cpu_seconds", digits=1),
                cost.spread("peak_bytes", MIB, 0),
            ]
            rows.append([cost.name, *spreads, str(len(cost.runs)), str(count or "-"), each, *ratios])
        print_table(rows)

    def speed_target(self, what: str, ours: Cost, theirs: Cost | None, times: float, note: str = "") -> None:
        """How many times faster in wall time, against a target."""
        if theirs is None:
            self.targets.append(Target(what, f"{times:g} times", "RELION was not run", None))
            return
        ratio = theirs.median("wall_seconds") / ours.median("wall_seconds")
        self.judge_speed(what, ratio, times, note)

    def judge_speed(self, what: str, ratio: float, times: float, note: str = "") -> None:
        """A ratio against a target, if both programs ran now, the one after the other."""
        if self.options.reuse_relion:
            self.targets.append(Target(what, f"{times:g} times", f"{ratio:.1f} times, not in one run", None))
        else:
            self.targets.append(Target(what, f"{times:g} times", f"{ratio:.1f} times{note}", ratio >= times))

    def compare_target(
        self, what: str, ours: float, theirs: float | None, better: Callable[[float, float], bool], form: str
    ) -> None:
        """A measure of quality that must be no worse than RELION's."""
        if theirs is None:
            self.targets.append(Target(what, "RELION's", form.format(ours), None))
        else:
            self.targets.append(Target(what, form.format(theirs), form.format(ours), better(ours, theirs)))


def at_least(ours: float, theirs: float) -> bool:
    return ours >= theirs


def at_most(ours: float, theirs: float) -> bool:
    return ours <= theirs
