"""Slices in units of their noise: what they say of the object, for every kind of image."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.heterogeneity.moving_particle import MovingParticles, density, moving_particles

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.fourier.transforms import forward, inverse
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.heterogeneity.consensus import consensus, filled, kept_fraction, noise, whitened_reader
from vitreous.heterogeneity.particle_slices import SliceReader
from vitreous.model.particles import LoadedImages, Particles
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.projection import slice_grid, values_at
from vitreous.reconstruction.slicing import sliced

BOX = 24
SETTINGS = InversionSettings(np.eye(3)[None])
GRID = slice_grid(BOX)


@pytest.fixture(scope="module")
def clean() -> MovingParticles:
    return moving_particles(12, BOX, snr=1e12, still=True)


def with_ctf_state(particles: Particles, state: CtfState) -> Particles:
    """The particles as another program would have handed them on."""
    group = particles.optics[0]
    k = np.stack(np.meshgrid(np.fft.fftfreq(BOX), np.fft.rfftfreq(BOX), indexing="ij")) / group.pixel_size
    factor = ctf_of_particles(group, particles.ctf, k[1], k[0])
    factor = np.sign(factor) if state is CtfState.PHASE_FLIPPED else factor
    images = inverse(forward(particles.images.read(slice(None)).astype(float), 2) * factor, BOX, 2)
    return replace(particles, optics=(replace(group, ctf_state=state),), images=LoadedImages(images.astype(np.float32)))


@pytest.mark.parametrize("state", [CtfState.RAW, CtfState.PHASE_FLIPPED, CtfState.PREMULTIPLIED])
def test_values_are_transfer_times_the_transform_of_the_object(clean, state):
    particles = clean.particles if state is CtfState.RAW else with_ctf_state(clean.particles, state)
    slices = SliceReader(particles, SETTINGS, GRID).read(np.arange(12))
    expected = slices.transfer * values_at(sliced(density(0.0, BOX)), slices.points(GRID))
    known = slices.transfer != 0
    assert known.mean() > 0.95
    # The images were made with their shifts as phase ramps and stored in single precision; dividing by a small CTF enlarges that.
    tolerance = (1e-3 if state is CtfState.PREMULTIPLIED else 1e-4) * abs(expected).max()
    np.testing.assert_allclose(slices.values[known], expected[known], atol=tolerance)


def test_dark_particles_are_turned_bright(clean):
    images = LoadedImages(-clean.particles.images.read(slice(None)))
    dark = replace(clean.particles, images=images)
    raw = replace(SETTINGS, contrast=Contrast.RAW)
    bright, turned = (
        SliceReader(p, s, GRID).read(np.arange(12)) for p, s in ((clean.particles, SETTINGS), (dark, raw))
    )
    np.testing.assert_allclose(turned.values * turned.transfer, bright.values * bright.transfer, rtol=1e-5, atol=1e-3)


def test_points_turn_with_the_particle_and_follow_the_magnification(clean):
    matrix = ((1.03, 0.01), (-0.02, 0.97))
    group = replace(clean.particles.optics[0], magnification=matrix)
    slices = SliceReader(replace(clean.particles, optics=(group,)), SETTINGS, GRID).read(np.arange(12))
    from vitreous.optics.aberrations import magnify

    true_x, true_y = magnify(GRID.kx.astype(float), GRID.ky.astype(float), matrix)
    rotation = matrix_from_euler(clean.particles.pose.euler)
    plane = np.stack([true_x, true_y, np.zeros(len(GRID))], axis=-1)
    np.testing.assert_allclose(slices.points(GRID), plane @ rotation, atol=1e-4)  # k_object = R.T k_image, as rows
    beyond = np.hypot(true_x, true_y) >= BOX / 2
    assert beyond.any()
    assert np.all(slices.transfer[:, beyond] == 0)


def test_rows_are_read_in_the_order_asked_for(clean):
    reader = SliceReader(clean.particles, SETTINGS, GRID)
    order = np.array([5, 0, 11, 5])
    whole = reader.read(np.arange(12))
    some, again = reader.read(order), reader.rows(order).read(np.arange(4))
    for name in ("values", "transfer", "basis"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[order])
        np.testing.assert_array_equal(getattr(again, name), getattr(some, name))


def test_the_noise_is_measured_and_becomes_the_unit():
    made = moving_particles(600, BOX, snr=0.1, still=True)
    truth = np.sqrt(BOX**2 * (made.particles.images.read(slice(None)) ** 2).mean() / 1.1)
    together = consensus(made.particles, SETTINGS)
    # 600 images have 30,000 pixels even in a shell of 50: 0.4 % of noise; the map itself has fitted about a percent of it away
    np.testing.assert_allclose(together.sigma[0, 3:], truth, rtol=0.03)
    exact = noise(made.particles, SETTINGS, density(0.0, BOX))
    np.testing.assert_allclose(exact[0, 3:], truth, rtol=0.015)
    slices = whitened_reader(made.particles, SETTINGS, exact).read(np.arange(600))
    residual = slices.values - slices.transfer * values_at(sliced(density(0.0, BOX)), slices.points(GRID))
    assert (abs(residual) ** 2).mean() == pytest.approx(1, rel=0.01)


def test_each_optics_group_has_its_own_noise():
    made = moving_particles(400, BOX, snr=0.1, still=True)
    images = made.particles.images.read(slice(None)).copy()
    images[200:] *= 2
    group = made.particles.optics[0]
    particles = replace(
        made.particles,
        images=LoadedImages(images),
        optics=(group, replace(group, name="two"), replace(group, name="none")),
        optics_index=np.repeat([0, 1], 200),
    )
    sigma = noise(particles, SETTINGS, density(0.0, BOX))
    assert sigma[1, 3:].mean() / sigma[0, 3:].mean() == pytest.approx(2, rel=0.05)
    assert np.isnan(sigma[2]).all()
    slices = whitened_reader(particles, SETTINGS, sigma).read(np.array([350, 10]))
    np.testing.assert_allclose(
        slices.transfer[0] * sigma[1][GRID.shell],
        SliceReader(particles, SETTINGS, GRID).read(np.array([350])).transfer[0],
        rtol=1e-5,
    )


def test_a_mask_gives_an_image_the_weight_of_the_pixels_it_keeps():
    made = moving_particles(400, BOX, snr=0.05, still=True)
    whole, masked = SETTINGS, replace(SETTINGS, mask_radius=7.0)
    fraction = kept_fraction(masked, BOX)
    assert fraction == pytest.approx(np.pi * 9**2 / BOX**2)
    # White noise under a mask keeps the fraction of its power that the mask keeps, so sigma after the division is that of whole images.
    ratio = (
        noise(made.particles, masked, density(0.0, BOX))[0, 4:] / noise(made.particles, whole, density(0.0, BOX))[0, 4:]
    )
    assert ratio.mean() == pytest.approx(1, abs=0.05)


def test_shells_without_pixels_take_the_noise_of_their_neighbours():
    np.testing.assert_array_equal(
        filled(np.array([0.0, 2.0, 3.0, 0.0]), np.array([True, True, True, False])), [2, 2, 3, 3]
    )


def test_particles_without_images_are_refused(clean):
    with pytest.raises(DataProblem, match="without images or poses"):
        SliceReader(replace(clean.particles, images=None), SETTINGS, GRID).read(np.arange(2))
