"""`vitreous info`: what is in a file."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vitreous.cli.run_command import Json
from vitreous.errors import SettingsProblem
from vitreous.io.info import describe
from vitreous.jobs.folder import plain


def run(
    *files: Annotated[Path, Parameter(help="Maps, stacks, STAR and .cs files, atomic models")], json: Json = False
) -> int:
    """Print facts about each file."""
    if not files:
        raise SettingsProblem("no file", "at least one", "name the files to look at")
    facts = [describe(path) for path in files]
    if json:
        print(json_text.dumps(plain(facts), indent=1, ensure_ascii=False))
        return 0
    for about in facts:
        print(about.pop("path"))
        for name, value in about.items():
            for line in lines_of(name.replace("_", " "), value):
                print(f"  {line}")
    return 0


def lines_of(name: str, value: Any) -> list[str]:
    """A fact as lines: nested facts are indented, lists of names are wrapped into one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = [", ".join(f"{key.replace('_', ' ')} {text_of(item)}" for key, item in row.items()) for row in value]
        return [f"{name}:", *(f"  {row}" for row in rows)]
    if isinstance(value, list | tuple):
        return [f"{name:<18} {' '.join(text_of(item) for item in value)}"]
    if isinstance(value, dict):
        return [f"{name:<18} {', '.join(f'{key} {text_of(item)}' for key, item in value.items())}"]
    return [f"{name:<18} {text_of(value)}"]


def text_of(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
