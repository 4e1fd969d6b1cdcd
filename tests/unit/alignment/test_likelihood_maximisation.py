"""Each update is the maximum of the expected log-likelihood over its own quantity, the others held."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.alignment.small_images import references_of, small_set
from threadpoolctl import threadpool_limits

from vitreous.alignment.likelihood import log_likelihood, log_shift_prior, posterior
from vitreous.alignment.maximisation import (
    ExpectedSums,
    expected_log_likelihood,
    expected_match,
    expected_sums,
    solved_references,
    updated_noise,
    updated_norm,
    updated_scale,
    updated_shares,
    updated_shift_spread,
    wiener_average,
)
from vitreous.fourier.shells import shell_index
from vitreous.reference.alignment import noise_covariance

SMALL = small_set((9, 9), count=12, noise_level=2.0)
PROBABILITY = posterior(log_likelihood(SMALL.images, SMALL.references, SMALL.shifts)).probability
MATCH = expected_match(SMALL.images, SMALL.references, SMALL.shifts, PROBABILITY)
SIZE = 81


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    """Products of small matrices: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def objective(images=SMALL.images, match=MATCH) -> float:
    return float(expected_log_likelihood(images, match).sum())


@pytest.mark.parametrize("factor", [0.98, 1.02])
@pytest.mark.parametrize("name", ["noise", "scale", "norm"])
def test_noise_scale_and_norm_are_at_their_maximum(name, factor):
    best = {
        "noise": updated_noise(SMALL.images, MATCH),
        "scale": updated_scale(SMALL.images, MATCH, SMALL.micrograph),
        "norm": updated_norm(SMALL.images, MATCH),
    }[name]
    reached = objective(replace(SMALL.images, **{name: best}))
    assert reached > objective() + 0.01
    units = np.ndindex(*best.shape) if name != "scale" else [SMALL.micrograph == m for m in np.unique(SMALL.micrograph)]
    for unit in units:
        other = best.copy()
        other[unit] *= factor
        if name == "noise" and unit[1] > SMALL.images.pixels.shell.max():
            continue
        assert objective(replace(SMALL.images, **{name: other})) < reached


def test_references_are_at_their_maximum():
    sums = expected_sums(SMALL.images, SMALL.shifts, PROBABILITY)
    precision = 0.3 * np.eye(SIZE)
    best = solved_references(sums, SMALL.operators, SMALL.images.pixels, precision)

    def penalised(averages: np.ndarray) -> float:
        match = expected_match(SMALL.images, references_of(averages, SMALL.operators), SMALL.shifts, PROBABILITY)
        return objective(match=match) - 0.5 * sum(a @ precision @ a for a in averages)

    reached = penalised(best)
    assert reached > penalised(SMALL.averages) + 1
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert penalised(best + rng.normal(0, 0.02, best.shape)) < reached


def test_wiener_average_is_the_solution_without_turning():
    one = small_set((9, 9), psi=(0.0,), count=12, noise_level=2.0)
    probability = posterior(log_likelihood(one.images, one.references, one.shifts)).probability
    sums = expected_sums(one.images, one.shifts, probability)
    signal = 0.7 / (1 + one.images.pixels.shell)
    precision = np.linalg.inv(noise_covariance(0.7 / (1 + shell_index((9, 9), half=False))))
    solved = solved_references(sums, one.operators, one.images.pixels, precision)
    # a box of odd size has no Nyquist frequency: the transform of real pixels is determined by the list
    np.testing.assert_allclose(wiener_average(sums, signal), references_of(solved, one.operators), atol=1e-9)
    free = wiener_average(sums)
    np.testing.assert_allclose(free * sums.weight, sums.data, atol=1e-9)
    nothing = wiener_average(ExpectedSums(0 * sums.data, 0 * sums.weight))
    assert not nothing.any()


def test_sums_of_parts_add_up():
    whole = expected_sums(SMALL.images, SMALL.shifts, PROBABILITY)
    parts = []
    for part in (slice(0, 5), slice(5, 12)):
        parts.append(expected_sums(SMALL.images.rows(part), SMALL.shifts, PROBABILITY[part]))
    added = parts[0] + parts[1]
    np.testing.assert_allclose(added.data, whole.data, atol=1e-10)
    np.testing.assert_allclose(added.weight, whole.weight, atol=1e-10)


