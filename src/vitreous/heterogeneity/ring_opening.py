"""Rings that open: coarse frequencies are compared first, finer ones in later rounds of a training."""

from __future__ import annotations

Opening = tuple[
    tuple[float, float], ...
]  # (fraction of the rounds from which it holds, fraction of the final radius), in order, the first from 0


def opened(opening: Opening, done: int, rounds: int) -> float:
    """The fraction of the final radius that round `done` (from 0) of `rounds` looks at.

    >>> [opened(((0.0, 0.5), (0.5, 1.0)), done, 4) for done in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """
    return next(part for start, part in reversed(opening) if done >= start * rounds)
