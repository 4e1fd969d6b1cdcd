"""The programs that are compared: where they are, which version they are, how to install those that are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import environment

PEERS = Path(__file__).with_name(".peers")


@dataclass(frozen=True)
class Program:
    """An installed program."""

    name: str
    path: str
    version: str

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


def vitreous() -> Program:
    """The `vitreous` of the Python that runs this, else of PATH."""
    program = find("vitreous", "vitreous", [Path(sys.executable).parent])
    if program is None:
        sys.exit("vitreous is not installed: run `uv run python benchmarks/...`, or `pip install -e .` first")
    return program


def relion_reconstruct() -> Program | None:
    """RELION's reconstruction program, or None after a line that says how to get it."""
    return found(find("RELION", "relion_reconstruct"), "RELION", "apt-get install --no-install-recommends relion")


def cryodrgn(path: str | None = None) -> Program | None:
    """cryoDRGN's program, or None after a line that says how to get it."""
    peers = os.path.relpath(PEERS)
    command = f"python -m venv {peers}; {peers}/bin/pip install torch==2.13.0 cryodrgn==4.3.1"
    return found(find("cryoDRGN", path or "cryodrgn", [PEERS / "bin"]), "cryoDRGN", command)


def found(program: Program | None, name: str, command: str) -> Program | None:
    if program is None:
        print(f"{name} is not installed and is left out; to install it: {command}")
    return program


def find(name: str, executable: str, folders: list[Path] | None = None) -> Program | None:
    """The program, looked for in the folders and then in PATH; None where it is not."""
    places = os.pathsep.join([*map(str, folders or []), os.environ.get("PATH", "")])
    path = shutil.which(executable, path=places)
    return None if path is None else Program(name, os.path.abspath(path), version_of(path))


def version_of(path: str) -> str:
    """The first thing that looks like a version in what `--version` prints."""
    result = subprocess.run([path, "--version"], capture_output=True, text=True, env=environment(), check=False)
    number = re.search(r"\d+\.\d+[\w.]*", result.stdout + result.stderr)
    return number.group() if number else "of unknown version"
