"""Workers in the jobs of a SLURM queue, through dask-jobqueue."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vitreous.errors import SettingsProblem

# Dask has workers give memory back at every opportunity, only to take it again page by page. A worker's environment overrules that.
KEEP_MEMORY = f"export MALLOC_TRIM_THRESHOLD_={2**28} MALLOC_MMAP_THRESHOLD_={2**25}"
NEEDED = ("cores", "memory")  # of a job, in Dask's configuration under jobqueue.slurm


@contextmanager
def slurm_cluster(workers: int) -> Iterator[Any]:
    """A Dask cluster of `workers` processes of one thread, whose jobs the queue has taken; they end with the block.

    A job is what Dask's configuration says under jobqueue.slurm (cores, memory, queue, walltime, ...), and runs one process for each of its
    cores. Raises SettingsProblem if that lacks something, or if the queue refuses the job.
    """
    import dask.config as dask_config

    former = signal.getsignal(signal.SIGINT)
    from dask_jobqueue.slurm import SLURMCluster

    signal.signal(signal.SIGINT, former)  # loading dask-jobqueue replaces what an interruption does
    said = dask_config.get("jobqueue.slurm", {})
    if missing := [name for name in NEEDED if said.get(name) is None]:
        raise SettingsProblem(
            f"--cluster slurm without {' and '.join(missing)} of a job",
            "them in Dask's configuration",
            f"set {' and '.join(f'jobqueue.slurm.{name}' for name in missing)}",
        )
    refusals: list[Exception] = []
    options: dict[str, Any] = {
        "job_cls": _noting_job(refusals),
        "processes": said["cores"],
        "job_script_prologue": [*(dask_config.get("jobqueue.slurm.job-script-prologue", None) or ()), KEEP_MEMORY],
        "scheduler_options": {"dashboard_address": ":0"},  # any free port: that of the next command would be taken
        "silence_logs": logging.CRITICAL,
    }
    made: Any = SLURMCluster(**options)
    with made as cluster:

        async def handed_over() -> None:
            await cluster

        cluster.scale(n=workers)
        cluster.sync(handed_over)
        if refusals:
            raise SettingsProblem(
                f"the queue did not take the job: {str(refusals[0]).strip().splitlines()[-1]}",
                "SLURM's sbatch, and a job that it accepts",
                "look at jobqueue.slurm in Dask's configuration",
            )
        yield cluster


def _noting_job(refusals: list[Exception]) -> type:
    """The class of a job that puts into `refusals` why it could not be handed over, which Dask only logs."""
    from dask_jobqueue.slurm import SLURMJob
    from distributed.deploy.spec import ProcessInterface

    class Job(SLURMJob):
        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                refusals.append(error)
                await ProcessInterface.start(self)

        async def close(self) -> None:
            await super().close()
            await ProcessInterface.close(self)  # which SLURMJob leaves out, and the cluster expects

    return Job
