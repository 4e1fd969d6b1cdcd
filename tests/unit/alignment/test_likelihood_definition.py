"""The likelihood in Fourier space is the textbook's in real space: matrices of pixels against lists of Fourier pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.alignment.small_images import PIXEL_SIZE, operator, references_of, small_set
from threadpoolctl import threadpool_limits

from vitreous.alignment.fourier_pixels import fourier_pixels
from vitreous.alignment.likelihood import log_likelihood, log_noise, log_prior, log_shift_prior, log_weights, posterior
from vitreous.alignment.maximisation import (
    expected_match,
    expected_references,
    expected_sums,
    solved_references,
    updated_noise,
    updated_norm,
    updated_scale,
)
from vitreous.fourier.shells import shell_index
from vitreous.fourier.transforms import forward, translate
from vitreous.geometry.rotations import random_rotations
from vitreous.reference import alignment as definition

# Both sides are sums of some hundred products in double precision; the bar is the one the room is held to.
BAR = 1e-8
SHAPES = [(8, 8), (9, 9), (8, 11), (12, 12)]


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    """Products of small matrices: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def real_space(small) -> np.ndarray:
    """log p of every image and alternative [n, k, o, t] by the definition."""
    return np.array([definition.log_likelihood(image, small.averages, small.views) for image in small.matrices])


def priors(small) -> np.ndarray:
    """Uneven priors over classes, orientations (of each class) and shifts, [k, o, t]."""
    rng = np.random.default_rng(11)
    classes, orientations = len(small.averages), len(small.rotations)
    return log_prior(
        log_weights(rng.uniform(0.2, 1, classes)),
        log_weights(rng.uniform(0.2, 1, (classes, orientations))),
        log_shift_prior(small.shifts, 4.0),
    )


def sums_of(small, probability):
    return expected_sums(small.images, small.shifts, probability)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_likelihood_of_every_alternative(shape):
    small = small_set(shape, count=4 if shape[0] < 12 else 2)
    expected = real_space(small)
    relative = log_likelihood(small.images, small.references, small.shifts)
    absolute = relative + log_noise(small.images)[:, None, None, None]
    np.testing.assert_allclose(absolute, expected, atol=BAR, rtol=0)
    for n, image in enumerate(small.matrices):
        alone = definition.log_density(image.pixels, np.zeros(len(image.pixels)), image.covariance)
        np.testing.assert_allclose(log_noise(small.images)[n], alone, atol=BAR, rtol=0)


def test_log_likelihood_of_projected_maps():
    rotations = random_rotations(3, np.random.default_rng(1))
    small = small_set((8, 8), rotations=rotations, count=2)
    relative = log_likelihood(small.images, small.references, small.shifts)
    absolute = relative + log_noise(small.images)[:, None, None, None]
    np.testing.assert_allclose(absolute, real_space(small), atol=BAR, rtol=0)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_posterior_evidence_entropy_and_largest_probability(shape):
    small = small_set(shape, noise_level=2.0)  # noisy enough that several alternatives are in play
    found = posterior(log_likelihood(small.images, small.references, small.shifts), priors(small))
    assert np.exp(found.entropy).max() > 2
    for n, values in enumerate(real_space(small)):
        probability, evidence, entropy, largest = definition.posterior(values, priors(small))
        np.testing.assert_allclose(found.probability[n], probability, atol=BAR, rtol=0)
        np.testing.assert_allclose(found.log_evidence[n] + log_noise(small.images)[n], evidence, atol=BAR, rtol=0)
        np.testing.assert_allclose(found.entropy[n], entropy, atol=BAR, rtol=0)
        np.testing.assert_allclose(found.maximum[n], largest, atol=BAR, rtol=0)
        assert tuple(found.best[n]) == np.unravel_index(probability.argmax(), probability.shape)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_one_step_of_expectation_maximisation(shape):
    small = small_set(shape, noise_level=2.0)
    start = small.averages + np.random.default_rng(5).normal(0, 0.2, small.averages.shape)
    guessed = replace(small, averages=start)
    prior_covariance = definition.noise_covariance(0.5 / (1 + shell_index(shape, half=False)))
    expected = definition.em_step(small.matrices, start, small.views, priors(small), prior_covariance)
    found = posterior(log_likelihood(small.images, guessed.references, small.shifts), priors(small))
    precision = np.linalg.inv(prior_covariance)
    averages = solved_references(sums_of(small, found.probability), small.operators, small.images.pixels, precision)
    np.testing.assert_allclose(averages, expected, atol=BAR, rtol=0)
    assert np.abs(expected - start).max() > 0.1  # the step is one


def test_noise_scale_and_norm():
    small = small_set((9, 9), noise_level=2.0)
    found = posterior(log_likelihood(small.images, small.references, small.shifts), priors(small))
    match = expected_match(small.images, small.references, small.shifts, found.probability)
    power = np.array(
        [
            definition.residual_power(image, small.averages, small.views, weights, small.shape)
            for image, weights in zip(small.matrices, found.probability)
        ]
    )
    shell = shell_index(small.shape, half=False)
    group, norm, noise = small.images.groups, small.images.norm, small.images.noise
    for g, s in np.ndindex(*noise.shape):
        members = [power[n][shell == s].mean() / norm[n] ** 2 for n in np.flatnonzero(group == g)]
        np.testing.assert_allclose(updated_noise(small.images, match)[g, s], np.mean(members), rtol=BAR)
    ratio = [np.sqrt(np.mean(power[n] / noise[group[n]][shell])) for n in range(len(norm))]
    np.testing.assert_allclose(updated_norm(small.images, match), ratio, rtol=BAR)
    scales = [
        definition.best_scale(image, small.averages, small.views, weights)
        for image, weights in zip(small.matrices, found.probability)
    ]
    np.testing.assert_allclose(updated_scale(small.images, match), np.maximum(scales, 0), rtol=BAR)
    assert min(scales) > 0.1  # not a comparison of zeros


