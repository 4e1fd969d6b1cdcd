"""The Cartesian Fourier pixels in which images are compared, as a list."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.shells import hermitian_weights, shell_index
from vitreous.fourier.transforms import frequencies

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Num

    Array = Any  # NumPy or JAX


@dataclass(frozen=True)
class FourierPixels:
    """p pixels of the half transform (`rfftn` layout) of a box `shape` = (y, x).

    `index` [p] counts the half transform row by row. `kx`, `ky` [p] in 1/angstrom. `weight` [p]: how many pixels of the
    whole transform, and so how many real numbers, each stands for: 2, because its conjugate is left out, but 1 in the columns
    k = 0 and N/2, which hold both of each pair. `shell` [p] = round(|k| N pixel_size), corners included. `seen` [p] is False
    where the object has no part: the Nyquist row and column of even sizes, whose frequency stands for two, and which slices
    and shifts drop.
    """

    shape: tuple[int, int]
    pixel_size: float
    index: Int[np.ndarray, " p"]
    kx: Float[np.ndarray, " p"]
    ky: Float[np.ndarray, " p"]
    weight: Float[np.ndarray, " p"]
    shell: Int[np.ndarray, " p"]
    seen: Bool[np.ndarray, " p"]

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def image_size(self) -> int:
        """P: pixels of the image in real space."""
        return self.shape[0] * self.shape[1]

    def of(self, transform: Num[Array, "... y xh"]) -> Num[Array, "... p"]:
        """The values of a half transform at these pixels."""
        half = (self.shape[0], self.shape[1] // 2 + 1)
        if tuple(transform.shape[-2:]) != half:
            raise DataProblem(f"a transform of shape {tuple(transform.shape)}", f"last axes {half}")
        return transform.reshape(*transform.shape[:-2], half[0] * half[1])[..., self.index]

    def rows(self, selection: np.ndarray | slice) -> FourierPixels:
        """Some of these pixels."""
        arrays = (self.index, self.kx, self.ky, self.weight, self.shell, self.seen)
        return FourierPixels(self.shape, self.pixel_size, *(array[selection] for array in arrays))


def fourier_pixels(
    shape: tuple[int, int], pixel_size: float = 1.0, *, finest: float | None = None, with_nyquist: bool = False
) -> FourierPixels:
    """The pixels of a box `shape` = (y, x) up to the resolution `finest` (angstrom), all of them if it is None.

    `with_nyquist` keeps the Nyquist row and column as well. They tell nothing of the object, but all pixels together are
    the whole image: their log-likelihood is that of its pixels in real space.

    >>> pixels = fourier_pixels((6, 6), with_nyquist=True)
    >>> len(pixels), int(pixels.weight.sum()), len(fourier_pixels((6, 6)))
    (24, 36, 15)
    """
    if finest is not None and not finest > 0:
        raise SettingsProblem(f"a finest resolution of {finest} angstrom", "a positive number")
    kx, ky = (grid.ravel() for grid in np.broadcast_arrays(*frequencies(shape, pixel_size)))
    weight = np.broadcast_to(hermitian_weights(shape[1]), (shape[0], shape[1] // 2 + 1)).ravel()
    seen = (2 * pixel_size * np.abs(kx) < 1 - 1e-12) | (shape[1] % 2 == 1)
    seen &= (2 * pixel_size * np.abs(ky) < 1 - 1e-12) | (shape[0] % 2 == 1)
    whole = FourierPixels(shape, pixel_size, np.arange(kx.size), kx, ky, weight, shell_index(shape).ravel(), seen)
    keep = np.ones(kx.size, dtype=bool) if with_nyquist else seen
    if finest is not None:
        keep = keep & (np.hypot(kx, ky) * finest <= 1)
    return whole.rows(keep)
