"""Which candidates become picks: significance, place, neighbours and surroundings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.picking.picks import Picks, apart
from vitreous.picking.suspect_areas import beside, relative_variance
from vitreous.picking.working_image import WorkingImage

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

CANDIDATE = (
    0.9  # of the threshold: what stands out so far may be a particle when the variance beside particles is measured
)


@dataclass(frozen=True)
class Selection:
    """Limits, in angstrom and standard deviations of the noise.

    Kept are picks of a significance from `threshold` to `highest`, whose centres are `border` from the edge of the micrograph, no two nearer
    than `distance`, the better of two, half a diameter or more beside areas whose variance beside particles is more than `variance` times the median
    (`suspect_areas`), and of those at `most` so many, the best.
    """

    threshold: float
    distance: float
    border: float
    highest: float = math.inf
    variance: float = 1.6
    most: int | None = None


@dataclass(frozen=True)
class Selected:
    """The `picks`, and the `suspect` places that stand out as much but lie in a suspect area. `area` is the suspect part of the micrograph.

    `reversed_contrast`: what is darkest stands out more than what is brightest, where bright particles were looked for.
    """

    picks: Picks
    suspect: Picks
    area: float
    reversed_contrast: bool = False


def select(candidates: Picks, image: WorkingImage, diameter: float, selection: Selection) -> Selected:
    """`candidates`, best first, have their places in pixels of the working image; `diameter` of the largest, in angstrom.

    The picks have theirs in pixels of the micrograph.
    """
    loud = candidates.position[candidates.significance > CANDIDATE * selection.threshold]
    variance = relative_variance(image.values, loud, diameter / image.pixel_size)
    inside = (candidates.significance >= selection.threshold) & (candidates.significance <= selection.highest)
    candidates = candidates.rows(inside & far_from_border(candidates.position, image, selection.border))
    column, row = np.rint(candidates.position.T).astype(np.int64)
    clean = beside(variance > selection.variance, diameter / 2 / image.pixel_size)
    quiet = clean[row, column]
    picks, suspect = (_distant(candidates.rows(rows), image, selection.distance) for rows in (quiet, ~quiet))
    return Selected(picks.rows(slice(selection.most)), suspect, float((~clean).mean()))


def _distant(candidates: Picks, image: WorkingImage, distance: float) -> Picks:
    """Those that are no nearer than `distance` angstrom to a better one, placed in the micrograph."""
    kept = candidates.rows(apart(candidates.position, distance / image.pixel_size))
    return replace(kept, position=image.recorded_position(kept.position))


def far_from_border(place: Float[np.ndarray, "n 2"], image: WorkingImage, border: float) -> Bool[np.ndarray, " n"]:
    """Which places (x, y) of the working image are at least `border` angstrom inside the micrograph."""
    size = np.array(image.values.shape[::-1]) - 1
    margin = border / image.pixel_size
    return np.asarray(((place >= margin) & (place <= size - margin)).all(axis=1))
