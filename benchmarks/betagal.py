"""Real particles (beta-galactosidase, EMPIAR-10204, D2): with published poses, by vitreous and RELION, and without any, with negative controls.

    python benchmarks/betagal.py [PARTICLES_POSED.star] [--parts poses classes nothing] [--data FOLDER] [--threads 2] [--json FILE]

`poses`: half maps of the published poses, compared in a soft sphere of 26 pixels (1 up to there, a raised cosine down to 0 three pixels
beyond), which is nobody's own mask. Three sets are reconstructed: the particles as they are; the same with wrong CTFs,
taken by image name from `particles_wrong_ctf.star` beside them; the same with poses and shifts passed on to other
particles. The controls must fall: an FSC that they reach too was made by the method and not by the particles.

`classes`: 2D classes of all picks in `particles.star` beside them, and how many of those in the good classes are among the particles with
poses. `nothing`: a map of all picks from nothing, in independent halves, against the map of the published poses; then the same with wrong CTFs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from alignment import betagal_parts
from alignment.session import Session
from comparison import print_targets
from measure import MIB, Contender, Cost, compare, machine, print_machine, print_table, write_json
from programs import Program, relion_reconstruct, vitreous
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import MrcStack, StackWriter
from vitreous.io.particles import read_particles, write_particles
from vitreous.model.particles import Particles
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.reconstruction.mask import spherical_mask

PARTICLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "betagal" / "particles_posed.star"
WRONG_CTF = "particles_wrong_ctf.star"
DATA = Path(tempfile.gettempdir()) / "vitreous-alignment-benchmark"
SEED = 0  # of the order in which poses are passed on
RADIUS, EDGE = 26.0, 3.0  # pixels
RESOLUTIONS = (11.9, 8.4, 7.8)  # angstrom
SETS = ("as published", "wrong CTFs", "shuffled poses")


def with_ctf_of(particles: Particles, others: Particles) -> Particles:
    """The particles with the CTF parameters that another file gives for the same images."""
    rows = {name: row for row, name in enumerate(image_keys(others))}
    missing = [name for name in image_keys(particles) if name not in rows]
    if missing or others.ctf is None:
        sys.exit(f"{len(missing)} particles are not in the file of wrong CTFs, or it holds none")
    return replace(particles, ctf=others.ctf.rows(np.array([rows[name] for name in image_keys(particles)])))


def image_keys(particles: Particles) -> list[tuple[int, str]]:
    names = particles.names
    return [(int(index), names.paths[code]) for index, code in zip(names.index, names.path_code)]


def with_shuffled_poses(particles: Particles) -> Particles:
    """The particles, each with the pose and shift of another one drawn at random."""
    if particles.pose is None:
        sys.exit("the particles have no poses to shuffle")
    order = np.random.default_rng(SEED).permutation(len(particles))
    return replace(particles, pose=particles.pose.rows(order))


def copy_stacks(particles: Particles, source: Path, folder: Path) -> None:
    """The stacks of the particles, under the same names in another folder, as float32: RELION 3.1 reads no float16."""
    for name in particles.names.paths:
        stack = MrcStack(source / name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with StackWriter(folder / name, stack.pixel_size or particles.pixel_size) as writer:
            writer.append(stack.read(slice(None)))


def write_sets(path: Path, folder: Path) -> dict[str, Path]:
    """The three sets as STAR files in a folder that holds the stacks, too."""
    particles = read_particles(path, load_images=False)
    copy_stacks(particles, path.parent, folder)
    wrong = read_particles(path.with_name(WRONG_CTF), load_images=False)
    sets = particles, with_ctf_of(particles, wrong), with_shuffled_poses(particles)
    files = {name: folder / f"set_{number}.star" for number, name in enumerate(SETS)}
    for file, content in zip(files.values(), sets):
        write_particles(file, content)
    return files


def our_half_maps(program: Program, star: Path, symmetry: str, diameter: float | None) -> tuple[Contender, list[Path]]:
    """The run of `vitreous reconstruct` and the half maps that it leaves."""
    name = "vitreous" if diameter is None else f"vitreous --diameter {diameter:g}"
    out = star.with_name(f"{star.stem}_{'default' if diameter is None else 'whole'}")
    command = [program.path, "reconstruct", star.name, "--symmetry", symmetry, "--out", out.name, "--force"]
    command += [] if diameter is None else ["--diameter", f"{diameter:g}"]
    return Contender(name, command), [out / "half1.mrc", out / "half2.mrc"]


def relion_half_maps(program: Program, star: Path, symmetry: str) -> list[tuple[Contender, Path]]:
    """The two runs of `relion_reconstruct`, one for each half set, and the half map of each."""
    runs = []
    for half in (1, 2):
        path = star.with_name(f"{star.stem}_relion{half}.mrc")
        command = [program.path, "--i", star.name, "--o", path.name, "--ctf", "--sym", symmetry, "--subset", str(half)]
        runs.append((Contender(f"{program.label}, half {half}", command), path))
    return runs


def correlations(half_maps: list[Path], resolutions: tuple[float, ...]) -> list[float]:
    """FSC of two half maps inside the sphere."""
    first, second = (read_volume(path) for path in half_maps)
    mask = spherical_mask(first.box, RADIUS, EDGE).values
    curve = fourier_shell_correlation(first.data * mask, second.data * mask, first.pixel_size)
    return [curve.at(resolution) for resolution in resolutions]


def run_set(programs: dict[str, Program], star: Path, options: argparse.Namespace) -> tuple[dict, list[Cost]]:
    """Reconstruct one set with every program: FSC by program, and what the runs cost."""
    ours = [our_half_maps(programs["vitreous"], star, options.symmetry, diameter) for diameter in (None, 0.0)]
    contenders = [contender for contender, _ in ours]
    maps = {contender.name: paths for contender, paths in ours}
    if "relion" in programs:
        theirs = relion_half_maps(programs["relion"], star, options.symmetry)
        contenders += [contender for contender, _ in theirs]
        maps[programs["relion"].label] = [path for _, path in theirs]
    costs = compare(contenders, star.parent, options.repeats)
    return {name: correlations(paths, RESOLUTIONS) for name, paths in maps.items()}, costs


def print_correlations(found: dict[str, dict[str, list[float]]]) -> None:
    rows = [["half-map FSC in the sphere at", *(f"{r:g} A" for r in RESOLUTIONS)]]
    for kind, by_program in found.items():
        rows += [[f"{kind}: {name}", *(f"{value:.3f}" for value in values)] for name, values in by_program.items()]
    print_table(rows)


def print_costs(costs: list[Cost]) -> None:
    rows = [["", "wall s", "CPU s", "peak MiB"]]
    for cost in costs:
        quantities = cost.spread("wall_seconds"), cost.spread("cpu_seconds"), cost.spread("peak_bytes", MIB, 0)
        rows.append([cost.name, *quantities])
    print_table(rows)


def with_poses(session: Session) -> None:
    """Reconstruct the three sets; print and keep what they give."""
    options, relion = session.options, relion_reconstruct()
    programs = {"vitreous": session.vitreous} | ({} if relion is None else {"relion": relion})
    with tempfile.TemporaryDirectory(prefix="vitreous-benchmark-") as name:
        files = write_sets(options.particles, Path(name))
        results = {kind: run_set(programs, star, options) for kind, star in files.items()}
    print(f"\n{options.particles.name}, {options.symmetry}, soft sphere of {RADIUS:g} px with an edge of {EDGE:g} px")
    print_correlations({kind: found for kind, (found, _) in results.items()})
    print("\nWhole processes, caches warm; RELION's two halves are two runs")
    print_costs(results[SETS[0]][1])
    fsc = {kind: {"fsc": found, "costs": [c.as_json() for c in costs]} for kind, (found, costs) in results.items()}
    versions = {key: program.version for key, program in programs.items()}
    session.result["poses"] = {"versions": versions, "resolutions_angstrom": RESOLUTIONS, "sets": fsc}


PARTS = {"poses": with_poses, "classes": betagal_parts.classes, "nothing": betagal_parts.from_nothing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path, nargs="?", default=PARTICLES)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--symmetry", default="D2", help="of the published poses; without poses it is D2")
    parser.add_argument("--repeats", type=int, default=1, help="timed runs of the reconstructions")
    parser.add_argument("--threads", type=int, default=2, help="of classes and alignment")
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="of what is written without poses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    options = parser.parse_args()
    if not options.particles.is_file():
        sys.exit(f"{options.particles} is absent: name the file of particles with poses")
    options.betagal = options.particles.parent
    session = Session(options, vitreous(), None)
    facts = machine()
    print_machine(facts)
    for part in options.parts:
        PARTS[part](session)
    if session.targets:
        print_targets(session.targets)
    targets = [vars(target) for target in session.targets]
    write_json(options.json, {"machine": facts, "parts": session.result, "targets": targets})


if __name__ == "__main__":
    main()
