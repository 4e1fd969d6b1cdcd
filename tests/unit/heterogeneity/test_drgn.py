"""The evidence lower bound against its definition, and poses that are corrected."""

import numpy as np
import pytest
from tests.unit.heterogeneity.moving_particle import density, moving_particles
from tests.unit.heterogeneity.test_coordinate_network import trained

from vitreous.geometry.rotations import matrix_from_rotation_vector
from vitreous.heterogeneity import drgn
from vitreous.heterogeneity.consensus import whitened_reader
from vitreous.heterogeneity.coordinate_network import network_values
from vitreous.heterogeneity.drgn import Batch, Rows, Weights
from vitreous.heterogeneity.latent_encoder import draw_encoder
from vitreous.heterogeneity.network_decoder import amplitude_at, network_amplitude
from vitreous.heterogeneity.perceptron import answer, draw_perceptron
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.projection import slice_grid, values_at
from vitreous.reconstruction.slicing import sliced
from vitreous.reference import drgn as definition

BOX, COUNT = 16, 5
SETTINGS = InversionSettings(np.eye(3)[None])
GRID = slice_grid(BOX)
VOLUME = density(0.0, BOX)
CONSENSUS = sliced(VOLUME)


def a_batch(particles: Particles, sigma: float = 2.0) -> Batch:
    slices = whitened_reader(particles, SETTINGS, np.full((1, BOX), sigma)).read(np.arange(len(particles)))
    rng = np.random.default_rng(7)
    count = len(particles)
    return Batch(
        slices.values,
        slices.transfer,
        slices.basis,
        np.stack([GRID.kx, GRID.ky], axis=-1).astype(np.float32),
        amplitude_at(network_amplitude(VOLUME), np.hypot(GRID.kx, GRID.ky)),
        rng.normal(size=(count, 6)).astype(np.float32),
        rng.normal(size=(count, 2)).astype(np.float32),
        np.ones(count, np.float32),
        np.ones(2, np.float32),
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    return a_batch(moving_particles(COUNT, BOX, snr=0.5).particles)


def less_consensus(batch: Batch) -> Batch:
    """The batch as a SliceSource gives it."""
    expected = [
        c * values_at(CONSENSUS, batch.plane @ basis) for c, basis in zip(batch.transfer, batch.basis, strict=True)
    ]
    return batch._replace(values=batch.values - np.array(expected))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return Weights(trained(), draw_encoder(6, 2, 10, 2, np.random.default_rng(3)))


def test_the_gain_is_the_difference_of_two_log_likelihoods(batch, weights):
    gain, divergence = drgn.gains(weights, Rows(), batch, CONSENSUS)
    mean, log_deviation = drgn.posterior(weights, Rows(), batch)
    for i in range(COUNT):
        points = batch.plane @ batch.basis[i]
        consensus = values_at(CONSENSUS, points)
        latent = mean[i] + np.exp(log_deviation[i]) * batch.eps[i]
        added = batch.scale * network_values(weights.decoder, points, latent, BOX)
        terms = [
            definition.log_likelihood(batch.values[i] + batch.transfer[i] * consensus, batch.transfer[i], volume)
            for volume in (consensus + added, consensus)
        ]
        assert gain[i] == pytest.approx(terms[0] - terms[1], rel=1e-4)  # single precision sums of large terms
        expected = definition.divergence(mean[i].astype(float), np.exp(log_deviation[i].astype(float)))
        assert divergence[i] == pytest.approx(expected, rel=1e-4)


def with_eigenvolumes(batch: Batch, weights: Weights) -> tuple[Batch, Weights]:
    """Three eigenvolumes whose slices are random numbers, and a mixture that is not linear."""
    rng = np.random.default_rng(8)
    linear = rng.normal(size=(*batch.values.shape, 3, 2)).astype(np.float32) @ np.array([1, 1j], np.complex64)
    mixture = draw_perceptron(rng.normal(size=(2, 3)), 6, 2, rng, spread=1.0)
    mixture.layers[-1][0][:] = rng.normal(size=mixture.layers[-1][0].shape)
    return batch._replace(linear=linear), weights._replace(mixture=mixture)


def test_eigenvolumes_are_added_in_the_amounts_of_the_mixture(batch, weights):
    both, mixing = with_eigenvolumes(batch, weights)
    gain, _ = drgn.gains(mixing, Rows(), both, CONSENSUS)
    mean, log_deviation = drgn.posterior(mixing, Rows(), both)
    for i in range(COUNT):
        points, latent = both.plane @ both.basis[i], mean[i] + np.exp(log_deviation[i]) * both.eps[i]
        added = both.scale * network_values(mixing.decoder, points, latent, BOX)
        added = added + sum(both.linear[i, :, j] * answer(mixing.mixture, latent)[j] for j in range(3))
        terms = [definition.log_likelihood(both.values[i], both.transfer[i], volume) for volume in (added, 0 * added)]
        assert gain[i] == pytest.approx(terms[0] - terms[1], rel=1e-4)  # single precision sums of large terms


def test_closed_coordinates_are_0_and_cost_nothing(batch, weights):
    closed = batch._replace(opens=np.array([1, 0], np.float32), eps=batch.eps * np.array([1, 0], np.float32))
    mean, log_deviation = drgn.posterior(weights, Rows(), closed)
    assert (mean[:, 1] == 0).all() and (log_deviation[:, 1] == 0).all()
    assert (drgn.images_of(mean, log_deviation, None, Rows(), closed).latent[:, 1] == 0).all()
    _, divergence = drgn.gains(weights, Rows(), closed, CONSENSUS)
    first = definition.divergence(mean[0, :1].astype(float), np.exp(log_deviation[0, :1].astype(float)))
    assert divergence[0] == pytest.approx(first, rel=1e-4)


def test_jax_computes_the_same_loss(batch, weights):
    jax = pytest.importorskip("jax")
    expected, parts = drgn.loss(weights, Rows(), batch, CONSENSUS)
    compiled = jax.jit(lambda w, b: drgn.loss(w, Rows(), b, CONSENSUS, 1.0))
    found, found_parts = compiled(weights, jax.tree.map(jax.numpy.asarray, batch))
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    np.testing.assert_allclose([float(p) for p in found_parts], [float(p) for p in parts], rtol=1e-4)


@pytest.mark.parametrize(("with_poses", "with_volumes"), [(False, False), (True, False), (False, True)])
def test_the_gradient_made_image_by_image_is_that_of_the_sum(batch, weights, with_poses, with_volumes):
    jax = pytest.importorskip("jax")
    if with_volumes:
        batch, weights = with_eigenvolumes(batch, weights)
    arrays = jax.tree.map(jax.numpy.asarray, batch._replace(weight=np.array([1, 1, 0, 1, 1], np.float32)))
    pose = np.random.default_rng(1).normal(0, 0.05, (COUNT, 5)).astype(np.float32) if with_poses else None

    def plain(weights, rows):
        gain, divergence = drgn.gains(weights, rows, arrays, CONSENSUS)
        return (arrays.weight * (2.0 * divergence - gain)).sum() / 4

    rows = Rows(pose=pose)
    expected = jax.grad(plain, argnums=(0, 1))(weights, rows)
    found = jax.grad(lambda w, r: drgn.loss(w, r, arrays, CONSENSUS, 2.0)[0], argnums=(0, 1))(weights, rows)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * float(abs(other).max()))


