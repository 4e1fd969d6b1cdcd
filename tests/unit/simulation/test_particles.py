"""What is drawn for each particle: distributions, reproducibility, independence of the count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.model.optics import OpticsGroup
from vitreous.simulation.particles import ParticleDistribution, draw_particles

OPTICS = OpticsGroup(pixel_size=2.0, box=32, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
DISTRIBUTION = ParticleDistribution(OPTICS, (8e3, 2e4), astigmatism=300.0, shift=4.0, seed=5)
COUNT = 20_000


def columns(particles):
    return [
        particles.pose.euler,
        particles.pose.shift,
        particles.ctf.defocus_u,
        particles.ctf.defocus_v,
        particles.ctf.defocus_angle,
        particles.half_set,
    ]


@pytest.fixture(scope="module")
def many():
    return draw_particles(DISTRIBUTION, COUNT)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_particle_depends_on_the_seed_and_its_number_only(many, count):
    for few, all_of_them in zip(columns(draw_particles(DISTRIBUTION, count)), columns(many)):
        assert np.array_equal(few, all_of_them[:count])


def test_another_seed_gives_other_particles(many):
    other = draw_particles(replace(DISTRIBUTION, seed=6), COUNT)
    for mine, theirs in zip(columns(many), columns(other)):
        assert not np.array_equal(mine, theirs)


def test_orientations_are_uniform(many):
    """Moments of the uniform distribution on SO(3): E R = 0, E R_ij^2 = 1/3, E R_ij^4 = 1/5, view directions without
    preference.
    """
    matrix = matrix_from_euler(many.pose.euler)
    # Standard errors: sqrt(1/3 / n), sqrt((1/5 - 1/9) / n), sqrt((1/9 - 1/25) / n); five of them for the largest of
    # nine.
    assert np.abs(matrix.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / COUNT)
    assert np.abs((matrix**2).mean(axis=0) - 1 / 3).max() < 5 * np.sqrt((1 / 5 - 1 / 9) / COUNT)
    assert np.abs((matrix**4).mean(axis=0) - 1 / 5).max() < 5 * np.sqrt((1 / 9 - 1 / 25) / COUNT)
    octant = (view_direction(matrix) > 0) @ np.array([1, 2, 4])
    assert np.abs(np.bincount(octant, minlength=8) - COUNT / 8).max() < 5 * np.sqrt(COUNT * 7 / 64)


def test_defocus_is_uniform_between_the_limits(many):
    defocus = many.ctf.defocus
    assert defocus.min() >= 8e3 and defocus.max() <= 2e4
    # Five standard errors of mean and variance of a uniform distribution of width w: w / sqrt(12 n) and w^2 / 12 sqrt(4
    # / (5 n)).
    assert abs(defocus.mean() - 1.4e4) < 5 * 1.2e4 / np.sqrt(12 * COUNT)
    assert abs(defocus.var() / (1.2e4**2 / 12) - 1) < 5 * np.sqrt(0.8 / COUNT)


def test_astigmatism_has_the_asked_size_and_no_direction(many):
    ctf = many.ctf
    size = ctf.defocus_u - ctf.defocus_v
    assert size.min() >= 0
    # The square of a length with two Gaussian components is exponential: its standard deviation equals its mean.
    assert abs((size**2).mean() / 300.0**2 - 1) < 5 / np.sqrt(COUNT)
    doubled = np.stack([np.cos(2 * ctf.defocus_angle), np.sin(2 * ctf.defocus_angle)])
    assert np.abs(doubled.mean(axis=1)).max() < 5 / np.sqrt(2 * COUNT)
    assert np.allclose(draw_particles(replace(DISTRIBUTION, astigmatism=0.0), 9).ctf.astigmatism, 0, atol=1e-9)


def test_shifts_have_the_asked_spread(many):
    shift = many.pose.shift
    assert np.abs(shift.mean(axis=0)).max() < 5 * 4.0 / np.sqrt(COUNT)
    assert np.abs(shift.std(axis=0) / 4.0 - 1).max() < 5 / np.sqrt(2 * COUNT)


def test_half_sets_are_equal_and_random(many):
    for count in (1, 2, 3, 100, 101):
        half = draw_particles(DISTRIBUTION, count).half_set
        assert set(half) <= {1, 2} and abs(int((half == 1).sum()) - int((half == 2).sum())) <= 1
    assert abs((many.half_set[::2] == 1).mean() - 0.5) < 5 * 0.5 / np.sqrt(COUNT / 2)


def test_quantities_are_independent(many):
    """No stream is used twice: defocus, shift and orientation do not correlate."""
    table = np.stack(
        [many.ctf.defocus, *many.pose.shift.T, np.cos(many.pose.euler[:, 1]), many.pose.euler[:, 0], many.half_set]
    )
    off_diagonal = np.corrcoef(table) - np.eye(len(table))
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(COUNT)


def test_given_orientations_are_used_in_turn():
    euler = np.arange(12.0).reshape(4, 3) / 10
    particles = draw_particles(replace(DISTRIBUTION, euler=euler), 10)
    assert np.array_equal(particles.pose.euler, euler[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]])
    assert np.array_equal(particles.ctf.defocus_u, draw_particles(DISTRIBUTION, 10).ctf.defocus_u)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"defocus": (2e4, 8e3)}, "smaller value first"),
        ({"astigmatism": -1.0}, "astigmatism"),
        ({"shift": float("nan")}, "shift"),
        ({"contrast": Contrast.UNKNOWN}, "contrast"),
    ],
)
def test_impossible_distributions_are_refused(change, said):
    with pytest.raises(SettingsProblem, match=said):
        replace(DISTRIBUTION, **change)


def test_missing_optics_and_orientations_are_refused():
    with pytest.raises(DataProblem, match="amplitude contrast"):
        replace(DISTRIBUTION, optics=replace(OPTICS, amplitude_contrast=None))
    with pytest.raises(DataProblem, match="orientations"):
        replace(DISTRIBUTION, euler=np.empty((0, 3)))
    with pytest.raises(SettingsProblem, match="0 particles"):
        draw_particles(DISTRIBUTION, 0)
