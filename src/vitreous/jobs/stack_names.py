"""Names of stacks in the particle files that jobs write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitreous.io.images import find_stack
from vitreous.model.particles import Particles


def lasting_names(particles: Particles, source: Path, place: Path, datadir: Sequence[Path] = ()) -> Particles:
    """The particles with image names that still lead to their stacks from a particle file in the folder `place`.

    Names that lead from there to the same stack stay as they are. Others are told from the current folder if stack and `place` lie in it, as
    RELION tells names from its project folder, else in full. Names that lead nowhere stay.
    """
    paths = []
    for name in particles.names.paths:
        stack = find_stack(name, source.parent, datadir)
        found = find_stack(name, place)
        if stack is None or (found is not None and os.path.samefile(found, stack)):
            paths.append(name)
            continue
        here, full = Path.cwd().resolve(), Path(os.path.abspath(stack))
        inside = full.is_relative_to(here) and Path(os.path.abspath(place)).is_relative_to(here)
        paths.append(str(full.relative_to(here)) if inside else str(full))
    return replace(particles, names=replace(particles.names, paths=tuple(paths)))
