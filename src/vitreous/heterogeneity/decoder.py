"""What every landscape has: a decoder, which gives the transform of the map at any spatial frequency for any latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import inverse
from vitreous.model.volume import Volume

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

SMALLEST_BOX = 8
POINTS_AT_ONCE = 1 << 17  # of a map: what a network holds in memory at a time


class Decoder(Protocol):
    """A map as a function of (spatial frequency, latent).

    It was made from images of `box` pixels of `pixel_size` angstrom, and knows frequencies below `radius` cycles per box, at most box/2.
    """

    @property
    def box(self) -> int: ...

    @property
    def pixel_size(self) -> float: ...

    @property
    def radius(self) -> float: ...

    @property
    def dimensions(self) -> int:
        """d, of the latent."""
        ...

    def transform(self, points: Float[np.ndarray, "p 3"], latent: Float[np.ndarray, " d"]) -> Complex[np.ndarray, " p"]:
        """The map's unnormalised transform, its origin at index box // 2, at the frequencies `points` (x, y, z) in cycles per box.

        `F(k) = sum_r V(r) exp(-2 pi i k . r / box)` with r counted from the origin, so `F(-k) = conj F(k)`.
        """
        ...


def decoded_volume(decoder: Decoder, latent: Float[np.ndarray, " d"], box: int | None = None) -> Volume:
    """The map of one latent, on a grid of `box` voxels over the same field of view: smaller voxels show no more, larger ones less.

    The decoder is asked for the frequencies of the grid inside its radius and that of the box; the others are 0. Voxel values do not
    depend on the box, as in `fourier.transforms.fourier_crop` and `fourier_pad`. SettingsProblem for a box or latent that cannot be.
    """
    box = decoder.box if box is None else box
    if box < SMALLEST_BOX:
        raise SettingsProblem(f"a map of {box} voxels", f"at least {SMALLEST_BOX}")
    latent = np.asarray(latent, dtype=np.float32)
    if latent.shape != (decoder.dimensions,) or not np.isfinite(latent).all():
        raise SettingsProblem(f"a latent {latent.tolist()}", f"{decoder.dimensions} finite numbers")
    line, half = np.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1)
    kz, ky, kx = np.meshgrid(line, line, half, indexing="ij")
    inside = np.sqrt(kx**2 + ky**2 + kz**2) < min(decoder.radius, box / 2)
    points = np.stack([kx[inside], ky[inside], kz[inside]], axis=-1).astype(np.float32)
    values = [
        decoder.transform(points[start : start + POINTS_AT_ONCE], latent)
        for start in range(0, len(points), POINTS_AT_ONCE)
    ]
    transform = np.zeros(inside.shape, dtype=np.complex64)
    transform[inside] = np.concatenate(values) * np.float32((box / decoder.box) ** 3)
    return Volume(inverse(transform, box, 3).astype(np.float32), decoder.pixel_size * decoder.box / box)
