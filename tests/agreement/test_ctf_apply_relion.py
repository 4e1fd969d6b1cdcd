"""Particles that `vitreous ctf apply` has corrected, as RELION 3.1.3 (Debian 3.1.3-3) reads them. Run live, where it is installed.

    relion_reconstruct --i particles.star --o map.mrc --ctf --maxres 9.2

of the raw particles and of the corrected ones must give one map. `--maxres` leaves Nyquist out (8 A), whose terms the correction
drops. RELION takes the state of premultiplied images from rlnCtfDataAreCtfPremultiplied; rlnCtfDataArePhaseFlipped it does not
use: phase-flipped images need `--ctf_phase_flipped`.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from vitreous.conventions import CtfState
from vitreous.io.micrograph_star import write_micrographs
from vitreous.io.mrc import read_image
from vitreous.io.mrc_stack import StackWriter, write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.apply_ctf import ApplyCtf
from vitreous.jobs.folder import run_job
from vitreous.model.optics import CtfParameters, OpticsGroup

# Of the map's maximum. Flipped: 1e-7. Premultiplied: 1e-5, RELION's wavelength (6.4e-6 too long) moves the CTF in its weights. With
# aberrations: 6e-5, RELION's odd phase is that of its wavelength too.
SAME, OTHER = 2e-4, 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory, blob_particles):
    """300 of the blob particles, plain, and with a beam tilt and even Zernike terms."""
    if shutil.which("relion_reconstruct") is None:
        pytest.skip("relion_reconstruct is not installed")
    folder = tmp_path_factory.mktemp("relion")
    some = blob_particles.rows(np.arange(300))
    write_stack(folder / "p.mrcs", some.images.pixels, 4.0)
    write_particles(folder / "plain.star", some)
    aberrated = replace(some.optics[0], beam_tilt=(3e-3, -2e-3), even_zernike=(0.0, 0.0, 0.0, 0.0, 3.0, 0.0, -5.0))
    write_particles(folder / "aberrated.star", replace(some, optics=(aberrated,)))
    return folder


def relion_map(folder, star: str, *options: str) -> np.ndarray:
    command = ["relion_reconstruct", "--i", star, "--o", "map.mrc", "--ctf", "--maxres", "9.2", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return np.array(mrcfile.read(folder / "map.mrc"), dtype=np.float64)


@pytest.mark.parametrize("name", ["plain", "aberrated"])
def test_corrected_particles_give_relions_map_of_the_raw_ones(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    raw = relion_map(folder, f"{name}.star")
    options = {"flip": ["--ctf_phase_flipped"], "premultiply": []}
    for method, more in options.items():
        run_job(ApplyCtf(folder / f"{name}.star", method=method), folder / f"{name}_{method}")
        ours = relion_map(folder, f"{name}_{method}/particles.star", *more)
        assert np.abs(ours - raw).max() < SAME * np.abs(raw).max()
        assert np.abs(-ours - raw).max() > np.abs(raw).max()
    # read as raw, they give another map: the state is seen
    untold = (folder / f"{name}_premultiply" / "particles.star").read_text()
    (folder / "untold.star").write_text(untold.replace("_rlnCtfDataAreCtfPremultiplied", "_rlnSomethingElse"))
    for star in ("untold.star", f"{name}_flip/particles.star"):
        assert np.abs(relion_map(folder, star) - raw).max() > OTHER * np.abs(raw).max()


def test_particles_cut_from_premultiplied_micrographs_say_so(tmp_path, monkeypatch):
    """relion_preprocess --extract takes the optics of the micrographs; when it extracts again, those of the old particles, which
    then say that they are raw."""
    if shutil.which("relion_preprocess") is None:
        pytest.skip("relion_preprocess is not installed")
    monkeypatch.chdir(tmp_path)
    with StackWriter("m.mrc", 2.0) as writer:
        writer.append(np.random.default_rng(0).standard_normal((128, 128)))
    group = OpticsGroup(pixel_size=2.0, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    ctf = CtfParameters.of(12000.0, 11000.0, 0.5)
    write_micrographs("m.star", group, ["m.mrc"], ctf)
    run_job(ApplyCtf(Path("m.star"), method="premultiply"), Path("corrected"))
    Path("picks/corrected/micrographs").mkdir(parents=True)
    picks = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n50 60\n64 70\n"
    Path("picks/corrected/micrographs/m_pick.star").write_text(picks)
    extract = ["relion_preprocess", "--i", "corrected/micrographs.star", "--extract", "--extract_size", "32"]
    first = ["--coord_dir", "picks/", "--coord_suffix", "_pick.star", "--part_dir", "one/", "--part_star", "one.star"]
    subprocess.run([*extract, *first], check=True, capture_output=True)
    particles = read_particles("one.star")
    assert particles.ctf_state is CtfState.PREMULTIPLIED and len(particles) == 2
    assert particles.ctf.defocus[0] == pytest.approx(11500.0)
    image = read_image("corrected/micrographs/m.mrc")
    assert np.array_equal(particles.images.read(slice(0, 1))[0], image[60 - 16 : 60 + 16, 50 - 16 : 50 + 16])
    raw = replace(particles, optics=(replace(particles.optics[0], ctf_state=CtfState.RAW),), images=None)
    write_particles("raw.star", raw)
    again = ["--reextract_data_star", "raw.star", "--part_dir", "two/", "--part_star", "two.star"]
    subprocess.run([*extract, *again], check=True, capture_output=True)
    assert read_particles("two.star").ctf_state is CtfState.RAW
