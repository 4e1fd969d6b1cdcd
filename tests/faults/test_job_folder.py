"""A job folder is complete or not there: failures, full disks, kills."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vitreous.errors import DataProblem, OutputProblem
from vitreous.jobs.folder import plain, run_job
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.provenance import PIECE, WHOLE, fingerprint


@dataclass(frozen=True)
class Sum:
    """A job that writes one file and may fail in the middle."""

    values: tuple[float, ...]
    trouble: str = ""
    seed: int = 3

    name: ClassVar[str] = "sum"

    def inputs(self) -> list[Path]:
        return []

    def run(self, desk: Desk) -> Outcome:
        (desk.folder / "sum.txt").write_text(str(sum(self.values)))
        if self.trouble == "data":
            raise DataProblem("a value of nothing", "a number")
        if self.trouble == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        return Outcome([Finding("sum", "sum", sum(self.values))], title="Sum")


def test_everything_is_written(tmp_path):
    outcome = run_job(Sum((1.0, 2.0)), tmp_path / "job")
    names = {path.name for path in (tmp_path / "job").iterdir()}
    assert names == {"sum.txt", "settings.yaml", "result.json", "provenance.json", "report.html"}
    assert json.loads((tmp_path / "job" / "result.json").read_text())["sum"] == 3.0 == outcome.findings[0].value
    assert json.loads((tmp_path / "job" / "provenance.json").read_text())["seed"] == 3


@pytest.mark.parametrize(("trouble", "error"), [("data", DataProblem), ("disk", OutputProblem)])
def test_a_failure_leaves_nothing(tmp_path, trouble, error):
    with pytest.raises(error) as caught:
        run_job(Sum((1.0,), trouble), tmp_path / "job")
    assert "\n" not in caught.value.line()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_former_result(tmp_path):
    run_job(Sum((1.0,)), tmp_path / "job")
    with pytest.raises(DataProblem):
        run_job(Sum((2.0,), "data"), tmp_path / "job", force=True)
    assert json.loads((tmp_path / "job" / "result.json").read_text())["sum"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_other_peoples_folders_are_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    with pytest.raises(OutputProblem, match="not a job's"):
        run_job(Sum((1.0,)), tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "cat.png").read_bytes() == b"cat"


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "job").write_text("x")
    with pytest.raises(OutputProblem, match="is a file"):
        run_job(Sum((1.0,)), tmp_path / "job", force=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputProblem):
        run_job(Sum((1.0,)), tmp_path / "job")


def test_a_full_disk_is_one_line(blob_files, tmp_path):
    """A real full device: the job's files cannot grow beyond a limit that the system sets."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000));"
        f"from vitreous.cli import main; main(['reconstruct', {str(blob_files / 'particles.star')!r}, '--out', {str(tmp_path / 'job')!r}])"
    )
    # Compiled code is cached on the same disk: warm the cache first.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_leaves_nothing(blob_files, tmp_path, stop):
    words = [
        sys.executable,
        "-m",
        "vitreous",
        "reconstruct",
        str(blob_files / "particles.star"),
        "--symmetry",
        "I",
        "--out",
        str(tmp_path / "job"),
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(stop)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_large_inputs_are_hashed_in_pieces_and_say_so(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"abc")
    assert (
        fingerprint(small)["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2, example 1
    content = bytearray(WHOLE + 1000)
    large.write_bytes(content)
    first = fingerprint(large)
    content[WHOLE // 2 + PIECE] = 1  # between the pieces
    large.write_bytes(content)
    assert "MiB" in first["sha256_of"] and fingerprint(large)["sha256"] == first["sha256"]
    content[-1] = 1
    large.write_bytes(content)
    assert fingerprint(large)["sha256"] != first["sha256"]


def test_results_are_plain_json():
    value = {"a": np.float32(1.5), "b": [np.int64(2), float("nan")], "c": Path("x"), "d": np.arange(2)}
    assert plain(value) == {"a": 1.5, "b": [2, None], "c": "x", "d": [0, 1]}
