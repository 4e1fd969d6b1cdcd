"""cryoDRGN 4.3.1: its tables of a STAR file, and its networks; `cryodrgn_run.py` says what was run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.heterogeneity.cryodrgn_decoder import cryodrgn_decoder
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.io.cryodrgn import ctf_array, pose_arrays, read_ctf, read_poses
from vitreous.io.particles import read_particles
from vitreous.io.torch_file import read_state_dict
from vitreous.jobs.cryodrgn_run import read_config, read_run

FOLDER = Path(__file__).parent / "cryodrgn"
STORED = json.loads((FOLDER / "numbers.json").read_text())
SINGLE = 2e-6  # sums of some dozen products in single precision, in another order


@pytest.fixture(scope="module")
def given():
    spec = importlib.util.spec_from_file_location("cryodrgn_run", FOLDER.with_name("cryodrgn_run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def particles():
    return read_particles(FOLDER / "particles.star", load_images=False)


@pytest.fixture(scope="module")
def run():
    return read_run(FOLDER)


def test_versions():
    assert STORED["versions"]["cryodrgn"] == "4.3.1"


def test_rotations_and_translations_of_a_star_file(particles):
    rotation, translation = read_poses(FOLDER / "poses.pkl")
    ours = pose_arrays(particles)
    np.testing.assert_allclose(ours[0], rotation, atol=1e-14)  # products of sines in double precision
    np.testing.assert_allclose(ours[1], translation, rtol=1e-15)
    np.testing.assert_allclose(rotation, matrix_from_euler(particles.pose.euler), atol=1e-14)
    # transposed, or the other way round, they are far off
    assert np.abs(ours[0].swapaxes(1, 2) - rotation).max() > 0.5
    assert np.abs(ours[1] + translation).max() > 0.01


def test_ctfs_of_a_star_file_without_phase_shifts(particles):
    table = read_ctf(FOLDER / "ctf.pkl")
    assert table.absent_phase_shifts == len(particles) == 40
    np.testing.assert_array_equal(ctf_array(particles), table.values.astype(np.float32))
    assert np.ptp(table.values[:, 4]) > 90 and np.ptp(table.values[:, 2] - table.values[:, 3]) > 100  # angles matter


def test_the_map_of_a_trained_network_is_that_of_eval_vol(given, run):
    """But for three values: eval_vol has k = (-16, 0, 0), (0, -16, 0) and (0, 0, -16), where we have frequencies below Nyquist's alone."""
    ours = decoded_volume(run.decoder, np.array(given.LATENT))
    assert ours.pixel_size == 4.0
    box = ours.box
    for voxel, theirs in zip(given.VOXELS, STORED["voxels"], strict=True):
        waves = sum(value * (-1.0) ** index for value, index in zip(STORED["nyquist"], voxel[::-1]))
        assert ours.data[voxel] == pytest.approx(theirs - waves / box**3, abs=1e-6 * max(map(abs, STORED["voxels"])))


def test_latents_of_a_run(run, particles):
    assert len(run.latents) == len(particles)
    mean, log_variance = np.array(STORED["latent"], dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(run.latents.mean[3], mean)
    np.testing.assert_allclose(run.latents.covariance[3], np.diag(np.exp(log_variance)), rtol=1e-6)
    assert [path.name for path in run.files] == ["config.yaml", "weights.pkl", "z.pkl"]


def test_arrays_of_a_file_of_torch():
    """The layers as config.yaml describes them: 2 x 12 features of 8 frequencies a coordinate, two latents, 32 wide."""
    arrays = read_state_dict(FOLDER / "weights.pkl", "model_state_dict")
    assert arrays["decoder.rand_freqs"].shape == (24, 3)
    assert arrays["decoder.decoder.main.0.weight"].shape == (32, 50)
    assert arrays["decoder.decoder.main.6.bias"].dtype == np.float32
    assert arrays["decoder.rand_freqs"].std() == pytest.approx(0.5, abs=0.15)  # --feat-sigma, of 72 numbers


@pytest.mark.parametrize("number", range(7))
def test_networks_of_every_kind(given, number):
    kind, stored = given.KINDS[number], STORED["networks"][number]
    theirs = 3.0 * np.array(stored["values"])  # the deviation in `config_of`
    decoder = cryodrgn_decoder(given.config_of(kind), given.arrays_of(stored["shapes"]), 2.0)
    ours = decoder.transform(given.points(), np.array(given.LATENT))
    atol = SINGLE * np.abs(theirs).max()
    if kind[0] == "hartley":
        np.testing.assert_allclose(ours.real - ours.imag, theirs.ravel(), atol=atol)
    else:
        np.testing.assert_allclose(ours, theirs[:, 0] + 1j * theirs[:, 1], atol=atol)
    bare = {
        name.removeprefix("decoder."): array for name, array in given.arrays_of(stored["shapes"]).items()
    }  # of train_dec
    again = cryodrgn_decoder(given.config_of(kind), bare, 2.0).transform(given.points(), np.array(given.LATENT))
    np.testing.assert_array_equal(again, ours)
    opposite = decoder.transform(-given.points(), np.array(given.LATENT))
    np.testing.assert_allclose(opposite, ours.conj(), atol=atol)


def test_settings_and_network_of_different_runs_are_refused(given):
    arrays = given.arrays_of(STORED["networks"][0]["shapes"])
    for change in ({"zdim": 3}, {"domain": "hartley"}, {"pe_type": "none"}, {"activation": "tanh"}):
        config = given.config_of(given.KINDS[0])
        config["model_args"] |= change
        with pytest.raises(DataProblem):
            cryodrgn_decoder(config, arrays, 2.0)
    assert read_config(FOLDER / "config.yaml")["model_args"]["zdim"] == 2
