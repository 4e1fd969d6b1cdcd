"""What every part of the comparison with RELION works with: options, programs, timing in turn, targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from alignment.commands import Task
from alignment.outputs import earlier_cost
from comparison import Comparison, keep_cost
from measure import Contender, Cost, compare
from programs import Program


@dataclass
class Session(Comparison):
    """Options, programs, and all that was found so far."""

    peer_name: ClassVar[str] = "RELION"

    @property
    def relion(self) -> Program | None:
        return self.peer

    @property
    def reused(self) -> bool:
        return self.options.reuse_relion

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
        earlier = earlier_cost(relion_folder) if self.options.reuse_relion and theirs is not None else None
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
