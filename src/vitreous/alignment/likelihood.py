"""How probable images are: of every class, orientation and shift, and over all of them; in Fourier space, exactly.

An image of P pixels has the transform (unnormalised, in the house layout)

    X(k) = scale C(k) A_ko(k) exp(2 pi i k.s) + norm N(k),      mean |N(k)|^2 = P noise(shell of k)

C is the CTF, A_ko the reference of class k in orientation o, evaluated at the Fourier pixels, s the RELION origin: what brings the particle to the
centre. The noise is Gaussian and independent from pixel to pixel but for conjugate pairs. With the weight w = 2 or 1 of a pixel of the half
plane, a = w / (P noise norm^2) and X_s = X exp(-2 pi i k.s), relative to an image of noise alone,

    log p(X | k, o, s) - log p(X | noise) = sum_k a scale Re(conj(C A_ko) X_s)  -  1/2 sum_k a scale^2 |C|^2 |A_ko|^2

which is two matrix products: (images and shifts) x pixels times pixels x (classes and orientations), and the same with C^2 and |A|^2 without
shifts. Sources: Sigworth 1998 (doi:10.1006/jsbi.1998.4014); Scheres et al. 2007, with noise spectrum and CTF in Fourier space
(doi:10.1016/j.str.2007.09.003). The same in real space, with matrices, is `reference/alignment.py`. What is made of the posterior is in `maximisation`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.alignment.fourier_pixels import FourierPixels
from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem
from vitreous.fourier.transforms import shift_phases

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int, Num

    Array = Any  # NumPy or JAX


@dataclass(frozen=True)
class FourierImages:
    """n images at p Fourier pixels, with all that is known about each but its class and pose.

    `transforms` [n, p]: X. `transfer` [n, p]: C, complex where an odd phase is left in the images. `noise` [g, s]: variance per noise group
    and shell, mean |N|^2 / P; shells beyond the last share its value. `group` [n]: noise group of each image. `scale` [n] of the signal (the
    contrast of its micrograph) and `norm` [n] of the noise (standard deviation over that of its group); None: 1.

    Raises DataProblem if shapes do not fit, and, for NumPy arrays, if a transform is not finite or a noise variance or norm is not
    positive: it names the image.
    """

    pixels: FourierPixels
    transforms: Complex[Array, "n p"]
    transfer: Num[Array, "n p"]
    noise: Float[Array, "g s"]
    group: Int[Array, " n"] | None = None
    scale: Float[Array, " n"] | None = None
    norm: Float[Array, " n"] | None = None

    def __post_init__(self) -> None:
        count = self.transforms.shape[0]
        fitting = {"transforms": (count, len(self.pixels)), "transfer": (count, len(self.pixels))}
        fitting |= {name: (count,) for name in ("group", "scale", "norm") if getattr(self, name) is not None}
        for name, shape in fitting.items():
            if tuple(getattr(self, name).shape) != shape:
                raise DataProblem(f"{name} of shape {tuple(getattr(self, name).shape)}", f"{shape}")
        if self.noise.ndim != 2:
            raise DataProblem(f"noise of shape {tuple(self.noise.shape)}", "a variance for each group and shell")
        if self.group is None and self.noise.shape[0] != 1:
            raise DataProblem(f"{self.noise.shape[0]} noise groups", "the group of each image")
        _check_values(self)

    def __len__(self) -> int:
        return self.transforms.shape[0]

    def rows(self, selection: np.ndarray | slice) -> FourierImages:
        """Some of the images."""
        parts = {
            name: None if (value := getattr(self, name)) is None else value[selection]
            for name in ("transforms", "transfer", "group", "scale", "norm")
        }
        return replace(self, **parts)

    @property
    def dtype(self) -> np.dtype:
        """The real dtype of what is computed from these images."""
        return float_dtype(self.transforms)

    @property
    def groups(self) -> Int[Array, " n"]:
        """The noise group of each image."""
        return np.zeros(len(self), dtype=np.int32) if self.group is None else self.group

    def variance(self) -> Float[Array, "n p"]:
        """mean |norm N|^2 / P of every image at every pixel."""
        xp = namespace(self.transforms, self.noise, self.norm)
        shell = np.minimum(self.pixels.shell, self.noise.shape[1] - 1)
        variance = xp.asarray(self.noise)[:, shell][self.groups].astype(self.dtype)
        return variance if self.norm is None else variance * _column(xp, self.norm, self.dtype) ** 2

    def information(self) -> Float[Array, "n p"]:
        """a = w / (P noise norm^2): what a difference |X - model|^2 counts, twice over."""
        xp = namespace(self.transforms, self.noise, self.norm)
        weight = xp.asarray(self.pixels.weight / self.pixels.image_size, dtype=self.dtype)
        return weight / self.variance()

    def response(self) -> Num[Array, "n p"]:
        """C where the object is seen, 0 at Nyquist frequencies: what multiplies a reference, but for the scale."""
        xp = namespace(self.transforms, self.transfer)
        return self.transfer * xp.asarray(self.pixels.seen, dtype=self.dtype)

    def scales(self) -> Float[Array, "n 1"]:
        """The scale of each image as a column."""
        xp = namespace(self.transforms, self.scale)
        scale = np.ones(len(self)) if self.scale is None else self.scale
        return _column(xp, scale, self.dtype)

    def moved(self, shifts: Float[Array, "t 2"] | Float[Array, "n t 2"]) -> Complex[Array, "n t p"]:
        """X_s: the images as the origins `shifts` (x, y) in angstrom bring them to the centre."""
        return self.transforms[:, None, :] * phases(self, shifts)


def phases(images: FourierImages, shifts: Float[Array, "t 2"] | Float[Array, "n t 2"]) -> Complex[Array, "... t p"]:
    """exp(-2 pi i k.s) at the pixels of the images, [t, p] or [n, t, p]."""
    xp = namespace(images.transforms, shifts)
    grids = [xp.asarray(k, dtype=images.dtype) for k in (images.pixels.kx, images.pixels.ky)]
    return shift_phases(xp.asarray(shifts, dtype=images.dtype), grids)


def log_likelihood(
    images: FourierImages,
    references: Complex[Array, "k o p"],
    shifts: Float[Array, "t 2"] | Float[Array, "n t 2"],
) -> Float[Array, "n k o t"]:
    """log p(X | class, orientation, shift) - log p(X | noise alone) of all alternatives, in nat.

    `references` are values at the images' Fourier pixels, of rotated class averages or of slices of maps; every class has as
    many. `shifts`: RELION origins (x, y) in angstrom, the same for all images or for each its own.
    """
    classes, orientations, pixels = references.shape
    xp = namespace(images.transforms, references)
    flat = references.reshape(classes * orientations, pixels)
    response = images.scales() * images.response()
    information = images.information()
    data = (information * xp.conj(response))[:, None, :] * images.moved(shifts)
    count, moves = data.shape[:2]
    match = matrix_product(xp, parts(xp, data.reshape(count * moves, pixels)), parts(xp, flat).T)
    power = matrix_product(xp, information * squared(response), squared(flat).T)
    match = match.reshape(count, moves, classes, orientations).transpose(0, 2, 3, 1)
    return match - 0.5 * power.reshape(count, classes, orientations, 1)


def log_noise(images: FourierImages) -> Float[Array, " n"]:
    """log p(X | noise alone), in nat: the log density of the real numbers that the pixels stand for.

    Added to a log-likelihood or log evidence it gives their absolute values, which a change of noise or norm must be judged by. Of pixels
    `with_nyquist` and no finest resolution it is the log density of the image in real space.
    """
    xp = namespace(images.transforms, images.noise, images.norm)
    weight = xp.asarray(images.pixels.weight, dtype=images.dtype)
    spread = weight * xp.log(2 * math.pi * images.variance())
    return -0.5 * xp.sum(spread + images.information() * squared(images.transforms), axis=1)


# --- the posterior ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Posterior:
    """What each of n images says about class k, orientation o and shift t.

    `probability` [n, k, o, t] adds up to 1 for each image. `log_evidence` [n]: log of the sum of likelihood times prior; above 0 where the image
    is more probable as a particle than as noise alone. `entropy` [n] in nat: exp(entropy) alternatives are in play.
    `maximum` [n]: the largest probability. `best` [n, 3]: its class, orientation and shift.
    """

    probability: Float[Array, "n k o t"]
    log_evidence: Float[Array, " n"]
    entropy: Float[Array, " n"]
    maximum: Float[Array, " n"]
    best: Int[Array, "n 3"]

    @property
    def classes(self) -> Float[Array, "n k"]:
        """Probability of each class."""
        return self.probability.sum(axis=(2, 3))

    @property
    def orientations(self) -> Float[Array, "n k o"]:
        """Probability of each class and orientation."""
        return self.probability.sum(axis=3)

    @property
    def shifts(self) -> Float[Array, "n t"]:
        """Probability of each shift."""
        return self.probability.sum(axis=(1, 2))


def posterior(log_likelihood: Float[Array, "n k o t"], log_prior: Float[Array, " *any"] | None = None) -> Posterior:
    """Bayes' rule over all alternatives. `log_prior` broadcasts against the likelihood, as the function `log_prior` makes
    it; None: all alike.

    Raises DataProblem, for NumPy arrays, that names the first image of which no alternative has a finite value.
    """
    xp = namespace(log_likelihood, log_prior)
    count, alternatives = log_likelihood.shape[0], math.prod(log_likelihood.shape[1:])
    prior = -math.log(alternatives) if log_prior is None else xp.asarray(log_prior, dtype=log_likelihood.dtype)
    joint = xp.broadcast_to(log_likelihood + prior, log_likelihood.shape).reshape(count, alternatives)
    largest = xp.max(joint, axis=1)
    _check_finite(largest)
    weights = xp.exp(joint - largest[:, None])
    total = xp.sum(weights, axis=1)
    probability = weights / total[:, None]
    below = xp.where(probability > 0, joint - largest[:, None], 0.0)  # log of weights, 0 log 0 = 0
    entropy = xp.log(total) - xp.sum(probability * below, axis=1)
    best = xp.stack(xp.unravel_index(xp.argmax(joint, axis=1), log_likelihood.shape[1:]), axis=1)
    return Posterior(
        probability.reshape(log_likelihood.shape), largest + xp.log(total), entropy, xp.max(probability, axis=1), best
    )


# --- priors -----------------------------------------------------------------------------------------------------------


def log_prior(
    classes: Float[Array, "... k"], orientations: Float[Array, "... o"], shifts: Float[Array, "... t"]
) -> Float[Array, " *any"]:
    """The log of a product of priors, to be broadcast against [n, k, o, t].

    Log priors of classes [k] or [n, k]; of orientations, given the class, [o], [k, o], [n, k, o] or [n, 1, o]; of shifts, given the class,
    [t], [k, t], [n, k, t] or [n, 1, t].
    """
    return classes[..., :, None, None] + orientations[..., :, None] + shifts[..., None, :]


def log_weights(weights: Float[Array, "... m"]) -> Float[Array, "... m"]:
    """Logs of weights scaled to add up to 1 over the last axis; a weight of 0 forbids an alternative.

    >>> log_weights(np.array([1.0, 3.0, 0.0])).round(3)
    array([-1.386, -0.288,   -inf])
    """
    xp = namespace(weights)
    share = weights / xp.sum(weights, axis=-1, keepdims=True)
    return xp.where(share > 0, xp.log(xp.where(share > 0, share, 1.0)), -math.inf)


def log_shift_prior(shifts: Float[Array, "... t 2"], spread: float | Float[Array, ""]) -> Float[Array, "... t"]:
    """Log prior of the shifts of a grid: a Gaussian of standard deviation `spread` (angstrom) in x and in y about 0, normalised over the grid.

    An infinite spread makes all alike.
    """
    xp = namespace(shifts, spread)
    exponent = -0.5 * xp.sum((shifts / spread) ** 2, axis=-1)
    largest = xp.max(exponent, axis=-1, keepdims=True)
    return exponent - largest - xp.log(xp.sum(xp.exp(exponent - largest), axis=-1, keepdims=True))


# --- arithmetic -------------------------------------------------------------------------------------------------------


def squared(values: Num[Array, " *any"]) -> Float[Array, " *any"]:
    """|values|^2."""
    return values.real**2 + values.imag**2


def parts(xp: Any, values: Complex[Array, "... p"]) -> Float[Array, "... q"]:
    """Real parts, then imaginary parts: the real vectors whose scalar product is Re(conj(a) b)."""
    return xp.concatenate([values.real, values.imag], axis=-1)


def matrix_product(xp: Any, left: Array, right: Array) -> Array:
    """The matrix product in full precision; accelerators would round single precision to half on the way."""
    return left @ right if xp is np else xp.matmul(left, right, precision="highest")


def _column(xp: Any, values: Array, dtype: np.dtype) -> Array:
    return xp.asarray(values, dtype=dtype)[:, None]


def _check_values(images: FourierImages) -> None:
    for name, good, expected in (
        ("transforms", lambda values: np.isfinite(values).all(axis=1), "finite numbers"),
        ("noise", lambda values: (np.isfinite(values) & (values > 0)).all(axis=1), "positive variances"),
        ("norm", lambda values: np.isfinite(values) & (values > 0), "positive numbers"),
        ("scale", np.isfinite, "finite numbers"),
    ):
        values = getattr(images, name)
        if isinstance(values, np.ndarray) and not (fine := good(values)).all():
            what = "group" if name == "noise" else "image"
            raise DataProblem(f"{name} of {what} {int(np.argmin(fine))} (counting from 0)", expected)


def _check_finite(largest: Array) -> None:
    if isinstance(largest, np.ndarray) and not np.isfinite(largest).all():
        first = int(np.argmin(np.isfinite(largest)))
        raise DataProblem(
            f"image {first} (counting from 0) has {'no possible alternative' if largest[first] < 0 else 'a likelihood that is not finite'}",
            "at least one class, orientation and shift of finite likelihood and prior",
        )
