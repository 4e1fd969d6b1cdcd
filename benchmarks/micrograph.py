"""What a simulated micrograph costs: wall time, CPU time and peak memory of `vitreous simulate micrograph`.

    python benchmarks/micrograph.py [--size 4096] [--particles 200] [--models projection multislice] [--repeats 3]
                                    [--json FILE]

200 copies of a ribosome of 2.3 MDa (165,000 atoms and their hydrogens) at random poses in grainy ice of 374 A, pixels of
1.5 A, a dose of 40 e/A^2 on a Falcon 4. 1.5 A because 200 circles of the ribosome's 323 A do not fit into 4096 pixels of 1 A.
Start-up, the potential of the particle, truth files and the report count. Multislice, 38 slabs of 10 A, is run once.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measure import MIB, Contender, compare, machine, print_machine, print_table, write_json
from programs import vitreous

LONG = ("multislice",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--particles", type=int, default=200)
    parser.add_argument("--models", nargs="+", default=["projection", "multislice"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    program = vitreous()

    def command(model: str, size: int, particles: int) -> list[str]:
        field = ["--size", str(size), "--particles", str(particles), "--pixel-size", "1.5"]
        words = [
            "simulate",
            "micrograph",
            "bundled:6zu5",
            *field,
            "--model",
            model,
            "--out",
            f"{model}_{size}",
            "--force",
        ]
        return [program.path, *words]

    with tempfile.TemporaryDirectory(prefix="vitreous-benchmark-") as folder:
        contenders = [
            Contender(
                model,
                command(model, options.size, options.particles),
                warm_up=command(model, 512, 2),
                repeats=1 if model in LONG else None,
            )
            for model in options.models
        ]
        costs = compare(contenders, Path(folder), options.repeats)
    rows = [["model", "wall s", "CPU s", "peak MiB", "runs"]]
    for cost in costs:
        spreads = (cost.spread("wall_seconds"), cost.spread("cpu_seconds"), cost.spread("peak_bytes", MIB, 0))
        rows.append([cost.name, *spreads, str(len(cost.runs))])
    print_table(rows)
    content = {"size": options.size, "particles": options.particles, "costs": [cost.as_json() for cost in costs]}
    write_json(options.json, {"machine": facts, "versions": {"vitreous": program.version}, **content})


if __name__ == "__main__":
    main()
