"""spatial-VAE: one picture as a function of place in the image plane and of a latent, seen turned and shifted.

Bepler, Zhong, Kelley, Brignole and Berger 2019, arXiv:1909.11663. A network f gives the density at a point r (pixels from the particle's middle)
for a latent z. The image of a particle turned by psi, whose origin (the shift that brings it to the middle of the box) is o, has at k the value

    y(k) = C(k) exp(2 pi i k . o / box) sum_r f(R' r, z) exp(-2 pi i k . r / box) + noise,   R = [[cos psi, sin psi], [-sin psi, cos psi]],

the sum over the pixels of a disc, C the CTF, and y in units of its noise: E|noise|^2 = 1 at every k of a SliceGrid. The log-likelihood beyond that
of an empty image is the sum over k of `2 Re conj(y) a - |a|^2`, a the expected image.

Formulas here are one code for NumPy and JAX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace
from vitreous.heterogeneity.coordinate_network import NetworkWeights, output
from vitreous.heterogeneity.drgn import over_images, squared
from vitreous.heterogeneity.gaussian_kl import kl_to_standard_normal
from vitreous.heterogeneity.latent_encoder import encode
from vitreous.heterogeneity.perceptron import Perceptron
from vitreous.reconstruction.projection import SliceGrid

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

EDGE = 2.0  # pixels over which the disc falls from 1 to 0


@dataclass(frozen=True, eq=False)  # compiled programs are kept for each plane, by what it is and not by what it holds
class ImagePlane:
    """Where the network is asked and where images are compared.

    `points` [P, 2] are the pixels (x, y) of a disc, `soft` [P] falls from 1 to 0 at its edge; `place` [box, box] is the number of each pixel's point,
    P for those outside, with the middle of the image at index 0. `amplitude` is the density that the network's 1 stands for. `seen` [g, 2] are
    the points, in pixels, at which the encoder sees a particle, and `eye` the cycles per box up to which it does.
    """

    grid: SliceGrid
    amplitude: float
    points: np.ndarray
    soft: np.ndarray
    place: np.ndarray
    seen: np.ndarray
    eye: float

    @property
    def box(self) -> int:
        return self.grid.box

    @property
    def frequencies(self) -> Float[np.ndarray, "p 2"]:
        """(kx, ky) of the pixels of the grid, cycles per box."""
        return np.stack([self.grid.kx, self.grid.ky], axis=-1).astype(np.float32)

    @property
    def near(self) -> int:
        """How many pixels of the grid, which begins in the middle, the encoder looks at."""
        return int((np.hypot(self.grid.kx, self.grid.ky) < self.eye).sum())


def image_plane(grid: SliceGrid, radius: float, amplitude: float, eye: float = 10.0) -> ImagePlane:
    """The plane for particles of `radius` pixels."""
    box = grid.box
    line = np.arange(box) - box // 2
    y, x = np.meshgrid(line, line, indexing="ij")
    soft = np.clip((radius - np.hypot(x, y)) / EDGE + 0.5, 0, 1)
    inside = soft > 0
    place = np.full((box, box), inside.sum(), np.int32)
    place[inside] = np.arange(inside.sum())
    eye = min(eye, grid.radius)
    step = box / (2 * eye)  # Nyquist's, of what the encoder sees
    ticks = step * np.arange(-int(radius / step), int(radius / step) + 1)
    seen = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    return ImagePlane(
        grid,
        float(amplitude),
        np.stack([x[inside], y[inside]], axis=-1).astype(np.float32),
        soft[inside].astype(np.float32),
        np.fft.ifftshift(place),
        seen[np.hypot(*seen.T) <= radius].astype(np.float32),
        eye,
    )


class SpatialWeights(NamedTuple):
    """All that is trained. The encoder sees particles turned upright: it has only the latent to find."""

    decoder: NetworkWeights
    encoder: Perceptron


class SpatialBatch(NamedTuple):
    """Particles: `values`, `transfer` [b, p] as in ParticleSlices; `psi` [b] radian and `origin` [b, 2] pixels as drawn from their posterior; `eps`
    [b, d] standard normal; `weight` [b], 0 for particles that only fill up the batch; `opens`, 0 while all particles are taken for equal, or 1."""

    values: Any
    transfer: Any
    psi: Any
    origin: Any
    eps: Any
    weight: Any
    opens: Any


class SpatialImage(NamedTuple):
    """One image, or several with a leading axis."""

    values: Any
    transfer: Any
    psi: Any
    origin: Any
    latent: Any


# --- decoder ----------------------------------------------------------------------------------------------------------


def density(decoder: NetworkWeights, points: Float[Array, "P 2"], latent: Float[Array, " d"], box: int) -> Array:
    """f [P] at points (x, y) in pixels. Of the network's two answers the first is used; its waves lie in the plane."""
    xp = namespace(points, latent, decoder.waves)
    phase = points @ (decoder.points[:, :2].T * np.float32(2 * np.pi / box))
    features = xp.concatenate([xp.cos(phase), xp.sin(phase)], axis=-1)
    return output(decoder, features, latent, np.float32(1)).real


