"""Spectrum: the mean power of an image in squares of Fourier space, fine enough to resolve the Thon rings.

The periodogram of the whole image, |F(k)|^2, is averaged over squares of Fourier pixels (Daniell's method) instead of over
patches of the image (Bartlett's). Nothing is lost: patches blur the spectrum by their window and leave out what the lens spreads across
their borders, and neighbouring pixels of the result would not be independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Float

PERIOD = 1000.0  # angstrom: the spectrum is sampled every 1 / PERIOD, so that rings of 3 um at 4 A stay apart
TILE_SIDE = 512.0  # angstrom: small enough that the defocus hardly changes within a tile, large enough for what the lens spreads
TAPER = 1 / 32  # of the image, at each border
OUTLIER = 8.0  # standard deviations, from which on pixels are taken for defects
FINEST = 3.0  # angstrom: nothing finer is looked at unless asked for
PER_PIXEL = 2.04  # the finest resolution in pixels: just short of Nyquist


@dataclass(frozen=True)
class Spectrum:
    """Mean power on the half plane, in the layout of `fourier.transforms.forward`: [box, box // 2 + 1], rows in the order of
    `frequencies`.

    `pixel_size` in angstrom: the frequencies end at 1 / (2 pixel_size), and are of use to the resolution `finest`. The scale is arbitrary. `averaged` is how many
    Fourier pixels each value is the mean of (0 where unknown).
    """

    power: Float[np.ndarray, "y xh"]
    pixel_size: float
    finest: float
    averaged: int = 0

    @property
    def box(self) -> int:
        return self.power.shape[0]

    @property
    def step(self) -> float:
        """Distance of two samples in 1/angstrom."""
        return 1 / (self.box * self.pixel_size)


def finest_resolution(pixel_size: float, asked: float | None = None) -> float:
    """The finest resolution in angstrom that is looked at: 3 angstrom or what was asked, and not beyond the sampling."""
    return max(FINEST if asked is None else asked, PER_PIXEL * pixel_size)


def spectrum_of_image(
    image: Float[np.ndarray, "y x"],
    pixel_size: float,
    *,
    finest: float | None = None,
    period: float = PERIOD,
    workers: int | None = None,
) -> Spectrum:
    """The power spectrum of an image up to the resolution `finest` (angstrom), sampled every 1 / `period` (1/angstrom) or so.

    The image loses the mean of every row and column and its defective pixels, and fades out at its borders. Raises DataProblem for an image that is
    too small (64 pixels), not finite, or has the same value everywhere.
    """
    from scipy import fft as scipy_fft

    prepared = _prepared(image)
    box = _box(max(image.shape), period / pixel_size)
    rows, columns = (_odd(size / box) for size in image.shape)
    end = finest_resolution(pixel_size, finest)
    half = min(int(np.ceil(box * pixel_size / end)) + 1, box // 2)
    waves: Any = scipy_fft.rfft(prepared, n=columns * box, axis=1, workers=workers)
    first = (columns + 1) // 2  # of the first square beside the axis
    waves = np.ascontiguousarray(waves[:, : first + half * columns])
    waves = scipy_fft.fft(waves, n=rows * box, axis=0, workers=workers, overwrite_x=True)
    power = _binned(np.roll(_squares(waves), rows // 2, axis=0), rows, columns, box, half)
    kept = np.r_[0:half, box - half : box]
    return Spectrum(power[kept, : half + 1], pixel_size * box / (2 * half), end, rows * columns)


@dataclass(frozen=True)
class TileSpectra:
    """Periodograms of tiles that cover an image: `power` [tile, box, box // 2 + 1] as in `Spectrum`, `x`, `y` [tile] where their middles
    lie, angstrom from the middle of the image (its pixel N // 2), and the `side` of a tile in angstrom.
    """

    power: Float[np.ndarray, "tile y xh"]
    pixel_size: float
    finest: float
    x: Float[np.ndarray, " tile"]
    y: Float[np.ndarray, " tile"]
    side: float

    @property
    def mean(self) -> Spectrum:
        return Spectrum(self.power.mean(axis=0), self.pixel_size, self.finest, len(self.power))


def tile_spectra(
    image: Float[np.ndarray, "y x"],
    pixel_size: float,
    *,
    finest: float | None = None,
    side: float = TILE_SIDE,
    workers: int | None = None,
) -> TileSpectra:
    """Periodograms of tiles of about `side` angstrom beside each other, none overlapping. Raises as `spectrum_of_image`."""
    from scipy import fft as scipy_fft

    prepared = _prepared(image)
    size = max(32, 2 * round(side / pixel_size / 2))
    counts = [length // size for length in image.shape]
    if min(counts) < 2:
        raise DataProblem(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels of {pixel_size:g} A",
            f"room for 2 x 2 tiles of {size} pixels, to see a tilt",
        )
    first = [(length - count * size) // 2 for length, count in zip(image.shape, counts)]
    corners = [(first[0] + i * size, first[1] + j * size) for i in range(counts[0]) for j in range(counts[1])]
    end = finest_resolution(pixel_size, finest)
    half = min(int(np.ceil(size * pixel_size / end)) + 1, size // 2)
    kept = np.r_[0:half, size - half : size]
    window = _faded(size)[:, None] * _faded(size)
    power = np.empty((len(corners), 2 * half, half + 1), dtype=np.float32)
    for tile, (top, left) in zip(power, corners):
        piece = prepared[top : top + size, left : left + size]
        tile[...] = _squares(scipy_fft.rfft2((piece - piece.mean()) * window, workers=workers))[kept, : half + 1]
    middle = (np.array(corners) + size // 2 - np.array(image.shape) // 2) * pixel_size
    return TileSpectra(
        power,
        pixel_size * size / (2 * half),
        end,
        middle[:, 1].astype(float),
        middle[:, 0].astype(float),
        size * pixel_size,
    )


def stored_spectrum(amplitudes: Float[np.ndarray, "y x"], pixel_size: float) -> Spectrum:
    """The spectrum of a file with amplitudes (not power) on the whole plane, zero frequency in the middle, as RELION writes it.

    Raises DataProblem if it is not square, odd, or not finite and positive somewhere.
    """
    values = np.asarray(amplitudes, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] % 2 or values.shape[0] < 64:
        raise DataProblem(f"a spectrum of {values.shape} pixels", "a square of an even number of pixels, at least 64")
    if not np.isfinite(values).all() or values.max() <= 0:
        raise DataProblem("a spectrum that is not finite, or nowhere positive", "amplitudes of an image's transform")
    shifted = np.fft.ifftshift(values)[:, : values.shape[1] // 2 + 1]
    return Spectrum((shifted**2).astype(np.float32), pixel_size, PER_PIXEL * pixel_size)


def _prepared(image: np.ndarray) -> np.ndarray:
    """Mean 0 in every row and column, defects limited, borders faded."""
    if image.ndim != 2 or min(image.shape) < 64:
        raise DataProblem(f"an image of shape {image.shape}", "at least 64 x 64 pixels")
    mean, deviation = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    if not np.isfinite(deviation):
        raise DataProblem("an image with NaN or infinite pixels", "finite numbers")
    if deviation <= 1e-7 * abs(mean):
        raise DataProblem(f"an image whose pixels all have the value {mean:g}", "an image")
    prepared = np.asarray(image, dtype=np.float32) - np.float32(mean)
    np.clip(prepared, -OUTLIER * deviation, OUTLIER * deviation, out=prepared)
    prepared -= prepared.mean(axis=0)  # stripes of the camera
    prepared -= prepared.mean(axis=1, keepdims=True)
    down, across = (_faded(size) for size in image.shape)
    prepared *= down[:, None]
    prepared *= across
    return prepared


def _faded(size: int) -> np.ndarray:
    """A window of ones with a cosine at each end."""
    width = max(1, round(size * TAPER))
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / width)
    return np.concatenate([rise, np.ones(size - 2 * width), rise[::-1]]).astype(np.float32)


def _odd(ratio: float) -> int:
    """The smallest odd number that is at least the ratio."""
    number = max(1, int(np.ceil(ratio - 1e-9)))
    return number if number % 2 else number + 1


def _box(size: int, target: float) -> int:
    """An even size near the target of which an odd multiple is just above the image's, so that little is padded."""
    multiple = max(1, 2 * round((size / target - 1) / 2) + 1)
    box = int(np.ceil(size / multiple))
    return box + box % 2


def _squares(waves: Any) -> np.ndarray:
    return waves.real**2 + waves.imag**2


def _binned(power: np.ndarray, rows: int, columns: int, box: int, half: int) -> np.ndarray:
    """Means over squares of `rows` x `columns` pixels: [box, half + 1]. The first column is that of the axis alone."""
    first = (columns + 1) // 2
    summed = power.reshape(box, rows, -1).sum(axis=1)
    beside = summed[:, first:].reshape(box, half, columns).sum(axis=2)
    axis = summed[:, :first].mean(axis=1, keepdims=True) * columns
    return np.concatenate([axis, beside], axis=1) / (rows * columns)
