"""A search for a map from nothing that is killed goes on with the same command and comes to the same maps, to the last bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles

STARTS = 4  # two of which are left half-way
WORDS = (
    "abinitio",
    "particles.star",
    "--starts",
    str(STARTS),
    "--iterations",
    "2",
    "--batch",
    "30",
    "--end-resolution",
    "24",
)
FILES = ("map.mrc", *(f"starts/start{number + 1}.mrc" for number in range(STARTS)))


def start(folder: Path, out: str, *options: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "vitreous", *WORDS, "--workers", "2", *options, "--out", out]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_maps(blob_particles, tmp_path):
    few = replace(blob_particles, pose=None, half_set=None).rows(np.arange(80))
    write_stack(tmp_path / "p.mrcs", few.images.pixels, 4.0)
    write_particles(tmp_path / "particles.star", few)
    assert start(tmp_path, "whole").wait(timeout=300) == 0
    process = start(tmp_path, "broken")
    first = ".broken.*/starts/start1_half.npz"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(tmp_path.glob(first)):
        assert process.poll() is None, "it was over before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert not (tmp_path / "broken").exists()
    kept = next(tmp_path.glob(first))
    before = kept.stat()
    assert start(tmp_path, "broken").wait(timeout=300) == 0
    after = (tmp_path / "broken/starts/start1_half.npz").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # was not made again
    for name in FILES:
        one, two = (read_volume(tmp_path / where / name).data for where in ("whole", "broken"))
        assert np.array_equal(one, two), name
    one, two = (json.loads((tmp_path / where / "result.json").read_text()) for where in ("whole", "broken"))
    assert one == two
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
