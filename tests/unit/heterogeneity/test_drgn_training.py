"""Training: what it learns, that it goes on where it stopped, and that it stops where it must."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.unit.heterogeneity.moving_particle import MovingParticles, density, moving_particles

from vitreous.engine.checkpoint import load_state, save_state
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.nonuniform import transform_at
from vitreous.geometry.rotations import angular_distance, matrix_from_euler, matrix_from_rotation_vector
from vitreous.heterogeneity.consensus import noise, whitened_reader
from vitreous.heterogeneity.coordinate_network import NetworkSettings, network_values
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.drgn import corrected_pose
from vitreous.heterogeneity.drgn_training import (
    TrainingData,
    TrainingSettings,
    TrainingState,
    bounds_of,
    decoder_of,
    first_state,
    latents_of,
    train,
    weights_of,
)
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.network_decoder import amplitude_at, network_amplitude
from vitreous.heterogeneity.perceptron import answer
from vitreous.heterogeneity.row_table import RowTable
from vitreous.heterogeneity.slice_source import SliceSource, prepared
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.heterogeneity.subspace_slices import SubspaceSlices
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.slicing import sliced

BOX, COUNT = 16, 240
INVERSION = InversionSettings(np.eye(3)[None])
NETWORK = NetworkSettings(latent=1, width=24, layers=1, waves=16)
SETTINGS = TrainingSettings(NETWORK, radius=8, particle_radius=6, epochs=4, batch=16, rate=3e-3)
MIDDLE = np.mean([density(position, BOX) for position in np.linspace(-1, 1, 16)], axis=0)


@cache
def made(count: int = COUNT, snr: float = 1.0) -> MovingParticles:
    return moving_particles(count, BOX, snr=snr)


def data_of(particles, features: np.ndarray | None = None, **changes) -> TrainingData:
    """Particles in memory, with the mean map as consensus; the encoder sees `features`, or nothing but noise."""
    reader = whitened_reader(particles, INVERSION, noise(particles, INVERSION, MIDDLE))
    if features is None:
        features = np.random.default_rng(0).normal(size=(len(particles), 3)).astype(np.float32)
    return TrainingData(
        prepared(reader, sliced(MIDDLE)),
        np.arange(len(particles)),
        sliced(MIDDLE),
        network_amplitude(MIDDLE),
        features,
        **changes,
    )


@cache
def data() -> TrainingData:
    return data_of(made().particles)


def arrays(state: TrainingState) -> list[np.ndarray]:
    tables = [
        getattr(t, name) for t in (state.latent, state.pose) if t for name in ("values", "first", "second", "steps")
    ]
    return [*state.weights, *state.optimiser, *tables, np.array([[h.loss, h.gain, h.kl] for h in state.history])]


def same(left: TrainingState, right: TrainingState) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays(left), arrays(right), strict=True))


@pytest.mark.parametrize("changes", [{}, {"autodecoder": True, "refine_poses": True}])
def test_a_training_goes_on_from_any_state_to_the_same_bits(tmp_path, changes):
    settings = replace(SETTINGS, **changes)
    kept: list[TrainingState] = []
    whole = train(data(), settings, keep=kept.append)
    assert [state.epoch for state in kept] == [1, 2, 3, 4]
    save_state(tmp_path / "state.npz", kept[1])
    resumed = train(data(), settings, load_state(tmp_path / "state.npz", TrainingState))
    assert same(whole, resumed)
    assert same(whole, train(data(), settings))


def test_another_seed_is_another_training():
    assert not same(train(data(), replace(SETTINGS, epochs=1)), train(data(), replace(SETTINGS, epochs=1, seed=1)))


def test_from_the_disk_it_is_the_same_to_the_bit(tmp_path):
    particles = made().particles
    sigma = noise(particles, INVERSION, MIDDLE)
    on_disk = replace(data(), source=prepared(whitened_reader(particles, INVERSION, sigma), sliced(MIDDLE), tmp_path))
    settings = replace(SETTINGS, epochs=2)
    assert same(train(data(), settings), train(on_disk, settings))


def test_a_source_gives_the_rows_of_each_batch_in_order(tmp_path):
    reader = whitened_reader(made().particles, INVERSION, noise(made().particles, INVERSION, MIDDLE))
    order = np.random.default_rng(1).permutation(COUNT)
    groups = [order[start : start + 7] for start in range(0, COUNT, 7)]
    on_disk = prepared(reader, folder=tmp_path)
    assert isinstance(on_disk.slices.values.base, np.memmap) and list(tmp_path.iterdir()) == []
    streams = zip(prepared(reader).stream(groups), on_disk.stream(groups), groups, strict=True)
    for memory, disk, rows in streams:
        for name in ("values", "transfer", "basis"):
            np.testing.assert_array_equal(getattr(memory, name), getattr(disk, name))
        np.testing.assert_array_equal(memory.values, reader.read(rows).values)


def test_it_learns_how_the_particle_moves_from_latents_that_say_where_it_is():
    particles = made(800)
    # a noisy view of the truth, as a linear subspace would give it
    rng = np.random.default_rng(3)
    seen = (particles.position / particles.position.std() + rng.normal(0, 0.3, 800)).astype(np.float32)[:, None]
    features = np.concatenate([seen, np.full_like(seen, np.log(0.3))], axis=1)
    settings = replace(SETTINGS, epochs=12, rate=6e-3)
    facts = data_of(particles.particles, features, direct=np.eye(2, dtype=np.float32))
    facts = replace(facts, rows=np.arange(700))
    state = train(facts, settings)
    latents = latents_of(state, facts, settings)
    assert abs(spearmanr(latents.mean[:, 0], particles.position)[0]) > 0.93  # the features themselves have .95
    held_out = bounds_of(state, facts, settings, np.arange(700, 800))
    assert held_out.mean() > 3  # nat beyond the consensus, for particles that were not trained on
    assert held_out.mean() > 5 * held_out.std() / 10  # five standard errors
    # maps at both ends are nearer to the truth there than the consensus is
    decoder = decoder_of(state, facts, settings, MIDDLE[None], 6.0)
    for rows in (particles.position < -0.85, particles.position > 0.85):
        truth = density(float(particles.position[rows].mean()), BOX)
        map_there = decoded_volume(decoder, latents.mean[rows].mean(axis=0)).data
        assert np.linalg.norm(map_there - truth) < 0.75 * np.linalg.norm(MIDDLE - truth)


def test_an_autodecoder_learns_more_of_each_particle_than_it_was_told():
    particles = made(400, 2.0)
    told = particles.position / particles.position.std() + np.random.default_rng(4).normal(0, 0.8, 400)
    start = Latents(told[:, None].astype(np.float32), np.full((400, 1, 1), 0.4, np.float32))
    settings = replace(SETTINGS, epochs=16, rate=2e-2, batch=8, autodecoder=True)
    facts = data_of(particles.particles, first_latents=start)
    latents = latents_of(train(facts, settings), facts, settings)
    before, after = (abs(spearmanr(mean, particles.position)[0]) for mean in (told, latents.mean[:, 0]))
    assert before < 0.8
    assert after > 0.9


def test_an_autodecoder_starts_from_latents_that_are_known():
    known = Latents(np.full((COUNT, 1), 0.5, np.float32), np.full((COUNT, 1, 1), 0.25, np.float32))
    facts = replace(data(), first_latents=known)
    state = first_state(facts, replace(SETTINGS, autodecoder=True))
    np.testing.assert_allclose(state.latent.values, np.tile([0.5, np.log(0.5)], (COUNT, 1)), rtol=1e-6)


def test_poses_are_refined():
    particles = moving_particles(300, BOX, snr=4.0, still=True).particles
    rng = np.random.default_rng(2)
    wrong = np.concatenate([rng.normal(0, 0.06, (300, 3)), rng.normal(0, 0.06, (300, 2))], axis=1)
    pose, width = particles.pose, BOX * particles.pixel_size
    off = replace(particles, pose=type(pose)(*corrected_pose(pose.euler, pose.shift, wrong, width)))
    volume = density(0.0, BOX)
    reader = whitened_reader(off, INVERSION, noise(particles, INVERSION, volume))
    nothing = np.zeros((300, 0), np.float32)
    facts = TrainingData(
        prepared(reader, sliced(volume)), np.arange(300), sliced(volume), network_amplitude(volume), nothing
    )
    network = replace(NETWORK, latent=0)
    settings = TrainingSettings(network, 8, 6, epochs=16, rate=1e-4, pose_rate=6e-3, refine_poses=True)
    state = train(facts, settings)
    found = corrected_pose(off.pose.euler, off.pose.shift, state.pose.values, width)
    truth = matrix_from_euler(pose.euler)
    before, after = (np.median(angular_distance(matrix_from_euler(e), truth)) for e in (off.pose.euler, found[0]))
    assert after < 0.6 * before
    moved = [np.median(np.linalg.norm(s - pose.shift, axis=1)) for s in (off.pose.shift, found[1])]
    assert moved[1] < 0.6 * moved[0]


def test_rows_step_as_adam_does():
    optax = pytest.importorskip("optax")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 3)).astype(np.float32)
    table, optimiser = RowTable.of(values).copied(), optax.adam(0.01)
    expected = values.copy()
    state = [optimiser.init(row) for row in expected]
    for rows in ([0, 2], [2], [1, 2], [0, 3]):
        gradient = rng.normal(size=(len(rows), 3)).astype(np.float32)
        table.step(np.array(rows), gradient, 0.01)
        for row, slope in zip(rows, gradient):
            change, state[row] = optimiser.update(slope, state[row])
            expected[row] += np.asarray(change)
    np.testing.assert_allclose(table.values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(table.steps, [2, 1, 3, 1])


def test_a_share_of_the_pixels_leaves_the_loss_as_it_is_on_average():
    settings = replace(SETTINGS, epochs=1, rate=1e-9)
    state = train(data(), replace(SETTINGS, epochs=3))
    start = replace(state, epoch=0, history=())
    whole, part = (
        np.array(
            [train(data(), replace(settings, share=share, seed=seed), start).history[0].gain for seed in range(1, 7)]
        )
        for share in (1.0, 0.5)
    )
    error = np.hypot(whole.std(ddof=1), part.std(ddof=1)) / np.sqrt(6)
    assert abs(part.mean() - whole.mean()) < 4 * error


def test_a_loss_that_is_no_number_stops_at_once_and_names_the_batch():
    slices = data().source.slices
    values = slices.values.copy()
    values[17] = np.nan
    broken = replace(data(), source=SliceSource(replace(slices, values=values), data().source.grid))
    kept: list[TrainingState] = []
    with pytest.raises(DataProblem, match=r"epoch 1, batch \d+, whose 16 particles begin with image ") as caught:
        train(broken, SETTINGS, keep=kept.append, name_of=lambda row: f"image {row}")
    assert "checkpoint" in str(caught.value)
    assert kept == []


def test_rings_open_with_the_epochs():
    settings = replace(SETTINGS, epochs=20, radius=20)
    radii = [settings.radius_of(epoch) for epoch in range(20)]
    assert radii == sorted(radii)
    assert radii[0] == 10
    assert radii[-1] == 20
    history = train(data(), replace(SETTINGS, radius=8)).history
    assert [record.pixels for record in history] == sorted(record.pixels for record in history)


def test_coordinates_of_the_latent_open_one_after_the_other():
    settings = replace(SETTINGS, epochs=20, network=replace(NETWORK, latent=6))
    opened = [int(settings.open_in(epoch).sum()) for epoch in range(20)]
    assert opened == [1] * 6 + [2] * 2 + [4] * 2 + [6] * 10
    assert settings.open_in(6).tolist() == [1, 1, 0, 0, 0, 0]


def test_the_rate_falls_to_nothing():
    settings = replace(SETTINGS, epochs=3)
    states = [first_state(data(), settings)]
    train(data(), settings, keep=states.append)
    moved = [
        sum(float(np.abs(b - a).sum()) for a, b in zip(before.weights, after.weights, strict=True))
        for before, after in pairwise(states)
    ]
    assert moved[2] < 0.5 * moved[0]  # as cosines do: the mean rates of three epochs are .91, .5 and .09 of the first


def test_the_trained_decoder_is_what_was_trained_on():
    """The gain of an image by the decoder's map is that which the training found with slices of eigenvolumes and network."""
    maps = np.stack([MIDDLE, density(0.6, BOX) - MIDDLE]).astype(np.float32)
    linear = SubspaceSlices.of(SubspaceDecoder(maps, 6.0, 8.0))
    facts = replace(data(), linear=linear)
    state = train(facts, replace(SETTINGS, epochs=2))
    weights = weights_of(state, facts, SETTINGS)
    decoder = decoder_of(state, facts, SETTINGS, maps, 6.0)
    grid, basis = facts.source.grid, facts.source.slices.basis[:3]
    kx, ky = grid.kx[1:].astype(np.float32), grid.ky[1:].astype(np.float32)
    seen, latent = linear.at(basis, kx, ky), np.array([0.8], np.float32)
    for one in range(3):
        points = np.stack([kx, ky], axis=-1) @ basis[one]
        scale = amplitude_at(facts.amplitude, np.hypot(kx, ky))
        added = scale * network_values(weights.decoder, points, latent, BOX) + seen[one] @ answer(
            weights.mixture, latent
        )
        expected = decoder.transform(points, latent) - transform_at(maps[0], points / BOX)
        # trilinear interpolation in a transform padded twice, against the exact sum
        assert np.linalg.norm(added - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"epochs": 0}, {"share": 1.5}, {"beta": -1}, {"batch": 0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingsProblem, match=next(iter(wrong))):
        replace(SETTINGS, **wrong)


def test_what_the_prior_says_of_a_particle_costs_nothing():
    settings = replace(SETTINGS, epochs=1)
    facts = data_of(made().particles, np.zeros((COUNT, 2), np.float32), direct=np.eye(2, dtype=np.float32))
    state = first_state(facts, settings)
    np.testing.assert_allclose(bounds_of(state, facts, settings, np.arange(20)), 0, atol=1e-4)
    latents = latents_of(state, facts, settings)
    np.testing.assert_array_equal(latents.mean, 0)
    np.testing.assert_allclose(latents.deviation, 1, rtol=1e-6)


def test_corrections_are_rotation_vectors_in_the_frame_of_the_object():
    euler, turn = np.array([[0.3, 1.0, -0.5]]), np.array([[0.1, 0.0, 0.0, 0.0, 0.0]])
    found, shift = corrected_pose(euler, np.array([[1.0, 2.0]]), turn, 100.0)
    expected = matrix_from_euler(euler) @ np.swapaxes(matrix_from_rotation_vector(turn[:, :3]), -1, -2)
    np.testing.assert_allclose(matrix_from_euler(found), expected, atol=1e-12)
    np.testing.assert_array_equal(shift, [[1.0, 2.0]])