def turned(points: Float[Array, "P 2"], psi: Any) -> Float[Array, "P 2"]:
    """`R' r`: where in the particle the pixels r of an image lie that shows it turned by psi."""
    xp = namespace(points, psi)
    cosine, sine, x, y = xp.cos(psi), xp.sin(psi), points[..., 0], points[..., 1]
    return xp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)


def picture(decoder: NetworkWeights, plane: ImagePlane, latent: Array, psi: Any) -> Float[Array, "y x"]:
    """The image of a particle in the middle of the box, without CTF; its middle is at index 0."""
    xp = namespace(latent, decoder.waves)
    values = density(decoder, turned(plane.points, psi), latent, plane.box) * plane.soft
    return plane.amplitude * xp.concatenate([values, xp.zeros(1, values.dtype)])[plane.place]


def transform(decoder: NetworkWeights, plane: ImagePlane, latent: Array, psi: Any) -> Complex[Array, " p"]:
    """The transform of that image at the pixels of the grid."""
    image = picture(decoder, plane, latent, psi)
    return namespace(image).fft.rfft2(image)[plane.grid.row, plane.grid.column]


def image_gain(decoder: NetworkWeights, plane: ImagePlane, image: SpatialImage) -> Float[Array, ""]:
    """The log-likelihood of one image beyond that of an empty one, nat."""
    xp = namespace(image.values)
    phase = np.float32(2 * np.pi / plane.box) * (plane.frequencies @ image.origin)
    moved = transform(decoder, plane, image.latent, image.psi) * (xp.cos(phase) + 1j * xp.sin(phase))
    expected = image.transfer * moved
    return xp.sum(2 * (image.values.real * expected.real + image.values.imag * expected.imag) - squared(expected))


# --- encoder ----------------------------------------------------------------------------------------------------------


def upright(plane: ImagePlane, values: Array, transfer: Array, psi: Any, origin: Array) -> Float[Array, " g"]:
    """What the encoder sees of one image: `Re sum_k C y exp(2 pi i k . (R r - o) / box)` at its points r, in units of the noise.

    A sum of waves, exact at every angle: nothing is interpolated.
    """
    xp = namespace(values, psi)
    near = plane.near
    weighted = values[:near] * transfer[:near]
    places = turned(plane.seen, -psi) - origin
    phase = np.float32(2 * np.pi / plane.box) * (places @ plane.frequencies[:near].T)
    seen = xp.cos(phase) @ weighted.real - xp.sin(phase) @ weighted.imag
    return seen / xp.sqrt(xp.sum(transfer[:near] ** 2) / 2 + 1e-12)


def posterior(weights: SpatialWeights, plane: ImagePlane, batch: SpatialBatch) -> tuple[Array, Array]:
    """Mean and log deviation [b, d] of the latents of particles with these turns and origins."""

    def sees(image: SpatialImage) -> Array:
        return upright(plane, image.values, image.transfer, image.psi, image.origin)

    features = over_images(sees, SpatialImage(batch.values, batch.transfer, batch.psi, batch.origin, batch.eps))
    return encode(weights.encoder, features)


# --- bound ------------------------------------------------------------------------------------------------------------


def gains(weights: SpatialWeights, plane: ImagePlane, batch: SpatialBatch) -> tuple[Array, Array]:
    """For each particle: the log-likelihood beyond an empty image at the drawn turn, origin and latent; and KL of the latent. Nat."""
    mean, log_deviation = posterior(weights, plane, batch)
    latent = batch.opens * (mean + namespace(mean).exp(log_deviation) * batch.eps)

    def gain(image: SpatialImage) -> Array:
        return image_gain(weights.decoder, plane, image)

    images = SpatialImage(batch.values, batch.transfer, batch.psi, batch.origin, latent)
    return over_images(gain, images), batch.opens * kl_to_standard_normal(mean, log_deviation)


def loss(
    weights: SpatialWeights, plane: ImagePlane, batch: SpatialBatch, beta: float
) -> tuple[Array, tuple[Array, Array]]:
    """`mean(beta KL - gain)` over the particles that count; and the means of gain and KL."""
    gain, divergence = gains(weights, plane, batch)
    share = batch.weight / batch.weight.sum()
    gain, divergence = (share * gain).sum(), (share * divergence).sum()
    return beta * divergence - gain, (gain, divergence)
