"""`ctf apply` on particles: corrected ones reconstruct to the map of the raw ones, and say what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse, without_nyquist
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc import read_header
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs import apply_ctf_particles
from vitreous.jobs.apply_ctf import ApplyCtf
from vitreous.jobs.apply_ctf_particles import FOLDER, STAR
from vitreous.jobs.check import Check
from vitreous.jobs.folder import run_in_passing, run_job
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.model.particles import Particles
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import odd_phase
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct

C1 = point_group("C1").operators
METHODS = {"flip": CtfState.PHASE_FLIPPED, "premultiply": CtfState.PREMULTIPLIED, "wiener": CtfState.WIENER}
# Images in single precision and 900 slices added up: the largest deviation found is 1e-6 of the map's maximum.
ROUNDING = 1e-5


def map_of(particles: Particles, contrast: Contrast = Contrast.INVERTED) -> np.ndarray:
    """Whole images: a disc that cuts the neighbours off does not commute with the CTF, and would make a difference of its own."""
    return reconstruct(particles, InversionSettings(C1, contrast=contrast)).map


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.fixture(scope="module")
def aberrated(tmp_path_factory, blob_particles) -> Path:
    """The blobs, dark, in two optics groups: the second has a beam tilt, even and odd Zernike terms and a magnification."""
    folder = tmp_path_factory.mktemp("aberrated")
    first = blob_particles.optics[0]
    second = replace(
        first,
        name="second",
        beam_tilt=(20e-3, -10e-3),
        odd_zernike=(0.3, -0.2, 4.0, 2.0, -3.0, 5.0),
        even_zernike=(0.2, 3.0, -4.0, 5.0),
        magnification=((1.01, 0.005), (-0.004, 0.99)),
    )
    index = (np.arange(len(blob_particles)) % 3 == 1).astype(int)
    grid = frequencies((first.box, first.box), first.pixel_size)
    moved = forward(blob_particles.images.pixels[index == 1], 2) * wave_factor(odd_phase(second, *grid))
    pixels = blob_particles.images.pixels.copy()
    pixels[index == 1] = inverse(without_nyquist(moved, (first.box, first.box)), (first.box, first.box))
    write_stack(folder / "p.mrcs", -pixels, first.pixel_size)
    write_particles(
        folder / "particles.star",
        replace(blob_particles, optics=(first, second), optics_index=index, images=None, contrast=Contrast.RAW),
    )
    return folder / "particles.star"


@pytest.mark.parametrize("method", METHODS)
def test_the_map_is_that_of_the_raw_particles(method, blob_files, tmp_path):
    source = blob_files / "particles.star"
    run_job(ApplyCtf(source, method=method), tmp_path / "job")
    corrected = read_particles(tmp_path / "job" / STAR)
    assert corrected.ctf_state is METHODS[method]
    raw = map_of(read_particles(source))
    assert difference(map_of(corrected), raw) < ROUNDING
    # images that are not what they are said to be make another map
    group = corrected.optics[0]
    for state in set(METHODS.values()) - {group.ctf_state} | {CtfState.RAW}:
        other = replace(group, ctf_state=state, wiener_snr=0.1 if state is CtfState.WIENER else None)
        assert difference(map_of(replace(corrected, optics=(other,))), raw) > 0.05
    upside_down = replace(corrected, contrast=Contrast.RAW)
    assert difference(map_of(upside_down, Contrast.RAW), raw) > 1


@pytest.mark.parametrize("method", METHODS)
def test_aberrations_are_undone_or_kept_where_they_belong(method, aberrated, tmp_path):
    outcome = run_job(ApplyCtf(aberrated, method=method), tmp_path / "job")
    before, after = read_particles(aberrated), read_particles(tmp_path / "job" / STAR)
    assert after.contrast is Contrast.RAW
    kept = [(g.name, g.even_zernike, g.magnification, g.pixel_size, g.voltage) for g in after.optics]
    assert kept == [(g.name, g.even_zernike, g.magnification, g.pixel_size, g.voltage) for g in before.optics]
    assert all(g.beam_tilt == (0, 0) and g.odd_zernike == () for g in after.optics)
    raw = map_of(before, Contrast.RAW)
    assert difference(map_of(after, Contrast.RAW), raw) < ROUNDING
    # the odd phase, were it undone again, would do damage
    again = tuple(
        replace(g, beam_tilt=b.beam_tilt, odd_zernike=b.odd_zernike) for g, b in zip(after.optics, before.optics)
    )
    assert difference(map_of(replace(after, optics=again), Contrast.RAW), raw) > 100 * ROUNDING
    found = {finding.key: finding.value for finding in outcome.findings}
    assert (found["odd_phase_undone"], found["even_zernike"], found["magnification"]) == (1, 1, 1)
    assert found["optics_groups"] == 2


def test_every_row_keeps_its_image(aberrated, tmp_path, monkeypatch):
    """Stacks are made by optics group and end after a number of images; rows stay in the order of the file."""
    run_job(ApplyCtf(aberrated), tmp_path / "one")
    monkeypatch.setattr(apply_ctf_particles, "STACK_BYTES", 4 * 32 * 32 * 250)
    monkeypatch.setattr(apply_ctf_particles, "chunk_size", lambda box: 60)
    run_job(ApplyCtf(aberrated), tmp_path / "many")
    one, many = (read_particles(tmp_path / name / STAR) for name in ("one", "many"))
    assert len(one.names.paths) == 2 and len(many.names.paths) == 5
    assert np.array_equal(one.images.read(slice(None)), many.images.read(slice(None)))
    before = read_particles(aberrated)
    assert np.array_equal(many.optics_index, before.optics_index)
    for name in set(before.table) - {"rlnImageName"}:
        assert np.array_equal(np.asarray(many.table[name]), np.asarray(before.table[name])), name


def test_cryosparc_files_give_the_same_images(aberrated, tmp_path):
    particles = read_particles(aberrated)
    path = aberrated.parent / "particles.cs"
    write_particles(path, particles)
    for name, source in {"star": aberrated, "cs": path}.items():
        run_job(ApplyCtf(source, method="premultiply"), tmp_path / name)
    star, cs = (read_particles(tmp_path / name / STAR) for name in ("star", "cs"))
    assert cs.ctf_state is CtfState.PREMULTIPLIED and cs.contrast is Contrast.RAW
    # a .cs file has its defoci in single precision: 1e-3 angstrom
    np.testing.assert_allclose(cs.images.read(slice(None)), star.images.read(slice(None)), atol=1e-4)


@pytest.mark.parametrize("method", ["premultiply", "wiener"])
def test_jobs_that_follow_know_the_state(method, blob_files, tmp_path, capsys):
    run_job(ApplyCtf(blob_files / "particles.star", method=method), tmp_path / "job")
    star, state = tmp_path / "job" / STAR, METHODS[method].value
    assert dispatch(["info", str(star)]) == 0
    assert f"ctf state {state}" in capsys.readouterr().out
    verdicts = {f.key: f for f in run_in_passing(Check(star)).findings}
    assert {f.value for f in verdicts.values()} <= {"pass", "unknown"}
    assert verdicts["CTF_state"].value == "pass" and state in verdicts["CTF_state"].meaning
    if method == "premultiply":
        with pytest.raises(SettingsProblem, match="--no-ctf"):
            run_in_passing(Reconstruct(star, ctf=False))
    assert dispatch(["ctf", "apply", str(star), "--out", str(tmp_path / "twice")]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{state.replace('_', ' ')} already" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "twice").exists()


def test_result_and_report(blob_files, tmp_path):
    outcome = run_job(ApplyCtf(blob_files / "particles.star", method="wiener", snr=0.5), tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["particles"] == 900 and result["ctf_state"] == "wiener_filtered" and result["snr"] == 0.5
    assert result["defocus_lowest_um"] == pytest.approx(1.0, abs=0.01)
    assert any("RELION has no label" in warning for warning in outcome.warnings)
    page = (tmp_path / "job" / "report.html").read_text()
    assert (
        "before and after correction" in page
        and "Power spectra before and after" in page
        and "corrected_0001.mrcs" not in page
    )
    assert "wiener_filtered" in read_header(tmp_path / "job" / FOLDER / "corrected_0001.mrcs").labels[0]
    provenance = json.loads((tmp_path / "job" / "provenance.json").read_text())
    assert any(one["path"].endswith("p.mrcs") for one in provenance["inputs"])


def test_half_precision(blob_files, tmp_path):
    for mode in ("float32", "float16"):
        run_job(ApplyCtf(blob_files / "particles.star", mode=mode), tmp_path / mode)
    single, half = (read_particles(tmp_path / mode / STAR) for mode in ("float32", "float16"))
    assert half.images.headers[0].mode == 12
    np.testing.assert_allclose(half.images.read(slice(None)), single.images.read(slice(None)), rtol=2**-11, atol=1e-7)


def test_an_interrupted_run_goes_on_where_it_was(blob_files, tmp_path, monkeypatch):
    monkeypatch.setattr(apply_ctf_particles, "STACK_BYTES", 4 * 32 * 32 * 200)
    monkeypatch.setattr(apply_ctf_particles, "AT_ONCE", 1)
    job = ApplyCtf(blob_files / "particles.star", method="premultiply")
    run_job(job, tmp_path / "whole")

    def stop_in_the_third(stage):
        def report(done, total):
            if done > 400:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_job(job, tmp_path / "job", progress=stop_in_the_third)
    kept = sorted(tmp_path.glob(f".job.*.partial/{FOLDER}/*.mrcs"))
    assert [path.name for path in kept] == ["corrected_0001.mrcs", "corrected_0002.mrcs"]
    marks = [path.stat().st_mtime_ns for path in kept]
    run_job(job, tmp_path / "job")
    made = sorted((tmp_path / "job" / FOLDER).iterdir())
    assert [path.stat().st_mtime_ns for path in made[:2]] == marks and len(made) == 5
    for path in made:
        assert path.read_bytes() == (tmp_path / "whole" / FOLDER / path.name).read_bytes()


@pytest.fixture
def few(tmp_path, blob_particles) -> Path:
    """Thirty particles to be spoiled."""
    some = blob_particles.rows(np.arange(30))
    (tmp_path / "few").mkdir()
    write_stack(tmp_path / "few" / "p.mrcs", some.images.pixels, 4.0)
    write_particles(tmp_path / "few" / "p.star", some)
    return tmp_path / "few" / "p.star"


def test_bad_particles_are_named_in_one_line(few, tmp_path, capsys):
    pixels = read_particles(few).images.read(slice(None)).copy()
    pixels[16, 3, 3] = np.nan
    write_stack(few.parent / "p.mrcs", pixels, 4.0)
    for words in (["--tilt-deg", "20"], ["--defocus-um", "1", "1"], []):
        assert dispatch(["ctf", "apply", str(few), *words, "--out", str(tmp_path / "job")]) == 2
        error = capsys.readouterr().err.strip()
        assert (words[0] if words else "image 17@") in error and len(error.splitlines()) == 1
    (few.parent / "p.mrcs").unlink()
    assert dispatch(["ctf", "apply", str(few), "--out", str(tmp_path / "job")]) == 2
    assert "'p.mrcs' was not found" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few"]


def test_particles_that_lack_something(few, tmp_path):
    particles = read_particles(few)
    write_particles(few, replace(particles, ctf=None))
    with pytest.raises(DataProblem, match="gives no defocus"):
        run_job(ApplyCtf(few), tmp_path / "job")
    write_particles(few, replace(particles, optics=(replace(particles.optics[0], voltage=None),)))
    with pytest.raises(DataProblem, match="does not give its voltage"):
        run_job(ApplyCtf(few), tmp_path / "job")
    run_job(ApplyCtf(few, voltage_kv=300.0), tmp_path / "job")
    assert read_particles(tmp_path / "job" / STAR).optics[0].voltage == 300e3


def test_a_box_that_is_too_small_is_told(few, tmp_path):
    """32 pixels of 4 angstrom hold 2.6 um at 300 kV, less the spherical aberration's part."""
    assert not any("box holds" in warning for warning in run_job(ApplyCtf(few), tmp_path / "fits").warnings)
    particles = read_particles(few)
    defocus = np.where(np.arange(30) < 7, 8e4, 1e4)
    wide = replace(particles.ctf, defocus_u=defocus, defocus_v=defocus)
    write_particles(few, replace(particles, ctf=wide))
    warnings = run_job(ApplyCtf(few), tmp_path / "wide").warnings
    assert any("The defocus of 7 particles is more than their box holds" in warning for warning in warnings)
