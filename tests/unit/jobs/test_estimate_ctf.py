"""The job `ctf`: good micrographs in one file, the others in another with the reason, particles with their own defocus."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.io.micrograph_table import read_micrograph_table
from vitreous.io.mrc import read_header, read_image
from vitreous.io.mrc_stack import write_stack
from vitreous.io.star import read_star
from vitreous.jobs.ctf_input import Microscope, read_ctf_input, unique_names
from vitreous.jobs.ctf_row import CtfRow
from vitreous.jobs.estimate_ctf import EstimateCtf
from vitreous.jobs.folder import run_job

LENS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
STAR = """
# version 30001
data_optics
loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnMicrographPixelSize
_rlnMicrographOriginalPixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnMtfFileName
left 2 2.0 1.0 300 2.7 0.1 mtf.star
right 5 2.2 1.1 300 2.7 0.1 mtf.star

data_micrographs
loop_
_rlnMicrographName
_rlnOpticsGroup
_rlnDefocusU
_rlnCtfBfactor
_someColumn
job/good.mrc 2 99 50 keep
job/noise.mrc 5 99 50 it
job/nowhere.mrc 2 99 50 all
job/other.mrc 5 99 50 please
"""
PARTICLES = """
data_optics
loop_
_rlnOpticsGroup
_rlnVoltage
1 300
data_particles
loop_
_rlnMicrographName
_rlnOpticsGroup
_rlnCoordinateX
_rlnCoordinateY
job/good.mrc 1 160 160
job/good.mrc 1 20 300
job/noise.mrc 1 160 160
job/foreign.mrc 1 160 160
"""


def write_input(folder: Path, ring_micrograph) -> Path:
    (folder / "job").mkdir()
    write_stack(folder / "job" / "good.mrc", ring_micrograph()[None], 2.0)
    other = ring_micrograph(pixel_size=2.2, defocus=(21000.0, 20000.0, -0.4), seed=5)
    write_stack(folder / "job" / "other.mrc", other[None], 1.0)  # the header is wrong: the STAR file is believed
    write_stack(folder / "job" / "noise.mrc", ring_micrograph(signal=0.0)[None], 2.2)
    (folder / "micrographs.star").write_text(STAR)
    (folder / "particles.star").write_text(PARTICLES)
    return folder / "micrographs.star"


@pytest.fixture(scope="module")
def job(tmp_path_factory, ring_micrograph):
    """A finished job: its outcome and its folder."""
    folder = tmp_path_factory.mktemp("ctf")
    star = write_input(folder, ring_micrograph)
    return run_job(EstimateCtf((star,), workers=2), folder / "out"), folder / "out"


def test_the_defocus_is_right_within_its_error(job):
    table = read_star(job[1] / "micrographs_ctf.star")["micrographs"]
    assert list(table["rlnMicrographName"]) == ["job/good.mrc", "job/other.mrc"]
    truth = np.array([[15000.0, 14000.0, math.degrees(0.6)], [21000.0, 20000.0, math.degrees(-0.4)]])
    mean = (table["rlnDefocusU"] + table["rlnDefocusV"]) / 2
    # four standard deviations: 1 in 16,000 of each of the six numbers
    assert (np.abs(mean - truth[:, :2].mean(axis=1)) < 4 * table["vitreousDefocusError"]).all()
    assert (np.abs(table["rlnCtfAstigmatism"] - 1000) < 4 * table["vitreousAstigmatismError"]).all()
    assert (np.abs(table["rlnDefocusAngle"] - truth[:, 2]) < 4 * table["vitreousDefocusAngleError"]).all()
    assert (np.abs(table["rlnDefocusAngle"] + truth[:, 2]) > 4 * table["vitreousDefocusAngleError"]).all()  # the sign
    assert table["rlnDefocusU"] - table["rlnDefocusV"] == pytest.approx(table["rlnCtfAstigmatism"])
    assert (table["vitreousDefocusError"] < 30).all()
    assert (table["rlnCtfFigureOfMerit"] > 0.8).all() and (table["rlnCtfMaxResolution"] < 8).all()


def test_groups_and_columns_are_kept_and_an_earlier_ctf_is_not(job):
    outcome, folder = job
    table = read_micrograph_table(folder / "micrographs_ctf.star")
    assert [table.optics[i].name for i in table.optics_index] == ["left", "right"]
    assert list(table.table["rlnOpticsGroup"]) == [2, 5]
    assert [group.pixel_size for group in table.optics] == [2.0, 2.2]
    optics = read_star(folder / "micrographs_ctf.star")["optics"]
    assert list(optics["rlnMicrographOriginalPixelSize"]) == [1.0, 1.1] and list(optics["rlnMtfFileName"]) == 2 * [
        "mtf.star"
    ]
    assert list(table.table["someColumn"]) == ["keep", "please"]
    assert "rlnCtfBfactor" not in table.table and (table.table["rlnDefocusU"] > 1e4).all()
    assert any("rlnCtfBfactor" in warning for warning in outcome.warnings)


def test_the_others_come_with_their_reason_and_without_a_defocus(job):
    outcome, folder = job
    table = read_star(folder / "rejected.star")["micrographs"]
    assert list(table["rlnMicrographName"]) == ["job/noise.mrc", "job/nowhere.mrc"]
    assert list(table["someColumn"]) == ["it", "all"]
    noise, nowhere = table["vitreousRejectReason"]
    assert noise.startswith("No CTF found.") and "was not found" in nowhere
    assert np.isnan(table["rlnDefocusU"]).all() and list(table["vitreousCtfFound"]) == [0, 0]
    result = json.loads((folder / "result.json").read_text())
    assert list(result["rejected"]) == ["noise"] and list(result["failed"]) == ["nowhere"]
    assert result["micrographs"] == 3 and result["found"] == 2 and result["not_read"] == 1
    assert any("1 of 4 micrographs" in warning for warning in outcome.warnings)


def test_headers_are_not_believed_against_the_star_file(job):
    assert any("headers of 1 files" in w and "1 Å per pixel instead of 2.2" in w for w in job[0].warnings)


def test_each_micrograph_leaves_its_numbers_and_its_picture(job):
    folder = job[1] / "micrographs"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}{end}" for name in ("good", "noise", "other") for end in (".json", "_ctf.mrc", "_ctf.png")}
    content = json.loads((folder / "good.json").read_text())
    del content["file"]
    row = CtfRow.from_json(content)
    assert row.found and row.shape == (320, 320) and row.optics_group == 2 and row.voltage == 300e3
    image, header = read_image(folder / "good_ctf.mrc"), read_header(folder / "good_ctf.mrc")
    assert image.shape[0] == image.shape[1] and np.isfinite(image).all() and image.std() > 0.1
    assert header.pixel_size is not None and header.pixel_size[0] > 1
    table = read_star(job[1] / "micrographs_ctf.star")["micrographs"]
    name = str(table["rlnCtfImage"][0])
    assert name.endswith("good_ctf.mrc:mrc") and Path(name.removesuffix(":mrc")).is_file()


def test_the_report_names_every_micrograph(job):
    page = (job[1] / "report.html").read_text()
    for word in ("good", "noise", "nowhere", "No CTF found"):
        assert word in page


def test_options_replace_what_the_file_says_and_say_so(tmp_path, ring_micrograph):
    star = write_input(tmp_path, ring_micrograph)
    given = read_ctf_input([star], Microscope(voltage_kv=200.0, pixel_size=2.0))
    assert {item.lens.voltage for item in given.items} == {200e3} and {item.pixel_size for item in given.items} == {2.0}
    text = " ".join(given.notes)
    assert "--voltage-kv 200 was used instead of the 300 kV of optics group 'left'" in text
    assert "--pixel-size 2 was used instead of the 2.2 A" in text and text.count("--pixel-size") == 1
    assert read_ctf_input([star], Microscope(voltage_kv=300.0)).notes == ()


def test_what_nobody_says_is_asked_for(tmp_path, ring_micrograph):
    write_input(tmp_path, ring_micrograph)
    files = [tmp_path / "job" / "good.mrc"]
    with pytest.raises(SettingsProblem, match="give --voltage-kv and --cs-mm"):
        read_ctf_input(files, Microscope())
    with pytest.raises(SettingsProblem, match="give --cs-mm"):
        read_ctf_input(files, Microscope(voltage_kv=300.0))
    given = read_ctf_input(
        files, Microscope(voltage_kv=300.0, cs_mm=0.0)
    )  # a corrected lens has no spherical aberration
    assert given.items[0].lens.spherical_aberration == 0 and given.items[0].lens.amplitude_contrast == 0.1
    assert any("0.1 was assumed" in note for note in given.notes)


def test_plain_files_are_told_apart(tmp_path, ring_micrograph):
    assert unique_names(["a", "b", "a"]) == ["a", "b", "a_2"]
    star = write_input(tmp_path, ring_micrograph)
    with pytest.raises(SettingsProblem, match="one STAR file alone"):
        read_ctf_input([star, tmp_path / "job" / "good.mrc"], Microscope())


def test_a_file_of_names_that_lead_nowhere(tmp_path):
    (tmp_path / "micrographs.star").write_text(STAR)
    with pytest.raises(FileProblem, match="none of the 4 files"):
        read_ctf_input([tmp_path / "micrographs.star"], Microscope())


@pytest.mark.slow
def test_particles_get_their_own_defocus_and_the_others_are_told(tmp_path, ring_micrograph):
    star = write_input(tmp_path, ring_micrograph)
    write_stack(tmp_path / "job" / "good.mrc", ring_micrograph((640, 640))[None], 2.0)  # room for tiles
    write_stack(tmp_path / "job" / "noise.mrc", ring_micrograph((640, 640), signal=0.0)[None], 2.2)
    (tmp_path / "particles.star").write_text(PARTICLES.replace("160 160", "320 320"))
    outcome = run_job(EstimateCtf((star,), per_particle=tmp_path / "particles.star"), tmp_path / "out")
    micrographs = read_star(tmp_path / "out" / "micrographs_ctf.star")["micrographs"]
    particles = read_star(tmp_path / "out" / "particles_ctf.star")["particles"]
    assert list(particles["rlnMicrographName"]) == 2 * ["job/good.mrc"]
    middle = (micrographs["rlnDefocusU"][0] + micrographs["rlnDefocusV"][0]) / 2
    mean = (particles["rlnDefocusU"] + particles["rlnDefocusV"]) / 2
    assert mean[0] == pytest.approx(middle, abs=1e-3)  # in the middle of the micrograph; six decimals are written
    assert particles["vitreousDefocusError"][1] > particles["vitreousDefocusError"][0]
    assert "vitreousTiltDeg" in micrographs  # --per-particle estimates the tilt
    values = {finding.key: finding.value for finding in outcome.findings}
    assert values["particles"] == 2 and values["particles_left_out"] == 2
    text = " ".join(outcome.warnings)
    assert "1 particles of micrographs that were not given" in text and "1 particles of micrographs to reject" in text


def test_every_kind_of_file_gives_the_same_ctf(tmp_path, ring_micrograph):
    """An MRC image, a movie of it, and a TIFF file, which begins with its other end."""
    image = ring_micrograph()
    write_stack(tmp_path / "image.mrc", image[None], 2.0)
    write_stack(tmp_path / "movie.mrcs", np.stack([image / 4, image * 3 / 4]), 2.0)
    tifffile.imwrite(tmp_path / "tiff.tif", image[::-1], resolution=(5e7, 5e7), resolutionunit="CENTIMETER")
    run_job(EstimateCtf(tuple(sorted(tmp_path.glob("*.*"))), **LENS), tmp_path / "out")
    table = read_star(tmp_path / "out" / "micrographs_ctf.star")["micrographs"]
    assert len(table["rlnDefocusU"]) == 3
    assert np.ptp(table["rlnDefocusU"]) < 0.5  # single precision: 1e-7 of the pixels, far below the error of 4 A
    assert np.ptp(table["rlnDefocusAngle"]) < 0.1 and table["rlnDefocusAngle"][0] == pytest.approx(34.4, abs=3)


def test_a_phase_shift_is_written_if_asked_for(tmp_path, ring_micrograph):
    path = tmp_path / "m.mrc"
    write_stack(path, ring_micrograph((512, 512), phase_shift=math.radians(70))[None], 2.0)
    run_job(EstimateCtf((path,), **LENS, phase_shift_deg=(20.0, 120.0)), tmp_path / "out")
    table = read_star(tmp_path / "out" / "micrographs_ctf.star")["micrographs"]
    assert abs(table["rlnPhaseShift"][0] - 70) < 4 * table["vitreousPhaseShiftError"][0] < 40
    assert abs((table["rlnDefocusU"] + table["rlnDefocusV"])[0] / 2 - 14500) < 4 * table["vitreousDefocusError"][0]
    assert "vitreousThickness" not in table and "vitreousTiltDeg" not in table


def test_limits_reject_a_ctf_that_was_found(tmp_path, ring_micrograph):
    path = tmp_path / "m.mrc"
    write_stack(path, ring_micrograph()[None], 2.0)
    settings = EstimateCtf((path,), **LENS, worst_astigmatism=500.0, accept_defocus_um=(2.0, 3.0))
    outcome = run_job(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "micrographs_ctf.star").exists()
    table = read_star(tmp_path / "out" / "rejected.star")["micrographs"]
    reason = str(table["vitreousRejectReason"][0])
    assert "astigmatism" in reason and "defocus is 1.45 µm" in reason
    assert list(table["vitreousCtfFound"]) == [1] and table["rlnDefocusU"][0] > 14000  # a person may want it back
    assert any("No micrograph is good" in warning for warning in outcome.warnings)


@pytest.mark.slow
def test_real_spectra_of_a_star_file(shared_data, tmp_path):
    """Within the bars of the data's own reference values: 60 A each, 30 A on average."""
    star = shared_data / "spectra" / "reference.star"
    run_job(EstimateCtf((star,), spectra=True), tmp_path / "out")
    reference, found = (read_star(path)["micrographs"] for path in (star, tmp_path / "out" / "micrographs_ctf.star"))
    assert list(found["rlnMicrographName"]) == list(reference["rlnMicrographName"])
    off = (found["rlnDefocusU"] + found["rlnDefocusV"] - reference["rlnDefocusU"] - reference["rlnDefocusV"]) / 2
    assert np.abs(off).max() < 60 and np.abs(off).mean() < 30
    optics = read_star(tmp_path / "out" / "micrographs_ctf.star")["optics"]
    assert list(optics["rlnMicrographPixelSize"]) == [0.885]  # that of the micrographs, not of the spectra (1.39955)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"defocus_um": (2.0, 1.0)}, "--defocus-um"),
        ({"defocus_um": (0.0, 1.0)}, "--defocus-um"),
        ({"phase_shift_deg": (90.0, 0.0)}, "--phase-shift-deg"),
        ({"thickness_nm": (-5.0, 100.0)}, "--thickness-nm"),
        ({"pixel_size": 0.0}, "--pixel-size"),
        ({"workers": 0}, "--workers"),
        ({"coarsest": 4.0, "finest": 5.0}, "--finest"),
        ({"amplitude_contrast": 7.0}, "--amplitude-contrast"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(SettingsProblem, match=message):
        EstimateCtf((Path("m.mrc"),), **options)


def test_tilt_of_spectra_is_refused(shared_data, tmp_path):
    with pytest.raises(SettingsProblem, match="--tilt with stored spectra"):
        run_job(EstimateCtf((shared_data / "spectra" / "reference.star",), spectra=True, tilt=True), tmp_path / "out")


def test_particles_of_other_micrographs_are_refused_before_the_work(tmp_path, ring_micrograph):
    star = write_input(tmp_path, ring_micrograph)
    (tmp_path / "particles.star").write_text(PARTICLES.replace("job/good.mrc 1 20 300", "job/good.mrc 1 2000 300"))
    with pytest.raises(DataProblem, match="outside its micrograph"):
        run_job(EstimateCtf((star,), per_particle=tmp_path / "particles.star"), tmp_path / "out")
