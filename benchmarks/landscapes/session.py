"""What every part of the comparison with cryoDRGN works with: training, scoring, tables."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from comparison import Comparison, keep_cost, kept_cost
from landscapes.commands import Network, cryodrgn_train, vitreous_score, vitreous_train
from landscapes.outputs import MEASURES, Training, cryodrgn_training, scores_of, vitreous_training
from landscapes.sets import Hinge
from measure import MIB, Cost, measure, print_table, say
from programs import Program


@dataclass
class Session(Comparison):
    """Options, programs, and all that was found so far."""

    peer_name: ClassVar[str] = "cryoDRGN"

    @property
    def cryodrgn(self) -> Program | None:
        return self.peer

    @property
    def reused(self) -> bool:
        return self.options.reuse_cryodrgn

    def network(self, epochs: int) -> Network:
        options = self.options
        return Network(epochs, options.latent, options.width, options.layers)

    def train(self, place: Path, network: Network, name: str, *more: str, label: str = "") -> Training:
        """Train ours in the folder of a set. It runs once: an epoch is repeated by the next one."""
        out = self.folder(name)
        command = vitreous_train(self.vitreous, network, out, *more)
        say(f"{label or self.vitreous.label}: training")
        run = measure(command, place, self.runs / f"{name}.log")
        return vitreous_training(label or self.vitreous.label, run, out)

    def train_cryodrgn(self, place: Path, network: Network, name: str, wanted: Hinge) -> Training | None:
        """Train cryoDRGN's, or take what an earlier run left where that was asked for; None if it is not installed."""
        if self.cryodrgn is None:
            return None
        out = self.runs / name
        earlier = kept_cost(out) if self.reused else None
        if earlier is None:
            out.mkdir(exist_ok=True)
            say(f"{self.cryodrgn.label}: training")
            run = measure(cryodrgn_train(self.cryodrgn, network, out), place, self.runs / f"{name}.log")
            keep_cost(out, Cost(self.cryodrgn.label, [run]))
        else:
            run = earlier[0].runs[0]
            print(
                f"{earlier[0].name} was not run: its times are those of {earlier[1]}, on a machine as busy as it was then"
            )
        found = cryodrgn_training(self.cryodrgn.label, run, out, wanted.count, wanted.box)
        if len(found.epoch_seconds) != network.epochs:
            sys.exit(
                f"{out} holds {len(found.epoch_seconds)} epochs of cryoDRGN instead of {network.epochs}: remove it"
            )
        return found

    def score(self, place: Path, folders: dict[str, Path], name: str) -> dict[str, dict]:
        """Scores of trained folders, by what they are called here."""
        out = self.folder(name)
        command = vitreous_score(self.vitreous, list(folders.values()), place, self.options.score_images, out)
        say(f"scoring {', '.join(folders)}")
        measure(command, place, self.runs / f"{name}.log")
        found = scores_of(out)
        return {called: found.get(folder.name, found.get(str(folder), {})) for called, folder in folders.items()}


def print_trainings(trainings: list[Training]) -> None:
    """Throughput, times of epochs and of the rest, and how many times slower than the first."""
    rows = [
        [
            "",
            "particles/s",
            "pixels",
            "s an epoch (from the 2nd on)",
            "first epoch s",
            "outside epochs s",
            "CPU s",
            "peak MiB",
            "load",
            "ratio",
        ]
    ]
    for training in trainings:
        later = training.epoch_seconds[1:] or training.epoch_seconds
        spread = f"{training.seconds:.2f} ({min(later):.2f}-{max(later):.2f})"
        rows.append(
            [
                training.name,
                f"{training.throughput:.1f}",
                f"{training.pixels:,}",
                spread,
                f"{training.epoch_seconds[0]:.2f}",
                f"{training.rest:.1f}",
                f"{training.run.cpu_seconds:.0f}",
                f"{training.run.peak_bytes / MIB:.0f}",
                f"{training.load:.1f}",
                f"{trainings[0].throughput / training.throughput:.2f}",
            ]
        )
    print_table(rows)


def print_scores(scores: dict[str, dict]) -> None:
    """The measures that have targets, a row for each method, and what the mean of all true maps would get."""
    rows = [["scores", *MEASURES.values()]]
    for name, found in scores.items():
        rows.append([name, *(cell(found.get(key)) for key in MEASURES)])
    chance = next((found["chance"] for found in scores.values() if "chance" in found), {})
    print_table([*rows, ["nothing learned: the mean of all true maps", *(cell(chance.get(key)) for key in MEASURES)]])


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
