"""Which particle of a method is which particle of the truth: by the names of their images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np

from vitreous.errors import DataProblem
from vitreous.model.particles import ImageName


def matched_rows(own: ImageName, truth: ImageName, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(Rows of `own`, rows of `truth`) of the images that both have, in the order of `own`.

    An image is its number in a stack. A stack may be told from different folders in the two files: it is the one of the truth with which it
    shares the most names at the end of its path, the file's name at least. Raises DataProblem, speaking of `name`, if there is no such image, if a stack
    could be one of several, or if an image is listed twice.
    """
    same = _same_stack(own, truth, name)
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


def _same_stack(own: ImageName, truth: ImageName, name: str) -> np.ndarray:
    """For each stack of `own` that of the truth, -1 for none."""
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
            same[index] = best[0]
    return same


def _shared_end(a: PurePosixPath, b: PurePosixPath) -> int:
    """How many names at the end of two paths are the same."""
    pairs = list(zip(reversed(a.parts), reversed(b.parts)))
    return next((count for count, (one, other) in enumerate(pairs) if one != other), len(pairs))
