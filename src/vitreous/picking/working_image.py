"""WorkingImage: a micrograph with the few pixels that finding particles needs, protein bright.

A particle is found by what is about its own size, so most of a micrograph's pixels are not needed: the transform is cut at the
frequency of the working pixel. Before, defective pixels are limited, so that they do not ring, and the slope of the whole image is
removed, of which its borders would make steps. The first pixel of both images is
the same place: a place on the working image is one on the micrograph times the ratio of the sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Float

OUTLIER = 8.0  # standard deviations, from which on pixels are taken for defects
CONSTANT = 1e-7  # of the mean: a standard deviation that is rounding


@dataclass(frozen=True)
class WorkingImage:
    """`values` [y, x], float32, mean 0, protein bright, pixels of `pixel_size` angstrom, of a micrograph of `recorded_shape` (rows,
    columns) pixels of `recorded_pixel_size` angstrom.
    """

    values: Float[np.ndarray, "y x"]
    pixel_size: float
    recorded_shape: tuple[int, int]
    recorded_pixel_size: float

    def recorded_position(self, place: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Places (x, y) in pixels of the micrograph, counted from 0, of places in pixels of the working image."""
        rows, columns = self.values.shape
        return np.asarray(place, dtype=np.float64) * (self.recorded_shape[1] / columns, self.recorded_shape[0] / rows)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in angstrom."""
        rows, columns = self.recorded_shape
        return columns * self.recorded_pixel_size, rows * self.recorded_pixel_size


def working_image(
    image: Float[np.ndarray, "y x"],
    pixel_size: float,
    working_pixel_size: float,
    *,
    contrast: Contrast | str = Contrast.RAW,
    workers: int | None = None,
) -> WorkingImage:
    """A micrograph with pixels of about `working_pixel_size` angstrom, never smaller than its own.

    `contrast` "raw" is that of micrographs as recorded, whose protein is dark: the sign is changed. NumPy only, float32. Raises
    DataProblem for what is no image: not two axes, NaN or infinite pixels, or the same value everywhere.
    """
    from scipy import fft as scipy_fft

    if contrast not in (Contrast.RAW, Contrast.INVERTED):
        raise SettingsProblem(f"contrast '{contrast}'", "'raw' (protein is dark) or 'inverted' (protein is bright)")
    limited = _limited(image)
    rows, columns = image.shape
    new_rows, new_columns = (max(1, round(size * min(1.0, pixel_size / working_pixel_size))) for size in image.shape)
    down, across = (new_rows - 1) // 2, (new_columns - 1) // 2  # the frequencies below the new Nyquist frequency
    waves: Any = scipy_fft.rfft(limited, axis=1, workers=workers)
    waves = scipy_fft.fft(np.ascontiguousarray(waves[:, : across + 1]), axis=0, workers=workers, overwrite_x=True)
    kept = np.zeros((new_rows, new_columns // 2 + 1), dtype=np.complex64)
    kept[: down + 1, : across + 1] = waves[: down + 1]
    if down:
        kept[-down:, : across + 1] = waves[-down:]
    sign = -1.0 if contrast == Contrast.RAW else 1.0
    kept *= np.float32(sign * (new_rows * new_columns) / (rows * columns))
    kept[0, 0] = 0
    values: Any = scipy_fft.irfft2(kept, s=(new_rows, new_columns), workers=workers)
    return WorkingImage(values, pixel_size * columns / new_columns, (rows, columns), pixel_size)


def reflected(values: Float[np.ndarray, "y x"], margin: int) -> tuple[Float[np.ndarray, "v u"], tuple[slice, slice]]:
    """An image continued beyond its borders by its mirror image, `margin` pixels or more on each side, to a size that transforms
    quickly, and where the image itself lies in it. Filters that wrap round then see no edge.
    """
    from scipy import fft as scipy_fft

    widths, places = [], []
    for size in values.shape:
        fast: Any = scipy_fft.next_fast_len(size + 2 * margin, real=True)
        extra = int(fast) - size
        before = extra // 2
        widths.append((before, extra - before))
        places.append(slice(before, before + size))
    return np.pad(values, widths, mode="symmetric"), (places[0], places[1])


def refuse_smaller_than_pixels(diameter: float, image: WorkingImage) -> None:
    """Raise SettingsProblem for particles that are smaller than two pixels of the micrograph."""
    if diameter < 2 * image.recorded_pixel_size:
        raise SettingsProblem(
            f"a diameter of {diameter:g} A in a micrograph with pixels of {image.recorded_pixel_size:.4g} A",
            "at least two pixels",
            "give --diameter in angstrom",
        )


def refuse_larger_than_image(diameter: float, image: WorkingImage) -> None:
    """Raise SettingsProblem for particles that have no room in the micrograph."""
    width, height = image.extent
    if not diameter < min(width, height):
        raise SettingsProblem(
            f"a diameter of {diameter:g} A in a micrograph of {width:.0f} x {height:.0f} A",
            "a smaller diameter than that",
            "check --diameter and the pixel size",
        )


def _limited(image: np.ndarray) -> np.ndarray:
    """Less its mean and its slope, defects limited to `OUTLIER` standard deviations."""
    if image.ndim != 2 or 0 in image.shape:
        raise DataProblem(f"an image of shape {image.shape}", "a micrograph [y, x]")
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(image.mean(dtype=np.float64))
        limited = np.asarray(image, dtype=np.float32) - np.float32(mean)
        deviation = float(limited.std(dtype=np.float64))
    if not math.isfinite(deviation):
        raise DataProblem("an image with NaN or infinite pixels", "finite numbers")
    if deviation <= CONSTANT * abs(mean):
        raise DataProblem(f"an image whose pixels all have the value {mean:g}", "an image")
    np.clip(limited, -OUTLIER * deviation, OUTLIER * deviation, out=limited)
    limited -= _slope(limited.mean(axis=0, dtype=np.float64))
    limited -= _slope(limited.mean(axis=1, dtype=np.float64))[:, None]
    return limited


def _slope(means: np.ndarray) -> np.ndarray:
    """The straight line of least squares through the means of rows or columns, less its mean."""
    place = np.arange(len(means)) - (len(means) - 1) / 2
    return (place * (place @ means) / max(float(place @ place), 1.0)).astype(np.float32)
