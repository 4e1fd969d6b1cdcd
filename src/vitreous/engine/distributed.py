"""Workers in other processes, on this machine or on others, through Dask. A worker that is lost costs time and changes nothing.

Functions and items travel, results come back and are added here in the order of the items. What a lost worker had in work, and what it
had finished but not delivered, is computed again by another: the function is pure, so the result is the same. Pixels do not travel:
workers read them from the files, which all of them must see under the same names.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import cache
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import vitreous
from vitreous.engine.local import Progress
from vitreous.engine.single_thread import SingleThread
from vitreous.engine.slurm_queue import slurm_cluster
from vitreous.engine.workers import IN_FLIGHT_PER_WORKER, OrderedWorkers, available_cores, in_order
from vitreous.errors import SettingsProblem, VitreousError

Item = TypeVar("Item")
Result = TypeVar("Result")

PLACES = "local, tcp://host:port, or slurm"
PATIENCE = 30.0  # seconds for a scheduler to answer, and for its workers to be there
# Of Dask, for the processes that are started here: it would have them give memory back at every opportunity, only to take it again page by
# page, and look at what they do a hundred times a second.
CONFIGURATION = {
    "distributed.nanny.pre-spawn-environ": dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    ),
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
}
INSTALL = 'pip install "vitreous[cluster]"'


def refuse_place(cluster: str, workers: int | None = None) -> None:
    """Raise SettingsProblem for a place that is none of those known, or needs what is not installed or not said."""
    if cluster not in ("local", "slurm") and not cluster.startswith(("tcp://", "tls://")):
        raise SettingsProblem(f"--cluster {cluster}", PLACES)
    needed = ["distributed", "dask_jobqueue"] if cluster == "slurm" else ["distributed"]
    if any(importlib.util.find_spec(module) is None for module in needed):
        raise SettingsProblem(f"--cluster {cluster} without Dask", "the packages of the cluster extra", INSTALL)
    if cluster == "slurm" and workers is None:
        raise SettingsProblem("--cluster slurm without --workers", "how many workers to ask the queue for")


@contextmanager
def dask_workers(cluster: str, workers: int | None = None) -> Iterator[DaskWorkers]:
    """Workers of a place, for as long as the block lasts.

    `local`: `workers` processes of one thread on this machine (default: one for each core). `slurm`: `workers` processes of one thread in
    jobs that Dask's configuration (jobqueue.slurm: queue, cores, memory, walltime) describes; the work begins with the first that the
    queue starts. An address: the workers of that scheduler, which stay when the block ends; at least `workers` of them are waited for.

    Raises SettingsProblem if nobody answers, or if a worker has more than one thread, no vitreous, or another version of it.
    """
    refuse_place(cluster, workers)
    from distributed import Client

    with ExitStack() as stack:
        if cluster == "local":
            place = stack.enter_context(_local_place(workers))
            client = stack.enter_context(Client(place, set_as_default=False))
            _wait_for(client, workers or available_cores(), cluster)
        elif cluster == "slurm":
            client = stack.enter_context(Client(stack.enter_context(slurm_cluster(workers or 1)), set_as_default=False))
            client.wait_for_workers(1)  # as long as the queue is
        else:
            client = stack.enter_context(_connected(cluster))
            _wait_for(client, workers or 1, cluster)
        _refuse_unfit(client, cluster)
        yield DaskWorkers(client)


class DaskWorkers(OrderedWorkers):
    """The workers of a `distributed.Client`. Functions, items and results travel as pickles."""

    def __init__(self, client: Any):
        self._client = client

    @property
    def count(self) -> int:
        """Threads of all workers at this moment, at least 1."""
        return max(1, sum(self._client.nthreads().values()))

    def results(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        at_once: int | None,
        on_error: Callable[[], None],
        progress: Progress,
        *,
        bounded: bool,
    ) -> Generator[Result, None, None]:
        """The results, each brought here as soon as it is there."""
        import cloudpickle
        import dask.config as dask_config

        with dask_config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            # A task and not scattered data: the scheduler can make it again when the workers that hold it are lost.
            shared = self._client.submit(_unpacked, cloudpickle.dumps(function, protocol=5), pure=False)
        pool, folder = self._client.get_executor(pure=False), os.getcwd()
        try:
            yield from in_order(
                lambda item: pool.submit(_worked, shared, folder, cloudpickle.dumps(item, protocol=5)),
                items,
                lambda: min(at_once or len(items), IN_FLIGHT_PER_WORKER * self.count),
                progress,
                bounded=bounded,
            )
        except BaseException as error:
            on_error()
            if (told := _told(error)) is not None:
                raise told from error
            raise


def _unpacked(pickled: bytes) -> Any:
    import pickle

    return pickle.loads(pickled)


def _worked(function: Callable[[Any], Any], folder: str, pickled: bytes) -> Any:
    """In a worker: the function of one item, in the folder in which the job was started, from which relative names of files count."""
    import pickle

    try:
        os.chdir(folder)
    except OSError as error:
        raise SettingsProblem(
            f"a worker on {socket.gethostname()} does not see {folder}",
            "workers that have the job's folders under the same names",
            "use a file system that all of them share",
        ) from error
    _single_thread().hold()
    return function(pickle.loads(pickled))


@cache
def _single_thread() -> SingleThread:
    """Of a process that does nothing but work: linear algebra stays on one thread."""
    return SingleThread()


def _told(error: BaseException) -> VitreousError | None:
    """What to say about a failure of the cluster; None for other errors."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    if isinstance(error, KilledWorker):
        return VitreousError(
            "the same part of the work ended several workers",
            "workers that survive it",
            "give them more memory, or fewer of them to a machine",
        )
    if isinstance(error, CancelledError | CommClosedError):
        return VitreousError("the scheduler was lost", "a scheduler that runs until the work is done", "start again")
    return None


