"""Particles of which the conformation is known: a hinge, made by `vitreous simulate ensemble`, with cryoDRGN's tables beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from landscapes.commands import CTF, PARTICLES
from measure import measure, say
from programs import Program

SEED = 0


@dataclass(frozen=True)
class Hinge:
    """How many particles of how many pixels, how noisy, and how many angles of the hinge."""

    count: int
    box: int
    snr: float = 0.05
    conformations: int = 50
    seed: int = SEED

    @property
    def name(self) -> str:
        return f"hinge_{self.count}x{self.box}_snr{self.snr:g}_{self.conformations}angles_seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.count:,} particles of {self.box} px at SNR {self.snr:g}, {self.conformations} angles"


def make(program: Program, wanted: Hinge, folder: Path) -> Path:
    """The folder of this set inside `folder`: as it stands there, or made now."""
    target = folder / wanted.name
    folder.mkdir(parents=True, exist_ok=True)
    if not (target / "result.json").is_file():  # written last
        say(f"simulating {wanted} into {target}")
        words = f"--count {wanted.count} --box {wanted.box} --snr {wanted.snr:g} --conformations {wanted.conformations} --seed {wanted.seed}"
        command = [program.path, "simulate", "ensemble", "hinge", *words.split(), "--out", str(target), "--force"]
        measure(command, folder, folder / "simulate.log")
    if not (target / CTF).is_file():
        command = [program.path, "convert", PARTICLES, str(Path(CTF).parent), "--to", "cryodrgn", "--force"]
        measure(command, target, folder / "convert.log")
    return target
