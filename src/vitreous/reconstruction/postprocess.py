"""From the mean of two half maps to a map for the eye: sharpened, weighted by what is known, and cut at the resolution.

Amplitudes of a map fall with frequency as exp(-B k^2 / 4): motion, imperfect alignment and the detector blur it.
Beyond about 10 angstrom the mean amplitude of a protein without blur is nearly level (Wilson statistics), so that in a
Guinier plot, ln|F| against k^2 = 1/d^2, a straight line of slope -B/4 shows the blur, and exp(+B k^2 / 4) undoes it
(Rosenthal & Henderson 2003, doi:10.1016/j.jmb.2003.07.013).

Noise would be sharpened too. Each shell is therefore first multiplied by C_ref = sqrt(2 FSC / (1 + FSC)): that leaves
the amplitude of the signal, in the plot as in the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import low_pass
from vitreous.fourier.shells import shell_mean
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.reconstruction.fsc import HALF_MAPS, Resolution, reference_correlation, resolution_at, shell_frequencies

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

FIT_FROM = 10.0  # angstrom: at lower resolution the shape of the particle, not blur, makes the curve
LEAST_SHELLS = 5  # a line through fewer says nothing
LEAST_REACH = 1.4  # a line from 10 angstrom must reach 7.1, for secondary structure makes bumps in the plot
LARGEST_ERROR = 0.2  # of B
EDGE_SHELLS = 2.0  # width of the edge of the final low-pass filter


@dataclass(frozen=True)
class GuinierFit:
    """The line `ln|F| = intercept - B/4 k^2` between the frequencies `fit_from` and `fit_to` (1/angstrom), through
    `shells` points.

    `b_factor` in angstrom^2 is positive for a map that needs sharpening; `standard_error` is its uncertainty from the
    scatter of the points about the line.
    """

    b_factor: float
    standard_error: float
    intercept: float
    fit_from: float
    fit_to: float
    shells: int

    def line(self, frequency: np.ndarray) -> np.ndarray:
        """ln|F| on the line."""
        return self.intercept - self.b_factor / 4 * frequency**2


@dataclass(frozen=True)
class GuinierPlot:
    """ln of the root mean square amplitude per shell [s]: of the map as it is, and `weighted`, with MTF and noise taken
    out.

    NaN where there is no amplitude. `fit` is None if no line could be drawn. `reason` then says why, or why a line that
    was drawn is no ground for sharpening: it does not fall, or is too short, or too uncertain. It is empty for a good
    fit.
    """

    frequency: np.ndarray
    log_amplitude: np.ndarray
    weighted: np.ndarray
    fit: GuinierFit | None
    reason: str = ""

    @property
    def b_factor(self) -> float | None:
        """The B factor to sharpen by, None if there is no good one."""
        return None if self.fit is None or self.reason else self.fit.b_factor


@dataclass(frozen=True)
class PostprocessSettings:
    """How to sharpen. `b_factor`: the B to undo in angstrom^2, or None to take that of the Guinier plot (0 if it has
    no good one).

    `fit_from` is the low-resolution end of the fit in angstrom. `low_pass`: where to cut, angstrom, or None for the
    resolution of the FSC curve.
    """

    b_factor: float | None = None
    fit_from: float = FIT_FROM
    low_pass: float | None = None
    fsc_weighting: bool = True

    def __post_init__(self) -> None:
        for name in ("fit_from", "low_pass"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsProblem(f"{name.replace('_', ' ')} at {value} A", "a positive number of angstrom")


@dataclass(frozen=True)
class Postprocessed:
    """The sharpened map, and how it was made. `gain` [s] is the factor by which each shell was multiplied.

    `b_factor` was undone (0: none); `low_pass` is where the map was cut, None if it was not; `sharpened_amplitude` [s]
    is the ln of the root mean square amplitude of the result.
    """

    volume: np.ndarray
    guinier: GuinierPlot
    gain: np.ndarray
    sharpened_amplitude: np.ndarray
    b_factor: float
    low_pass: float | None
    resolution: Resolution

    def columns(self) -> dict[str, np.ndarray]:
        """The curves by name: a table to save."""
        plot = self.guinier
        squared = {"shell": np.arange(len(plot.frequency)), "frequency_squared": plot.frequency**2}
        return squared | {
            "log_amplitude": plot.log_amplitude,
            "log_amplitude_weighted": plot.weighted,
            "log_amplitude_sharpened": self.sharpened_amplitude,
            "gain": self.gain,
        }


def postprocess(
    volume: Float[np.ndarray, "z y x"],
    correlation: Float[np.ndarray, " s"],
    pixel_size: float,
    *,
    mtf: Float[np.ndarray, " s"] | None = None,
    settings: PostprocessSettings | None = None,
) -> Postprocessed:
    """Sharpen the mean of two half maps, unfiltered, by their FSC curve (corrected for the mask if there was one).

        F'(k) = F(k) / MTF(k) * C_ref(k) * exp(+B k^2 / 4) * low-pass(k)

    `mtf` is the detector's modulation transfer at the frequencies of the shells, see `mtf_at_shells`. The FSC counts as
    0 from its first crossing of 0 on. If no B factor is given and none can be measured, the map is weighted and cut but
    not sharpened.
    """
    settings = settings or PostprocessSettings()
    shape, box = tuple(volume.shape), volume.shape[0]
    frequency = shell_frequencies(box, pixel_size)
    if len(correlation) != len(frequency):
        raise DataProblem(
            f"an FSC curve of {len(correlation)} shells", f"{len(frequency)}, the shells of a box of {box}"
        )
    if mtf is not None and not (len(mtf) == len(frequency) and np.all(np.asarray(mtf) > 0)):
        raise DataProblem(
            f"an MTF of {len(mtf)} values down to {np.min(mtf):.3g}", f"{len(frequency)} positive values, one a shell"
        )
    transform = forward(np.asarray(volume), 3)
    resolution = resolution_at(correlation, HALF_MAPS, frequency)
    known = reference_correlation(until_first_zero(np.asarray(correlation, dtype=np.float64)))
    plot = guinier_plot(
        transform, box, pixel_size, known=known, mtf=mtf, resolution=resolution.value, fit_from=settings.fit_from
    )
    b_factor = settings.b_factor if settings.b_factor is not None else plot.b_factor or 0.0
    cut = settings.low_pass if settings.low_pass is not None else resolution.value
    gain = np.ones(len(frequency)) if mtf is None else 1 / np.asarray(mtf)
    gain = gain * np.exp(b_factor / 4 * frequency**2)
    if settings.fsc_weighting:
        gain = gain * known
    if cut is not None:
        gain = gain * low_pass(frequency, 1 / cut, EDGE_SHELLS / (box * pixel_size))
    # Between shells the gain is interpolated; in the corners of the box, beyond the last one, no FSC vouches for it.
    k = radial_frequency(shape, pixel_size, dtype=transform.real.dtype)
    transfer = np.interp(k.ravel(), frequency, gain, right=0.0).reshape(k.shape).astype(k.dtype)
    sharpened = inverse(transform * transfer, shape)
    amplitude = plot.log_amplitude + _log(gain)
    return Postprocessed(sharpened, plot, gain, amplitude, float(b_factor), cut, resolution)


def guinier_plot(
    transform: Complex[np.ndarray, "z y xh"],
    box: int,
    pixel_size: float,
    *,
    known: Float[np.ndarray, " s"] | None = None,
    mtf: Float[np.ndarray, " s"] | None = None,
    resolution: float | None = None,
    fit_from: float = FIT_FROM,
) -> GuinierPlot:
    """ln|F| per shell of the transform of a map, and its B factor from `fit_from` to `resolution` angstrom (None:
    unknown, no fit).

    `known` is C_ref per shell. The points are weighted by it: where the FSC is low they scatter. |F| is the root mean
    square, so that |F| C_ref is the amplitude of the signal alone: for a signal of power S in noise of power N in the
    mean map, C_ref^2 = S / (S + N).
    """
    frequency = shell_frequencies(box, pixel_size)
    power = np.asarray(shell_mean(np.abs(transform) ** 2, (box,) * 3), dtype=np.float64)
    log_amplitude = _log(np.sqrt(power))
    weight = np.ones(len(frequency)) if known is None else np.asarray(known)
    weighted = log_amplitude + _log(weight) - (0 if mtf is None else np.log(mtf))
    fit, reason = _fit_line(frequency, weighted, weight, fit_from, resolution)
    return GuinierPlot(frequency, log_amplitude, weighted, fit, reason)


def mtf_at_shells(
    cycles_per_pixel: Float[np.ndarray, " m"], values: Float[np.ndarray, " m"], box: int, *, binning: float = 1.0
) -> Float[np.ndarray, " s"]:
    """A tabulated MTF, against cycles per pixel of the detector from 0 to 0.5, at the shells of a box.

    `binning` is the pixel size of the map over that of the detector when the table was measured (4 for images binned 4
    times). Raises DataProblem for an axis that does not run from about 0 to 0.5.
    """
    axis, values = np.asarray(cycles_per_pixel, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if not (len(axis) > 1 and np.all(np.diff(axis) > 0) and axis[0] >= 0 and 0.4 < axis[-1] <= 0.51):
        raise DataProblem(
            f"an MTF table from {axis[0]:.3g} to {axis[-1]:.3g}", "increasing cycles per pixel from 0 to 0.5"
        )
    return np.interp(shell_frequencies(box, 1.0) / binning, axis, values)


def until_first_zero(correlation: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """The curve, 0 from the first shell on where it is not positive: correlation that comes back beyond is chance.
    Shell 0 counts as known.
    """
    kept = np.clip(np.nan_to_num(correlation), 0, 1)
    gone = np.flatnonzero(kept[1:] <= 0) + 1
    if len(gone):
        kept[gone[0] :] = 0
    kept[0] = 1
    return kept


def _fit_line(
    frequency: np.ndarray, log_amplitude: np.ndarray, weight: np.ndarray, fit_from: float, resolution: float | None
) -> tuple[GuinierFit | None, str]:
    """Weighted least squares of ln|F| against k^2."""
    if resolution is None:
        return None, "the half maps do not agree at any resolution"
    if resolution > fit_from:
        return None, f"the map ends at {resolution:.1f} Å, before the plot is a straight line, from {fit_from:g} Å on"
    inside = (
        (frequency >= 1 / fit_from)
        & (frequency <= 1 / resolution * (1 + 1e-9))
        & np.isfinite(log_amplitude)
        & (weight > 0)
    )
    count = int(inside.sum())
    if count < LEAST_SHELLS:
        return (
            None,
            f"{count} shells between {fit_from:g} and {resolution:.1f} Å are too few: a line needs {LEAST_SHELLS}",
        )
    x, y, w = frequency[inside] ** 2, log_amplitude[inside], weight[inside]
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    spread = (w * (x - mean_x) ** 2).sum()
    slope = (w * (x - mean_x) * (y - mean_y)).sum() / spread
    residual = y - mean_y - slope * (x - mean_x)
    error = np.sqrt((w * residual**2).sum() / spread / (count - 2))
    first, last = frequency[inside][[0, -1]].tolist()
    fit = GuinierFit(float(-4 * slope), float(4 * error), float(mean_y - slope * mean_x), first, last, count)
    return fit, _doubt(fit, fit_from, resolution)


def _doubt(fit: GuinierFit, fit_from: float, resolution: float) -> str:
    """Why not to sharpen by this fit; empty if there is no reason."""
    if fit.b_factor <= 0:
        return f"amplitudes do not fall with frequency (B = {fit.b_factor:.0f} Å²)"
    if resolution > fit_from / LEAST_REACH * (1 + 1e-9):
        return f"the line ends at {resolution:.1f} Å, and one to {fit_from / LEAST_REACH:.1f} Å or finer is needed"
    if fit.standard_error > LARGEST_ERROR * fit.b_factor:
        return f"B = {fit.b_factor:.0f} ± {fit.standard_error:.0f} Å² is too uncertain"
    return ""


def _log(values: np.ndarray) -> np.ndarray:
    """The natural logarithm, NaN where there is nothing to take it of."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
