"""Local resolution: how far two half maps agree around each voxel, and a filter that follows it.

Both maps are filtered to a band of frequencies about k, and correlated in a window w about each voxel r:

    C_k(r) = sum_u w(r-u) m(u) a_k(u) b_k(u)  /  sqrt( sum_u w(r-u) m(u) a_k(u)^2   sum_u w(r-u) m(u) b_k(u)^2 )

For a window as wide as the box this is the FSC of the band, by Parseval's theorem; m is a mask, which acts after the filter
and so adds no correlation of its own (Penczek 2020, doi:10.1107/S2052252520011574). Each sum is a convolution: all voxels
at once, a band at a time. The local resolution is where C_k(r) first falls below a threshold (Cardone, Heymann & Steven
2013, doi:10.1016/j.jsb.2013.08.002, who transform each window instead).

Window and band are Gaussians. What a window of standard deviation s shows cannot be told apart more finely than 1/(2 pi s)
in frequency, and a band narrower than that would reach beyond the window in real space: the bands have that width. Before,
each shell is divided by its root mean square amplitude in both maps, so that no band is ruled by its strongest shell.

In maps of independent noise C_k(r) scatters about 0 with a standard deviation that follows from window and band alone,

    variance = sum_r rho_k(r)^2 (w * w)(r),      rho_k the autocorrelation of noise in the band, w of sum 1,

and no correlation below three of these counts, whatever the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.engine.local import Progress, silent
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, gaussian_low_pass, low_pass, sigma_k_of_blur
from vitreous.fourier.shells import shell_mean, spread_shells
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.reconstruction.fsc import half_map_curves

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

# Half maps at FSC 0.5 hold as much signal as noise. At 0.143, the reading of a whole map, the few independent values of a
# window would decide by chance; at 0.5 they do not.
THRESHOLD = 0.5
SIGNIFICANCE = 3.0  # standard deviations of the correlation of noise
# Full width at half maximum of the window, in units of the resolution of the whole map: noise correlates to +-0.03 there,
# and to +-0.1 at a resolution three times worse.
WINDOW = 5.0
# The first band lies at this many cycles in a window: below, a band would reach zero frequency.
LEAST_CYCLES = 1.25
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
INSIDE = 0.5  # a mask holds the voxels above this
FAINT = 1e-12  # power of a shell, relative to the strongest, that is rounding of a filtered map
LEVELS = 24  # cut-offs of the local filter


@dataclass(frozen=True)
class LocalResolution:
    """`values` [z, y, x]: resolution in angstrom about each voxel, infinite where the half maps agree at none (and
    outside `inside`), `2 pixel_size` where they agree to the last band.

    `window` is the full width at half maximum in angstrom. For each band: `frequency` [b] of its middle (1/angstrom),
    `deviation` [b] of the correlation of noise, `level` [b] that the correlation had to reach, and `correlation` [b] of the
    band over all of `inside`.
    """

    values: np.ndarray
    inside: np.ndarray
    pixel_size: float
    threshold: float
    window: float
    frequency: np.ndarray
    deviation: np.ndarray
    level: np.ndarray
    correlation: np.ndarray

    @cached_property
    def resolved(self) -> Float[np.ndarray, " n"]:
        """The finite resolutions inside, sorted from fine to coarse."""
        values = self.values[self.inside]
        return np.sort(values[np.isfinite(values)])

    @property
    def unresolved(self) -> float:
        """The fraction of the voxels inside that have no resolution."""
        return 1 - len(self.resolved) / max(1, int(self.inside.sum()))

    @property
    def coarsest(self) -> float:
        """The coarsest resolution that could be found, in angstrom: that of the first band."""
        return float(1 / self.frequency[0])

    def quantile(self, fraction: float) -> float | None:
        """The resolution that this fraction of the resolved voxels surpasses; None if there are none."""
        return float(np.quantile(self.resolved, fraction)) if len(self.resolved) else None

    @property
    def overall(self) -> float | None:
        """Where the correlation over all of `inside` falls below the same levels: one resolution for the map."""
        reading = _Reading(np.zeros(1))
        for index, frequency in enumerate(self.frequency):
            reading.add(frequency, self.correlation[index : index + 1] - self.level[index])
        found = float(reading.resolution(2 * self.pixel_size)[0])
        return found if math.isfinite(found) else None


def local_resolution(
    first: Float[np.ndarray, "z y x"],
    second: Float[np.ndarray, "z y x"],
    pixel_size: float,
    mask: Float[np.ndarray, "z y x"] | None = None,
    *,
    threshold: float = THRESHOLD,
    window: float | None = None,
    significance: float = SIGNIFICANCE,
    workers: int | None = None,
    progress: Progress = silent,
) -> LocalResolution:
    """The resolution of two half maps, unfiltered and unmasked, about each voxel.

    `threshold` in (0, 1) is that of the correlation, raised in bands where noise reaches it: to `significance` standard
    deviations. `window` is the full width at half maximum in angstrom, at least 10 voxels and at most half the box; None:
    `default_window` of the resolution of the whole map (FSC 0.143, corrected for the mask). `mask` (0 to 1) keeps the
    solvent out of the windows; values are found where it is above 0.5.

    Linear interpolation between bands. Memory is that of about eighteen arrays of the maps' size.
    Raises DataProblem for maps that differ in shape or hold NaN, SettingsProblem for numbers out of range.
    """
    _check(first, second, mask, threshold, significance)
    shape = tuple(first.shape)
    if window is None:
        whole = half_map_curves(first, second, pixel_size, mask=mask).resolution()
        window = default_window(whole.value, shape[0], pixel_size)
    _check_window(window, shape[0], pixel_size)
    sigma = window / FWHM
    dtype = np.result_type(first, second, np.float32)
    k = radial_frequency(shape, pixel_size, dtype=dtype)
    kernel = gaussian_low_pass(k, sigma_k_of_blur(sigma)).astype(dtype)
    weights = None if mask is None else np.asarray(mask, dtype=dtype)
    transforms = whitened(forward(np.stack([first, second]).astype(dtype), 3, workers=workers), shape)
    inside = np.ones(shape, dtype=bool) if mask is None else np.asarray(mask) > INSIDE
    bands = band_frequencies(window, pixel_size)
    reading, columns = _Reading(np.zeros(shape, dtype=dtype)), []
    for number, frequency in enumerate(bands, 1):
        transfer = band(k, frequency, sigma_k_of_blur(sigma))
        correlation, whole = local_correlation(
            transforms[0], transforms[1], transfer, kernel, shape, weights, workers=workers
        )
        deviation = noise_deviation(transfer, sigma / pixel_size, shape, workers=workers)
        level = max(threshold, significance * deviation)
        reading.add(frequency, correlation - dtype.type(level))
        columns.append((deviation, level, float(whole)))
        progress(number, len(bands))
    values = np.where(inside, reading.resolution(2 * pixel_size), math.inf).astype(dtype)
    deviation, level, correlation = np.array(columns).T
    return LocalResolution(values, inside, pixel_size, threshold, window, bands, deviation, level, correlation)


def local_correlation(
    first: Complex[Array, "z y xh"],
    second: Complex[Array, "z y xh"],
    transfer: Float[Array, "z y xh"],
    kernel: Float[Array, "z y xh"],
    shape: Sequence[int],
    mask: Float[Array, "z y x"] | None = None,
    *,
    workers: int | None = None,
) -> tuple[Float[Array, "z y x"], Float[Array, ""]]:
    """C(r) of two transforms filtered by `transfer`, in windows whose transform is `kernel`; and the correlation over
    the whole mask.

    NumPy or JAX. Where a window holds no power, far from the mask, the correlation is 0.
    """
    a, b = (inverse(each * transfer, shape, workers=workers) for each in (first, second))
    windows, totals = [], []
    for one, other in ((a, b), (a, a), (b, b)):
        product = one * other if mask is None else one * other * mask
        totals.append(product.sum())
        windows.append(apply_filter(product, kernel, 3, workers=workers))
    return _ratio(*windows), _ratio(*totals)


def noise_deviation(
    transfer: Float[np.ndarray, "z y xh"], sigma_px: float, shape: Sequence[int], *, workers: int | None = None
) -> float:
    """Standard deviation of the correlation of independent white noise in a band, in Gaussian windows of `sigma_px`
    voxels.
    """
    autocorrelation = inverse((transfer**2).astype(np.result_type(transfer, np.complex64)), shape, workers=workers)
    total = autocorrelation**2
    for n in reversed(shape):  # the window convolved with itself, an axis at a time
        axis = np.exp(-0.25 * ((np.arange(n) - n // 2) / sigma_px) ** 2)
        total = total @ (axis / axis.sum()).astype(total.dtype)
    return math.sqrt(float(total)) / float(autocorrelation[tuple(n // 2 for n in shape)])


def default_window(resolution: float | None, box: int, pixel_size: float) -> float:
    """`WINDOW` times the resolution of the whole map in angstrom, but at most half the box, which it is for maps that agree
    at no resolution (None).
    """
    widest = box * pixel_size / 2
    return widest if resolution is None else min(WINDOW * resolution, widest)


def band_frequencies(window: float, pixel_size: float) -> Float[np.ndarray, " b"]:
    """The middles of the bands, from `LEAST_CYCLES` in a window to Nyquist, one standard deviation of a band apart, or a
    little less.
    """
    lowest, nyquist = LEAST_CYCLES / window, 0.5 / pixel_size
    count = math.ceil((nyquist - lowest) / sigma_k_of_blur(window / FWHM))
    return np.linspace(lowest, nyquist, max(2, count + 1))


def band(k: Float[Array, "*grid"], frequency: float, sigma_k: float) -> Float[Array, "*grid"]:
    """exp(-(k - frequency)^2 / (2 sigma_k^2)) up to the last frequency along the axes, 0 in the corners of the box and at
    zero frequency.
    """
    xp = namespace(k)
    nyquist = float(k[0, 0, -1]) * (1 + 1e-6)  # to rounding
    return xp.where((k > 0) & (k <= nyquist), xp.exp(-0.5 * ((k - frequency) / sigma_k) ** 2), 0.0).astype(k.dtype)


def whitened(transforms: Complex[Array, "2 z y xh"], shape: Sequence[int]) -> Complex[Array, "2 z y xh"]:
    """Both transforms with each shell divided by its root mean square amplitude in the two of them."""
    xp = namespace(transforms)
    power = shell_mean(transforms.real**2 + transforms.imag**2, shape).mean(axis=0)
    present = power > FAINT * power.max()
    gain = xp.where(present, 1 / xp.sqrt(xp.where(present, power, 1.0)), 0.0)
    return transforms * spread_shells(gain, shape)


def filter_locally(
    volume: Float[np.ndarray, "z y x"],
    resolution: Float[np.ndarray, "z y x"],
    pixel_size: float,
    *,
    coarsest: float,
    workers: int | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, "z y x"]:
    """The volume with each voxel low-pass filtered to its own `resolution` in angstrom; voxels with none (infinite) and
    those beyond it to `coarsest`.

    Between `LEVELS` cut-offs the filtered volumes are interpolated, linearly in frequency. A resolution that is the same
    everywhere gives the plain filter.
    """
    if tuple(volume.shape) != tuple(resolution.shape):
        raise DataProblem(
            f"a resolution map of shape {tuple(resolution.shape)}", f"that of the map, {tuple(volume.shape)}"
        )
    if not (resolution > 0).all():
        raise DataProblem("a resolution map with values of 0 or below, or NaN", "positive numbers of angstrom")
    if not coarsest > 0:
        raise SettingsProblem(f"a coarsest resolution of {coarsest} A", "a positive number of angstrom")
    shape = tuple(volume.shape)
    wanted = np.maximum(1 / resolution, 1 / coarsest)
    low, high = float(wanted.min()), float(wanted.max())
    step = max((high - low) / (LEVELS - 1), 1 / (shape[0] * pixel_size))
    cutoffs = low + step * np.arange(math.ceil((high - low) / step - 1e-6) + 1)
    transform = forward(volume, 3, workers=workers)
    k = radial_frequency(shape, pixel_size, dtype=transform.real.dtype)
    result = np.zeros(shape, dtype=transform.real.dtype)
    for number, cutoff in enumerate(cutoffs, 1):
        transfer = low_pass(k, float(cutoff), max(step, 2 / (shape[0] * pixel_size))).astype(k.dtype)
        share = np.maximum(0, 1 - np.abs(wanted - cutoff) / step).astype(k.dtype)
        result += share * inverse(transform * transfer, shape, workers=workers)
        progress(number, len(cutoffs))
    return result


class _Reading:
    """The first crossing of many curves at once, fed a band at a time: `margin` is correlation minus level."""

    def __init__(self, empty: np.ndarray):
        self.crossing, self.above = empty.copy(), np.ones(empty.shape, dtype=bool)
        self.before: tuple[float, np.ndarray] | None = None

    def add(self, frequency: float, margin: np.ndarray) -> None:
        falls = self.above & (margin < 0)
        if self.before is not None:
            former, high = self.before[0], self.before[1][falls]
            self.crossing[falls] = former + high / (high - margin[falls]) * (frequency - former)
        self.above &= ~falls
        self.before = (frequency, margin)

    def resolution(self, finest: float) -> np.ndarray:
        """In angstrom: infinite for curves below from the first band on, `finest` for those that never fall."""
        crossed = self.crossing > 0
        found = np.where(crossed, 1 / np.where(crossed, self.crossing, 1), math.inf)
        return np.where(self.above, finest, found)


def _ratio(cross: Any, one: Any, other: Any) -> Any:
    """cross / sqrt(one other), 0 where there is no power, and never beyond 1 by rounding."""
    xp = namespace(cross)
    power = xp.clip(one, 0.0, None) * xp.clip(other, 0.0, None)
    floor = 1e-10 * xp.max(power)  # rounding of the convolutions, far from the mask
    present = power > floor
    return xp.where(present, xp.clip(cross / xp.sqrt(xp.where(present, power, 1.0)), -1.0, 1.0), 0.0)


def _check(
    first: np.ndarray, second: np.ndarray, mask: np.ndarray | None, threshold: float, significance: float
) -> None:
    for each, name in ((second, "maps"), (mask, "a map and a mask")):
        if each is not None and tuple(each.shape) != tuple(first.shape):
            raise DataProblem(f"{name} of shapes {tuple(first.shape)} and {tuple(each.shape)}", "one grid")
    if first.ndim != 3 or len(set(first.shape)) != 1:
        raise DataProblem(f"maps of shape {tuple(first.shape)}", "cubes")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataProblem("a half map with values that are no numbers", "finite values", "look for NaN in the map")
    if mask is not None and not (mask > INSIDE).any():
        raise DataProblem("a mask without a voxel above 0.5", "a mask that holds the particle")
    if not 0 < threshold < 1:
        raise SettingsProblem(f"a threshold of {threshold}", "a correlation between 0 and 1")
    if not significance >= 0:
        raise SettingsProblem(f"a significance of {significance}", "standard deviations, 0 or more")


def _check_window(window: float, box: int, pixel_size: float) -> None:
    if not 10 * pixel_size * (1 - 1e-6) <= window <= box * pixel_size / 2 * (1 + 1e-6):
        raise SettingsProblem(
            f"a window of {window:g} A in a box of {box} voxels of {pixel_size:g} A",
            f"{10 * pixel_size:g} to {box * pixel_size / 2:g} A: ten voxels to half the box",
        )
