"""Where the work of a job is done: in this process, in several on this machine, or on other machines."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from vitreous.engine.workers import LocalWorkers, Workers
from vitreous.errors import SettingsProblem


@dataclass(frozen=True)
class ClusterOptions:
    """The options of jobs whose work can be shared out. The result is the same whoever does it. Name it before bases with arguments that stand by their place.

    Parameters
    ----------
    workers
        How much is computed at the same time: threads (starts of abinitio: processes), or with --cluster processes of one thread; by default one for each core.
    cluster
        Where: local (processes on this machine), tcp://host:port (a Dask scheduler), or slurm (jobs that Dask's settings describe); by default in this process.
    """

    workers: int | None = field(default=None, kw_only=True)
    cluster: str | None = field(default=None, kw_only=True)

    # Who does the work is no part of what the work is: an interrupted job goes on with other workers.
    without_effect: ClassVar[tuple[str, ...]] = ("workers", "cluster")

    def __post_init__(self) -> None:
        refuse_workers(self.workers, self.cluster)


def refuse_workers(workers: int | None, cluster: str | None) -> None:
    """Raise SettingsProblem for workers that cannot be had, before any work is done."""
    if workers is not None and workers < 1:
        raise SettingsProblem(f"--workers {workers}", "at least 1")
    if cluster is None:
        return
    from vitreous.engine.distributed import refuse_place

    refuse_place(cluster, workers)


@contextmanager
def workers_of(options: ClusterOptions, local: Callable[[int | None], Workers] = LocalWorkers) -> Iterator[Workers]:
    """The workers that the options of a job name, for as long as the block lasts.

        with workers_of(self) as workers:
            total = workers.sum_over(function, items, progress=desk.progress("stage"))

    `local` makes those of this machine where no cluster is named: threads, or `ProcessWorkers`.

    Raises SettingsProblem if they cannot be had: no such cluster, nobody answers, Dask is not installed.
    """
    refuse_workers(options.workers, options.cluster)
    if options.cluster is None:
        yield local(options.workers)
        return
    from vitreous.engine.distributed import dask_workers

    with dask_workers(options.cluster, options.workers) as workers:
        yield workers
