"""Good and bad particles: how many of those that a selection keeps are good, and how many of the good ones it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from vitreous.model.particles import Particles


@dataclass(frozen=True)
class Kept:
    """Of a selection: the fraction of the good ones that it keeps (recall), and the fraction of its own that are good (precision)."""

    recall: float
    precision: float
    count: int


def image_keys(particles: Particles) -> list[tuple[int, str]]:
    """What names an image whatever folder its stack is told from: its number and the file name of the stack."""
    names = particles.names
    files = [PurePosixPath(path).name for path in names.paths]
    return [(int(index), files[code]) for index, code in zip(names.index, names.path_code)]


def is_among(particles: Particles, others: Particles) -> np.ndarray:
    """Which particles are among the others, by image, [n]."""
    known = set(image_keys(others))
    return np.array([key in known for key in image_keys(particles)], dtype=bool)


def kept(selected: np.ndarray, good: np.ndarray) -> Kept:
    """Recall and precision of a selection [n] of particles of which `good` [n] are; nan where there is nothing to divide by."""
    both = int((selected & good).sum())
    count, wanted = int(selected.sum()), int(good.sum())
    return Kept(both / wanted if wanted else np.nan, both / count if count else np.nan, count)


def by_class(class_index: np.ndarray, score: Sequence[float], good: np.ndarray) -> list[Kept]:
    """What is kept with the best class, the best two, ... by `score` [k], higher being better."""
    order = np.argsort(-np.asarray(score), kind="stable")
    return [kept(np.isin(class_index, order[: number + 1]), good) for number in range(len(order))]


def by_particle(score: np.ndarray, good: np.ndarray) -> list[Kept]:
    """What is kept with the best particle, the best two, ... by `score` [n], higher being better."""
    found = np.cumsum(good[np.argsort(-score, kind="stable")])
    wanted = max(int(good.sum()), 1)
    return [Kept(hits / wanted, hits / count, count) for count, hits in enumerate(found.tolist(), start=1)]


def precision_at(curve: Sequence[Kept], recall: float) -> float:
    """The precision of the first point that reaches this recall; nan if none does."""
    return next((point.precision for point in curve if point.recall >= recall), np.nan)


def share_good(class_index: np.ndarray, classes: int, good: np.ndarray) -> np.ndarray:
    """The fraction of good particles in each class [k], 0 for an empty one: a score that knows the answer, and so the best that any order of the classes can do."""
    count = np.bincount(class_index, minlength=classes)
    return np.bincount(class_index, weights=good, minlength=classes) / np.maximum(count, 1)
