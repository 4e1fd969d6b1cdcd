"""Recorded images made ready for matching: masked, moved to where the particle is thought to be, on rings, with their CTFs and noise.

    X(k) = C(k) A(Rz^T k) exp(2 pi i k.o) + n(k),    E|n|^2 = sigma^2(ring)

with the origin o of the file (the translation that brings the particle to the centre). `data` = X C w / sigma^2 and `power` = C^2 w / sigma^2 are all that the
likelihood needs of an image: L = sum data a - power |A|^2 / 2 over whole circles, w being the Fourier pixels that a point stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.polar import EPS, PolarGrid, angular_spectrum
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import ctf_of_particles, has_odd_phase, odd_phase
from vitreous.reconstruction.direct_inversion import MASK_EDGE, MULTIPLIED, check_pixels

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


@dataclass(frozen=True)
class ImageSettings:
    """How images are read. `radius` of the soft disc around the particle, in pixels. Contrast of the protein in the images."""

    radius: float
    use_ctf: bool = True
    contrast: Contrast = Contrast.INVERTED


@dataclass(frozen=True)
class PolarImages:
    """n images of one noise group on the rings of `grid`.

    `values` [n, r, h]: transforms X, masked, with the particle at `origin` [n, 2] (pixels, the origin of the file's
    convention that has been taken out already). `transfer` [n, r, h]: CTF.
    `norm` [n]: noise of the image relative to that of its group; values are divided by it.
    """

    grid: PolarGrid
    values: Complex[np.ndarray, "n r h"]
    transfer: Float[np.ndarray, "n r h"]
    origin: Float[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, selection: np.ndarray | slice) -> PolarImages:
        return PolarImages(self.grid, self.values[selection], self.transfer[selection], self.origin[selection])

    def within(self, last: int) -> PolarImages:
        """The rings up to `last`."""
        count = self.grid.within(last).shape[0]
        return replace(
            self, grid=self.grid.within(last), values=self.values[:, :count], transfer=self.transfer[:, :count]
        )

    def weighted(self, noise: Float[np.ndarray, " r"], scale: Float[np.ndarray, " n"]) -> WeightedImages:
        """Data and power for the noise variance of each ring and the contrast `scale` of each image."""
        weight = (self.grid.weight / noise).astype(np.float32)[:, None]
        transfer = self.transfer * scale.astype(np.float32)[:, None, None]
        return WeightedImages(self.grid, self.values * (transfer * weight), transfer * transfer * weight, self.origin)


@dataclass(frozen=True)
class WeightedImages:
    """`data` [n, r, h] complex, X C w / sigma^2; `power` [n, r, h] real, C^2 w / sigma^2; `origin` as in PolarImages."""

    grid: PolarGrid
    data: Complex[np.ndarray, "n r h"]
    power: Float[np.ndarray, "n r h"]
    origin: Float[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.data)

    def rows(self, selection: np.ndarray | slice) -> WeightedImages:
        return WeightedImages(self.grid, self.data[selection], self.power[selection], self.origin[selection])

    def within(self, last: int) -> WeightedImages:
        """The rings up to `last`."""
        count = self.grid.within(last).shape[0]
        return WeightedImages(self.grid.within(last), self.data[:, :count], self.power[:, :count], self.origin)

    def moved(self, origin: Float[np.ndarray, "n 2"]) -> WeightedImages:
        """The images with other origins (pixels) taken out."""
        difference = origin - self.origin
        if not difference.any():
            return self
        return replace(self, data=self.data * shift_factors(self.grid, -difference), origin=origin)

    def spectra(self, band: int) -> Complex[np.ndarray, "n r b"]:
        """Angular spectra of the data."""
        return angular_spectrum(self.data, band)

    def power_spectra(self, band: int) -> Complex[np.ndarray, "n r b"]:
        """Angular spectra of the power, a function that repeats after half a turn: made from half a circle."""
        return power_spectra(self.power, band)


def power_spectra(power: Float[np.ndarray, "n r h"], band: int) -> Complex[np.ndarray, "n r b"]:
    """Fourier coefficients of functions that repeat after half a turn, [n, r, band]."""
    import scipy.fft

    return np.asarray(scipy.fft.rfft(power, axis=-1, workers=1))[..., :band]


def shift_factors(grid: PolarGrid, shift: Float[np.ndarray, "n 2"]) -> Complex[np.ndarray, "n r h"]:
    """exp(2 pi i k.o) for shifts o in pixels: along a ray the powers of one number."""
    theta = 2 * np.pi * np.arange(grid.angles // 2) / grid.angles
    ray = (np.multiply.outer(shift[:, 0], np.cos(theta)) + np.multiply.outer(shift[:, 1], np.sin(theta))) / grid.box
    step = np.exp((2j * np.pi) * ray).astype(np.complex64)
    factors = np.empty((len(shift), *grid.shape), dtype=np.complex64)
    factors[:, 0] = step if grid.first == 1 else np.exp((2j * np.pi * grid.first) * ray)
    for ring in range(1, grid.shape[0]):
        np.multiply(factors[:, ring - 1], step, out=factors[:, ring])
    return factors


def read_polar_images(
    particles: Particles, grid: PolarGrid, settings: ImageSettings, origin: Float[np.ndarray, "n 2"], norm: np.ndarray
) -> PolarImages:
    """Read, mask and transform particles of one optics group whose `origin` [n, 2] is in pixels. Divides by `norm` [n]."""
    assert particles.images is not None
    group = single_group(particles)
    pixels = particles.images.read(slice(None))
    check_pixels(pixels, particles)
    pixels = masked_about(pixels, -origin, settings.radius)
    pixels /= norm.astype(np.float32)[:, None, None]
    kx, ky = recorded_frequencies(grid, group)
    points = np.stack([kx.ravel(), ky.ravel()], axis=-1)
    values = transform_at(pixels, points / grid.box, eps=EPS, threads=1).reshape(len(pixels), *grid.shape)
    per_angstrom = 1 / (grid.box * particles.pixel_size)
    moved = (
        shift_factors(grid, -origin)
        if group.magnification == ((1.0, 0.0), (0.0, 1.0))
        else _phases(points, -origin, grid)
    )
    values = values * moved
    sign = np.float32(-1 if settings.contrast is Contrast.RAW else 1)
    if not settings.use_ctf or particles.ctf is None:
        return PolarImages(grid, values, np.full(values.shape, sign, dtype=np.float32), origin)
    transfer = ctf_of_particles(
        group, particles.ctf, kx * per_angstrom, ky * per_angstrom, contrast=settings.contrast, dtype=np.float32
    )
    if group.ctf_state is CtfState.PHASE_FLIPPED:
        transfer = sign * np.abs(transfer)
    if has_odd_phase(group):
        values = values * wave_factor(-odd_phase(group, kx * per_angstrom, ky * per_angstrom)).astype(np.complex64)
    return PolarImages(grid, values, transfer.astype(np.float32), origin)


def single_group(particles: Particles) -> OpticsGroup:
    """The optics group of particles of one group. Raises DataProblem for CTF states that alignment cannot take."""
    group = particles.used_optics()[0]
    if group.ctf_state in MULTIPLIED:
        raise DataProblem(
            f"the images of optics group '{group.name}' have been multiplied by their CTF ({group.ctf_state.value})",
            "images as recorded, or phase-flipped: their noise is known",
            "align the images before that step",
        )
    return group


def recorded_frequencies(grid: PolarGrid, group: OpticsGroup) -> tuple[np.ndarray, np.ndarray]:
    """(kx, ky) [r, h] in cycles per box where the group recorded what belongs to the points of the grid: M^-1 k."""
    kx, ky = grid.frequencies
    inverse = np.linalg.inv(np.asarray(group.magnification))
    return inverse[0, 0] * kx + inverse[0, 1] * ky, inverse[1, 0] * kx + inverse[1, 1] * ky


def _phases(points: np.ndarray, shift: np.ndarray, grid: PolarGrid) -> np.ndarray:
    turns = (shift @ points.T / grid.box).reshape(len(shift), *grid.shape)
    return np.exp(2j * np.pi * turns).astype(np.complex64)


def masked_about(images: Float[np.ndarray, "n y x"], centre: Float[np.ndarray, "n 2"], radius: float) -> np.ndarray:
    """Images less their background (the mean beyond the disc), times a soft disc of `radius` pixels about `centre` (x, y from the origin)."""
    from vitreous.reconstruction.insertion_kernel import mask_discs

    middle = np.asarray(centre, dtype=np.float64) + images.shape[-1] // 2
    masked = np.empty(images.shape, dtype=np.float32)
    mask_discs(images, middle[:, 0], middle[:, 1], float(radius), MASK_EDGE, masked)
    return masked


def disc_area(radius: float) -> float:
    """The sum of the squared soft disc in pixels: the share of white noise that it lets through, times the pixels of the box."""
    inner, edge = radius, MASK_EDGE
    rim = np.linspace(0, 1, 201)
    profile = (0.5 + 0.5 * np.cos(np.pi * rim)) ** 2
    return float(np.pi * inner**2 + np.trapezoid(profile * 2 * np.pi * (inner + rim * edge), rim * edge))
