"""Compiled loops that turn and move images on rings in one pass over the memory. Compiled when first used, and kept on disk.

Complex numbers are pairs (real, imaginary) here: written out, their products fill the processor's vector registers, which the
compiler's own complex numbers do not.
"""

from __future__ import annotations

import numba


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def turned_and_moved(circles, image, start, factors, number, result):
    """`result[c, r, h] = circles[image[c], r, start[c] + h] * factors[number[c], r, h]`, the last axes of all as pairs.

    `result` may be `circles`, where every image is its own.
    """
    rings, points = result.shape[1], result.shape[2] // 2
    for c in range(result.shape[0]):
        first = 2 * start[c]
        for r in range(rings):
            source = circles[image[c], r, first : first + 2 * points]
            factor, line = factors[number[c], r], result[c, r]
            for h in range(points):
                a, b = source[2 * h], source[2 * h + 1]
                p, q = factor[2 * h], factor[2 * h + 1]
                line[2 * h] = a * p - b * q
                line[2 * h + 1] = a * q + b * p


@numba.njit(nogil=True, cache=True, error_model="numpy")
def turned_powers(circles, image, start, result):
    """`result[c, r, h] = circles[image[c], r, start[c] + h]`"""
    points = result.shape[2]
    for c in range(result.shape[0]):
        for r in range(result.shape[1]):
            result[c, r] = circles[image[c], r, start[c] : start[c] + points]
