"""Writes docs/pictures/ensemble.png: conformations of the default hinge of `vitreous simulate ensemble`; prints how well they can be told apart.

    python docs/picture_ensemble.py

Above: surfaces of five conformations, seen along the axis. Below: one particle of each without noise, and as it is in the stack. Printed is, for the
first 500 particles, what is possible with the true maps, poses and CTFs: the rank correlation of the true angle with the mean of its posterior,

    p(angle k | image) ~ exp(-|image - projection of map k|^2 / 2)

and the root mean square error of that mean.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from make_pictures import PICTURES
from PIL import Image

from vitreous.io.ensemble_truth import EnsembleTruth, read_truth
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.jobs.ensemble_conformations import conformations_of
from vitreous.jobs.ensemble_sections import conformation_surfaces, drawn, view_along
from vitreous.jobs.folder import run_job
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.simulate_ensemble import SimulateEnsemble
from vitreous.model.particles import Particles
from vitreous.simulation.images import Projector, simulate_images

PANEL, PARTICLES = 150, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kind",
        default="hinge",
        choices=("hinge", "path"),
        help="the ensemble whose limit is printed; drawn is the hinge",
    )
    kind = parser.parse_args().kind
    settings = SimulateEnsemble(kind, count=PARTICLES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ensemble"
        run_job(settings, folder)
        truth, particles = read_truth(folder), read_particles(folder / "particles.star")
        values = posterior_mean(truth, particles)
        print(f"rank correlation {rank_correlation(values, truth.particle_values):.4f}")
        print(f"root mean square error {np.sqrt(((values - truth.particle_values) ** 2).mean()):.3f}")
        if kind == "hinge":
            picture(truth, particles, view_along(conformations_of(settings).towards))


def posterior_mean(truth: EnsembleTruth, particles: Particles) -> np.ndarray:
    """The mean of the coordinate of each particle over the conformations, given its image and all else."""
    images = particles.images.read(slice(None))
    squares = np.stack([((images - projections(path, particles)) ** 2).sum(axis=(1, 2)) for path in truth.maps], axis=1)
    weight = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / 2)
    return weight @ truth.values / weight.sum(axis=1)


def projections(path: Path, particles: Particles) -> np.ndarray:
    return np.concatenate(list(simulate_images(Projector(read_volume(path)), particles)))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def picture(truth: EnsembleTruth, particles: Particles, view: np.ndarray) -> None:
    numbers = drawn(truth)
    surfaces = Image.open(io.BytesIO(conformation_surfaces(truth, numbers, (view,), PANEL)))
    rows = [int(np.flatnonzero(truth.index == number)[0]) for number in numbers]
    part = particles.rows(np.array(rows))
    clean = [projections(truth.maps[number], part.rows(slice(k, k + 1)))[0] for k, number in enumerate(numbers)]
    noisy = list(part.images.read(slice(None)))
    images = Image.open(io.BytesIO(image_gallery([*clean, *noisy], columns=len(numbers), size=PANEL)))
    sheet = Image.new("RGB", (surfaces.width, surfaces.height + images.height + 10), "white")
    sheet.paste(surfaces, (0, 0), surfaces)
    sheet.paste(images, (0, surfaces.height + 10), images)
    sheet.quantize(64).save(PICTURES / "ensemble.png", optimize=True)


if __name__ == "__main__":
    main()
