"""Landscapes: vitreous against cryoDRGN on the same particles, with networks of the same layers and width, on the same machine, in one run.

    python benchmarks/against_cryodrgn.py [--parts speed streaming hinge] [--data FOLDER] [--cryodrgn PATH] [--reuse-cryodrgn]
                                          [--boxes 64 128] [--count 2000] [--epochs 4] [--hinge-count 10000] [--hinge-epochs 20]
                                          [--hinge-iterations 20] [--json FILE]

`speed` trains both programs at 64 and at 128 px, `streaming` ours from the disk and from memory, `hinge` both networks and the linear subspace on a hinge whose
angles are known. cryoDRGN needs some minutes an epoch on a CPU: `hinge` takes hours. landscapes/README.md says what is measured, and how.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from comparison import print_targets
from landscapes import parts
from landscapes.session import Session
from measure import machine, print_machine, write_json
from programs import cryodrgn, vitreous

PARTS = {"speed": parts.speed, "streaming": parts.streaming, "hinge": parts.hinge}
WITH_CRYODRGN = ("speed", "hinge")
DEFAULT_DATA = Path(tempfile.gettempdir()) / "vitreous-landscape-benchmark"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, metavar="FOLDER", help="of the data and of what the programs write"
    )
    parser.add_argument("--cryodrgn", metavar="PATH", help="the program, if not on PATH or in benchmarks/.peers")
    parser.add_argument("--without", nargs="*", choices=["cryodrgn"], default=[], help="leave the peer out")
    parser.add_argument(
        "--reuse-cryodrgn", action="store_true", help="judge what an earlier run left in --data, with its times"
    )
    for name, default, text in (
        ("latent", 8, "numbers of the latent"),
        ("width", 256, "units of each layer"),
        ("layers", 3, "hidden layers of each network"),
        ("score-images", 2, "images of each conformation whose maps are compared with the truth"),
        ("count", 2000, "particles of speed and streaming"),
        ("epochs", 4, "of speed and streaming; throughput is that from the second on"),
        ("conformations", 50, "angles of the hinge in speed and streaming"),
        ("hinge-count", 10_000, "particles of hinge"),
        ("hinge-box", 64, "pixels of hinge"),
        ("hinge-epochs", 20, "of hinge"),
        ("hinge-iterations", 20, "of the subspace of hinge"),
        ("hinge-conformations", 50, "angles of hinge"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default %(default)s)")
    parser.add_argument(
        "--boxes", nargs="+", type=int, default=[64, 128], help="pixels of speed; streaming has the first"
    )
    parser.add_argument("--snr", type=float, default=0.05, help="of speed and streaming (default %(default)s)")
    parser.add_argument("--hinge-snr", type=float, default=0.05, help="of hinge (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    wants_peer = "cryodrgn" not in options.without and any(part in WITH_CRYODRGN for part in options.parts)
    session = Session(options, vitreous(), cryodrgn(options.cryodrgn) if wants_peer else None)
    facts = machine()
    print_machine(facts)
    print(", ".join(program.label for program in (session.vitreous, session.cryodrgn) if program is not None))
    print(
        "Each training is one process; an epoch's time is the median from the second on (smallest-largest). Ratios: how many times slower than the first row."
    )
    for part in options.parts:
        PARTS[part](session)
    print_targets(session.targets)
    versions = {
        program.name: program.version for program in (session.vitreous, session.cryodrgn) if program is not None
    }
    targets = [vars(target) for target in session.targets]
    write_json(options.json, {"machine": facts, "versions": versions, "parts": session.result, "targets": targets})


if __name__ == "__main__":
    main()
