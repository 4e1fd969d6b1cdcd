"""Quality of a class: how much its average looks like the projection of one molecule, as a number from 0 to 1.

Five parts, each from 0 to 1, each told by the data alone:

- detail: the finest spatial frequency at which the average has more signal than noise, over that of the best classes;
- evidence: what a particle of the class gains by being of this class instead of noise (mean log evidence), over that of the best classes;
- compactness: whether the average has its variance inside the mask rather than at its edge, as neighbours, edges of carbon and drifts of ice have;
- certainty: mean posterior probability with which the particles belong to the class;
- size: N / (N + N0), the share of an average's variance that is not the noise of few particles; N0 is a tenth of the mean class.

The quality is their geometric mean: a class that fails in one part fails. "The best classes" are those that hold the best tenth of the
particles, so that one small odd class does not set the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.classification import Classification

if TYPE_CHECKING:
    from jaxtyping import Float, Int

BEST = 0.9  # quantile over particles that counts as 1
SMALL = 0.1  # of the mean class: what counts as few particles
EDGE = 0.85  # from this fraction of the mask's radius on it is its edge


@dataclass(frozen=True)
class ClassQuality:
    """Of each of k classes: `count` of particles, `score` from 0 to 1 and its five parts; 0 for empty classes. `mean_evidence` in nat."""

    count: Int[np.ndarray, " k"]
    score: Float[np.ndarray, " k"]
    detail: Float[np.ndarray, " k"]
    evidence: Float[np.ndarray, " k"]
    compactness: Float[np.ndarray, " k"]
    certainty: Float[np.ndarray, " k"]
    size: Float[np.ndarray, " k"]
    mean_evidence: Float[np.ndarray, " k"]

    @property
    def order(self) -> np.ndarray:
        """Classes from the best to the worst; of equal ones the larger first."""
        return np.lexsort((-self.count, -self.score))

    def rows(self, selection: np.ndarray) -> ClassQuality:
        """Those of the selected classes, in the order given."""
        return ClassQuality(*(getattr(self, item.name)[selection] for item in fields(self)))


def class_quality(state: Classification, pixel_size: float, diameter: float) -> ClassQuality:
    """The quality of the classes of a classification with a mask of `diameter` angstrom."""
    classes = len(state.averages)
    member = state.assignment.class_index
    count = np.bincount(member[member >= 0], minlength=classes)
    detail = _against_best(np.where(np.isfinite(state.resolution), 1 / state.resolution, 0.0), count)
    mean_evidence = _mean_of(state.assignment.log_evidence, member, count)
    parts = {
        "detail": detail,
        "evidence": _against_best(mean_evidence, count),
        "compactness": compactness(state.averages, diameter / 2 / pixel_size),
        "certainty": _mean_of(state.assignment.class_probability, member, count),
        "size": count / (count + SMALL * max(1, count.sum()) / classes),
    }
    parts = {name: np.where(count > 0, np.clip(part, 0.0, 1.0), 0.0) for name, part in parts.items()}
    score = np.prod(list(parts.values()), axis=0) ** (1 / len(parts))
    return ClassQuality(count, score, mean_evidence=mean_evidence, **parts)


def compactness(averages: Float[np.ndarray, "k y x"], radius: float) -> Float[np.ndarray, " k"]:
    """1 - (mean square at the edge of the mask / mean square inside it), at least 0; `radius` in pixels.

    The mean over the edge, the level of the solvent, is taken off first.
    """
    box = averages.shape[-1]
    axis = np.arange(box) - box // 2
    distance = np.hypot(axis[:, None], axis[None, :])
    inside, edge = distance < EDGE * radius, (distance >= EDGE * radius) & (distance <= radius)
    level = averages[:, edge].mean(axis=1)[:, None]
    outer = ((averages[:, edge] - level) ** 2).mean(axis=1)
    inner = ((averages[:, inside] - level) ** 2).mean(axis=1)
    return np.clip(1 - outer / np.where(inner > 0, inner, np.inf), 0.0, 1.0)


def _mean_of(values: np.ndarray, member: np.ndarray, count: np.ndarray) -> np.ndarray:
    seen = member >= 0
    return np.bincount(member[seen], values[seen], minlength=len(count)) / np.maximum(count, 1)


def _against_best(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The values over that which `BEST` of the particles do not reach or just reach."""
    if not count.any():
        return np.zeros(len(values))
    order = np.argsort(values)
    below = np.cumsum(count[order])
    best = values[order][np.searchsorted(below, BEST * below[-1])]
    return values / best if best > 0 else np.zeros(len(values))
