"""Particle files of any kind: the format is told by the content, not by the name alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vitreous.errors import FormatProblem, SettingsProblem
from vitreous.io import cryosparc, relion
from vitreous.io.cs_container import CONTAINERS
from vitreous.io.files import require_file
from vitreous.model.particles import Particles

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
SUFFIXES = (".star", ".cs", ".csg")


def read_particles(
    path: str | os.PathLike[str],
    *,
    datadir: Paths | None = None,
    passthrough: Paths = (),
    load_images: bool = True,
    pixel_size: float | None = None,
) -> Particles:
    """The particles of a RELION STAR file or a cryoSPARC .cs or .csg file; see `relion.read_particles` and
    `cryosparc.read_particles`."""
    path = Path(path)
    with open(require_file(path), "rb") as stream:
        start = stream.read(6)
    if start in CONTAINERS.values() or path.suffix == ".csg":
        return cryosparc.read_particles(
            path, passthrough=passthrough, datadir=datadir, load_images=load_images, pixel_size=pixel_size
        )
    if path.suffix == ".cs":
        raise FormatProblem(f"{path} is not a .cs file (it starts with {start!r})", "a cryoSPARC dataset")
    if passthrough != () and passthrough:
        raise SettingsProblem(f"a passthrough file for {path}", "one only for cryoSPARC files")
    return relion.read_particles(path, datadir=datadir, load_images=load_images, pixel_size=pixel_size)


def write_particles(path: str | os.PathLike[str], particles: Particles) -> None:
    """Write particles in the format that the suffix names: .star (RELION 3.1 and later) or .cs (cryoSPARC)."""
    suffix = Path(path).suffix
    if suffix == ".star":
        relion.write_particles(path, particles)
    elif suffix == ".cs":
        cryosparc.write_particles(path, particles)
    else:
        raise SettingsProblem(f"particles cannot be written as '{suffix}' ({path})", "a name that ends in .star or .cs")
