"""The job `simulate particles` with waves and with a detector: models, counts, and options that exclude each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast
from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import forward, inverse
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import read_particles
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_particles import SimulateParticles
from vitreous.model.volume import Volume
from vitreous.simulation.images import Projector, simulate_images

KINASE = Path("bundled:4ake")
SMALL = {"box": 40, "pixel_size": 2.4, "defocus_um": (0.3, 0.9), "seed": 3, "count": 8}
WET = {"solvent": "displaced", "hydrogens": "implicit"}
MODELS = ["projection", "weak_phase", "phase_object", "ewald", "thick_phase_grating", "rytov", "multislice"]


def images_of(folder) -> np.ndarray:
    return read_particles(folder / "particles.star").images.read(slice(None))


def smooth(images: np.ndarray) -> np.ndarray:
    """Without the frequencies above 0.9 of Nyquist, where waves and projections end differently."""
    k = np.hypot(np.fft.fftfreq(40)[:, None], np.fft.rfftfreq(40))
    return inverse(forward(images, 2) * (k < 0.45) * (k > 0), images.shape[-2:])


@pytest.fixture(scope="module")
def ladder(tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for model in MODELS:
        folders[model] = tmp_path_factory.mktemp("ladder") / model
        run_job(SimulateParticles(KINASE, model=model, noise="none", **WET, **SMALL), folders[model])
    return folders


@pytest.mark.parametrize("model", MODELS[1:])
def test_every_rung_is_near_the_projection_on_its_scale(ladder, model):
    """A small protein in ice is a weak phase object, nearly: 3 % is the interpolation, the rest scattering and depth."""
    images, expected = (smooth(images_of(ladder[name])) for name in (model, "projection"))
    gain = (images * expected).sum() / (expected**2).sum()
    assert gain == pytest.approx(1, abs=0.05)
    assert np.linalg.norm(images - expected) < 0.15 * np.linalg.norm(expected)
    result = json.loads((ladder[model] / "result.json").read_text())
    assert 0.005 < result["beyond_projection"] < 0.2 and result["scattering_model"] == model
    truths = [read_volume(ladder[name] / "truth_map.mrc").data for name in (model, "projection")]
    assert np.array_equal(*truths)  # one scale for all rungs
    assert "weak limit" in (ladder[model] / "report.html").read_text()


def test_rungs_differ_from_each_other(ladder):
    stacks = [images_of(ladder[model]) for model in MODELS]
    for i, first in enumerate(stacks):
        for second in stacks[:i]:
            assert np.abs(first - second).max() > 1e-4 * np.abs(first).max()


def test_contrast_turns_a_wave_image_over(tmp_path, ladder):
    run_job(
        SimulateParticles(KINASE, model="weak_phase", noise="none", contrast="raw", **WET, **SMALL), tmp_path / "raw"
    )
    assert read_particles(tmp_path / "raw" / "particles.star").contrast is not Contrast.INVERTED
    np.testing.assert_allclose(images_of(tmp_path / "raw"), -images_of(ladder["weak_phase"]), atol=1e-6)


@pytest.mark.parametrize("model", ["projection", "multislice"])
def test_counts_are_what_the_result_says(tmp_path, model):
    """Background 0, variance E (electrons of the ideal detector), signal that of the truth under the CTF, in counts."""
    settings = SimulateParticles(KINASE, model=model, dose=25.0, **WET, **SMALL)
    run_job(settings, tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    electrons = 25.0 * 2.4**2
    assert result["electrons_per_pixel"] == pytest.approx(electrons) and result["empty_pixel"] == pytest.approx(
        electrons
    )
    assert result["snr"] is None and result["detector"] == "ideal"
    particles, truth = (
        read_particles(tmp_path / "job" / "particles.star"),
        read_volume(tmp_path / "job" / "truth_map.mrc"),
    )
    images = images_of(tmp_path / "job")
    pixels = images.size
    assert images.mean() == pytest.approx(0, abs=5 * np.sqrt(electrons / pixels) + 0.02 * electrons)
    signal = np.concatenate(list(simulate_images(Projector(truth), particles)))
    assert images.var() - signal.var() == pytest.approx(electrons, rel=5 * np.sqrt(2 / pixels) + 0.02)
    gain = float((images * signal).sum() / (signal**2).sum())
    error = float(np.sqrt(electrons / (signal**2).sum()))
    assert gain == pytest.approx(0.95, abs=0.07 + 5 * error)  # the pixel's MTF takes some of the finest signal
    np.testing.assert_allclose((images - images.round()).max(), (images - images.round()).min(), atol=0.51)


def test_the_scale_of_counts_is_absolute(tmp_path):
    """truth = volts x E x 2 sigma x p, sigma = 6.526161e-4 rad/(V A) at 300 kV (physics.md b1)."""
    run_job(SimulateParticles(KINASE, dose=10.0, **WET, **SMALL), tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["scale"] == pytest.approx(10.0 * 2.4**2 * 2 * 6.526161424e-4 * 2.4, rel=1e-6)


def test_a_dose_of_less_than_one_electron_is_told(tmp_path):
    settings = SimulateParticles(KINASE, dose=0.1, **WET, **SMALL)
    outcome = run_job(settings, tmp_path / "job")
    assert any("0.576 electrons per pixel" in warning for warning in outcome.warnings)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dose": 10.0, "snr": 0.1}, r"--dose with --snr"),
        ({"dose": 10.0, "noise": "white", "snr": 0.2}, r"--dose with --snr and --noise"),
        ({"detector": "k3"}, r"--detector k3 without a dose"),
        ({"dose": 10.0, "detector": "eye"}, r"the detector 'eye'"),
        ({"dose": 10.0, "detector": "k3", "voltage_kv": 120.0}, r"'k3' at 120 kV"),
        ({"dose": 0.0}, r"--dose 0"),
        ({"noise": "none", "snr": 0.1}, r"--noise none with --snr"),
        ({"slice_thickness": 5.0}, r"--slice-thickness with --model projection"),
        ({"slice_thickness": 5.0, "model": "phase_object"}, r"no depth"),
        ({"slice_thickness": 0.0, "model": "multislice"}, r"--slice-thickness 0"),
        ({"model": "magic"}, r"one of projection, weak_phase"),
        ({"resolution": -1.0}, r"--resolution"),
    ],
)
def test_options_that_exclude_each_other(options, said):
    with pytest.raises(SettingsProblem, match=said) as error:
        SimulateParticles(KINASE, **options)
    assert "\n" not in error.value.line()


def test_pixels_too_coarse_for_the_resolution_are_refused(tmp_path):
    with pytest.raises(SettingsProblem, match=r"pixels of 2.4 A for a resolution of 4 A; expected at most 2 A"):
        run_job(SimulateParticles(KINASE, resolution=4.0, **SMALL), tmp_path / "job")
    run_job(SimulateParticles(KINASE, resolution=4.8, **SMALL), tmp_path / "job")
    write_volume(tmp_path / "map.mrc", Volume(np.ones((16, 16, 16), np.float32), 3.0))
    with pytest.raises(SettingsProblem, match=r"pixels of 3 A for a resolution of 5 A"):
        run_job(SimulateParticles(tmp_path / "map.mrc", resolution=5.0), tmp_path / "other")


def test_a_map_has_no_atoms_for_a_wave(tmp_path):
    write_volume(tmp_path / "map.mrc", Volume(np.ones((16, 16, 16), np.float32), 3.0))
    with pytest.raises(SettingsProblem, match=r"--model multislice for the map .*atomic model"):
        run_job(SimulateParticles(tmp_path / "map.mrc", model="multislice"), tmp_path / "job")


def test_what_a_model_lacks_is_told(tmp_path):
    """No B factors, no hydrogens beside a solvent, slabs too thick: each one sentence."""
    (tmp_path / "model.pdb").write_text(
        "".join(
            f"ATOM  {i:5d}  C   MET A{i:4d}    {3.0 * i:8.3f}   2.000   3.000  1.00  0.00           C\n"
            for i in range(1, 9)
        )
    )
    settings = {"box": 32, "pixel_size": 1.0, "count": 2, "noise": "none", "defocus_um": (0.1, 0.1)}
    model = {"model": "multislice", "slice_thickness": 80.0, "solvent": "displaced"}
    outcome = run_job(SimulateParticles(tmp_path / "model.pdb", **model, **settings), tmp_path / "job")
    told = " ".join(outcome.warnings)
    assert "no B factors" in told and "no hydrogens" in told and "slabs of 80 Å" in told
    notes = next(finding for finding in outcome.findings if finding.key == "model_notes")
    assert "the B factor 0 for all atoms" in notes.value
    quiet = run_job(SimulateParticles(tmp_path / "model.pdb", b_factor=30.0, **settings), tmp_path / "quiet")
    assert not any("B factor" in warning for warning in quiet.warnings)
