"""A training that is killed goes on with the same command, and comes to the same loss curve and landscape, to the last bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.unit.heterogeneity.moving_particle import PIXEL_SIZE, moving_particles

from vitreous.engine.checkpoint import load_state
from vitreous.heterogeneity.drgn_training import TrainingState
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles
from vitreous.jobs.folder import run_job
from vitreous.jobs.train_landscape import TrainLandscape

EPOCHS = 8


def command() -> list[str]:
    code = "import sys; from vitreous.cli import dispatch; sys.exit(dispatch(sys.argv[1:]))"
    words = [
        "landscape",
        "train",
        "particles.star",
        "--latent",
        "2",
        "--epochs",
        str(EPOCHS),
        "--width",
        "64",
        "--diameter",
        "0",
    ]
    return [sys.executable, "-c", code, *words, "--out", "job"]


def kept_state(folder: Path) -> Path | None:
    return next(iter(folder.glob(".job.*.partial/training.npz")), None)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_landscape(tmp_path, monkeypatch):
    made = moving_particles(300, 16, snr=1.0)
    write_stack(tmp_path / "moving.mrcs", made.particles.images.read(slice(None)), PIXEL_SIZE)
    write_particles(tmp_path / "particles.star", made.particles)
    monkeypatch.chdir(tmp_path)
    run_job(TrainLandscape(Path("particles.star"), latent=2, epochs=EPOCHS, width=64, diameter=0.0), Path("unbroken"))
    first = subprocess.Popen(command(), cwd=tmp_path, stdout=subprocess.DEVNULL)
    for _ in range(6000):  # at most 5 minutes on a busy machine
        if kept_state(tmp_path) is not None or first.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    state = kept_state(tmp_path)
    assert state is not None, "it was over before it could be killed"
    assert 1 <= load_state(state, TrainingState).epoch < EPOCHS
    assert not (tmp_path / "job").exists()
    subprocess.run(command(), cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    for name in ("decoder.npz", "latents.npz"):
        with np.load(tmp_path / "job" / name) as one, np.load(tmp_path / "unbroken" / name) as other:
            for array in other.files:
                np.testing.assert_array_equal(one[array], other[array], err_msg=array)
    left, right = (
        json.loads((tmp_path / folder / "result.json").read_text())["epochs"] for folder in ("job", "unbroken")
    )
    assert left == right
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
