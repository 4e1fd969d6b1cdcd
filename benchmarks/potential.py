"""The potential of a large model on a grid: voxel averages, the band-limited potential, and gemmi's density calculator.

    python benchmarks/potential.py MODEL.cif.gz [--pixel-size 1.0] [--repeats 3] [--threads 2] [--json FILE]

Each contender is a process of its own that reads the model and makes its potential; both times are printed. gemmi samples the
potential at points (its DensityCalculatorE, one thread); how far it goes out from each atom is its `cutoff`, which is made
as small as it must be for gemmi's error not to exceed that of the voxel averages.

The error of a map is the root mean square of what it differs by from its own limit, over that of the limit: voxel averages from
voxel averages in double precision cut off at 1e-12, samples from samples with a cutoff of 1e-12, the band-limited potential
from that of tolerance 1e-9 in double precision. "beyond the band" is how far a map, rid of its pixels' window, is from the
band-limited potential up to 2/3 of the Nyquist frequency: what was folded back.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from measure import Contender, Cost, compare, machine, measure, print_machine, print_table, write_json
from vitreous.constants import POTENTIAL_PER_FACTOR

VOXELS, BAND_LIMITED, GEMMI = "voxel averages", "band-limited potential", "gemmi DensityCalculatorE"
CUTOFFS = [10.0**-power for power in range(4, 10)]
MARGIN = 12.0  # angstrom around the atoms


# --- the contenders, each run in a process of its own -----------------------------------------------------------------


def make_map(
    name: str, model: Path, pixel_size: float, accuracy: float | None, threads: int
) -> tuple[np.ndarray, float]:
    """A contender's map in volts [z, y, x], and the seconds that it took once the model was read. Accuracy None: the limit."""
    if name == GEMMI:
        return _gemmi_map(model, pixel_size, 1e-12 if accuracy is None else accuracy)
    from vitreous.io.atoms import read_atoms
    from vitreous.specimen.potential import potential_volume
    from vitreous.specimen.voxels import voxel_averages

    atoms = read_atoms(model)
    position, box = _centred(atoms.position, pixel_size)
    atoms = replace(atoms, position=position)
    limit = accuracy is None
    started = time.perf_counter()
    if name == VOXELS:
        settings = {"tolerance": 1e-12, "dtype": np.float64} if limit else {}
        result = voxel_averages(atoms, (box,) * 3, pixel_size, threads=threads, **settings)
    else:
        if not limit:
            atoms = replace(atoms, position=position.astype(np.float32))
        settings = {"tolerance": 1e-9} if limit else {}
        result = potential_volume(atoms, box, pixel_size, centre=False, threads=threads, **settings).data
    return result, time.perf_counter() - started


def _gemmi_map(model: Path, pixel_size: float, cutoff: float) -> tuple[np.ndarray, float]:
    import gemmi

    structure = gemmi.read_structure(str(model))
    flat = gemmi.FlatStructure(structure)
    position, box = _centred(np.array(flat.pos), pixel_size)
    size = box * pixel_size
    shift = position[0] - np.array(flat.pos)[0] + box // 2 * pixel_size
    structure[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(np.eye(3).tolist()), gemmi.Vec3(*shift)))
    started = time.perf_counter()
    calculator = gemmi.DensityCalculatorE()
    calculator.cutoff = cutoff
    calculator.d_min = 2 * pixel_size
    calculator.rate = 1.0
    calculator.grid.set_unit_cell(gemmi.UnitCell(size, size, size, 90, 90, 90))
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(box, box, box)
    calculator.add_model_density_to_grid(structure[0])
    result = np.array(calculator.grid, copy=False).transpose(2, 1, 0) * np.float32(POTENTIAL_PER_FACTOR)
    return result, time.perf_counter() - started


def _centred(position: np.ndarray, pixel_size: float) -> tuple[np.ndarray, int]:
    """Positions about the middle of their extent, and the even box that holds them with a margin."""
    middle = (position.min(axis=0) + position.max(axis=0)) / 2
    reach = np.ptp(position, axis=0).max() / 2 + MARGIN
    return position - middle, 2 * int(np.ceil(reach / pixel_size))


def work(options: argparse.Namespace) -> None:
    """What a contender's process does: make the map, and leave it and its time behind."""
    accuracy = None if options.accuracy == "limit" else float(options.accuracy)
    result, seconds = make_map(options.work, options.model, options.pixel_size, accuracy, options.threads)
    if options.keep is not None:
        np.save(options.keep, result)
        options.keep.with_suffix(".json").write_text(json.dumps({"seconds": seconds}))
    else:
        print(json.dumps({"seconds": seconds, "sum": float(result.sum(dtype=np.float64))}))


# --- the comparison ---------------------------------------------------------------------------------------------------