def test_mean_of_moved_images_is_the_textbooks_update():
    """One class, white noise, no CTF, whole-pixel shifts, no prior: sum of the images put back, with their probabilities."""
    rng = np.random.default_rng(2)
    shape, origins = (9, 9), np.array([[0, 0], [2, -1], [-3, 1]])
    points = definition.positions(shape)
    views = np.array([[definition.view_matrix(shape, points, np.eye(2), t) for t in origins]])
    images = [definition.Image(rng.normal(size=81), np.eye(81), 0.7 * np.eye(81)) for _ in range(5)]
    start = rng.normal(size=(1, 81))
    weights = definition.responsibilities(images, start, views, np.zeros((1, 1, 3)))
    expected = np.zeros(shape)
    for image, weight in zip(images, weights[:, 0, 0]):
        for probability, (x, y) in zip(weight, origins):
            expected += probability * np.roll(image.pixels.reshape(shape), (y, x), axis=(0, 1)) / len(images)
    step = definition.em_step(images, start, views, np.zeros((1, 1, 3)))
    np.testing.assert_allclose(step[0].reshape(shape), expected, atol=1e-12)


def test_the_definition_moves_and_turns_as_the_conventions_say():
    shape = (9, 9)
    points = definition.positions(shape)
    image = np.zeros(shape)
    image[4 - 3, 4 + 1] = 1.0  # a point at x = 1, y = -3
    quarter = definition.rotation_in_plane(np.pi / 2)  # (x, y) -> (y, -x)
    turned = definition.view_matrix(shape, points, quarter, np.array([1, -2])) @ image.ravel()
    # at (-3, -1), then moved by -origin to (-4, 1)
    assert tuple(np.unravel_index(turned.argmax(), shape)) == (4 + 1, 4 - 4)
    np.testing.assert_allclose(turned.max(), 1.0, atol=1e-12)
    moved = definition.view_matrix(shape, points, np.eye(2), np.array([0.6, -1.3])) @ image.ravel()
    np.testing.assert_allclose(moved.reshape(shape), translate(image, np.array([-0.6, 1.3])), atol=1e-12)


def test_covariance_is_that_of_noise_with_the_spectrum():
    rng = np.random.default_rng(1)
    shape = (8, 8)
    variance = 0.2 + shell_index(shape, half=False)
    covariance = definition.noise_covariance(variance)
    np.testing.assert_allclose(definition.noise_covariance(np.full(shape, 0.7)), 0.7 * np.eye(64), atol=1e-15)
    samples = rng.standard_normal((20000, 64)) @ np.linalg.cholesky(covariance).T
    power = np.mean(np.abs(forward(samples.reshape(-1, *shape), 2)) ** 2, axis=0) / 64
    # 20,000 exponential (Nyquist and k = 0: chi-squared) variables: standard deviations of 0.7 and 1 percent
    np.testing.assert_allclose(power, variance[:, :5], rtol=0.05)


@pytest.mark.parametrize("change", ["shift", "ctf", "rotation", "weights", "noise"])
def test_a_wrong_sign_or_factor_is_noticed(change):
    small = small_set((9, 9))
    images, shifts, references = small.images, small.shifts, small.references
    if change == "shift":
        shifts = -shifts
    elif change == "ctf":
        images = replace(images, transfer=-images.transfer)
    elif change == "rotation":
        points = definition.positions(small.shape)
        operators = np.array([operator(images.pixels, points, rotation.T) for rotation in small.rotations])
        references = references_of(small.averages, operators)
    elif change == "weights":  # every pixel of the half plane counted once
        pixels = replace(images.pixels, weight=np.ones(len(images.pixels)))
        images = replace(images, pixels=pixels)
    else:
        images = replace(images, noise=images.noise * 81)  # mean |N|^2 instead of mean |N|^2 / P
    expected = posterior(real_space(small)).probability
    correct = posterior(log_likelihood(small.images, small.references, small.shifts)).probability
    wrong = posterior(log_likelihood(images, references, shifts)).probability
    np.testing.assert_allclose(correct, expected, atol=BAR)
    assert np.abs(wrong - expected).max() > 0.2
    truth = (np.arange(len(small.truth)), *small.truth.T)
    if change in ("shift", "ctf", "rotation"):
        assert correct[truth].mean() > wrong[truth].mean() + 0.1


def test_expected_images_are_what_stands_in_them():
    small = small_set((8, 8), noise_level=1e-4)  # no doubt about the alternative
    probability = posterior(log_likelihood(small.images, small.references, small.shifts)).probability
    inside = expected_references(small.images, small.references, small.shifts, probability)
    pixels = fourier_pixels(small.shape, PIXEL_SIZE, with_nyquist=True)
    for n, (c, o, t) in enumerate(small.truth):
        placed = (small.views[o, t] @ small.averages[c]).reshape(small.shape)
        seen = pixels.seen
        np.testing.assert_allclose(inside[n, seen], pixels.of(forward(placed, 2))[seen], atol=1e-9)
