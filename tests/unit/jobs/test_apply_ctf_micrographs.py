"""`ctf apply` on the micrographs of a STAR file: each as if it were alone, the state in the new file, nothing done twice."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.io.micrograph_star import ctf_columns
from vitreous.io.micrograph_table import micrograph_table, read_micrograph_table, write_micrograph_table
from vitreous.io.mrc import read_header, read_image
from vitreous.io.mrc_stack import StackWriter
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs import apply_ctf_micrographs
from vitreous.jobs.apply_ctf import ApplyCtf
from vitreous.jobs.apply_ctf_micrographs import FOLDER, STAR
from vitreous.jobs.folder import run_job
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.table import Table

SHAPE = (70, 90)
NAMES = ["raw/a.mrc", "raw/b.mrc", "other/a.mrc", "raw/c.mrc"]
WRITTEN = ["a", "b", "a_2", "c"]
# Angstrom, degrees: numbers that are the same in binary whether they were micrometres or angstrom before.
DEFOCUS = [(12500.0, 11500.0, 20.0), (15000.0, 15000.0, 0.0), (10000.0, 9000.0, -40.0), (20000.0, 19000.0, 70.0)]
PHASE = [0.0, 90.0, 0.0, 30.0]
TILT = [(0.0, 0.0), (0.0, 0.0), (40.0, 70.0), (0.0, 0.0)]
GROUPS = (
    OpticsGroup("first", pixel_size=1.5, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1),
    OpticsGroup("second", pixel_size=2.0, voltage=200e3, spherical_aberration=1.4e7, amplitude_contrast=0.07),
)
INDEX = np.array([0, 0, 1, 1])


def write_images(folder: Path, shape: tuple[int, int] = SHAPE) -> None:
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(exist_ok=True)
        with StackWriter(folder / name, GROUPS[INDEX[number]].pixel_size, label="detector") as writer:
            writer.append(40 + np.random.default_rng(number).standard_normal(shape))


def write_table(path: Path, *, tilts: bool = True, **more) -> Path:
    u, v, angle = np.array(DEFOCUS).T
    ctf = CtfParameters.of(u, v, np.radians(angle), phase_shift=np.radians(PHASE))
    columns = {"rlnCtfMaxResolution": np.array([3.1, 3.2, 3.3, 3.4]), **ctf_columns(ctf), **more}
    if tilts:
        columns["vitreousTiltDeg"], columns["vitreousTiltAxisDeg"] = np.array(TILT).T
    write_micrograph_table(path, micrograph_table(NAMES, GROUPS, INDEX).with_columns(columns))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A STAR file of four micrographs, two optics groups, two phase plates and a tilt. Not to be modified."""
    folder = tmp_path_factory.mktemp("source")
    write_images(folder)
    return write_table(folder / "micrographs_ctf.star")


@pytest.fixture
def copy(source, tmp_path) -> Path:
    """The same, to be spoiled."""
    shutil.copytree(source.parent, tmp_path / "copy")
    return tmp_path / "copy" / source.name


def alone(source: Path, number: int, **options) -> ApplyCtf:
    """The same correction with the CTF given on the command line."""
    group, (u, v, angle), (tilt, axis) = GROUPS[INDEX[number]], DEFOCUS[number], TILT[number]
    return ApplyCtf(
        source.parent / NAMES[number],
        defocus_um=(u / 1e4, v / 1e4),
        angle_deg=angle,
        phase_shift_deg=PHASE[number],
        voltage_kv=group.voltage / 1e3,
        cs_mm=group.spherical_aberration / 1e7,
        amplitude_contrast=group.amplitude_contrast,
        tilt_deg=tilt or None,
        tilt_axis_deg=axis if tilt else None,
        **options,
    )


@pytest.mark.parametrize("method", ["flip", "premultiply", "wiener"])
def test_each_micrograph_is_what_it_would_be_alone(method, source, tmp_path):
    run_job(ApplyCtf(source, method=method), tmp_path / "all")
    for number, name in enumerate(WRITTEN):
        run_job(alone(source, number, method=method), tmp_path / name)
        one, of_all = tmp_path / name / "corrected.mrc", tmp_path / "all" / FOLDER / f"{name}.mrc"
        assert one.read_bytes() == of_all.read_bytes()
        assert not np.array_equal(read_image(one), read_image(source.parent / NAMES[number]))
    # the tilt of the third is used, with its hand
    third = alone(source, 2, method=method)
    for wrong in (replace(third, tilt_deg=-third.tilt_deg), replace(third, tilt_deg=None, tilt_axis_deg=None)):
        run_job(wrong, tmp_path / "wrong", force=True)
        assert not np.array_equal(
            read_image(tmp_path / "wrong" / "corrected.mrc"), read_image(tmp_path / "all" / FOLDER / "a_2.mrc")
        )


