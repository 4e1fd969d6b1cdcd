"""What must hold for likelihoods and posteriors whatever the images: invariances, expectations, NumPy and JAX, precision, faults."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.unit.alignment.small_images import PIXEL_SIZE, small_set
from threadpoolctl import threadpool_limits

from vitreous.alignment.fourier_pixels import fourier_pixels
from vitreous.alignment.likelihood import (
    FourierImages,
    log_likelihood,
    log_noise,
    log_prior,
    log_shift_prior,
    log_weights,
    posterior,
)
from vitreous.alignment.maximisation import (
    expected_log_likelihood,
    expected_match,
    expected_sums,
    updated_noise,
    updated_norm,
    updated_scale,
)
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, translate

SMALL = small_set((9, 8), noise_level=2.0, count=8)
ROUNDING = 1e-10  # sums of some hundred terms of up to 1e3 in double precision


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    """Products of small matrices: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def table(small=SMALL, **changes) -> np.ndarray:
    return log_likelihood(replace(small.images, **changes), small.references, small.shifts)


# --- invariances ------------------------------------------------------------------------------------------------------


def test_order_of_images_classes_orientations_and_shifts_does_not_matter():
    rng = np.random.default_rng(0)
    n, k, o, t = (rng.permutation(size) for size in table().shape)
    images = SMALL.images.rows(n)
    permuted = log_likelihood(images, SMALL.references[np.ix_(k, o)], SMALL.shifts[t])
    np.testing.assert_allclose(permuted, table()[np.ix_(n, k, o, t)], atol=ROUNDING)
    first = log_likelihood(SMALL.images.rows([3]), SMALL.references, SMALL.shifts)
    np.testing.assert_allclose(first[0], table()[3], atol=ROUNDING)  # nor do the other images


def test_common_factors():
    expected = table()
    scaled = 2.5 * SMALL.images.transforms
    noisier, louder = {"noise": 2.5**2 * SMALL.images.noise}, {"scale": 2.5 * SMALL.images.scale}
    np.testing.assert_allclose(table(transforms=scaled, **noisier, **louder), expected, atol=ROUNDING)
    norms = {"norm": SMALL.images.norm / 2, "noise": 4 * SMALL.images.noise}
    np.testing.assert_allclose(table(**norms), expected, atol=ROUNDING)
    fainter = replace(SMALL, averages=SMALL.averages / 3)
    np.testing.assert_allclose(table(fainter, scale=3 * SMALL.images.scale), expected, atol=ROUNDING)
    inverted = {"transforms": -SMALL.images.transforms, "transfer": -SMALL.images.transfer}
    np.testing.assert_allclose(table(**inverted), expected, atol=ROUNDING)
    assert np.abs(table(transforms=-SMALL.images.transforms) - expected).max() > 1


def test_an_image_times_a_factor_changes_only_the_density_of_noise():
    factor = 1.7
    images = replace(SMALL.images, transforms=factor * SMALL.images.transforms, norm=factor * SMALL.images.norm,
                     scale=factor * SMALL.images.scale)  # fmt: skip
    np.testing.assert_allclose(log_likelihood(images, SMALL.references, SMALL.shifts), table(), atol=ROUNDING)
    jacobian = SMALL.shape[0] * SMALL.shape[1] * math.log(factor)
    np.testing.assert_allclose(log_noise(images), log_noise(SMALL.images) - jacobian, atol=ROUNDING)


def test_moving_images_moves_their_origins():
    pixels = fourier_pixels(SMALL.shape, PIXEL_SIZE)
    keep = SMALL.images.pixels.seen
    still = replace(
        SMALL.images,
        pixels=pixels,
        transforms=SMALL.images.transforms[:, keep],
        transfer=SMALL.images.transfer[:, keep],
    )
    whole = np.array([image.pixels.reshape(SMALL.shape) for image in SMALL.matrices])
    step = np.array([2.3, -4.1])
    moved = replace(still, transforms=pixels.of(forward(translate(whole, step, PIXEL_SIZE), 2)))
    references = SMALL.references[..., keep]
    expected = log_likelihood(still, references, SMALL.shifts)
    np.testing.assert_allclose(log_likelihood(moved, references, SMALL.shifts - step), expected, atol=ROUNDING)
    assert np.abs(log_likelihood(moved, references, SMALL.shifts + step) - expected).max() > 1


def test_shifts_of_each_image_its_own():
    each = SMALL.shifts + np.arange(len(SMALL.images))[:, None, None]
    found = log_likelihood(SMALL.images, SMALL.references, each)
    for n, shifts in enumerate(each):
        one = log_likelihood(SMALL.images.rows([n]), SMALL.references, shifts)
        np.testing.assert_allclose(found[n], one[0], atol=ROUNDING)


