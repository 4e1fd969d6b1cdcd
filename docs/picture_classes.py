"""Writes docs/pictures/classes.png, and prints what is left of a set of real picks by selection.

    python docs/picture_classes.py ../shared/data/betagal [--classification FOLDER]

Beta-galactosidase, EMPIAR-10204: `particles.star` holds 2,374 picks, `particles_posed.star` those 1,468 that a refinement by another program has kept.
The picks are classified and selected with default settings (or the finished classification in FOLDER is taken). Printed are how many particles are kept
and how many of these are refined ones, automatically and by the probability of agreeing at several thresholds. The picture shows the best classes kept
above those rejected.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.io.particles import read_particles
from vitreous.io.star import read_star
from vitreous.jobs.classify2d import Classify2D
from vitreous.jobs.classify2d_gallery import within_mask
from vitreous.jobs.classify2d_tables import Classes, read_classes
from vitreous.jobs.folder import run_job
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.select import candidates_of
from vitreous.jobs.select_rule import SelectionRule, kinds_of, probability_of

PICTURE = Path(__file__).resolve().parent / "pictures" / "classes.png"
COLUMNS, KEPT_ROWS, REJECTED_ROWS, SIZE = 10, 3, 1, 72


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with particles.star and particles_posed.star")
    parser.add_argument("--classification", type=Path, help="folder of a finished classification of particles.star")
    arguments = parser.parse_args()
    if arguments.classification is not None:
        measure(arguments.classification, arguments.data / "particles_posed.star")
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "classes"
        outcome = run_job(Classify2D(arguments.data / "particles.star"), place)
        for finding in outcome.findings:
            print(f"{finding.label:<28}{finding.text} {finding.unit}")
        measure(place, arguments.data / "particles_posed.star")


def measure(folder: Path, refined: Path) -> None:
    """Print the table and draw the picture."""
    classes, source = read_classes(folder), folder / "particles.star"
    candidates = candidates_of(read_particles(source, load_images=False), source)
    wanted = set(images_of(refined))
    truth = np.array([name in wanted for name in images_of(source)])
    selection = SelectionRule().select(classes, candidates)
    row("automatic", selection.particles, truth)
    probability = probability_of(kinds_of(classes, candidates), classes, candidates)
    for least in (0.5, 0.8, 0.95):
        row(f"--least-probability {least}", probability >= least, truth)
    of_class = np.zeros(int(classes.number.max()) + 1)
    of_class[classes.number] = classes.quality.score
    print("\nAs many as hold 85 % of the refined ones, by")
    for name, values in (
        ("probability", probability),
        ("agreement", candidates.agreement),
        ("log evidence", candidates.evidence),
        ("quality of the class", of_class[candidates.number]),
    ):
        row(name, first(values, truth, 0.85), truth)
    best = first(probability, truth, 0.0, least=440)
    row("\nthe first 440", best, truth)
    draw(classes, selection.classes)


def first(values: np.ndarray, truth: np.ndarray, share: float, *, least: int = 0) -> np.ndarray:
    """Which particles have the largest values: as many as hold that share of the true ones, and at least so many."""
    order = np.argsort(-values, kind="stable")
    count = max(least, int(np.searchsorted(np.cumsum(truth[order]), share * truth.sum())) + 1)
    return np.isin(np.arange(len(truth)), order[:count])


def row(name: str, kept: np.ndarray, truth: np.ndarray) -> None:
    hits = int((kept & truth).sum())
    print(
        f"{name:<28}kept {kept.sum():5d}, refined ones among them {hits / kept.sum():.3f}, of all refined ones {hits / truth.sum():.3f}"
    )


def images_of(path: Path) -> list[str]:
    """Stack and number of each image, without the folder."""
    names = [str(name).partition("@") for name in read_star(path)["particles"]["rlnImageName"]]
    return [f"{int(number)}@{Path(stack).name}" for number, _, stack in names]


def draw(classes: Classes, kept: np.ndarray) -> None:
    """The best classes kept, a gap, the best of those rejected."""
    order = classes.quality.order[classes.quality.count[classes.quality.order] > 0]
    good = order[kept[order]][: KEPT_ROWS * COLUMNS]
    bad = order[~kept[order]][: REJECTED_ROWS * COLUMNS]
    diameter = classes.diameter / classes.pixel_size
    empty = [np.zeros((2, 2))] * (-len(good) % COLUMNS)
    images = [within_mask(classes.average[place], diameter) for place in good]
    sheet = [*images, *empty, *(within_mask(classes.average[place], diameter) for place in bad)]
    picture = Image.open(io.BytesIO(image_gallery(sheet, columns=COLUMNS, size=SIZE)))
    picture.convert("LA").save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