def test_particles_of_weight_0_count_nothing(batch, weights):
    weight = np.array([1, 1, 1, 0, 0], np.float32)
    some = Batch(*(part[:3] if part is not None and len(part) == COUNT else part for part in batch))
    whole, _ = drgn.loss(weights, Rows(), batch._replace(weight=weight), CONSENSUS)
    few, _ = drgn.loss(weights, Rows(), some, CONSENSUS)
    assert float(whole) == pytest.approx(float(few), rel=1e-5)


def test_beta_weighs_the_divergence(batch, weights):
    loss, (gain, divergence) = drgn.loss(weights, Rows(), batch, CONSENSUS, 3.0)
    assert float(loss) == pytest.approx(3 * float(divergence) - float(gain))


def test_latents_of_their_own_take_the_place_of_the_encoder(batch, weights):
    rows = Rows(latent=np.arange(4 * COUNT, dtype=np.float32).reshape(COUNT, 4) / 10)
    mean, log_deviation = drgn.posterior(weights._replace(encoder=None), rows, batch)
    np.testing.assert_array_equal(np.concatenate([mean, log_deviation], axis=1), rows.latent)


def test_a_correction_turns_and_moves_as_a_new_pose_would(weights):
    made = moving_particles(COUNT, BOX, snr=0.5)
    rng = np.random.default_rng(5)
    correction = np.concatenate([rng.normal(0, 0.2, (COUNT, 3)), rng.normal(0, 0.1, (COUNT, 2))], axis=1)
    pose, width = made.particles.pose, BOX * made.particles.pixel_size
    from dataclasses import replace

    moved = replace(made.particles, pose=Pose(*drgn.corrected_pose(pose.euler, pose.shift, correction, width)))
    before, after = a_batch(made.particles), a_batch(moved)
    values, basis = drgn.corrected(before.values, before.basis, correction.astype(np.float32), before.plane)
    np.testing.assert_allclose(basis, after.basis, atol=1e-5)
    np.testing.assert_allclose(values, after.values, atol=1e-4 * abs(after.values).max())
    # and the gain is that of the new pose, counted from the consensus at the old one
    rows = Rows(latent=np.zeros((COUNT, 4), np.float32), pose=correction.astype(np.float32))
    gain, _ = drgn.gains(weights, rows, less_consensus(before), CONSENSUS)
    new, _ = drgn.gains(weights, rows._replace(pose=None), less_consensus(after), CONSENSUS)
    misfit = [(np.abs(less_consensus(b).values) ** 2).sum(axis=1) for b in (before, after)]
    np.testing.assert_allclose(gain, new + misfit[0] - misfit[1], rtol=1e-3, atol=1e-2)


