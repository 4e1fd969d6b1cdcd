"""The demonstration: what was found is what was true, and its folder holds the way there."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from vitreous.cli import COMMANDS
from vitreous.errors import FileProblem, OutputProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io.micrograph_star import read_coordinates
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.jobs import demo as demo_job
from vitreous.jobs.demo import MAPS, Demo
from vitreous.jobs.demo_steps import (
    CTF,
    CUT,
    DIAMETERS,
    FIELD,
    FOLDERS,
    MICROGRAPHS,
    PARTICLES,
    PICKS,
    PIXEL_SIZE,
    QUICK,
    REFINED,
    SELECTED,
    WHOLE,
    Step,
    command,
    steps,
)
from vitreous.jobs.demo_truth import picked, pose_errors
from vitreous.jobs.estimate_ctf import EstimateCtf
from vitreous.jobs.folder import run_job
from vitreous.jobs.truth_comparison import compare
from vitreous.optics.delocalisation import largest_defocus_that_fits
from vitreous.optics.electrons import wavelength
from vitreous.reconstruction.fsc import fourier_shell_correlation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The quick demonstration, run once."""
    out = tmp_path_factory.mktemp("demo") / "job"
    run_job(Demo(quick=True), out)
    return out


@pytest.fixture(scope="module")
def result(folder):
    return json.loads((folder / "result.json").read_text())


# --- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [WHOLE, QUICK])
def test_scenes_fit_their_boxes(scale, tmp_path):
    """No scene asks for a defocus that its box aliases, for a field without room for its particles, or for a box that cuts the particle."""
    simulated = steps(scale, 0, tmp_path)[0].job
    assert simulated.defocus_um[1] * 1e4 < largest_defocus_that_fits(scale.box, scale.pixel_size, wavelength(300e3))
    covered = scale.particles * np.pi * (DIAMETERS[1] / 2) ** 2
    assert covered < 0.25 * (FIELD * PIXEL_SIZE) ** 2
    assert 1.2 * DIAMETERS[1] < CUT * PIXEL_SIZE


@pytest.mark.parametrize("scale", [WHOLE, QUICK])
def test_commands_by_hand_are_commands(scale, tmp_path):
    """Each begins with the words of a command, has options that its job has, and names files from the demonstration's folder on."""
    way = steps(scale, 0, tmp_path)
    known = {" ".join(one.words) for one in COMMANDS}
    assert tuple(step.folder for step in way) == FOLDERS
    for step in way:
        told = command(step, tmp_path)
        assert step.job.name in known and told.startswith(f"vitreous {step.job.name} ")
        assert str(tmp_path) not in told and told.endswith(f"--out my_{step.folder[3:]}")
    told = {step.folder: command(step, tmp_path) for step in way}
    assert told[CTF] == "vitreous ctf 01_micrographs/micrographs.star --out my_ctf"
    assert f"--box {CUT} --scale-to {scale.box}" in told[PARTICLES]
    assert "--diameter 220 300 --threshold 2.5" in told[PICKS] and "--datadir 01_micrographs" in told[PICKS]


def test_seed_is_checked():
    with pytest.raises(SettingsProblem, match="--seed -1"):
        Demo(seed=-1)