def test_an_odd_phase_in_the_transfer_is_an_odd_phase_less_in_the_images():
    turn = np.exp(0.4j * np.sin(20 * SMALL.images.pixels.kx))
    turned = {"transforms": SMALL.images.transforms * turn, "transfer": SMALL.images.transfer * turn}
    np.testing.assert_allclose(table(**turned), table(), atol=ROUNDING)
    assert np.abs(table(transforms=SMALL.images.transforms * turn) - table()).max() > 1


def test_nyquist_tells_of_the_noise_alone():
    keep = SMALL.images.pixels.seen
    assert 0 < (~keep).sum() < 10
    without = replace(
        SMALL.images,
        pixels=SMALL.images.pixels.rows(keep),
        transforms=SMALL.images.transforms[:, keep],
        transfer=SMALL.images.transfer[:, keep],
    )
    found = log_likelihood(without, SMALL.references[..., keep], SMALL.shifts)
    np.testing.assert_allclose(found, table(), atol=ROUNDING)
    assert np.abs(log_noise(without) - log_noise(SMALL.images)).min() > 0.1


def test_pixels_stand_for_the_whole_image_and_end_at_the_finest_resolution():
    for shape in ((8, 8), (9, 8), (8, 9), (7, 7)):
        assert fourier_pixels(shape, with_nyquist=True).weight.sum() == math.prod(shape)
        rows_, columns = ((size - 1) // 2 * 2 + 1 for size in shape)
        assert fourier_pixels(shape).weight.sum() == rows_ * columns
    pixels = fourier_pixels((20, 20), 1.5, finest=5.0)
    assert np.hypot(pixels.kx, pixels.ky).max() <= 1 / 5 < 1 / 5 + 1 / 30
    assert pixels.shell.max() == 6  # 20 x 1.5 / 5


# --- posterior --------------------------------------------------------------------------------------------------------


def test_posterior_adds_up_and_so_do_its_marginals():
    found = posterior(table())
    np.testing.assert_allclose(found.probability.sum(axis=(1, 2, 3)), 1, atol=1e-14)
    for marginal in (found.classes, found.orientations, found.shifts):
        np.testing.assert_allclose(marginal.reshape(len(marginal), -1).sum(axis=1), 1, atol=1e-14)
    assert np.all(found.probability >= 0) and np.all(found.entropy >= 0)
    assert np.all(found.maximum >= np.exp(-found.entropy))  # the largest is at least the geometric mean


def test_alternatives_that_are_alike():
    found = posterior(np.full((2, 2, 3, 4), 5000.0))
    np.testing.assert_allclose(found.entropy, math.log(24), rtol=1e-12)
    np.testing.assert_allclose(found.maximum, 1 / 24, rtol=1e-12)
    np.testing.assert_allclose(found.log_evidence, 5000, rtol=1e-12)  # no overflow, and the prior is normalised
    again = posterior(
        np.concatenate([table()] * 2, axis=1)
    )  # every class twice: evidence as before, a bit of entropy more
    np.testing.assert_allclose(again.log_evidence, posterior(table()).log_evidence, atol=ROUNDING)
    np.testing.assert_allclose(again.entropy, posterior(table()).entropy + math.log(2), atol=ROUNDING)


def test_priors_multiply_and_forbid():
    classes, orientations = np.array([0.0, 1.0]), np.array([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    prior = log_prior(log_weights(classes), log_weights(orientations), log_shift_prior(SMALL.shifts, 2.0))
    np.testing.assert_allclose(np.exp(prior).sum(), 1, rtol=1e-12)
    found = posterior(table(), prior)
    assert (
        np.all(found.classes[:, 0] == 0) and np.isfinite(found.entropy).all() and np.isfinite(found.log_evidence).all()
    )
    flat = posterior(np.zeros((1, 2, 3, 4)), prior)
    np.testing.assert_allclose(flat.probability[0], np.exp(prior), atol=1e-14)
    np.testing.assert_allclose(flat.log_evidence, 0, atol=1e-12)
    of_each = log_prior(
        np.zeros((8, 2)), np.zeros((8, 1, 3)), log_shift_prior(np.broadcast_to(SMALL.shifts, (8, 4, 2)), 2.0)[:, None]
    )
    assert np.broadcast_shapes(of_each.shape, table().shape) == table().shape
    ratio = log_shift_prior(np.array([[0.0, 0.0], [3.0, 4.0]]), 2.0)
    np.testing.assert_allclose(ratio[1] - ratio[0], -25 / 8, rtol=1e-12)
    np.testing.assert_allclose(log_shift_prior(SMALL.shifts, math.inf), -math.log(4), rtol=1e-12)


# --- expectations -----------------------------------------------------------------------------------------------------


def noise_images(count: int, *, noise: np.ndarray, seed: int = 1) -> FourierImages:
    """Images of coloured noise alone, with the CTF of one image of the small set."""
    rng = np.random.default_rng(seed)
    pixels = SMALL.images.pixels
    white = pixels.of(forward(rng.standard_normal((count, *SMALL.shape)), 2))
    coloured = white * np.sqrt(noise[0, np.minimum(pixels.shell, noise.shape[1] - 1)])
    return FourierImages(pixels, coloured, np.repeat(SMALL.images.transfer[:1], count, axis=0), noise)


def test_noise_alone_is_as_probable_as_it_should_be():
    """A reference that is not there lowers the log-likelihood by half its squared distance d2, which is also the variance of
    twice that; and the mean of likelihood over likelihood as noise is 1 for any reference.
    """
    count = 4000
    images = noise_images(count, noise=SMALL.images.noise[:1])
    size = SMALL.shape[0] * SMALL.shape[1]
    variance = images.variance()[0]
    entropy = 0.5 * np.sum(images.pixels.weight * np.log(2 * math.pi * math.e * variance))
    # the squares of 72 standard normals: standard deviation sqrt(2 * 72) / 2 = 6 of each image
    assert abs(log_noise(images).mean() + entropy) < 4 * 6 / math.sqrt(count)
    references = 0.35 * SMALL.references
    found = log_likelihood(images, references, SMALL.shifts)
    distance = np.sum(images.information()[0] * np.abs(images.response()[0] * references) ** 2, axis=-1)
    assert distance.min() > 0.3 and distance.max() < 2
    deviation = found.mean(axis=0) + distance[..., None] / 2
    assert np.all(np.abs(deviation) < 5 * np.sqrt(distance.max() / count))  # 24 comparisons at 5 standard errors
    np.testing.assert_allclose(found.var(axis=0), np.repeat(distance[..., None], 4, axis=-1), rtol=0.15)
    evidence = posterior(found).log_evidence
    ratio = np.exp(evidence)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(count)
    assert -distance.max() / 2 < evidence.mean() < 0  # noise is less probable as a particle
    assert size == 72


def test_particles_are_more_probable_than_noise():
    clear = small_set((9, 8), noise_level=0.2, count=8)
    found = posterior(table(clear))
    assert found.log_evidence.min() > 5
    np.testing.assert_array_equal(found.best, clear.truth)


def test_bound_is_reached_by_the_posterior():
    """log evidence = expected log-likelihood + expected log prior + entropy: Jensen's inequality with equality."""
    prior = log_prior(log_weights(np.array([0.3, 0.7])), np.full(3, -math.log(3)), log_shift_prior(SMALL.shifts, 3.0))
    found = posterior(table(), prior)

    def bound(probability: np.ndarray, entropy: np.ndarray) -> np.ndarray:
        match = expected_match(SMALL.images, SMALL.references, SMALL.shifts, probability)
        expected_prior = np.sum(probability * prior, axis=(1, 2, 3))
        return expected_log_likelihood(SMALL.images, match) + expected_prior + entropy

    evidence = found.log_evidence + log_noise(SMALL.images)
    np.testing.assert_allclose(bound(found.probability, found.entropy), evidence, atol=ROUNDING)
    other = posterior(0.5 * table())  # any other probabilities stay below
    assert np.all(bound(other.probability, other.entropy) < evidence - 1e-3)


# --- NumPy and JAX, single and double ---------------------------------------------------------------------------------


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def in_jax(images: FourierImages) -> FourierImages:
    names = ("transforms", "transfer", "noise", "group", "scale", "norm")
    return replace(images, **{name: jnp.asarray(getattr(images, name)) for name in names})


def everything(images: FourierImages, references, shifts) -> dict:
    """All that is computed from images and references."""
    found = posterior(log_likelihood(images, references, shifts))
    match = expected_match(images, references, shifts, found.probability)
    sums = expected_sums(images, shifts, found.probability)
    return {
        "probability": found.probability,
        "log_evidence": found.log_evidence,
        "entropy": found.entropy,
        "best": found.best,
        "log_noise": log_noise(images),
        "data": sums.data,
        "weight": sums.weight,
        "noise": updated_noise(images, match),
        "scale": updated_scale(images, match, SMALL.micrograph),
        "norm": updated_norm(images, match),
        "expected": expected_log_likelihood(images, match),
    }


def test_jax_agrees_with_numpy(double):
    expected = everything(SMALL.images, SMALL.references, SMALL.shifts)
    images, references = in_jax(SMALL.images), jnp.asarray(SMALL.references)
    compiled = jax.jit(
        lambda x, a: everything(replace(images, transforms=x), a, jnp.asarray(SMALL.shifts))
    )(images.transforms, references)  # fmt: skip
    for name, values in compiled.items():
        assert isinstance(values, jax.Array)
        np.testing.assert_allclose(values, expected[name], rtol=1e-10, atol=1e-10)


def test_gradient_of_the_evidence_is_that_of_the_sums(double):
    """Fisher's identity: d log evidence / d A* = sum p d log p / d A*, which expected_sums has as data - weight A."""
    images, shifts = in_jax(SMALL.images), jnp.asarray(SMALL.shifts)

    def evidence(real, imaginary):
        return posterior(log_likelihood(images, real + 1j * imaginary, shifts)).log_evidence.sum()

    by_real, by_imaginary = jax.jit(jax.grad(evidence, argnums=(0, 1)))(SMALL.references.real, SMALL.references.imag)
    found = posterior(table())
    sums = expected_sums(SMALL.images, SMALL.shifts, found.probability)
    pixels = SMALL.images.pixels
    expected = pixels.weight / pixels.image_size * (sums.data - sums.weight * SMALL.references)
    np.testing.assert_allclose(by_real, expected.real, atol=1e-9)
    np.testing.assert_allclose(by_imaginary, expected.imag, atol=1e-9)
    assert np.abs(expected).max() > 0.1


def test_gradients_are_finite_where_a_prior_forbids(double):
    images = in_jax(SMALL.images)
    prior = jnp.asarray([0.0, -math.inf])[:, None, None]

    def entropy(shifts):
        return posterior(log_likelihood(images, jnp.asarray(SMALL.references), shifts), prior).entropy.sum()

    gradient = jax.jit(jax.grad(entropy))(jnp.asarray(SMALL.shifts))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_single_precision(convert):
    names = {
        "transforms": np.complex64,
        "transfer": np.float32,
        "noise": np.float32,
        "scale": np.float32,
        "norm": np.float32,
    }
    images = replace(
        SMALL.images, **{name: convert(getattr(SMALL.images, name).astype(dtype)) for name, dtype in names.items()}
    )
    references = convert(SMALL.references.astype(np.complex64))
    shifts = convert(SMALL.shifts.astype(np.float32))
    if convert is np.asarray:
        single = everything(images, references, shifts)
    else:
        single = jax.jit(lambda x, a, s: everything(replace(images, transforms=x), a, s))(
            images.transforms, references, shifts
        )
    expected = everything(SMALL.images, SMALL.references, SMALL.shifts)
    for name, values in single.items():
        if name == "best":
            continue
        assert values.dtype == (np.complex64 if name == "data" else np.float32), name
        # Terms of up to 100 nat with a relative error of 1e-7 each; probabilities and sums inherit the error of their exponent.
        np.testing.assert_allclose(
            values, expected[name], rtol=1e-4, atol=2e-5 * np.abs(expected[name]).max(), err_msg=name
        )


def test_inputs_are_not_changed():
    small = small_set((8, 8), count=4)
    copies = [getattr(small.images, name).copy() for name in ("transforms", "transfer", "noise", "scale", "norm")]
    references, shifts = small.references, small.shifts
    values = table(small)
    kept = values.copy()
    posterior(values)
    expected_sums(small.images, shifts, posterior(values).probability)
    assert np.array_equal(values, kept) and np.array_equal(references, small.references)
    for name, copy in zip(("transforms", "transfer", "noise", "scale", "norm"), copies):
        assert np.array_equal(getattr(small.images, name), copy)


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": np.zeros((2, 5))}, "noise of group 0"),
        ({"norm": np.where(np.arange(8) == 5, 0.0, 1.0)}, "norm of image 5"),
        ({"scale": np.full(8, np.nan)}, "scale of image 0"),
        ({"norm": np.ones(7)}, "norm of shape"),
        ({"transfer": np.ones((8, 3))}, "transfer of shape"),
        ({"group": None}, "2 noise groups"),
        ({"noise": np.ones(5)}, "a variance for each group and shell"),
    ],
)
def test_bad_images_are_refused(change, message):
    with pytest.raises(DataProblem, match=message):
        replace(SMALL.images, **change)


def test_the_image_that_is_not_finite_is_named():
    transforms = SMALL.images.transforms.copy()
    transforms[6, 2] = np.nan
    with pytest.raises(DataProblem, match="transforms of image 6"):
        replace(SMALL.images, transforms=transforms)
    values = table()
    values[3, 1, 1, 1] = np.nan
    with pytest.raises(DataProblem, match=r"image 3 .*not finite"):
        posterior(values)
    with pytest.raises(DataProblem, match=r"image 0 .*no possible alternative"):
        posterior(table(), np.full((2, 1, 1), -math.inf))


def test_bad_pixels_are_refused():
    with pytest.raises(SettingsProblem, match="finest resolution of 0"):
        fourier_pixels((8, 8), finest=0.0)
    with pytest.raises(DataProblem, match="last axes"):
        fourier_pixels((8, 8)).of(np.zeros((8, 8)))
