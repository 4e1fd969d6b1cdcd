"""All turns and shifts of all references against all images, as matrix products.

Images and references are angular spectra on rings (`fourier.polar`). The correlation of image i with reference j turned by psi is

    c(psi) = (1/M) sum_m c_m Re(e^(i m psi) sum_r conj(x_m[i, r]) a_m[j, r])

For each m the inner sum is a product of (images x rings) with (rings x references), and the outer sum is a product with a matrix of cosines and
sines (`turn_matrix`). What belongs to each reference, the sum of all images turned back with weights w(psi, i, j), is the transpose of both.
A shift is a reference of its own: shifted before it is turned by psi, so that in the image the shift is `Rz(psi) t`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


def turn_matrix(psi: Float[np.ndarray, " p"], band: int, *, fold: int = 1) -> Float[np.ndarray, "p c"]:
    """[psi, 2 band]: (cos m psi, -sin m psi), which turn (real, imaginary) coefficients of correlations into their values at the angles `psi`.

    `fold` = 2 for spectra of functions that repeat after half a turn, made from half a circle.
    """
    return _turn_matrix(tuple(np.asarray(psi, dtype=np.float64).tolist()), band, fold)


@lru_cache(maxsize=64)
def _turn_matrix(psi: tuple[float, ...], band: int, fold: int) -> np.ndarray:
    turn = fold * np.outer(psi, np.arange(band))
    return np.ascontiguousarray(
        np.stack([np.cos(turn), -np.sin(turn)], axis=-1).reshape(len(psi), 2 * band), np.float32
    )


def image_rows(spectra: Complex[np.ndarray, "n r b"]) -> Float[np.ndarray, "b n c"]:
    """Spectra of images as real rows [m, image, (real rings, imaginary rings)]."""
    rings = spectra.shape[1]
    rows = np.empty((spectra.shape[2], spectra.shape[0], 2 * rings), dtype=np.float32)
    turned = spectra.transpose(2, 0, 1)
    rows[..., :rings], rows[..., rings:] = np.real(turned), np.imag(turned)
    return rows


def reference_columns(spectra: Complex[np.ndarray, "k r b"], points: int) -> Float[np.ndarray, "b 2 c k"]:
    """Spectra of references, made from `points` samples, as columns [m, (real, imaginary part of the product), (real rings, imaginary rings), reference].

    The factors c_m / M of the sum over m are in them.
    """
    count, rings, band = spectra.shape
    m = np.arange(band)
    factor = (np.where((m == 0) | (2 * m == points), 1.0, 2.0) / points).astype(np.float32)
    columns = np.empty((band, 2, 2 * rings, count), dtype=np.float32)
    turned = (spectra * factor).transpose(2, 1, 0)
    columns[:, 0, :rings], columns[:, 0, rings:] = turned.real, turned.imag
    columns[:, 1, :rings], columns[:, 1, rings:] = turned.imag, -turned.real
    return columns


def correlations(
    rows: Float[np.ndarray, "b n c"], columns: Float[np.ndarray, "b 2 c k"], turns: Float[np.ndarray, "p d"]
) -> Float[np.ndarray, "p n k"]:
    """The sum over circle and rings of image times turned reference, for each angle, image and reference."""
    products = np.matmul(rows[:, None], columns)
    band, _, images, references = products.shape
    return (turns @ products.reshape(2 * band, -1)).reshape(len(turns), images, references)


def gathered(
    rows: Float[np.ndarray, "b n c"], weights: Float[np.ndarray, "p n k"], turns: Float[np.ndarray, "p d"]
) -> Complex[np.ndarray, "k r b"]:
    """For each reference the spectrum of the sum of all images, turned back, with weights: the transpose of `correlations`."""
    band, images, width = rows.shape
    references, rings = weights.shape[2], width // 2
    moved = (turns.T @ weights.reshape(len(turns), -1)).reshape(band, 2, images, references)
    parts = np.matmul(rows.transpose(0, 2, 1)[:, None], moved)  # [m, (cos, -sin), (real rings, imaginary rings), k]
    spectra = np.empty((references, rings, band), dtype=np.complex64)
    spectra.real = (parts[:, 0, :rings] - parts[:, 1, rings:]).transpose(2, 1, 0)
    spectra.imag = (parts[:, 0, rings:] + parts[:, 1, :rings]).transpose(2, 1, 0)
    return spectra
