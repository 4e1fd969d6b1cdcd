"""Galleries of class averages: discs of the mask's size, with number, population and resolution under each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vitreous.jobs.classify2d_tables import Classes
from vitreous.jobs.pictures import grey_picture
from vitreous.jobs.report import Gallery, Tile, value_text
from vitreous.jobs.svg import resolution_label

TILE = 128  # pixels: twice what a phone shows


def class_gallery(
    classes: Classes, places: Sequence[int], heading: str = "", caption: str = "", *, kept: np.ndarray | None = None
) -> Gallery:
    """A gallery of the classes at these places, in this order. `kept` [k]: how many particles of each class were kept."""
    tiles = [class_tile(classes, int(place), None if kept is None else int(kept[place])) for place in places]
    return Gallery(tiles, heading, caption, round=True)


def class_tile(classes: Classes, place: int, kept: int | None = None) -> Tile:
    """One class: its average cut to the mask, its number, how many particles it has (and how many of them were `kept`) and its resolution."""
    number, count = int(classes.number[place]), int(classes.quality.count[place])
    shown = value_text(count) if kept in (None, count) else f"{value_text(kept)} of {value_text(count)}"
    resolution = resolution_text(float(classes.resolution[place]))
    picture = grey_picture(within_mask(classes.average[place], classes.diameter / classes.pixel_size), size=TILE)
    alt = f"Average of class {number}: {count} particles" + (f", {resolution}" if resolution else "")
    lines = (f"class {number}", f"{shown} · {resolution}" if resolution else shown)
    return Tile(picture, alt, lines)


def resolution_text(resolution: float) -> str:
    """As people write it, "" for none.

    >>> resolution_text(8.96), resolution_text(float("inf"))
    ('8.96 Å', '')
    """
    return f"{resolution_label(resolution)} Å" if math.isfinite(resolution) else ""


def within_mask(image: np.ndarray, diameter: float) -> np.ndarray:
    """The middle square of an image that holds a disc of `diameter` pixels."""
    middle = image.shape[-1] // 2
    reach = min(middle, math.ceil(diameter / 2))
    return image[middle - reach : middle + reach, middle - reach : middle + reach]
