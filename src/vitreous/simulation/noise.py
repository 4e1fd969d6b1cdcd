"""Noise of images: Gaussian, independent from image to image, white or with a given power per shell.

    noise = sqrt(P / mean P) filtering white noise of the asked standard deviation

so that the variance over the pixels of an image is that standard deviation squared, whatever the spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem
from vitreous.fourier.shells import hermitian_weights, spread_shells
from vitreous.fourier.transforms import forward, inverse
from vitreous.model.particles import ImageName
from vitreous.simulation.streams import Quantity, image_stream, stream_key

if TYPE_CHECKING:
    from jaxtyping import Float

# Length in angstrom at which the power of `falling_power` has fallen to half.
FALL_LENGTH = 10.0


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a pixel, power per shell relative to other shells (None: white), and the seed."""

    deviation: float = 1.0
    power: np.ndarray | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.deviation >= 0:
            raise DataProblem(f"noise of standard deviation {self.deviation}", "0 or more")
        if self.power is not None and not ((self.power >= 0).all() and self.power.max() > 0):
            raise DataProblem("a noise spectrum with negative power or none at all", "power of 0 or more in each shell")


def noise_images(noise: Noise, names: ImageName, box: int) -> Float[np.ndarray, "n y x"]:
    """The noise of these images, float32: by the seed, the stack (`path_code`) and the number in it, whatever else
    there is.
    """
    key = stream_key(noise.seed, Quantity.NOISE)
    images = np.empty((len(names), box, box), dtype=np.float32)
    for image, index, stack in zip(images, names.index, names.path_code):
        image_stream(key, int(index), int(stack)).standard_normal(dtype=np.float32, out=image)
    if noise.power is not None:
        images = inverse(forward(images, 2) * noise_amplitude(noise.power, box), (box, box))
    images *= np.float32(noise.deviation)
    return images


def noise_amplitude(power: Float[np.ndarray, " s"], box: int) -> Float[np.ndarray, "y xh"]:
    """The filter that gives white noise this power per shell, its square averaging 1 over all frequencies of the box.

    Frequencies beyond the last shell (the corners) take its value.
    """
    spread = spread_shells(np.asarray(power, dtype=np.float64), (box, box))
    mean = (spread * hermitian_weights(box)).sum() / box**2
    return np.sqrt(spread / mean).astype(np.float32)


def falling_power(box: int, pixel_size: float, length: float = FALL_LENGTH) -> Float[np.ndarray, " s"]:
    """Power per shell that falls as `1 / (1 + (k length)^2)`, k in 1/angstrom: flat below 1/length, as 1/k^2 above.

    A plain stand-in for what images of ice show, where scattering by the ice and the detector's response let the noise
    fall towards high frequency. 10 A by default: seven times less at 4 A than at zero.
    """
    k = np.arange(box // 2 + 1) / (box * pixel_size)
    return 1 / (1 + (k * length) ** 2)
