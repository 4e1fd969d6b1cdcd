"""Which particle of a method is which particle of the truth: by the names of their images."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from vitreous.errors import DataProblem
from vitreous.io.images import find_stack
from vitreous.io.particles import read_particles
from vitreous.model.particles import ImageName

COMPARED = 1 << 16  # bytes, at the end of two stacks


@dataclass(frozen=True)
class ListedImages:
    """The images that a particle file lists, and the folder of the file, in which their names start."""

    names: ImageName
    folder: Path

    @classmethod
    def of(cls, path: Path) -> ListedImages:
        return cls(read_particles(path, load_images=False).names, path.parent)

    def __len__(self) -> int:
        return len(self.names)


def matched_rows(own_list: ListedImages, truth_list: ListedImages, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(Rows of `own_list`, rows of `truth_list`) of the images that both have, in the order of the first.

    An image is its number in a stack. A stack may be told from different folders in the two files: it is the one of the truth with which it
    shares the most names at the end of its path, the file's name at least; but not if both are there and differ in content.
    Raises DataProblem, speaking of `name`, if there is no such image, if a stack could be one of several, or if an image is listed twice.
    """
    own, truth = own_list.names, truth_list.names
    same = _same_stack(own_list, truth_list, name)
    span = 1 + int(max(own.index.max(), truth.index.max()))
    code = same[own.path_code]
    own_key = np.where(code >= 0, code.astype(np.int64) * span + own.index, -1)
    truth_key = truth.path_code.astype(np.int64) * span + truth.index
    known = np.flatnonzero(own_key >= 0)
    for keys, whose in ((own_key[known], name), (truth_key, "the truth")):
        if len(np.unique(keys)) < len(keys):
            raise DataProblem(f"{whose} lists an image twice", "each image once", "leave the copies out")
    order = np.argsort(truth_key)
    place = np.minimum(np.searchsorted(truth_key, own_key, sorter=order), len(order) - 1)
    rows = order[place]
    found = (own_key >= 0) & (truth_key[rows] == own_key)
    if not found.any():
        raise DataProblem(
            f"{name} has no image of the truth ({own.text(0)} beside {truth.text(0)})",
            "particles of the simulated ensemble",
            "give the --truth that its particles were made with",
        )
    return np.flatnonzero(found), rows[found]


def _same_stack(own_list: ListedImages, truth_list: ListedImages, name: str) -> np.ndarray:
    """For each stack of the first that of the truth, -1 for none."""
    own, truth = own_list.names, truth_list.names
    by_file: dict[str, list[int]] = defaultdict(list)
    for index in np.unique(truth.path_code):
        by_file[PurePosixPath(truth.paths[index]).name].append(int(index))
    same = np.full(len(own.paths), -1, dtype=np.int64)
    for index in np.unique(own.path_code):
        path = PurePosixPath(own.paths[index])
        shared = {one: _shared_end(path, PurePosixPath(truth.paths[one])) for one in by_file[path.name]}
        best = [one for one, length in shared.items() if length == max(shared.values())]
        if len(best) > 1:
            raise DataProblem(
                f"the stack {path} of {name} could be {' or '.join(truth.paths[one] for one in best[:2])} of the truth",
                "names of stacks that say which is which",
            )
        if best:
            files = find_stack(str(path), own_list.folder), find_stack(truth.paths[best[0]], truth_list.folder)
            same[index] = -1 if _differ(*files) else best[0]
    return same


def _differ(one: Path | None, other: Path | None) -> bool:
    """Whether two stacks are both there and are not copies of each other, as far as their size and their ends tell."""
    if one is None or other is None or os.path.samefile(one, other):
        return False
    size = one.stat().st_size
    if size != other.stat().st_size:
        return True
    with open(one, "rb") as first, open(other, "rb") as second:
        for stream in (first, second):
            stream.seek(max(0, size - COMPARED))
        return first.read() != second.read()


def _shared_end(a: PurePosixPath, b: PurePosixPath) -> int:
    """How many names at the end of two paths are the same."""
    pairs = list(zip(reversed(a.parts), reversed(b.parts)))
    return next((count for count, (one, other) in enumerate(pairs) if one != other), len(pairs))
