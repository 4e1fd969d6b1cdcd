"""`landscape filter` keeps the particles that are asked for with all their columns, in STAR and .cs; bad input is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.errors import VitreousError
from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.latents import Latents
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star, write_star
from vitreous.jobs.analyze_landscape import AnalyzeLandscape
from vitreous.jobs.filter_landscape import FilterLandscape
from vitreous.jobs.folder import run_job
from vitreous.jobs.landscape_folder import read_landscape

WIDE = (-99.0, -99.0, 99.0, -99.0, 99.0, 99.0, -99.0, 99.0)


@pytest.fixture(scope="module")
def analysis(landscape_folder, tmp_path_factory):
    """An analysis with 5 clusters. Not to be modified."""
    out = tmp_path_factory.mktemp("analysis") / "job"
    run_job(AnalyzeLandscape(landscape_folder, clusters=5, mixture=2, frames=2, components=0, umap=False), out)
    return out


def expected_rows(name: str, landscape_folder, analysis) -> tuple[dict, np.ndarray]:
    """(Settings, who must be kept) of each way to choose."""
    mean = read_landscape(landscape_folder).latents.mean.astype(np.float64)
    table = read_star(analysis / "latents.star")["latents"]
    scores = principal_components(mean).scores
    if name == "clusters":
        return {"cluster": (2, 5), "analysis": analysis}, np.isin(table["vitreousCluster"], (2, 5))
    if name == "mixture":
        settings = {"cluster": (2,), "clustering": "mixture", "analysis": analysis}
        return settings, np.asarray(table["vitreousMixture"]) == 2
    if name == "range":
        return {"range": (2, -0.5, 0.75)}, (mean[:, 1] >= -0.5) & (mean[:, 1] <= 0.75)
    if name == "latent polygon":
        return {"polygon": (0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0), "plane": "latent"}, (mean > 0).all(axis=1)
    return {"polygon": (0.0, -9.0, 9.0, -9.0, 9.0, 9.0, 0.0, 9.0)}, scores[:, 0] > 0


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("name", ["clusters", "mixture", "range", "latent polygon", "pca polygon"])
def test_those_asked_for_are_kept_with_all_columns(name, invert, landscape_folder, analysis, tmp_path):
    settings, rows = expected_rows(name, landscape_folder, analysis)
    rows = rows != invert
    outcome = run_job(FilterLandscape(landscape_folder, invert=invert, **settings), tmp_path / "part")
    whole = read_star(landscape_folder / "particles.star")["particles"]
    kept = read_star(tmp_path / "part" / "particles.star")["particles"]
    assert 0 < rows.sum() < 300 and kept.names == [*whole.names, "vitreousLatent1", "vitreousLatent2"]
    for column in whole.names:
        assert np.array_equal(np.asarray(kept[column]), np.asarray(whole[column])[rows]), column
    mean = read_landscape(landscape_folder).latents.mean[rows]
    for axis in (1, 2):
        assert np.array_equal(np.asarray(kept[f"vitreousLatent{axis}"], np.float32), mean[:, axis - 1])
    result = outcome.as_json()
    assert (result["kept"], result["rejected"]) == (rows.sum(), (~rows).sum())
    assert "Particles" in (tmp_path / "part" / "report.html").read_text()


def test_the_images_are_found_from_the_new_folder(landscape_folder, tmp_path):
    run_job(FilterLandscape(landscape_folder, range=(1, 0.0, 9.0)), tmp_path / "part")
    kept = read_particles(tmp_path / "part" / "particles.star")
    assert kept.images is not None and kept.images.read(slice(0, 2)).shape == (2, 32, 32)


def test_cs_files_hold_the_same(landscape_folder, tmp_path):
    run_job(FilterLandscape(landscape_folder, range=(1, 0.0, 9.0), format="cs"), tmp_path / "part")
    star, cs = (read_particles(tmp_path / "part" / f"particles.{kind}", load_images=False) for kind in ("star", "cs"))
    assert len(star) == len(cs)
    assert [star.names.text(row) for row in range(5)] == [cs.names.text(row) for row in range(5)]
    assert np.allclose(star.pose.euler, cs.pose.euler, atol=1e-6) and np.allclose(star.ctf.defocus, cs.ctf.defocus)
    write_particles(tmp_path / "back.star", cs)
    back = read_star(tmp_path / "back.star")["particles"]
    for axis in (1, 2):
        name = f"vitreousLatent{axis}"
        assert np.array_equal(np.asarray(back[name]), np.asarray(star.table[name]))


def test_a_part_of_a_part_has_the_latents_of_the_last_landscape(blob_landscape, landscape_folder, tmp_path):
    run_job(FilterLandscape(landscape_folder, range=(1, 0.0, 9.0)), tmp_path / "part")
    particles = read_particles(tmp_path / "part" / "particles.star", load_images=False)
    mean = np.linspace(0, 1, len(particles), dtype=np.float32)[:, None]
    latents = Latents(mean, np.full((len(particles), 1, 1), 0.1, np.float32))
    folder = blob_landscape(tmp_path / "anew", tmp_path / "part" / "particles.star", particles, latents)
    outcome = run_job(FilterLandscape(folder, range=(1, -1.0, 2.0)), tmp_path / "rest")
    table = read_star(tmp_path / "rest" / "particles.star")["particles"]
    assert "vitreousLatent2" not in table and np.allclose(table["vitreousLatent1"], mean[:, 0])
    assert outcome.warnings == ["Every particle was kept."]


def test_negative_numbers_are_no_options(landscape_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["landscape", "filter", str(landscape_folder), "--polygon", "-3", "-3", "0", "-3", "0", "3", "-3", "3"]
    assert dispatch([*words, "--plane", "latent", "--out", "part", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    mean = read_landscape(landscape_folder).latents.mean
    assert printed["kept"] == (mean[:, 0] < 0).sum()


BAD = {
    "nothing asked": ({}, "no way of choosing"),
    "two ways": ({"range": (1, 0.0, 1.0), "polygon": WIDE}, "--polygon and --range"),
    "clusters without analysis": ({"cluster": (1,)}, "--cluster without --analysis"),
    "umap without analysis": ({"polygon": WIDE, "plane": "umap"}, "--plane umap without"),
    "analysis without a map": ({"polygon": WIDE, "plane": "umap", "analysis": True}, "has no UMAP"),
    "no such cluster": ({"cluster": (1, 6), "analysis": True}, "--cluster 6"),
    "cluster 0": ({"cluster": (0,), "analysis": True}, "--cluster 0"),
    "two corners": ({"polygon": (0.0, 0.0, 1.0, 1.0)}, "3 corners"),
    "odd numbers": ({"polygon": WIDE[:7]}, "7 numbers"),
    "a corner that is none": ({"polygon": (*WIDE[:7], float("nan"))}, "finite"),
    "range reversed": ({"range": (1, 2.0, -1.0)}, "smaller value first"),
    "endless range": ({"range": (1, 0.0, float("inf"))}, "finite"),
    "no such number": ({"range": (3, 0.0, 1.0)}, "--range 3"),
    "number 0": ({"range": (0, 0.0, 1.0)}, "--range 0"),
    "nobody": ({"range": (1, 50.0, 60.0)}, "no particle is kept"),
    "nobody but": ({"polygon": WIDE, "invert": True}, "no particle is kept"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name, landscape_folder, analysis, tmp_path):
    settings, expected = BAD[name]
    if settings.get("analysis"):
        settings = {**settings, "analysis": analysis}
    with pytest.raises(VitreousError) as caught:
        run_job(FilterLandscape(landscape_folder, **settings), tmp_path / "out")
    assert expected in caught.value.line() and "\n" not in caught.value.line()
    assert not list(tmp_path.iterdir())


def test_analyses_of_other_landscapes_are_refused(blob_landscape, landscape_folder, analysis, tmp_path):
    landscape = read_landscape(landscape_folder)
    moved = Latents(landscape.latents.mean + 0.01, landscape.latents.covariance)
    other = blob_landscape(tmp_path / "other", landscape_folder / "particles.star", landscape.particles, moved)
    one = Latents(landscape.latents.mean[:, :1], landscape.latents.covariance[:, :1, :1])
    line = blob_landscape(tmp_path / "line", landscape_folder / "particles.star", landscape.particles, one)
    (tmp_path / "wrong").mkdir()
    write_star(tmp_path / "wrong" / "latents.star", {"latents": {"a": "b"}})
    for folder, table, expected in (
        (other, analysis, "another landscape"),
        (landscape_folder, other, "holds no latents.star"),
        (landscape_folder, tmp_path / "wrong", "not a table"),
    ):
        with pytest.raises(VitreousError, match=expected):
            run_job(FilterLandscape(folder, cluster=(1,), analysis=table), tmp_path / "out")
    with pytest.raises(VitreousError, match="one number"):
        run_job(FilterLandscape(line, polygon=WIDE), tmp_path / "out")
    assert not (tmp_path / "out").exists()
