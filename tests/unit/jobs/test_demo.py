"""The demonstration: its two answers agree with each other, and its folder holds the way there."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from vitreous.errors import OutputProblem, SettingsProblem
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.jobs.demo import QUICK, SCENES, Demo
from vitreous.jobs.folder import run_job
from vitreous.jobs.truth_comparison import compare
from vitreous.optics.delocalisation import largest_defocus_that_fits
from vitreous.optics.electrons import wavelength


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "job"
    run_job(Demo(quick=True, model="4ake"), out)
    return out


def test_half_maps_and_truth_give_the_same_resolution(folder):
    """FSC 0.143 between half maps and 0.5 with the truth are one criterion: with known poses they come within two
    shells.
    """
    result = json.loads((folder / "result.json").read_text())
    box, pixel_size = 64, 2.2
    shells = [box * pixel_size / result[key] for key in ("resolution_angstrom", "resolution_against_truth_angstrom")]
    assert abs(shells[0] - shells[1]) < 2.5
    assert result["correlation_with_truth"] > 0.8


def test_predicted_curve_is_the_true_one(folder):
    comparison = compare(folder, folder / "simulated" / "truth_map.mrc")
    kept = comparison.half_maps > 0.2
    first_low = int(np.argmin(kept[1:])) + 1 if not kept[1:].all() else len(kept)
    difference = comparison.against_truth.correlation[1:first_low] - comparison.predicted[1:first_low]
    # Shells of a masked map hold some hundred independent terms at least: FSC to a few percent.
    assert np.abs(difference).mean() < 0.03 and np.abs(difference).max() < 0.12
    # Read the other way round (half maps taken for the whole map) they would not agree.
    assert np.abs(comparison.against_truth.correlation - comparison.half_maps)[1:first_low].mean() > 0.03


def test_folder_holds_everything(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    simulated = {
        f"simulated/{name}" for name in ("particles.mrcs", "particles.star", "particles_unposed.star", "truth_map.mrc")
    }
    assert (
        simulated
        | {
            "map.mrc",
            "half1.mrc",
            "half2.mrc",
            "sharpened.mrc",
            "mask.mrc",
            "fsc.star",
            "report.html",
            "result.json",
            "settings.yaml",
        }
        <= names
    )
    assert len(read_particles(folder / "simulated" / "particles.star")) == QUICK["4ake"].count
    assert read_volume(folder / "map.mrc").pixel_size == pytest.approx(2.2, rel=1e-6)
    page = (folder / "report.html").read_text()
    assert "Was the resolution honest?" in page and page.count("data:image/png") >= 4
    assert str(folder.parent) not in (folder / "simulated" / "particles.star").read_text()


def test_result_names_no_passing_folder(folder):
    assert (
        ".partial" not in (folder / "report.html").read_text()
        and ".partial" not in (folder / "result.json").read_text()
    )


def test_finished_folder_is_not_overwritten_without_force(folder):
    with pytest.raises(OutputProblem, match="--force"):
        run_job(Demo(quick=True), folder)


def test_scenes_fit_their_boxes():
    """No scene asks for a defocus that its box aliases."""
    for scene in (*SCENES.values(), *QUICK.values()):
        assert scene.defocus_um[1] * 1e4 < largest_defocus_that_fits(scene.box, scene.pixel_size, wavelength(300e3))


def test_count_is_checked():
    with pytest.raises(SettingsProblem, match="--count 1"):
        Demo(count=1)


@pytest.mark.slow
def test_command_without_arguments_makes_the_ribosome(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from vitreous.cli import main; main(['demo', '--json'])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (
        6.1 < result["resolution_angstrom"] < 7.5
        and abs(result["resolution_angstrom"] - result["resolution_against_truth_angstrom"]) < 0.5
    )
    assert (tmp_path / "vitreous_demo" / "report.html").is_file()
    again = subprocess.run(
        [sys.executable, "-c", "from vitreous.cli import main; main(['demo'])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 2 and "--force" in again.stderr and again.stderr.count("\n") == 1
