"""Small sets of simulated images, once as matrices in real space and once as lists of Fourier pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.alignment.fourier_pixels import FourierPixels, fourier_pixels
from vitreous.alignment.likelihood import FourierImages
from vitreous.fourier.shells import shell_count, spread_shells
from vitreous.fourier.transforms import forward
from vitreous.reference import alignment as definition
from vitreous.reference.ctf import ctf
from vitreous.reference.dft import frequency_numbers

PIXEL_SIZE = 3.0
LENS = (0.0197, 2.7e7, 0.1)  # 300 kV


@dataclass(frozen=True)
class SmallSet:
    """`averages` [k, m], `rotations` [o, 2 or 3, 2 or 3], `origins` [t, 2] in pixels; `views` [o, t, P, m], `matrices`: the images in real
    space; `images`: the same at Fourier pixels, the Nyquist ones included; `operators` [o, p, m]; `micrograph`, `truth` [n, 3].
    """

    shape: tuple[int, int]
    averages: np.ndarray
    rotations: np.ndarray
    origins: np.ndarray
    views: np.ndarray
    matrices: list[definition.Image]
    images: FourierImages
    operators: np.ndarray
    micrograph: np.ndarray
    truth: np.ndarray

    @property
    def shifts(self) -> np.ndarray:
        """The origins in angstrom."""
        return self.origins * PIXEL_SIZE

    @property
    def references(self) -> np.ndarray:
        """The averages at the Fourier pixels of every orientation, [k, o, p]."""
        return references_of(self.averages, self.operators)


def references_of(averages: np.ndarray, operators: np.ndarray) -> np.ndarray:
    """operators theta for every class: [k, o, p]."""
    return np.einsum("opm,km->kop", operators, averages)


def operator(pixels: FourierPixels, points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """[p, m]: the transform of points at rotated positions: sum over r of theta(r) exp(-2 pi i k.(R r)), pixels as unit of length."""
    places = (points @ rotation.T)[:, :2]
    k = np.stack([pixels.kx, pixels.ky], axis=1) * PIXEL_SIZE
    return np.exp(-2j * np.pi * (k @ places.T))


def blobs(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Objects without symmetry, [k, m], well inside the box: amplitude about 1."""
    reach = points.max() * 0.5
    objects = np.zeros((count, len(points)))
    for average in objects:
        for centre in rng.uniform(-reach, reach, (4, points.shape[1])):
            average += rng.uniform(0.4, 1.2) * np.exp(-np.sum((points - centre) ** 2, axis=1) / (2 * 1.1**2))
    return objects


def small_set(
    shape: tuple[int, int] = (8, 8),
    *,
    count: int = 6,
    classes: int = 2,
    psi: tuple[float, ...] = (0.0, 0.7, 2.5),
    rotations: np.ndarray | None = None,
    noise_level: float = 0.5,
    seed: int = 3,
) -> SmallSet:
    """Images of random classes, orientations and shifts with astigmatic CTFs and coloured noise of two groups, each with its scale and norm.

    `rotations` [o, 3, 3] make the objects maps of a cube, projected.
    """
    rng = np.random.default_rng(seed)
    points = definition.positions(shape if rotations is None else (shape[0],) * 3)
    if rotations is None:
        rotations = np.array([definition.rotation_in_plane(angle) for angle in psi])
    averages = blobs(points, classes, rng)
    origins = np.array([[0.0, 0.0], [1.0, -2.0], [-0.6, 0.3], [2.0, 1.0]])
    views = np.array([[definition.view_matrix(shape, points, r, t) for t in origins] for r in rotations])
    shells = shell_count(shape, corners=True)
    noise = noise_level * np.array([1.5 / (1 + np.arange(shells)), 0.3 + 0.1 * np.arange(shells)])
    group, micrograph = np.arange(count) % 2, np.arange(count) // 3
    scale = rng.uniform(0.7, 1.3, micrograph.max() + 1)[micrograph]
    norm = rng.uniform(0.8, 1.25, count)
    ky, kx = np.meshgrid(*(frequency_numbers(n) / (n * PIXEL_SIZE) for n in shape), indexing="ij")
    transfers = [ctf(kx, ky, (u, u - 900.0, 0.4), LENS) for u in rng.uniform(4000, 12000, count)]
    truth = np.stack([rng.integers(0, m, count) for m in (classes, len(rotations), len(origins))], axis=1)
    matrices = []
    for i, (c, o, t) in enumerate(truth):
        variance = spread_shells(noise[group[i]], shape, half=False) * norm[i] ** 2
        covariance = definition.noise_covariance(variance)
        noiseless = definition.Image(np.zeros(0), definition.ctf_matrix(transfers[i]), covariance, scale[i])
        pixels = noiseless.mean(views[o, t], averages[c]) + np.linalg.cholesky(covariance) @ rng.standard_normal(
            len(covariance)
        )
        matrices.append(definition.Image(pixels, noiseless.transfer, covariance, scale[i]))
    pixels = fourier_pixels(shape, PIXEL_SIZE, with_nyquist=True)
    transforms = pixels.of(forward(np.array([image.pixels.reshape(shape) for image in matrices]), 2))
    transfer = pixels.of(np.array(transfers)[..., : shape[1] // 2 + 1])
    images = FourierImages(pixels, transforms, transfer, noise, group, scale, norm)
    operators = np.array([operator(pixels, points, r) for r in rotations])
    return SmallSet(shape, averages, rotations, origins, views, matrices, images, operators, micrograph, truth)
