"""Fourier shell correlation as the sum that defines it."""

from __future__ import annotations

import numpy as np


def fourier_shell_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """FSC(s) = sum Re(F conj(G)) / sqrt(sum |F|^2 sum |G|^2), the sums over all voxels k of the whole transform with
    round(|k|) = s.

    k counts cycles per box and s runs from 0 to N // 2. Where the origin lies does not matter: moving both maps turns
    the phases of F and G alike. A shell in which a map has no power has correlation 0.
    """
    size = a.shape[0]
    number = np.fft.fftfreq(size) * size
    grids = np.meshgrid(*[number] * a.ndim, indexing="ij")
    shell = np.rint(np.sqrt(sum(k**2 for k in grids)))
    f, g = np.fft.fftn(a), np.fft.fftn(b)
    correlation = np.zeros(size // 2 + 1)
    for s in range(size // 2 + 1):
        here = shell == s
        power = (np.abs(f[here]) ** 2).sum() * (np.abs(g[here]) ** 2).sum()
        if power > 0:
            correlation[s] = (f[here] * np.conj(g[here])).real.sum() / np.sqrt(power)
    return correlation


def phase_randomisation_corrected(masked: np.ndarray, randomised: np.ndarray, first_shell: int) -> np.ndarray:
    """(FSC_t - FSC_n) / (1 - FSC_n) from `first_shell` on, FSC_t before it (Chen et al. 2013,
    doi:10.1016/j.ultramic.2013.06.004).
    """
    shell = np.arange(len(masked))
    return np.where(shell >= first_shell, (masked - randomised) / (1 - randomised), masked)


def first_crossing(correlation: np.ndarray, threshold: float) -> float | None:
    """The shell, not whole, at which the straight line between two neighbouring shells first falls through the
    threshold.
    """
    for s in range(2, len(correlation)):
        above, below = correlation[s - 1], correlation[s]
        if above >= threshold > below:
            return s - 1 + (above - threshold) / (above - below)
    return None
