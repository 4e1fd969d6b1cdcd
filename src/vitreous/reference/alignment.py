"""Alignment as the sum over everything that is not known: probabilities of images in real space, and one step of EM.

An image x of P pixels is a row of numbers, seen through matrices, all of them in real space:

    x = scale H V theta_c + noise,    noise ~ Gaussian with covariance S

theta_c [m] are the pixels of class average c, or the voxels of map c; V [P, m] is the view: it carries every pixel of the
object to its place in the image; H [P, P] is the CTF, the same blur everywhere, hence a circulant matrix; S is circulant too,
because the noise is the same everywhere. Class c, rotation and shift are not known: their probabilities follow from Bayes' rule, the
probability of the image is the sum over them, and the averages that raise it are weighted means (Nelson, "Physical Models
of Living Systems", chapter 12, with one class, white noise and no CTF; Sigworth 1998, doi:10.1006/jsbi.1998.4014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.reference.dft import dft, frequency_numbers, idft


@dataclass(frozen=True)
class Image:
    """One image: `pixels` [P], `transfer` H [P, P], `covariance` S [P, P] of its noise, `scale` of its signal."""

    pixels: np.ndarray
    transfer: np.ndarray
    covariance: np.ndarray
    scale: float = 1.0

    def mean(self, view: np.ndarray, average: np.ndarray) -> np.ndarray:
        """What the image would be without noise: scale H V theta."""
        return self.scale * self.transfer @ view @ average


# --- matrices ---------------------------------------------------------------------------------------------------------


def positions(shape: tuple[int, ...]) -> np.ndarray:
    """(x, y[, z]) of every sample from the origin N // 2, in the order of `ravel`."""
    axes = [np.arange(size) - size // 2 for size in shape]
    return np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")][::-1], axis=1)


def band_limited_point(distance: np.ndarray, size: int) -> np.ndarray:
    """A point on a periodic axis as its samples see it: 1/N sum of exp(2 pi i k d / N) over whole k with |k| < N/2."""
    k = np.arange(1, (size + 1) // 2)
    return (1 + 2 * np.cos(2 * np.pi * k * np.asarray(distance)[..., None] / size).sum(axis=-1)) / size


def rotation_in_plane(psi: float) -> np.ndarray:
    """r_image = R r_object with R = [[cos, sin], [-sin, cos]]."""
    return np.array([[np.cos(psi), np.sin(psi)], [-np.sin(psi), np.cos(psi)]])


def view_matrix(shape: tuple[int, int], points: np.ndarray, rotation: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """V [P, m]: the point at r of the object appears at (R r)_xy - origin, as a band-limited point.

    `points` [m, 2] of a class average or [m, 3] of a map, `rotation` [2, 2] or [3, 3], `origin` (x, y) in pixels: the shift
    that would bring the particle to the centre. A map is projected by leaving out z.
    """
    places = (points @ rotation.T)[:, :2] - origin
    distance = positions(shape)[:, None, :] - places[None, :, :]
    return band_limited_point(distance[..., 0], shape[1]) * band_limited_point(distance[..., 1], shape[0])


def circulant(values: np.ndarray) -> np.ndarray:
    """The matrix [P, P] that multiplies the transform of an image by `values` [y, x] (all frequencies): a convolution."""
    kernel = np.real(idft(np.asarray(values, dtype=complex), 2))
    shape = kernel.shape
    places = positions(shape)
    x, y = np.moveaxis(places[:, None, :] - places[None, :, :], -1, 0)
    return kernel[(y + shape[0] // 2) % shape[0], (x + shape[1] // 2) % shape[1]]


def ctf_matrix(ctf: np.ndarray) -> np.ndarray:
    """H of a CTF [y, x]. The Nyquist frequency of an even size stands for two of which the CTF may differ: it is dropped."""
    rows, columns = (2 * np.abs(frequency_numbers(size)) < size for size in ctf.shape)
    return circulant(ctf * rows[:, None] * columns)


def noise_covariance(variance: np.ndarray) -> np.ndarray:
    """S of noise whose transform has mean |N(k)|^2 = P variance(k), [y, x]; white noise: variance times the unit matrix."""
    return circulant(variance)


# --- what an image says -----------------------------------------------------------------------------------------------


def log_density(pixels: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """log of the Gaussian: -(d' S^-1 d + log det(2 pi S)) / 2, d = x - mean."""
    difference = pixels - mean
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    return float(-(difference @ np.linalg.solve(covariance, difference) + log_determinant) / 2)


def log_likelihood(image: Image, averages: np.ndarray, views: np.ndarray) -> np.ndarray:
    """log p(x | class, orientation, shift) [k, o, t], of `averages` [k, m] through `views` [o, t, P, m]."""
    result = np.empty((len(averages), *views.shape[:2]))
    for c, o, t in np.ndindex(*result.shape):
        result[c, o, t] = log_density(image.pixels, image.mean(views[o, t], averages[c]), image.covariance)
    return result


def posterior(log_likelihood: np.ndarray, log_prior: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    """Bayes' rule: (probabilities, log evidence, entropy in nat, largest probability) over all alternatives."""
    joint = log_likelihood + log_prior
    largest = joint.max()
    log_evidence = largest + np.log(np.sum(np.exp(joint - largest)))
    probability = np.exp(joint - log_evidence)
    possible = probability[probability > 0]
    return probability, float(log_evidence), float(-np.sum(possible * np.log(possible))), float(probability.max())


# --- one step of expectation-maximisation -----------------------------------------------------------------------------


def responsibilities(images: list[Image], averages: np.ndarray, views: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """The posterior of every image [n, k, o, t]: the E-step."""
    return np.array([posterior(log_likelihood(image, averages, views), log_prior)[0] for image in images])


def best_averages(
    images: list[Image], views: np.ndarray, probability: np.ndarray, prior_covariance: np.ndarray | None = None
) -> np.ndarray:
    """The averages [k, m] that maximise sum_i sum_(c,o,t) p_i(c,o,t) log p(x_i | c,o,t) + log p(averages): the M-step.

    With M = scale H V the maximum solves (sum p M' S^-1 M + T^-1) theta = sum p M' S^-1 x, T the covariance of a
    Gaussian prior about 0. White noise, no CTF and no prior: the mean of the images put back in place, with weights p.
    """
    classes, size = probability.shape[1], views.shape[-1]
    precision = np.zeros((size, size)) if prior_covariance is None else np.linalg.inv(prior_covariance)
    left, right = np.array([precision] * classes), np.zeros((classes, size))
    for image, weights in zip(images, probability):
        inverse = np.linalg.inv(image.covariance)
        for c, o, t in np.ndindex(*weights.shape):
            model = image.scale * image.transfer @ views[o, t]
            left[c] += weights[c, o, t] * model.T @ inverse @ model
            right[c] += weights[c, o, t] * model.T @ inverse @ image.pixels
    return np.array([np.linalg.solve(matrix, vector) for matrix, vector in zip(left, right)])


def em_step(
    images: list[Image],
    averages: np.ndarray,
    views: np.ndarray,
    log_prior: np.ndarray,
    prior_covariance: np.ndarray | None = None,
) -> np.ndarray:
    """New averages [k, m] that are at least as probable as the old ones (Dempster, Laird and Rubin 1977,
    doi:10.1111/j.2517-6161.1977.tb01600.x).
    """
    return best_averages(images, views, responsibilities(images, averages, views, log_prior), prior_covariance)


def best_scale(image: Image, averages: np.ndarray, views: np.ndarray, weights: np.ndarray) -> float:
    """The scale that fits one image best: sum p m' S^-1 x / sum p m' S^-1 m, m the image without noise at scale 1."""
    above = below = 0.0
    for c, o, t in np.ndindex(*weights.shape):
        model = image.transfer @ views[o, t] @ averages[c]
        above += weights[c, o, t] * model @ np.linalg.solve(image.covariance, image.pixels)
        below += weights[c, o, t] * model @ np.linalg.solve(image.covariance, model)
    return float(above / below)


def residual_power(
    image: Image, averages: np.ndarray, views: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Expected |transform of (x - mean)|^2 / P at every frequency of the image's `shape` [y, x].

    Its mean over images and over a shell is the noise variance of the shell. Its mean over all frequencies, each divided
    by the variance, is the square of the factor by which this image's noise exceeds that variance.
    """
    total = np.zeros(shape)
    for c, o, t in np.ndindex(*weights.shape):
        difference = image.pixels - image.mean(views[o, t], averages[c])
        total += weights[c, o, t] * np.abs(dft(difference.reshape(shape), 2)) ** 2
    return total / len(image.pixels)
