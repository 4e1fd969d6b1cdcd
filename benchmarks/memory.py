"""Peak memory of `vitreous reconstruct` at several numbers of particles: it must not grow with them.

    python benchmarks/memory.py [--counts 2000 10000 40000] [--box 64] [--one-stack] [--json FILE]

Only the first count is simulated. Larger sets repeat its rows, each time under a new name of the same stack (a symbolic
link), so that every image is opened, mapped and read as if it were another, and no disk is needed. With `--one-stack`
each set is simulated in full, into one file (655 MB for 40,000 images of 64 px).

The peak resident set counts the pages of image files that are mapped into memory, although the system takes those back
whenever it wants: it can only overstate what a job needs.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from measure import MIB, Contender, Cost, compare, machine, print_machine, print_table, write_json
from programs import Program, vitreous
from reconstruct import Size, simulate


def repeated(source: Path, count: int, path: Path) -> None:
    """Write a STAR file of `count` rows beside `source`: its particles again and again, each time from another stack.

    The stacks are new names of the one that `source` names.
    """
    from vitreous.io.particles import read_particles, write_particles
    from vitreous.model.particles import ImageName

    particles = read_particles(source, load_images=False)
    (stack,) = particles.names.paths
    turn, row = np.divmod(np.arange(count), len(particles))
    names = [f"{path.stem}_{number}_{stack}" for number in range(int(turn[-1]) + 1)]
    for name in names:
        (source.parent / name).symlink_to(stack)
    index = ImageName(particles.names.index[row], turn.astype(np.int32), tuple(names))
    write_particles(path, replace(particles.rows(row), names=index))


def contender(program: Program, star: Path, count: int) -> Contender:
    out = star.with_name(f"{star.stem}_job")
    command = [program.path, "reconstruct", str(star), "--out", str(out), "--force"]
    return Contender(f"{count:,} particles", command)


def particle_files(options: argparse.Namespace, program: Program, folder: Path) -> list[Path]:
    """One STAR file for each count."""
    if options.one_stack:
        folders = [folder / str(count) for count in options.counts]
        for place, count in zip(folders, options.counts):
            place.mkdir()
            simulate(program, Size(count, options.box), options.snr, place)
        return [place / "data" / "particles.star" for place in folders]
    data = simulate(program, Size(min(options.counts), options.box), options.snr, folder)
    files = [data / f"particles_{count}.star" for count in options.counts]
    for path, count in zip(files, options.counts):
        repeated(data / "particles.star", count, path)
    return files


def print_costs(counts: list[int], costs: list[Cost]) -> None:
    rows = [["particles", "peak MiB", "to the first", "CPU s", "runs"]]
    for count, cost in zip(counts, costs):
        ratio = cost.median("peak_bytes") / costs[0].median("peak_bytes")
        spreads = cost.spread("peak_bytes", MIB, 0), f"{ratio:.3f}", cost.spread("cpu_seconds")
        rows.append([f"{count:,}", *spreads, str(len(cost.runs))])
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 10_000, 40_000])
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--one-stack", action="store_true", help="simulate every image, into one stack for each count")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where to put the data meanwhile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    options = parser.parse_args()
    program, facts = vitreous(), machine()
    print_machine(facts)
    with tempfile.TemporaryDirectory(prefix="vitreous-benchmark-", dir=options.work) as name:
        files = particle_files(options, program, Path(name))
        contenders = [contender(program, path, count) for path, count in zip(files, options.counts)]
        costs = compare(contenders, Path(name), options.repeats)
    kind = "one stack" if options.one_stack else "stacks of one simulated set"
    print(f"\nPeak memory of {program.label}, reconstruct, {options.box} px, {kind}")
    print_costs(options.counts, costs)
    results = [{"particles": count, **cost.as_json()} for count, cost in zip(options.counts, costs)]
    write_json(options.json, {"machine": facts, "version": program.version, "box": options.box, "counts": results})


if __name__ == "__main__":
    main()
