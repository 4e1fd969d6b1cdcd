"""Numbers of which each particle has a row of its own, trained by gradients of the rows that a batch holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DECAY, SQUARE_DECAY, SMALLEST = 0.9, 0.999, 1e-8  # of Adam, as everywhere


@dataclass(frozen=True)
class RowTable:
    """`values` [n, m], and for each row the state of Adam (Kingma and Ba 2015, arXiv:1412.6980): `first`, `second` [n, m] and the number of its
    `steps` [n]. A row moves only when its particle is seen, so that the others keep their moments."""

    values: np.ndarray
    first: np.ndarray
    second: np.ndarray
    steps: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> RowTable:
        """A table that starts from `values`."""
        values = np.asarray(values, np.float32)
        return RowTable(values, np.zeros_like(values), np.zeros_like(values), np.zeros(len(values), np.int32))

    def __len__(self) -> int:
        return len(self.values)

    def copied(self) -> RowTable:
        """A table whose arrays nobody else has, to be stepped in place."""
        return RowTable(self.values.copy(), self.first.copy(), self.second.copy(), self.steps.copy())

    def step(self, rows: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        """One step of Adam for these rows (each at most once), in place."""
        self.steps[rows] += 1
        count = self.steps[rows, None].astype(np.float32)
        self.first[rows] = first = DECAY * self.first[rows] + (1 - DECAY) * gradient
        self.second[rows] = second = SQUARE_DECAY * self.second[rows] + (1 - SQUARE_DECAY) * gradient**2
        size = np.sqrt(second / (1 - SQUARE_DECAY**count)) + SMALLEST
        self.values[rows] -= rate * (first / (1 - DECAY**count)) / size
