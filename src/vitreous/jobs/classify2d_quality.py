"""Quality of a class: how much its average looks like the projection of one molecule, as a number from 0 to 1.

Five parts, each from 0 to 1, each told by the classification alone:

- information: sum of ln(1 + signal-to-noise ratio) over the Fourier pixels of the average, over that of the best classes. It is what the
  average tells, in nat times two; it grows with resolution, contrast and the number of particles;
- agreement: mean agreement of each particle with the others of the class (`alignment.class_agreement`), over that of the best classes.
  Contrast and the particle's own noise do not enter;
- mass: the integrated density of the average against the median of all particles, x or 1/x, whichever is below 1. All projections of one
  molecule have the same integral; aggregates have more, empty images less;
- compactness: whether the average has its variance inside the mask rather than at its edge, as neighbours and edges of carbon have;
- certainty: mean posterior probability with which the particles belong to the class.

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

PARTS = ("information", "agreement", "mass", "compactness", "certainty")
BEST = 0.9  # quantile over particles that counts as 1
EDGE = 0.85  # from this fraction of the mask's radius on it is its edge


@dataclass(frozen=True)
class ClassQuality:
    """Of each of k classes: `count` of particles, `score` from 0 to 1 and its five parts; 0 for empty classes. `mean_agreement` of the particles,
    `mean_evidence` in nat.
    """

    count: Int[np.ndarray, " k"]
    score: Float[np.ndarray, " k"]
    information: Float[np.ndarray, " k"]
    agreement: Float[np.ndarray, " k"]
    mass: Float[np.ndarray, " k"]
    compactness: Float[np.ndarray, " k"]
    certainty: Float[np.ndarray, " k"]
    mean_agreement: Float[np.ndarray, " k"]
    mean_evidence: Float[np.ndarray, " k"]

    @property
    def order(self) -> Int[np.ndarray, " k"]:
        """Classes from the best to the worst; of equal ones the larger first."""
        return np.lexsort((-self.count, -self.score))

    def rows(self, selection: np.ndarray) -> ClassQuality:
        """Those of the selected classes, in the order given."""
        return ClassQuality(*(getattr(self, item.name)[selection] for item in fields(self)))


def class_quality(
    state: Classification, agreement: Float[np.ndarray, " n"], pixel_size: float, diameter: float
) -> ClassQuality:
    """The quality of the classes of a classification with a mask of `diameter` angstrom; `agreement` of each particle with its class."""
    classes = len(state.averages)
    member = state.assignment.class_index
    count = np.bincount(member[member >= 0], minlength=classes)
    radius = diameter / 2 / pixel_size
    mean_agreement = _mean_of(agreement, member, count)
    parts = {
        "information": _against_best(information(state.signal_to_noise), count),
        "agreement": _against_best(mean_agreement, count),
        "mass": mass(state.averages, count, radius),
        "compactness": compactness(state.averages, radius),
        "certainty": _mean_of(state.assignment.class_probability, member, count),
    }
    parts = {name: np.where(count > 0, np.clip(part, 0.0, 1.0), 0.0) for name, part in parts.items()}
    score = np.prod(list(parts.values()), axis=0) ** (1 / len(parts))
    mean_evidence = _mean_of(state.assignment.log_evidence, member, count)
    return ClassQuality(count, score, **parts, mean_agreement=mean_agreement, mean_evidence=mean_evidence)


def information(signal_to_noise: Float[np.ndarray, "k s"]) -> Float[np.ndarray, " k"]:
    """sum over shells s > 0 of 2 pi s ln(1 + SNR), 2 pi s being the pixels of a shell of an image."""
    shell = np.arange(1, signal_to_noise.shape[1])
    return 2 * np.pi * (shell * np.log1p(np.maximum(signal_to_noise[:, 1:], 0.0))).sum(axis=1)


def mass(averages: Float[np.ndarray, "k y x"], count: Int[np.ndarray, " k"], radius: float) -> Float[np.ndarray, " k"]:
    """Integrated density above the level at the edge of the mask, over its median over all particles: x or 1 / x, 0 for x below 0."""
    inside, edge = regions(averages.shape[-1], radius)
    density = (averages[:, inside] - averages[:, edge].mean(axis=1)[:, None]).sum(axis=1, dtype=np.float64)
    if not count.any():
        return np.zeros(len(count))
    order = np.argsort(density)
    median = density[order][np.searchsorted(np.cumsum(count[order]), count.sum() / 2)]
    if not median > 0:
        return np.zeros(len(count))
    ratio = np.maximum(density / median, 0.0)
    return np.minimum(ratio, 1 / np.where(ratio > 0, ratio, 1.0))


def compactness(averages: Float[np.ndarray, "k y x"], radius: float) -> Float[np.ndarray, " k"]:
    """1 - (mean square at the edge of the mask / mean square inside it), at least 0; `radius` in pixels.

    The mean over the edge, the level of the solvent, is taken off first.
    """
    inside, edge = regions(averages.shape[-1], radius)
    level = averages[:, edge].mean(axis=1)[:, None]
    outer = ((averages[:, edge] - level) ** 2).mean(axis=1)
    inner = ((averages[:, inside] - level) ** 2).mean(axis=1)
    return np.clip(1 - outer / np.where(inner > 0, inner, np.inf), 0.0, 1.0)


def regions(box: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [y, x] inside the mask and at its edge."""
    axis = np.arange(box) - box // 2
    distance = np.hypot(axis[:, None], axis[None, :])
    return distance < EDGE * radius, (distance >= EDGE * radius) & (distance <= radius)


def _mean_of(values: np.ndarray, member: np.ndarray, count: np.ndarray) -> np.ndarray:
    seen = member >= 0
    return np.bincount(member[seen], values[seen], minlength=len(count)) / np.maximum(count, 1)


def _against_best(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The values over that which `BEST` of the particles do not reach or just reach."""
    if not count.any():
        return np.zeros(len(values))
    order = np.argsort(values)
    best = values[order][np.searchsorted(np.cumsum(count[order]), BEST * count.sum())]
    return values / best if best > 0 else np.zeros(len(values))
