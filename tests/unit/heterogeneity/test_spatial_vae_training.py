"""spatial-VAE on images of which everything is known; seeds, checkpoints, broken numbers."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.unit.heterogeneity.sliding_particle import SlidingParticles, sliding_particles

from vitreous.engine.checkpoint import load_state, save_state
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.heterogeneity.background_noise import background_noise
from vitreous.heterogeneity.consensus import whitened_reader
from vitreous.heterogeneity.coordinate_network import NetworkSettings
from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.slice_source import prepared
from vitreous.heterogeneity.spatial_vae import image_plane
from vitreous.heterogeneity.spatial_vae_training import (
    SpatialData,
    SpatialSettings,
    SpatialState,
    decoded_images,
    first_state,
    infer,
    one_epoch,
    train,
)
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import InversionSettings

RADIUS = 11.0  # cycles per box
SMALL = SpatialSettings(NetworkSettings(1, 16, 1, 8), radius=8.0, turns=12, reach=1, epochs=3, batch=8)


def data_of(made: SlidingParticles, radius: float) -> SpatialData:
    particles, count = made.particles, len(made.particles)
    noise = background_noise(particles, 8.5)
    particles = replace(particles, pose=Pose(np.zeros((count, 3)), np.zeros((count, 2))))
    reader = whitened_reader(particles, InversionSettings(np.eye(3)[None]), noise.sigma, radius)
    return SpatialData(prepared(reader), image_plane(reader.grid, 10.0, noise.signal))


@pytest.fixture(scope="module")
def few() -> SpatialData:
    return data_of(sliding_particles(20, seed=6), SMALL.radius)


def same(one: SpatialState, other: SpatialState) -> bool:
    arrays = zip((*one.weights, *one.optimiser), (*other.weights, *other.optimiser), strict=True)
    return one.history == other.history and all(np.array_equal(a, b) for a, b in arrays)


@pytest.mark.slow
def test_turns_origins_and_the_slide_are_found_from_a_random_start():
    made = sliding_particles(300, snr=0.4)
    settings = SpatialSettings(
        NetworkSettings(2, 48, 2, 32), radius=RADIUS, turns=36, reach=2, epochs=24, rate=3e-3, seed=2
    )
    data = data_of(made, RADIUS)
    state = train(data, settings)
    found = infer(state, data, settings)
    away = np.exp(1j * (found.turns.psi - made.psi))
    common = np.angle(away.mean())  # which way up a picture is nobody can know
    error = np.degrees(np.abs(np.angle(away * np.exp(-1j * common))))
    assert np.median(error) < 8 and np.mean(error < 20) > 0.9
    # nor where its middle is: origins differ by a vector that turns with the particle
    cosine, sine = np.cos(made.psi), np.sin(made.psi)
    turns = np.stack([np.stack([cosine, sine], axis=-1), np.stack([-sine, cosine], axis=-1)], axis=1)
    missed = found.turns.origin - made.origin
    missed = missed - turns @ np.einsum("nij,ni->j", turns, missed) / len(missed)
    guessed = made.origin - made.origin.mean(axis=0)
    assert np.sqrt(np.mean(missed**2)) < 0.75 * np.sqrt(np.mean(guessed**2))
    first = principal_components(found.latents.mean).scores[:, 0]
    assert abs(spearmanr(first, made.slide)[0]) > 0.7
    ends = principal_components(found.latents.mean).latents(np.percentile(first, [5, 95])[:, None])
    low, high = decoded_images(state, data, settings, ends)
    moved, body = np.abs(high - low).max(), max(low.max(), high.max())
    assert moved > 0.3 * body  # the sliding part is as dense as the rest
    losses = [record.loss for record in state.history]
    assert losses[-1] < 0.5 * losses[0] - 10


def test_an_interrupted_training_goes_on_to_the_same_bits(few, tmp_path):
    whole = train(few, SMALL)
    first = one_epoch(few, SMALL, first_state(few, SMALL))
    save_state(tmp_path / "state.npz", first)
    assert same(train(few, SMALL, load_state(tmp_path / "state.npz", SpatialState)), whole)
    assert not same(train(few, replace(SMALL, seed=1)), whole)


def digest() -> str:
    """Of a small training, all from the seed."""
    state = train(data_of(sliding_particles(20, seed=6), SMALL.radius), SMALL)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in state.weights)).hexdigest()


@pytest.mark.slow
def test_a_seed_gives_the_same_bits_in_another_process():
    program = "from tests.unit.heterogeneity.test_spatial_vae_training import digest; print(digest())"
    root = Path(__file__).resolve().parents[3]
    other = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest()


def test_a_loss_that_is_no_number_stops_at_once_and_names_the_batch(few):
    kept = []
    state = one_epoch(few, SMALL, first_state(few, SMALL))
    values = few.source.slices.values.copy()
    values[7, 3] = np.nan
    broken = replace(few, source=replace(few.source, slices=replace(few.source.slices, values=values)))
    with pytest.raises(
        DataProblem, match=r"loss of nan in epoch 2, batch \d, whose \d particles begin with row"
    ) as found:
        train(broken, SMALL, state, keep=kept.append, name_of=lambda row: f"row {row}")
    assert kept == [] and "checkpoint" in str(found.value)


@pytest.mark.parametrize(
    "wrong", [{"turns": 1}, {"network": NetworkSettings(0)}, {"epochs": 0}, {"step": 0.0}, {"reach": -1.0}]
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsProblem):
        replace(SMALL, **wrong)