def test_truth_is_found_from_many_clear_images():
    """With the true alternatives known, noise, scale and norm come out as they were put in."""
    many = small_set((12, 12), count=60, noise_level=0.3)
    images = many.images
    probability = np.zeros((60, *PROBABILITY.shape[1:]))
    probability[(np.arange(60), *many.truth.T)] = 1
    match = expected_match(images, many.references, many.shifts, probability)
    free = replace(images, scale=np.ones(60))
    # scale: 3 images of 144 pixels and a signal-to-noise ratio of about 1; norm: sqrt(1 / (2 * 144)) = 0.06 each
    np.testing.assert_allclose(updated_scale(free, match, many.micrograph), images.scale, atol=0.25)
    flat = replace(images, norm=np.ones(60))
    np.testing.assert_allclose(updated_norm(flat, match), images.norm, rtol=4.5 * 0.06)
    found = updated_noise(replace(images, noise=np.ones_like(images.noise)), match)
    number = np.bincount(images.pixels.shell, weights=images.pixels.weight) * 30  # real numbers per shell and group
    assert np.all(np.abs(found / images.noise - 1) < 4.5 * np.sqrt(2 / number))


def test_empty_shells_and_groups_keep_their_noise():
    noise = np.concatenate([SMALL.images.noise, np.full((1, SMALL.images.noise.shape[1]), 7.0)])
    noise = np.concatenate([noise, np.full((3, 2), 9.0)], axis=1)
    found = updated_noise(replace(SMALL.images, noise=noise), MATCH)
    assert np.all(found[2, :-2] == 7) and np.all(found[:, -2:] == 9)
    np.testing.assert_allclose(found[:2, :-2], updated_noise(SMALL.images, MATCH), rtol=1e-12)


def test_scale_is_never_negative_and_stays_where_nothing_is_known():
    inverted = replace(MATCH, cross=-np.abs(MATCH.cross))
    assert np.all(updated_scale(SMALL.images, inverted) == 0)
    blank = replace(MATCH, cross=0 * MATCH.cross, power=0 * MATCH.power)
    np.testing.assert_array_equal(updated_scale(SMALL.images, blank), SMALL.images.scale)


def test_shares_are_at_their_maximum():
    rng = np.random.default_rng(4)
    probability = rng.dirichlet(np.ones(3), 50)
    for pseudo_count in (0.0, 2.5):
        share = updated_shares(probability, pseudo_count=pseudo_count)
        assert abs(share.sum() - 1) < 1e-12
        expected = probability.sum(axis=0) + pseudo_count
        reached = expected @ np.log(share)
        for other in rng.dirichlet(200 * share, 20):
            assert expected @ np.log(other) < reached


GRIDS = {
    "fine and wide": np.stack(np.meshgrid(*[np.arange(-20, 20.5, 0.5)] * 2), axis=-1).reshape(-1, 2),
    "it ends": np.stack(np.meshgrid(*[np.arange(-3.0, 3.5)] * 2), axis=-1).reshape(-1, 2),
    "coarse": np.stack(np.meshgrid(*[np.arange(-20, 21, 4.0)] * 2), axis=-1).reshape(-1, 2),
}


@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("spread", [1.3, 2.0, 3.5])
def test_shift_spread_is_found(grid, spread):
    shifts = GRIDS[grid]
    probability = np.exp(log_shift_prior(shifts, spread))[None]
    found = updated_shift_spread(probability, shifts)
    np.testing.assert_allclose(found, spread, rtol=1e-9)
    moments = math.sqrt(float(np.sum(probability * np.sum(shifts**2, axis=1))) / 2)
    if grid == "fine and wide":
        np.testing.assert_allclose(moments, spread, rtol=1e-6)
    elif (grid, spread) in (("it ends", 3.5), ("coarse", 1.3)):
        assert abs(moments / spread - 1) > 0.1  # why the root mean square would not do


def test_shift_spread_of_images_with_their_own_grids_and_at_the_ends():
    base = GRIDS["it ends"]
    shifts = base + np.array([[0.0, 0.0], [0.4, -0.3], [1.0, 0.2]])[:, None]
    probability = np.exp(log_shift_prior(shifts, 1.4))
    np.testing.assert_allclose(updated_shift_spread(probability, shifts), 1.4, rtol=1e-9)
    even = np.full((2, len(base)), 1 / len(base))
    assert updated_shift_spread(even, base) == math.inf
    assert updated_shift_spread(np.ones((2, 1)), np.array([[1.0, 2.0]])) == math.inf  # one shift tells nothing
    centre = (np.sum(base**2, axis=1) == 0).astype(float)[None]
    narrow = updated_shift_spread(centre, base)
    np.testing.assert_allclose(np.exp(log_shift_prior(base, narrow)), centre[0], atol=1e-15)
