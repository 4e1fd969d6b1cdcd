"""The job `landscape train`: what it leaves, what it says, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.unit.heterogeneity.moving_particle import PIXEL_SIZE, moving_particles

from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.folder import run_job
from vitreous.jobs.landscape_folder import read_landscape, write_landscape
from vitreous.jobs.landscape_input import refuse_memory
from vitreous.jobs.landscape_training import first_latents, subspace_features
from vitreous.jobs.train_landscape import TrainLandscape

COUNT, BOX = 400, 16
SMALL = {"latent": 2, "width": 16, "layers": 1, "waves": 16, "epochs": 3, "diameter": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """particles.star and its stack, and the position of each arm."""
    place = tmp_path_factory.mktemp("moving")
    made = moving_particles(COUNT, BOX, snr=1.0)
    write_stack(place / "moving.mrcs", made.particles.images.read(slice(None)), PIXEL_SIZE)
    write_particles(place / "particles.star", made.particles)
    np.save(place / "position.npy", made.position)
    return place


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    run_job(TrainLandscape(folder / "particles.star", **SMALL), folder / "network")
    return folder / "network"


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_folder_is_a_landscape(trained, folder):
    found = read_landscape(trained)
    assert (len(found.particles), found.latents.dimensions, found.decoder.box) == (COUNT, 2, BOX)
    assert found.particles.names.index.tolist() == list(range(COUNT))
    consensus = read_volume(trained / "consensus.mrc")
    assert consensus.pixel_size == pytest.approx(PIXEL_SIZE)
    volume = decoded_volume(found.decoder, found.latents.mean[0], 24)
    assert (volume.box, volume.pixel_size) == (24, pytest.approx(PIXEL_SIZE * BOX / 24))
    assert read_particles(trained / "particles.star").images.read(np.array([3])).shape == (
        1,
        BOX,
        BOX,
    )  # names still lead to the stack
    assert not list(trained.glob("training.npz")) + list(trained.glob("subspace.npz"))


def test_it_says_what_was_learned_beside_the_baseline(trained):
    said = result(trained)
    assert (said["particles"], said["held_out"], said["latent"]) == (COUNT, 40, 2)
    assert said["subspace_gain_nat"] > 1
    assert len(said["epochs"]["loss"]) == len(said["epoch_seconds"]) == 3
    report = (trained / "report.html").read_text()
    for words in ("linear subspace", "gain, nat a particle", "Along the first component"):
        assert words in report


def test_the_subspace_alone_finds_how_the_particle_moves(folder, tmp_path):
    run_job(TrainLandscape(folder / "particles.star", model="subspace", latent=2, epochs=8), tmp_path / "out")
    found = read_landscape(tmp_path / "out")
    assert abs(spearmanr(found.latents.mean[:, 0], np.load(folder / "position.npy"))[0]) > 0.85
    assert result(tmp_path / "out")["gain_nat"] > 2
    # as far apart as the maps: latents are spread as their eigenvolumes are, and these are all alike
    maps, spread = found.decoder.maps[1:], found.latents.mean.std(axis=0)
    sizes = np.sqrt((maps.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-4)
    assert spread[1] < spread[0]
    assert result(tmp_path / "out")["subspace"]["variance"][0] == pytest.approx(sizes[0] ** 2, rel=1e-4)


def test_the_same_seed_is_the_same_landscape_from_memory_or_disk(trained, folder, tmp_path):
    run_job(TrainLandscape(folder / "particles.star", lazy=True, **SMALL), tmp_path / "again")
    for name in ("decoder.npz", "latents.npz"):
        with np.load(trained / name) as one, np.load(tmp_path / "again" / name) as other:
            assert one.files == other.files
            for array in one.files:
                np.testing.assert_array_equal(one[array], other[array])
    assert result(tmp_path / "again")["from_disk"] is True


@pytest.mark.parametrize(
    "changes", [{"autodecoder": True}, {"refine_poses": True}, {"latent": 0}, {"encoder": "pixels", "share": 0.5}]
)
def test_each_way_of_training_leaves_a_landscape(folder, tmp_path, changes):
    settings = SMALL | {"epochs": 4} | changes
    run_job(TrainLandscape(folder / "particles.star", **settings), tmp_path / "out")
    found = read_landscape(tmp_path / "out")
    assert found.latents.dimensions == settings["latent"]
    assert np.isfinite(decoded_volume(found.decoder, np.zeros(settings["latent"])).data).all()
    said = result(tmp_path / "out")
    assert np.isfinite(said["epochs"]["loss"]).all()
    before, after = (
        read_particles(path).pose.euler for path in (folder / "particles.star", tmp_path / "out" / "particles.star")
    )
    moved = np.abs(after - before).max() > 1e-4
    assert moved == ("refine_poses" in changes)
    if "autodecoder" in changes:
        assert said["gain_nat"] is None


def test_the_encoder_begins_with_the_answer_of_the_subspace(trained):
    latents = read_landscape(trained).latents
    features, direct = subspace_features(latents, 3)
    answer = features @ direct
    np.testing.assert_allclose(answer[:, :2], latents.mean, atol=1e-6)
    np.testing.assert_allclose(np.exp(answer[:, 3:5]), latents.deviation, rtol=1e-5)
    np.testing.assert_array_equal(answer[:, [2, 5]], 0)  # of a third coordinate nothing is known: the prior
    wider = first_latents(latents, 3)
    np.testing.assert_array_equal(wider.covariance[:, 2, 2], 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent": 200}, "--latent 200 for the 400 particles"),
        ({"components": 300}, "--components 300"),
        ({"finest": 3.0}, "--finest 3"),
        ({"diameter": 1e4}, "--diameter 10000"),
    ],
)
def test_settings_that_do_not_fit_the_particles_are_refused(folder, tmp_path, changes, words):
    with pytest.raises(SettingsProblem, match=words):
        run_job(TrainLandscape(folder / "particles.star", **SMALL | changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent": -1}, "--latent -1"),
        ({"epochs": 0}, "--epochs 0"),
        ({"share": 1.5}, "--share 1.5"),
        ({"rate": float("nan")}, "--rate nan"),
        ({"model": "subspace", "latent": 0}, "--latent 0 with --model subspace"),
        ({"latent": 0, "autodecoder": True}, "--autodecoder with --latent 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, words):
    with pytest.raises(SettingsProblem, match=words):
        TrainLandscape(Path("particles.star"), **changes)


def test_particles_without_poses_or_ctf_are_refused(folder, tmp_path):
    whole = read_particles(folder / "particles.star")
    for name, words in (("pose", "gives no orientations"), ("ctf", "gives no defocus")):
        from vitreous.model.table import Table

        write_particles(folder / f"no_{name}.star", replace(whole, table=Table(), **{name: None}))
        with pytest.raises(DataProblem, match=words):
            run_job(TrainLandscape(folder / f"no_{name}.star", **SMALL), tmp_path / "out")


def test_a_box_too_large_for_memory_is_refused_with_what_fits():
    job = TrainLandscape(Path("particles.star"))
    with pytest.raises(DataProblem, match=r"images of 1024 px.* a box of \d+ px"):
        refuse_memory(1024, 400_000, job, 8 * 2**30)
    with pytest.raises(DataProblem, match=r"a batch of 4096 images.*--batch \d+"):
        refuse_memory(128, 6400, replace(job, batch=4096), 8 * 2**30)
    refuse_memory(128, 6400, job, 8 * 2**30)
    refuse_memory(128, 6400, job, None)  # where the system does not say


def test_folders_that_are_no_landscape_are_refused(trained, tmp_path):
    with pytest.raises(DataProblem, match="holds no trained landscape"):
        read_landscape(tmp_path)
    found = read_landscape(trained)
    broken = tmp_path / "broken"
    broken.mkdir()
    write_landscape(
        broken, found.particles, found.latents.rows(slice(0, 10)), found.decoder, source=trained / "particles.star"
    )
    (broken / "result.json").write_text("{}")
    with pytest.raises(DataProblem, match=f"10 latents and {COUNT} particles"):
        read_landscape(broken)
    (broken / "particles.star").unlink()
    with pytest.raises(FileProblem):
        read_landscape(broken)
