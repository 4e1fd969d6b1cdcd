"""spatial-VAE's parts against their definitions."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tests.unit.heterogeneity.sliding_particle import particle, sliding_particles

from vitreous.errors import DataProblem
from vitreous.heterogeneity import spatial_vae
from vitreous.heterogeneity.background_noise import background_noise
from vitreous.heterogeneity.coordinate_network import NetworkSettings, draw_network
from vitreous.heterogeneity.latent_encoder import draw_encoder
from vitreous.heterogeneity.spatial_vae import SpatialBatch, SpatialImage, SpatialWeights, image_plane
from vitreous.heterogeneity.spatial_vae_turns import (
    divergence,
    drawn,
    found_turns,
    probabilities,
    scores,
    scoring_latents,
    turn_grid,
)
from vitreous.model.particles import LoadedImages
from vitreous.reconstruction.projection import slice_grid
from vitreous.reference import vae as reference

BOX, LATENT = 16, 2
PLANE = image_plane(slice_grid(BOX), 5.0, amplitude=1.7, eye=6.0)


@pytest.fixture(scope="module")
def decoder():
    rng = np.random.default_rng(4)
    drawn = draw_network(NetworkSettings(LATENT, 6, 1, 5), 3.0, rng)
    return drawn._replace(last=rng.normal(size=(6, 2)).astype(np.float32), last_bias=np.float32([0.3, 0.1]))


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(8)
    count = len(PLANE.grid)
    values = (rng.normal(size=count) + 1j * rng.normal(size=count)).astype(np.complex64)
    transfer = rng.uniform(-1, 1, count).astype(np.float32)
    return SpatialImage(
        values, transfer, np.float32(0.7), np.float32([1.3, -0.6]), rng.normal(size=LATENT).astype(np.float32)
    )


def definition_of(decoder, latent, psi, origin) -> np.ndarray:
    def density(x: float, y: float) -> float:
        point = np.array([[x, y]], np.float32)
        return float(spatial_vae.density(decoder, point, latent, BOX)[0])

    # the soft edge of the disc is round: it turns with the picture
    values = []
    for k in zip(PLANE.grid.kx, PLANE.grid.ky):
        terms = (
            soft * reference.turned_image_value(density, k, psi, origin, point[None], BOX)
            for point, soft in zip(PLANE.points.astype(float), PLANE.soft)
        )
        values.append(PLANE.amplitude * sum(terms))
    return np.array(values)


def test_the_expected_image_is_the_sum_over_a_turned_picture(decoder, image):
    expected = image.transfer * definition_of(decoder, image.latent, float(image.psi), image.origin.astype(float))
    found = spatial_vae.image_gain(decoder, PLANE, image)
    # sums of 100 terms in single precision
    assert float(found) == pytest.approx(reference.gain(image.values, expected), rel=2e-5)
    compiled = jax.jit(lambda one: spatial_vae.image_gain(decoder, PLANE, one))(image)
    assert float(compiled) == pytest.approx(float(found), rel=1e-5)


def test_the_score_of_each_turn_and_origin_is_the_likelihood_there(decoder, image):
    grid, latents = turn_grid(5, 1.0, 1.0, (0.2, 0.1, -0.3)), scoring_latents(LATENT)
    plane = replace(PLANE, amplitude=0.01)  # so faint that several turns are probable
    templates = np.array([[spatial_vae.transform(decoder, plane, z, psi) for psi in grid.psi] for z in latents])
    found = np.asarray(scores(image.values[None], image.transfer[None], templates, PLANE.frequencies, grid.origin, BOX))
    gains = np.array(
        [
            [
                [
                    spatial_vae.image_gain(decoder, plane, image._replace(psi=psi, origin=origin, latent=z))
                    for origin in grid.origin
                ]
                for psi in grid.psi
            ]
            for z in latents
        ]
    ).astype(np.float64)
    np.testing.assert_allclose(found[0], np.log(np.mean(np.exp(gains - gains.max()), axis=0)) + gains.max(), atol=2e-3)
    np.testing.assert_allclose(probabilities(found)[0], reference.pose_posterior(gains), atol=1e-3)


def test_a_particle_is_seen_alike_at_every_turn_and_origin():
    """The encoder's view of a turned and shifted particle, told its turn and origin, is that of the particle itself."""
    box = 32
    plane = image_plane(slice_grid(box), 9.0, 1.0, eye=8.0)

    def seen(psi: float, origin: np.ndarray) -> np.ndarray:
        image = np.fft.ifftshift(particle(0.4, psi, origin, box))
        values = np.fft.rfft2(image)[plane.grid.row, plane.grid.column]
        return spatial_vae.upright(plane, values, np.ones(len(values)), np.float64(psi), origin)

    home = seen(0.0, np.zeros(2))
    away = seen(2.1, np.array([1.7, -2.2]))
    # the cut in frequency is round, but made on a square lattice, which does not turn with the particle
    assert np.abs(away - home).max() < 0.05 * np.abs(home).max()
    mistaken = spatial_vae.upright(
        plane,
        np.fft.rfft2(np.fft.ifftshift(particle(0.4, 2.1, np.zeros(2), box)))[plane.grid.row, plane.grid.column],
        np.ones(len(plane.grid)),
        np.float64(-2.1),
        np.zeros(2),
    )
    assert np.abs(mistaken - home).max() > 0.2 * np.abs(home).max()


