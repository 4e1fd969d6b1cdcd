"""Phases in turns (cycles), whole turns removed before they are rounded: what keeps float32 optics exact.

At 5 um and 0.5 A per pixel the phase of the lens reaches a thousand turns, of which float32 keeps four decimals. Here a
phase is a sum of products (parameter [batch]) x (polynomial of the frequency [grid]), each formed so that its fraction
of a turn survives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vitreous.arrays import float_dtype, namespace


def partial_turns(parameter: Any, polynomial: Any, dtype: np.dtype, xp: Any) -> Any:
    """`parameter * polynomial` less a whole number, to 1e-7 in float32 although the product may be a thousand turns.

    Each factor is split into its upper 12 bits and the rest. The product of the upper parts fits the 24 bits of
    float32, so that removing its whole turns is exact, and the other products are small.
    """
    if namespace(parameter, polynomial) is np:
        turns = np.multiply(parameter, polynomial)
        return xp.asarray(turns - np.rint(turns), dtype=dtype)
    if dtype == np.float64:
        return parameter * polynomial
    upper, lower = _split(parameter, dtype, xp)
    upper_polynomial, lower_polynomial = _split(polynomial, dtype, xp)
    large = upper * upper_polynomial
    return (large - xp.round(large)) + (upper * lower_polynomial + lower * (upper_polynomial + lower_polynomial))


def against_grid(parameter: Any, grid: tuple[int, ...]) -> Any:
    """The parameter [batch] with axes of length 1 for the grid."""
    shape = np.shape(parameter)
    return namespace(parameter).reshape(parameter, (*shape, *(1 for _ in grid)))


def is_present(value: Any, neutral: float) -> bool:
    """Whether a factor does anything: False only for a concrete value that is neutral throughout."""
    if isinstance(value, int | float | np.ndarray | np.generic):
        return bool(np.any(np.asarray(value) != neutral))
    return True


def result_dtype(xp: Any, asked: Any, frequencies: tuple[Any, ...], parameters: tuple[Any, ...]) -> np.dtype:
    """The asked dtype, else that of the frequencies, else that of the parameters.

    JAX without double precision has no float64 to give.
    """
    if asked is None:
        arrays = frequencies if any(hasattr(k, "dtype") for k in frequencies) else parameters
        asked = float_dtype(*(a for a in arrays if a is not None))
    widest = np.dtype(xp.zeros(()).dtype)
    asked = np.dtype(asked)
    return widest if asked.itemsize > widest.itemsize else asked


def _split(values: Any, dtype: np.dtype, xp: Any) -> tuple[Any, Any]:
    """The upper 12 bits of the values and the rest; values known in double keep the digits that float32 would lose."""
    if namespace(values) is np:
        mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
        upper = np.ldexp(np.rint(np.ldexp(mantissa, 12)), exponent - 12)
        return xp.asarray(upper, dtype=dtype), xp.asarray(values - upper, dtype=dtype)
    from jax.lax import reduce_precision

    rounded = values.astype(dtype)
    upper = reduce_precision(rounded, exponent_bits=8, mantissa_bits=11)
    return upper, rounded - upper
