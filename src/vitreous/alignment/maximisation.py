"""What the posteriors of images make of references, noise, scale, norm and priors: the second half of each iteration.

Given the probabilities of the E-step, each function here finds the maximum over its own quantity of the expected log-likelihood

    Q = sum_i sum_kos p_i(k, o, s) log p(X_i | k, o, s)

(plus the log prior of that quantity) while all others are held. One of them, or several one after the other, each with what the ones before
have found, never lower the evidence of the images: Dempster, Laird and Rubin 1977 (doi:10.1111/j.2517-6161.1977.tb01600.x), and
Meng and Rubin 1993 (doi:10.1093/biomet/80.2.267) for one quantity at a time. Two that are found side by side from the same old values may.

The sums over images are transposed matrix products of those in `likelihood`: a sum for each (class, orientation), and only these are turned back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.alignment.fourier_pixels import FourierPixels
from vitreous.alignment.likelihood import FourierImages, log_shift_prior, matrix_product, parts, phases, squared
from vitreous.arrays import namespace

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

    Array = Any  # NumPy or JAX


# Mean square of the shifts of a grid over the square of a spread so small that only the nearest of them is left.
NOWHERE_ELSE = 1e4

# --- references -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpectedSums:
    """Of each class and orientation, over images and shifts with their probabilities p:

    `data` [k, o, p] = sum p scale conj(C) X_s / (noise norm^2), `weight` [k, o, p] = sum p scale^2 |C|^2 / (noise norm^2).
    """

    data: Complex[Array, "k o p"]
    weight: Float[Array, "k o p"]

    def __add__(self, other: ExpectedSums) -> ExpectedSums:
        return ExpectedSums(self.data + other.data, self.weight + other.weight)


def expected_sums(
    images: FourierImages,
    shifts: Float[Array, "t 2"] | Float[Array, "n t 2"],
    probability: Float[Array, "n k o t"],
) -> ExpectedSums:
    """The images, whitened, times their CTF, brought to the centre and added up with their probabilities.

    The derivative of Q by a reference A is w / P (data - weight A), with the weight w of the half plane.
    """
    count, classes, orientations, moves = probability.shape
    xp = namespace(images.transforms, probability)
    response = images.scales() * images.response()
    whitened = (xp.conj(response) / images.variance())[:, None, :] * images.moved(shifts)
    by_alternative = probability.transpose(1, 2, 0, 3).reshape(classes * orientations, count * moves)
    data = _complex_product(xp, by_alternative, whitened.reshape(count * moves, -1))
    by_image = probability.sum(axis=3).transpose(1, 2, 0).reshape(classes * orientations, count)
    weight = matrix_product(xp, by_image, squared(response) / images.variance())
    return ExpectedSums(data.reshape(classes, orientations, -1), weight.reshape(classes, orientations, -1))


def wiener_average(sums: ExpectedSums, signal: Float[Array, "... p"] | None = None) -> Complex[Array, "k o p"]:
    """data / (weight + 1 / signal): the best references where each (class, orientation) has its own.

    `signal`: variance of a Gaussian prior about 0, mean |A|^2 / P (Scheres 2012, doi:10.1016/j.jmb.2011.11.010); None: no
    prior. A pixel without any weight becomes 0.
    """
    xp = namespace(sums.data)
    weight = sums.weight if signal is None else sums.weight + 1 / signal
    return xp.where(weight > 0, sums.data / xp.where(weight > 0, weight, 1), 0)


def solved_references(
    sums: ExpectedSums,
    operators: Complex[np.ndarray, "o p m"],
    pixels: FourierPixels,
    precision: Float[np.ndarray, "m m"],
) -> Float[np.ndarray, "k m"]:
    """The best class averages or maps [k, m] when A_ko = operators[o] theta_k for unknown real numbers theta: exact, for small m.

    `operators` [o, p, m] evaluate the transform of rotated pixels or voxels at the Fourier pixels. The prior of theta is Gaussian about 0 with the
    inverse covariance `precision`, which must make the sum of both positive definite. NumPy only.
    """
    half_plane = pixels.weight * pixels.seen / pixels.image_size
    solved = []
    for data, weight in zip(sums.data, sums.weight):
        left, right = np.array(precision, dtype=np.float64), np.zeros(operators.shape[-1])
        for operator, values, counted in zip(operators, data, weight):
            weighted = np.conj(operator).T * half_plane
            left += ((weighted * counted) @ operator).real
            right += (weighted @ values).real
        solved.append(np.linalg.solve(left, right))
    return np.array(solved)


# --- noise, scale, norm -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpectedMatch:
    """How well each image fits its expected reference, at each pixel and for scale 1.

    `cross` [n, p] = Re(conj(X) C mean of A exp(2 pi i k.s)), `power` [n, p] = |C|^2 mean of |A|^2, means over the posterior of the image.
    """

    cross: Float[Array, "n p"]
    power: Float[Array, "n p"]

    def residual(self, images: FourierImages) -> Float[Array, "n p"]:
        """Expected |X - scale C A exp(2 pi i k.s)|^2."""
        scale = images.scales()
        return squared(images.transforms) - 2 * scale * self.cross + scale**2 * self.power


def expected_match(
    images: FourierImages,
    references: Complex[Array, "k o p"],
    shifts: Float[Array, "t 2"] | Float[Array, "n t 2"],
    probability: Float[Array, "n k o t"],
) -> ExpectedMatch:
    """The expected match of images with references, two matrix products. It does not depend on noise, scale or norm."""
    xp = namespace(images.transforms, references, probability)
    model = expected_references(images, references, shifts, probability) * images.response()
    flat = references.reshape(-1, references.shape[-1])
    by_alternative = probability.sum(axis=3).reshape(len(images), -1)
    power = squared(images.response()) * matrix_product(xp, by_alternative, squared(flat))
    return ExpectedMatch((xp.conj(images.transforms) * model).real, power)


def expected_references(
    images: FourierImages,
    references: Complex[Array, "k o p"],
    shifts: Float[Array, "t 2"] | Float[Array, "n t 2"],
    probability: Float[Array, "n k o t"],
) -> Complex[Array, "n p"]:
    """What stands in each image, before CTF and scale: the mean of A exp(2 pi i k.s) over its posterior."""
    xp = namespace(images.transforms, references, probability)
    count, classes, orientations, moves = probability.shape
    by_shift = probability.transpose(0, 3, 1, 2).reshape(count * moves, classes * orientations)
    centred = _complex_product(xp, by_shift, references.reshape(classes * orientations, -1))
    return xp.sum(centred.reshape(count, moves, -1) * xp.conj(phases(images, shifts)), axis=1)


def expected_log_likelihood(images: FourierImages, match: ExpectedMatch) -> Float[Array, " n"]:
    """Q of each image, absolute: what the maximisations raise. With the posterior's own images, references and priors it is
    log evidence - entropy - expected log prior, plus the log density of noise alone.
    """
    xp = namespace(images.transforms, images.noise, images.norm)
    weight = xp.asarray(images.pixels.weight, dtype=images.dtype)
    spread = weight * xp.log(2 * math.pi * images.variance())
    return -0.5 * xp.sum(spread + images.information() * match.residual(images), axis=1)


def updated_noise(images: FourierImages, match: ExpectedMatch) -> Float[Array, "g s"]:
    """The noise variance of each group and shell: the mean expected residual power over P, each image's divided by norm^2.

    Shells and groups without a pixel keep their value.
    """
    xp = namespace(images.transforms, images.noise, images.norm)
    residual = match.residual(images) * (1.0 / images.pixels.image_size)
    if images.norm is not None:
        residual = residual / xp.asarray(images.norm, dtype=images.dtype)[:, None] ** 2
    groups, shells = images.noise.shape
    member = xp.asarray(images.groups[None, :] == np.arange(groups)[:, None], dtype=images.dtype)
    shell = np.minimum(images.pixels.shell, shells - 1)
    inside = (shell[:, None] == np.arange(shells)) * images.pixels.weight[:, None]
    inside = xp.asarray(inside, dtype=images.dtype)
    total = matrix_product(xp, member, matrix_product(xp, residual, inside))
    counted = xp.sum(member, axis=1)[:, None] * xp.sum(inside, axis=0)
    return xp.where(counted > 0, total / xp.where(counted > 0, counted, 1), images.noise)


def updated_scale(
    images: FourierImages, match: ExpectedMatch, micrograph: Int[np.ndarray, " n"] | None = None
) -> Float[Array, " n"]:
    """The scale of each image that fits best, at least 0: sum a cross / sum a power, over all images of a micrograph.

    `micrograph` [n] counts from 0; None: each image its own. Where there is no power the scale stays. A common factor on
    all scales is the inverse one on all references.
    """
    xp = namespace(images.transforms, match.cross)
    information = images.information()
    cross, power = xp.sum(information * match.cross, axis=1), xp.sum(information * match.power, axis=1)
    if micrograph is not None:
        same = micrograph[:, None] == np.arange(int(micrograph.max()) + 1)
        same = xp.asarray(same, dtype=images.dtype)
        cross, power = same @ (same.T @ cross), same @ (same.T @ power)
    scale = xp.maximum(cross, 0) / xp.where(power > 0, power, 1)
    return xp.where(power > 0, scale, images.scales()[:, 0])


def updated_norm(images: FourierImages, match: ExpectedMatch) -> Float[Array, " n"]:
    """The norm of each image: the root of its mean expected residual power over that of its group's noise."""
    xp = namespace(images.transforms, images.noise, images.norm)
    norm = xp.ones(len(images), dtype=images.dtype) if images.norm is None else images.norm
    present = xp.sum(images.information() * match.residual(images), axis=1) * (1.0 / float(images.pixels.weight.sum()))
    return xp.asarray(norm, dtype=images.dtype) * xp.sqrt(present)


