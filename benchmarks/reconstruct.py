"""Time `vitreous reconstruct` against RELION and cryoDRGN on the same particles, and compare the maps with the truth.

    python benchmarks/reconstruct.py [--sizes 10000x128 2000x64] [--repeats 3] [--cryodrgn PATH] [--json FILE]

Whole processes are timed, started in turn in one folder after one untimed run of each. `vitreous reconstruct` is the
full command: two half maps, the map, mask, FSC curves, sharpened map and report, where `relion_reconstruct` writes one
map and `cryodrgn backproject_voxel` the map, two half maps and their FSC.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from measure import MIB, Contender, Cost, Run, compare, machine, measure, print_machine, print_table, write_json
from programs import Program, cryodrgn, relion_reconstruct, vitreous

SPECIMEN = "bundled:6zu5"
# The ribosome reaches 165 A from its centre: 0.40 of a box this wide.
WIDTH = 410.0  # angstrom
SPHERE, EDGE = 0.41, 3.0  # radius as a fraction of the box, edge in voxels
FRACTIONS = (0.25, 0.5, 0.75, 0.9)  # of the Nyquist frequency, where the maps are compared with the truth
WARM_UP_IMAGES = 64  # of cryoDRGN: enough to load everything it needs


@dataclass(frozen=True)
class Size:
    """How many particles of how many pixels."""

    count: int
    box: int

    @classmethod
    def parse(cls, text: str) -> Size:
        count, _, box = text.partition("x")
        return cls(int(count), int(box))

    @property
    def pixel_size(self) -> float:
        return round(WIDTH / self.box, 4)


@dataclass(frozen=True)
class Entry:
    """A program's part in the comparison: its commands and where its map appears."""

    contender: Contender
    map: str
    preparation: Sequence[Sequence[str]] = ()


def entries(size: Size, programs: dict[str, Program], slow_repeats: int) -> list[Entry]:
    """The commands of each installed program, for a folder that holds particles.star and particles.mrcs."""
    ours, relion, drgn = programs["vitreous"], programs.get("relion"), programs.get("cryodrgn")
    command = [ours.path, "reconstruct", "particles.star", "--out", "vitreous", "--force"]
    found = [Entry(Contender(ours.label, command), "vitreous/map.mrc")]
    if relion is not None:
        command = [relion.path, "--i", "particles.star", "--o", "relion.mrc", "--ctf"]
        found.append(Entry(Contender(relion.label, command), "relion.mrc"))
    if drgn is not None:
        box, pixel_size = ["-D", str(size.box)], ["--Apix", str(size.pixel_size)]
        preparation = [
            [drgn.path, "parse_pose_star", "particles.star", "-o", "pose.pkl", *box],
            # Without a phase shift in the file it must be told that there is none.
            [drgn.path, "parse_ctf_star", "particles.star", "-o", "ctf.pkl", *box, *pixel_size, "--ps", "0"],
        ]
        command = [drgn.path, "backproject_voxel", "particles.mrcs", "--poses", "pose.pkl", "--ctf", "ctf.pkl"]
        warm_up = [*command, "-o", "cryodrgn_warm_up", "--first", str(WARM_UP_IMAGES)]
        contender = Contender(drgn.label, [*command, "-o", "cryodrgn"], warm_up, slow_repeats)
        found.append(Entry(contender, "cryodrgn/backproject.mrc", preparation))
    return found


def simulate(program: Program, size: Size, snr: float, parent: Path) -> Path:
    """A folder with particles.star, particles.mrcs and truth_map.mrc."""
    command = [program.path, "simulate", "particles", SPECIMEN, "--out", str(parent / "data"), "--snr", str(snr)]
    command += ["--count", str(size.count), "--box", str(size.box), "--pixel-size", str(size.pixel_size)]
    measure(command, parent, parent / "simulate.log")
    return parent / "data"


def prepare(found: Sequence[Entry], folder: Path) -> dict[str, Run]:
    """Run what has to run before a program can start; what that cost, by program."""
    cost = {}
    for entry in found:
        runs = [measure(command, folder, folder / "prepare.log") for command in entry.preparation]
        if runs:
            wall, cpu = (sum(getattr(run, name) for run in runs) for name in ("wall_seconds", "cpu_seconds"))
            cost[entry.contender.name] = Run(wall, cpu, max(run.peak_bytes for run in runs))
    return cost


@dataclass(frozen=True)
class Quality:
    """FSC of a map with the truth at some resolutions, and the resolution at FSC 0.5.

    `limited_by` is "nyquist" where the FSC stays above to the end. `mirrored`: the mirror image of the map agreed better
    than the map itself.
    """

    fsc: dict[float, float]
    resolution: float | None
    limited_by: str
    mirrored: bool


