"""What all commands share: parsing by the function's own signature, progress bars, and printing results."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter

from vitreous.cli import BAD_INPUT, COMMANDS, Command
from vitreous.engine.local import Progress
from vitreous.errors import SettingsProblem
from vitreous.jobs.folder import plain, run_in_passing, run_job

if TYPE_CHECKING:
    from vitreous.jobs.job import Job, Outcome

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as JSON")]
Force = Annotated[bool, Parameter(negative=(), help="Replace the folder of a finished job")]
Out = Annotated[Path, Parameter(help="The job folder to write, a new one")]
Flat = Parameter(name="*")  # the fields of a settings dataclass become the command's own options

SECONDS_BEFORE_BAR = 2.0


def run_command(command: Command, function: Callable[..., int | None], arguments: list[str]) -> int:
    """Parse the arguments by the function's signature and call it."""
    name = " ".join(("vitreous", *command.words))
    app = App(
        name=name,
        default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
        help=f"{command.summary}.\n\nExample: `{command.example}`{family(command)}",
        version_flags=(),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    app.default(function)
    try:
        return app(arguments, exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        if isinstance(error.__cause__, SettingsProblem):
            raise error.__cause__ from error
        message = " ".join(str(error).split())
        print(f"{name}: error: {message} See `{name} --help`.", file=sys.stderr)
        return BAD_INPUT


def family(command: Command) -> str:
    """What a command's help says of those whose names begin with its own."""
    count = len(command.words)
    others = [c for c in COMMANDS if c.words[:count] == command.words and len(c.words) > count]
    return "".join(f"\n\n`vitreous {' '.join(other.words)}`: {other.summary}." for other in others)


def run_and_print(job: Job, out: Path, *, force: bool, as_json: bool) -> int:
    """Run a job into its folder and print its findings."""
    with progress_bars(quiet=as_json) as progress:
        outcome = run_job(job, out, force=force, progress=progress, command=["vitreous", *sys.argv[1:]])
    print_outcome(outcome, as_json=as_json)
    if not as_json:
        print(f"\n{out / 'report.html'}")
    return 0


def run_with_or_without_folder(job: Job, out: Path | None, *, force: bool, quiet: bool) -> Outcome:
    """Run a job whose folder is written only if it is asked for."""
    with progress_bars(quiet=quiet) as progress:
        if out is None:
            return run_in_passing(job, progress)
        return run_job(job, out, force=force, progress=progress, command=["vitreous", *sys.argv[1:]])


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Findings on stdout, as lines or as JSON; warnings on stderr."""
    if as_json:
        print(json.dumps(plain(outcome.as_json()), indent=1, ensure_ascii=False))
        return
    width = max((len(f.label) for f in outcome.findings), default=0)
    for finding in outcome.findings:
        print(f"{finding.label:<{width}}  {finding.text} {finding.unit}".rstrip())
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)


@contextmanager
def progress_bars(*, quiet: bool = False):
    """Yield a function that gives each stage its bar, with time left, on stderr; a bar appears once its stage has run two seconds."""
    bars = _Bars(enabled=not quiet and sys.stderr.isatty())
    try:
        yield bars.stage
    finally:
        bars.close()


class _Bars:
    def __init__(self, *, enabled: bool):
        self._enabled, self._display = enabled, None

    def stage(self, name: str) -> Progress:
        started, task = time.monotonic(), None

        def report(done: int, total: int) -> None:
            nonlocal task
            if not self._enabled or time.monotonic() - started < SECONDS_BEFORE_BAR:
                return
            display = self._started()
            if task is None:
                task = display.add_task(name, total=total)
            display.update(task, completed=done, total=total)

        return report

    def _started(self):
        if self._display is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._display = Progress(*columns, console=Console(stderr=True), transient=True)
            self._display.start()
        return self._display

    def close(self) -> None:
        if self._display is not None:
            self._display.stop()
