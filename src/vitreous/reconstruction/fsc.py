"""Fourier shell correlation: how far two maps agree, shell by shell, and the resolution that follows.

    FSC(s) = sum_s Re(F conj(G)) / sqrt(sum_s |F|^2  sum_s |G|^2)

For two half maps with independent noise, FSC = SNR / (1 + SNR), SNR the ratio of the power of the signal to that of
the noise in one half map (Harauz & van Heel 1986; Rosenthal & Henderson 2003, doi:10.1016/j.jmb.2003.07.013). At FSC =
0.143 the average of the two has FSC 0.5 with the perfect map.

A mask removes noise around the particle and so raises the FSC, rightly, but its own edges correlate, wrongly. How much
of the second there is shows when the phases of both half maps beyond some shell are replaced by random ones before
masking: what remains of the FSC there is the work of the mask, and is taken out (Chen et al. 2013,
doi:10.1016/j.ultramic.2013.06.004),

    FSC_corrected = (FSC_masked - FSC_randomised) / (1 - FSC_randomised).

Shell s is at the frequency s / (N pixel_size); shells run from 0 to N // 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitreous.arrays import namespace
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.shells import shell_count, shell_index, shell_size, shell_sum
from vitreous.fourier.transforms import forward, inverse

if TYPE_CHECKING:
    from typing import Any as Array  # a NumPy or a JAX array

    from jaxtyping import Complex, Float

HALF_MAPS = 0.143  # two half maps
MODEL = 0.5  # a map and a model without noise, or the conservative reading of half maps

# Phases are randomised from the shell where the unmasked FSC falls below this, as RELION does.
RANDOMISE_BELOW = 0.8
# The mask mixes neighbouring shells: next to the first randomised one the correction does not hold yet.
SHELLS_MIXED = 2


@dataclass(frozen=True)
class Resolution:
    """Where a curve first falls below `threshold`: `value` in angstrom, and what limits it.

    "crossing": the curve falls through the threshold at `value`. "nyquist": it stays above to the last shell, and
    `value` is that shell's resolution: the data may hold more than the pixel size lets through. "noise": it is below
    from the first shell on, `value` is None.
    """

    value: float | None
    limited_by: Literal["crossing", "nyquist", "noise"]
    threshold: float

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        return f"{self.value:.2f} Å" + (" (Nyquist)" if self.limited_by == "nyquist" else "")


@dataclass(frozen=True)
class ShellCorrelation:
    """`correlation` [s] at `frequency` [s] (1/angstrom), and the number of `voxels` [s] of each shell in the whole
    transform.

    A voxel and its Friedel mate carry the same information: half of `voxels` are independent.
    """

    correlation: np.ndarray
    frequency: np.ndarray
    voxels: np.ndarray

    def resolution(self, threshold: float = HALF_MAPS) -> Resolution:
        return resolution_at(self.correlation, threshold, self.frequency)

    def at(self, resolution: float) -> float:
        """The correlation at a resolution in angstrom."""
        return correlation_at(self.correlation, resolution, self.frequency)


@dataclass(frozen=True)
class FscCurves:
    """What two half maps say of each other. All curves are per shell; those that need a mask are None without one.

    `randomised_from` is the first shell of random phases, None if the unmasked FSC never falls below 0.8: then there is
    nothing to randomise, and the corrected curve is the masked one.
    """

    frequency: np.ndarray
    voxels: np.ndarray
    unmasked: np.ndarray
    masked: np.ndarray | None = None
    phase_randomised: np.ndarray | None = None
    corrected: np.ndarray | None = None
    randomised_from: int | None = None

    @property
    def best(self) -> np.ndarray:
        """The curve to judge by: corrected where a mask was given, else unmasked."""
        return self.unmasked if self.corrected is None else self.corrected

    def resolution(self, threshold: float = HALF_MAPS) -> Resolution:
        """Resolution by the best curve."""
        return resolution_at(self.best, threshold, self.frequency)

    def at(self, resolution: float) -> float:
        """The best curve at a resolution in angstrom."""
        return correlation_at(self.best, resolution, self.frequency)

    def columns(self) -> dict[str, np.ndarray]:
        """The curves that exist, by name, with their shell, frequency and voxels: a table to save."""
        named = {"frequency": self.frequency, "voxels": self.voxels, "unmasked": self.unmasked, "masked": self.masked}
        named |= {"phase_randomised": self.phase_randomised, "corrected": self.corrected}
        return {"shell": np.arange(len(self.frequency))} | {
            name: curve for name, curve in named.items() if curve is not None
        }


def fourier_shell_correlation(
    a: Float[Array, "z y x"], b: Float[Array, "z y x"], pixel_size: float = 1.0
) -> ShellCorrelation:
    """FSC of two maps (or, for images, the Fourier ring correlation) on the same grid.

    Half maps are read at 0.143, a map against a model at 0.5. Raises DataProblem if the shapes differ or hold a value
    that is no number.

    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.standard_normal((32, 32, 32)), rng.standard_normal((2, 32, 32, 32))
    >>> result = fourier_shell_correlation(signal + noise[0], signal + noise[1])
    >>> float(result.correlation[8:].mean().round(1))  # as much signal as noise in each half
    0.5
    """
    _check_pair(a, b)
    shape = tuple(a.shape)
    correlation = correlate_shells(forward(a, a.ndim), forward(b, b.ndim), shape)
    return ShellCorrelation(correlation, shell_frequencies(shape[-1], pixel_size), shell_size(shape))


def correlate_shells(
    a: Complex[Array, "... z y xh"], b: Complex[Array, "... z y xh"], shape: Sequence[int]
) -> Float[Array, "... s"]:
    """FSC per shell of two transforms (of real maps of `shape`, `rfftn` layout); leading axes are batch axes.

    A shell in which one of the two has no power has correlation 0.
    """
    xp = namespace(a, b)
    cross = shell_sum(a.real * b.real + a.imag * b.imag, shape)
    power = shell_sum(a.real**2 + a.imag**2, shape) * shell_sum(b.real**2 + b.imag**2, shape)
    positive = power > 0
    return xp.where(positive, cross / xp.sqrt(xp.where(positive, power, 1.0)), 0.0)


def half_map_curves(
    first: Float[np.ndarray, "z y x"],
    second: Float[np.ndarray, "z y x"],
    pixel_size: float,
    *,
    mask: Float[np.ndarray, "z y x"] | None = None,
    seed: int = 0,
) -> FscCurves:
    """FSC of two half maps: unmasked and, with a mask, masked, phase-randomised and corrected.

    The half maps must be unfiltered and unmasked. Each is transformed once, and once more under the mask.
    """
    _check_pair(first, second)
    shape = tuple(first.shape)
    halves = np.stack([np.asarray(first), np.asarray(second)])
    transforms = forward(halves, 3)
    frequency, voxels = shell_frequencies(shape[-1], pixel_size), shell_size(shape)
    unmasked = _correlate_pair(transforms, shape)
    if mask is None:
        return FscCurves(frequency, voxels, unmasked)
    if tuple(mask.shape) != shape:
        raise DataProblem(f"a mask of shape {tuple(mask.shape)}", f"the shape {shape} of the half maps")
    mask = np.asarray(mask, dtype=halves.dtype)
    masked = _correlate_pair(forward(halves * mask, 3), shape)
    below = np.flatnonzero(unmasked[1:] < RANDOMISE_BELOW) + 1
    if len(below) == 0:
        return FscCurves(frequency, voxels, unmasked, masked, corrected=masked)
    start = int(below[0])
    rng = np.random.default_rng(seed)
    random = inverse(randomise_phases(transforms, shape, start, rng), shape)
    randomised = _correlate_pair(forward(random * mask, 3), shape)
    corrected = remove_mask_effect(masked, randomised, start + SHELLS_MIXED)
    return FscCurves(frequency, voxels, unmasked, masked, randomised, corrected, start)


def randomise_phases(
    transforms: Complex[np.ndarray, "... z y xh"], shape: Sequence[int], start: int, rng: np.random.Generator
) -> Complex[np.ndarray, "... z y xh"]:
    """The transforms with independent, evenly distributed phases from shell `start` on; amplitudes stay.

    Each phase is turned by an even random angle. In the columns k = 0 and N/2, where both of a Friedel pair are stored,
    the pair is turned oppositely, so that the map stays real and keeps its amplitudes; the at most 2^3 voxels that are
    their own mates stay as they are.
    """
    turns = rng.random(transforms.shape, dtype=np.float32)
    paired = [0, transforms.shape[-1] - 1] if shape[-1] % 2 == 0 else [0]
    column = turns[..., paired]
    for axis in range(-3, -1):
        column = np.roll(np.flip(column, axis), 1, axis)
    turns[..., paired] -= column
    turns[..., shell_index(shape) < start] = 0
    return transforms * np.exp(np.complex64(2j * np.pi) * turns).astype(transforms.dtype)


def remove_mask_effect(masked: Float[Array, " s"], randomised: Float[Array, " s"], start: int) -> Float[Array, " s"]:
    """`(FSC_masked - FSC_randomised) / (1 - FSC_randomised)` from shell `start` on, `FSC_masked` before (Chen et al.
    2013).
    """
    xp = namespace(masked, randomised)
    kept = xp.minimum(randomised, 1 - 1e-6)  # two maps made equal by the mask would divide by zero
    return xp.where(xp.arange(masked.shape[-1]) >= start, (masked - kept) / (1 - kept), masked)


def resolution_at(correlation: np.ndarray, threshold: float, frequency: np.ndarray) -> Resolution:
    """Where the curve first falls below the threshold, by linear interpolation between shells. Shell 0, the mean, has
    no say.

    >>> resolution_at(np.array([1, 1.0, 0.5, 0.0]), 0.25, np.array([0, 0.1, 0.2, 0.3]))
    Resolution(value=4.0, limited_by='crossing', threshold=0.25)
    """
    values = np.nan_to_num(np.asarray(correlation, dtype=np.float64), nan=-1.0)
    below = np.flatnonzero(values[1:] < threshold) + 1
    if len(below) == 0:
        return Resolution(float(1 / frequency[-1]), "nyquist", threshold)
    shell = int(below[0])
    if shell == 1:
        return Resolution(None, "noise", threshold)
    part = (values[shell - 1] - threshold) / (values[shell - 1] - values[shell])
    crossing = frequency[shell - 1] + part * (frequency[shell] - frequency[shell - 1])
    return Resolution(float(1 / crossing), "crossing", threshold)


def correlation_at(correlation: np.ndarray, resolution: float, frequency: np.ndarray) -> float:
    """The value of a curve at a resolution in angstrom, by linear interpolation between shells.

    Raises SettingsProblem beyond the last shell.
    """
    if not 0 < 1 / resolution <= frequency[-1] * (1 + 1e-9):
        raise SettingsProblem(
            f"a correlation asked for at {resolution} A",
            f"a resolution of at least {1 / frequency[-1]:.2f} A, the last shell",
        )
    return float(np.interp(1 / resolution, frequency, correlation))


def shell_frequencies(box: int, pixel_size: float) -> Float[np.ndarray, " s"]:
    """`s / (N pixel_size)` of the shells 0 ... N // 2, in 1/angstrom."""
    return np.arange(shell_count((box,))) / (box * pixel_size)


