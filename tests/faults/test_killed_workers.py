"""Workers that are killed in the middle of their work, schedulers that vanish, interruptions: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from vitreous.engine.distributed import dask_workers
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import SettingsProblem, VitreousError
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.reconstruction import direct_inversion
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct

pytest.importorskip("distributed", reason="the cluster extra is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def by_value():
    """Workers cannot import this file: what it defines travels with its code."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@dataclass(frozen=True)
class Noise:
    """A term of which the sum depends on the order. `diary` gets a line "item process begun", and another at the end."""

    diary: Path
    scale: np.ndarray
    seconds: float = 0.02

    def __call__(self, item: int) -> np.ndarray:
        self.note(item, "begun")
        time.sleep(self.seconds)
        self.note(item, "done")
        return (np.random.default_rng(item).normal(size=1000) * self.scale[item]).astype(np.float32)

    def note(self, item: int, what: str) -> None:
        with open(self.diary, "a") as stream:
            stream.write(f"{item} {os.getpid()} {what}\n")

    def noted(self, what: str) -> list[tuple[int, int]]:
        """(item, process) of each line that says so."""
        lines = [line.split() for line in self.diary.read_text().splitlines()]
        return [(int(item), int(process)) for item, process, said in lines if said == what]

    def at_work(self) -> int | None:
        """A process that is in the middle of an item, if there is one: all that was handed out may be done, and the next may wait for its turn."""
        done = self.noted("done")
        return next((process for item, process in self.noted("begun")[::-1] if (item, process) not in done), None)


@pytest.fixture
def noise(tmp_path, rng):
    return Noise(tmp_path / "diary", 10.0 ** rng.uniform(-4, 4, size=24))


def killer(victim: Callable[[], int | None], when: int) -> Callable[[int, int], None]:
    """A progress report that kills a process without warning when so many items are done, as soon as there is a victim."""
    killed = []

    def report(done: int, total: int) -> None:
        if done >= when and not killed and (process := victim()) is not None:
            killed.append(process)
            os.kill(process, signal.SIGKILL)

    return report


@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_worker_changes_nothing(noise, count):
    """With one worker everything that the workers held is lost: function, items, results."""
    expected = LocalWorkers(1).sum_over(noise, range(24))
    noise.diary.unlink()
    with dask_workers("local", count) as workers:
        total = workers.sum_over(replace(noise, seconds=0.3), range(24), progress=killer(noise.at_work, 5))
    assert np.array_equal(total, expected)
    begun = noise.noted("begun")
    assert len(begun) > 24 == len({item for item, _ in begun})  # something was computed twice
    assert len({process for _, process in begun}) >= 2  # the other, or a new one, went on
    assert not np.array_equal(LocalWorkers(1).sum_over(noise, range(23, -1, -1)), expected)


def test_a_worker_killed_in_a_reconstruction_changes_no_voxel(blob_files, monkeypatch):
    monkeypatch.setattr(direct_inversion, "SHARD_PER_PIXEL", 1)  # 32 particles in a shard, 30 shards
    particles = read_particles(blob_files / "particles.star")
    settings = InversionSettings(point_group("C1").operators, mask_radius=12.0)
    expected = reconstruct(particles, settings, workers=LocalWorkers(1))
    with dask_workers("local", 2) as workers:
        processes = workers._client.run(os.getpid)
        report = killer(lambda: next(iter(processes.values())), 200)
        found = reconstruct(particles, settings, report, workers=workers)
        survivors = workers._client.run(os.getpid)
    assert set(survivors.values()) != set(processes.values())
    assert np.array_equal(found.map, expected.map)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found.half_maps, expected.half_maps))