def test_the_new_star_file_says_what_was_done(source, tmp_path):
    before = read_micrograph_table(source)
    for method, state in {"flip": "phase_flipped", "premultiply": "premultiplied", "wiener": "wiener_filtered"}.items():
        out = tmp_path / method
        run_job(ApplyCtf(source, method=method, snr=0.5 if method == "wiener" else None), out)
        after = read_micrograph_table(out / STAR)
        assert [Path(name).stem for name in after.names] == WRITTEN
        assert all(Path(name).is_file() for name in after.names)
        assert {group.ctf_state for group in after.optics} == {CtfState(state)}
        assert [group.name for group in after.optics] == ["first", "second"]
        assert [group.pixel_size for group in after.optics] == [1.5, 2.0]
        assert [group.wiener_snr for group in after.optics] == [0.5 if method == "wiener" else None] * 2
        assert np.array_equal(after.optics_index, before.optics_index)
        for name in set(before.table) - {"rlnMicrographName"}:
            assert np.array_equal(after.table[name], before.table[name]), name
        assert state in read_header(out / FOLDER / "a.mrc").labels[0]
        result = json.loads((out / "result.json").read_text())
        assert result["ctf_state"] == state and result["micrographs"] == 4 and result["tilted"] == 1
        page = (out / "report.html").read_text()
        assert (
            "as recorded" in page
            and "must not apply" in page
            and ("RELION has no label" in page) == (method == "wiener")
        )
    text = (tmp_path / "premultiply" / STAR).read_text()
    assert "_rlnCtfDataAreCtfPremultiplied" in text and "vitreousCtfState" not in text


def test_names_lead_from_the_folder_that_the_command_ran_in(source, tmp_path, monkeypatch):
    """As RELION wants them; our own readers find them from there and from the file."""
    monkeypatch.chdir(tmp_path)
    run_job(ApplyCtf(source), Path("corrected"))
    assert read_micrograph_table("corrected/micrographs.star").names[0] == "corrected/micrographs/a.mrc"


def test_a_ctf_is_applied_once(source, copy, tmp_path, capsys):
    run_job(ApplyCtf(source, method="premultiply"), tmp_path / "once")
    assert dispatch(["ctf", "apply", str(tmp_path / "once" / STAR), "--out", str(tmp_path / "twice")]) == 2
    error = capsys.readouterr().err.strip()
    assert "premultiplied already" in error and "applied once" in error and len(error.splitlines()) == 1
    # a file that does not say so, of micrographs that do
    shutil.copy(tmp_path / "once" / FOLDER / "b.mrc", copy.parent / "raw" / "b.mrc")
    outcome = run_job(ApplyCtf(copy), tmp_path / "some")
    assert list(outcome.tables["left_out_because"]) == ["raw/b.mrc"]
    assert "corrected already" in outcome.tables["left_out_because"]["raw/b.mrc"]
    assert read_micrograph_table(tmp_path / "some" / STAR).names[1].endswith("a_2.mrc")
    assert not (tmp_path / "twice").exists()


def test_a_missing_micrograph_is_named(copy, tmp_path, capsys):
    (copy.parent / NAMES[2]).unlink()
    assert dispatch(["ctf", "apply", str(copy), "--out", str(tmp_path / "job")]) == 2
    error = capsys.readouterr().err.strip()
    assert "'other/a.mrc' (row 3 of" in error and "--datadir" in error and len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(copy.parent / NAMES[0], elsewhere / "a.mrc")
    run_job(ApplyCtf(copy, datadir=elsewhere), tmp_path / "job")


def nan_image(folder: Path) -> None:
    image = read_image(folder / NAMES[1])
    image[3, 3] = np.nan
    with StackWriter(folder / NAMES[1], 1.5) as writer:
        writer.append(image)


SPOILED = {
    "NaN": nan_image,
    "truncated": lambda folder: (folder / NAMES[1]).write_bytes((folder / NAMES[1]).read_bytes()[:3000]),
    "is empty": lambda folder: (folder / NAMES[1]).write_bytes(b""),
}


@pytest.mark.parametrize("words", SPOILED)
def test_a_micrograph_that_is_none_is_left_out_and_told(words, copy, tmp_path):
    SPOILED[words](copy.parent)
    outcome = run_job(ApplyCtf(copy), tmp_path / "job")
    assert words in outcome.tables["left_out_because"]["raw/b.mrc"]
    assert any("1 micrographs were left out" in warning for warning in outcome.warnings)
    assert len(read_micrograph_table(tmp_path / "job" / STAR)) == 3
    assert "raw/b.mrc" in (tmp_path / "job" / "report.html").read_text()


