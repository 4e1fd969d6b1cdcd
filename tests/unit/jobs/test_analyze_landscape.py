"""`landscape analyze` leaves the maps that the decoder makes, a row for each particle, and the same bits twice; bad input is one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import COMMANDS, dispatch
from vitreous.errors import VitreousError
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.latents import Latents
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.io.star import read_star
from vitreous.jobs.analyze_landscape import AnalyzeLandscape
from vitreous.jobs.animation import animated
from vitreous.jobs.folder import run_job
from vitreous.jobs.landscape_folder import read_landscape
from vitreous.jobs.latent_table import read_latent_table

QUICK = {"clusters": 3, "frames": 4, "steps": 3, "umap": False}


@pytest.fixture(scope="module")
def analysis(landscape_folder, tmp_path_factory) -> Path:
    """An analysis with a larger box and two chosen particles. Not to be modified."""
    out = tmp_path_factory.mktemp("analysis") / "job"
    run_job(AnalyzeLandscape(landscape_folder, at=(7, 300), box=20, **QUICK), out)
    return out


def test_maps_are_those_of_the_decoder_where_the_table_says(landscape_folder, analysis):
    landscape = read_landscape(landscape_folder)
    table = read_star(analysis / "volumes.star")["volumes"]
    latent = np.stack([np.asarray(table[f"vitreousLatent{axis}"]) for axis in (1, 2)], axis=1)
    for name, place in zip(table["rlnReferenceImage"], latent, strict=True):
        volume = read_volume(analysis / name)
        assert volume.box == 20 and volume.pixel_size == pytest.approx(8 * 16 / 20)
        expected = decoded_volume(landscape.decoder, place, 20).data
        assert np.allclose(volume.data, expected, atol=1e-5 * np.abs(expected).max())
    named = dict(zip(table["rlnReferenceImage"], latent, strict=True))
    for number in (7, 300):
        assert np.allclose(named[f"volumes/particle_{number:03d}.mrc"], landscape.latents.mean[number - 1])
    components = principal_components(landscape.latents.mean)
    for step, percent in enumerate((5, 50, 95), start=1):
        score = np.array([[0.0, np.percentile(components.scores[:, 1], percent)]])
        assert np.allclose(named[f"volumes/component2_{step:03d}.mrc"], components.latents(score)[0], atol=1e-6)
    groups = {name.rsplit("_", 1)[0].removeprefix("volumes/") for name in named}
    assert groups == {"kmeans", "mixture", "particle", "component1", "component2", "geodesic", "straight"}
    assert len(list((analysis / "volumes").iterdir())) == len(named)


def test_each_particle_has_its_row(landscape_folder, analysis):
    landscape = read_landscape(landscape_folder)
    table = read_star(analysis / "latents.star")["latents"]
    assert np.array_equal(table["vitreousParticle"], np.arange(1, 301))
    assert [name.split("@")[0] for name in table["rlnImageName"]] == [f"{n:06d}" for n in range(1, 301)]
    components = principal_components(landscape.latents.mean)
    for axis in (1, 2):
        assert np.allclose(table[f"vitreousLatent{axis}"], landscape.latents.mean[:, axis - 1], rtol=1e-6)
        assert np.allclose(table[f"vitreousLatentError{axis}"], 0.2)
        assert np.allclose(table[f"vitreousComponent{axis}"], components.scores[:, axis - 1], atol=1e-6)
    result = json.loads((analysis / "result.json").read_text())
    found = result["clusters_of"]["kmeans"]
    assert np.bincount(table["vitreousCluster"])[1:].tolist() == found["particles"]
    assert [int(table["vitreousCluster"][row - 1]) for row in found["centre"]] == [1, 2, 3]
    read = read_latent_table(analysis, landscape.latents)
    assert read.umap is None and np.array_equal(read.labels["kmeans"], table["vitreousCluster"])


def test_the_path_through_the_data_bends_and_the_report_says_so(analysis):
    result = json.loads((analysis / "result.json").read_text())
    paths = result["paths"]
    middle = {name: np.linalg.norm(paths[name]["latent"][1]) for name in ("geodesic", "straight")}
    assert middle["geodesic"] > 1.6 and middle["straight"] < 1.6  # the ring has a radius of 2
    assert any("straight path" in warning for warning in result["warnings"])
    assert any("not states" in warning for warning in result["warnings"])
    page = (analysis / "report.html").read_text()
    for word in ("Where the particles lie", "UMAP", "occupancy", "kT", "defocus", "geodesic", "k-means", "Gaussian"):
        assert word in page
    assert 'src="http' not in page


def test_movies_go_there_and_back(analysis):
    for name in ("geodesic", "straight", "component1", "component2"):
        with Image.open(analysis / "movies" / f"{name}.gif") as movie:
            assert movie.n_frames == (4 if name.startswith("component") else 6) and movie.info["loop"] == 0
    frames = [np.full((8, 8, 4), 60 * index, np.uint8) for index in range(3)]
    (analysis.parent / "m.png").write_bytes(animated(frames, "PNG"))
    with Image.open(analysis.parent / "m.png") as movie:
        shown = []
        for index in range(movie.n_frames):
            movie.seek(index)
            shown.append(int(np.asarray(movie.convert("RGBA"))[0, 0, 0]))
    assert shown == [0, 60, 120, 60]


def test_the_same_bits_twice(landscape_folder, analysis, tmp_path):
    run_job(AnalyzeLandscape(landscape_folder, at=(7, 300), box=20, **QUICK), tmp_path / "again")
    names = sorted(path.relative_to(analysis) for path in analysis.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for name in names:
        if name.name not in ("provenance.json", "report.html"):  # these hold times
            assert (analysis / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_latent_of_one_number_has_no_plane(blob_landscape, blob_files, tmp_path, rng):
    source = blob_files / "particles.star"
    particles = read_particles(source, load_images=False).rows(np.arange(60))
    mean = rng.normal(size=(60, 1)).astype(np.float32)
    folder = blob_landscape(tmp_path / "one", source, particles, Latents(mean, np.full((60, 1, 1), 0.1, np.float32)))
    outcome = run_job(AnalyzeLandscape(folder, clusters=2, frames=3, steps=2, pictures="sections"), tmp_path / "out")
    assert any("one number" in warning for warning in outcome.warnings)
    assert "vitreousUmap1" not in read_star(tmp_path / "out" / "latents.star")["latents"]
    assert len(outcome.tables["density"]) == 1


def test_a_crowded_map_is_drawn_as_counts(blob_landscape, blob_files, horseshoe, tmp_path):
    source = blob_files / "particles.star"
    particles = read_particles(source, load_images=False).rows(np.arange(2400) % 900)
    mean = horseshoe(2400).astype(np.float32)
    folder = blob_landscape(tmp_path / "many", source, particles, Latents(mean, np.zeros((2400, 2, 2), np.float32)))
    run_job(AnalyzeLandscape(folder, components=0, **QUICK), tmp_path / "out")
    assert "particles in a cell" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_the_example_runs_and_the_umap_can_be_filtered(landscape_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("trained").symlink_to(landscape_folder)
    command = next(c for c in COMMANDS if c.words == ("landscape", "analyze"))
    assert dispatch(shlex.split(command.example)[1:]) == 0
    assert "clusters" in capsys.readouterr().out
    words = "landscape filter trained --plane umap --analysis analysis --polygon -99 -99 99 -99 99 99 -99 99 --out all"
    assert dispatch(words.split()) == 0
    assert len(read_particles("all/particles.star", load_images=False)) == 300


BAD = {
    "more clusters than particles": ({"clusters": 301}, "301 clusters of 300"),
    "no clusters": ({"clusters": 0}, "--clusters 0"),
    "a mixture of too many": ({"mixture": 400}, "400 clusters of 300"),
    "box too small": ({"box": 4}, "--box 4"),
    "box too large": ({"box": 65}, "8 to 64"),
    "no such particle": ({"at": (301,)}, "--at 301"),
    "particle 0": ({"at": (0,)}, "--at 0"),
    "a particle twice": ({"at": (4, 4)}, "different particles"),
    "a path of one": ({"through": (4,)}, "two or more"),
    "a path to nowhere": ({"through": (4, 900)}, "--through 900"),
    "no frames": ({"frames": 1}, "--frames 1"),
    "negative components": ({"components": -1}, "--components -1"),
    "no neighbours": ({"neighbours": 0}, "--neighbours 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name, landscape_folder, tmp_path):
    settings, expected = BAD[name]
    with pytest.raises(VitreousError) as caught:
        run_job(AnalyzeLandscape(landscape_folder, **{**QUICK, **settings}), tmp_path / "out")
    assert expected in caught.value.line() and "\n" not in caught.value.line()
    assert not list(tmp_path.iterdir())


def test_folders_that_are_no_landscapes(blob_landscape, blob_files, class_files, tmp_path):
    source = blob_files / "particles.star"
    particles = read_particles(source, load_images=False).rows(np.arange(9))
    none = Latents(np.zeros((9, 0), np.float32), np.zeros((9, 0, 0), np.float32))
    flat = blob_landscape(tmp_path / "flat", source, particles, none)
    for folder, expected in (
        (class_files, "no trained landscape"),
        (tmp_path / "no", "no trained"),
        (flat, "no latent"),
    ):
        with pytest.raises(VitreousError, match=expected):
            run_job(AnalyzeLandscape(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
