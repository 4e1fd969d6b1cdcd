"""Which points lie inside a polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def inside_polygon(points: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "m 2"]) -> Bool[np.ndarray, " n"]:
    """Whether a ray from each point to the right crosses the edges an odd number of times (even-odd rule), for any polygon, also one whose edges
    cross: what is enclosed twice is outside. An edge holds its lower end and not its upper one, so that polygons that share edges share no
    points and leave none out. SettingsProblem for fewer than three corners.

    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> inside_polygon(np.array([[1.0, 1.0], [3.0, 1.0], [0.0, 0.0], [2.0, 2.0]]), square).tolist()
    [True, False, True, False]
    """
    points, corners = np.asarray(points, dtype=np.float64), np.asarray(corners, dtype=np.float64)
    if len(corners) < 3:
        raise SettingsProblem(f"a polygon of {len(corners)} corners", "at least 3")
    x, y = points.T
    inside = np.zeros(len(points), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue  # no ray crosses a level edge
        if y0 > y1:  # from the lower end, so that both polygons at an edge round alike
            x0, y0, x1, y1 = x1, y1, x0, y0
        crosses = (y0 <= y) & (y < y1) & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
        inside ^= crosses
    return inside
