"""The tilt of the specimen, from the defocus of tiles of the micrograph.

A flat specimen has the defocus `df + g.x` (optics.tilted_plane). As in the search for astigmatism, the score of every defocus is
tabulated once, here for every tile; a slope g takes one entry of the table from each tile, and all slopes up to the largest tilt are compared.
The joint fit of all tiles then finds lens and slope together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.coarse_search import (
    FINER,
    LEAST_SEEN,
    SectorProfile,
    phase_table,
    search_step,
    sector_profile,
    without_smooth,
)
from vitreous.estimation.ctf_estimate import Lens, Search
from vitreous.estimation.ring_pixels import RingPixels

if TYPE_CHECKING:
    from jaxtyping import Float

BANDS = (16.0, 11.0, 8.0, 6.0)  # angstrom


@dataclass(frozen=True)
class TiltStart:
    """Defocus in the middle (angstrom), slope, and score in standard deviations of noise."""

    defocus: float
    slope: tuple[float, float]
    score: float


def search_tilt(
    pixels: RingPixels,
    rings: Float[np.ndarray, "tile p"],
    x: Float[np.ndarray, " tile"],
    y: Float[np.ndarray, " tile"],
    astigmatism: tuple[float, float],
    phase_shift: float,
    lens: Lens,
    search: Search,
) -> TiltStart:
    """The best of all slopes and defoci; astigmatism and phase shift are those of the whole micrograph.

    `rings` [tile, p] is power over background, less 1, at the samples of `pixels`; x, y are the tiles' middles in angstrom.
    """
    reach = float(np.hypot(x, y).max())
    steepest = math.tan(search.largest_tilt)
    low, high = search.defocus
    cells = [sector_profile(pixels, one, lens, high) for one in rings]
    ends = [end for end in BANDS if 1.3 * pixels.limits[0] <= 1 / end <= pixels.limits[1]] or [1 / pixels.limits[1]]
    best = TiltStart(low, (0.0, 0.0), -math.inf)
    for end in ends:
        step = search_step(end, lens)
        margin = steepest * reach + math.hypot(*astigmatism) + step
        defoci = low - margin + np.arange(math.ceil((high - low + 2 * margin) / step * FINER)) * step / FINER
        table, power = _tile_tables(cells, end, defoci, astigmatism, phase_shift, lens)
        found = _best_slope(table, power, defoci, x, y, margin, steepest, step / reach)
        best = max(best, found, key=lambda start: start.score)
    return best


def _tile_tables(
    cells: list[SectorProfile],
    end: float,
    defoci: np.ndarray,
    astigmatism: tuple[float, float],
    phase_shift: float,
    lens: Lens,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [tile, defocus] and the variance [defocus] that noise gives to each, astigmatism taken into account."""
    used = cells[0].u <= end**-2
    u, count = cells[0].u[used], cells[0].count[:, used]
    waves, power = phase_table(count, u, defoci, lens)
    spacing = defoci[1] - defoci[0]
    angle = cells[0].angle
    local = astigmatism[0] * np.cos(2 * angle) + astigmatism[1] * np.sin(2 * angle)
    offsets = np.rint(local / spacing).astype(int)
    waves = -(waves * np.exp(2j * phase_shift)).real
    rows = without_smooth(np.stack([cell.mean[:, used] / cell.deviation for cell in cells]), count, u) * count
    scores = (rows.reshape(-1, len(u)) @ waves).reshape(len(cells), len(angle), -1)
    table = np.zeros_like(scores[:, 0])
    for sector, offset in enumerate(offsets):
        table += np.roll(scores[:, sector], -offset, axis=1)
    return table, power


def _best_slope(
    table: np.ndarray,
    power: np.ndarray,
    defoci: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    margin: float,
    steepest: float,
    step: float,
) -> TiltStart:
    """All slopes on a square grid inside a circle."""
    spacing = defoci[1] - defoci[0]
    edge = math.ceil(margin / spacing)
    inner = len(defoci) - 2 * edge
    least = LEAST_SEEN * power.max()
    steps = math.ceil(steepest / step)
    best = TiltStart(float(defoci[edge]), (0.0, 0.0), -math.inf)
    for i in range(-steps, steps + 1):
        for j in range(-steps, steps + 1):
            slope = (i * step, j * step)
            if math.hypot(*slope) > steepest:
                continue
            offsets = np.rint((slope[0] * x + slope[1] * y) / spacing).astype(int) + edge
            total: np.ndarray = sum(
                (row[offset : offset + inner] for row, offset in zip(table, offsets)), np.zeros(inner)
            )
            seen: np.ndarray = sum((power[offset : offset + inner] for offset in offsets), np.zeros(inner)) / len(table)
            score = np.where(seen > least, total / np.sqrt(len(table) * np.maximum(seen, least)), -np.inf)
            top = int(np.argmax(score))
            if score[top] > best.score:
                best = TiltStart(float(defoci[edge + top]), slope, float(score[top]))
    return best
