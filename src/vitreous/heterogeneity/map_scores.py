"""How well the maps of a landscape agree with the true ones: Fourier shell correlation in a mask, and the area under it.

    area = 1/S  sum_s [FSC(s - 1) + FSC(s)] / 2,    s = 1 ... S = N // 2,   FSC(0) = 1

the mean height of the curve from frequency 0 to Nyquist: 1 for equal maps, near 0 for unrelated ones. CryoBench (Jeon et al. 2024,
arXiv:2408.05526) gives the area over frequencies in 1/pixel, which end at 1/2: half of this number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import MODEL, Resolution, correlate_shells, resolution_at, shell_frequencies
from vitreous.reconstruction.map_resampling import resampled_map

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex, Float


def fsc_area(correlation: Float[np.ndarray, "... s"]) -> Float[np.ndarray, " ..."]:
    """The area under FSC curves [..., s] from shell 0, which counts as 1, to the last, over the number of steps.

    >>> float(fsc_area(np.array([1.0, 1.0, 0.5, 0.0]))).__round__(3)
    0.667
    """
    curve = np.array(correlation, dtype=np.float64)
    curve[..., 0] = 1.0
    return np.trapezoid(curve, axis=-1) / (curve.shape[-1] - 1)


@dataclass(frozen=True)
class MapGrid:
    """The grid on which maps are compared: `box` voxels of `pixel_size` angstrom."""

    box: int
    pixel_size: float

    @property
    def frequency(self) -> Float[np.ndarray, " s"]:
        """Of each shell, 1/angstrom."""
        return shell_frequencies(self.box, self.pixel_size)

    def fits(self, volume: Volume) -> bool:
        """Whether the map lies on this grid already."""
        return volume.box == self.box and abs(volume.pixel_size / self.pixel_size - 1) < 1e-3

    def resampled(self, volume: Volume) -> Float[np.ndarray, "z y x"]:
        """The map on this grid, float32. Pixel sizes that differ by less than 1 in 1,000, as headers round them, are the same."""
        data = np.asarray(volume.data, dtype=np.float32)
        if not np.isfinite(np.sum(data, dtype=np.float64)):
            raise DataProblem("a map with values that are no numbers", "finite values", "look for NaN in the map")
        if self.fits(volume):
            return data
        return resampled_map(data, volume.pixel_size, self.box, self.pixel_size).astype(np.float32)


@dataclass(frozen=True)
class MapComparison:
    """Compares maps on a grid inside a soft `mask` [z, y, x].

    Frequencies at Nyquist and beyond, which no landscape tells, are taken out of every map before it is masked.
    """

    grid: MapGrid
    mask: Float[np.ndarray, "z y x"]

    def __post_init__(self) -> None:
        if self.mask.shape != (self.grid.box,) * 3:
            raise DataProblem(f"a mask of shape {self.mask.shape}", f"a cube of {self.grid.box} voxels")

    def transform(self, volume: Float[np.ndarray, "z y x"]) -> Complex[np.ndarray, "z y xh"]:
        """The transform of the map inside the mask: what `correlation` compares."""
        shape = (self.grid.box,) * 3
        inside = inverse(forward(np.asarray(volume, dtype=np.float32), 3) * self._band, shape)
        return forward((inside * self.mask).astype(np.float32), 3)

    def correlation(
        self, a: Complex[np.ndarray, "... z y xh"], b: Complex[np.ndarray, "... z y xh"]
    ) -> Float[np.ndarray, "... s"]:
        """FSC of two masked maps, from their transforms."""
        return np.asarray(correlate_shells(a, b, (self.grid.box,) * 3), dtype=np.float64)

    def resolution(self, correlation: Float[np.ndarray, " s"]) -> Resolution:
        """Where an FSC with the truth falls below 0.5."""
        return resolution_at(correlation, MODEL, self.grid.frequency)

    @cached_property
    def _band(self) -> Bool[np.ndarray, "z y xh"]:
        return radial_frequency((self.grid.box,) * 3) < 0.5


def common_grid(grids: list[MapGrid]) -> MapGrid:
    """Of the grids of several maps the one that all can be shown on: that of the largest voxels, and of those the smallest box."""
    return min(grids, key=lambda grid: (-round(grid.pixel_size, 4), grid.box))


def chosen_images(
    conformation: np.ndarray, per_conformation: int, rng: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    """(Conformation, rows of up to `per_conformation` of its images drawn at random) for each conformation that has any, in order.

    `conformation` [n]: that of each image.
    """
    order = rng.permutation(len(conformation))
    return [
        (int(one), np.sort(order[conformation[order] == one][:per_conformation])) for one in np.unique(conformation)
    ]


def central_row(latents: Float[np.ndarray, "n d"], rows: np.ndarray) -> int:
    """Of some rows the one whose latent is nearest to the mean of theirs: the mean itself may lie where no particle does."""
    own = latents[rows]
    return int(rows[((own - own.mean(axis=0)) ** 2).sum(axis=1).argmin()])
