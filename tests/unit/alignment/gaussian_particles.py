"""Images of objects made of Gaussian blobs: their projections are known in closed form, so that no code of the program stands between a pose and its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.fourier.transforms import forward, frequencies, inverse, without_nyquist
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles

PIXEL_SIZE = 4.0


@dataclass(frozen=True)
class Blobs:
    """Gaussians of standard deviation `width` (pixels) and weight `height` [b] at `place` [b, 3], (x, y, z) in pixels from the origin."""

    place: np.ndarray
    height: np.ndarray
    width: float = 1.5

    def density(self, box: int) -> np.ndarray:
        """The map [z, y, x], float32."""
        axis = np.arange(box) - box // 2
        parts = [np.exp(-((axis - p[:, None]) ** 2) / (2 * self.width**2)) for p in self.place.T]
        return np.einsum("b,bz,by,bx->zyx", self.height, parts[2], parts[1], parts[0]).astype(np.float32)

    def images(self, rotation: np.ndarray, origin: np.ndarray, box: int) -> np.ndarray:
        """Projections [n, y, x]: a blob at r appears at R r - origin, in pixels."""
        seen = np.einsum("nij,bj->nbi", rotation, self.place)[..., :2] - origin[:, None]
        axis = np.arange(box) - box // 2
        along = np.exp(-((axis - seen[..., None]) ** 2) / (2 * self.width**2))  # [n, b, (x, y), pixel]
        return (
            np.sqrt(2 * np.pi) * self.width * np.einsum("b,nby,nbx->nyx", self.height, along[:, :, 1], along[:, :, 0])
        )


def blobs(rng: np.random.Generator, count: int = 9, reach: float = 7.0, operators: np.ndarray | None = None) -> Blobs:
    """Blobs within a sphere of `reach` pixels, with no symmetry but the one given."""
    place = rng.normal(size=(count, 3))
    place *= (reach * rng.uniform(0.25, 1, count) ** 0.5 / np.linalg.norm(place, axis=1))[:, None]
    height = rng.uniform(0.5, 1.5, count)
    if operators is not None:
        place = np.concatenate([place @ operator.T for operator in operators])
        height = np.tile(height, len(operators))
    return Blobs(place - (place * height[:, None]).sum(axis=0) / height.sum(), height)


def in_plane(psi: np.ndarray) -> np.ndarray:
    """Rz(psi) [n, 3, 3] = [[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]."""
    cosine, sine, zero, one = np.cos(psi), np.sin(psi), np.zeros_like(psi), np.ones_like(psi)
    return np.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)


def particles_of(
    signal: np.ndarray,
    *,
    snr: float | None,
    rng: np.random.Generator,
    ctf: bool = True,
    origin: np.ndarray | None = None,
) -> tuple[Particles, float]:
    """Particles from projections [n, y, x]: astigmatic CTFs, white noise of 1 / snr of the mean variance of the signal (None: none); and that of the noise.

    `origin` [n, 2] (pixels) is what the file says, 0 by default; it knows no orientations.
    """
    count, box = len(signal), signal.shape[-1]
    group = OpticsGroup(
        pixel_size=PIXEL_SIZE, box=box, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    parameters = None
    if ctf:
        defocus = rng.uniform(1e4, 2.4e4, count)
        parameters = CtfParameters.of(defocus + 400, defocus - 400, np.full(count, 0.4))
        transfer = ctf_of_particles(group, parameters, *frequencies((box, box), PIXEL_SIZE))
        signal = inverse(without_nyquist(forward(signal, 2) * transfer, (box, box)), (box, box))
    variance = 0.0 if snr is None else float(signal.var(axis=(1, 2)).mean()) / snr
    images = signal + rng.normal(0, np.sqrt(variance), signal.shape)
    known = np.zeros((count, 2)) if origin is None else origin * PIXEL_SIZE
    particles = Particles(
        ImageName(np.arange(count), np.zeros(count, dtype=np.int32), ("p.mrcs",)),
        (group,),
        np.zeros(count, dtype=int),
        Pose(np.zeros((count, 3)), known),
        parameters,
        images=LoadedImages(images.astype(np.float32)),
    )
    return particles, variance


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two images or maps about their means."""
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
