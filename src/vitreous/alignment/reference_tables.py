"""References ready for matching: moved by every shift of a lattice, as columns of the matrix products.

    L(psi, reference, t) = sum data a_t(theta + psi) - (1/2) sum power |A(theta + psi)|^2

over whole circles: the log of (likelihood of the image with this reference and pose / likelihood of the image as noise alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.polar_images import power_spectra, shift_factors
from vitreous.alignment.turning import correlations, gathered, reference_columns, turn_matrix
from vitreous.fourier.polar import PolarGrid, angular_spectrum, from_angular_spectrum

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

# Angular coefficients (of half a turn) of the CTF squared and of |A|^2 that are kept: an astigmatic CTF has few, 32 are ample.
POWER_BAND = 32


@dataclass(frozen=True)
class Alternatives:
    """In-plane angles [p] (radian) and shifts [s, 2] (pixels) that are compared."""

    psi: Float[np.ndarray, " p"]
    shift: Float[np.ndarray, "s 2"]


class ReferenceTables:
    """`references` [k, r, h] on the rings of `grid`, each moved by all shifts."""

    def __init__(self, references: Complex[np.ndarray, "k r h"], grid: PolarGrid, alternatives: Alternatives):
        self.grid, self.shape = grid, (len(references), len(alternatives.shift))
        self.band, self.power_band = grid.band, min(POWER_BAND, grid.angles // 4)
        self.factors = shift_factors(grid, alternatives.shift)
        moved = references[:, None] * self.factors
        self.spectra = angular_spectrum(moved.reshape(-1, *grid.shape), self.band)
        self.columns = reference_columns(self.spectra, grid.angles)
        self.turns = turn_matrix(alternatives.psi, self.band)
        self.power = power_spectra(np.real(references) ** 2 + np.imag(references) ** 2, self.power_band)
        self.power_columns = reference_columns(self.power, grid.angles // 2)
        self.power_turns = turn_matrix(alternatives.psi, self.power_band, fold=2)

    def log_likelihood(
        self, data: Float[np.ndarray, "b n c"], power: Float[np.ndarray, "q n c"]
    ) -> Float[np.ndarray, "p n k s"]:
        """L of every angle, image, reference and shift. Half of the power's sum over a circle is its sum over half a circle."""
        table = correlations(data, self.columns, self.turns)
        table = table.reshape(*table.shape[:2], *self.shape)
        table -= correlations(power, self.power_columns, self.power_turns)[..., None]
        return table

    def gathered(
        self,
        data: Float[np.ndarray, "b n c"],
        power: Float[np.ndarray, "q n c"],
        weights: Float[np.ndarray, "p n k s"],
    ) -> WholeSums:
        """The images, turned and moved back, added up with their weights for each reference."""
        flat, by_reference = weights.reshape(*weights.shape[:2], -1), weights.sum(axis=3)
        moved = gathered(data, flat, self.turns)
        squares = gathered(power, by_reference, self.power_turns)
        values = from_angular_spectrum(moved, self.grid.angles).reshape(*self.shape, *self.grid.shape)
        cross = circle_products(moved, self.spectra, self.grid.angles)
        model = 2 * circle_products(squares, self.power, self.grid.angles // 2)
        back = (values * np.conj(self.factors)).sum(axis=1)
        return WholeSums(back, half_turn(squares, self.grid), cross, model)


@dataclass(frozen=True)
class WholeSums:
    """`data` [k, r, h] sum of weighted data, `weight` [k, r, h] sum of their power, turned and moved back.

    `cross` and `model` [r]: sums over whole circles, images and posteriors of data times reference and of power times |reference|^2.
    """

    data: Complex[np.ndarray, "k r h"]
    weight: Float[np.ndarray, "k r h"]
    cross: Float[np.ndarray, " r"]
    model: Float[np.ndarray, " r"]


def half_turn(spectra: Complex[np.ndarray, "k r q"], grid: PolarGrid) -> Float[np.ndarray, "k r h"]:
    """Functions that repeat after half a turn, from their spectra."""
    import scipy.fft

    return np.asarray(scipy.fft.irfft(spectra, n=grid.angles // 2, axis=-1, workers=1))


def circle_products(a: Complex[np.ndarray, "k r b"], b: Complex[np.ndarray, "k r b"], points: int) -> np.ndarray:
    """Per ring the sum over references and points of two functions given by their spectra."""
    m = np.arange(a.shape[-1])
    factor = np.where((m == 0) | (2 * m == points), 1.0, 2.0) / points
    return ((np.real(a) * np.real(b) + np.imag(a) * np.imag(b)).sum(axis=0) * factor).sum(axis=1)
