"""Classes and maps without poses: vitreous against RELION on the same particles, the same sampling, the same machine, in one run.

    python benchmarks/against_relion.py [--parts 2d 3d betagal scaling noise] [--data FOLDER] [--relion-iterations N] [--reuse-relion]
                                        [--threads 2] [--repeats 3] [--counts 1000 5000 20000] [--betagal FOLDER] [--json FILE]

RELION 3.1.3 needs about five minutes for `2d`, the better part of an hour for `3d`, more than an hour for `betagal`. `--relion-iterations 3` lets both
programs do so many in 2d and 3d, and stops RELION's auto-refine there. alignment/README.md says what is measured, and how.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from alignment import betagal_parts, simulated_parts
from alignment.commands import relion_refine
from alignment.session import Session
from alignment.sets import SEED
from comparison import print_targets
from measure import machine, print_machine, write_json
from programs import vitreous

PARTS = {
    "2d": simulated_parts.two_dimensional,
    "3d": simulated_parts.three_dimensional,
    "betagal": betagal_parts.against_relion,
    "scaling": simulated_parts.scaling,
    "noise": simulated_parts.noise,
}
WITH_RELION = ("2d", "3d", "betagal")
DEFAULT_DATA = Path(tempfile.gettempdir()) / "vitreous-alignment-benchmark"
BETAGAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "betagal"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, metavar="FOLDER", help="of the data and of what the programs write"
    )
    parser.add_argument("--betagal", type=Path, default=BETAGAL, metavar="FOLDER", help="of the real particles")
    parser.add_argument("--without", nargs="*", choices=["relion"], default=[], help="leave the peer out")
    parser.add_argument(
        "--relion-iterations", type=int, metavar="N", help="fewer iterations, of both programs in 2d and 3d"
    )
    parser.add_argument(
        "--reuse-relion", action="store_true", help="judge what an earlier run left in --data, with its times"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        help="of each program (default %(default)s; RELION's auto-refine runs three ranks)",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs of vitreous (default %(default)s; RELION runs once)"
    )
    parser.add_argument("--snr", type=float, default=0.1, help="signal-to-noise ratio of the simulated images")
    parser.add_argument("--seed", type=int, default=SEED, help="of the simulated images")
    parser.add_argument(
        "--counts",
        nargs="+",
        type=int,
        default=[1000, 5000, 20_000],
        help="particles of scaling (100000 of 128 px take 6.6 GB)",
    )
    parser.add_argument("--box", type=int, default=128, help="pixels of scaling")
    parser.add_argument("--scaling-iterations", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    wants_peer = "relion" not in options.without and any(part in WITH_RELION for part in options.parts)
    session = Session(options, vitreous(), relion_refine() if wants_peer else None)
    facts = machine()
    print_machine(facts)
    print(
        "Whole processes run in turn, vitreous warm (one untimed run first): median (smallest-largest). Ratios: how many times vitreous."
    )
    for part in options.parts:
        if part == "betagal" and not (options.betagal / betagal_parts.PARTICLES).is_file():
            print(f"\n{options.betagal} is absent: betagal is left out; --betagal names the folder")
            continue
        PARTS[part](session)
    print_targets(session.targets)
    versions = {program.name: program.version for program in (session.vitreous, session.relion) if program is not None}
    targets = [vars(target) for target in session.targets]
    write_json(options.json, {"machine": facts, "versions": versions, "parts": session.result, "targets": targets})


if __name__ == "__main__":
    main()
