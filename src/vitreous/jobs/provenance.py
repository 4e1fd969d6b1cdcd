"""Provenance: what made a result. Versions, command, inputs with size and hash, seed, machine, time."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vitreous

# Files up to this size are hashed whole; of larger ones the first, middle and last megabyte.
WHOLE = 16 * 2**20
PIECE = 2**20
LIBRARIES = ("numpy", "scipy", "numba", "jax", "finufft", "mrcfile", "gemmi")


def provenance(
    command: list[str], inputs: Iterable[Path], *, seed: int | None, started: datetime, seconds: float
) -> dict[str, Any]:
    """A record that says how to make the result again."""
    return {
        "program": "vitreous",
        "version": vitreous.__version__,
        "command": command,
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "seed": seed,
        "inputs": [fingerprint(path) for path in inputs],
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "byte_order": sys.byteorder,
        },
    }


def fingerprint(path: Path) -> dict[str, Any]:
    """Path, size, time of change, and SHA-256 of a file; of a large file the hash of three pieces, and the record says so."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
            hashed = "all"
        else:
            for start in (0, (size - PIECE) // 2, size - PIECE):
                file.seek(start)
                digest.update(file.read(PIECE))
            hashed = "first, middle and last MiB"
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return {"path": str(path), "bytes": size, "modified": changed, "sha256": digest.hexdigest(), "sha256_of": hashed}
