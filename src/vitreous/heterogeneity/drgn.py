"""cryoDRGN's model: an encoder, a coordinate network, and the evidence lower bound of images with known poses.

Zhong, Bepler, Berger and Davis 2021, doi:10.1038/s41592-020-01049-4. With images in units of their noise (`ParticleSlices`) the bound on the
log-likelihood of image i, but for a constant, is

    -sum_p |y_ip - C_ip F(R_i' k_p, z)|^2  -  KL(q_i || prior),   z = mean_i + deviation_i eps,  eps ~ N(0, 1)

with q_i the encoder's Gaussian, or one of the image's own (autodecoder). Both terms are in nat, so nothing has to be weighed: `beta` other than 1
is for whoever wants another answer. The bound is given relative to the consensus map, `sum_p |y - C F_0|^2` less, so that it says what the
latent explains and does not change its meaning with the pixels that are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace
from vitreous.geometry.rotations import matrix_from_rotation_vector
from vitreous.heterogeneity.coordinate_network import NetworkWeights, network_values
from vitreous.heterogeneity.gaussian_kl import kl_to_standard_normal
from vitreous.heterogeneity.latent_encoder import encode
from vitreous.heterogeneity.perceptron import Perceptron, answer
from vitreous.reconstruction.projection import PADDING, FourierVolume, values_at

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

TURN, MOVE = slice(0, 3), slice(3, 5)  # columns of a row of pose corrections
MOVE_UNIT = (
    0.25  # of the box: a correction of the origin by 1; as far as a turn by 1 rad moves a particle's outer parts
)


class Weights(NamedTuple):
    """All that is trained for all particles together. `encoder` is None where each has a latent of its own, or none; `mixture`, the amounts of the
    eigenvolumes as a function of the latent, is None where there are none."""

    decoder: NetworkWeights
    encoder: Perceptron | None
    mixture: Perceptron | None = None


class Batch(NamedTuple):
    """Some particles as the bound sees them: `values` less the consensus, `transfer` [b, p], `basis` [b, 2, 3] as in ParticleSlices, `plane` [p, 2] the pixels (kx, ky)
    and `scale` [p] the amplitude there, `features` [b, m] for the encoder, `eps` [b, d] standard normal numbers, and `weight` [b], 0 for particles
    that only fill up the batch; `opens` [d], 0 for coordinates of the latent that are held at 0; `linear` [b, p, k] the slices of the eigenvolumes."""

    values: Any
    transfer: Any
    basis: Any
    plane: Any
    scale: Any
    features: Any
    eps: Any
    weight: Any
    opens: Any
    linear: Any = None


class Image(NamedTuple):
    """One image, or several with a leading axis: `values` less the consensus, `transfer` [p], `basis` [2, 3], its drawn `latent` [d], its correction of the `pose` [5]
    or None, the slices [p, k] of the eigenvolumes and their `amounts` [k] or None."""

    values: Any
    transfer: Any
    basis: Any
    latent: Any
    pose: Any
    linear: Any = None
    amounts: Any = None


class Rows(NamedTuple):
    """What belongs to the particles of a batch alone, or None: `latent` [b, 2d], mean and log deviation; `pose` [b, 5], a rotation vector
    (radian) by which the particle's axes are turned further, and a correction of its origin in units of MOVE_UNIT."""

    latent: Any = None
    pose: Any = None


def posterior(weights: Weights, rows: Rows, batch: Batch) -> tuple[Array, Array]:
    """Mean and log deviation [b, d] of the latents: 0 for closed coordinates, so that their divergence is 0."""
    if rows.latent is not None:
        mean, log_deviation = namespace(rows.latent).split(rows.latent, 2, axis=-1)
    elif weights.encoder is not None:
        mean, log_deviation = encode(weights.encoder, batch.features)
    else:
        return batch.eps[:, :0], batch.eps[:, :0]
    return mean * batch.opens, log_deviation * batch.opens


