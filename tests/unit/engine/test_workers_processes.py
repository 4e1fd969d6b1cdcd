"""Workers in processes: the same answers as threads, errors as they were raised, and no process that is left behind."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from vitreous.engine.processes import ProcessWorkers
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import DataProblem, SettingsProblem, VitreousError

# What the processes do must come from a module that they can import.
MODULE = """
import os, signal, time
from dataclasses import dataclass
import numpy as np
from threadpoolctl import threadpool_info
from vitreous.errors import DataProblem

@dataclass(frozen=True)
class Terms:
    values: np.ndarray
    def __call__(self, item):
        time.sleep(0.002 * (23 - item) % 0.007)
        return self.values[item]

def process_of(item):
    time.sleep(0.05)
    return os.getpid()

def printed(item):
    print("a line for a person", flush=True)
    os.write(1, b"another")
    return item

def threads_of(item):
    np.ones((4, 4)) @ np.ones((4, 4))
    return [library["num_threads"] for library in threadpool_info()]

def failing(item):
    if item == 2:
        raise DataProblem(f"image {item}", "a good one")
    return item

def killed(item):
    os.kill(os.getpid(), signal.SIGKILL)

def slow(item):
    time.sleep(60)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "work_of_processes.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("work_of_processes", None)
    return importlib.import_module("work_of_processes")


def children() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children(recursive=True) if "vitreous.engine.processes" in child.cmdline()
    ]


def test_sums_and_lists_are_those_of_threads(work, rng):
    terms = work.Terms((rng.normal(size=(24, 64)) * 10.0 ** rng.uniform(-4, 4, size=(24, 1))).astype(np.float32))
    workers = ProcessWorkers(3)
    assert workers.count == 3
    assert np.array_equal(workers.sum_over(terms, range(24)), LocalWorkers(1).sum_over(terms, range(24)))
    seen, counted = [], []
    found = workers.map_over(terms, range(24), on_result=seen.append, progress=lambda done, total: counted.append(done))
    assert all(np.array_equal(a, b) for a, b in zip(found, terms.values, strict=True))
    assert all(a is b for a, b in zip(found, seen, strict=True)) and counted[-1] == 24
    assert workers.map_over(terms, []) == [] and children() == []


def test_the_work_is_shared_out_and_one_worker_is_this_process(work):
    assert len({os.getpid(), *ProcessWorkers(2).map_over(work.process_of, range(8))}) == 3
    assert set(ProcessWorkers(1).map_over(work.process_of, range(2))) == {os.getpid()}
    assert set(ProcessWorkers(2).map_over(work.process_of, [0])) == {os.getpid()}  # one item needs no other process


def test_each_process_works_on_one_thread(work):
    assert all(number == 1 for found in ProcessWorkers(2).map_over(work.threads_of, range(2)) for number in found)


def test_what_a_function_prints_is_no_answer(work, capfd):
    assert ProcessWorkers(2).map_over(work.printed, range(4)) == [0, 1, 2, 3]
    said = capfd.readouterr()
    assert said.out == "" and said.err.count("a line for a person") == 4


def test_errors_come_back_as_they_were_raised_and_end_the_work(work):
    told = []
    with pytest.raises(DataProblem, match="image 2"):
        ProcessWorkers(2).map_over(work.failing, range(8), on_error=lambda: told.append(1))
    assert told == [1] and children() == []


def test_a_process_that_was_killed_is_one_clear_line(work):
    with pytest.raises(VitreousError, match=r"exit status -9.*--workers") as caught:
        ProcessWorkers(2).map_over(work.killed, range(2))
    assert "\n" not in str(caught.value) and children() == []


def test_an_interruption_ends_the_processes_at_once(work):
    def interrupt() -> None:
        while len(children()) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ProcessWorkers(2).map_over(work.slow, range(2))
    assert time.monotonic() - began < 30 and children() == []  # an item takes 60 seconds


def test_processes_end_when_the_one_that_asks_is_killed(work, tmp_path):
    code = "import work_of_processes as w; from vitreous.engine.processes import ProcessWorkers as P; P(2).map_over(w.slow, range(2))"
    asker = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children()
    assert len(workers) == 2
    asker.kill()
    asker.wait()
    deadline = time.monotonic() + 30
    while any(at_work(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    alive = [worker for worker in workers if at_work(worker)]
    for worker in alive:
        worker.kill()
    assert not alive


def at_work(process: psutil.Process) -> bool:
    """A process that has ended may stay in the list until somebody asks how."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [0, -3])
def test_no_workers_are_refused(number):
    with pytest.raises(SettingsProblem, match=f"{number} workers"):
        ProcessWorkers(number)
