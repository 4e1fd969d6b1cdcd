"""Dose: how exposure destroys the specimen, frequency by frequency, and the weights that make the best of it.

The amplitude of the specimen's image at frequency k falls with the exposure N, in electrons per square angstrom, as

    q(k, N) = exp(-N / (2 Ne(k))),      Ne(k) = 0.245 k^-1.665 + 2.81

with the critical exposure Ne measured at 300 kV (Grant & Grigorieff 2015, doi:10.7554/eLife.06980). The power falls as
exp(-N / Ne). At k = 0 the critical exposure is infinite and nothing fades; all functions are written in its inverse and
are finite there, as are their gradients.

Other voltages: electrons of lower energy do more damage, and Ne is to be multiplied by `voltage_scale` < 1. There is no
default: 1/1.57 at 100 kV follows from Peet et al. 2019 (PMC6495108), who measured the fading of crystals at 100 and
300 kV; 0.8 at 200 kV is in common use, but a measurement of it is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# Ne(k) = FACTOR k^-POWER + FLOOR in e/A^2, k in 1/A, at 300 kV
FACTOR, POWER, FLOOR = 0.245, 1.665, 2.81
# The exposure with the best signal-to-noise ratio over the critical one: twice the root of exp(x) = 1 + 2x.
OPTIMAL_OVER_CRITICAL = 2 * 1.2564312086261697


def critical_exposure(k: Float[Array, " *grid"], *, voltage_scale: float = 1.0) -> Float[Array, " *grid"]:
    """Ne(k) in electrons per square angstrom: the exposure that leaves exp(-1/2) of the amplitude. Infinite at k = 0.

    >>> round(float(critical_exposure(np.array(0.25))), 3)
    5.274
    """
    xp = namespace(k)
    rate = fading_rate(k, voltage_scale=voltage_scale)
    positive = rate > 0
    return xp.where(positive, 1.0 / xp.where(positive, rate, 1.0), math.inf).astype(rate.dtype)


def optimal_exposure(k: Float[Array, " *grid"], *, voltage_scale: float = 1.0) -> Float[Array, " *grid"]:
    """The exposure at which the signal-to-noise ratio at k of an unweighted image is highest, 2.513 Ne(k).

    The signal of an exposure N grows as `1 - exp(-N / (2 Ne))`, the noise as sqrt(N).
    """
    return OPTIMAL_OVER_CRITICAL * critical_exposure(k, voltage_scale=voltage_scale)


def fading_rate(k: Float[Array, " *grid"], *, voltage_scale: float = 1.0) -> Float[Array, " *grid"]:
    """1 / Ne(k), in square angstrom per electron: `k^p / (a + c k^p)`, 0 at k = 0."""
    if isinstance(voltage_scale, int | float) and not (math.isfinite(voltage_scale) and voltage_scale > 0):
        raise SettingsProblem(f"a voltage scale of {voltage_scale}", "a positive factor, 1 at 300 kV")
    k = namespace(k).asarray(k)
    power = k**POWER
    return (power / ((FACTOR + FLOOR * power) * voltage_scale)).astype(float_dtype(k))


def exposure_weight(k: Float[Array, " *grid"], exposure: Any, *, voltage_scale: float = 1.0) -> Float[Array, " *grid"]:
    """q(k, N) = exp(-N / (2 Ne(k))): what is left of the amplitude at k after `exposure` N.

    >>> round(float(exposure_weight(np.array(0.25), 10.0)), 4)
    0.3875
    """
    return namespace(k, exposure).exp(-0.5 * exposure * fading_rate(k, voltage_scale=voltage_scale))


def mean_exposure_weight(
    k: Float[Array, " *grid"], start: Any, end: Any, *, voltage_scale: float = 1.0
) -> Float[Array, " *grid"]:
    """Mean of `exposure_weight` while the exposure goes from `start` to `end`: what one frame sees.

        exp(-start / (2 Ne)) (1 - exp(-x)) / x,     x = (end - start) / (2 Ne)

    exactly, not the weight at the frame's middle.
    """
    xp = namespace(k, start, end)
    rate = 0.5 * fading_rate(k, voltage_scale=voltage_scale)
    x = (end - start) * rate
    small = x < 1e-3  # there (1 - exp(-x)) / x is its series, to 1e-11
    safe = xp.where(small, 1.0, x)
    series = 1 - x / 2 + x**2 / 6 - x**3 / 24
    return xp.exp(-start * rate) * xp.where(small, series, -xp.expm1(-safe) / safe)


@dataclass(frozen=True)
class Exposure:
    """How a movie is exposed: `dose_per_frame` of each frame and `pre_exposure` before the first, in e/A^2.

    `voltage_scale` multiplies the critical exposure: 1 at 300 kV.
    """

    dose_per_frame: tuple[float, ...]
    pre_exposure: float = 0.0
    voltage_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.dose_per_frame or not all(math.isfinite(dose) and dose > 0 for dose in self.dose_per_frame):
            raise SettingsProblem(
                f"doses per frame {self.dose_per_frame}", "one positive number of e/A^2 for each frame"
            )
        if not (math.isfinite(self.pre_exposure) and self.pre_exposure >= 0):
            raise SettingsProblem(f"a pre-exposure of {self.pre_exposure} e/A^2", "0 or more")
        if not (math.isfinite(self.voltage_scale) and self.voltage_scale > 0):
            raise SettingsProblem(f"a voltage scale of {self.voltage_scale}", "a positive factor, 1 at 300 kV")

    @classmethod
    def even(cls, total: float, frames: int, pre_exposure: float = 0.0, voltage_scale: float = 1.0) -> Exposure:
        """A total dose in e/A^2 shared equally between a number of frames."""
        if frames < 1:
            raise SettingsProblem(f"a movie of {frames} frames", "at least one")
        return cls((total / frames,) * frames, pre_exposure, voltage_scale)

    def __len__(self) -> int:
        return len(self.dose_per_frame)

    @property
    def boundaries(self) -> Float[np.ndarray, " n+1"]:
        """Accumulated exposure before the first frame and after each."""
        return self.pre_exposure + np.concatenate([[0.0], np.cumsum(self.dose_per_frame)])

    def fading(self, frame: int, k: Float[Array, " *grid"]) -> Float[Array, " *grid"]:
        """What is left of the amplitude at k during a frame, averaged over it."""
        start, end = (float(edge) for edge in self.boundaries[frame : frame + 2])
        return mean_exposure_weight(k, start, end, voltage_scale=self.voltage_scale)

    def filter_norm(self, k: Float[Array, " *grid"]) -> Float[Array, " *grid"]:
        """sqrt(sum q_i^2 d_i / mean d): what `optimal_sum` divides by, sqrt(sum q_i^2) for equal doses."""
        mean = sum(self.dose_per_frame) / len(self)
        total = sum(dose / mean * self.fading(i, k) ** 2 for i, dose in enumerate(self.dose_per_frame))
        return namespace(k).sqrt(total)


def optimal_sum(transforms: Sequence[Array], k: Float[Array, " *grid"], exposure: Exposure) -> Float[Array, " *grid"]:
    """Sum of the frames' transforms with the highest signal-to-noise ratio, `sum q_i F_i / sqrt(sum q_i^2)`.

    q_i is what is left of the amplitude in frame i: frames of equal noise are weighted by their signal. The division
    keeps the power of white noise that of one frame at every frequency (Grant & Grigorieff 2015). For frames of unequal
    dose d_i the sum below the root is `sum q_i^2 d_i / mean d`. Frames must be aligned.
    """
    weighted = sum(exposure.fading(i, k) * transform for i, transform in enumerate(transforms))
    return weighted / exposure.filter_norm(k)
