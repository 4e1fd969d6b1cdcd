"""Back-projection: the transpose of slicing. Slices are added into a padded transform with the same trilinear weights.

`<project(V), S> = <V, backproject(S)>` to rounding error, by test. Direct Fourier inversion (`direct_inversion.py`) uses the same
insertion and keeps the sum of weights beside the sum of values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem
from vitreous.fourier.interpolation import gridding_correction
from vitreous.reconstruction.projection import PADDING, SliceGrid, padded_radius

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


@dataclass(frozen=True)
class Accumulator:
    """Sums of inserted slices. `sums` [z, y, x, 3] holds (real, imaginary, weight), laid out as a FourierVolume."""

    box: int
    padding: int = PADDING
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        radius = padded_radius(self.box, self.padding)
        object.__setattr__(self, "sums", np.zeros((2 * radius + 1, 2 * radius + 1, radius + 1, 3), dtype=self.dtype))

    @staticmethod
    def bytes_of(box: int, padding: int = PADDING) -> int:
        """What the sums take in memory, in single precision."""
        radius = padded_radius(box, padding)
        return (2 * radius + 1) ** 2 * (radius + 1) * 3 * 4

    @property
    def values(self) -> Complex[np.ndarray, "z y x"]:
        """The sum of weighted slices."""
        return complex_values(self.sums)

    @property
    def weights(self) -> Float[np.ndarray, "z y x"]:
        """The sum of weights."""
        return self.sums[..., 2]


def insert_slices(
    accumulator: Accumulator,
    slices: Complex[np.ndarray, "p n"],
    weights: Float[np.ndarray, "p n"],
    rotation: Float[np.ndarray, "n 3 3"],
    frequencies: tuple[np.ndarray, np.ndarray],
) -> None:
    """Add slices to the sums, in place. Arrays are pixel-major, [pixel, particle].

    `frequencies` (kx, ky) in cycles per box: those of a SliceGrid, or the same after a magnification. The rotation of a slice is the
    one `project` would have read it with. Raises DataProblem for what would lie outside the stored transform.
    """
    from vitreous.reconstruction.insertion_kernel import insert

    dtype = accumulator.dtype
    kx, ky = (np.ascontiguousarray(k, dtype=dtype) for k in frequencies)
    basis = np.ascontiguousarray(rotation[:, :2, :].reshape(-1, 6).T * accumulator.padding, dtype=dtype)
    farthest = float(np.hypot(kx, ky).max(initial=0.0))
    # The compiled loop trusts its numbers. Written so that NaN is refused as well.
    if not (farthest < accumulator.box / 2 and np.abs(basis).max(initial=0.0) <= accumulator.padding * 1.001):
        raise DataProblem(
            f"slices that reach {farthest:.1f} cycles per box, or orientations that are not rotations",
            f"less than {accumulator.box / 2} and finite angles",
        )
    size, _, width, _ = accumulator.sums.shape
    insert(accumulator.sums.reshape(-1), size, width, slices, weights, kx, ky, basis)


def backproject(
    slices: Complex[np.ndarray, "n p"], rotation: Float[np.ndarray, "n 3 3"], grid: SliceGrid, padding: int = PADDING
) -> Float[np.ndarray, "z y x"]:
    """The transpose of `project(fourier_volume(v), rotation, grid)`, as a real volume.

    With the inner products `Re sum conj(a) b` over the listed pixels and `sum a b` over voxels. No weights, no division: this is the
    operator that gradient methods need, not a reconstruction.
    """
    dtype = np.dtype(np.float64 if slices.dtype == np.complex128 else np.float32)
    accumulator = Accumulator(grid.box, padding, dtype)
    ones = np.zeros((len(grid), len(rotation)), dtype=dtype)
    insert_slices(accumulator, np.ascontiguousarray(slices.T), ones, rotation, (grid.kx, grid.ky))
    half = complex_values(fold_nyquist(accumulator.sums, grid.box, padding))
    # A stored voxel with x > 0 stands for itself only, while the inverse real transform adds its mirror image.
    half[:, :, 1:-1] /= 2
    size = padding * grid.box
    volume = inverse_to_box(half, grid.box) * dtype.type(float(size) ** 3)
    return (volume / gridding_correction(grid.box, padding, "linear", 3)).astype(dtype)


def complex_values(sums: Float[np.ndarray, "z y x 3"]) -> Complex[np.ndarray, "z y x"]:
    """The first two of (real, imaginary, weight) as complex numbers."""
    values = np.empty(sums.shape[:3], dtype=np.complex128 if sums.dtype == np.float64 else np.complex64)
    values.real, values.imag = sums[..., 0], sums[..., 1]
    return values


def fold_nyquist(stored: np.ndarray, box: int, padding: int = PADDING) -> np.ndarray:
    """The part of stored voxels [z, y, x, ...] that is a half transform [P, P, P // 2 + 1], centred in z and y, as a view.

    The planes at +P/2 are those at -P/2: what they hold is added there, in place.
    """
    size, radius = padding * box, padded_radius(box, padding)
    low, high = radius - size // 2, radius + size // 2
    stored[low] += stored[high]
    stored[:, low] += stored[:, high]
    return stored[low:high, low:high, : size // 2 + 1]


def inverse_to_box(half: Complex[np.ndarray, "P P h"], box: int, threads: int = -1) -> Float[np.ndarray, "z y x"]:
    """Inverse transform of a half transform (centred in z and y), cropped to the central `box`, on so many threads (-1: one for each core).

    Only the planes that are kept are carried from one axis to the next, which halves the work against a whole inverse.
    """
    import scipy.fft

    size = half.shape[0]
    kept = np.arange(-(box // 2), box - box // 2)
    # Shifting the zero frequency from the middle of an axis to its start is a factor exp(-2 pi i (P // 2) r / P) on the result.
    ramp = np.exp(-2j * np.pi * (size // 2) * kept / size).astype(half.dtype)
    part = np.asarray(scipy.fft.ifft(half, axis=0, workers=threads))[kept]
    part *= ramp[:, None, None]
    part = np.asarray(scipy.fft.ifft(part, axis=1, workers=threads))[:, kept]
    part *= ramp[None, :, None]
    return np.asarray(scipy.fft.irfft(part, n=size, axis=2, workers=threads))[:, :, kept]