def die(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_an_item_that_kills_every_worker_is_one_line():
    import dask

    few = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with few, dask_workers("local", 1) as workers, pytest.raises(VitreousError, match="ended several workers"):
        workers.sum_over(die, range(8))


@contextmanager
def dask_program(*words: str, says: str):
    """`dask scheduler` or `dask worker` as its users start it, from the moment that it says so."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if says in line:
                yield process, line.split()[-1]
                break
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_scheduler_that_vanishes_is_one_line(noise, monkeypatch):
    import dask

    scheduler_words = ("scheduler", "--port", "0", "--dashboard-address", ":0")
    with dask_program(*scheduler_words, says="Scheduler at") as (scheduler, address):
        words = ("worker", address, "--nthreads", "1", "--death-timeout", "20")
        with (
            dask_program(*words, says="Registered to"),
            dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
            dask_workers(address) as workers,
            pytest.raises(VitreousError, match="scheduler was lost"),
        ):
            workers.sum_over(replace(noise, seconds=0.2), range(24), progress=killer(lambda: scheduler.pid, 3))


def test_an_interruption_ends_the_processes_and_leaves_nothing(blob_files, tmp_path):
    words = ["reconstruct", str(blob_files / "particles.star"), "--symmetry", "I", "--cluster", "local"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vitreous", *words, "--workers", "2", "--out", str(tmp_path / "job")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(grown(process.pid)) < 2:
        time.sleep(0.05)
    workers = grown(process.pid)
    assert len(workers) >= 2
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all of them
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines() == ["vitreous reconstruct: interrupted, nothing was left behind"]
    assert list(tmp_path.iterdir()) == []
    time.sleep(0.5)
    assert [pid for pid in workers if running(pid)] == []


def grown(parent: int) -> list[int]:
    """The processes of Python that this one, or one of them, has started."""
    found, open_ones = [], [parent]
    while open_ones:
        pid = open_ones.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                open_ones += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
        if pid != parent and "spawn_main" in command_line(pid):
            found.append(pid)
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def running(pid: int) -> bool:
    return command_line(pid) != ""


def test_the_command_line_gives_the_same_map_on_a_cluster(blob_files, tmp_path):
    from vitreous.cli import dispatch

    words = ["reconstruct", str(blob_files / "particles.star"), "--diameter", "90"]
    assert dispatch([*words, "--out", str(tmp_path / "here")]) == 0
    assert dispatch([*words, "--cluster", "local", "--workers", "2", "--out", str(tmp_path / "there")]) == 0
    for name in ("half1.mrc", "half2.mrc", "map.mrc"):
        ours, theirs = (read_volume(tmp_path / place / name).data for place in ("here", "there"))
        assert np.array_equal(ours, theirs)


QUEUE = {
    "sbatch": """#!/bin/sh
cp "$1" {folder}/script
setsid sh {folder}/script > {folder}/log 2>&1 &
echo "Submitted batch job $!"
""",
    "scancel": """#!/bin/sh
kill -TERM -- -"$1"
""",
}


@pytest.fixture
def queue_defaults():
    """dask-jobqueue brings its part of the configuration when it is loaded, and only then; it also takes the interruption for itself."""
    former = signal.getsignal(signal.SIGINT)
    import dask_jobqueue  # noqa: F401

    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("queue_defaults")
def test_a_queue_starts_workers_and_its_jobs_end_with_the_work(noise, tmp_path, monkeypatch):
    """The two programs of SLURM that are called are stood in for by scripts that run a job at once."""
    for name, text in QUEUE.items():
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    import dask

    settings = {"cores": 2, "memory": "2GB", "queue": "short", "walltime": "00:10:00"}
    settings["job-script-prologue"] = ["export FROM_PROLOGUE=1"]
    with (
        dask.config.set({f"jobqueue.slurm.{name}": value for name, value in settings.items()}),
        dask_workers("slurm", 2) as workers,
    ):
        total = workers.sum_over(noise, range(24))
        pids = set(workers._client.run(os.getpid).values())
        environments = workers._client.run(lambda: dict(os.environ)).values()
    assert all(one["FROM_PROLOGUE"] == "1" and one["MALLOC_TRIM_THRESHOLD_"] == "268435456" for one in environments)
    assert np.array_equal(total, LocalWorkers(1).sum_over(noise, range(24)))
    script = (tmp_path / "script").read_text()
    assert all(word in script for word in ("#SBATCH -p short", "-t 00:10:00", "--nthreads 1 ", "--nworkers 2 "))
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(running, pids))


@pytest.mark.usefixtures("queue_defaults")
def test_a_queue_that_nobody_described_is_one_line():
    with pytest.raises(SettingsProblem, match=r"jobqueue\.slurm\.cores"), dask_workers("slurm", 2):
        pass


@pytest.mark.usefixtures("queue_defaults")
def test_a_machine_without_slurm_is_one_line(monkeypatch):
    import dask

    described = dask.config.set({"jobqueue.slurm.cores": 1, "jobqueue.slurm.memory": "1GB"})
    with described, pytest.raises(SettingsProblem, match="sbatch"), dask_workers("slurm", 2):
        pass


def test_the_queue_does_not_take_the_interruption_from_the_command():
    """Loading dask-jobqueue would have Ctrl-C end the process as if all were well."""
    code = (
        "import signal; from vitreous.engine.distributed import dask_workers; from vitreous.errors import SettingsProblem\n"
        "former = signal.getsignal(signal.SIGINT)\n"
        "try:\n    with dask_workers('slurm', 2): pass\nexcept SettingsProblem as problem: print(problem)\n"
        "print(signal.getsignal(signal.SIGINT) is former)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.strip().splitlines()
    assert "jobqueue.slurm.cores" in said[0] and said[1] == "True"
