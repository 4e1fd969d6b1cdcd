"""The exhaustive search for defocus and astigmatism: every combination is looked at, so that no false ring can trap it.

Along one direction of the plane the rings are, in the square of the frequency u = k^2, a cosine whose phase is known,

    r(u) = -m cos(2 gamma(u; df)),    gamma = pi lambda df u - (pi/2) Cs lambda^3 u^2 + phase_shift + asin(w)

where r is the spectrum over its background, less 1. Averaged over sectors s of directions, the score of every defocus in every sector is one matrix
product (sectors x frequencies) (frequencies x defoci). An astigmatic lens has the defocus `df + a1 cos 2 theta + a2 sin 2 theta` in
the direction theta: its score is a sum of one entry of the table from each sector. All triples (df, a1, a2) on a grid that is finer than half a ring at
the finest frequency are compared. This is done for several bands of frequency, because it is not known how far the rings go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.ctf_estimate import Lens, Search
from vitreous.estimation.ring_pixels import RingPixels
from vitreous.optics.ctf import gamma
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

SECTORS = 24  # of half a turn
BANDS = (12.0, 8.0, 6.0, 4.5, 4.0)  # angstrom: the search stops at each of these, before the rings of ice
LARGEST_ERROR = 0.8  # radian, of the phase 2 gamma between two steps of the grid, at the end of the band
PHASES = 12  # steps of a phase shift over half a turn
FINER = 2  # entries of the table a step of the grid, so that rounding to an entry costs little
LEAST_SEEN = 0.5  # of the rings' variance, that must be left beside the background for a defocus to be judged
SMOOTH = 6  # polynomials of u that take the place of the background in each band


@dataclass(frozen=True)
class Candidate:
    """A maximum of the search: angstrom, radian. `score` is in standard deviations of the noise; the band ended at `end` 1/angstrom."""

    defocus: float
    astigmatism: tuple[float, float]
    phase_shift: float
    score: float
    end: float


@dataclass(frozen=True)
class SectorProfile:
    """Means of the rings r over cells of direction and squared frequency: `mean` and `count` [sector, u]; `deviation` of one sample."""

    u: Float[np.ndarray, " u"]
    angle: Float[np.ndarray, " s"]
    mean: Float[np.ndarray, "s u"]
    count: Float[np.ndarray, "s u"]
    deviation: float


def coarse_search(
    pixels: RingPixels, rings: Float[np.ndarray, " p"], lens: Lens, search: Search, most: int = 6
) -> list[Candidate]:
    """The best combinations, best first, at most `most`, their defoci more than a ring apart.

    `rings` is power over background, less 1.
    """
    sectors = sector_profile(pixels, rings, lens, search.defocus[1])
    ends = [end for end in BANDS if 1.3 * pixels.limits[0] <= 1 / end <= pixels.limits[1]] or [1 / pixels.limits[1]]
    found: list[Candidate] = []
    for end in ends:
        found += _band(sectors, end, lens, search)
    return _distinct(found, most, lens)


def sector_profile(
    pixels: RingPixels, rings: Float[np.ndarray, " p"], lens: Lens, largest_defocus: float
) -> SectorProfile:
    """The rings in cells narrow enough for the closest rings of the search."""
    angle = np.mod(np.arctan2(pixels.ky, pixels.kx), np.pi)
    sector = np.minimum((angle / np.pi * SECTORS).astype(np.int64), SECTORS - 1)
    u = pixels.k**2
    width = 0.25 / (wavelength(lens.voltage) * largest_defocus)
    cells = int(np.ceil((u.max() - u.min()) / width)) + 1
    cell = sector * cells + ((u - u.min()) / width).astype(np.int64)
    count = np.bincount(cell, minlength=SECTORS * cells).reshape(SECTORS, cells)
    total = np.bincount(cell, rings, minlength=SECTORS * cells).reshape(SECTORS, cells)
    deviation = 1.4826 * float(np.median(abs(rings - np.median(rings))))
    return SectorProfile(
        u.min() + (np.arange(cells) + 0.5) * width,
        (np.arange(SECTORS) + 0.5) * np.pi / SECTORS,
        total / np.maximum(count, 1),
        count.astype(np.float64),
        max(deviation, 1e-12),
    )


def _band(sectors: SectorProfile, end: float, lens: Lens, search: Search) -> list[Candidate]:
    """The best candidate of every maximum along the defocus, up to the resolution `end`."""
    used = sectors.u <= end**-2
    u, count = sectors.u[used], sectors.count[:, used]
    rest = without_smooth(sectors.mean[:, used], count, u)
    step = search_step(end, lens)
    spread = math.ceil(search.astigmatism / 2 / step)
    low, high = search.defocus
    defoci = np.arange(low, high + step, step)
    table_defoci = low + (np.arange(FINER * (len(defoci) + 2 * spread)) - FINER * spread) * step / FINER
    waves, power = phase_table(count, u, table_defoci, lens)
    table = (rest * count) @ waves

    shape = (len(defoci),)
    best = np.full(shape, -np.inf)
    which = np.zeros((3, *shape))
    least = LEAST_SEEN * 0.5 * count.sum()
    for along, across in _disc(spread):
        offset = np.rint(FINER * (spread + along * np.cos(2 * sectors.angle) + across * np.sin(2 * sectors.angle)))
        windows = [slice(start, start + FINER * len(defoci), FINER) for start in offset.astype(int)]
        total: np.ndarray = sum((row[window] for row, window in zip(table, windows)), np.zeros(shape, table.dtype))
        seen: np.ndarray = sum((power[window] for window in windows), np.zeros(shape)) / SECTORS
        for phase in _phases(search):
            score = np.where(
                seen > least, -(total * np.exp(2j * phase)).real / np.sqrt(np.maximum(seen, least)), -np.inf
            )
            better = score > best
            best = np.where(better, score, best)
            which[:, better] = np.array([along * step, across * step, phase])[:, None]
    best /= sectors.deviation
    inner = np.pad(best, 1, constant_values=-np.inf)
    tops = np.nonzero((best >= inner[:-2]) & (best > inner[2:]) & np.isfinite(best))[0]
    return [Candidate(float(defoci[i]), (which[0, i], which[1, i]), which[2, i], float(best[i]), 1 / end) for i in tops]


def phase_table(
    count: Float[np.ndarray, "s u"], u: Float[np.ndarray, " u"], defoci: Float[np.ndarray, " d"], lens: Lens
) -> tuple[np.ndarray, np.ndarray]:
    """exp(2 i gamma) [u, defocus], and the variance [defocus] of its product with noise of variance 1 whose smooth part is taken out."""
    k = np.sqrt(u)
    phase = gamma(
        k,
        0.0 * k,
        defoci,
        voltage=lens.voltage,
        spherical_aberration=lens.spherical_aberration,
        amplitude_contrast=lens.amplitude_contrast,
    )
    real = without_smooth(np.cos(2 * phase), count, u)
    return np.exp(2j * phase.T), (real**2) @ count.sum(axis=0)


def search_step(end: float, lens: Lens) -> float:
    """Steps of the defocus in angstrom at which no ring up to the resolution `end` is missed."""
    return LARGEST_ERROR / (math.pi * wavelength(lens.voltage) * end**-2)


def without_smooth(rows: np.ndarray, count: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The rows [n, u] less what the first polynomials of u explain of them, by least squares with weights `count`."""
    from numpy.polynomial import legendre

    x = 2 * (u - u[0]) / (u[-1] - u[0]) - 1
    basis = legendre.legvander(x, SMOOTH)
    weight = count.sum(axis=0)
    normal = basis.T @ (basis * weight[:, None])
    return rows - (rows * weight) @ basis @ np.linalg.solve(normal, basis.T)


def _disc(spread: int) -> list[tuple[int, int]]:
    """Whole steps of the two components of astigmatism inside a circle."""
    steps = range(-spread, spread + 1)
    return [(i, j) for i in steps for j in steps if math.hypot(i, j) <= spread]


def _phases(search: Search) -> np.ndarray:
    if search.phase_shift is None:
        return np.zeros(1)
    low, high = search.phase_shift
    return np.linspace(low, high, max(2, math.ceil(PHASES * (high - low) / math.pi)))


def _distinct(found: list[Candidate], most: int, lens: Lens) -> list[Candidate]:
    """The best of each neighbourhood one ring wide, at the end of its band."""
    chosen: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: -c.score):
        ring = 1 / (wavelength(lens.voltage) * candidate.end**2)
        if all(abs(candidate.defocus - other.defocus) > ring for other in chosen):
            chosen.append(candidate)
        if len(chosen) == most:
            break
    return chosen
