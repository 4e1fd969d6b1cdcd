"""What is drawn for the particles of an ensemble."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.model.optics import OpticsGroup
from vitreous.simulation.ensemble import Micrographs, draw_conformations, draw_ensemble, preferred_views
from vitreous.simulation.particles import ParticleDistribution

OPTICS = OpticsGroup(pixel_size=2.0, box=8, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
DISTRIBUTION = ParticleDistribution(OPTICS, (8e3, 2e4), astigmatism=300.0, shift=4.0, seed=5)


def test_particle_i_depends_on_the_seed_and_on_i():
    populations, micrographs = np.array([0.2, 0.5, 0.3]), Micrographs(10, 100.0)
    assert np.array_equal(draw_conformations(populations, 30, 1), draw_conformations(populations, 500, 1)[:30])
    assert not np.array_equal(draw_conformations(populations, 500, 1), draw_conformations(populations, 500, 2))
    few, many = (draw_ensemble(DISTRIBUTION, micrographs, count) for count in (33, 200))
    assert np.array_equal(few.ctf.defocus_u, many.ctf.defocus_u[:33])
    assert np.array_equal(few.pose.euler, many.pose.euler[:33])
    assert np.array_equal(preferred_views(33, 4.0, 5), preferred_views(200, 4.0, 5)[:33])


def test_populations_are_those_asked_for():
    populations = np.array([0.05, 0.6, 0.35])
    share = np.bincount(draw_conformations(populations, 40_000, 3), minlength=3) / 40_000
    assert np.abs(share - populations).max() < 5 * 0.5 / np.sqrt(40_000)  # five standard errors


def test_conformations_do_not_depend_on_orientations_or_defocus():
    """Streams are independent: correlations within five standard errors of 0."""
    count = 20_000
    index = draw_conformations(np.full(50, 1 / 50), count, 5)
    particles = draw_ensemble(DISTRIBUTION, Micrographs(1), count)
    for other in (*particles.pose.euler.T, *particles.pose.shift.T, particles.ctf.defocus_u, particles.half_set):
        assert abs(np.corrcoef(index, other)[0, 1]) < 5 / np.sqrt(count)


def test_particles_of_a_micrograph_share_its_defocus_but_for_their_heights():
    particles = draw_ensemble(DISTRIBUTION, Micrographs(50, 120.0), 2000)
    defocus, difference = particles.ctf.defocus.reshape(40, 50), (particles.ctf.defocus_u - particles.ctf.defocus_v)
    within = defocus - defocus.mean(axis=1, keepdims=True)
    assert np.sqrt((within**2).sum() / (2000 - 40)) == pytest.approx(120, rel=0.1)  # 2000 draws: 1.6 % standard error
    assert np.ptp(difference.reshape(40, 50), axis=1).max() < 1e-9 and np.ptp(difference) > 100
    assert np.ptp(particles.ctf.defocus_angle.reshape(40, 50), axis=1).max() == 0
    assert 8e3 - 100 < defocus.mean(axis=1).min() < defocus.mean(axis=1).max() < 2e4 + 100


def test_preferred_views_have_their_density():
    """Moments of von Mises and Fisher: the mean of cos tilt is coth c - 1/c; azimuths are even."""
    views = view_direction(matrix_from_euler(preferred_views(40_000, 5.0, 1)))
    expected = 1 / np.tanh(5.0) - 1 / 5.0
    assert views.mean(axis=0) == pytest.approx([0, 0, expected], abs=0.01)
    assert np.median(np.degrees(np.arccos(views[:, 2]))) == pytest.approx(30, abs=1.0)
    even = view_direction(matrix_from_euler(preferred_views(40_000, 1e-3, 1)))
    assert np.abs(even.mean(axis=0)).max() < 0.02


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(SettingsProblem, match="at least one"):
        Micrographs(0)
    with pytest.raises(SettingsProblem, match="a positive number"):
        preferred_views(3, 0.0, 1)
