"""Definitions: slow NumPy code that is obviously right.

Each function is the formula of a lesson, written as sums and loops. The fast functions of the other rooms are tested
against these; nothing else in the package imports them. Conventions are those of `vitreous.conventions`: arrays `[y,
x]` and `[z, y, x]`, vectors `(x, y, z)`, the origin of an axis of N samples at index `N // 2`, forward transforms with
`exp(-2 pi i k r)` and no factor.
"""