def _local(workers: int | None) -> Any:
    import dask.config as dask_config
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "n_workers": workers or available_cores(),
        "threads_per_worker": 1,
        "memory_limit": 0,  # the machine's: a limit of Dask's own would stop workers that the job needs
        "dashboard_address": ":0",  # any free port: that of the next job would be taken
        "silence_logs": logging.CRITICAL,
        "local_directory": tempfile.gettempdir(),
    }
    with _children_deaf_to_interruptions(), dask_config.set(CONFIGURATION):
        return LocalCluster(**options)


@contextmanager
def _local_place(workers: int | None) -> Iterator[Any]:
    """Processes on this machine, ended with the block."""
    place = _local(workers)
    try:
        yield place
    finally:
        _let_start(place)
        try:
            place.close()
        except AssertionError:  # Dask began to start one after all, in place of one that died just now
            _let_start(place)
            place.close()


def _let_start(place: Any) -> None:
    """Wait for a worker that is being started in place of one that died: Dask cannot end a process before it runs."""
    from distributed.core import Status

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(
        nanny.process is not None and nanny.process.status in (Status.init, Status.starting)
        for nanny in list(place.workers.values())
    ):
        time.sleep(0.05)


@contextmanager
def _children_deaf_to_interruptions() -> Iterator[None]:
    """A terminal interrupts all processes of a command; only this one is to act on it. Threads begun inside, and the processes that these
    start at any time, have the signal blocked."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it unblocks the signal where it is started
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _connected(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SettingsProblem(
            f"no scheduler answers at {address}", "a running Dask scheduler", "start one with `dask scheduler`"
        ) from error


def _wait_for(client: Any, workers: int, cluster: str) -> None:
    try:
        client.wait_for_workers(workers, timeout=PATIENCE)
    except TimeoutError as error:
        raise SettingsProblem(
            f"{len(client.nthreads())} workers at {cluster} after {PATIENCE:.0f} seconds",
            f"{workers}",
            f"start them with `dask worker {cluster} --nthreads 1`",
        ) from error


def _refuse_unfit(client: Any, cluster: str) -> None:
    """Raise SettingsProblem for a worker that would compute something else, or several items at a time in one process."""
    for address, answer in client.run(_version, on_error="return").items():
        if answer != vitreous.__version__:
            has = "no vitreous" if isinstance(answer, BaseException) else f"vitreous {answer}"
            raise SettingsProblem(
                f"worker {address} of {cluster} has {has}", f"vitreous {vitreous.__version__}, as here"
            )
    for address, threads in client.nthreads().items():
        if threads != 1:
            raise SettingsProblem(
                f"worker {address} of {cluster} has {threads} threads",
                "workers of one thread",
                "start them with --nthreads 1, and --nworkers for more of them",
            )


def _version() -> str:
    return vitreous.__version__
