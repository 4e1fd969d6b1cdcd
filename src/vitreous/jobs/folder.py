"""The job folder: everything a job leaves behind, complete or not there at all.

A job works in a hidden folder beside its own, which takes the name of the job folder when everything is written:

    settings.yaml     what was asked for
    result.json       every figure that was printed
    provenance.json   versions, command, inputs with size and hash, seed, machine
    report.html       the result for a person, in one file
    ...               the data products
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import vitreous
from vitreous.errors import OutputProblem, SettingsProblem
from vitreous.io.files import require_file
from vitreous.jobs.job import Desk, Job, Outcome, ProgressOf, quiet
from vitreous.jobs.provenance import fingerprint, provenance

FINISHED = "result.json"


def run_job(
    job: Job, out: Path, *, force: bool = False, progress: ProgressOf = quiet, command: list[str] | None = None
) -> Outcome:
    """Run a job into the folder `out`.

    Raises OutputProblem if `out` holds anything already (with `force` an earlier job's folder is replaced once the new one is
    complete), or if it cannot be written.
    """
    refuse_occupied(out, force)
    refuse_common(job)
    started, clock = datetime.now(UTC), time.perf_counter()
    with work_folder(out, resume_key(job)) as folder:
        outcome = job.run(Desk(folder, progress, out))
        record = provenance(
            command or ["vitreous", job.name],
            [*job.inputs(), *outcome.inputs],
            seed=getattr(job, "seed", None),
            started=started,
            seconds=time.perf_counter() - clock,
        )
        settings = plain(dataclasses.asdict(job))  # type: ignore[call-overload]
        write_json(folder / FINISHED, outcome.as_json())
        write_json(folder / "provenance.json", record)
        write_yaml(folder / "settings.yaml", {"job": job.name, **settings})
        page = outcome.report().html(settings=settings, provenance=record)
        (folder / "report.html").write_text(page, encoding="utf-8")
    return outcome


def run_in_passing(job: Job, progress: ProgressOf = quiet) -> Outcome:
    """Run a job whose findings are all that is wanted: its files go to a folder that is thrown away."""
    refuse_common(job)
    with tempfile.TemporaryDirectory(prefix="vitreous-") as folder:
        return job.run(Desk(Path(folder), progress))


def refuse_occupied(out: Path, force: bool) -> None:
    """Raise OutputProblem if the folder's name is taken by something that must not be replaced."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise OutputProblem(f"{out} is a file", "a folder that does not exist yet", "choose another --out")
    if not any(out.iterdir()):
        return
    if not (out / FINISHED).is_file():
        raise OutputProblem(f"{out} holds files that are not a job's", "an empty or new folder", "choose another --out")
    if not force:
        raise OutputProblem(
            f"{out} holds a finished job", "a new folder", "choose another --out, or give --force to replace it"
        )


def refuse_common(job: Job) -> None:
    """Raise SettingsProblem for what no job can use: a seed that random numbers cannot begin with, a --datadir that is no folder."""
    seed, datadir = getattr(job, "seed", None), getattr(job, "datadir", None)
    if seed is not None and seed < 0:
        raise SettingsProblem(f"--seed {seed}", "0 or more")
    if datadir is not None and not Path(datadir).is_dir():
        raise SettingsProblem(
            f"--datadir {datadir}, which is no folder", "the folder that the names of images start from"
        )


def resume_key(job: Job) -> str | None:
    """What names the work of a job that can go on where it was interrupted: its settings (but those that it lists as `without_effect`
    on the result), inputs and program. None for jobs that start anew (those without `resumable`).
    """
    if not getattr(job, "resumable", False):
        return None
    settings = plain(dataclasses.asdict(job))  # type: ignore[call-overload]
    for name in getattr(job, "without_effect", ()):
        settings.pop(name, None)
    made_of = [
        vitreous.__version__,
        job.name,
        settings,
        [fingerprint(require_file(path))["sha256"] for path in job.inputs()],
    ]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def work_folder(out: Path, key: str | None = None) -> Iterator[Path]:
    """A folder beside `out` to work in. It becomes `out` when the block ends and is removed if the block fails.

    With a `key` what a failed block has finished is kept, and the next block with the same key finds it again; a job then
    puts files into the folder only when they are complete.
    """
    out = Path(os.path.abspath(out))
    work = out.with_name(f".{out.name}.{key or os.getpid()}.partial")
    try:
        work.mkdir(parents=True, exist_ok=key is not None)
        yield work
        replace_folder(work, out)
    except KeyboardInterrupt:
        if key is None or not _holds_files(work):
            raise
        raise KeyboardInterrupt("what is finished is kept: the same command goes on from there") from None
    except OSError as error:
        raise OutputProblem(
            f"{out} cannot be written: {error.strerror or error}",
            "a writable folder with free space",
            "choose another --out",
        ) from error
    finally:
        if key is None or not _holds_files(work):
            shutil.rmtree(work, ignore_errors=True)


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def replace_folder(work: Path, out: Path) -> None:
    """Give `work` the name `out`; what had that name is removed only afterwards."""
    former = out.with_name(f".{out.name}.{os.getpid()}.former")
    if out.exists():
        out.rename(former)
    work.rename(out)
    shutil.rmtree(former, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    import yaml

    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def plain(value: Any) -> Any:
    """The value in terms that JSON and YAML know: numbers that are not finite become null, arrays become lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