def test_the_error_of_a_step_says_which_it_was(tmp_path, monkeypatch):
    """One line, and no folder."""

    def broken(scale, seed, root):
        return (steps(scale, seed, root)[0], Step(CTF, EstimateCtf((root / "nowhere.star",))))

    done = demo_job.run_step
    monkeypatch.setattr(demo_job, "steps", broken)
    monkeypatch.setattr(demo_job, "run_step", lambda number, step, desk: number and done(number, step, desk))
    with pytest.raises(FileProblem, match=r"^step 2 of 8, ctf: .*nowhere\.star does not exist"):
        run_job(Demo(quick=True), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_finished_folder_is_not_overwritten_without_force(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(OutputProblem, match="--force"):
        run_job(Demo(quick=True), tmp_path)


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_was_found_is_what_was_true(result):
    assert result["particles_true"] == QUICK.micrographs * QUICK.particles
    # Blobs this strong are all found, and at a threshold of 2.5 one in six is noise, which makes classes of its own.
    assert result["pick_recall"] > 95 and 70 < result["pick_precision"] < 95
    assert result["kept_recall"] > 95 and result["kept_precision"] > 97
    # Rings to 6 A tell the mean defocus of a micrograph to some tens of angstrom, half a percent of it.
    assert result["defocus_error_angstrom"] < 100
    # The finest detail, 16 A, at the rim of the particle, 150 A from its middle, is an angle of 6 degrees: a third of it.
    assert result["pose_error_deg"] < 3 and result["poses_beyond_5_deg"] < 15
    assert result["origin_error_angstrom"] < QUICK.pixel_size / 2


@pytest.mark.slow
def test_half_maps_and_truth_give_the_same_resolution(result):
    """FSC 0.143 between half maps and 0.5 with the truth are one criterion; a map that ends at Nyquist has none finer."""
    width, nyquist = QUICK.box * QUICK.pixel_size, 2 * QUICK.pixel_size
    shells = [width / result[key] for key in ("resolution_angstrom", "resolution_against_truth_angstrom")]
    assert abs(shells[0] - shells[1]) < 2.5
    assert nyquist * 0.99 < result["resolution_against_truth_angstrom"] < 1.5 * nyquist
    assert result["correlation_with_truth"] > 0.8


@pytest.mark.slow
def test_predicted_curve_is_the_true_one(folder):
    comparison = compare(folder / REFINED, folder / MICROGRAPHS / "truth_map.mrc")
    difference = np.abs(comparison.against_truth.correlation - comparison.predicted)[1:]
    # Shells of a masked map hold some hundred independent terms at least: FSC to a few percent.
    assert difference.mean() < 0.03
    # The other hand has nothing in common with the truth beyond its outline.
    width = comparison.map.box * comparison.map.pixel_size
    fine = comparison.other_hand.frequency > 6 / width
    assert comparison.other_hand.correlation[fine].mean() < 0.3 < comparison.against_truth.correlation[fine].mean()


@pytest.mark.slow
def test_results_at_the_top_are_in_the_hand_of_the_truth(folder):
    """Map and truth lie over each other as they are, and the poses there show the map: projected along them, the truth's centre falls on the particles."""
    whole, truth, mask = (read_volume(folder / name) for name in ("map.mrc", "truth.mrc", "mask.mrc"))
    curve = fourier_shell_correlation(whole.data * mask.data, truth.data * mask.data, whole.pixel_size)
    assert curve.correlation[1 : len(curve.correlation) // 2].min() > 0.9
    comparison = compare(folder / REFINED, folder / MICROGRAPHS / "truth_map.mrc")
    size, coordinates = comparison.map.pixel_size, folder / MICROGRAPHS / "coordinates.star"
    right = pose_errors(folder / "particles.star", coordinates, comparison.placement, size, mirrored=False)
    wrong = pose_errors(folder / "particles.star", coordinates, comparison.placement, size, mirrored=True)
    assert np.median(right.angle) < np.radians(3) < np.radians(20) < np.median(wrong.angle)


@pytest.mark.slow
def test_folder_holds_everything_and_can_be_moved(folder, tmp_path):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {*MAPS, "truth.mrc", "fsc.star", "particles.star", "report.html", "result.json", "settings.yaml"} <= names
    for step in FOLDERS:
        assert {f"{step}/{name}" for name in ("report.html", "result.json", "settings.yaml")} <= names
    for path in folder.rglob("*"):
        if path.suffix in (".star", ".json", ".yaml", ".html"):
            text = path.read_text()
            assert ".partial" not in text and (str(folder) not in text or path.name == "provenance.json"), path
    moved = tmp_path / "moved"
    folder.rename(moved)
    try:
        for name in (f"{PARTICLES}/particles.star", f"{SELECTED}/particles.star", "particles.star"):
            assert np.isfinite(read_particles(moved / name).images.read(slice(0, 2))).all()
    finally:
        moved.rename(folder)


@pytest.mark.slow
def test_report_tells_the_way(folder):
    page = (folder / "report.html").read_text()
    for heading in ("What happened", "Picks", "Class averages", "A first map", "Was the resolution honest?"):
        assert heading in page
    assert page.count("The same by hand") == len(FOLDERS) and page.count("data:image/png") > 10
    assert page.count("vitreous refine 06_selected/particles.star") >= 1


@pytest.mark.slow
def test_recall_counts_particles(folder):
    """Half of the micrographs' picks are half of the recall."""
    coordinates = folder / MICROGRAPHS / "coordinates.star"
    all_of_them = picked(folder / PICKS / "picks.star", coordinates)
    truth = read_coordinates(coordinates)
    assert all_of_them.true_count == len(truth) and len(set(all_of_them.true.tolist())) == len(all_of_them)
    assert replace(all_of_them, found=all_of_them.found[::2]).recall == pytest.approx(all_of_them.recall / 2, abs=0.01)
    assert matrix_from_euler(truth.pose.euler).shape == (len(truth), 3, 3)
