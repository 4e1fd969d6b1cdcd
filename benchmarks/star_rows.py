"""Rows per second of a particle STAR file: vitreous, beside gemmi and starfile on a shorter file of the same rows.

    python benchmarks/star_rows.py --rows 8500000 --peer-rows 100000

The file has the 26 columns that RELION 4 writes, padded as it pads them: 100,000 distinct rows, repeated. 8.5 million
rows take 3.6 GB in the temporary folder; the file is removed at the end. All three are timed up to typed columns:
float arrays and texts.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from vitreous.io.relion import read_particles
from vitreous.io.star import read_star, write_star

LABELS = [
    "CoordinateX",
    "CoordinateY",
    "AutopickFigureOfMerit",
    "ClassNumber",
    "AnglePsi",
    "ImageName",
    "MicrographName",
    "OpticsGroup",
    "CtfMaxResolution",
    "CtfFigureOfMerit",
    "DefocusU",
    "DefocusV",
    "DefocusAngle",
    "CtfBfactor",
    "CtfScalefactor",
    "PhaseShift",
    "GroupNumber",
    "AngleRot",
    "AngleTilt",
    "OriginXAngst",
    "OriginYAngst",
    "NormCorrection",
    "LogLikeliContribution",
    "MaxValueProbDistribution",
    "NrOfSignificantSamples",
    "RandomSubset",
]
HEADER = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
opticsGroup1            1   300.000000     2.700000     0.100000     1.100000          256


# version 30001

data_particles

loop_
"""
TEXTS = ("ImageName", "MicrographName")
INTEGERS = ("ClassNumber", "GroupNumber", "NrOfSignificantSamples", "RandomSubset")


def distinct_rows(count: int) -> bytes:
    rng = np.random.default_rng(1)
    columns = []
    for label in LABELS:
        if label == "ImageName":
            columns.append(
                [
                    f"{n % 200 + 1:06d}@Extract/job012/Movies/20170629_{n // 200:05d}_frameImage.mrcs"
                    for n in range(count)
                ]
            )
        elif label == "MicrographName":
            columns.append([f"MotionCorr/job002/Movies/20170629_{n // 200:05d}_frameImage.mrc" for n in range(count)])
        elif label == "OpticsGroup":
            columns.append([f"{1:12d}"] * count)
        elif label in INTEGERS:
            columns.append([f"{value:12d}" for value in rng.integers(1, 3, count)])
        else:
            columns.append([f"{value:12.6f}" for value in rng.uniform(-180, 20000, count)])
    return "".join(" ".join(row) + " \n" for row in zip(*columns)).encode()


def write_file(path: Path, rows: int) -> None:
    block = distinct_rows(min(rows, 100_000))
    per_block = block.count(b"\n")
    with open(path, "wb") as stream:
        stream.write((HEADER + "".join(f"_rln{label} #{n}\n" for n, label in enumerate(LABELS, 1))).encode())
        for _ in range(rows // per_block):
            stream.write(block)
        stream.write(b"".join(block.splitlines(keepends=True)[: rows % per_block]))


def timed(name: str, rows: int, action) -> float:
    start = time.perf_counter(), time.process_time()
    result = action()
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speed = f"{rows / wall:>9,.0f} rows/s"
    print(f"{name:<26} {rows:>9,} rows {wall:7.2f} s ({cpu:6.2f} s of CPU) {speed}  peak {peak:5.2f} GB", flush=True)
    del result
    return rows / wall


def read_gemmi(path: Path):
    import gemmi

    block = gemmi.cif.read(str(path)).find_block("particles")
    columns = {label: list(block.find_values("_rln" + label)) for label in LABELS}
    return {
        label: values if label in TEXTS else np.array(list(map(float, values))) for label, values in columns.items()
    }


def read_starfile(path: Path):
    import starfile

    return starfile.read(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peer-rows", type=int, default=100_000)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files are made and removed (default: the temporary folder)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        small, large = Path(folder) / "small.star", Path(folder) / "large.star"
        write_file(small, arguments.peer_rows)
        ours = timed("vitreous read_star", arguments.peer_rows, lambda: read_star(small))
        peers = {"gemmi, columns as arrays": read_gemmi, "starfile": read_starfile}
        for name, reader in peers.items():
            speed = timed(name, arguments.peer_rows, lambda reader=reader: reader(small))
            print(f"    vitreous / {name}: {ours / speed:.1f}")
        write_file(large, arguments.rows)
        print(f"{large.stat().st_size / 1e9:.2f} GB")
        timed("vitreous read_star", arguments.rows, lambda: read_star(large))
        timed("vitreous read_particles", arguments.rows, lambda: read_particles(large, load_images=False))
        star = read_star(large)
        timed("vitreous write_star", arguments.rows, lambda: write_star(Path(folder) / "written.star", star))


if __name__ == "__main__":
    main()
