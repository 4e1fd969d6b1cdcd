"""Compiled inner loops of voxel averages. Imported only where they run: numba takes a second to load.

A Gaussian's mean over a box of voxels is a product of three differences of error functions, one for each axis. An atom adds
the outer product of its three short vectors to the grid, for each of its Gaussians. The threads share the rows y of the grid
between them: no two of them write to the same voxel, and a thread skips the atoms that do not reach its rows.
"""

from __future__ import annotations

import math

import numba
import numpy as np

ERF_END = 5.0  # beyond it erf is taken for 1, which is wrong by 1.5e-12
ERF_ERROR = 2e-12


def _erf_series(degree: int = 28) -> tuple[float, ...]:
    """Coefficients c of `erf(x) = x sum_n c_n t^n`, t = 2 (x / ERF_END)^2 - 1: the Chebyshev interpolant, good to 1e-13."""
    t = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    x = ERF_END * np.sqrt((t + 1) / 2)
    series = np.polynomial.chebyshev.chebfit(t, [math.erf(value) / value for value in x], degree)
    return tuple(float(c) for c in np.polynomial.chebyshev.cheb2poly(series)[::-1])


_SERIES = _erf_series()


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def error_function(x, count, square, result):
    """erf of the first `count` of x, to `ERF_ERROR`. `square` is scratch; x is cut to the range of the series.

    The series runs outside and the points inside: the loop over points becomes vector instructions.
    """
    for i in range(count):
        x[i] = min(max(x[i], -ERF_END), ERF_END)
        square[i] = x[i] * x[i] * (2.0 / (ERF_END * ERF_END)) - 1.0
        result[i] = 0.0
    for c in _SERIES:
        for i in range(count):
            result[i] = result[i] * square[i] + c
    for i in range(count):
        result[i] *= x[i]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def add_gaussians(grid, y_start, y_stop, position, kind, b_factor, occupancy, amplitude, width, voxel, corner, reach):
    """Add atoms to the rows y_start to y_stop of `grid` [z, y, x].

    A Gaussian adds `occupancy amplitude` times its shares of x, y and z, within `reach` standard deviations along each
    axis; the shares of an axis add up to 1, so that the sum over an endless grid is exact. `voxel` [3] (x, y, z) in
    angstrom, `corner` [3] where voxel (0, 0, 0) begins. What lies beyond the grid is left out.
    """
    terms = amplitude.shape[1]
    variance_unit = 1.0 / (8.0 * math.pi**2)
    widest = math.sqrt((width.max() + b_factor.max()) * variance_unit) * reach
    start, stop = np.array([0, y_start, 0]), np.array([grid.shape[2], y_stop, grid.shape[0]])
    window = np.zeros(3, np.int64)
    for axis in range(3):
        window[axis] = min(int(2.0 * widest / voxel[axis]) + 3, stop[axis] - start[axis])
    points = np.zeros(terms * (window.sum() + 9))
    square, erf = np.zeros_like(points), np.zeros_like(points)
    shares = np.zeros((3, terms, window.max()), grid.dtype)
    plane = np.zeros((terms, window[0] * window[1]), grid.dtype)
    sheet = np.zeros(window[0] * window[1], grid.dtype)
    deviation = np.zeros(terms)
    first, last = np.zeros((3, terms), np.int64), np.zeros((3, terms), np.int64)
    begin, end, centre = np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(3)
    for n in range(position.shape[0]):
        which = kind[n]
        for g in range(terms):
            deviation[g] = math.sqrt((width[which, g] + b_factor[n]) * variance_unit)
        outside = False
        for axis in range(3):
            centre[axis] = (position[n, axis] - corner[axis]) / voxel[axis]
            radius = reach * deviation.max() / voxel[axis]
            begin[axis] = max(math.floor(centre[axis] - radius), start[axis])
            end[axis] = min(math.floor(centre[axis] + radius) + 1, stop[axis])
            outside |= end[axis] <= begin[axis]
        if outside:
            continue
        total = 0
        for axis in range(3):
            for g in range(terms):
                radius = reach * deviation[g] / voxel[axis]
                scale = voxel[axis] / (math.sqrt(2.0) * deviation[g])
                low, high = math.floor(centre[axis] - radius), math.floor(centre[axis] + radius) + 1
                points[total] = (low - centre[axis]) * scale
                points[total + 1] = (high - centre[axis]) * scale
                first[axis, g] = min(max(low, begin[axis]), end[axis])
                last[axis, g] = max(min(high, end[axis]), first[axis, g])
                total += 2
                for i in range(first[axis, g], last[axis, g] + 1):
                    points[total] = (i - centre[axis]) * scale
                    total += 1
        error_function(points, total, square, erf)
        total = 0
        for axis in range(3):
            for g in range(terms):
                norm = 1.0 / (erf[total + 1] - erf[total])
                before = first[axis, g] - begin[axis]
                total += 2
                shares[axis, g, :] = 0
                for i in range(last[axis, g] - first[axis, g]):
                    shares[axis, g, before + i] = (erf[total + 1] - erf[total]) * norm
                    total += 1
                total += 1
        # the outer product of x and y, once; then for each z the sum over the terms, and its rows
        columns, rows = end[0] - begin[0], end[1] - begin[1]
        for g in range(terms):
            for y in range(rows):
                for x in range(columns):
                    plane[g, y * columns + x] = shares[1, g, y] * shares[0, g, x]
        for z in range(end[2] - begin[2]):
            sheet[: rows * columns] = 0
            for g in range(terms):
                w = grid.dtype.type(occupancy[n] * amplitude[which, g] * shares[2, g, z])
                for i in range(rows * columns):
                    sheet[i] += w * plane[g, i]
            for y in range(rows):
                target = grid[begin[2] + z, begin[1] + y, begin[0] : end[0]]
                source = sheet[y * columns : (y + 1) * columns]
                for x in range(columns):
                    target[x] += source[x]
