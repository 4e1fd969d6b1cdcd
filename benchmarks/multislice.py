"""Multislice of a plane wave by vitreous and abTEM: whole process, and the calculation alone.

    python benchmarks/multislice.py [--size 1024] [--slabs 32] [--repeats 5] [--abtem-python PATH] [--json FILE]

Every program reads the same slabs (random, up to a quarter of the Nyquist frequency, far from all apertures), in single
precision, and writes the exit wave; waves are compared. A whole process does this once: start, imports, reading, plans
and compilation count. The calculation alone is the median of the repeats in one process after a first that does not
count. "vitreous, textbook" limits the transmission as abTEM does, four transforms for each slab instead of two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from measure import Contender, Cost, compare, environment, machine, print_machine, print_table, say, write_json

PEERS = Path(__file__).resolve().parent / ".peers"
RUN = Path(__file__).with_name("multislice_run.py")
NAMES = {
    "vitreous": "vitreous",
    "vitreous, textbook": "vitreous-textbook",
    "vitreous, JAX": "vitreous-jax",
    "abTEM": "abtem",
}
GOAL = 3.0  # times faster than abTEM
INSTALL = "python -m venv benchmarks/.peers; benchmarks/.peers/bin/pip install abtem==1.0.11, or give --abtem-python"


def write_slabs(path: Path, count: int, size: int) -> None:
    """Random potentials of 30 V A rms, nothing above a quarter of the Nyquist frequency."""
    rng = np.random.default_rng(0)
    k = np.fft.fftfreq(size)
    inside = np.hypot(k[:, None], np.fft.rfftfreq(size)) < 0.125
    slabs = np.empty((count, size, size), dtype=np.float32)
    for slab in slabs:
        noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * inside, s=(size, size))
        slab[:] = 30 * noise / noise.std()
    np.save(path, slabs)


def python_of_abtem(given: Path | None) -> Path | None:
    """The Python that can import abTEM: the one given, that of benchmarks/.peers, or this one."""
    candidates = [given] if given else [PEERS / "bin" / "python", Path(sys.executable)]
    for python in candidates:
        found = shutil.which(str(python))
        if found and subprocess.run([found, "-c", "import abtem"], capture_output=True, check=False).returncode == 0:
            return Path(found)
    return None


def inner_seconds(command: list[str], folder: Path, repeats: int) -> tuple[list[float], str]:
    """Seconds of each calculation after the first, in one process, and the program's version."""
    more = [*command, "--repeats", str(repeats + 1)]
    done = subprocess.run(more, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(more)}` ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"][1:], answer["version"]


def differences(folder: Path, names: list[str]) -> dict[str, float]:
    """Norm of each wave minus that of vitreous, relative to the scattered part."""
    waves = {name: np.load(folder / f"{NAMES[name]}.npy") for name in names}
    own = waves["vitreous"]
    return {name: float(np.linalg.norm(wave - own) / np.linalg.norm(own - 1)) for name, wave in waves.items()}


def rows(results: dict[str, dict]) -> list[list[str]]:
    table = [["", "whole process, s", "alone, s", "abTEM / this, whole", "alone", "difference of waves"]]
    peer = results.get("abTEM")
    for name, result in results.items():
        ratios = ["", ""]
        if peer and name != "abTEM":
            ratios = [f"{peer[kind] / result[kind]:.1f}" for kind in ("whole", "alone")]
        line = [name, result["whole_text"], result["alone_text"], *ratios, f"{result['difference']:.1e}"]
        table.append(line)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--slabs", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--abtem-python", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    peer = python_of_abtem(options.abtem_python)
    if peer is None:
        say(f"abTEM is left out: not found. {INSTALL}")
    pythons = {name: Path(sys.executable) if name != "abTEM" else peer for name in NAMES}
    with tempfile.TemporaryDirectory(prefix="vitreous-multislice-") as place:
        folder = Path(place)
        write_slabs(folder / "slabs.npy", options.slabs, options.size)
        threads = ["--threads", str(options.threads)]
        commands = {
            name: [str(python), str(RUN), NAMES[name], "slabs.npy", f"{NAMES[name]}.npy", *threads]
            for name, python in pythons.items()
            if python is not None
        }
        costs = compare([Contender(name, command) for name, command in commands.items()], folder, options.repeats)
        inner = {name: inner_seconds(command, folder, options.repeats) for name, command in commands.items()}
        apart = differences(folder, list(commands))
    results = {cost.name: summary(cost, *inner[cost.name], apart[cost.name]) for cost in costs}
    print(f"{options.slabs} slabs of {options.size} x {options.size} pixels, {options.threads} threads")
    print_table(rows(results))
    if peer is not None:
        ratio, alone = (results["abTEM"][kind] / results["vitreous"][kind] for kind in ("whole", "alone"))
        print(f"goal: {GOAL:.0f} times faster than abTEM {results['abTEM']['version']}; ", end="")
        print(f"whole process {ratio:.1f} times, calculation alone {alone:.1f} times")
    write_json(options.json, {"machine": facts, "threads": options.threads, "multislice": results})


def summary(cost: Cost, seconds: list[float], version: str, difference: float) -> dict:
    middle = statistics.median(seconds)
    return {
        "version": version,
        "whole": cost.median("wall_seconds"),
        "whole_text": cost.spread("wall_seconds"),
        "alone": middle,
        "alone_text": f"{middle:.2f} ({min(seconds):.2f}-{max(seconds):.2f})",
        "alone_runs": seconds,
        "difference": difference,
        **cost.as_json(),
    }


if __name__ == "__main__":
    main()
