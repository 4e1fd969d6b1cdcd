"""`vitreous ctf apply` on many micrographs, told to stop in the middle: what is finished stays, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.io.micrograph_star import ctf_columns
from vitreous.io.micrograph_table import micrograph_table, write_micrograph_table
from vitreous.io.mrc_stack import StackWriter
from vitreous.jobs.apply_ctf import ApplyCtf
from vitreous.jobs.folder import run_job
from vitreous.model.optics import CtfParameters, OpticsGroup

COUNT = 16


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_is_finished_by_the_same_command(stop, tmp_path):
    group = OpticsGroup(pixel_size=1.5, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    names = [f"m{number:02d}.mrc" for number in range(COUNT)]
    for number, name in enumerate(names):
        with StackWriter(tmp_path / name, 1.5) as writer:
            writer.append(np.random.default_rng(number).standard_normal((400, 400)))
    ctf = ctf_columns(CtfParameters.of(np.linspace(9e3, 2e4, COUNT), np.linspace(9e3, 2e4, COUNT), 0.0))
    table = micrograph_table(names, [group], np.zeros(COUNT, dtype=int)).with_columns(ctf)
    tilt = {"vitreousTiltDeg": np.full(COUNT, 40.0), "vitreousTiltAxisDeg": np.full(COUNT, 70.0)}
    write_micrograph_table(tmp_path / "m.star", table.with_columns(tilt))
    job = ApplyCtf(tmp_path / "m.star", method="premultiply")

    words = ["ctf", "apply", str(job.source), "--method", job.method, "--out", str(tmp_path / "job")]
    process = subprocess.Popen([sys.executable, "-m", "vitreous", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (kept := list(tmp_path.glob(".job.*.partial/micrographs/m*.mrc"))) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(stop)
    _, error = process.communicate(timeout=60)
    assert kept and not (tmp_path / "job").exists()
    if stop is signal.SIGTERM:
        assert process.returncode == 130 and "goes on from there" in error and "Traceback" not in error
    marks = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob(".job.*.partial/micrographs/m*.mrc")}
    assert 0 < len(marks) < COUNT

    assert dispatch(words) == 0
    run_job(job, tmp_path / "whole")
    made = {path.name: path for path in (tmp_path / "job" / "micrographs").iterdir()}
    assert sorted(made) == names and not list(tmp_path.glob(".job*"))
    assert {name: made[name].stat().st_mtime_ns for name in marks} == marks
    for name, path in made.items():
        assert path.read_bytes() == (tmp_path / "whole" / "micrographs" / name).read_bytes()
