"""The job `ctf refine`: files that RELION reads, figures, warnings, one line for every mistake, and real particles."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.errors import SettingsProblem
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star
from vitreous.jobs.folder import run_job
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.refine_ctf import MICROGRAPHS, REFINED, RefineCtf
from vitreous.jobs.refine_ctf_sections import PICTURE, phase_picture
from vitreous.jobs.refine_ctf_tables import CHANGE, GAIN, SIGMA, micrographs_of
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume

OFFSET = 1200.0  # angstrom: what two thirds of the micrographs have wrong


@pytest.fixture(scope="module")
def folder(blob_files, tmp_path_factory):
    """Particles in 15 micrographs, with positions, a column of their own, and wrong defoci; map and half maps."""
    folder = tmp_path_factory.mktemp("refine")
    for name in ("p.mrcs", "map.mrc"):
        shutil.copy(blob_files / name, folder / name)
    particles = read_particles(blob_files / "particles.star")
    micrograph = np.arange(len(particles)) // 60
    rng = np.random.default_rng(4)
    columns = {
        "rlnMicrographName": np.array([f"mic{number:02d}.mrc" for number in micrograph], dtype=object),
        "rlnCoordinateX": rng.uniform(0, 4000, len(particles)).round(2),
        "rlnCoordinateY": rng.uniform(0, 4000, len(particles)).round(2),
        "somethingElse": rng.integers(0, 9, len(particles)),
    }
    wrong = np.where(micrograph % 3, OFFSET, 0.0) * np.where(micrograph % 2, 1, -1)
    ctf = replace(particles.ctf, defocus_u=particles.ctf.defocus_u + wrong, defocus_v=particles.ctf.defocus_v + wrong)
    particles = replace(particles, ctf=ctf, table=particles.table.with_columns(columns))
    write_particles(folder / "particles.star", particles)
    truth = read_volume(blob_files / "map.mrc")
    for half in (1, 2):
        noisy = truth.data + rng.normal(0, 0.02, truth.data.shape)
        write_volume(folder / f"half{half}.mrc", Volume(noisy.astype(np.float32), truth.pixel_size))
    return folder


@pytest.fixture(scope="module")
def result(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "job"
    run_job(RefineCtf(folder / "particles.star", half_maps=(folder / "half1.mrc", folder / "half2.mrc")), out)
    return out


def test_the_star_file_has_new_defoci_and_keeps_the_rest(folder, result, blob_particles):
    before, after = (
        read_particles(folder / "particles.star"),
        read_particles(result / REFINED, datadir=folder, load_images=False),
    )
    error = after.ctf.defocus - blob_particles.ctf.defocus
    start = before.ctf.defocus - blob_particles.ctf.defocus
    assert np.sqrt(np.mean(start**2)) > 900 and np.sqrt(np.mean(error**2)) < 200
    for name in ("rlnMicrographName", "rlnCoordinateX", "somethingElse", "rlnAngleRot", "rlnOriginXAngst"):
        assert (np.asarray(after.table[name]) == np.asarray(before.table[name])).all()
    assert after.names.paths == before.names.paths and (after.half_set == before.half_set).all()
    change = np.asarray(after.table[CHANGE])
    np.testing.assert_allclose(change, after.ctf.defocus - before.ctf.defocus, atol=2e-3)
    assert (np.asarray(after.table[SIGMA]) > 0).all() and np.asarray(after.table[GAIN]).sum() > 100
    assert read_star(result / REFINED).version == "30001"


def test_the_table_of_micrographs_says_what_changed(folder, result):
    table = read_star(result / MICROGRAPHS)["micrographs"]
    assert list(table["rlnMicrographName"]) == [f"mic{number:02d}.mrc" for number in range(15)]
    assert (np.asarray(table["vitreousParticles"]) == 60).all()
    wrong = np.where(np.arange(15) % 3, OFFSET, 0.0) * np.where(np.arange(15) % 2, 1, -1)
    score = (np.asarray(table[CHANGE]) + wrong) / np.asarray(table[SIGMA])
    assert np.abs(score).max() < 4  # the change undoes what was wrong, within its error
    assert np.abs((np.asarray(table[CHANGE]) - wrong) / np.asarray(table[SIGMA])).max() > 8


def test_findings_and_report(result):
    found = json.loads((result / "result.json").read_text())
    assert found["particles"] == 900 and found["micrographs"] == 15
    assert found["log_likelihood_gain"] > 100
    assert 7.9 < found["agreement_angstrom"] < 13  # Nyquist is 8 angstrom; images at an SNR of 0.2
    assert 0 < found["defocus_sigma_angstrom"] < 400
    assert found["per_micrograph"]["rlnMicrographName"][3] == "mic03.mrc"
    page = (result / "report.html").read_text()
    for heading in ("Defocus", "Position", "Spread", "Odd phase", "Agreement", "Micrographs"):
        assert re.search(rf"<h2[^>]*>{heading}", page)
    assert page.count("<svg") >= 5 and "data:image/png" in page


def test_one_map_is_enough_and_says_what_it_risks(folder, tmp_path, capsys):
    words = ["ctf", "refine", str(folder / "particles.star"), "--reference", str(folder / "map.mrc"), "--passes", "1"]
    assert dispatch([*words, "--defocus", "micrograph", "--beam-tilt", "--out", str(tmp_path / "o"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any("refined against itself" in warning for warning in found["warnings"])
    # 2.7 mm of spherical aberration at 8 angstrom: a milliradian turns the phase by 0.013, and the error says so
    assert abs(found["beam_tilt_x_mrad"]) < 40
    assert "spread_angstrom" not in found
    after = read_star(tmp_path / "o" / REFINED)
    assert "rlnBeamTiltX" in after["optics"] and "rlnBeamTiltX" not in after["particles"]


def test_a_file_without_micrographs_is_refined_particle_by_particle(blob_files, tmp_path):
    job = RefineCtf(blob_files / "particles.star", reference=blob_files / "map.mrc", passes=1)
    run_job(job, tmp_path / "job")
    found = json.loads((tmp_path / "job" / "result.json").read_text())
    assert found["micrographs"] is None and "astigmatism_change_rms_angstrom" not in found
    assert not (tmp_path / "job" / MICROGRAPHS).exists()


def test_the_picture_of_phases_is_red_where_they_run_ahead(blob_particles, blob_map):
    """kx to the right, ky upwards: a phase that grows with kx and with ky is red at the upper right."""
    from vitreous.estimation.agreement_survey import AgreementSums
    from vitreous.estimation.reference_images import ReferenceImages, References

    images = ReferenceImages(References((blob_map,), 4.0, 200.0, 8.2), blob_particles.optics)
    phase = 0.05 * (images.grid.kx + 2 * images.grid.ky)
    ones = np.ones(len(phase))
    picture = phase_picture(images, AgreementSums(1, np.exp(1j * phase), ones, ones))
    assert picture.shape == (PICTURE, PICTURE, 4)
    high, low = picture[PICTURE // 4, PICTURE * 5 // 8], picture[PICTURE * 3 // 4, PICTURE * 3 // 8]
    assert high[0] > high[2] + 50 and low[2] > low[0] + 50 and picture[2, 2, 3] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no reference"),
        (["--reference", "map.mrc", "--half-maps", "half1.mrc", "half2.mrc"], "together"),
        (["--reference", "map.mrc", "--resolution", "40"], "--resolution 40"),
        (["--reference", "map.mrc", "--defocus", "none", "--astigmatism", "none"], "nothing to be fitted"),
        (["--reference", "map.mrc", "--passes", "0"], "--passes 0"),
        (["--reference", "map.mrc", "--spread", "-3"], "--spread -3"),
        (["--reference", "map.mrc", "--defocus-range-um", "0"], "--defocus-range-um"),
        (["--reference", "map.mrc", "--contrast", "raw"], "give --contrast"),
        (["--reference", "absent.mrc"], "absent.mrc"),
        (["--reference", "small.mrc"], "16 voxels"),
        (["--reference", "coarse.mrc"], "5.0000 A per voxel"),
        (["--reference", "noise.mrc"], "do not show the reference"),
        (["--reference", "nan.mrc"], "NaN"),
        (["--half-maps", "noise.mrc", "other.mrc"], "no resolution"),
    ],
)
def test_mistakes_are_one_line(folder, options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)

    def save(name, data, pixel_size=4.0):
        if not (folder / name).exists():
            write_volume(folder / name, Volume(np.asarray(data, dtype=np.float32), pixel_size))

    truth = read_volume(folder / "map.mrc").data
    save("small.mrc", rng.normal(size=(16, 16, 16)))
    save("coarse.mrc", truth, 5.0)
    save("noise.mrc", rng.normal(size=truth.shape))
    save("other.mrc", rng.normal(size=truth.shape))
    save("nan.mrc", np.where(truth == truth.max(), np.nan, truth))
    code = dispatch(["ctf", "refine", "particles.star", *options, "--out", str(tmp_path / "o")])
    error = capsys.readouterr().err.strip()
    assert code == 2 and len(error.splitlines()) == 1 and words in error
    assert not (tmp_path / "o").exists()


def without(particles: Particles, what: str) -> Particles:
    if what in ("pose", "ctf", "half_set"):
        return replace(particles, **{what: None})
    if what == "micrographs":
        return replace(particles, table=particles.table.without("rlnMicrographName"))
    return replace(particles, optics=tuple(replace(group, voltage=None) for group in particles.optics))


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("pose", [], "no orientations"),
        ("ctf", [], "no defocus"),
        ("voltage", [], "voltage"),
        ("half_set", ["--half-maps", "half1.mrc", "half2.mrc"], "no half sets"),
        ("micrographs", ["--defocus", "micrograph"], "names no micrographs"),
        ("micrographs", ["--astigmatism", "micrograph"], "--astigmatism none"),
    ],
)
def test_particles_that_lack_something_are_one_line(folder, what, options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    particles = read_particles(folder / "particles.star")
    write_particles(folder / f"without_{what}.star", without(particles, what))
    maps = options if "--half-maps" in options else ["--reference", "map.mrc", *options]
    code = dispatch(["ctf", "refine", f"without_{what}.star", *maps, "--out", str(tmp_path / "o")])
    error = capsys.readouterr().err.strip()
    assert code == 2 and len(error.splitlines()) == 1 and words in error


def test_an_empty_file_and_an_empty_table_are_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "empty.star").write_text("")
    (folder / "no_rows.star").write_text("data_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n\n")
    for name in ("empty.star", "no_rows.star"):
        assert dispatch(["ctf", "refine", name, "--reference", "map.mrc", "--out", str(tmp_path / "o")]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_settings_are_refused_where_they_are_made(folder):
    with pytest.raises(SettingsProblem, match="--coarsest"):
        RefineCtf(folder / "particles.star", reference=folder / "map.mrc", coarsest=float("nan"))


def test_corrected_images_are_refused(folder, tmp_path):
    from vitreous.conventions import CtfState
    from vitreous.errors import DataProblem

    particles = read_particles(folder / "particles.star")
    write_stack(folder / "f.mrcs", particles.images.read(slice(0, 4)), 4.0)
    optics = tuple(replace(group, ctf_state=CtfState.PHASE_FLIPPED) for group in particles.optics)
    write_particles(folder / "flipped.star", replace(particles, optics=optics))
    with pytest.raises(DataProblem, match="phase-flipped"):
        run_job(RefineCtf(folder / "flipped.star", reference=folder / "map.mrc"), tmp_path / "o")


@pytest.mark.slow
def test_real_particles_get_their_defoci_back(shared_data, tmp_path):
    """Beta-galactosidase: +-1500 angstrom on whole micrographs, against half maps of the right CTFs."""
    source = shared_data / "betagal" / "particles_posed.star"
    run_job(Reconstruct(source, symmetry="D2"), tmp_path / "map")
    particles = read_particles(source)
    micrographs = micrographs_of(particles)
    wrong = np.where(micrographs.index % 2, 1500.0, -1500.0)
    ctf = replace(particles.ctf, defocus_u=particles.ctf.defocus_u + wrong, defocus_v=particles.ctf.defocus_v + wrong)
    write_particles(tmp_path / "wrong.star", replace(particles, ctf=ctf))
    maps = (tmp_path / "map" / "half1.mrc", tmp_path / "map" / "half2.mrc")
    run_job(RefineCtf(tmp_path / "wrong.star", half_maps=maps, datadir=source.parent), tmp_path / "job")
    after = read_particles(tmp_path / "job" / REFINED, load_images=False)
    error = after.ctf.defocus - particles.ctf.defocus
    mean = np.array([error[micrographs.index == number].mean() for number in range(len(micrographs.names))])
    # the CTFs of the file are themselves known to some tens of angstrom
    assert np.abs(mean).max() < 120 and np.sqrt(np.mean(mean**2)) < 60
    found = json.loads((tmp_path / "job" / "result.json").read_text())
    assert found["log_likelihood_gain"] > 20000 and found["agreement_angstrom"] < 8.5
