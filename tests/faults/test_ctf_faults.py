"""CTF estimation of bad input: no confident wrong number, one line, and what is finished stays finished."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.io.micrograph_table import micrograph_table, write_micrograph_table
from vitreous.io.mrc_stack import write_stack
from vitreous.io.star import read_star
from vitreous.jobs.estimate_ctf import EstimateCtf
from vitreous.jobs.folder import run_job
from vitreous.model.optics import OpticsGroup

LENS = ["--voltage-kv", "300", "--cs-mm", "2.7", "--amplitude-contrast", "0.1"]
SETTINGS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
SHAPE = (320, 320)


def flat_noise(rng):
    return 100 + 10 * rng.normal(size=SHAPE)


def pink_noise(rng):
    """A spectrum that falls, as those of detectors and of thick ice do, without rings."""
    ky, kx = np.meshgrid(np.fft.fftfreq(SHAPE[0]), np.fft.rfftfreq(SHAPE[1]), indexing="ij")
    waves = np.fft.rfft2(rng.normal(size=SHAPE)) / (np.hypot(kx, ky) + 0.02)
    return 100 + np.fft.irfft2(waves, s=SHAPE)


def gain_stripes(rng):
    """Amplifiers of different gain, and columns of their own offset."""
    image = 100 + 3 * rng.normal(size=SHAPE)
    image *= np.repeat([1.0, 1.04, 0.97, 1.02], SHAPE[1] // 4)
    return image + 4 * rng.normal(size=SHAPE[1])


def gradient(rng):
    """Grid bar: a dark side, and shot noise."""
    return rng.poisson(np.linspace(1, 60, SHAPE[1])[None, :] * np.ones(SHAPE))


def hot_pixels(rng):
    image = rng.poisson(20, SHAPE).astype(float)
    image[rng.integers(0, 320, 60), rng.integers(0, 320, 60)] = 60000
    return image


@pytest.mark.parametrize("make", [flat_noise, pink_noise, gain_stripes, gradient, hot_pixels])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_rings_are_no_ctf(make, seed, tmp_path):
    path = tmp_path / "m.mrc"
    write_stack(path, make(np.random.default_rng(seed)).astype(np.float32)[None], 2.0)
    run_job(EstimateCtf((path,), **SETTINGS), tmp_path / "out")
    table = read_star(tmp_path / "out" / "rejected.star")["micrographs"]
    assert not (tmp_path / "out" / "micrographs_ctf.star").exists()
    assert str(table["vitreousRejectReason"][0]).startswith("No CTF found.")
    assert np.isnan(table["rlnDefocusU"][0])


def bad_files(folder, ring_micrograph):
    """Name and a word of the message."""
    write_stack(folder / "constant.mrc", np.full((1, 128, 128), 7.0, np.float32), 2.0)
    image = ring_micrograph()
    image[5, 5] = np.nan
    write_stack(folder / "nan.mrc", image[None], 2.0)
    write_stack(folder / "tiny.mrc", image[None, 10:40, 10:40], 2.0)
    (folder / "empty.mrc").write_bytes(b"")
    (folder / "text.mrc").write_text("not a micrograph" * 200)
    whole = (folder / "constant.mrc").read_bytes()
    (folder / "cut.mrc").write_bytes(whole[:-100])
    raw = bytearray(whole)
    raw[40:52] = bytes(12)  # the cell: pixel size 0
    (folder / "unknown.mrc").write_bytes(raw)
    return {
        "constant": "same|all",
        "nan": "NaN",
        "tiny": "64 x 64",
        "empty": "empty",
        "text": "header",
        "cut": "truncated",
        "unknown": "--pixel-size",
        "missing": "does not exist",
    }


def test_one_bad_file_alone_is_one_line(ring_micrograph, tmp_path, capsys):
    for name, word in bad_files(tmp_path, ring_micrograph).items():
        code = dispatch(["ctf", str(tmp_path / f"{name}.mrc"), *LENS, "--out", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert code == 2 and len(error.strip().splitlines()) == 1, (name, error)
        assert re.search(word, error), (name, error)
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_bad_files_among_good_ones_are_listed(ring_micrograph, tmp_path, capsys):
    names = list(bad_files(tmp_path, ring_micrograph))
    write_stack(tmp_path / "good.mrc", ring_micrograph()[None], 2.0)
    files = [str(tmp_path / f"{name}.mrc") for name in [*names[:4], "good", *names[4:]]]
    assert dispatch(["ctf", *files, *LENS, "--out", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["failed"]) == names and all("\n" not in reason for reason in result["failed"].values())
    assert list(read_star(tmp_path / "out" / "micrographs_ctf.star")["micrographs"]["rlnMicrographName"]) == [files[4]]
    rejected = read_star(tmp_path / "out" / "rejected.star")["micrographs"]
    assert all(str(reason).startswith("Not read: ") for reason in rejected["vitreousRejectReason"])
    assert np.isnan(rejected["rlnDefocusU"]).all()


def test_a_pixel_size_of_0_is_asked_for_and_taken(ring_micrograph, tmp_path, capsys):
    path = tmp_path / "m.mrc"
    write_stack(path, ring_micrograph()[None], 2.0)
    raw = bytearray(path.read_bytes())
    raw[40:52] = bytes(12)
    path.write_bytes(raw)
    assert dispatch(["ctf", str(path), *LENS, "--out", str(tmp_path / "out")]) == 2
    assert "--pixel-size" in capsys.readouterr().err
    assert dispatch(["ctf", str(path), *LENS, "--pixel-size", "2", "--out", str(tmp_path / "out")]) == 0
    table = read_star(tmp_path / "out" / "micrographs_ctf.star")["micrographs"]
    assert abs((table["rlnDefocusU"][0] + table["rlnDefocusV"][0]) / 2 - 14500) < 50


def finished_records(paths):
    """Those of the files that stand under their own name: one that is being written has a hidden one."""
    return [path for path in paths if not path.name.startswith(".")]


def interrupted_after(count, words, folder, stop):
    """Run the command, stop it once `count` micrographs are finished; the work folder that it leaves."""
    process = subprocess.Popen([sys.executable, "-m", "vitreous", *words], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(finished_records(folder.glob(".out.*/micrographs/*.json"))) >= count:
            break
        time.sleep(0.02)
    process.send_signal(stop)
    process.communicate(timeout=120)
    return process.returncode, next(iter(folder.glob(".out.*")), None)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(ring_micrograph, tmp_path, stop):
    names = [f"m{number}" for number in range(8)]
    for number, name in enumerate(names):
        write_stack(tmp_path / f"{name}.mrc", ring_micrograph((512, 512), seed=number)[None], 2.0)
    optics = OpticsGroup(pixel_size=2.0, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    star = tmp_path / "micrographs.star"
    write_micrograph_table(star, micrograph_table([f"{name}.mrc" for name in names], [optics], np.zeros(8)))
    words = ["ctf", str(star), "--workers", "1", "--out", str(tmp_path / "out")]
    code, work = interrupted_after(2, words, tmp_path, stop)
    assert code == (130 if stop is signal.SIGINT else -signal.SIGKILL)
    assert work is not None and not (tmp_path / "out").exists()
    finished = {path.stem: path.stat().st_mtime_ns for path in finished_records((work / "micrographs").glob("*.json"))}
    assert {"m0", "m1"} <= set(finished) and len(finished) < 8
    # the first micrograph is another one now: what was found of it no longer holds
    write_stack(tmp_path / "m0.mrc", ring_micrograph((512, 512), defocus=(12000.0, 11000.0, 0.6), seed=9)[None], 2.0)
    assert dispatch(words) == 0
    assert list(tmp_path.glob(".out.*")) == []
    again = {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "out" / "micrographs").glob("*.json")}
    assert sorted(again) == names
    assert {name for name in finished if again[name] == finished[name]} == set(finished) - {"m0"}
    table = read_star(tmp_path / "out" / "micrographs_ctf.star")["micrographs"]
    mean = (table["rlnDefocusU"] + table["rlnDefocusV"]) / 2
    assert abs(mean[0] - 11500) < 60 and np.abs(mean[1:] - 14500).max() < 60