def test_micrographs_without_a_ctf_are_left_out(copy, tmp_path):
    """As `vitreous ctf` writes them: found or not, and no number where not."""
    found = np.array([1, 0, 1, 1])
    write_table(copy, vitreousCtfFound=found)
    star = read_star(copy)
    defocus = np.where(found == 1, star["micrographs"]["rlnDefocusU"], np.nan)
    write_star(copy, StarFile({**star, "micrographs": star["micrographs"].with_columns({"rlnDefocusU": defocus})}))
    outcome = run_job(ApplyCtf(copy), tmp_path / "job")
    assert outcome.tables["left_out_because"] == {"raw/b.mrc": "no CTF was found in it"}
    assert len(read_micrograph_table(tmp_path / "job" / STAR)) == 3
    write_table(copy, vitreousCtfFound=0 * found)
    with pytest.raises(DataProblem, match="no CTF was found in any"):
        run_job(ApplyCtf(copy), tmp_path / "none")


def test_if_nothing_can_be_corrected_that_is_an_error(copy, tmp_path):
    for name in NAMES:
        (copy.parent / name).write_bytes(b"no micrograph")
    with pytest.raises(DataProblem, match="none of 4 micrographs could be corrected; the first"):
        run_job(ApplyCtf(copy), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_an_interrupted_run_goes_on_where_it_was(source, tmp_path, monkeypatch):
    monkeypatch.setattr(apply_ctf_micrographs, "AT_ONCE", 1)
    run_job(ApplyCtf(source), tmp_path / "whole")

    def stop_after_two(stage):
        def report(done, total):
            if done == 2:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_job(ApplyCtf(source), tmp_path / "job", progress=stop_after_two)
    assert not (tmp_path / "job").exists()
    kept = sorted(tmp_path.glob(f".job.*.partial/{FOLDER}/*.mrc"))
    assert {"a", "b"} <= {path.stem for path in kept} and len(kept) < 4
    (kept[0].parent / ".c.1234.mrc").write_bytes(b"half")  # of a run that was killed
    marks = {path.name: path.stat().st_mtime_ns for path in kept}
    run_job(ApplyCtf(source), tmp_path / "job")
    made = {path.name: path for path in (tmp_path / "job" / FOLDER).iterdir()}
    assert {name: made[name].stat().st_mtime_ns for name in marks} == marks
    assert sorted(made) == [f"{name}.mrc" for name in sorted(WRITTEN)]
    for name, path in made.items():
        assert path.read_bytes() == (tmp_path / "whole" / FOLDER / name).read_bytes()


def test_memory_does_not_grow_with_the_number_of_micrographs(tmp_path, monkeypatch):
    """The largest memory of NumPy's arrays while 3 and while 12 micrographs are corrected, one at a time."""
    monkeypatch.setattr(apply_ctf_micrographs, "AT_ONCE", 1)
    write_images(tmp_path, (400, 400))
    highest = {}
    for count in (1, 4):
        names = [NAMES[0], NAMES[1], NAMES[3]] * count
        ctf = ctf_columns(CtfParameters.of(np.full(3 * count, 9000.0), 9000.0, 0.0))
        table = micrograph_table(names, GROUPS[:1], np.zeros(3 * count, dtype=int)).with_columns(ctf)
        write_micrograph_table(tmp_path / "m.star", table)
        tracemalloc.start()
        run_job(ApplyCtf(tmp_path / "m.star"), tmp_path / f"job{count}")
        highest[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    image = 4 * 400 * 400
    assert highest[4] - highest[1] < image  # nine more micrographs, not even one of them kept


def test_half_precision(source, tmp_path):
    run_job(ApplyCtf(source), tmp_path / "single")
    run_job(ApplyCtf(source, mode="float16"), tmp_path / "half")
    for name in WRITTEN:
        single, half = (tmp_path / kind / FOLDER / f"{name}.mrc" for kind in ("single", "half"))
        assert read_header(half).mode == 12 and read_header(single).mode == 2
        np.testing.assert_allclose(read_image(half), read_image(single), rtol=2**-11)  # eleven bits


def test_old_files_of_one_block(source, tmp_path):
    """RELION 3.0 and before: optics in every row, no optics block; the new file has one."""
    columns = {
        "rlnMicrographName": np.array(NAMES[:2], dtype=object),
        "rlnDefocusU": np.array([12500.0, 15000.0]),
        "rlnDefocusV": np.array([11500.0, 15000.0]),
        "rlnDefocusAngle": np.array([20.0, 0.0]),
        "rlnPhaseShift": np.array(PHASE[:2]),
        "rlnVoltage": np.array([300.0, 300.0]),
        "rlnSphericalAberration": np.array([2.7, 2.7]),
        "rlnAmplitudeContrast": np.array([0.1, 0.1]),
        "rlnMagnification": np.array([10000.0, 10000.0]),
        "rlnDetectorPixelSize": np.array([1.5, 1.5]),
    }
    old = source.parent / "old.star"
    write_star(old, StarFile({"": Table(columns)}))
    run_job(ApplyCtf(old), tmp_path / "old")
    run_job(ApplyCtf(source), tmp_path / "new")
    for name in WRITTEN[:2]:
        one, other = (tmp_path / kind / FOLDER / f"{name}.mrc" for kind in ("old", "new"))
        assert one.read_bytes() == other.read_bytes()
    assert read_micrograph_table(tmp_path / "old" / STAR).optics[0].ctf_state is CtfState.PHASE_FLIPPED


def test_options_fill_in_what_the_file_does_not_say(source, tmp_path):
    ctf = ctf_columns(CtfParameters.of(*(np.array([value]) for value in (12500.0, 11500.0, np.radians(20.0)))))
    path = source.parent / "bare.star"
    write_micrograph_table(path, micrograph_table(NAMES[:1], GROUPS[:1], np.array([0])).with_columns(ctf))
    star = read_star(path)
    unknown = ("rlnVoltage", "rlnImagePixelSize", "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
    write_star(path, StarFile({**star, "optics": star["optics"].without(*unknown)}))
    with pytest.raises(DataProblem, match="'first' does not give its voltage"):
        run_job(ApplyCtf(path), tmp_path / "job")
    run_job(ApplyCtf(path, voltage_kv=300.0, tilt_deg=30.0), tmp_path / "job")
    run_job(replace(alone(source, 0), tilt_deg=30.0), tmp_path / "one")
    assert (tmp_path / "job" / FOLDER / "a.mrc").read_bytes() == (tmp_path / "one" / "corrected.mrc").read_bytes()
    after = read_micrograph_table(tmp_path / "job" / STAR).optics[0]
    assert after.voltage == 300e3 and after.pixel_size == 1.5  # of the header


def test_a_header_of_another_pixel_size_is_told(source, tmp_path):
    outcome = run_job(ApplyCtf(source, pixel_size=1.6), tmp_path / "job")
    assert any("says 1.5 Å per pixel" in warning for warning in outcome.warnings)


REFUSED = {
    "--defocus-um for": {"defocus_um": (1.0, 1.0)},
    "--angle-deg for": {"angle_deg": 0.0},
    "--phase-shift-deg for": {"phase_shift_deg": 90.0},
    "--voltage-kv 300 for": {"voltage_kv": 300.0},
    "--amplitude-contrast 0.1 for": {"amplitude_contrast": 0.1},
    "--tilt-deg for": {"tilt_deg": 20.0},
    "--tilt-axis-deg 80 without": {"tilt_axis_deg": 80.0},
    "--snr 1 with --method flip": {"snr": 1.0},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_the_file_says_is_not_said_again(words, source, tmp_path):
    with pytest.raises(SettingsProblem, match=words):
        run_job(ApplyCtf(source, **REFUSED[words]), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_one_micrograph_needs_a_defocus_and_no_folder(source, tmp_path, capsys):
    micrograph = str(source.parent / NAMES[0])
    assert dispatch(["ctf", "apply", micrograph, "--out", str(tmp_path / "job")]) == 2
    assert "--defocus-um" in capsys.readouterr().err
    with pytest.raises(SettingsProblem, match="--datadir"):
        ApplyCtf(Path(micrograph), defocus_um=(1.0, 1.0), datadir=tmp_path)
    assert dispatch(["ctf", "apply", str(source), "--out", str(tmp_path / "one.mrc")]) == 2
    assert "a folder" in capsys.readouterr().err


def test_files_that_list_no_micrographs_with_ctfs(source, tmp_path):
    write_micrograph_table(source.parent / "none.star", micrograph_table(NAMES, GROUPS, INDEX))
    with pytest.raises(DataProblem, match="gives no defocus"):
        run_job(ApplyCtf(source.parent / "none.star"), tmp_path / "job")
    with pytest.raises(FileProblem, match="does not exist"):
        run_job(ApplyCtf(source.parent / "nowhere.star"), tmp_path / "job")
