"""Images of a specimen whose defocus changes from place to place, as definitions. Signs: physics.md (a).

A lens is given as `phase(defocus)`, the phase gamma on the full grid of frequencies [y, x], zero frequency in the corner.
The origin of an axis of N pixels is index N // 2. The Nyquist row and column of even sizes are dropped: the two signs of
that frequency, which a tilt moves apart, share one sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Phase = Callable[[float], np.ndarray]


def local_defocus(x: np.ndarray, y: np.ndarray, defocus: float, tilt: float, axis: tuple[float, float]) -> np.ndarray:
    """Defocus of a flat specimen turned right-handed by `tilt` about the unit vector `axis` = (ux, uy) in the image plane.

    `df + z`: the specimen's normal (0, 0, 1) becomes n = cos(tilt) z + sin(tilt) (u x z), and its plane is n.(x, y, z) = 0.
    """
    normal = np.cos(tilt) * np.array([0.0, 0.0, 1.0]) + np.sin(tilt) * np.array([axis[1], -axis[0], 0.0])
    return defocus - (normal[0] * x + normal[1] * y) / normal[2]


def positions(shape: tuple[int, int], pixel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel, in the unit of `pixel_size`."""
    rows, columns = np.indices(shape)
    return (columns - shape[1] // 2) * pixel_size, (rows - shape[0] // 2) * pixel_size


def waves_at(shape: tuple[int, int], row: int, column: int) -> np.ndarray:
    """exp(2 pi i k.x) of every frequency at one pixel, 0 at the Nyquist frequencies of even sizes."""
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    inside = (kx != -0.5) & (ky != -0.5)
    return inside * np.exp(2j * np.pi * (kx * (column - shape[1] // 2) + ky * (row - shape[0] // 2)))


def transform(image: np.ndarray) -> np.ndarray:
    """F(k) = sum_x image(x) exp(-2 pi i k.x)."""
    total = np.zeros(image.shape, dtype=complex)
    for row, column in np.ndindex(*image.shape):
        total += image[row, column] * waves_at(image.shape, row, column).conj()
    return total


def filtered_by_pixel(
    image: np.ndarray, defocus: np.ndarray, phase: Phase, weight: Callable[[np.ndarray], np.ndarray] = np.sin
) -> np.ndarray:
    """c(x) = 1/N^2 sum_k F(k) weight(gamma(k; df(x))) exp(2 pi i k.x): each pixel by the filter of its own defocus."""
    spectrum, result = transform(image), np.empty(image.shape)
    for row, column in np.ndindex(*image.shape):
        own = weight(phase(float(defocus[row, column])))
        result[row, column] = np.mean(spectrum * own * waves_at(image.shape, row, column)).real
    return result


def imaged_by_scatterer(specimen: np.ndarray, defocus: np.ndarray, phase: Phase) -> np.ndarray:
    """c(x) = sum_r specimen(r) 1/N^2 sum_k sin(gamma(k; df(r))) exp(2 pi i k.(x - r)): each scatterer by its own defocus."""
    spectrum = np.zeros(specimen.shape, dtype=complex)
    for row, column in np.ndindex(*specimen.shape):
        own = np.sin(phase(float(defocus[row, column])))
        spectrum += specimen[row, column] * own * waves_at(specimen.shape, row, column).conj()
    result = np.empty(specimen.shape)
    for row, column in np.ndindex(*specimen.shape):
        result[row, column] = np.mean(spectrum * waves_at(specimen.shape, row, column)).real
    return result


def smoothed_sign(phase: np.ndarray, rms: float) -> np.ndarray:
    """sign(sin(phase)) blurred along the phase by a Gaussian of this rms, which must be well below pi."""
    erf = np.vectorize(math.erf)
    near = phase - 2 * np.pi * np.round(phase / (2 * np.pi))  # from -pi to pi: the zeros at -pi, 0 and pi matter
    rising, falling = near / (math.sqrt(2) * rms), math.pi / (math.sqrt(2) * rms)
    return erf(rising) - erf(rising - falling) - erf(rising + falling)


def wiener_weight(phase: np.ndarray, snr: float) -> np.ndarray:
    """sin(phase) / (sin(phase)^2 + 1/snr)."""
    return np.sin(phase) / (np.sin(phase) ** 2 + 1 / snr)


def least_squares(image: np.ndarray, defocus: np.ndarray, phase: Phase, snr: float) -> np.ndarray:
    """The specimen o that makes |S o - image|^2 + |o|^2 / snr least; S images each scatterer by its own defocus."""
    points = np.eye(image.size).reshape(-1, *image.shape)
    matrix = np.stack([imaged_by_scatterer(point, defocus, phase).ravel() for point in points], axis=1)
    solution = np.linalg.solve(matrix.T @ matrix + np.eye(image.size) / snr, matrix.T @ image.ravel())
    return solution.reshape(image.shape)