# --- priors -----------------------------------------------------------------------------------------------------------


def updated_shares(probability: Float[Array, "n m"], *, pseudo_count: float = 0.0) -> Float[Array, " m"]:
    """The best prior of m classes, orientations or any alternatives, from the probability that each image gives them.

    `pseudo_count` = a - 1 of a Dirichlet prior: so many images are added to each. Its log density, the sum of
    pseudo_count log(share), then belongs to what never falls.

    >>> updated_shares(np.array([[1.0, 0.0], [0.5, 0.5]]))
    array([0.75, 0.25])
    """
    count, alternatives = probability.shape
    return (probability.sum(axis=0) + pseudo_count) / (count + pseudo_count * alternatives)


def updated_shift_spread(
    probability: Float[np.ndarray, "n t"], shifts: Float[np.ndarray, "t 2"] | Float[np.ndarray, "n t 2"]
) -> float:
    """The spread (angstrom) of `log_shift_prior` that fits best the probabilities of the shifts. NumPy only.

    It is the one whose mean square shift over the grid is that of the images. On a grid that is wide and fine against the
    spread this is the root of half the mean square; on a grid that ends or is coarse it is not. Infinite if the shifts are
    spread as widely as the grid, or wider.
    """
    shifts = np.asarray(shifts, dtype=np.float64)
    squares = np.sum(shifts**2, axis=-1)
    target = float(np.mean(np.sum(np.asarray(probability, dtype=np.float64) * squares, axis=-1)))
    nearest, evenly = float(np.mean(squares.min(axis=-1))), float(np.mean(squares))
    if target >= evenly * (1 - 1e-12):
        return math.inf
    if target <= nearest * (1 + 1e-12):
        return math.sqrt((evenly - nearest) / NOWHERE_ELSE)

    def mean_square(spread: float) -> float:
        return float(np.mean(np.sum(np.exp(log_shift_prior(shifts, spread)) * squares, axis=-1)))

    low, high = 0.0, math.sqrt(evenly)
    while mean_square(high) < target:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if mean_square(middle) < target else (low, middle)
    return high


def _complex_product(xp: Any, left: Float[Array, "a b"], right: Complex[Array, "b p"]) -> Complex[Array, "a p"]:
    """A real matrix times a complex one, as one real product."""
    product = matrix_product(xp, left, parts(xp, right))
    half = product.shape[-1] // 2
    return product[..., :half] + 1j * product[..., half:]
