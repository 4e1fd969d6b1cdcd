"""What comparisons with one peer share: options, the two programs, folders, what a run has cost, and targets that are met or missed."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from measure import MIB, Cost, Run, print_table
from programs import Program

COST = "cost.json"


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


def print_targets(targets: Sequence[Target]) -> None:
    """One table of all targets."""
    print()
    print_table([["target", "limit", "vitreous", ""], *(target.row for target in targets)])


def at_least(ours: float, theirs: float) -> bool:
    return ours >= theirs


def at_most(ours: float, theirs: float) -> bool:
    return ours <= theirs


@dataclass
class Comparison:
    """Options, programs, and all that was found so far. `options` has `data`, the folder of everything, and `reuse_peer`."""

    options: argparse.Namespace
    vitreous: Program
    peer: Program | None
    targets: list[Target] = field(default_factory=list)
    result: dict[str, object] = field(default_factory=dict)

    peer_name: ClassVar[str] = "the peer"

    @property
    def reused(self) -> bool:
        """Whether the peer's runs are those of an earlier comparison."""
        return self.options.reuse_peer

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

    def print_costs(self, ours: Cost, theirs: Cost | None, iterations: dict[str, int | None]) -> None:
        """Wall and CPU time, memory, seconds an iteration, and how many times ours the peer's are."""
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
            self.not_run(what, f"{times:g} times")
        else:
            self.judge_speed(what, theirs.median("wall_seconds") / ours.median("wall_seconds"), times, note)

    def judge_speed(self, what: str, ratio: float, times: float, note: str = "") -> None:
        """A ratio against a target, if both programs ran now, the one after the other."""
        if self.reused:
            self.targets.append(Target(what, f"{times:g} times", f"{ratio:.1f} times, not in one run", None))
        else:
            self.targets.append(Target(what, f"{times:g} times", f"{ratio:.1f} times{note}", ratio >= times))

    def compare_target(
        self, what: str, ours: float, theirs: float | None, better: Callable[[float, float], bool], form: str
    ) -> None:
        """A measure of quality that must be no worse than the peer's."""
        if theirs is None:
            self.targets.append(Target(what, f"{self.peer_name}'s", form.format(ours), None))
        else:
            self.targets.append(Target(what, form.format(theirs), form.format(ours), better(ours, theirs)))

    def not_run(self, what: str, limit: str) -> None:
        """A target that needs the peer, which is not there."""
        self.targets.append(Target(what, limit, f"{self.peer_name} was not run", None))


def keep_cost(folder: Path, cost: Cost) -> None:
    """Write what a run has cost beside its output."""
    content = {"name": cost.name, "date": time.strftime("%Y-%m-%d %H:%M"), "runs": [asdict(run) for run in cost.runs]}
    (folder / COST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def kept_cost(folder: Path) -> tuple[Cost, str] | None:
    """What an earlier run has cost, and when it was; None where there is none."""
    if not (folder / COST).is_file():
        return None
    content = json.loads((folder / COST).read_text(encoding="utf-8"))
    return Cost(content["name"], [Run(**run) for run in content["runs"]]), content["date"]


def result_of(folder: Path) -> dict:
    """The findings of a vitreous job, by key."""
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))
