"""The locally normalised correlation of a micrograph with many templates, as a matrix product.

    NCC(r) = sum_m t(m) I(r + m) / ( |t| sqrt( sum_m (I(r + m) - mean)^2 ) ),      t of mean 0 within the disc m

lies between -1 and 1 and is 1 where the micrograph within the disc is the template, brighter or darker, stronger or weaker. The
templates at all angles are alike: as vectors of the disc's pixels they lie almost in a space of few dimensions. The micrograph is
correlated with a basis of that space, and the correlations with all templates are one product of a small and a large matrix. What
was found is scored again with the templates themselves: what the basis leaves out moves no score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.picking.working_image import reflected

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LOST = 0.02  # of the templates' power, that the basis leaves out
BLOCK = 2048  # places that are scored at a time


@dataclass(frozen=True)
class TemplateVectors:
    """n templates as vectors of the p pixels of a disc, mean 0 and norm 1: `values` [n, p]; `offset` [p, 2] (x, y) of the pixels."""

    values: Float[np.ndarray, "n p"]
    offset: Int[np.ndarray, "p 2"]


def template_vectors(images: Float[np.ndarray, "n y x"], radius_px: float) -> TemplateVectors:
    """The disc about the origin of each image. A template without contrast in the disc becomes zeros, which match nothing."""
    box = images.shape[-1]
    axis = np.arange(box) - box // 2
    row, column = np.nonzero(axis[:, None] ** 2 + axis**2 <= radius_px**2)
    values = images[:, row, column]
    values = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    values = np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)
    return TemplateVectors(values, np.stack([column, row], axis=1) - box // 2)


def principal_basis(values: Float[np.ndarray, "n p"], lost: float = LOST) -> Float[np.ndarray, "k p"]:
    """The fewest orthonormal vectors that hold all but a part `lost` of the power of all rows together."""
    second_moment = values.T.astype(np.float64) @ values.astype(np.float64)
    power, vectors = np.linalg.eigh(second_moment)
    total = np.cumsum(power[::-1])
    count = int(np.searchsorted(total, (1 - lost) * total[-1])) + 1
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].T.astype(values.dtype))


@dataclass(frozen=True)
class Correlator:
    """A micrograph ready to be compared with discs: `padded` is the mirrored image, `inside` where the image itself lies in it."""

    padded: Float[np.ndarray, "v u"]
    inside: tuple[slice, slice]

    @staticmethod
    def of(values: Float[np.ndarray, "y x"], radius_px: float) -> Correlator:
        return Correlator(*reflected(values, int(np.ceil(radius_px)) + 1))

    def sums(self, weights: Float[np.ndarray, "k p"], offset: Int[np.ndarray, "p 2"]) -> Float[np.ndarray, "k y x"]:
        """`sum_m weights(m) I(r + m)` for every place r of the image, by Fourier transforms."""
        from scipy import fft as scipy_fft

        transform: Any = scipy_fft.rfft2(self.padded)
        return self._sums_of(transform, weights, offset)

    def deviations(self, offset: Int[np.ndarray, "p 2"]) -> Float[np.ndarray, "y x"]:
        """`sqrt(sum_m (I(r + m) - mean)^2)` about every place r. Where the image is constant, to rounding, it is infinite: nothing matches."""
        from scipy import fft as scipy_fft

        ones = np.ones((1, len(offset)), dtype=self.padded.dtype)
        squares: Any = scipy_fft.rfft2(np.square(self.padded))
        total, power = self.sums(ones, offset)[0], self._sums_of(squares, ones, offset)[0]
        spread = power - np.square(total) / len(offset)
        rounding = 64 * float(np.finfo(spread.dtype).eps) * float(power.max())
        return np.sqrt(np.where(spread > rounding, spread, np.inf))

    def patches(self, places: Int[np.ndarray, "n 2"], offset: Int[np.ndarray, "p 2"]) -> Float[np.ndarray, "n p"]:
        """The image's pixels of the disc about each place (row, column)."""
        row = places[:, :1] + self.inside[0].start + offset[:, 1]
        column = places[:, 1:] + self.inside[1].start + offset[:, 0]
        return self.padded[row, column]

    def _sums_of(self, transform: Any, weights: np.ndarray, offset: np.ndarray) -> np.ndarray:
        from scipy import fft as scipy_fft

        size = (self.inside[0].stop - self.inside[0].start, self.inside[1].stop - self.inside[1].start)
        found = np.empty((len(weights), *size), dtype=self.padded.dtype)
        canvas = np.zeros_like(self.padded)
        for one, weight in zip(found, weights):
            canvas[offset[:, 1], offset[:, 0]] = weight  # negative indices wrap round, as the correlation does
            kernel: Any = scipy_fft.rfft2(canvas)
            np.conjugate(kernel, out=kernel)
            kernel *= transform
            whole: Any = scipy_fft.irfft2(kernel, s=self.padded.shape, overwrite_x=True)
            one[...] = whole[self.inside]
        return found


def best_correlations(
    components: Float[np.ndarray, "k y x"], coefficients: Float[np.ndarray, "n k"], deviations: Float[np.ndarray, "y x"]
) -> Float[np.ndarray, "y x"]:
    """The highest NCC of any template at every place, from the sums of a basis and the templates' `coefficients` in it."""
    flat = components.reshape(len(components), -1)
    best = np.empty(flat.shape[1], dtype=flat.dtype)
    for start in range(0, len(best), BLOCK):
        block = slice(start, start + BLOCK)
        best[block] = (flat[:, block].T @ coefficients.T).max(axis=1)
    return (best / deviations.ravel()).reshape(deviations.shape)


def exact_correlations(
    correlator: Correlator, vectors: TemplateVectors, places: Int[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The highest NCC of any template at these places, and which template it is."""
    best, which = np.zeros(len(places)), np.zeros(len(places), dtype=np.int64)
    for start in range(0, len(places), BLOCK):
        rows = slice(start, start + BLOCK)
        patches = correlator.patches(places[rows], vectors.offset).astype(np.float64)
        patches -= patches.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(patches, axis=1)
        scores = patches.astype(vectors.values.dtype) @ vectors.values.T
        which[rows] = scores.argmax(axis=1)
        best[rows] = np.where(norm > 0, scores.max(axis=1) / np.where(norm > 0, norm, 1.0), 0.0)
    return best, which
