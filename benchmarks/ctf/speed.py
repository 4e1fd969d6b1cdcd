"""What the programs cost: seconds for a micrograph after warm-up, whole processes, and memory for several numbers of micrographs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import above  # noqa: F401 - for the imports of the second group below
from answers import LENS_OF_SET, Asker, Vitreous

from measure import Contender, Cost, compare, measure, say


@dataclass(frozen=True)
class Warm:
    """Seconds of each micrograph in one process, after the first: reading the file, and the estimate."""

    first: float
    later: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.later)

    def text(self) -> str:
        return f"{self.median:.2f} ({min(self.later):.2f}-{max(self.later):.2f})"


def copies(images: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """So many names of these files, in turn, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"copy_{number:02d}.mrc"
        path.unlink(missing_ok=True)
        path.symlink_to(images[number % len(images)])
        made.append(path)
    return made


def warm_seconds(program: Asker, images: Sequence[Path], folder: Path, repeats: int) -> Warm:
    """By the runner, on `repeats` + 1 micrographs."""
    chosen = copies(images, repeats + 1, folder / "warm")
    found, _ = Asker.ask(program, chosen, folder)
    seconds = [found[path].seconds for path in chosen]
    return Warm(seconds[0], tuple(seconds[1:]))


def whole_processes(
    programs: Sequence[Asker], images: Sequence[Path], count: int, folder: Path, repeats: int, slow_repeats: int
) -> list[Cost]:
    """Start to end of each program on `count` micrographs, in turn: vitreous with tables, pictures and report, the others with numbers alone."""
    chosen = copies(images, count, folder / f"whole_{count}")
    contenders = []
    for program in programs:
        files = (chosen, chosen[:1])
        if isinstance(program, Vitreous):
            commands = [program.job(paths, folder / f"job_{count}", 1.0, LENS_OF_SET) for paths in files]
        else:
            commands = [program.command(paths, folder / "timed.json", 1.0, LENS_OF_SET) for paths in files]
        times = repeats if isinstance(program, Vitreous) else slow_repeats
        contenders.append(Contender(program.label, commands[0], warm_up=commands[1], repeats=times))
    return compare(contenders, folder, repeats)


def memory(program: Vitreous, images: Sequence[Path], counts: Sequence[int], folder: Path) -> dict[int, int]:
    """Peak memory in bytes of the largest process of `vitreous ctf` on so many micrographs."""
    found = {}
    for count in counts:
        chosen = copies(images, count, folder / f"memory_{count}")
        command = program.job(chosen, folder / "memory", 1.0, LENS_OF_SET)
        say(f"memory: {count} micrographs")
        found[count] = measure(command, folder, folder / "memory.log").peak_bytes
    return found
