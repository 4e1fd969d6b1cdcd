"""Where particles lie: apart, inside the ice, at the height that the tilt says, and the same whatever follows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import matrix_from_axis_angle, matrix_from_euler
from vitreous.optics.tilted_plane import ALONG_X, ALONG_Y, TiltedPlane
from vitreous.simulation.placement import Field, Slab, place_particles

FIELD = Field((600, 800), 2.0)
RADIUS = 40.0


def distances(position: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(position[:, None] - position[None], axis=-1)
    return apart[np.triu_indices(len(position), 1)]


def test_particles_are_apart_and_inside_the_field_and_the_ice():
    slab = Slab(300.0, TiltedPlane(math.radians(35), 0.7))
    placed = place_particles(FIELD, slab, RADIUS, 60, seed=2)
    assert distances(placed.position[:, :2]).min() >= 2 * RADIUS
    low, high = FIELD.limits
    assert (placed.position[:, :2] >= low + RADIUS).all() and (placed.position[:, :2] <= high - RADIUS).all()
    assert np.abs(placed.height).max() <= 150.0 - RADIUS
    closer = place_particles(FIELD, slab, RADIUS, 60, distance=50.0, seed=2)
    assert 50.0 <= distances(closer.position[:, :2]).min() < 2 * RADIUS


@pytest.mark.parametrize("axis", [ALONG_X, ALONG_Y, 2.1])
def test_heights_are_those_of_a_right_handed_turn(axis):
    """Points of a level slab, turned, are seen where `z_of` finds their height."""
    tilt = math.radians(40)
    rng = np.random.default_rng(4)
    level = rng.uniform(-500, 500, size=(50, 3))
    turned = level @ matrix_from_axis_angle(np.array([math.cos(axis), math.sin(axis), 0.0]), np.float64(tilt)).T
    z = Slab(1000.0, TiltedPlane(tilt, axis)).z_of(turned[:, :2], level[:, 2])
    assert np.allclose(z, turned[:, 2], atol=1e-9)
    assert not np.allclose(
        Slab(1000.0, TiltedPlane(-tilt, axis)).z_of(turned[:, :2], level[:, 2]), turned[:, 2], atol=1
    )


def test_tilt_about_y_takes_the_side_of_x_towards_the_source():
    placed = place_particles(FIELD, Slab(90.0, TiltedPlane(math.radians(30))), RADIUS, 40)
    slope = np.polyfit(placed.position[:, 0], placed.position[:, 2], 1)[0]
    assert slope == pytest.approx(-math.tan(math.radians(30)), abs=0.01)  # heights scatter by 3 A over 1500 A


def test_particle_i_depends_on_seed_micrograph_and_i_alone():
    slab = Slab(200.0)
    few, many = (place_particles(FIELD, slab, RADIUS, n, seed=5, micrograph=3) for n in (7, 50))
    for name in ("position", "height", "euler"):
        assert np.array_equal(getattr(few, name), getattr(many, name)[:7])
    for other in ({"seed": 6, "micrograph": 3}, {"seed": 5, "micrograph": 4}):
        changed = place_particles(FIELD, slab, RADIUS, 7, **other)
        assert not np.isclose(changed.position, few.position).any()
        assert not np.isclose(changed.euler, few.euler).any()


def test_orientations_and_heights_are_even():
    placed = place_particles(Field((8000, 8000), 1.0), Slab(480.0), 40.0, 3000, seed=1)
    rotation = matrix_from_euler(placed.euler)
    # Elements of a random rotation have mean 0 and variance 1/3: five standard errors of 3000.
    assert np.abs(rotation.mean(axis=0)).max() < 5 * math.sqrt(1 / 3 / 3000)
    assert np.abs((rotation**2).mean(axis=0) - 1 / 3).max() < 5 * math.sqrt(4 / 45 / 3000)
    assert placed.height.mean() == pytest.approx(0, abs=5 * 400 / math.sqrt(12 * 3000))
    assert placed.height.std() == pytest.approx(400 / math.sqrt(12), rel=0.05)
    # A quarter of the particles in each quarter of the field, to five standard deviations of the binomial distribution.
    quarters = np.histogram2d(placed.position[:, 0], placed.position[:, 1], bins=2)[0]
    assert np.abs(quarters - 750).max() < 5 * math.sqrt(3000 * 0.25 * 0.75)


def test_ice_thinner_than_the_particle_is_refused_with_both_numbers():
    with pytest.raises(SettingsProblem, match=r"ice 70 A thick for a particle 80 A across"):
        place_particles(FIELD, Slab(70.0), RADIUS, 5)
    assert np.array_equal(place_particles(FIELD, Slab(80.0), RADIUS, 5).height, np.zeros(5))  # as thick: no freedom


def test_what_does_not_fit_is_refused_with_the_number_that_does():
    with pytest.raises(SettingsProblem, match=r"200 particles 80 A apart .* at most (\d+)") as problem:
        place_particles(FIELD, Slab(100.0), RADIUS, 200, seed=3)
    fits = int(str(problem.value).split("at most ")[1].split(",")[0])
    assert len(place_particles(FIELD, Slab(100.0), RADIUS, fits, seed=3)) == fits
    # Random sequential adsorption of discs ends at 54.7 % of the area that their centres have, and at the edges a little above.
    area = (1600 - 80) * (1200 - 80)
    assert 0.48 < fits * math.pi * 40**2 / area < 0.62


@pytest.mark.parametrize(
    ("field", "message"), [(Field((30, 600), 2.0), "600 x 30 pixels"), (Field((600, 30), 2.0), "30 x 600 pixels")]
)
def test_a_field_smaller_than_the_particle_is_refused(field, message):
    with pytest.raises(SettingsProblem, match=message):
        place_particles(field, Slab(100.0), RADIUS, 1)


def test_no_particles_are_no_particles():
    assert len(place_particles(FIELD, Slab(100.0), RADIUS, 0)) == 0


def test_pixels_are_counted_from_the_first():
    assert np.array_equal(FIELD.pixels(np.array([[0.0, 0.0], [2.0, -4.0]])), [[400, 300], [401, 298]])
