"""The maximisation of maps: half maps, their regularisation, and what the halves share."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, blobs, correlation
from threadpoolctl import threadpool_limits

from vitreous.alignment.assignment import unassigned
from vitreous.alignment.class_sums import NoiseSums
from vitreous.alignment.map_averages import (
    JOINED,
    finished,
    joined_at_low_resolution,
    low_passed,
    maximised_maps,
    regularised,
)
from vitreous.alignment.map_sums import MapSums, add_slices
from vitreous.alignment.map_views import sliced
from vitreous.fourier.polar import polar_grid
from vitreous.fourier.shells import shell_count, shell_mean
from vitreous.fourier.transforms import forward
from vitreous.geometry.rotations import random_rotations
from vitreous.geometry.symmetry import point_group
from vitreous.reconstruction.backprojection import Accumulator
from vitreous.reconstruction.direct_inversion import split_symmetry
from vitreous.reconstruction.projection import fourier_volume

BOX, RADIUS, SLICES = 32, 12.0, 400
TRUTH = blobs(np.random.default_rng(5)).density(BOX)
GRID = polar_grid(BOX, 15, extent=30.0)
ALONE = np.eye(3)[None]


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def inserted(noise: float, seed: int, volume: np.ndarray = TRUTH, operators: np.ndarray = ALONE) -> np.ndarray:
    """Sums of slices with the weights of the points and complex noise of variance `noise` in a Fourier pixel."""
    rng = np.random.default_rng(seed)
    frames = random_rotations(SLICES, rng).astype(np.float32)
    slices = sliced(fourier_volume(volume), frames, GRID)
    white = rng.normal(size=(*slices.shape, 2)) @ np.array([1, 1j]) * np.sqrt(noise / 2)
    weight = np.broadcast_to(GRID.weight[:, None], slices.shape).astype(np.float32)
    # A point that stands for w pixels has the noise of their mean.
    accumulator = Accumulator(BOX)
    data = ((slices + white / np.sqrt(weight)) * weight).astype(np.complex64)
    add_slices(accumulator, data, weight, frames, operators, GRID)
    return accumulator.sums


def sums_of(volumes: dict) -> MapSums:
    nothing = NoiseSums.of_group(1, 0, 0, *np.zeros((3, 4)))
    return MapSums(volumes, np.ones((2, 1)), np.zeros((2, 1)), (nothing, nothing), np.arange(2), unassigned(2))


def model(noise: float, *, independent: bool = True, tau_fudge: float = 1.0, mask: np.ndarray | None = None):
    volumes = {(half, 0): inserted(noise, half) for half in (0, 1)}
    return maximised_maps(
        sums_of(volumes),
        ALONE,
        BOX,
        PIXEL_SIZE,
        classes=1,
        radius=RADIUS,
        tau_fudge=tau_fudge,
        independent=independent,
        mask=mask,
    )


LOUD = 3e4  # noise that hides the finer half of the shells


@pytest.fixture(scope="module")
def clear():
    return model(1.0)


@pytest.fixture(scope="module")
def noisy():
    return model(LOUD)


def distance(volume: np.ndarray) -> float:
    return float(((volume - TRUTH) ** 2).sum() / (TRUTH**2).sum())


def test_clear_slices_give_the_map_back(clear):
    for half in (0, 1):
        assert correlation(clear.half_maps[half, 0], TRUTH) > 0.99
        assert correlation(clear.references[half, 0], TRUTH) > 0.99
        assert correlation(clear.half_maps[half, 0, :, :, ::-1], TRUTH) < 0.7  # the other hand
        # On the scale of the map, but for the mean, which no ring holds.
        found = clear.references[half, 0] - clear.references[half, 0].mean()
        assert 0.9 < (found * (TRUTH - TRUTH.mean())).sum() / ((TRUTH - TRUTH.mean()) ** 2).sum() < 1.1
    assert clear.fsc[0, 1:11].min() > 0.95


def test_the_correlation_of_the_halves_falls_with_the_signal(noisy):
    curve = noisy.fsc[0]
    assert curve[1:4].min() > 0.7 and curve[13:].max() < 0.5
    assert curve[0] >= 0.9 or curve[0] == 1
    assert noisy.fsc.shape == (1, BOX // 2 + 1)


def test_references_are_nearer_to_the_truth_than_half_maps(noisy):
    """Regularised by the signal that the halves have in common, and masked."""
    for half in (0, 1):
        assert distance(noisy.references[half, 0]) < 0.5 * distance(noisy.half_maps[half, 0])


def test_the_filter_is_that_of_the_ratio():
    """With weights that are even in each shell, N / (D + mean D ratio) is N / D over 1 + ratio: half of it for a ratio of 1."""
    sums = finished(inserted(0.0, 3), ALONE, BOX)
    shells = BOX // 2 + 1
    plain, half = (forward(regularised(sums, np.full(shells, ratio)), 3) for ratio in (1e-6, 1.0))
    product = shell_mean((plain.conj() * half).real, (BOX,) * 3) / shell_mean(np.abs(plain) ** 2, (BOX,) * 3)
    np.testing.assert_allclose(product[2:10], 0.5, atol=0.08)  # random directions are not quite even
    third = forward(regularised(sums, np.where(np.arange(shells) < 6, 1e-6, 2.0)), 3)
    product = shell_mean((plain.conj() * third).real, (BOX,) * 3) / shell_mean(np.abs(plain) ** 2, (BOX,) * 3)
    assert product[3] > 0.9 and abs(product[9] - 1 / 3) < 0.1


def test_tau_fudge_trusts_more():
    trusting, careful = model(LOUD, tau_fudge=4.0), model(LOUD, tau_fudge=1.0)
    power = [np.abs(forward(m.references[0, 0], 3)) ** 2 for m in (trusting, careful)]
    shells = [shell_mean(p, (BOX,) * 3) for p in power]
    assert (shells[0][4:12] > shells[1][4:12]).all()


def test_halves_that_are_not_independent_share_the_map_of_all():
    shared = model(LOUD, independent=False)
    np.testing.assert_array_equal(shared.references[0], shared.references[1])
    assert distance(shared.references[0, 0]) < distance(model(LOUD).references[0, 0])
    assert not np.array_equal(shared.half_maps[0], shared.half_maps[1])


def test_only_low_resolution_is_joined(noisy):
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(BOX,) * 3).astype(np.float32) for _ in range(2)]
    before = [forward(volume, 3) for volume in maps]
    after = [forward(volume, 3) for volume in joined_at_low_resolution(maps, PIXEL_SIZE)]
    kz, ky, kx = np.meshgrid(*[np.fft.fftfreq(BOX, 1 / BOX)] * 2, np.arange(BOX // 2 + 1), indexing="ij")
    shell = np.rint(np.sqrt(kx**2 + ky**2 + kz**2))
    low = shell <= BOX * PIXEL_SIZE / JOINED
    scale = np.abs(before[0]).max()
    mean = (before[0] + before[1]) / 2
    for one, other in zip(before, after):
        # Single precision.
        assert np.abs(other - mean)[low].max() < 1e-5 * scale
        assert np.abs(other - one)[~low].max() < 1e-5 * scale
    assert 0 < low.sum() < 0.02 * low.size


def test_low_pass_ends_softly():
    rng = np.random.default_rng(2)
    volume = rng.normal(size=(BOX,) * 3).astype(np.float32)
    power = shell_mean(np.abs(forward(volume, 3)) ** 2, volume.shape)
    left = shell_mean(np.abs(forward(low_passed(volume, PIXEL_SIZE, 16.0), 3)) ** 2, volume.shape)
    last = BOX * PIXEL_SIZE / 16.0  # shell 8
    gain = np.sqrt(left / power)
    shells = np.arange(shell_count(volume.shape))
    np.testing.assert_allclose(gain[shells <= last - 1], 1, atol=1e-4)
    np.testing.assert_allclose(gain[shells >= last + 1], 0, atol=1e-4)
    np.testing.assert_allclose(gain[8], 0.5, atol=1e-4)


def test_a_mask_multiplies_the_references_alone():
    mask = np.zeros((BOX,) * 3, dtype=np.float32)
    mask[:, :, BOX // 2 :] = 1
    with_mask, without = model(1.0, mask=mask), model(1.0)
    np.testing.assert_array_equal(with_mask.references, without.references * mask)
    np.testing.assert_array_equal(with_mask.half_maps, without.half_maps)
    np.testing.assert_array_equal(with_mask.fsc, without.fsc)  # no mask in it that follows the map


def test_nothing_gives_nothing():
    found = maximised_maps(
        sums_of({(0, 0): inserted(1.0, 0)}),
        ALONE,
        BOX,
        PIXEL_SIZE,
        classes=2,
        radius=RADIUS,
        tau_fudge=1.0,
        independent=True,
    )
    assert np.isfinite(found.half_maps).all() and np.isfinite(found.references).all()
    assert not found.half_maps[:, 1].any() and not found.half_maps[1].any()
    assert not found.fsc[1, 1:].any()


@pytest.mark.parametrize("name", ["C2", "D2", "C3"])
def test_symmetry_is_in_the_sums(name):
    """Operators that the grid has are applied to the sums, the others when slices are inserted."""
    group = point_group(name)
    exact, others = split_symmetry(group.operators)
    thing = blobs(np.random.default_rng(5), 4, operators=group.operators).density(BOX)
    volumes = {(half, 0): inserted(1.0, half, thing, others) for half in (0, 1)}
    found = maximised_maps(
        sums_of(volumes), exact, BOX, PIXEL_SIZE, classes=1, radius=RADIUS, tau_fudge=1.0, independent=True
    )
    assert correlation(found.half_maps[0, 0], thing) > 0.98


def test_sums_add_up():
    a = sums_of({(0, 0): inserted(1.0, 0)})
    b = sums_of({(0, 0): inserted(1.0, 1), (1, 0): inserted(1.0, 2)})
    both = a + b
    np.testing.assert_array_equal(both.volumes[0, 0], a.volumes[0, 0] + b.volumes[0, 0])
    np.testing.assert_array_equal(both.volumes[1, 0], b.volumes[1, 0])
    assert both.mass.sum() == 4 and len(both.rows) == 4
