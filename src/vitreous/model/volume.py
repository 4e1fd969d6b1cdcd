"""Volume: a map on a cubic grid with its pixel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.errors import DataProblem


@dataclass(frozen=True)
class Volume:
    """A map `data` [z, y, x] with voxels of `pixel_size` angstrom; its origin (0, 0, 0) is at index `N // 2`."""

    data: np.ndarray
    pixel_size: float

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or len(set(self.data.shape)) != 1:
            raise DataProblem(f"a volume of shape {self.data.shape}", "a cube [z, y, x]")
        if not self.pixel_size > 0:
            raise DataProblem(
                f"a volume of pixel size {self.pixel_size} A", "a positive number of angstrom", "give --pixel-size"
            )

    @property
    def box(self) -> int:
        return self.data.shape[0]
