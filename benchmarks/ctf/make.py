"""The simulated set on which CTF estimation is measured: micrographs of which everything is known, and some without a CTF.

    python benchmarks/ctf/make.py FOLDER [--groups ordinary tilted ...] [--seed 0] [--every 1] [--force]

Each micrograph is made by `vitreous simulate micrograph` with the options that `recipes.py` says; those without Thon rings by
`controls.py`. README.md beside this script describes the groups and the columns of FOLDER/truth.star, which is all that another program needs.
Everything follows from the seeds: `--seed N` other than 0 makes another set of the same kinds, to develop on, so that nothing
is tuned on the published one. What FOLDER holds already, made by the same commands, is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import above  # noqa: F401 - for the imports of the second group below
import numpy as np
from controls import controls
from recipes import LENS, PIXEL_SIZE, Recipe, every, recipes

from measure import measure, say
from programs import vitreous
from vitreous.io.micrograph_star import read_micrographs, write_micrographs
from vitreous.io.mrc_stack import write_stack
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.units import KILOVOLT, MILLIMETRE

IMAGES, COORDINATES, TRUTH, MANIFEST = "micrographs", "coordinates", "truth.star", "manifest.json"
CONTROLS = "nothing"  # the group without rings
MORE = ("vitreousIceThickness", "vitreousTiltDeg", "vitreousTiltAxisDeg")
CHECKED = 1 << 20  # bytes of an image that its checksum covers: header and first rows


def make_set(folder: Path, seed: int = 0, groups: Sequence[str] | None = None, step: int = 1) -> Path:
    """Make what is missing of these groups (None: of all), and write truth.star and manifest.json; the path of truth.star.

    Groups that were not asked for stay as they are if they are of the same set.
    """
    for name in (IMAGES, COORDINATES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    known = read_manifest(folder, seed, step)
    made = {name: row for name, row in known.items() if groups is not None and row["group"] not in groups}
    numbers: dict[str, int] = {}
    for recipe in every(step, recipes(seed)):
        if groups is None or recipe.group in groups:
            first = numbers.get(recipe.group, 0) + 1
            numbers[recipe.group] = first + recipe.count - 1
            names = [f"{recipe.group}_{first + offset:02d}" for offset in range(recipe.count)]
            made |= made_by(recipe, names, folder, known)
            write_manifest(folder, seed, step, {**known, **made})  # if it ends here, this much is done
    if groups is None or CONTROLS in groups:
        made |= made_controls(seed, folder)
    write_manifest(folder, seed, step, made)
    write_truth(folder / TRUTH, made)
    return folder / TRUTH


def made_by(recipe: Recipe, names: list[str], folder: Path, known: dict[str, dict]) -> dict[str, dict]:
    """Rows of the manifest: command, truth and checksum of each micrograph of a recipe, made unless it is there."""
    words = recipe.words
    if all(name in known and known[name]["command"] == words for name in names):
        return {name: known[name] for name in names}
    say(f"{', '.join(dict.fromkeys((names[0], names[-1])))}: vitreous simulate micrograph {' '.join(words)}")
    job = folder / "job"
    command = [vitreous().path, "simulate", "micrograph", *words, "--out", str(job), "--force"]
    measure(command, folder, folder / "job.log")
    _, paths, ctf, table = read_micrographs(job / "micrographs.star")
    found = {}
    for row, (name, path) in enumerate(zip(names, paths)):
        shutil.move(job / path, folder / IMAGES / f"{name}.mrc")
        truth = {
            "group": recipe.group,
            "defocus": [float(ctf.defocus_u[row]), float(ctf.defocus_v[row]), float(ctf.defocus_angle[row])],
            **{column: float(table[column][row]) for column in MORE},
        }
        found[name] = {"command": words, **truth, "sha256": checksum(folder / IMAGES / f"{name}.mrc")}
    if (job / "coordinates.star").is_file() and recipe.count == 1:
        shutil.move(job / "coordinates.star", folder / COORDINATES / f"{names[0]}.star")
    shutil.rmtree(job)
    return found


def made_controls(seed: int, folder: Path) -> dict[str, dict]:
    """Rows of the manifest of the images without rings."""
    found = {}
    for name, image in controls(seed):
        row, path = f"{CONTROLS}_{name}", folder / IMAGES / f"{CONTROLS}_{name}.mrc"
        write_stack(path, image[None], PIXEL_SIZE)
        truth = {"group": CONTROLS, "defocus": [0.0, 0.0, 0.0], **dict.fromkeys(MORE, 0.0)}
        found[row] = {"command": [name, seed], **truth, "sha256": checksum(path)}
    return found


def write_truth(path: Path, made: dict[str, dict]) -> None:
    """truth.star: one row a micrograph, as README.md says."""
    rows = list(made.values())
    defocus = np.array([row["defocus"] for row in rows]).reshape(-1, 3)
    optics = OpticsGroup(
        pixel_size=PIXEL_SIZE,
        voltage=LENS["voltage-kv"] * KILOVOLT,
        spherical_aberration=LENS["cs-mm"] * MILLIMETRE,
        amplitude_contrast=LENS["amplitude-contrast"],
    )
    more = {column: np.array([row[column] for row in rows]) for column in MORE}
    more["vitreousGroup"] = np.array([row["group"] for row in rows], dtype=object)
    more["vitreousHasCtf"] = np.array([int(row["group"] != CONTROLS) for row in rows])
    names = [f"{IMAGES}/{name}.mrc" for name in made]
    write_micrographs(path, replace(optics, box=None), names, CtfParameters.of(*defocus.T), more)


def write_manifest(folder: Path, seed: int, step: int, made: dict[str, dict]) -> None:
    content = {"seed": seed, "every": step, "made": made}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path, seed: int, step: int) -> dict[str, dict]:
    """What an earlier run made of the same set and that is still there, unchanged."""
    path = folder / MANIFEST
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if (content.get("seed"), content.get("every")) != (seed, step):
        return {}
    images = {name: folder / IMAGES / f"{name}.mrc" for name in content["made"]}
    return {
        name: row
        for name, row in content["made"].items()
        if images[name].is_file() and checksum(images[name]) == row["sha256"]
    }


def checksum(path: Path) -> str:
    """SHA-256 of the beginning of a file after its header, which holds the date."""
    with open(path, "rb") as stream:
        stream.seek(1024)
        return hashlib.sha256(stream.read(CHECKED)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--groups", nargs="+", help="by default all")
    parser.add_argument("--seed", type=int, default=0, help="0 is the published set")
    parser.add_argument("--every", type=int, default=1, help="one in so many of each group")
    parser.add_argument("--force", action="store_true", help="make again what is there")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.force:
        (folder / MANIFEST).unlink(missing_ok=True)
    print(make_set(folder, options.seed, options.groups, options.every))


if __name__ == "__main__":
    main()
