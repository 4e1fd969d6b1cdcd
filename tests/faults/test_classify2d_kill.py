"""A 2D classification that is killed goes on with the same command and comes to the same answer, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.alignment.classification import Classification
from vitreous.engine.checkpoint import load_state
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles
from vitreous.io.star import read_star
from vitreous.jobs.classify2d import Classify2D
from vitreous.jobs.folder import run_job

ITERATIONS = 6


def command(folder: Path) -> list[str]:
    code = "import sys; from vitreous.cli import dispatch; sys.exit(dispatch(sys.argv[1:]))"
    words = ["classify2d", "particles.star", "--classes", "3", "--iterations", str(ITERATIONS), "--psi-step", "15"]
    return [sys.executable, "-c", code, *words, "--workers", "1", "--out", "job"]


def kept_state(folder: Path) -> Path | None:
    return next(iter(folder.glob(".job.*.partial/state.npz")), None)


@pytest.mark.slow
def test_a_killed_classification_goes_on_to_the_same_answer(blob_particles, tmp_path, monkeypatch):
    few = replace(blob_particles, pose=None).rows(np.arange(150))
    write_stack(tmp_path / "p.mrcs", few.images.pixels, 4.0)
    write_particles(tmp_path / "particles.star", few)
    monkeypatch.chdir(tmp_path)
    job = Classify2D(Path("particles.star"), classes=3, iterations=ITERATIONS, psi_step=15.0, workers=2)
    run_job(job, Path("unbroken"))
    first = subprocess.Popen(command(tmp_path), cwd=tmp_path, stdout=subprocess.DEVNULL)
    for _ in range(3000):  # at most 5 minutes on a busy machine
        if kept_state(tmp_path) is not None or first.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    state = kept_state(tmp_path)
    assert state is not None, "it was over before it could be killed"
    assert 1 <= load_state(state, Classification).iteration < ITERATIONS
    assert not (tmp_path / "job").exists()
    subprocess.run(command(tmp_path), cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    for name in ("averages.mrcs", "state.npz"):
        assert (tmp_path / "job" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
    left, right = (read_star(tmp_path / folder / "particles.star")["particles"] for folder in ("job", "unbroken"))
    for column in left.names:
        assert np.array_equal(np.asarray(left[column]), np.asarray(right[column])), column
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
