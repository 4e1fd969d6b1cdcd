"""The whole way on made images: two molecules and noise go in, their pictures come out, and the noise is put apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles
from vitreous.io.star import read_star
from vitreous.jobs.classify2d import Classify2D
from vitreous.jobs.classify2d_tables import read_classes
from vitreous.jobs.folder import run_job
from vitreous.jobs.select import Select
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles

BOX, PIXEL_SIZE, COUNT = 32, 4.0, 360
PLACES = (
    np.array([[-20.0, 4], [14, 12], [6, -18], [22, -6]]),
    np.array([[0.0, 24], [-20, -12], [18, -14], [2, 4]]),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with particles.star and the truth: 0 and 1 are two molecules turned and moved at random, 2 is noise."""
    rng = np.random.default_rng(11)
    kind = rng.permutation(np.repeat([0, 1, 2], COUNT // 3))
    psi, origin = rng.uniform(-np.pi, np.pi, COUNT), rng.uniform(-8, 8, (COUNT, 2))
    axis = (np.arange(BOX) - BOX // 2) * PIXEL_SIZE
    images = rng.normal(0, 0.35, (COUNT, BOX, BOX))
    for i in range(COUNT):
        if kind[i] < 2:
            x, y = PLACES[kind[i]].T
            cosine, sine = np.cos(psi[i]), np.sin(psi[i])
            at_x, at_y = cosine * x + sine * y - origin[i, 0], -sine * x + cosine * y - origin[i, 1]
            for place in zip(at_x, at_y):
                square = (axis - place[0])[None, :] ** 2 + (axis - place[1])[:, None] ** 2
                images[i] += np.exp(-square / (2 * 7.0**2))
    folder = tmp_path_factory.mktemp("whole")
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    group = OpticsGroup(pixel_size=PIXEL_SIZE, box=BOX)
    particles = Particles(names, (group,), np.zeros(COUNT, dtype=int), images=LoadedImages(images.astype(np.float32)))
    write_stack(folder / "p.mrcs", particles.images.pixels, PIXEL_SIZE)
    write_particles(folder / "particles.star", particles)
    job = Classify2D(folder / "particles.star", classes=6, iterations=12, ctf=False, psi_step=12.0, workers=2)
    outcome = run_job(job, folder / "classes")
    run_job(Select(folder / "classes"), folder / "selected")
    return folder, outcome, replace(particles, images=None), kind, psi, origin


@pytest.mark.slow
def test_classes_are_pure_and_noise_is_left_out(made):
    folder, outcome, _, kind, _, _ = made
    table = read_star(folder / "classes" / "particles.star")["particles"]
    number = np.asarray(table["rlnClassNumber"])
    real = kind < 2
    # of each class the kind that most of its particles are: chance would give 0.5
    pure = [np.bincount(kind[real & (number == k)], minlength=2).max() for k in np.unique(number[real])]
    assert sum(pure) / real.sum() > 0.9
    kept = read_star(folder / "selected" / "particles.star")["particles"]
    chosen = np.isin(list(table["rlnImageName"]), list(kept["rlnImageName"]))
    assert chosen[real].mean() > 0.9 and chosen[~real].mean() < 0.1
    assert outcome.as_json()["log_evidence"] > 10


@pytest.mark.slow
def test_averages_look_like_the_molecules_and_poses_are_those_of_the_images(made):
    folder, _, _, kind, psi, origin = made
    classes = read_classes(folder / "classes")
    table = read_star(folder / "classes" / "particles.star")["particles"]
    number = np.asarray(table["rlnClassNumber"])
    found = np.deg2rad(np.asarray(table["rlnAnglePsi"]))
    best = int(classes.number[classes.quality.order[0]])
    rows = (number == best) & (kind < 2)
    # within a class all angles are off by the same turn, that of the average
    turn = np.exp(1j * (found[rows] - psi[rows]))
    against = np.exp(1j * (found[rows] + psi[rows]))
    assert np.abs(turn.mean()) > 0.9 > 0.5 > np.abs(against.mean())
    moved = np.stack([table["rlnOriginXAngst"], table["rlnOriginYAngst"]], axis=-1)[rows]
    # An average may lie off the middle by a pixel or two, d: then origins are off by Rz(psi) d, which is found and taken out.
    cosine, sine = np.cos(found[rows]), np.sin(found[rows])
    turned = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], axis=1)  # [n, 2, 2]
    away = np.linalg.lstsq(turned.reshape(-1, 2), (moved - origin[rows]).ravel(), rcond=None)[0]
    assert np.hypot(*away) < 2 * PIXEL_SIZE
    moved = moved - turned @ away
    correlation = [np.corrcoef(moved[:, axis], origin[rows, axis])[0, 1] for axis in (0, 1)]
    assert min(correlation) > 0.8
    assert np.sqrt(((moved - origin[rows]) ** 2).mean()) < PIXEL_SIZE  # the step of the search
    average = classes.average[best - 1]
    assert average.max() > 4 * abs(average.min())  # bright on dark
