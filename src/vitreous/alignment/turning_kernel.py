"""Compiled loops that turn and move images on rings in one pass over the memory. Compiled when first used, and kept on disk."""

from __future__ import annotations

import numba


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def turned_and_moved(circles, image, start, factors, number, result):
    """`result[c, r, h] = circles[image[c], r, start[c] + h] * factors[number[c], r, h]`; `result` may be `circles`, where every image is its own."""
    for c in range(result.shape[0]):
        source, first, factor = circles[image[c]], start[c], factors[number[c]]
        for r in range(result.shape[1]):
            for h in range(result.shape[2]):
                result[c, r, h] = source[r, first + h] * factor[r, h]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def turned_powers(circles, image, start, result):
    """`result[c, r, h] = circles[image[c], r, start[c] + h]`"""
    for c in range(result.shape[0]):
        source, first = circles[image[c]], start[c]
        for r in range(result.shape[1]):
            for h in range(result.shape[2]):
                result[c, r, h] = source[r, first + h]
