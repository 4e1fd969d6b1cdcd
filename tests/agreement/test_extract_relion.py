"""Extraction beside RELION's (seen with 3.1.3, Debian 3.1.3-3), on simulated micrographs, run live where RELION is installed:

relion_preprocess --extract --extract_size 64 --scale 32 --norm --bg_radius 12 --invert_contrast ...
relion_reconstruct --i particles.star --o map.mrc --ctf
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vitreous.fourier.transforms import crop_real, forward, fourier_crop, translate, without_nyquist
from vitreous.io.mrc import read_image, read_volume
from vitreous.io.mrc_stack import MrcStack
from vitreous.io.particles import read_particles
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs.extract import Extract
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.model.table import Table
from vitreous.reconstruction.fsc import fourier_shell_correlation

BOX, SIZE = 64, 32


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """Two micrographs of adenylate kinase without noise, and picks that are no whole pixels."""
    if shutil.which("relion_preprocess") is None:
        pytest.skip("relion_preprocess is not installed")
    folder = tmp_path_factory.mktemp("relion") / "job"
    settings = {
        "pixel_size": 2.0,
        "size": (640, 512),
        "particles": 40,
        "count": 2,
        "seed": 5,
        "tilt_deg": 20.0,
        "defocus_um": (0.6, 0.9),
    }
    run_job(SimulateMicrograph(Path("bundled:4ake"), detector="none", ice="none", **settings), folder)
    return folder


def relion(command: str, folder: Path) -> None:
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


CASES = {
    "normalised, inverted, less a ramp": ("--norm --bg_radius 24 --invert_contrast", {"diameter": 96.0}),
    "normalised": ("--norm --no_ramp --bg_radius 20", {"diameter": 80.0, "ramp": False, "invert": False}),
    "reduced": (f"--scale {SIZE}", {"scale_to": SIZE, "ramp": False, "invert": False, "normalise": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_images_are_those_of_relion(simulated, tmp_path, case):
    """Boxes over the border included; but for the Nyquist frequency of reduced images, which RELION drops."""
    theirs, ours = CASES[case]
    command = "relion_preprocess --i micrographs.star --reextract_data_star coordinates.star --extract"
    out = tmp_path / "relion"
    relion(f"{command} --extract_size {BOX} {theirs} --part_dir {out}/ --part_star {out}/p.star", simulated)
    run_job(Extract((simulated / "coordinates.star",), box=BOX, **ours), tmp_path / "job")
    for name in ("micrograph_0001", "micrograph_0002"):
        pair = [
            MrcStack(next(folder.rglob(f"{name}.mrcs"))).read(slice(None))
            for folder in (out, tmp_path / "job" / "particles")
        ]
        assert pair[0].shape == pair[1].shape and len(pair[0]) == 40
        left, right = (without_nyquist(forward(one, 2), one.shape[1:]) for one in pair)
        error = np.abs(left - right).max(axis=(1, 2)) / np.abs(right).max(axis=(1, 2))
        assert error.max() < 3e-4  # single precision of our normalisation, by deviations that are 0.01 of the values
        assert (np.abs(left + right).max(axis=(1, 2)) / np.abs(right).max(axis=(1, 2))).min() > 1.9  # and their sign


def test_relion_rounds_coordinates_down(simulated, tmp_path):
    """And forgets what it rounded off: half a pixel on average. Here the nearest pixel is taken, and the rest is in the origin."""
    fractions = np.array([0.0, 0.3, 0.5, 0.8])
    x, y = 100 + fractions, 200 + fractions[::-1]
    write_star(
        simulated / "micrograph_0001_pick.star", StarFile({"": Table({"rlnCoordinateX": x, "rlnCoordinateY": y})})
    )
    (simulated / "micrographs" / "micrograph_0001_pick.star").write_bytes(
        (simulated / "micrograph_0001_pick.star").read_bytes()
    )
    command = "relion_preprocess --i micrographs.star --extract --coord_dir ./ --coord_suffix _pick.star"
    relion(command + f" --extract_size {BOX} --part_dir fresh/ --part_star fresh/particles.star", simulated)
    plain = {"normalise": False, "ramp": False, "invert": False}
    picks = simulated / "micrograph_0001_pick.star"
    run_job(Extract((picks,), box=BOX, micrographs=simulated / "micrographs.star", **plain), tmp_path / "job")
    image, half = read_image(simulated / "micrographs" / "micrograph_0001.mrc"), BOX // 2
    theirs = MrcStack(next((simulated / "fresh").rglob("*.mrcs"))).read(slice(None))
    ours = MrcStack(tmp_path / "job" / "particles" / "micrograph_0001.mrcs").read(slice(None))
    for cut, rounded in ((theirs, np.floor), (ours, lambda value: np.floor(value + 0.5))):
        for box, column, row in zip(cut, rounded(x).astype(int), rounded(y).astype(int)):
            assert np.array_equal(box, image[row - half : row + half, column - half : column + half])
    assert "rlnOriginXAngst" not in read_star(simulated / "fresh" / "particles.star")["particles"]
    written = read_star(tmp_path / "job" / "particles.star")["particles"]
    assert np.allclose(written["rlnCoordinateX"] - written["rlnOriginXAngst"] / 2.0, x, atol=1e-8)


def test_relion_makes_the_true_map_of_the_particles(simulated, tmp_path):
    """With the true poses. A wrong sign, box or pixel size would show."""
    run_job(Extract((simulated / "coordinates.star",), box=BOX, scale_to=SIZE, normalise=False), tmp_path / "job")
    relion("relion_reconstruct --i job/particles.star --o map.mrc --ctf --j 2", tmp_path)
    volume, truth = read_volume(tmp_path / "map.mrc"), read_volume(simulated / "truth_map.mrc")
    assert volume.pixel_size == pytest.approx(4.0, rel=1e-4) and volume.box == SIZE
    data = truth.data if truth.box <= BOX else crop_real(truth.data, BOX, 3)
    data = np.pad(data, [(BOX // 2 - len(data) // 2, BOX - len(data) - BOX // 2 + len(data) // 2)] * 3)
    small, _ = fourier_crop(data, SIZE, 3)
    agreed = agreement(volume.data, small)
    assert agreed > 0.95  # 80 views, each with its own zeros of the CTF; -1 with the other contrast
    assert agreement(translate(volume.data, np.array([0.5, 0.0, 0.0])), small) < agreed - 0.05  # half a pixel
    assert agreement(volume.data[::-1], small) < 0.8  # the other hand
    assert len(read_particles(tmp_path / "job" / "particles.star")) == 80


def agreement(left: np.ndarray, right: np.ndarray) -> float:
    """Mean Fourier shell correlation from 40 to 10 angstrom."""
    curve = fourier_shell_correlation(left, right)
    return float(np.mean(curve.correlation[3:13]))
