"""Thon rings by their definitions: the spectrum of a micrograph, its likelihood, and the search for its defocus, one number at a time."""

import math

import numpy as np


def mean_power(image, step, kx, ky):
    """Mean of |F|^2 over all frequencies of the image (cycles per pixel) within half a `step` of (kx, ky) along both axes."""
    rows, columns = np.fft.fftfreq(image.shape[0]), np.fft.fftfreq(image.shape[1])
    power = np.abs(np.fft.fft2(image)) ** 2
    chosen = [
        power[i, j]
        for i, fy in enumerate(rows)
        for j, fx in enumerate(columns)
        if abs(fx - kx) < step / 2 and abs(fy - ky) < step / 2
    ]
    return sum(chosen) / len(chosen)


def ring_phase(kx, ky, defocus, along, across, wavelength, spherical_aberration, amplitude_contrast, phase_shift=0.0):
    """gamma of physics.md (a) at one frequency; angstrom, radian."""
    k, theta = math.hypot(kx, ky), math.atan2(ky, kx)
    local = defocus + along * math.cos(2 * theta) + across * math.sin(2 * theta)
    chi = math.pi * wavelength * local * k**2 - math.pi / 2 * spherical_aberration * wavelength**3 * k**4
    return chi + phase_shift + math.asin(amplitude_contrast)


def ring_power(background, depth, gamma, wavelength, k, thickness=0.0):
    """S = T [1 - m sinc(pi lambda t k^2) cos 2 gamma]; for m = 1 twice the power of unrelated layers (physics.md b7)."""
    u = math.pi * wavelength * thickness * k**2
    return background * (1 - depth * (math.sin(u) / u if u else 1.0) * math.cos(2 * gamma))


def log_likelihood(power, expected):
    """Whittle's, per averaged value: -(log S + P/S), summed."""
    return -sum(math.log(s) + p / s for p, s in zip(power, expected, strict=True))


def search_score(rings, gammas):
    """How well values r of many frequencies fit -cos 2 gamma: their product over the length of the cosine."""
    waves = [-math.cos(2 * gamma) for gamma in gammas]
    return sum(r * wave for r, wave in zip(rings, waves, strict=True)) / math.sqrt(sum(wave**2 for wave in waves))


def local_defocus(defocus, slope_x, slope_y, x, y):
    """Defocus at (x, y) of a tilted flat specimen, `defocus` in the middle."""
    return defocus + slope_x * x + slope_y * y