def quality(path: Path, truth: Path, resolutions: Sequence[float]) -> Quality:
    """Compare a map with the truth inside a soft sphere, in the hand that fits. The scale of the map has no say."""
    from vitreous.io.mrc import read_volume
    from vitreous.reconstruction.fsc import MODEL, fourier_shell_correlation
    from vitreous.reconstruction.mask import spherical_mask

    true = read_volume(truth)
    data, size = read_volume(path, true.pixel_size).data, true.pixel_size
    mask = spherical_mask(true.box, SPHERE * true.box, EDGE).values
    # The mirror plane goes through the origin, N // 2.
    hands = [data, np.roll(data[::-1], 1 - true.box % 2, axis=0)]
    curves = [fourier_shell_correlation(hand * mask, true.data * mask, size) for hand in hands]
    # A map of the wrong contrast correlates negatively: that is no reason to mirror it.
    agreement = [abs(float(curve.correlation[1:].mean())) for curve in curves]
    mirrored = agreement[1] > agreement[0]
    curve = curves[mirrored]
    end = curve.resolution(MODEL)
    return Quality({r: curve.at(r) for r in resolutions}, end.value, end.limited_by, mirrored)


def print_costs(costs: Sequence[Cost], preparations: dict[str, Run]) -> None:
    rows = [["", "wall s", "CPU s", "peak MiB", "runs", "wall ratio", "CPU ratio"]]
    ours = costs[0]
    for cost in costs:
        ratios = [f"{cost.median(q) / ours.median(q):.2f}" for q in ("wall_seconds", "cpu_seconds")]
        spreads = [cost.spread("wall_seconds"), cost.spread("cpu_seconds"), cost.spread("peak_bytes", MIB, 0)]
        rows.append([cost.name, *spreads, str(len(cost.runs)), *ratios])
    print_table(rows)
    for name, run in preparations.items():
        print(f"not counted: preparation for {name}, {run.wall_seconds:.1f} s wall, {run.cpu_seconds:.1f} s CPU")


def print_qualities(qualities: dict[str, Quality], resolutions: Sequence[float]) -> None:
    rows = [["FSC with the truth at", *(f"{r:.1f} A" for r in resolutions), "FSC 0.5 at"]]
    for name, found in qualities.items():
        end = "none" if found.resolution is None else f"{found.resolution:.2f} A"
        end = f"{end} (Nyquist)" if found.limited_by == "nyquist" else end
        name = f"{name} (mirror image)" if found.mirrored else name
        rows.append([name, *(f"{found.fsc[r]:.3f}" for r in resolutions), end])
    print_table(rows)


def run_size(size: Size, programs: dict[str, Program], options: argparse.Namespace) -> dict:
    """Simulate, time and compare at one size; print it and return it."""
    with tempfile.TemporaryDirectory(prefix="vitreous-benchmark-", dir=options.work) as name:
        folder = simulate(programs["vitreous"], size, options.snr, Path(name))
        found = entries(size, programs, options.slow_repeats)
        preparations = prepare(found, folder)
        costs = compare([entry.contender for entry in found], folder, options.repeats)
        resolutions = [round(2 * size.pixel_size / fraction, 2) for fraction in FRACTIONS]
        maps = {entry.contender.name: folder / entry.map for entry in found}
        qualities = {label: quality(path, folder / "truth_map.mrc", resolutions) for label, path in maps.items()}
    images = f"{size.count:,} particles of {size.box} px of {size.pixel_size:g} A"
    print(f"\n{images}, C1, CTF, signal-to-noise {options.snr:g}")
    print_costs(costs, preparations)
    print_qualities(qualities, resolutions)
    return {
        "particles": size.count,
        "box": size.box,
        "pixel_size_angstrom": size.pixel_size,
        "snr": options.snr,
        "costs": [cost.as_json() for cost in costs],
        "ratios": {cost.name: ratios(costs[0], cost) for cost in costs[1:]},
        "preparation": {label: vars(run) for label, run in preparations.items()},
        "quality": {label: vars(found) for label, found in qualities.items()},
    }


def ratios(ours: Cost, peer: Cost) -> dict[str, float]:
    """How many times our medians the peer's are."""
    return {q: peer.median(q) / ours.median(q) for q in ("wall_seconds", "cpu_seconds", "peak_bytes")}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=[Size(10_000, 128), Size(2_000, 64)])
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each program")
    parser.add_argument("--slow-repeats", type=int, default=1, help="timed runs of cryoDRGN (default %(default)s)")
    parser.add_argument("--snr", type=float, default=0.1, help="signal-to-noise ratio of the images")
    parser.add_argument("--cryodrgn", metavar="PATH", help="the program, if not on PATH or in benchmarks/.peers")
    parser.add_argument("--without", nargs="*", choices=["relion", "cryodrgn"], default=[], help="leave peers out")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the data are meanwhile (10000x128: 655 MB)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    peers = {"relion": relion_reconstruct, "cryodrgn": lambda: cryodrgn(options.cryodrgn)}
    programs = {"vitreous": vitreous()}
    programs |= {name: peer for name, find in peers.items() if name not in options.without and (peer := find())}
    facts = machine()
    print_machine(facts)
    print("Median (smallest-largest) of whole processes run in turn, caches warm: one untimed run of each came first.")
    print("Ratios: how many times the median of vitreous.")
    results = [run_size(size, programs, options) for size in options.sizes]
    versions = {name: program.version for name, program in programs.items()}
    write_json(options.json, {"machine": facts, "versions": versions, "sizes": results})


if __name__ == "__main__":
    main()
