"""Projection of a volume by slicing its Fourier transform.

Projection-slice theorem: the image of a volume turned by `R` and projected along +z has the transform
`F_image(kx, ky) = F_object(R.T @ (kx, ky, 0))` (docs/conventions.md, Rotations). The volume is divided by the gridding correction
of the trilinear kernel, padded with zeros, transformed once, and each slice is read from it by trilinear interpolation. The
transposed operation is in `backprojection.py`; the exact but slower way is `fourier.nonuniform`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.errors import SettingsProblem
from vitreous.fourier.interpolation import gridding_correction

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

    Array = Any  # NumPy or JAX

PADDING = 2


@dataclass(frozen=True)
class SliceGrid:
    """The independent Fourier pixels of an image of `box` pixels inside a radius, ordered from the centre outwards.

    `kx`, `ky` [p] are integer frequencies (cycles per box); `row`, `column` [p] their place in the rfft layout. Of each pair
    (k, -k) one is listed: kx > 0, or kx = 0 with ky >= 0. Pixels at or beyond `radius` (at most box/2) are left out, so
    the Nyquist row and column of an even box never enter.
    """

    box: int
    radius: float
    kx: Int[np.ndarray, " p"]
    ky: Int[np.ndarray, " p"]

    @property
    def row(self) -> Int[np.ndarray, " p"]:
        return np.where(self.ky < 0, self.ky + self.box, self.ky).astype(np.int32)

    @property
    def column(self) -> Int[np.ndarray, " p"]:
        return self.kx.astype(np.int32)

    @property
    def shell(self) -> Int[np.ndarray, " p"]:
        """Shell index round(|k|) of each pixel."""
        return np.rint(np.hypot(self.kx, self.ky)).astype(np.int32)

    def __len__(self) -> int:
        return len(self.kx)


@functools.lru_cache(maxsize=16)
def slice_grid(box: int, radius: float | None = None) -> SliceGrid:
    """The pixels of an image of `box` pixels with |k| < radius (default box/2)."""
    radius = box / 2 if radius is None else min(float(radius), box / 2)
    ky, kx = np.meshgrid(np.arange(-(box // 2), box // 2 + 1), np.arange(box // 2 + 1), indexing="ij")
    length = np.hypot(kx, ky)
    inside = (length < radius) & ((kx > 0) | (ky >= 0))
    kx, ky, length = kx[inside], ky[inside], length[inside]
    # Ring by ring, and around each ring: neighbours in this list are neighbours in the volume, see insertion_kernel.
    order = np.lexsort((np.arctan2(ky, kx), np.rint(length)))
    return SliceGrid(box, radius, kx[order].astype(np.int32), ky[order].astype(np.int32))


@dataclass(frozen=True)
class FourierVolume:
    """The padded transform of a volume, ready to be sliced.

    `data` [z, y, x] has its zero frequency at the middle of z and y and at 0 of x (the half x >= 0 is stored), one voxel per
    1/(padding * box) cycles per pixel. Made by `fourier_volume`.
    """

    data: Any
    box: int
    padding: int = PADDING


def padded_radius(box: int, padding: int = PADDING) -> int:
    """Voxels that a FourierVolume keeps on each side of zero: the half width of the padded transform and one for the kernel.

    The padded size must be even, so that slices inside box/2 never reach beyond the Nyquist plane; SettingsProblem otherwise.
    """
    if padding * box % 2:
        raise SettingsProblem(f"padding {padding} for a box of {box}", "an even padded size", "use padding 2")
    return padding * box // 2 + 1


def fourier_volume(volume: Float[Array, "z y x"], padding: int = PADDING, *, correct: bool = True) -> FourierVolume:
    """Transform a cubic volume (origin at index N // 2) for slicing.

    `correct` divides by the gridding correction of the trilinear kernel, the separable product of sinc^2, so that slices of the
    result are those of the volume itself and not of the volume times the kernel's envelope.
    """
    xp = namespace(volume)
    box = volume.shape[-1]
    if correct:
        volume = volume / xp.asarray(gridding_correction(box, padding, "linear", 3), dtype=volume.dtype)
    size, radius = padding * box, padded_radius(box, padding)
    before = size // 2 - box // 2
    after = size - box - before
    padded = xp.fft.ifftshift(xp.pad(volume, ((before, after),) * 3))
    if xp is np:
        import scipy.fft

        transform = scipy.fft.rfftn(padded, workers=-1)
    else:
        transform = xp.fft.rfftn(padded)
    both = np.arange(-radius, radius + 1) % size
    half = np.minimum(np.arange(radius + 1), size // 2)  # columns beyond the Nyquist one are never read
    return FourierVolume(transform[both][:, both][:, :, half], box, padding)


def project(volume: FourierVolume, rotation: Float[Array, "n 3 3"], grid: SliceGrid) -> Complex[Array, "n p"]:
    """Slices of a volume: the transforms of its projections, at the pixels of `grid`.

    Trilinear interpolation in the padded transform; differentiable in the volume and in the rotation under JAX.
    `half_plane` makes rfft images of the result.
    """
    xp = namespace(volume.data, rotation)
    kx, ky = (xp.asarray(k, dtype=rotation.dtype) for k in (grid.kx, grid.ky))
    return values_at(volume, kx[:, None] * rotation[:, None, 0, :] + ky[:, None] * rotation[:, None, 1, :])


def values_at(volume: FourierVolume, points: Float[Array, "*batch 3"]) -> Complex[Array, "*batch"]:
    """The transform at any frequencies (x, y, z) in cycles per box, by trilinear interpolation; those below the Nyquist frequency are stored."""
    xp = namespace(volume.data, points)
    points = points * float(volume.padding)
    mirrored = points[..., 0] < 0
    values = trilinear(volume.data, xp.where(mirrored[..., None], -points, points))
    return xp.where(mirrored, xp.conj(values), values)


def trilinear(data: Complex[Array, "z y x"], points: Float[Array, "*batch 3"]) -> Complex[Array, "*batch"]:
    """Values of `data` at points (x, y, z) >= (0, -middle, -middle), by the 8 neighbours of each."""
    xp = namespace(data, points)
    depth, height, width = data.shape
    corner = xp.floor(points)
    fraction = points - corner
    index = corner.astype(np.int32) + np.array([0, height // 2, depth // 2], dtype=np.int32)
    flat = xp.asarray(data).reshape(-1)
    base = (index[..., 2] * height + index[..., 1]) * width + index[..., 0]
    weights = [(1 - fraction[..., axis], fraction[..., axis]) for axis in range(3)]
    total: Any = 0
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                place = base + ((dz * height + dy) * width + dx)
                # All points lie inside by construction of the grid; saying so spares a test for each on every device.
                value = flat[place] if xp is np else flat.at[place].get(mode="promise_in_bounds")
                total = total + weights[2][dz] * weights[1][dy] * weights[0][dx] * value
    return total


def half_plane(slices: Complex[Array, "n p"], grid: SliceGrid) -> Complex[Array, "n y x"]:
    """Spread listed pixels onto rfft images [n, box, box // 2 + 1]; pixels outside the grid's radius are 0."""
    xp = namespace(slices)
    on_axis = (grid.kx == 0) & (grid.ky > 0)  # the mirror images of these are in the stored half too
    row = np.concatenate([grid.row, grid.box - grid.ky[on_axis]])
    column = np.concatenate([grid.column, grid.column[on_axis]])
    values = xp.concatenate([slices, xp.conj(slices[:, on_axis])], axis=1)
    shape = (slices.shape[0], grid.box, grid.box // 2 + 1)
    if xp is np:
        image = np.zeros(shape, dtype=slices.dtype)
        image[:, row, column] = values
        return image
    return xp.zeros(shape, dtype=slices.dtype).at[:, row, column].set(values)
