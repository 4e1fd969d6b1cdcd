"""`vitreous conformance`: where a program stands with the numbers of the physics contract."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.run_command import Json, progress_bars
from vitreous.conformance.check import Check
from vitreous.conformance.contract import contract
from vitreous.conformance.display import as_json, lines_of
from vitreous.conformance.exchange import answers_from_csv, contract_as_csv
from vitreous.conformance.verdict import Status, judge, run_checks, tally
from vitreous.errors import FileProblem, OutputProblem, SettingsProblem
from vitreous.io.files import require_file

FAULTS_FOUND = 1


def run(
    *,
    section: Annotated[
        list[str],
        Parameter(help="Only these sections: a to f, b1 to b12; b is all of these", consume_multiple=True, negative=()),
    ] = [],  # noqa: B006
    failed: Annotated[bool, Parameter(negative=(), help="Print only the numbers that failed, and the sums")] = False,
    table: Annotated[Path | None, Parameter(help="Write the contract as CSV, without answers, and run nothing")] = None,
    answers: Annotated[
        Path | None, Parameter(help="Judge another program: a CSV file of its answers, with columns id and got")
    ] = None,
    json: Json = False,
) -> int:
    """Print each number of the contract: expected, got, tolerance. Exit code 0: no number failed; 1: at least one."""
    if table is not None and (answers is not None or failed or json):
        raise SettingsProblem("--table with --answers, --failed or --json", "--table alone or with --section")
    checks = contract(section)
    if table is not None:
        write_contract(table, checks)
        return 0
    if answers is None:
        with progress_bars(quiet=json) as progress:
            verdicts = run_checks(checks, progress("conformance"))
    else:
        verdicts = judge(checks, read_answers(answers, {check.id for check in checks}))
    if json:
        print(json_text.dumps(as_json(verdicts), indent=1, ensure_ascii=False))
    else:
        print("\n".join(lines_of(verdicts, failed_only=failed)))
    return FAULTS_FOUND if tally(verdicts)[Status.FAIL] else 0


def write_contract(path: Path, checks: list[Check]) -> None:
    """The contract without answers; an existing file is kept."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(contract_as_csv(checks))
    except FileExistsError:
        raise OutputProblem(f"{path} exists already", "a new file", "choose another name") from None
    except OSError as error:
        raise OutputProblem(f"{path} cannot be written: {error.strerror}", "a folder that can be written to") from None
    print(f"{len(checks)} numbers in {path}")


def read_answers(path: Path, ids: set[str]) -> dict[str, float]:
    """Another program's answers to these ids; an id of a section that was not asked for is allowed, and left out."""
    try:
        text = require_file(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FileProblem(f"{path} is not text in UTF-8", "a CSV file with the columns id and got") from None
    return {id: got for id, got in answers_from_csv(text, contract()).items() if id in ids}
