"""Image formation by a lens and a source, as definitions: sums over plane waves. Signs: physics.md (a)."""

from __future__ import annotations

import numpy as np


def frequencies(size: int, pixel_size: float) -> np.ndarray:
    """The frequencies in 1/angstrom of `size` samples, zero first."""
    return np.fft.fftfreq(size, pixel_size)


def plane_waves(size: int) -> np.ndarray:
    """`exp(2 pi i k x)` [x, k] on samples whose origin is index N // 2."""
    return np.exp(2j * np.pi * np.outer(np.arange(size) - size // 2, np.fft.fftfreq(size)))


def amplitudes(wave: np.ndarray) -> np.ndarray:
    """The amplitude of each plane wave in a wave [y, x]: `(1/N) sum_r psi(r) exp(-2 pi i k.r)`, [ky, kx]."""
    rows, columns = wave.shape
    return plane_waves(rows).conj().T @ wave @ plane_waves(columns).conj() / wave.size


def wave_behind_lens(wave: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Each plane wave of the exit wave is multiplied by the complex number that the lens has for it, `exp(+i chi)` and
    more.
    """
    rows, columns = wave.shape
    return plane_waves(rows) @ (amplitudes(wave) * lens) @ plane_waves(columns).T


def intensity(wave: np.ndarray) -> np.ndarray:
    """What a detector counts: the squared modulus of the wave."""
    return np.abs(wave) ** 2


def tilted_chi(kx: np.ndarray, ky: np.ndarray, tilt: tuple[float, float], wavelength: float, chi) -> np.ndarray:
    """The phase of the lens for a thin specimen under a beam tilted by (tx, ty) radian: `chi(k + t/lambda) -
    chi(t/lambda)`.

    `chi(kx, ky)` is the phase on the axis. The illumination `exp(2 pi i (t/lambda).r)` moves all scattering by
    t/lambda.
    """
    qx, qy = tilt[0] / wavelength, tilt[1] / wavelength
    return chi(kx + qx, ky + qy) - chi(np.array(qx), np.array(qy))


def incoherent_sum(
    image_of, defocus_sigma: float, one_over_e: float, samples: int = 41, reach: float = 4.0
) -> np.ndarray:
    """The mean of `image_of(deviation, tilt_x, tilt_y)` over a Gaussian defocus spread and Gaussian source angles.

    Weights `exp(-e^2 / 2 sigma^2)` and `exp(-(tx^2 + ty^2) / a^2)` on even grids that reach 4 rms; `one_over_e` = a.
    """
    grid = np.linspace(-reach, reach, samples)
    focus = grid if defocus_sigma else np.zeros(1)
    angle = grid if one_over_e else np.zeros(1)
    total, norm = np.zeros(()), 0.0
    for e in focus:
        for x in angle:
            for y in angle:
                weight = np.exp(-(e**2 + x**2 + y**2) / 2)
                total = total + weight * image_of(e * defocus_sigma, x * one_over_e / 2**0.5, y * one_over_e / 2**0.5)
                norm += weight
    return total / norm


def atoms_transform(
    kx: np.ndarray, ky: np.ndarray, positions: np.ndarray, gaussians: list, weights: np.ndarray
) -> np.ndarray:
    """Fourier integral, in V A^3, of the potential of atoms projected along z, one atom and one Gaussian at a time.

    `gaussians[j]` = [(amplitude, width with B), ...]: `sum_j w_j sum_g A exp(-W k^2/4) exp(-2 pi i (kx x_j + ky y_j))`.
    `weights` is the occupancy, or the share of an atom that lies in a slab.
    """
    total = np.zeros(np.broadcast_shapes(kx.shape, ky.shape), complex)
    for (x, y, _), terms, weight in zip(positions, gaussians, weights):
        for amplitude, width in terms:
            total += weight * amplitude * np.exp(-width * (kx**2 + ky**2) / 4 - 2j * np.pi * (kx * x + ky * y))
    return total


def share_in_slab(height: float, width: float, bottom: float, top: float, samples: int = 20000) -> float:
    """Share of a Gaussian `exp(-W k^2/4)`, of variance `W / 8 pi^2`, centred on `height`, that lies in bottom <= z <
    top.
    """
    step = (top - bottom) / samples
    z = bottom + (np.arange(samples) + 0.5) * step
    variance = width / (8 * np.pi**2)
    return float(np.sum(np.exp(-((z - height) ** 2) / (2 * variance))) * step / np.sqrt(2 * np.pi * variance))
