"""One code for NumPy and JAX: a function asks its arguments which namespace to compute in.

A formula is written once, `xp = namespace(x, y)` and then `xp.sin(x)`. NumPy arrays in, NumPy arrays out: no start-up and no
compilation, in the dtype of the input. JAX arrays in (or tracers), JAX arrays out: compiled, differentiable, on any device.
The reason and its measurement are in docs/decisions/0002-one-code-for-numpy-and-jax.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(*arrays: Any) -> Any:
    """The module to compute in: `jax.numpy` if any argument is a JAX array or tracer, else `numpy`.

    Python scalars and None are ignored. JAX is never imported by this function.
    """
    for array in arrays:
        if array is None or isinstance(array, np.ndarray | np.generic | int | float | complex):
            continue
        own = getattr(array, "__array_namespace__", None)
        if own is not None:
            return own()
    return np


def float_dtype(*arrays: Any) -> np.dtype:
    """The real dtype that the arguments ask for: float64 if any floating array is double, else float32 for single, else float64.

    Python scalars and integers do not vote.
    """
    dtypes = [np.dtype(a.dtype) for a in arrays if hasattr(a, "dtype") and np.dtype(a.dtype).kind in "fc"]
    if not dtypes:
        return np.dtype(np.float64)
    width = max(d.itemsize // (2 if d.kind == "c" else 1) for d in dtypes)
    return np.dtype(np.float64) if width >= 8 else np.dtype(np.float32)


def complex_dtype(*arrays: Any) -> np.dtype:
    """The complex dtype that belongs to `float_dtype(*arrays)`."""
    return np.dtype(np.complex128) if float_dtype(*arrays) == np.float64 else np.dtype(np.complex64)
