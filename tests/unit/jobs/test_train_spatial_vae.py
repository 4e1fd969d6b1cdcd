"""The job `landscape images`: its files, going on after an interruption, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.heterogeneity.sliding_particle import PIXEL_SIZE, sliding_particles

from vitreous.cli import dispatch
from vitreous.engine.checkpoint import load_state
from vitreous.heterogeneity.latents import Latents
from vitreous.io.mrc_stack import MrcStack, write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.folder import run_job
from vitreous.jobs.train_spatial_vae import TrainSpatialVae
from vitreous.model.pose import Pose

COUNT = 40
SMALL = {"latent": 2, "epochs": 3, "turns": 12, "width": 12, "layers": 1, "waves": 8, "batch": 8, "shift_range": 5.0}


@pytest.fixture(scope="module")
def particle_file(tmp_path_factory) -> Path:
    """Not to be modified."""
    folder = tmp_path_factory.mktemp("sliding")
    particles = sliding_particles(COUNT, seed=2).particles
    write_stack(folder / "sliding.mrcs", particles.images.pixels, PIXEL_SIZE)
    write_particles(folder / "particles.star", particles)
    write_particles(folder / "particles.cs", particles)
    return folder / "particles.star"


@pytest.fixture(scope="module")
def finished(particle_file, tmp_path_factory) -> Path:
    """Not to be modified."""
    out = tmp_path_factory.mktemp("finished") / "job"
    run_job(TrainSpatialVae(particle_file, **SMALL), out)
    return out


def test_the_folder_has_turns_latents_and_pictures(particle_file, finished):
    particles = read_particles(finished / "particles.star")
    latents = load_state(finished / "latents.npz", Latents)
    assert len(particles) == len(latents) == COUNT and latents.dimensions == 2
    columns = np.stack([np.asarray(particles.table[f"vitreousLatent{j}"], float) for j in (1, 2)], axis=1)
    np.testing.assert_allclose(columns, latents.mean, atol=1e-6)  # six decimals
    assert particles.pose is not None and np.all(particles.pose.euler[:, :2] == 0)
    assert np.abs(particles.pose.shift).max() <= 5.0 + 1e-6 and particles.pose.euler[:, 2].std() > 0.5
    probability = np.asarray(particles.table["vitreousTurnProbability"], float)
    assert np.all((probability > 0) & (probability <= 1))
    np.testing.assert_array_equal(
        particles.images.read(slice(3, 5)), read_particles(particle_file).images.read(slice(3, 5))
    )
    result = json.loads((finished / "result.json").read_text())
    pictures = MrcStack(finished / "decoded.mrcs").read(slice(None))
    assert pictures.shape == (14, 24, 24) and len(result["decoded_latents"]) == 14
    assert pictures.std() > 0 and np.all(pictures[:, 0, 0] == 0)  # nothing outside of the disc
    epochs = result["epochs"]
    assert len(epochs["loss"]) == 3
    np.testing.assert_allclose(
        epochs["loss"], np.array(epochs["kl"]) + epochs["pose_kl"] - np.array(epochs["gain"]), rtol=1e-4, atol=1e-4
    )
    page = (finished / "report.html").read_text()
    assert "Along the latents" in page and "component 2" in page
    assert not (finished / "training.npz").exists()


def test_cryosparc_files_give_the_same(particle_file, finished, tmp_path):
    run_job(TrainSpatialVae(particle_file.with_suffix(".cs"), **SMALL), tmp_path / "job")
    one, other = (load_state(folder / "latents.npz", Latents) for folder in (finished, tmp_path / "job"))
    # angles and defoci have been through single precision
    np.testing.assert_allclose(other.mean, one.mean, atol=0.02)


def test_an_interrupted_job_goes_on_to_the_same_bits(particle_file, finished, tmp_path):
    def stopping(stage: str):
        def progress(done: int, total: int) -> None:
            if stage == "train" and done > 1.5 * COUNT:
                raise KeyboardInterrupt

        return progress

    job = TrainSpatialVae(particle_file, **SMALL)
    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_job(job, tmp_path / "job", progress=stopping)
    left = [path.name for folder in tmp_path.iterdir() for path in folder.iterdir()]
    assert left == ["training.npz"]
    run_job(job, tmp_path / "job")
    pictures = (MrcStack(folder / "decoded.mrcs").read(slice(None)) for folder in (finished, tmp_path / "job"))
    assert np.array_equal(*pictures)
    one, other = (load_state(folder / "latents.npz", Latents) for folder in (finished, tmp_path / "job"))
    assert np.array_equal(one.mean, other.mean) and np.array_equal(one.covariance, other.covariance)


def test_poses_of_the_file_are_replaced_and_said_so(particle_file, tmp_path, capsys):
    particles = read_particles(particle_file)
    posed = replace(particles, pose=Pose(np.ones((COUNT, 3)), np.full((COUNT, 2), 3.0)))
    write_particles(particle_file.with_name("posed.star"), posed)
    words = ["--epochs", "1", "--turns", "6", "--width", "8", "--layers", "1", "--waves", "4", "--shift-range", "0"]
    assert (
        dispatch(
            ["landscape", "images", str(particle_file.with_name("posed.star")), *words, "--out", str(tmp_path / "o")]
        )
        == 0
    )
    assert "were replaced" in capsys.readouterr().err
    assert np.all(read_particles(tmp_path / "o" / "particles.star").pose.shift == 0)


def test_a_loss_that_is_no_number_names_its_batch(particle_file, tmp_path, capsys):
    words = ["--rate", "1e30", "--epochs", "2", "--turns", "6", "--width", "8", "--shift-range", "0"]
    assert dispatch(["landscape", "images", str(particle_file), *words, "--out", str(tmp_path / "o")]) == 2
    err = capsys.readouterr().err
    assert "loss of" in err and "batch" in err and "row" in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--latent", "0"], "--latent 0"),
        (["--latent", "40"], "--latent 40 for the 40 particles"),
        (["--epochs", "0"], "--epochs 0"),
        (["--turns", "1"], "--turns 1"),
        (["--finest", "3"], "--finest 3"),
        (["--diameter", "900"], "--diameter 900"),
        (["--shift-range", "90"], "--shift-range 90"),
        (["--seed", "-1"], "--seed -1"),
    ],
)
def test_mistakes_are_one_line(particle_file, tmp_path, capsys, words, said):
    assert dispatch(["landscape", "images", str(particle_file), *words, "--out", str(tmp_path / "o")]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("kind", "said"), [("nan", "NaN"), ("constant", "one value"), ("small", "at least 16 px"), ("bare", "defocus")]
)
def test_images_that_cannot_be_used(particle_file, tmp_path, capsys, kind, said):
    particles = read_particles(particle_file)
    pixels = particles.images.read(slice(None)).copy()
    if kind == "nan":
        pixels[4, 5, 6] = np.nan
    elif kind == "constant":
        pixels[4] = 2.5
    elif kind == "small":
        pixels = pixels[:, 6:18, 6:18]
        particles = replace(particles, optics=tuple(replace(group, box=12) for group in particles.optics))
    else:
        particles = replace(particles, ctf=None, table=type(particles.table)())
    write_stack(tmp_path / "sliding.mrcs", pixels, PIXEL_SIZE)
    write_particles(tmp_path / "p.star", replace(particles, images=None))
    assert dispatch(["landscape", "images", str(tmp_path / "p.star"), "--out", str(tmp_path / "o")]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "o").exists()
