"""Time the commands that must answer at once: `vitreous --help`, `--version` and `info` of a small file.

    python benchmarks/startup.py [--repeats 9] [--cryodrgn PATH] [--json FILE]

The bare interpreter (`python -c pass`) is the floor that no Python program gets below; two peers stand beside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import MIB, Contender, Cost, compare, machine, print_machine, print_table, write_json
from programs import cryodrgn, relion_reconstruct, vitreous

STAR = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnImagePixelSize #3
_rlnImageSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
1 opticsGroup1 1.2 64 300.0 2.7 0.1

data_particles

loop_
_rlnImageName #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
_rlnAngleRot #5
_rlnAngleTilt #6
_rlnAnglePsi #7
_rlnOriginXAngst #8
_rlnOriginYAngst #9
_rlnRandomSubset #10
_rlnOpticsGroup #11
"""
ROWS = 100
SLOW_REPEATS = 3  # of a command that takes ten seconds


def small_star() -> str:
    """A particle file of a few rows; its images need not exist."""
    rows = (f"{i + 1:06d}@particles.mrcs {9000 + i} 8900 15 {i} 60 {-i} 1.5 -2.5 {i % 2 + 1} 1" for i in range(ROWS))
    return STAR + "\n".join(rows) + "\n"


def contenders(options: argparse.Namespace) -> list[Contender]:
    ours, relion, drgn = vitreous(), relion_reconstruct(), cryodrgn(options.cryodrgn)
    found = [
        Contender("vitreous --help", [ours.path, "--help"]),
        Contender("vitreous --version", [ours.path, "--version"]),
        Contender("vitreous info small.star", [ours.path, "info", "small.star"]),
        Contender("python -c pass", [sys.executable, "-c", "pass"]),
    ]
    if relion is not None:
        found.append(Contender(f"relion_reconstruct --version ({relion.version})", [relion.path, "--version"]))
    if drgn is not None:
        found.append(Contender(f"cryodrgn --help ({drgn.version})", [drgn.path, "--help"], repeats=SLOW_REPEATS))
    return found


def print_costs(costs: list[Cost]) -> None:
    rows = [["", "wall s", "CPU s", "peak MiB", "to vitreous --help"]]
    for cost in costs:
        ratio = cost.median("wall_seconds") / costs[0].median("wall_seconds")
        spreads = cost.spread("wall_seconds", digits=3), cost.spread("cpu_seconds", digits=3)
        rows.append([cost.name, *spreads, cost.spread("peak_bytes", MIB, 0), f"{ratio:.2f}"])
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cryodrgn", metavar="PATH", help="the program, if not on PATH or in benchmarks/.peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    options = parser.parse_args()
    facts, chosen = machine(), contenders(options)
    print_machine(facts)
    with tempfile.TemporaryDirectory(prefix="vitreous-benchmark-") as name:
        (Path(name) / "small.star").write_text(small_star(), encoding="utf-8")
        costs = compare(chosen, Path(name), options.repeats)
    runs = f"{options.repeats} runs ({min(options.repeats, SLOW_REPEATS)} of cryodrgn)"
    print(f"\nMedian (smallest-largest) of {runs} in turn, after one untimed run of each")
    print_costs(costs)
    write_json(options.json, {"machine": facts, "commands": [cost.as_json() for cost in costs]})


if __name__ == "__main__":
    main()
