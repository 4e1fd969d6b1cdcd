"""Picks: where particles were found in a micrograph, and how a map of scores becomes a list of places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Picks:
    """n places in a micrograph, the best first.

    `position` [n, 2] (x, y) in pixels of the micrograph, counted from 0, the particle's centre; `score` [n] is the figure of merit and
    `significance` [n] by how many standard deviations of the noise it stands out. `diameter` [n] in angstrom is known of blobs;
    `psi` [n] in radian (`conventions`) and the `template` [n], counted from 0, of picks by templates.
    """

    position: Float[np.ndarray, "n 2"]
    score: Float[np.ndarray, " n"]
    significance: Float[np.ndarray, " n"]
    diameter: Float[np.ndarray, " n"] | None = None
    psi: Float[np.ndarray, " n"] | None = None
    template: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.score)

    def rows(self, selection: np.ndarray | slice) -> Picks:
        """The selected picks, in the order given."""
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return replace(
            self, **{name: None if column is None else column[selection] for name, column in columns.items()}
        )


def local_maxima(scores: Float[np.ndarray, "y x"], least: float) -> Int[np.ndarray, "n 2"]:
    """Pixels (row, column) that are above `least` and above all their eight neighbours, highest first.

    Pixels of the border are none. Of equal neighbours the first in reading order counts as the higher.
    """
    inner = scores[1:-1, 1:-1]
    if inner.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    found = inner > least
    rows, columns = scores.shape
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if (down, across) == (0, 0):
                continue
            neighbour = scores[1 + down : rows - 1 + down, 1 + across : columns - 1 + across]
            found &= inner >= neighbour if (down, across) > (0, 0) else inner > neighbour
    places = np.argwhere(found) + 1
    return places[np.argsort(-scores[tuple(places.T)], kind="stable")]


def refined(scores: Float[np.ndarray, "y x"], places: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Places (x, y) of the maxima between pixels: the top of a parabola through three pixels along each axis.

    A maximum lies within half a pixel of its highest pixel.
    """
    row, column = places.T
    middle = scores[row, column].astype(np.float64)
    found = np.empty((len(places), 2))
    for axis, (down, across) in enumerate(((0, 1), (1, 0))):
        before = scores[row - down, column - across].astype(np.float64)
        after = scores[row + down, column + across].astype(np.float64)
        bend = 2 * middle - before - after
        shift = np.where(bend > 0, (after - before) / np.where(bend > 0, 2 * bend, 1.0), 0.0)
        found[:, axis] = (column, row)[axis] + np.clip(shift, -0.5, 0.5)
    return found


def curvature_ratio(scores: Float[np.ndarray, "y x"], places: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """How much more sharply a maximum falls off across than along its ridge: ratio of the principal curvatures, 1 of a round one.

    Infinite on a ridge, which is a maximum along one direction only, and at a saddle.
    """
    row, column = places.T

    def at(down: int, across: int) -> np.ndarray:
        return scores[row + down, column + across].astype(np.float64)

    along_x = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    along_y = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    mixed = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    mean, spread = -(along_x + along_y) / 2, np.hypot((along_x - along_y) / 2, mixed)
    sharp, flat = mean + spread, mean - spread
    return np.where(flat > 0, sharp / np.where(flat > 0, flat, 1.0), np.inf)


def apart(places: Float[np.ndarray, "n 2"], distance: float) -> Bool[np.ndarray, " n"]:
    """Which of the places, best first, are kept so that no two are nearer than `distance`: each takes the room of all that follow."""
    keep = np.ones(len(places), dtype=bool)
    square = distance**2
    for index in range(len(places)):
        if keep[index]:
            later = slice(index + 1, None)
            keep[later] &= np.square(places[later] - places[index]).sum(axis=1) >= square
    return keep
