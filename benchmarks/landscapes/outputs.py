"""What the programs leave behind: seconds of each epoch, particles that were trained on, and scores."""

from __future__ import annotations

import os
import re
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from comparison import result_of
from measure import Run

EPOCH = re.compile(r"=====> Epoch: (\d+) .*Finished in (?:(\d+) days?, )?(\d+):(\d+):(\d+(?:\.\d+)?)")
MEASURES = {
    "image_fsc_auc": "per-image FSC AUC",
    "conformation_fsc_auc": "per-conformation",
    "spearman_first_component": "|Spearman|, first component",
    "spearman_best_coordinate": "best coordinate",
}


@dataclass(frozen=True)
class Training:
    """One training: what the process cost, seconds of each epoch, particles that each epoch saw, and frequencies of an image that were decoded in the last."""

    name: str
    run: Run
    epoch_seconds: list[float]
    particles: int
    pixels: int
    load: float = 0.0  # of the machine over the last minute of the run

    @property
    def seconds(self) -> float:
        """Of an epoch: the median from the second on, as the first compiles, or meets cold caches."""
        return statistics.median(self.epoch_seconds[1:] or self.epoch_seconds)

    @property
    def throughput(self) -> float:
        """Particles a second."""
        return self.particles / self.seconds

    @property
    def rest(self) -> float:
        """Seconds of the process outside the epochs: reading, a consensus and a subspace (vitreous), latents after each epoch (cryoDRGN), writing."""
        return self.run.wall_seconds - sum(self.epoch_seconds)

    def as_json(self) -> dict:
        derived = {"particles_per_second": self.throughput, "seconds_outside_epochs": self.rest}
        return asdict(self) | derived


def vitreous_training(name: str, run: Run, folder: Path) -> Training:
    """A training of `vitreous landscape train`. It keeps some particles aside: only those that it trains on count."""
    result = result_of(folder)
    trained = int(result["particles"]) - int(result["held_out"])
    pixels = int(result["epochs"]["pixels"][-1])
    return Training(name, run, [float(s) for s in result["epoch_seconds"]], trained, pixels, os.getloadavg()[0])


def cryodrgn_training(name: str, run: Run, folder: Path, count: int, box: int) -> Training:
    """A training of cryoDRGN on all `count` images of `box` pixels. Its log is of all trainings that were started in the folder: the last one counts."""
    log = (folder / "run.log").read_text(encoding="utf-8", errors="replace")
    return Training(name, run, epochs_of(log), count, half_circle(box), os.getloadavg()[0])


def half_circle(box: int) -> int:
    """Half of the frequencies within Nyquist's, itself included, and without 0: those that cryoDRGN decodes of an image.

    >>> half_circle(64)
    1604
    """
    line = range(-(box // 2), box // 2 + 1)
    return sum(0 < x * x + y * y <= (box // 2) ** 2 for x in line for y in line) // 2


def epochs_of(log: str) -> list[float]:
    """Seconds of the epochs of the last training in a log."""
    seconds: list[float] = []
    for epoch, days, hours, minutes, rest in EPOCH.findall(log):
        seconds = [] if int(epoch) == 1 else seconds
        seconds.append(86_400 * int(days or 0) + 3600 * int(hours) + 60 * int(minutes) + float(rest))
    return seconds


def scores_of(folder: Path) -> dict[str, dict]:
    """Everything that `vitreous landscape score` found, by the name of the method."""
    return result_of(folder)["methods"]