def gains(
    weights: Weights, rows: Rows, batch: Batch, consensus: FourierVolume
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """For each particle: the log-likelihood beyond that of the consensus, at the drawn latent; and the KL divergence. Nat."""
    mean, log_deviation = posterior(weights, rows, batch)
    images = images_of(mean, log_deviation, weights.mixture, rows, batch)

    def gain(one: Image) -> Array:
        return image_gain(weights.decoder, one, batch.plane, batch.scale, consensus)

    return over_images(gain, images), kl_to_standard_normal(mean, log_deviation)


def images_of(mean: Array, log_deviation: Array, mixture: Perceptron | None, rows: Rows, batch: Batch) -> Image:
    """The images of a batch with latents drawn from their posterior: `z = mean + deviation eps`, which can be differentiated by both."""
    latent = mean + namespace(mean).exp(log_deviation) * batch.eps
    amounts = None if mixture is None else answer(mixture, latent)
    return Image(batch.values, batch.transfer, batch.basis, latent, rows.pose, batch.linear, amounts)


def image_gain(
    decoder: NetworkWeights,
    image: Image,
    plane: Float[Array, "p 2"],
    scale: Float[Array, " p"],
    consensus: FourierVolume,
) -> Float[Array, ""]:
    """`sum_p |y - C F_0|^2 - |y - C F|^2` of one image, F_0 the consensus at the pose given, F the network's map at the corrected one."""
    xp = namespace(image.values)
    residual, basis = image.values, image.basis
    if image.pose is not None:
        whole = residual + image.transfer * values_at(consensus, plane @ basis)
        whole, basis = corrected(whole, basis, image.pose, plane)
        residual = whole - image.transfer * values_at(consensus, plane @ basis)
    points = plane @ basis
    added = scale * network_values(decoder, points, image.latent, consensus.box)
    if image.amounts is not None:
        added = added + image.linear @ image.amounts
    added = image.transfer * added
    # |r|^2 - |r - a|^2 = 2 Re conj(r) a - |a|^2 for the residual r of the consensus
    gain = xp.sum(2 * (residual.real * added.real + residual.imag * added.imag) - squared(added))
    if image.pose is None:
        return gain
    return gain + xp.sum(squared(image.values) - squared(residual))


def over_images(function: Callable[[Any], Array], images: Any) -> Array:
    """The function's value for each image; images are a named tuple of arrays with a leading axis, `values` among them.

    On a CPU one image follows the other, and what the network computed of it is computed again for its gradient: the units of one image stay in
    the cache, which saves more than the second computation costs. Other devices see all images at once.
    """
    if namespace(images.values) is np:
        return np.array(
            [
                function(type(images)(*(None if part is None else part[i] for part in images)))
                for i in range(len(images.values))
            ]
        )
    import jax

    if jax.default_backend() == "cpu":
        return jax.lax.map(jax.checkpoint(function), images)
    return jax.vmap(function)(images)


def loss(
    weights: Weights, rows: Rows, batch: Batch, consensus: FourierVolume, beta: float = 1.0
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
    """`mean(beta KL - gain)` over the particles of the batch that count, which training makes small; and the means of gain and KL."""
    mean, log_deviation = posterior(weights, rows, batch)
    share = batch.weight / batch.weight.sum()
    images = images_of(mean, log_deviation, weights.mixture, rows, batch)
    gain = weighted_gain(weights.decoder, images, share, batch.plane, batch.scale, consensus)
    divergence = (share * kl_to_standard_normal(mean, log_deviation)).sum()
    return beta * divergence - gain, (gain, divergence)


def weighted_gain(
    decoder: NetworkWeights,
    images: Image,
    share: Float[Array, " b"],
    plane: Float[Array, "p 2"],
    scale: Float[Array, " p"],
    consensus: FourierVolume,
) -> Float[Array, ""]:
    """`sum_i share_i gain_i`.

    On a CPU its gradient is made image by image along with the value, and added up: all units of one image stay in the cache, none are kept
    until all images are done and none computed twice. That halves the time of a step. Other devices see all images at once.
    """
    if namespace(images.values) is not np:
        import jax

        if jax.default_backend() == "cpu":
            return _summed_gain(decoder, images, share, plane, scale, consensus.data)
    gain = over_images(lambda one: image_gain(decoder, one, plane, scale, consensus), images)
    return (share * gain).sum()


def _summed_gain(decoder: NetworkWeights, images: Image, *constants: Array) -> Float[Array, ""]:
    import jax

    summed = jax.custom_vjp(lambda *arguments: _gain_and_slopes(*arguments)[0])
    summed.defvjp(_gain_and_slopes, _scaled_slopes)
    return summed(decoder, images, *constants)


def _gain_and_slopes(
    decoder: NetworkWeights, images: Image, share: Array, plane: Array, scale: Array, data: Array
) -> tuple[Array, tuple[Any, ...]]:
    """The sum and its gradients by the decoder and by what belongs to each image; the data have none."""
    import jax

    consensus = FourierVolume(data, (data.shape[0] - 3) // PADDING, PADDING)

    def add(total: Any, item: tuple[Image, Array]) -> tuple[Any, tuple[Array, Any]]:
        image, weight = item

        def gain(decoder: NetworkWeights, latent: Array, pose: Array, amounts: Array) -> Array:
            own = image._replace(latent=latent, pose=pose, amounts=amounts)
            return weight * image_gain(decoder, own, plane, scale, consensus)

        parts = (decoder, image.latent, image.pose, image.amounts)
        value, (slope, *own) = jax.value_and_grad(gain, argnums=(0, 1, 2, 3))(*parts)
        return jax.tree.map(jax.numpy.add, total, slope), (value, tuple(own))

    nothing = jax.tree.map(jax.numpy.zeros_like, decoder)
    total, (values, own) = jax.lax.scan(add, nothing, (images, share))
    return values.sum(), (total, own, images, (share, plane, scale, data))


def _scaled_slopes(saved: tuple[Any, ...], by: Array) -> tuple[Any, ...]:
    import jax

    total, own, images, constants = saved
    total, (latent, pose, amounts) = jax.tree.map(lambda slope: by * slope, (total, own))
    zeros = jax.tree.map(jax.numpy.zeros_like, (images, constants))
    return total, zeros[0]._replace(latent=latent, pose=pose, amounts=amounts), *zeros[1]


def squared(values: Array) -> Array:
    """|.|^2, whose gradient exists at 0."""
    return values.real**2 + values.imag**2


def corrected(
    values: Array, basis: Array, pose: Float[Array, "*b 5"], plane: Float[Array, "p 2"]
) -> tuple[Array, Array]:
    """Values [*b, p] and basis [*b, 2, 3] of particles whose poses are corrected.

    The axes become `basis T'` with T the turn by the rotation vector; an origin moved by s (in fractions of the box) multiplies the values by
    `exp(-2 pi i k . s)`, k in cycles per box.
    """
    xp = namespace(pose, values)
    phase = (-2 * np.pi * MOVE_UNIT) * (pose[..., MOVE] @ plane.T)
    return values * (xp.cos(phase) + 1j * xp.sin(phase)), turned(basis, pose)


def turned(basis: Float[Array, "*b 2 3"], pose: Float[Array, "*b 5"]) -> Float[Array, "*b 2 3"]:
    """The basis of particles whose axes are turned as their corrections say."""
    return basis @ namespace(pose, basis).swapaxes(matrix_from_rotation_vector(pose[..., TURN]), -1, -2)


def corrected_pose(
    euler: np.ndarray, shift: np.ndarray, pose: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Euler angles [n, 3] and origins [n, 2] (angstrom) of poses with corrections [n, 5], for boxes of `width` angstrom.

    The basis is the first two rows of R, so `basis T'` belongs to `R T'`; a phase factor `exp(-2 pi i k . s)` moves the image by +s, as
    an origin larger by s does.
    """
    from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler

    turn = np.swapaxes(matrix_from_rotation_vector(pose[:, TURN].astype(np.float64)), -1, -2)
    return euler_from_matrix(matrix_from_euler(euler) @ turn), shift + pose[:, MOVE] * MOVE_UNIT * width
