"""Micrographs of known rings, made by the definition: white noise seen through the power of layers, and white noise beside it."""

from __future__ import annotations

import math

import numpy as np

from vitreous.estimation.ctf_estimate import CtfEstimate, Lens
from vitreous.fourier.transforms import frequencies
from vitreous.optics.thickness import thick_power

LENS = Lens(300e3, 2.7e7, 0.1)


def ring_image(
    seed: int,
    defocus: float,
    astigmatism: tuple[float, float] = (0.0, 0.0),
    *,
    size: int = 768,
    pixel_size: float = 1.5,
    signal: float = 1.0,
    b_factor: float = 30.0,
    thickness: float = 0.0,
    phase_shift: float = 0.0,
    lens: Lens = LENS,
) -> np.ndarray:
    """An image [size, size] of mean 0 whose power is 1 + 2 signal exp(-B k^2 / 2) times that of layers."""
    kx, ky = frequencies((size, size), pixel_size)
    rings = thick_power(
        kx,
        ky,
        defocus,
        np.array(astigmatism),
        thickness=thickness,
        voltage=lens.voltage,
        spherical_aberration=lens.spherical_aberration,
        amplitude_contrast=lens.amplitude_contrast,
        phase_shift=phase_shift,
    )
    power = 1 + 2 * signal * np.exp(-b_factor * (kx**2 + ky**2) / 2) * rings
    white = np.random.default_rng(seed).normal(size=(size, size))
    return np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power), s=(size, size)).astype(np.float32)


def components(size: float, angle_deg: float) -> tuple[float, float]:
    """Astigmatism (along, across) of u - v = `size` with u in the direction `angle_deg`."""
    turn = 2 * math.radians(angle_deg)
    return size / 2 * math.cos(turn), size / 2 * math.sin(turn)


def deviations(estimate: CtfEstimate, defocus: float, astigmatism: tuple[float, float]) -> np.ndarray:
    """Errors of the three, in their own standard deviations."""
    found = np.array([estimate.defocus, *estimate.astigmatism])
    sigma = np.sqrt(np.diag(estimate.covariance)[:3])
    return (found - np.array([defocus, *astigmatism])) / sigma
