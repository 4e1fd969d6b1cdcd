"""Entries: the alternatives of each image that hold its posterior, as a list, and what they say about the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.cells import Block, CellMatching, Cells, in_image
from vitreous.errors import DataProblem
from vitreous.model.particles import ImageName

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Alternatives below this share of the posterior are not listed.
LEAST_LISTED = 1e-3


@dataclass(frozen=True)
class Entries:
    """Alternative e of image `image` [e]: `view`, `psi` (radian), `origin` [e, 2] (pixels), posterior `weight`."""

    image: Int[np.ndarray, " e"]
    view: Int[np.ndarray, " e"]
    psi: Float[np.ndarray, " e"]
    origin: Float[np.ndarray, "e 2"]
    weight: Float[np.ndarray, " e"]

    def __add__(self, other: Entries) -> Entries:
        names = self.__dataclass_fields__
        return Entries(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def listed(blocks: list[Block], cells: Cells, matching: CellMatching) -> Entries:
    """The alternatives of posterior tables, from the largest of each image downwards; every image that has cells has at least one."""
    parts, steps = [], matching.steps
    for block in blocks:
        twist = matching.views.twist(block.views)
        per_cell = block.table.max(axis=(1, 2, 3))
        least = np.minimum(LEAST_LISTED, per_cell).astype(np.float32)
        flat = np.flatnonzero(block.table >= least[:, None, None, None])
        c, p, k, s = np.unravel_index(flat, block.table.shape)
        number = block.cells[c]
        psi = cells.psi[number] + steps.psi[p]
        # A shift of the whole table is one of the reference before it is turned; one of a cell is in the frame of the cell.
        origin = cells.origin[number] + in_image(steps.shift[s], psi if steps.whole else cells.psi[number])
        weight = block.table[c, p, k, s].astype(np.float64)
        parts.append(Entries(cells.image[number], block.views[k], psi + twist[k], origin, weight))
    found = Entries(*(np.concatenate([getattr(part, name) for part in parts]) for name in Entries.__dataclass_fields__))
    order = np.lexsort((-found.weight, found.image))
    return Entries(*(getattr(found, name)[order] for name in Entries.__dataclass_fields__))


def refuse_broken(evidence: Float[np.ndarray, " n"], names: ImageName) -> None:
    """Raise DataProblem naming the first of the images `names` [n] whose log evidence is no number: a reference, CTF or noise was not finite."""
    broken = np.flatnonzero(~np.isfinite(evidence))
    if len(broken):
        raise DataProblem(
            f"the likelihood of image {names.text(broken[0])} is not a finite number",
            "finite pixels, CTF and noise",
            "remove the particle",
        )


@dataclass(frozen=True)
class Summary:
    """Of each image: its best entry (`view`, `psi`, `origin`), that entry's probability, entropy of the posterior (nat), probability of the
    best entry's class, and standard deviations about the best pose: angle (radian), shift (pixels, per axis).
    """

    view: np.ndarray
    psi: np.ndarray
    origin: np.ndarray
    probability: np.ndarray
    entropy: np.ndarray
    class_probability: np.ndarray
    angle_deviation: np.ndarray
    shift_deviation: np.ndarray


def summary(
    entries: Entries,
    images: int,
    class_of: Callable[[np.ndarray], np.ndarray],
    angle_between: Callable[[Entries, np.ndarray], np.ndarray],
) -> Summary:
    """What the entries (sorted: the best of each image first) say. `class_of(view)`; `angle_between(entries, best)` is the angle of each entry to
    entry number `best` [e].
    """
    first = np.searchsorted(entries.image, np.arange(images))
    best = first[entries.image]
    classes = class_of(entries.view)
    same = classes == classes[best]
    weight = entries.weight * same

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(entries.image, values, minlength=images)

    mass = np.maximum(total(weight), 1e-30)
    angle = angle_between(entries, best)
    moved = ((entries.origin - entries.origin[best]) ** 2).sum(axis=1)
    listed_mass = np.maximum(total(entries.weight), 1e-30)
    entropy = -total(entries.weight * np.log(np.maximum(entries.weight, 1e-30)))
    # What is not listed is spread over at least 1 / LEAST_LISTED alternatives.
    rest = np.clip(1 - listed_mass, 0, 1)
    entropy += rest * np.log(1 / LEAST_LISTED)
    return Summary(
        entries.view[first],
        entries.psi[first],
        entries.origin[first],
        entries.weight[first],
        entropy,
        np.minimum(mass, 1),
        np.sqrt(total(weight * angle**2) / mass),
        np.sqrt(total(weight * moved) / (2 * mass)),
    )
