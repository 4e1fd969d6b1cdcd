"""Recording: from the intensity at the camera to what the camera writes.

    arrivals ~ Poisson(electrons * (intensity filtered by MTF / NTF)),    counts = gain * arrivals filtered by NTF

Electrons arrive at random, so Poisson noise stands between the two filters: the signal passes both, MTF in all, the
noise only the second. A flat field so has the spectrum NTF^2 and the image of an edge the MTF. Applying the MTF after
the Poisson noise would give the noise the MTF too, and a DQE that does not fall; applying the DQE before it would blur
the signal by the wrong curve.

- counting: an electron counts as one with probability DQE(0). The counts of independent electrons that are missed at
  random are Poisson again, of mean `DQE(0) * dose`.
- integrating: each electron leaves a random energy, Gamma distributed with mean 1 and squared coefficient of variation
  `1/DQE(0) - 1`. The energies of n electrons are one Gamma draw, and the variance of a flat field is `dose / DQE(0)`.

Either way the noise is of power `gain^2 dose / DQE(0)` at k = 0. Counts are in detected electrons (counting) or in mean
energies of one electron (integrating).

A filter spreads a count over neighbours: where NTF is not 1 counts are fractions, and here and there a little below
zero, as after any resampling of an image. They are left so: cutting at zero would raise the mean and add noise that
no detector has. Images wrap round at their borders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.detection.detector import Detector, Mode
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter
from vitreous.fourier.transforms import frequencies

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# Numbers drawn at a time: 8 MB of whole numbers, so that a large micrograph needs no second and third copy.
BLOCK = 1 << 20


def dose_per_pixel(dose: float, pixel_size: float) -> float:
    """Electrons per pixel from electrons per square angstrom and the pixel size in angstrom.

    >>> dose_per_pixel(40.0, 0.5)
    10.0
    """
    if not (np.isfinite(dose) and dose > 0):
        raise SettingsProblem(f"a dose of {dose:g} e/A^2", "a positive number of electrons per square angstrom")
    return dose * pixel_size**2


def sparse_dose(electrons_per_pixel: float, what: str = "image") -> str | None:
    """What to tell the user if fewer than one electron falls on a pixel of an `image` or `frame`; else None.

    Nothing goes wrong then: the statistics are exact at any dose. But most pixels are 0, and a picture of them shows
    nothing.
    """
    if electrons_per_pixel >= 1:
        return None
    empty = 100 * float(np.exp(-electrons_per_pixel))
    return (
        f"{electrons_per_pixel:.3g} electrons per pixel of each {what}: fewer than one, {empty:.0f} % of the pixels "
        f"receive none. The noise is right, but a single {what} shows little: average or bin before looking."
    )


def expected_counts(
    intensity: Float[Array, "... y x"], electrons_per_pixel: Any, detector: Detector
) -> Float[Array, "... y x"]:
    """Mean of what `record` draws: `gain * electrons_per_pixel * (intensity filtered by the MTF)`.

    `intensity` is 1 where the beam arrives undisturbed. NumPy or JAX, differentiable in intensity and dose.
    """
    kx, ky = frequencies(intensity.shape[-2:])
    return detector.gain * electrons_per_pixel * apply_filter(intensity, detector.mtf(kx, ky))


def record(
    intensity: Float[np.ndarray, "... y x"],
    electrons_per_pixel: float,
    detector: Detector,
    rng: np.random.Generator,
    *,
    mode: Mode | str | None = None,
    readout_noise: float = 0.0,
) -> Float[np.ndarray, "... y x"]:
    """What the detector writes: noisy counts of an `intensity` (1 where the beam arrives undisturbed), same shape and dtype.

    `electrons_per_pixel` fall on a pixel where the intensity is 1; less than one is fine. `rng` is drawn from pixel by
    pixel. `mode` overrides how the detector adds up electrons. `readout_noise` is the standard deviation of what the
    electronics add to each pixel, in units of the counts; it comes after the detector's NTF and lowers its DQE at low
    doses. Raises DataProblem for intensities that are negative or not finite.
    """
    check_recording(electrons_per_pixel, readout_noise)
    if namespace(intensity) is not np:
        raise DataProblem("intensities in a JAX array", "NumPy", "use np.asarray, or expected_counts for gradients")
    intensity = np.asarray(intensity, dtype=float_dtype(intensity))
    if not (np.isfinite(intensity).all() and (intensity >= 0).all()):
        raise DataProblem("intensities that are negative or not finite", "electrons per incident electron, 0 or more")
    filtered = apply_filter(intensity, detector.signal_transfer(*frequencies(intensity.shape[-2:])))
    return record_filtered(filtered, electrons_per_pixel, detector, rng, mode=mode, readout_noise=readout_noise)


def record_filtered(
    filtered: Float[np.ndarray, "... y x"],
    electrons_per_pixel: float,
    detector: Detector,
    rng: np.random.Generator,
    *,
    mode: Mode | str | None = None,
    readout_noise: float = 0.0,
) -> Float[np.ndarray, "... y x"]:
    """`record` of an intensity that was multiplied by `Detector.signal_transfer` already."""
    mode = detector.mode if mode is None else Mode(mode)
    counts = _draw(filtered, electrons_per_pixel, detector.dqe_at_zero, mode, rng)
    if not detector.is_white:
        counts = apply_filter(counts, detector.ntf(*frequencies(counts.shape[-2:])))
    if readout_noise:
        counts += (readout_noise * rng.standard_normal(counts.shape)).astype(counts.dtype)
    return counts


def check_recording(electrons_per_pixel: float, readout_noise: float) -> None:
    """Raise SettingsProblem for a dose that is not positive or a readout noise that is negative."""
    if not (np.isfinite(electrons_per_pixel) and electrons_per_pixel > 0):
        raise SettingsProblem(f"a dose of {electrons_per_pixel:g} electrons per pixel", "a positive number")
    if not (np.isfinite(readout_noise) and readout_noise >= 0):
        raise SettingsProblem(f"a readout noise of {readout_noise:g}", "a standard deviation, 0 or more")


def _draw(
    filtered: np.ndarray, electrons: float, dqe_at_zero: float, mode: Mode, rng: np.random.Generator
) -> np.ndarray:
    """Random counts, pixel by pixel in the order of memory. A filtered intensity below zero is no electrons."""
    counts = np.empty(filtered.shape, filtered.dtype)
    source, target = filtered.reshape(-1), counts.reshape(-1)
    mean = electrons * (dqe_at_zero if mode is Mode.COUNTING else 1.0)
    spread = 0.0 if mode is Mode.COUNTING else 1 / dqe_at_zero - 1  # squared coefficient of variation of one electron
    for start in range(0, len(source), BLOCK):
        block = slice(start, start + BLOCK)
        arrivals = rng.poisson(mean * np.maximum(source[block], 0))
        target[block] = spread * rng.standard_gamma(arrivals / spread) if spread > 0 else arrivals
    return counts
