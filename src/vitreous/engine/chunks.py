"""Chunks: a long job sees its particles a few megabytes at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Large enough that per-chunk overhead is below a percent, small enough that a chunk's work arrays stay near the cache.
CHUNK_BYTES = 24 * 2**20
MOST_PER_CHUNK = 512


def chunk_size(box: int, itemsize: int = 4) -> int:
    """How many images of `box` x `box` pixels make a chunk: about 24 MiB of pixels, between 1 and 512 images."""
    return int(np.clip(CHUNK_BYTES // (box * box * itemsize), 1, MOST_PER_CHUNK))


def chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """`rows` in pieces of at most `size`, in order."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
