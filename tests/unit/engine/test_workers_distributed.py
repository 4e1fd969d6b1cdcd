"""Workers through Dask: the same answers as threads, whatever is sent; and what is refused before any work."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from vitreous.engine.distributed import DaskWorkers, dask_workers, refuse_place
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.symmetry import point_group
from vitreous.io.particles import read_particles
from vitreous.reconstruction import direct_inversion
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct

distributed = pytest.importorskip("distributed", reason="the cluster extra is not installed")


@dataclass(frozen=True)
class Terms:
    """Terms of which the sum depends on the order. Counts how often it was taken out of its pickle."""

    values: np.ndarray
    unpacked: list = field(default_factory=list)

    def __call__(self, item: int) -> np.ndarray:
        return self.values[item].copy()

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        UNPACKED.append(1)


UNPACKED: list[int] = []


@pytest.fixture(scope="module")
def workers():
    """Two workers of Dask that are threads of this process: everything but the processes."""
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="inproc://"
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield DaskWorkers(client)


@pytest.fixture
def terms(rng):
    return Terms((rng.normal(size=(24, 64)) * 10.0 ** rng.uniform(-4, 4, size=(24, 1))).astype(np.float32))


def test_sums_and_lists_are_those_of_threads(workers, terms):
    assert workers.count == 2
    assert np.array_equal(workers.sum_over(terms, range(24)), LocalWorkers(1).sum_over(terms, range(24)))
    assert np.array_equal(workers.map_over(terms, range(24)), terms.values)
    assert workers.map_over(abs, []) == []
    with pytest.raises(ValueError, match="no items"):
        workers.sum_over(abs, [])


def test_what_comes_back_may_be_added_in_place(workers, terms):
    total = workers.sum_over(terms, range(24), add=np.ndarray.__iadd__)
    assert np.array_equal(total, LocalWorkers(1).sum_over(terms, range(24)))


def test_what_all_items_share_travels_once(workers, terms):
    UNPACKED.clear()
    workers.map_over(terms, range(24))
    assert 1 <= len(UNPACKED) <= 2  # once for each worker at most, not for each item


def test_progress_and_the_bound_hold(workers):
    seen: list[tuple[int, int]] = []
    total = workers.sum_over(abs, range(12), at_once=1, progress=lambda done, items: seen.append((done, items)))
    assert total == 66 and seen == [(done, 12) for done in range(1, 13)]


def refuse(item: int) -> int:
    if item == 3:
        raise DataProblem("image 3 holds NaN", "finite numbers", "remove it")
    return item


def test_errors_come_back_as_they_were_raised(workers):
    told = []
    with pytest.raises(DataProblem) as caught:
        workers.sum_over(refuse, range(50), on_error=lambda: told.append(1))
    assert caught.value.line() == "image 3 holds NaN; expected finite numbers; remove it" and told == [1]
    assert caught.value.got == "image 3 holds NaN"
    assert workers.sum_over(abs, range(3)) == 3  # and they go on


def test_relative_names_count_from_the_folder_of_the_job(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("found")
    assert workers.map_over(read_text, ["here.txt"]) == ["found"]
    workers._client.run(os.chdir, "/")  # workers of another scheduler were started elsewhere
    os.chdir(tmp_path)
    assert workers.map_over(read_text, ["here.txt"]) == ["found"]


def read_text(path: str) -> str:
    with open(path) as stream:
        return stream.read()


@pytest.mark.parametrize("place", ["here", "", "http://host:1", "localhost:8786", "Local"])
def test_unknown_places_are_refused(place):
    with pytest.raises(SettingsProblem, match="tcp://host:port"):
        refuse_place(place)


def test_a_queue_needs_a_number():
    with pytest.raises(SettingsProblem, match="--workers"):
        refuse_place("slurm")
    refuse_place("slurm", 4)


@pytest.mark.parametrize("place", ["local", "slurm", "tcp://host:8786"])
def test_without_dask_one_line_says_what_to_install(place, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("distributed", "dask_jobqueue") else find(name)
    )
    with pytest.raises(SettingsProblem) as caught:
        refuse_place(place, 2)
    assert 'pip install "vitreous[cluster]"' in caught.value.line()


def test_nobody_at_the_address_is_one_line(monkeypatch):
    monkeypatch.setattr("vitreous.engine.distributed.PATIENCE", 0.5)
    with (
        pytest.raises(SettingsProblem, match="no scheduler answers at tcp"),
        dask_workers("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.fixture
def scheduler():
    """A running scheduler without workers, as its users start it: its address."""
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options, protocol="tcp://") as cluster:
        yield cluster


def test_a_scheduler_without_workers_says_how_to_start_them(scheduler, monkeypatch):
    monkeypatch.setattr("vitreous.engine.distributed.PATIENCE", 0.5)
    with (
        pytest.raises(SettingsProblem, match=r"0 workers .* `dask worker tcp://"),
        dask_workers(scheduler.scheduler_address),
    ):
        pass


def test_the_workers_of_a_scheduler_are_used_and_stay(scheduler, terms):
    scheduler.scale(2)
    for _ in range(2):
        with dask_workers(scheduler.scheduler_address, 2) as workers:
            assert np.array_equal(workers.sum_over(terms, range(24)), LocalWorkers(1).sum_over(terms, range(24)))
    assert len(scheduler.scheduler_info["workers"]) == 2


def test_workers_of_another_version_are_refused(scheduler, monkeypatch):
    scheduler.scale(1)
    monkeypatch.setattr("vitreous.engine.distributed._version", lambda: "0.0.1")
    with (
        pytest.raises(SettingsProblem, match=r"has vitreous 0\.0\.1; expected vitreous"),
        dask_workers(scheduler.scheduler_address, 1),
    ):
        pass


def test_workers_of_several_threads_are_refused():
    """They would change their folder, and the threads of their linear algebra, under each other."""
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, protocol="tcp://") as cluster,
        pytest.raises(SettingsProblem, match="--nthreads 1"),
        dask_workers(cluster.scheduler_address),
    ):
        pass


def test_dask_is_not_loaded_by_the_jobs_that_may_use_it():
    code = (
        "import sys; import vitreous.jobs.reconstruct, vitreous.jobs.estimate_ctf; from vitreous.jobs.cluster import ClusterOptions, workers_of\n"
        "with workers_of(ClusterOptions(workers=1)) as workers: workers.sum_over(abs, [1])\n"
        "print([name for name in ('distributed', 'dask', 'tornado', 'jax', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_two_and_four_workers_make_the_same_map(blob_files, monkeypatch):
    monkeypatch.setattr(direct_inversion, "SHARD_PER_PIXEL", 3)  # 96 particles in a shard, 10 shards
    particles = read_particles(blob_files / "particles.star")
    settings = InversionSettings(point_group("D2").operators, mask_radius=12.0)
    maps = [reconstruct(particles, settings, workers=LocalWorkers(count)).map for count in (1, 2, 4)]
    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": ":0", "protocol": "inproc://"}
    for count in (1, 2, 4):
        with (
            distributed.LocalCluster(n_workers=count, **options) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            maps.append(reconstruct(particles, settings, workers=DaskWorkers(client)).map)
    assert all(np.array_equal(maps[0], other) for other in maps[1:])
    monkeypatch.setattr(direct_inversion, "SHARD_PER_PIXEL", 2)
    assert not np.array_equal(maps[0], reconstruct(particles, settings).map)  # another cut, other roundings
