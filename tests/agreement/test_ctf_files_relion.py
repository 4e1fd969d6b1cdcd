"""Files of `vitreous ctf` and RELION (seen with 3.1.3, Debian 3.1.3-3), live where it is installed.

relion_convert_to_tiff --i m.mrc --o out/        writes TIFF files, turned over
relion_star_printtable micrographs_ctf.star ...  reads our columns
relion_preprocess --extract ...                  cuts particles out and hands their own defocus on
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from vitreous.io.micrographs import open_micrograph
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles
from vitreous.io.star import read_star
from vitreous.jobs.estimate_ctf import EstimateCtf
from vitreous.jobs.folder import run_job


@pytest.fixture(scope="module")
def relion():
    if shutil.which("relion_preprocess") is None:
        pytest.skip("RELION is not installed")


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_relions_tiff_files_are_the_same_images(relion, compression, rng, tmp_path):
    frames = rng.integers(0, 100, (3, 40, 60)).astype(np.float32)
    write_stack(tmp_path / "m.mrcs", frames, 1.5)
    command = ["relion_convert_to_tiff", "--i", "m.mrcs", "--o", "out/", "--compression", compression]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    file = open_micrograph(next((tmp_path / "out").rglob("*.tif")))
    assert file.pixel_size == pytest.approx(1.5, rel=1e-6) and file.frames == 3
    assert np.array_equal(file.read(), frames.sum(axis=0))
    assert not np.array_equal(file.read()[::-1], frames.sum(axis=0))


@pytest.fixture(scope="module")
def job(relion, tmp_path_factory, ring_micrograph):
    """A micrograph without a tilt, of which the tilt was estimated, and two particles on it."""
    folder = tmp_path_factory.mktemp("relion")
    write_stack(folder / "m.mrc", ring_micrograph((640, 640))[None], 2.0)
    (folder / "particles.star").write_text(
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnImagePixelSize\n_rlnImageSize\n"
        "_rlnImageDimensionality\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
        "_rlnMicrographOriginalPixelSize\n1 opticsGroup1 2.0 32 2 300 2.7 0.1 2.0\n\n"
        "data_particles\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\n_rlnCoordinateX\n_rlnCoordinateY\n"
        "m.mrc 1 100 500\nm.mrc 1 500 100\n"
    )
    settings = EstimateCtf(
        (folder / "m.mrc",),
        per_particle=folder / "particles.star",
        voltage_kv=300.0,
        cs_mm=2.7,
        amplitude_contrast=0.1,
    )
    run_job(settings, folder / "ctf")
    return folder


def test_relion_reads_the_columns(job):
    labels = ("rlnMicrographName", "rlnDefocusU", "rlnDefocusAngle", "rlnCtfMaxResolution", "rlnCtfImage")
    command = ["relion_star_printtable", "ctf/micrographs_ctf.star", "data_micrographs", *labels]
    printed = subprocess.run(command, cwd=job, check=True, capture_output=True, text=True).stdout.split()
    table = read_star(job / "ctf" / "micrographs_ctf.star")["micrographs"]
    assert printed[0] == str(job / "m.mrc") and printed[4] == str(table["rlnCtfImage"][0])
    assert float(printed[1]) == pytest.approx(table["rlnDefocusU"][0], abs=1e-4)
    assert float(printed[2]) == pytest.approx(table["rlnDefocusAngle"][0], abs=1e-4)
    assert float(printed[3]) == pytest.approx(table["rlnCtfMaxResolution"][0], abs=1e-4)


def test_relion_hands_each_particle_its_own_defocus(job):
    star = (job / "ctf" / "micrographs_ctf.star").read_text().replace(str(job / "m.mrc"), "m.mrc")
    (job / "micrographs.star").write_text(star)
    command = "relion_preprocess --i micrographs.star --reextract_data_star ctf/particles_ctf.star --extract"
    command += " --extract_size 32 --part_dir out/ --part_star out/particles.star"
    subprocess.run(command.split(), cwd=job, check=True, capture_output=True)
    ours = read_star(job / "ctf" / "particles_ctf.star")["particles"]
    theirs = read_particles(job / "out" / "particles.star")
    assert theirs.ctf is not None and len(theirs) == 2
    assert theirs.ctf.defocus_u == pytest.approx(ours["rlnDefocusU"], abs=1e-4)  # six decimals are written
    assert theirs.ctf.defocus_angle == pytest.approx(np.radians(ours["rlnDefocusAngle"]), abs=1e-6)
    assert abs(np.diff(ours["rlnDefocusU"])[0]) > 1e-3  # the two differ: they are the particles' own
