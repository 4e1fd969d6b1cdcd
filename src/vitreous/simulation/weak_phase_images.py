"""Images of a weak phase object from the map of its potential: the same as a wave through the atoms, many times faster.

The exit wave is 1 + i sigma Vz, and Vz is a central slice of the map's transform. With gamma = chi + asin(w)

    psi - 1 = sigma (i A - B),      A = IFT[Vz cos gamma],   B = IFT[Vz sin gamma]
    I = 1 - 2 sigma B + sigma^2 (A^2 + B^2)

A and B are real: no complex wave is needed. The slices are exact, by the non-uniform FFT; squares are taken on
finer pixels, so that nothing of them folds back. The first two terms are the image of the model `projection`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engine.chunks import chunks
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.transforms import crop_transform, forward, frequencies, inverse, pad_transform, shift_phases
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import CtfParameters
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.optics.electrons import interaction_constant
from vitreous.reconstruction.exact_projection import slice_points
from vitreous.reconstruction.projection import half_plane, slice_grid
from vitreous.simulation.images import contrast_transfer, odd_factor

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

POINTS_PER_CHUNK = 1 << 22  # Fourier pixels of slices that are held at a time
IMAGES_PER_PIECE = 8  # images that a thread treats at a time: they stay in the cache
SLICE_EPS = 1e-3  # asked of the non-uniform FFT on its small fine grid; the slices are good to 5e-5


def weak_phase_images(
    volume: Volume, particles: Particles, fine_box: int, *, scale: float = 1.0, threads: int = 1
) -> Iterator[Float[np.ndarray, "n y x"]]:
    """Noiseless images of all particles, float32, bright protein, CTF state raw: `scale (1 - I) / (2 sigma p)`.

    `volume` in volts; `fine_box` pixels of the same field are those on which squares are taken, 1.5 times the box or more.
    """
    assert particles.pose is not None
    grid = slice_grid(volume.box)
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    size = max(IMAGES_PER_PIECE, POINTS_PER_CHUNK // len(grid))
    with ThreadPoolExecutor(threads) as pool:
        for rows in chunks(np.arange(len(particles)), size):
            part = particles.rows(rows)
            assert part.pose is not None
            rotation = matrix_from_euler(part.pose.euler).astype(np.float32)
            points = slice_points(rotation, grid)
            slices = transform_at(data, points, eps=SLICE_EPS, upsampling=1.25, threads=threads).reshape(len(part), -1)
            pieces = [
                (half_plane(slices[piece], grid), part.rows(piece), fine_box, scale)
                for piece in chunks(np.arange(len(part)), IMAGES_PER_PIECE)
            ]
            yield from pool.map(_images, *zip(*pieces))


def _images(transforms: Complex[np.ndarray, "n y xh"], part: Particles, fine_box: int, scale: float) -> np.ndarray:
    group = part.used_optics()[0]
    assert part.pose is not None and group.box is not None and group.voltage is not None
    box, fine, pixel_size = (group.box, group.box), (fine_box, fine_box), part.pixel_size
    grids = frequencies(box, pixel_size)
    shift = -np.asarray(part.pose.shift, dtype=np.float32)
    transforms = transforms * shift_phases(shift, [k.astype(np.float32) for k in grids]) * odd_factor(part, grids)
    turned = replace(part, ctf=_turned(part))
    sine, cosine = (transforms * contrast_transfer(each, grids) for each in (part, turned))
    square = sum(inverse(pad_transform(each, box, fine), fine) ** 2 for each in (sine, cosine))
    # values of a padded image stay on their scale: those of Vz / pixel size, in volt
    factor = interaction_constant(group.voltage) * pixel_size / 2
    total = sine - np.float32(factor) * crop_transform(forward(square, 2), fine, box)
    return inverse(total, box) * np.float32(scale)


def _turned(part: Particles) -> CtfParameters:
    """The CTFs with a quarter turn of phase more: sin(gamma + pi/2) = cos(gamma)."""
    assert part.ctf is not None
    return replace(part.ctf, phase_shift=part.ctf.phase_shift + math.pi / 2)
