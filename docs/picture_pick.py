"""Writes docs/pictures/picks.svg, and prints how many particles of simulated micrographs are found, and how well.

    python docs/picture_pick.py

Three sets of two micrographs of 2048 px of 2 A, 60 copies of 6ZU5 in each, in 400 A of ice: clear (40 e/A^2, 1 to 2 um underfocus), faint
(3 e/A^2, 0.8 to 1 um) and very faint (1.5 e/A^2, 0.6 to 0.8 um). Each is picked by size (200 to 320 A) and by projections of the true map, all other
settings as they are by default. A pick counts as found within 60 A of a particle's centre. The picture is one of the faint micrographs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from vitreous.io.micrograph_star import Coordinates, read_coordinates
from vitreous.io.star import read_star
from vitreous.jobs.folder import run_job
from vitreous.jobs.pick import BLOB_THRESHOLD, Pick
from vitreous.jobs.pick_micrograph import FOLDER, PickRow
from vitreous.jobs.pick_pictures import picks_drawing
from vitreous.jobs.pick_tables import PICKS
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.picking.blobs import BlobSettings, pick_blobs
from vitreous.picking.selection import Selection
from vitreous.picking.working_image import working_image

PICTURE = Path(__file__).resolve().parent / "pictures" / "picks.svg"
PIXEL_SIZE = 2.0
NEAR = 60.0  # angstrom
SHOWN_DIAMETER = 250.0
SETS = {"clear": (40.0, (1.0, 2.0)), "faint": (3.0, (0.8, 1.0)), "very faint": (1.5, (0.6, 0.8))}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (what, (dose, defocus)) in enumerate(SETS.items()):
            simulated = folder / what.replace(" ", "_")
            settings = SimulateMicrograph(
                Path("bundled:6zu5"),
                pixel_size=PIXEL_SIZE,
                size=(2048,),
                count=2,
                particles=60,
                ice_thickness=400.0,
                dose=dose,
                defocus_um=defocus,
                seed=20 + number,
            )
            run_job(settings, simulated)
            truth = read_coordinates(simulated / "coordinates.star")
            star = (simulated / "micrographs.star",)
            for way, job in {
                "by size": Pick(star, diameter=(200.0, 320.0)),
                "by templates": Pick(star, reference=simulated / "truth_map.mrc"),
            }.items():
                out, started = folder / "out", time.perf_counter()
                run_job(job, out, force=True)
                seconds = (time.perf_counter() - started) / settings.count
                print(f"{what}, {way}: {found(out / PICKS, truth)}, {seconds:.1f} s a micrograph, report included")
                if what == "faint" and way == "by size":
                    row = PickRow.from_json(first_row(out))
                    PICTURE.write_text(picks_drawing(row, SHOWN_DIAMETER) + "\n", encoding="utf-8")
    print(f"noise: {picks_in_noise()}")
    print(f"{PICTURE.name}: {PICTURE.stat().st_size} bytes")


def picks_in_noise(images: int = 40, size: int = 1024, diameter: float = 200.0) -> str:
    """Picks by size in images of noise, at the usual threshold."""
    rng, settings, count = np.random.default_rng(1), BlobSettings((diameter, diameter)), 0
    limits = Selection(BLOB_THRESHOLD, distance=diameter, border=diameter / 2)
    for _ in range(images):
        noise = rng.normal(size=(size, size)).astype(np.float32)
        small = working_image(noise, PIXEL_SIZE, settings.working_pixel_size)
        count += len(pick_blobs(small, settings, limits).picks)
    squares = images * (size * PIXEL_SIZE / diameter - 1) ** 2
    return f"{count} picks above {BLOB_THRESHOLD:g} in {squares:.0f} squares of the diameter"


def first_row(out: Path) -> dict:
    """The record of the first micrograph of a job."""
    content = json.loads(min((out / FOLDER).glob("*.json")).read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key != "file"}


def found(path: Path, truth: Coordinates) -> str:
    """Recall, precision and error of the places, as a sentence."""
    table = read_star(path)["particles"]
    names = np.asarray(table["rlnMicrographName"], dtype=object)
    places = np.stack([np.asarray(table[f"rlnCoordinate{axis}"], dtype=float) for axis in "XY"], axis=-1)
    centres = truth.pixel - truth.pose.shift / PIXEL_SIZE
    right, squares = 0, 0.0
    for number, name in enumerate(truth.names):
        mine, own = places[names == name], centres[truth.micrograph == number]
        if not len(mine):
            continue
        distance = PIXEL_SIZE * np.hypot(*(mine[:, None] - own).transpose(2, 0, 1))
        near = distance.min(axis=0) < NEAR
        right += int(near.sum())
        squares += float(np.square(distance.min(axis=0)[near]).sum())
    return (
        f"{right} of {len(truth)} particles found, {right} of {len(places)} picks are particles, "
        f"{np.sqrt(squares / max(right, 1)):.0f} A rms from the centre"
    )


if __name__ == "__main__":
    main()
