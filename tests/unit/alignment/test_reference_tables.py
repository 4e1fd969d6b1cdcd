"""Log-likelihoods of whole tables against sums over points, and what is gathered as their transpose."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import blobs, in_plane
from threadpoolctl import threadpool_limits

from vitreous.alignment.polar_images import WeightedImages, shift_factors
from vitreous.alignment.reference_tables import Alternatives, ReferenceTables
from vitreous.alignment.turning import image_rows
from vitreous.fourier.polar import polar_grid, to_polar, whole_circle

BOX, IMAGES, CLASSES = 32, 4, 2
GRID = polar_grid(BOX, 10, extent=24.0)
# Turns by whole points, which need no interpolation.
STEPS = np.array([0, 7, GRID.angles // 2 + 3, -4])
PSI = 2 * np.pi * STEPS / GRID.angles
SHIFT = np.array([[0.0, 0.0], [2.0, -1.0], [0.5, 1.5]])
# Single precision, and coefficients beyond the band: 1e-3 of the largest values.
NEAR = 2e-3


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def references() -> np.ndarray:
    rng = np.random.default_rng(0)
    images = [blobs(rng).images(in_plane(np.zeros(1)), np.zeros((1, 2)), BOX)[0] for _ in range(CLASSES)]
    return to_polar(np.stack(images), GRID).astype(np.complex64)


def weighted() -> WeightedImages:
    """Data of other blobs times an astigmatic function that repeats after half a turn."""
    rng = np.random.default_rng(1)
    images = [blobs(rng).images(in_plane(np.zeros(1)), np.zeros((1, 2)), BOX)[0] for _ in range(IMAGES)]
    theta = 2 * np.pi * np.arange(GRID.angles // 2) / GRID.angles
    power = 0.02 * (1 + 0.5 * np.cos(2 * (theta - 0.5))) * np.linspace(1, 2, GRID.shape[0])[:, None]
    power = (power * rng.uniform(0.5, 1.5, (IMAGES, 1, 1))).astype(np.float32)
    return WeightedImages(GRID, to_polar(np.stack(images), GRID) * power, power, np.zeros((IMAGES, 2)))


def turned(values: np.ndarray, steps: int) -> np.ndarray:
    """X(theta + steps) on half a circle."""
    circle = np.concatenate([values, np.conj(values)], axis=-1)
    return np.roll(circle, -steps, axis=-1)[..., : values.shape[-1]]


def definition(images: WeightedImages, averages: np.ndarray, *, sign: int = 1, shift_sign: int = 1) -> np.ndarray:
    """[p, n, k, s]: sum data a_t(theta + psi) - (1/2) sum power |A(theta + psi)|^2 over whole circles."""
    kx, ky = GRID.frequencies
    table = np.empty((len(STEPS), IMAGES, CLASSES, len(SHIFT)))
    for p, step in enumerate(STEPS):
        for s, (x, y) in enumerate(SHIFT):
            moved = averages * np.exp(shift_sign * 2j * np.pi * (kx * x + ky * y) / BOX)
            view = turned(moved, sign * step)
            cross = np.einsum("nrt,krt->nk", whole_circle(images.data), whole_circle(view))
            model = np.einsum("nrt,krt->nk", images.power, np.abs(view) ** 2)  # half a circle: half of the whole
            table[p, :, :, s] = cross - model
    return table


def rows(tables: ReferenceTables, images: WeightedImages) -> tuple[np.ndarray, np.ndarray]:
    return image_rows(images.spectra(tables.band)), image_rows(images.power_spectra(tables.power_band))


def test_shift_factors_are_phase_ramps():
    """A particle at +r is at r - o after multiplication by exp(+2 pi i k.o): the factor moves content by -o."""
    kx, ky = GRID.frequencies
    expected = np.exp(2j * np.pi * (np.multiply.outer(SHIFT[:, 0], kx) + np.multiply.outer(SHIFT[:, 1], ky)) / BOX)
    # Powers of one number in single precision: an error of 1e-7 for each ring.
    np.testing.assert_allclose(shift_factors(GRID, SHIFT), expected, atol=1e-5)
    inner = polar_grid(BOX, 10, extent=24.0, first=4)
    np.testing.assert_allclose(shift_factors(inner, SHIFT), expected[:, 3:], atol=1e-5)
    at = blobs(np.random.default_rng(2))
    centre, moved = (
        at.images(in_plane(np.zeros(1)), np.zeros((1, 2)), BOX),
        at.images(in_plane(np.zeros(1)), np.array([[1.5, -2.0]]), BOX),
    )
    factor = shift_factors(GRID, np.array([[1.5, -2.0]]))
    difference = np.abs(to_polar(centre, GRID) * factor - to_polar(moved, GRID)).max()
    # Of the non-uniform transform, and of what the box cuts off the blobs.
    assert difference < 1e-2 * np.abs(to_polar(moved, GRID)).max()


def test_log_likelihood_is_the_sum_over_points():
    images, averages = weighted(), references()
    tables = ReferenceTables(averages, GRID, Alternatives(PSI, SHIFT))
    found = tables.log_likelihood(*rows(tables, images))
    expected = definition(images, averages)
    spread = expected.std()
    assert np.abs(found - expected).max() < NEAR * np.abs(expected).max()
    assert np.abs(found - definition(images, averages, sign=-1)).max() > 0.5 * spread
    assert np.abs(found - definition(images, averages, shift_sign=-1)).max() > 0.5 * spread


def test_an_image_is_most_like_itself():
    """With data = power X the log-likelihood is largest at the truth, where it is half of sum power |X|^2."""
    averages = references()
    power = np.full((CLASSES, *GRID.shape), 0.02, dtype=np.float32)
    seen = np.stack([turned(averages[k] * shift_factors(GRID, SHIFT[1:2])[0], STEPS[1]) for k in range(CLASSES)])
    images = WeightedImages(GRID, seen * power, power, np.zeros((CLASSES, 2)))
    tables = ReferenceTables(averages, GRID, Alternatives(PSI, SHIFT))
    table = tables.log_likelihood(*rows(tables, images))
    for n in range(CLASSES):
        assert np.unravel_index(table[:, n].argmax(), table[:, n].shape) == (1, n, 1)
        np.testing.assert_allclose(table[1, n, n, 1], (power[n] * np.abs(seen[n]) ** 2).sum(), rtol=NEAR)


def test_sums_are_those_of_images_turned_and_moved_back():
    images, averages = weighted(), references()
    tables = ReferenceTables(averages, GRID, Alternatives(PSI, SHIFT))
    weights = np.random.default_rng(3).uniform(size=(len(PSI), IMAGES, CLASSES, len(SHIFT))).astype(np.float32)
    found = tables.gathered(*rows(tables, images), weights)
    data = np.zeros((CLASSES, *GRID.shape), dtype=complex)
    power = np.zeros((CLASSES, *GRID.shape))
    for p, step in enumerate(STEPS):
        back = turned(images.data, -step)
        power += np.einsum("nk,nrt->krt", weights[p].sum(axis=2), turned(images.power + 0j, -step).real)
        for s in range(len(SHIFT)):
            factor = np.conj(shift_factors(GRID, SHIFT[s : s + 1])[0])
            data += np.einsum("nk,nrt->krt", weights[p, :, :, s], back * factor)
    assert np.abs(found.data - data).max() < NEAR * np.abs(data).max()
    assert np.abs(found.weight - power).max() < NEAR * power.max()


def test_the_sums_of_products_are_those_of_the_table():
    """sum weights L = sum cross - model / 2: what the noise is estimated from is what was compared."""
    images, averages = weighted(), references()
    tables = ReferenceTables(averages, GRID, Alternatives(PSI, SHIFT))
    weights = np.random.default_rng(4).uniform(size=(len(PSI), IMAGES, CLASSES, len(SHIFT))).astype(np.float32)
    found = tables.gathered(*rows(tables, images), weights)
    total = (weights * tables.log_likelihood(*rows(tables, images))).sum(dtype=np.float64)
    assert found.cross.shape == found.model.shape == GRID.shape[:1]
    # Sums of some hundred terms in single precision.
    np.testing.assert_allclose(found.cross.sum() - found.model.sum() / 2, total, atol=1e-4 * found.model.sum())
    assert (found.model > 0).all()
