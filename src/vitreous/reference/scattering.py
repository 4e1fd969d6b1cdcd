"""The scattering models, as definitions. Signs: physics.md (a); lengths in angstrom, potentials in V A.

`slabs` [s, y, x] is the potential integrated over the depth of each slab, `heights` [s] where the slabs are, `sigma` the
interaction constant. Waves have no band limit here; `limited` gives them one.
"""

from __future__ import annotations

import numpy as np


def squared_frequency(shape: tuple[int, int], pixel_size: float) -> np.ndarray:
    """`k^2` of every frequency of an image, zero first."""
    ky = np.fft.fftfreq(shape[0], pixel_size)[:, None]
    kx = np.fft.fftfreq(shape[1], pixel_size)[None, :]
    return kx**2 + ky**2


def fly(wave: np.ndarray, distance: float, pixel_size: float, wavelength: float) -> np.ndarray:
    """Free flight: each frequency is multiplied by `exp(-i pi lambda d k^2)`; d > 0 towards the detector."""
    phase = np.pi * wavelength * distance * squared_frequency(wave.shape, pixel_size)
    return np.fft.ifft2(np.exp(-1j * phase) * np.fft.fft2(wave))


def limited(wave: np.ndarray, fraction: float) -> np.ndarray:
    """The wave without its frequencies from `fraction` of the Nyquist frequency upwards."""
    inside = squared_frequency(wave.shape, 1.0) < (fraction / 2) ** 2 * (1 - 1e-9)
    return np.fft.ifft2(np.where(inside, np.fft.fft2(wave), 0))


def multislice(
    slabs: np.ndarray, thickness: float, pixel_size: float, lens: tuple[float, float], fraction: float | None = None
) -> np.ndarray:
    """Each slab turns the phase of the wave, which then flies to the next; `lens` = (wavelength, sigma)."""
    wavelength, sigma = lens
    wave = np.ones(slabs.shape[1:], dtype=complex)
    for slab in slabs:
        wave = fly(np.exp(1j * sigma * slab) * wave, thickness, pixel_size, wavelength)
        if fraction is not None:
            wave = limited(wave, fraction)
    return wave


def on_the_ewald_parabola(slabs: np.ndarray, heights: np.ndarray, pixel_size: float, wavelength: float) -> np.ndarray:
    """`F(k, -lambda k^2/2)`: the 3-D transform of the potential at `kz = -lambda k^2/2`, summed over the heights."""
    kz = -wavelength / 2 * squared_frequency(slabs.shape[1:], pixel_size)
    transform = np.zeros(slabs.shape[1:], dtype=complex)
    for slab, z in zip(slabs, heights):
        transform += np.fft.fft2(slab) * np.exp(-2j * np.pi * kz * z)
    return transform


def weak_phase(slabs: np.ndarray, sigma: float) -> np.ndarray:
    """Scattered once, in the plane z = 0: `1 + i sigma Vz`."""
    return 1 + 1j * sigma * slabs.sum(axis=0)


def phase_object(slabs: np.ndarray, sigma: float) -> np.ndarray:
    """Any number of times, in the plane z = 0: `exp(i sigma Vz)`."""
    return np.exp(1j * sigma * slabs.sum(axis=0))


def ewald(slabs: np.ndarray, heights: np.ndarray, pixel_size: float, lens: tuple[float, float]) -> np.ndarray:
    """Scattered once, each slab at its height: `1 + i sigma E`, seen from the plane z = 0."""
    return 1 + 1j * lens[1] * np.fft.ifft2(on_the_ewald_parabola(slabs, heights, pixel_size, lens[0]))


def thick_phase_grating(
    slabs: np.ndarray, heights: np.ndarray, pixel_size: float, lens: tuple[float, float]
) -> np.ndarray:
    """`exp(i sigma E)`, seen from the plane z = 0."""
    return np.exp(1j * lens[1] * np.fft.ifft2(on_the_ewald_parabola(slabs, heights, pixel_size, lens[0])))


def rytov(
    slabs: np.ndarray, heights: np.ndarray, plane: float, pixel_size: float, lens: tuple[float, float]
) -> np.ndarray:
    """`exp(i sigma sum_j V_j flown to the plane z)`: the field scattered once, in the exponent."""
    wavelength, sigma = lens
    field = sum(fly(slab, plane - z, pixel_size, wavelength) for slab, z in zip(slabs, heights))
    return np.exp(1j * sigma * field)
