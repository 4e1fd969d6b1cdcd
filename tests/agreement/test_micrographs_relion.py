"""The truth files of simulated micrographs, as RELION reads them (seen with 3.1.3, Debian 3.1.3-3):

relion_preprocess --i micrographs.star --reextract_data_star coordinates.star --extract --extract_size 32 ...

cuts the particles out. Run live, where RELION is installed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vitreous.io.micrograph_star import read_coordinates
from vitreous.io.mrc import read_image
from vitreous.io.mrc_stack import MrcStack
from vitreous.io.particles import read_particles
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_micrograph import SimulateMicrograph

BOX = 32


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A simulated micrograph whose particles RELION has cut out."""
    if shutil.which("relion_preprocess") is None:
        pytest.skip("relion_preprocess is not installed")
    folder = tmp_path_factory.mktemp("relion") / "job"
    settings = {"pixel_size": 2.0, "size": (512, 384), "particles": 12, "seed": 11, "tilt_deg": 30.0}
    run_job(SimulateMicrograph(Path("bundled:4ake"), detector="none", ice="none", **settings), folder)
    command = "relion_preprocess --i micrographs.star --reextract_data_star coordinates.star --extract"
    command += f" --extract_size {BOX} --part_dir out/ --part_star out/particles.star"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def test_relion_cuts_squares_about_the_same_pixels(job):
    truth, half = read_coordinates(job / "coordinates.star"), BOX // 2
    image = read_image(job / truth.names[0])
    cut = MrcStack(next((job / "out").rglob("*.mrcs")))
    assert len(cut) == len(truth.pixel) == 12
    for (x, y), particle in zip(truth.pixel.astype(int), cut.read(np.arange(12))):
        assert np.array_equal(particle, image[y - half : y + half, x - half : x + half])  # copied, not resampled
        assert not np.array_equal(particle, image[y - half : y + half, x - half + 1 : x + half + 1])


def test_relion_keeps_pose_shift_and_the_defocus_of_each_height(job):
    truth, particles = read_coordinates(job / "coordinates.star"), read_particles(job / "out" / "particles.star")
    written = 5.1e-6  # RELION's file has five decimals of a negative number, six of a positive one: half of the last
    assert np.abs(np.degrees(particles.pose.euler - truth.pose.euler)).max() < written
    assert np.abs(particles.pose.shift - truth.pose.shift).max() < written
    assert np.abs(particles.ctf.defocus_u - truth.ctf.defocus_u).max() < written
    assert np.ptp(truth.ctf.defocus_u) > 100  # heights differ in a tilted field