def test_corrections_of_nothing_change_nothing(batch):
    nothing = np.zeros((COUNT, 5), np.float32)
    values, basis = drgn.corrected(batch.values, batch.basis, nothing, batch.plane)
    np.testing.assert_array_equal(values, batch.values)
    np.testing.assert_array_equal(basis, batch.basis)


def test_gradients_of_poses_exist_at_no_correction_and_point_home(weights):
    jax = pytest.importorskip("jax")
    made = moving_particles(COUNT, BOX, snr=20.0, still=True)
    off = np.tile([0.05, -0.03, 0.04], (COUNT, 1))
    turned = np.swapaxes(matrix_from_rotation_vector(off), -1, -2)
    batch = a_batch(made.particles)
    batch = less_consensus(
        batch._replace(basis=(batch.basis @ turned).astype(np.float32))
    )  # poses wrong by a known turn
    still = Weights(weights.decoder._replace(last=np.zeros_like(weights.decoder.last)), None)

    def loss(pose):
        rows = Rows(latent=np.zeros((COUNT, 4), np.float32), pose=pose)
        return drgn.loss(still, rows, jax.tree.map(jax.numpy.asarray, batch), CONSENSUS)[0]

    gradient = np.asarray(jax.grad(loss)(np.zeros((COUNT, 5), np.float32)))
    assert np.isfinite(gradient).all()
    # basis T(w)' must undo basis T(off)': w = -off, so the loss falls that way and the gradient has the sign of off
    assert ((gradient[:, :3] * off).sum(axis=1) > 0).all()
