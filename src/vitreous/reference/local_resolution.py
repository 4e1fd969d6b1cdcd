"""Local resolution as the sums that define it: one voxel, one band at a time."""

from __future__ import annotations

import numpy as np


def local_correlation(
    first: np.ndarray, second: np.ndarray, transfer: np.ndarray, window: np.ndarray, voxel: tuple[int, int, int]
) -> float:
    """sum_u w(r - u) a(u) b(u) / sqrt(sum_u w(r - u) a(u)^2  sum_u w(r - u) b(u)^2) at the voxel r.

    a and b are the maps filtered by `transfer`, factors on the whole transform (`fftn` layout). `window` is an even function
    centred on index N // 2; the box is periodic. A mask is part of the window only in that a and b are weighted: multiply `window`
    moved to the voxel by it.
    """
    a, b = (np.fft.ifftn(np.fft.fftn(each) * transfer).real for each in (first, second))
    centre = [n // 2 for n in window.shape]
    w = np.roll(window, [r - c for r, c in zip(voxel, centre)], axis=(0, 1, 2))
    power = (w * a**2).sum() * (w * b**2).sum()
    return float((w * a * b).sum() / np.sqrt(power)) if power > 0 else 0.0


def first_crossing(correlation: np.ndarray, level: np.ndarray, frequency: np.ndarray) -> float:
    """The frequency at which the straight lines between bands first fall through the level: 0 if the first band is
    below, infinite if none is.
    """
    for band, (value, wanted) in enumerate(zip(correlation, level)):
        if value < wanted:
            if band == 0:
                return 0.0
            above, below = correlation[band - 1] - level[band - 1], value - wanted
            return frequency[band - 1] + above / (above - below) * (frequency[band] - frequency[band - 1])
    return float("inf")