def test_the_bound_is_gain_less_divergence_and_empty_places_do_not_count(decoder, image):
    encoder = draw_encoder(len(PLANE.seen), LATENT, 8, 1, np.random.default_rng(2))
    weights = SpatialWeights(decoder, encoder)
    rng = np.random.default_rng(1)
    batch = SpatialBatch(
        np.stack([image.values, 0 * image.values]),
        np.stack([image.transfer, image.transfer]),
        np.float32([0.7, 0.1]),
        np.stack([image.origin, 0 * image.origin]),
        rng.normal(size=(2, LATENT)).astype(np.float32),
        np.float32([1, 0]),
        np.float32(1),
    )
    mean, log_deviation = spatial_vae.posterior(weights, PLANE, batch)
    latent = (mean + np.exp(log_deviation) * batch.eps)[0]
    gain = spatial_vae.image_gain(decoder, PLANE, image._replace(latent=latent))
    cost = 0.5 * np.sum(mean[0] ** 2 + np.exp(2 * log_deviation[0]) - 1 - 2 * log_deviation[0])
    value, parts = spatial_vae.loss(weights, PLANE, batch, beta=0.5)
    np.testing.assert_allclose(value, 0.5 * cost - gain, rtol=1e-5)
    np.testing.assert_allclose(parts, (gain, cost), rtol=1e-5)
    compiled, _ = jax.jit(lambda batch: spatial_vae.loss(weights, PLANE, batch, 0.5))(batch)
    np.testing.assert_allclose(compiled, value, rtol=1e-4)
    shut, (_, free) = spatial_vae.loss(weights, PLANE, batch._replace(opens=np.float32(0)), 0.5)
    plain = spatial_vae.image_gain(decoder, PLANE, image._replace(latent=np.zeros(LATENT, np.float32)))
    assert float(shut) == pytest.approx(-float(plain), rel=1e-5) and free == 0


def test_turns_are_drawn_as_often_as_they_are_probable():
    grid = turn_grid(4, 1.0, 1.0)
    rng = np.random.default_rng(0)
    posterior = probabilities(rng.normal(0, 2, (1, 4, 9)))
    psi, origin = drawn(np.repeat(posterior, 40_000, axis=0), grid, rng)
    for k, angle in enumerate(grid.psi):
        for s, place in enumerate(grid.origin):
            often = np.mean((psi == angle) & (origin == place).all(axis=1))
            # four standard deviations of a frequency of 40,000 draws
            assert abs(often - posterior[0, k, s]) < 4 * np.sqrt(0.25 / 40_000)


def test_divergence_of_turns_from_knowing_nothing_to_knowing_all():
    nothing, all_known = np.full((1, 6, 9), 1 / 54), np.zeros((1, 6, 9))
    all_known[0, 2, 3] = 1
    np.testing.assert_allclose(divergence(np.concatenate([nothing, all_known])), [0, np.log(54)], atol=1e-12)


def test_the_turn_found_lies_between_grid_points_and_wraps_around():
    grid = turn_grid(12, 1.0, 1.0)
    posterior = np.zeros((2, 12, 9))
    posterior[0, 11, 4], posterior[0, 0, 5] = 0.5, 0.5  # between -30 degrees and 0, and between origins
    posterior[1, 6, 4] = 0.8
    posterior[1, 0, 4] = 0.2  # another turn altogether does not pull
    found = found_turns(posterior, grid)
    np.testing.assert_allclose(np.degrees(found.psi) % 360, [345, 180], atol=1e-4)
    np.testing.assert_allclose(found.origin, [(grid.origin[4] + grid.origin[5]) / 2, [0, 0]], atol=1e-6)
    np.testing.assert_allclose(found.probability, [1, 0.8])


def test_the_grid_of_turns_is_even_and_moves_as_a_whole():
    grid = turn_grid(6, 2.5, 1.0)
    assert len(grid) == 6 * 25 and np.abs(grid.origin).max() == 2
    moved = turn_grid(6, 2.5, 1.0, (0.5, 0.25, -0.5))
    np.testing.assert_allclose(moved.psi - grid.psi, np.pi / 6, atol=1e-6)
    np.testing.assert_allclose(moved.origin - grid.origin, np.tile([0.25, -0.5], (25, 1)), atol=1e-6)
    np.testing.assert_array_equal(turn_grid(6, 0.0, 1.0, (0.5, 0.4, 0.4)).origin, [[0, 0]])  # not searched


def test_noise_is_measured_around_the_particles():
    made = sliding_particles(200, snr=1.0, seed=3)
    particles = made.particles
    rng = np.random.default_rng(5)
    box = particles.images.shape[-1]
    white = replace(particles, images=LoadedImages(rng.normal(7, 3, (200, box, box)).astype(np.float32)))
    sigma = background_noise(white, 8.5).sigma[0]
    # of 200 images with some 10 independent numbers each in the smallest ring
    np.testing.assert_allclose(sigma[1:], 3 * box, rtol=0.06)
    found = background_noise(particles, 8.5)
    pixels = particles.images.pixels
    outer = pixels[:, :4].std()
    np.testing.assert_allclose(found.sigma[0][3:], outer * box, rtol=0.08)  # with a little of the particles' fringes
    assert 0.5 * outer < found.signal < 2 * outer
    with pytest.raises(DataProblem, match="no room to measure"):
        background_noise(particles, 16.0)