class Comparison:
    """Maps made by processes, and their errors."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.limits: dict[str, np.ndarray] = {}

    def command(self, name: str, accuracy: float | str, keep: Path | None = None) -> list[str]:
        options = self.options
        words = [sys.executable, __file__, str(options.model.resolve()), "--work", name, "--accuracy", str(accuracy)]
        words += ["--pixel-size", str(options.pixel_size), "--threads", str(options.threads)]
        return words if keep is None else [*words, "--keep", str(keep)]

    def made(self, name: str, accuracy: float | str) -> tuple[np.ndarray, float]:
        """The map of a contender and the seconds that it took without reading."""
        keep = self.folder / "map.npy"
        measure(self.command(name, accuracy, keep), self.folder, self.folder / "map.log")
        return np.load(keep), json.loads(keep.with_suffix(".json").read_text())["seconds"]

    def error(self, name: str, found: np.ndarray) -> float:
        if name not in self.limits:
            self.limits[name] = self.made(name, "limit")[0].astype(np.float32)
        limit = self.limits[name]
        return float(np.linalg.norm((found - limit).ravel()) / np.linalg.norm(limit.ravel()))

    def beyond_band(self, name: str, found: np.ndarray) -> float:
        """What a map differs by from the band-limited potential within 2/3 of Nyquist, relative to it."""
        k = np.fft.fftfreq(found.shape[0])
        half = k[: found.shape[0] // 2 + 1]
        inside = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.abs(half) ** 2) < 1 / 3
        transform = _transform(found)[inside]
        if name == VOXELS:
            window = np.sinc(k)[:, None, None] * np.sinc(k)[None, :, None] * np.sinc(half)
            transform /= window[inside].astype(np.float32)
        expected = _transform(self.limits[BAND_LIMITED])[inside]
        return float(np.linalg.norm(transform - expected) / np.linalg.norm(expected))


def _transform(volume: np.ndarray) -> np.ndarray:
    from scipy.fft import rfftn

    result = rfftn(np.asarray(volume, dtype=np.float32), workers=2)
    assert isinstance(result, np.ndarray)
    return result


def matching_cutoff(comparison: Comparison, error: float) -> float:
    """The largest of the cutoffs with which gemmi's error is not above this one."""
    for cutoff in CUTOFFS:
        if comparison.error(GEMMI, comparison.made(GEMMI, cutoff)[0]) <= error:
            return cutoff
    return CUTOFFS[-1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pixel-size", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", choices=[VOXELS, BAND_LIMITED, GEMMI], help=argparse.SUPPRESS)
    parser.add_argument("--accuracy", default="1", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(options)
        return
    facts = machine()
    print_machine(facts)
    with tempfile.TemporaryDirectory() as place:
        comparison = Comparison(options, Path(place))
        found = {name: comparison.made(name, 1)[0] for name in (BAND_LIMITED, VOXELS)}
        errors = {name: comparison.error(name, values) for name, values in found.items()}
        cutoff = matching_cutoff(comparison, errors[VOXELS])
        found[GEMMI] = comparison.made(GEMMI, cutoff)[0]
        errors[GEMMI] = comparison.error(GEMMI, found[GEMMI])
        beyond = {name: comparison.beyond_band(name, values) for name, values in found.items()}
        accuracy = {VOXELS: 1.0, BAND_LIMITED: 1.0, GEMMI: cutoff}
        alone = {name: [comparison.made(name, accuracy[name])[1] for _ in range(options.repeats)] for name in found}
        contenders = [Contender(name, comparison.command(name, accuracy[name])) for name in found]
        costs = compare(contenders, Path(place), options.repeats)
    report(costs, alone, errors, beyond, cutoff)
    results = [
        {
            **cost.as_json(),
            "without_reading": alone[cost.name],
            "error": errors[cost.name],
            "beyond_band": beyond[cost.name],
        }
        for cost in costs
    ]
    write_json(options.json, {"machine": facts, "model": options.model.name, "cutoff": cutoff, "potential": results})


def report(costs: list[Cost], alone: dict, errors: dict, beyond: dict, cutoff: float) -> None:
    rows = [["", "whole process, s", "without reading, s", "error", "beyond the band"]]
    for cost in costs:
        seconds = sorted(alone[cost.name])
        middle = f"{np.median(seconds):.2f} ({seconds[0]:.2f}-{seconds[-1]:.2f})"
        rows.append(
            [cost.name, cost.spread("wall_seconds"), middle, f"{errors[cost.name]:.1e}", f"{beyond[cost.name]:.1e}"]
        )
    print_table(rows)
    medians = {cost.name: (cost.median("wall_seconds"), float(np.median(alone[cost.name]))) for cost in costs}
    whole, computing = (medians[GEMMI][i] / medians[VOXELS][i] for i in (0, 1))
    print(
        f"gemmi (cutoff {cutoff:g}) over voxel averages: {whole:.2f} x the whole process, {computing:.2f} x without reading"
    )


if __name__ == "__main__":
    main()
