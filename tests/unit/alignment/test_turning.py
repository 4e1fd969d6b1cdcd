"""All turns as matrix products, against sums over the points of circles."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from vitreous.alignment.reference_tables import circle_products
from vitreous.alignment.turning import correlations, gathered, image_rows, reference_columns, turn_matrix

POINTS, BAND, RINGS, IMAGES, REFERENCES = 24, 9, 4, 3, 2
# Sums of 24 x 4 products of numbers of about 1 in single precision.
ROUNDING = 1e-4


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def circles(count: int, seed: int) -> np.ndarray:
    """Real functions on whole circles [count, r, points] of BAND angular coefficients."""
    rng = np.random.default_rng(seed)
    spectra = rng.normal(size=(count, RINGS, BAND)) + 1j * rng.normal(size=(count, RINGS, BAND))
    return np.fft.irfft(spectra, n=POINTS) * np.sqrt(POINTS)


def spectra(values: np.ndarray, band: int = BAND) -> np.ndarray:
    return np.fft.rfft(values)[..., :band].astype(np.complex64)


def turned(values: np.ndarray, psi: float) -> np.ndarray:
    """f(theta + psi) of functions that have few coefficients."""
    coefficients = np.fft.rfft(values)
    return np.fft.irfft(coefficients * np.exp(1j * psi * np.arange(coefficients.shape[-1])), n=values.shape[-1])


PSI = np.array([0.0, 0.3, 2.0, -1.2, 2 * np.pi * 5 / POINTS])


def test_correlations_are_sums_over_circles():
    images, references = circles(IMAGES, 0), circles(REFERENCES, 1)
    found = correlations(
        image_rows(spectra(images)), reference_columns(spectra(references), POINTS), turn_matrix(PSI, BAND)
    )
    expected = np.stack([np.einsum("nrp,krp->nk", images, turned(references, psi)) for psi in PSI])
    np.testing.assert_allclose(found, expected, atol=ROUNDING * np.abs(expected).max())
    wrong = np.stack([np.einsum("nrp,krp->nk", images, turned(references, -psi)) for psi in PSI])
    assert np.abs(found - wrong).max() > 0.3 * np.abs(expected).max()
    # A turn by whole points is a step along the circle.
    rolled = np.einsum("nrp,krp->nk", images, np.roll(references, -5, axis=-1))
    np.testing.assert_allclose(found[4], rolled, atol=ROUNDING * np.abs(expected).max())


def test_the_nyquist_coefficient_counts_once():
    rng = np.random.default_rng(3)
    images, references = rng.normal(size=(2, 2, RINGS, POINTS))
    whole = POINTS // 2 + 1
    found = correlations(
        image_rows(spectra(images, whole)),
        reference_columns(spectra(references, whole), POINTS),
        turn_matrix(np.zeros(1), whole),
    )
    expected = np.einsum("nrp,krp->nk", images, references)
    np.testing.assert_allclose(found[0], expected, atol=ROUNDING * np.abs(expected).max())


def test_functions_that_repeat_after_half_a_turn():
    """Made from half a circle: their coefficient m is that of 2 m over the whole."""
    images, references = circles(IMAGES, 5), circles(REFERENCES, 6)  # POINTS on half a circle here
    found = correlations(
        image_rows(spectra(images)), reference_columns(spectra(references), POINTS), turn_matrix(PSI, BAND, fold=2)
    )
    expected = np.stack([np.einsum("nrp,krp->nk", images, turned(references, 2 * psi)) for psi in PSI])
    np.testing.assert_allclose(found, expected, atol=ROUNDING * np.abs(expected).max())


def test_gathered_is_the_transpose_of_correlations():
    """<weights, correlations(x, a)> = <gathered(x, weights), a>, to rounding."""
    rows, references = image_rows(spectra(circles(IMAGES, 7))), spectra(circles(REFERENCES, 8))
    turns, rng = turn_matrix(PSI, BAND), np.random.default_rng(9)
    weights = rng.normal(size=(len(PSI), IMAGES, REFERENCES)).astype(np.float32)
    one = (weights * correlations(rows, reference_columns(references, POINTS), turns)).sum(dtype=np.float64)
    sums = gathered(rows, weights, turns)
    other = circle_products(sums, references, POINTS).sum()
    size = np.abs(weights).sum() * np.abs(references).max() ** 2
    assert abs(one - other) < 1e-5 * size / POINTS  # single precision
    assert abs(one + other) > 1e-2 * abs(one)


def test_gathered_is_the_sum_of_images_turned_back():
    images = circles(IMAGES, 10)
    weights = np.random.default_rng(11).uniform(size=(len(PSI), IMAGES, REFERENCES)).astype(np.float32)
    found = gathered(image_rows(spectra(images)), weights, turn_matrix(PSI, BAND))
    back = np.stack([turned(images, -psi) for psi in PSI])
    expected = np.fft.rfft(np.einsum("pnk,pnrt->krt", weights, back))[..., :BAND]
    np.testing.assert_allclose(found, expected, atol=ROUNDING * np.abs(expected).max())
    forwards = np.stack([turned(images, psi) for psi in PSI])
    wrong = np.fft.rfft(np.einsum("pnk,pnrt->krt", weights, forwards))[..., :BAND]
    assert np.abs(found - wrong).max() > 0.1 * np.abs(expected).max()