def half_bit(voxels: Float[Array, " s"], *, symmetry_order: int = 1) -> Float[Array, " s"]:
    """The half-bit curve: above it each voxel of the average of two half maps carries at least half a bit of
    information.

        T = (0.2071 + 1.9102 / sqrt(n)) / (1.2071 + 0.9102 / sqrt(n))

    n is the number of independent voxels, half of `voxels` divided by the order of the point group (van Heel & Schatz
    2005, doi:10.1016/j.jsb.2005.05.009). It exceeds any fixed threshold in small shells and tends to 0.1716.
    """
    xp = namespace(voxels)
    root = xp.sqrt(xp.maximum(voxels / (2.0 * symmetry_order), 1.0))
    return (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)


def reference_correlation(correlation: Float[Array, " s"]) -> Float[Array, " s"]:
    """C_ref = sqrt(2 FSC / (1 + FSC)): the expected FSC of the average of both half maps with the perfect map, 0 where
    FSC <= 0.

    A shell of the average multiplied by it has the amplitude of its signal alone (Rosenthal & Henderson 2003).
    """
    xp = namespace(correlation)
    kept = xp.clip(correlation, 0.0, 1.0)
    positive = kept > 0
    safe = xp.where(positive, kept, 1.0)
    return xp.where(positive, xp.sqrt(2.0 * safe / (1.0 + safe)), 0.0)


def _correlate_pair(transforms: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return correlate_shells(transforms[0], transforms[1], shape).astype(np.float64)


def _check_pair(a: Array, b: Array) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise DataProblem(
            f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)}", "two maps on the same grid", "resample one of them"
        )
    if len(set(a.shape)) != 1:
        raise DataProblem(f"maps of shape {tuple(a.shape)}", "cubes")
    for each in (a, b):
        if namespace(each) is np and not np.isfinite(np.sum(each, dtype=np.float64)):  # finite only if every value is
            raise DataProblem("a map with values that are no numbers", "finite values", "look for NaN in the map")
