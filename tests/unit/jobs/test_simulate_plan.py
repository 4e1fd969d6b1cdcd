"""The job `simulate plan`: its answer follows from images of multislice, and bad questions are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.folder import run_in_passing, run_job
from vitreous.jobs.simulate_plan import SimulatePlan
from vitreous.model.microscope import Microscope
from vitreous.scattering.phantom import protein_column, slices_in_ice
from vitreous.simulation.image_formation import form_image

SMALL = {"thickness": 200.0, "resolution": 4.0, "box": 96}


@pytest.fixture(scope="module")
def outcome():
    return run_in_passing(SimulatePlan(**SMALL))


def rows(outcome):
    return {row["model"]: row for row in outcome.tables["rungs"]}


def test_the_answer_is_the_simplest_model_within_the_tolerance(outcome):
    table = rows(outcome)
    assert list(table) == [
        "projection",
        "weak_phase",
        "phase_object",
        "ewald",
        "thick_phase_grating",
        "rytov",
        "multislice",
    ]
    found = {name: max(row["error_at_resolution"], row["error_overall"]) for name, row in table.items()}
    assert outcome.as_json()["model"] == next(name for name in table if found[name] <= 0.1) == "thick_phase_grating"
    assert found["multislice"] == 0 and found["phase_object"] > 0.1
    assert "thick_phase_grating" in outcome.tables["recommendation"]
    # a quarter of d^2/lambda = 813 A (physics.md b6)
    assert outcome.as_json()["depths_of_field"] == pytest.approx(200 / 813, rel=1e-3)
    # no depth: about the closed form of a weak flat specimen
    assert table["phase_object"]["error_at_resolution"] == pytest.approx(outcome.as_json()["flatness_error"], rel=0.2)
    assert outcome.as_json()["slab_error"] < 0.03


def test_errors_are_those_of_the_images(outcome):
    atoms = protein_column(96.0, 200.0, 0)
    slices = slices_in_ice(atoms, 96, 1.0, 200.0, outcome.as_json()["slabs"])
    microscope = Microscope(300e3, 2.7e7, 1e4)
    truth, flat = (form_image(slices, microscope, model) for model in ("multislice", "phase_object"))
    k = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96))
    inside = (k > 0) & (k <= 0.25)
    expected = np.linalg.norm(np.fft.fft2(flat - truth)[inside]) / np.linalg.norm(np.fft.fft2(truth)[inside])
    # images in single precision, made twice
    assert rows(outcome)["phase_object"]["error_overall"] == pytest.approx(expected, rel=1e-4)


def test_tolerance_decides():
    assert run_in_passing(SimulatePlan(**SMALL, tolerance=1e-4)).as_json()["model"] == "multislice"
    lenient = run_in_passing(SimulatePlan(**SMALL, tolerance=0.5))
    assert lenient.as_json()["model"] in ("projection", "phase_object")


def test_a_model_in_ice(tmp_path):
    job = SimulatePlan(Path("bundled:4ake"), thickness=100.0, resolution=4.0)
    found = run_job(job, tmp_path / "plan")
    table = rows(found)
    assert table["thick_phase_grating"]["error_at_resolution"] < 0.03 < table["phase_object"]["error_at_resolution"]
    saved = json.loads((tmp_path / "plan" / "result.json").read_text())
    assert saved["model"] == found.as_json()["model"]
    page = (tmp_path / "plan" / "report.html").read_text()
    assert "thick phase grating" in page and "<svg" in page and "data:image/png" in page


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"thickness": -1.0}, r"--thickness -1"),
        ({"thickness": float("nan")}, r"--thickness nan"),
        ({"resolution": 0.0}, r"--resolution 0"),
        ({"voltage_kv": 300e3}, r"--voltage-kv 300000.*kilovolts"),
        ({"tolerance": 10.0}, r"--tolerance 10.*fraction"),
        ({"defocus_um": 1e4}, r"--defocus-um 10000.*micrometres"),
        ({"pixel_size": 2.0}, r"--pixel-size 2 for a resolution of 4 A.*1\.333"),
        ({"box": 4}, r"--box 4"),
        ({"threads": 0}, r"--threads 0"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(SettingsProblem, match=message):
        SimulatePlan(**{**SMALL, **settings})


def test_specimens_that_do_not_fit(tmp_path):
    kinase = Path("bundled:4ake")
    with pytest.raises(SettingsProblem, match=r"--thickness 20 A for bundled:4ake, which is \d\d A thick"):
        run_in_passing(SimulatePlan(kinase, thickness=20.0, resolution=4.0))
    with pytest.raises(SettingsProblem, match=r"--box 32 px of 1 A = 32 A for a model \d\d A across.*at least"):
        run_in_passing(SimulatePlan(kinase, thickness=100.0, resolution=4.0, box=32))
    with pytest.raises(SettingsProblem, match="a map"):
        run_in_passing(SimulatePlan(tmp_path / "map.mrc", thickness=100.0, resolution=4.0))
    with pytest.raises(SettingsProblem, match=r"GB"):
        run_in_passing(SimulatePlan(thickness=1e5, resolution=2.0))


def test_ions_are_asked_for(tmp_path):
    model = tmp_path / "ion.pdb"
    model.write_text(
        "ATOM      1  CA  ALA A   1      11.104   6.134  -6.504  1.00  0.00           C\n"
        "HETATM    2 MG    MG A   2      14.104   6.134  -6.504  1.00  0.00          MG2+\n"
    )
    with pytest.raises(DataProblem, match=r"1 Mg2\+"):
        run_in_passing(SimulatePlan(model, thickness=100.0, resolution=6.0))
    assert run_in_passing(SimulatePlan(model, ions="omit", thickness=100.0, resolution=6.0)).tables["rungs"]
    with pytest.raises(SettingsProblem, match="--ions without a specimen"):
        SimulatePlan(ions="omit", thickness=100.0, resolution=6.0)
