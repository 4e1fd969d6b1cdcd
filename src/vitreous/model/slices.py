"""PotentialSlices: a specimen cut into slabs across the beam. ExitWave: the electron wave in a plane behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitreous.errors import DataProblem


@dataclass(frozen=True)
class PotentialSlices:
    """`projected` [s, y, x]: the integral of the potential over the depth of each slab, in V A, slab 0 nearest the source.

    Complex where the specimen absorbs: `V + i Vim` with Vim > 0. Pixels of `pixel_size` angstrom, x = y = 0 at index
    N // 2; slabs of `thickness` angstrom, the middle of slab j at z = `height + j thickness`, z along the beam. NumPy or JAX.
    """

    projected: Any
    pixel_size: float
    thickness: float
    height: float

    def __post_init__(self) -> None:
        if len(self.projected.shape) != 3 or 0 in self.projected.shape:
            raise DataProblem(f"potential slices of shape {tuple(self.projected.shape)}", "slices [s, y, x]")
        if not self.pixel_size > 0:
            raise DataProblem(f"potential slices of pixel size {self.pixel_size} A", "a positive number of angstrom")
        if not self.thickness > 0:
            raise DataProblem(f"potential slices {self.thickness} A thick", "a positive number of angstrom")

    def __len__(self) -> int:
        return self.projected.shape[0]

    @property
    def depth(self) -> float:
        """Thickness of all slabs together, in angstrom."""
        return len(self) * self.thickness


@dataclass(frozen=True)
class ExitWave:
    """`wave` [y, x], complex, 1 where nothing scattered, in the plane z = `height` (angstrom). NumPy or JAX.

    The defocus of an image is referred to z = 0: the aberrations that act on this wave have the defocus `df + height`,
    because what lies further downstream is further underfocused.
    """

    wave: Any
    pixel_size: float
    height: float
