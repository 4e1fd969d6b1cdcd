"""cryoSPARC datasets that lie in several files: groups (.csg) and passthrough files, joined row by row through
`uid`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.cs_container import read_dataset
from vitreous.io.files import require_file
from vitreous.model.table import Table

UID = "uid"


def read_group(path: str | os.PathLike[str]) -> Table:
    """The dataset that a .csg file describes: each result (blob, ctf, alignments3D, ...) from the file that the group
    names for it.

    The rows and their order are those of the first file that is not a passthrough. Raises FormatProblem for a group
    without results, FileProblem for a file that is missing, DataProblem for rows that one of the files does not have.
    """
    path = require_file(path)
    results = _results(path)
    files = {name: _locate(path, metafile) for name, metafile in results.items()}
    tables = {file: read_dataset(file) for file in dict.fromkeys(files.values())}
    first = min(tables, key=lambda file: ("passthrough" in file.name, list(tables).index(file)))
    uids = _uids(tables[first], first)
    columns: dict[str, Any] = {UID: tables[first][UID]}
    for name, file in files.items():
        rows = slice(None) if file == first else matching_rows(uids, _uids(tables[file], file), str(file))
        columns.update({column: tables[file][column][rows] for column in tables[file] if column.startswith(name + "/")})
    return Table(columns)


def _results(path: Path) -> dict[str, str]:
    import yaml

    try:
        content = yaml.safe_load(path.read_bytes())
        results = content["results"]
        named = {str(name): str(result["metafile"]) for name, result in results.items()}
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatProblem(
            f"{path} is not a cryoSPARC group ({type(error).__name__})", "YAML with 'results', each with a 'metafile'"
        ) from None
    if not named:
        raise FormatProblem(f"{path} names no results", "at least one result with a 'metafile'")
    return named


def _locate(group: Path, metafile: str) -> Path:
    """A leading '>' means: beside the group. Other names start from the project's folder, one of the parents."""
    name = metafile.removeprefix(">")
    for folder in (group.parent, *group.resolve().parent.parents):
        if (folder / name).is_file():
            return folder / name
    raise FileProblem(
        f"{group} names {name}, which is neither beside it nor above", "the .cs files of the group", "copy them too"
    )


def with_passthrough(table: Table, passthrough: Sequence[str | os.PathLike[str]], name: str) -> Table:
    """The dataset with the columns that it lacks, taken from passthrough files by `uid`; their order does not
    matter."""
    for file in passthrough:
        other = read_dataset(file)
        missing = [column for column in other if column not in table]
        if missing:
            rows = matching_rows(_uids(table, name), _uids(other, file), str(file))
            table = table.with_columns({column: other[column][rows] for column in missing})
    return table


def _uids(table: Table, file: Any) -> np.ndarray:
    if UID not in table:
        raise DataProblem(
            f"{file} has no column '{UID}'", "the identity of each row", "give the .cs file as cryoSPARC wrote it"
        )
    return np.asarray(table[UID])


def matching_rows(wanted: np.ndarray, given: np.ndarray, name: str) -> np.ndarray:
    """For each wanted uid the row of `given` that has it. Raises DataProblem if one is missing or ambiguous."""
    order = np.argsort(given, kind="stable")
    ordered = given[order]
    place = np.searchsorted(ordered, wanted).clip(max=max(len(given) - 1, 0))
    missing = ordered[place] != wanted if len(given) else np.ones(len(wanted), dtype=bool)
    if missing.any():
        raise DataProblem(
            f"{name} lacks {int(missing.sum())} of {len(wanted)} rows, the first with uid {wanted[np.argmax(missing)]}",
            "a row for every particle",
            "give the passthrough file of the same job",
        )
    repeated = np.zeros(len(given), dtype=bool)
    repeated[:-1] = ordered[1:] == ordered[:-1]
    if repeated[place].any():
        raise DataProblem(f"{name} has the uid {wanted[int(np.argmax(repeated[place]))]} twice", "each uid once")
    return order[place]
