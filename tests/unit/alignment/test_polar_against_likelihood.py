"""The engine's polar likelihood against the exact Cartesian one, for masked particles.

Both see the same masked images, references, CTFs, noise and alternatives. They differ in that the engine sums over points on rings, each
standing for 2 pi k / M Fourier pixels, from ring 1 on, in single precision; the exact form sums over the Fourier pixels of the same shells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from vitreous.alignment.cells import in_image
from vitreous.alignment.fourier_pixels import fourier_pixels
from vitreous.alignment.likelihood import FourierImages, log_likelihood, posterior
from vitreous.alignment.polar_images import ImageSettings, masked_about, read_polar_images
from vitreous.alignment.reference_tables import Alternatives, ReferenceTables
from vitreous.alignment.turning import image_rows
from vitreous.fourier.polar import polar_grid, to_polar
from vitreous.fourier.transforms import forward, frequencies, inverse, without_nyquist
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reference.alignment import rotation_in_plane

PIXEL_SIZE, COUNT, CLASSES = 3.5, 10, 3
PSI = 2 * math.pi * (np.arange(60) + 0.5) / 60
SHIFT = np.stack(np.meshgrid(*[np.arange(-2.0, 3.0)] * 2), axis=-1).reshape(-1, 2)
# A posterior is moved by half the sum of |difference|. The noise of one image of 32 x 32 pixels is known to sqrt(2 / 1024) = 4 % from
# the image itself, so what an error of so much does to posteriors is no loss.
NOISE_ERROR = 0.04
# Root mean square error of the log-likelihood among the alternatives in play, in nat: probabilities then err by 5 %.
IN_PLAY = 0.05
# Alternatives that are e^10 less probable than the best may err by this much: they stay out of play.
FAR = 0.5


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    """Products of small matrices: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class Tables:
    """log-likelihoods [n, k, psi, t] of both, and the true alternatives [n, 3]."""

    exact: np.ndarray
    polar: np.ndarray
    truth: np.ndarray


def transform_at_points(images: np.ndarray, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """[k, p]: sum over pixels of image exp(-2 pi i k.r), k in cycles per pixel."""
    place = np.arange(images.shape[-1]) - images.shape[-1] // 2
    along_x, along_y = (np.exp(-2j * np.pi * np.outer(k, place)) for k in (kx, ky))
    return np.einsum("kyx,py,px->kp", images.astype(float), along_y, along_x, optimize=True)


def turned(averages: np.ndarray, psi: float, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """[k, p]: transforms of the averages, turned by psi, at frequencies in cycles per pixel: A(Rz(psi)^T k)."""
    x, y = rotation_in_plane(psi).T @ np.stack([kx, ky])
    return transform_at_points(averages, x, y)


def objects(box: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Class averages within a disc, masked as the engine masks its own."""
    place = np.arange(box) - box // 2
    averages = np.zeros((CLASSES, box, box), dtype=np.float32)
    for average in averages:
        for reach, angle, height in zip(
            rng.uniform(0, 0.75 * radius, 10), rng.uniform(0, 7, 10), rng.uniform(0.4, 1.2, 10)
        ):
            x, y = reach * np.cos(angle), reach * np.sin(angle)
            average += height * np.exp(-((place[:, None] - y) ** 2 + (place - x) ** 2) / (2 * 1.5**2))
    return masked_about(averages, np.zeros((CLASSES, 2)), radius)


def particles_of(box: int, averages: np.ndarray, snr: float, rng: np.random.Generator):
    """Images of the averages with astigmatic CTFs and white noise; their truth [n, 3] and noise variance."""
    group = OpticsGroup(
        pixel_size=PIXEL_SIZE, box=box, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    defocus = rng.uniform(8e3, 2e4, COUNT)
    ctf = CtfParameters.of(defocus, defocus - 600, np.full(COUNT, 0.4))
    transfer = ctf_of_particles(group, ctf, *frequencies((box, box), PIXEL_SIZE))
    truth = np.stack([rng.integers(0, size, COUNT) for size in (CLASSES, len(PSI), len(SHIFT))], axis=1)
    kx, ky = (grid.ravel() for grid in np.broadcast_arrays(*frequencies((box, box))))
    seen = np.empty((COUNT, box, box))
    for i, (k, p, t) in enumerate(truth):
        x, y = in_image(SHIFT[t], PSI[p])
        values = turned(averages[k : k + 1], PSI[p], kx, ky)[0] * np.exp(2j * np.pi * (kx * x + ky * y))
        seen[i] = inverse(without_nyquist(values.reshape(box, -1) * transfer[i], (box, box)), (box, box))
    variance = float(np.mean(seen**2) / snr)
    images = (seen + rng.normal(0, math.sqrt(variance), seen.shape)).astype(np.float32)
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    pose = Pose(np.zeros((COUNT, 3)), np.zeros((COUNT, 2)))
    particles = Particles(
        names, (group,), np.zeros(COUNT, dtype=int), pose, ctf, None, images=LoadedImages(images)
    )  # fmt: skip
    return particles, images, transfer, truth, variance


def tables(box: int, radius: float, last: int, *, snr: float = 0.05, colour: float = 3.0, seed: int = 0) -> Tables:
    rng = np.random.default_rng(seed)
    averages = objects(box, radius, rng)
    particles, images, transfer, truth, variance = particles_of(box, averages, snr, rng)
    shells = np.arange(last + 1.0)
    noise = variance * (1 + colour / (1 + shells))  # a spectrum, as it would be assumed
    centre = np.zeros((COUNT, 2))

    grid = polar_grid(box, last, extent=2 * (radius + 3))
    read = read_polar_images(particles, grid, ImageSettings(radius), centre, np.ones(COUNT))
    weighted = read.weighted(noise[grid.ring] * box**2, np.ones(COUNT))
    references = ReferenceTables(to_polar(averages, grid), grid, Alternatives(PSI, SHIFT))
    rows = image_rows(weighted.spectra(references.band)), image_rows(weighted.power_spectra(references.power_band))
    polar = references.log_likelihood(*rows).transpose(1, 2, 0, 3).astype(float)

    pixels = fourier_pixels((box, box), PIXEL_SIZE)
    pixels = pixels.rows((pixels.shell >= 1) & (pixels.shell <= last))
    masked = forward(masked_about(images, centre, radius).astype(float), 2)
    exact_images = FourierImages(pixels, pixels.of(masked), pixels.of(transfer).astype(float), noise[None])
    exact = np.empty(polar.shape)
    for index, psi in enumerate(PSI):
        views = turned(averages, psi, pixels.kx * PIXEL_SIZE, pixels.ky * PIXEL_SIZE)[:, None]
        shifts = in_image(SHIFT, np.full(len(SHIFT), psi)) * PIXEL_SIZE
        exact[:, :, index] = log_likelihood(exact_images, views, shifts)[:, :, 0]
    return Tables(exact, polar, truth)


def moved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much of each image's posterior lies elsewhere: half the sum of |difference|, [n]."""
    return 0.5 * np.abs(posterior(one).probability - posterior(other).probability).sum(axis=(1, 2, 3))


CASES = {"even": (32, 9.0, 14), "odd": (33, 12.0, 15), "wide": (32, 12.0, 14), "low": (32, 9.0, 8)}


@pytest.fixture(scope="module", params=list(CASES))
def case(request) -> Tables:
    return tables(*CASES[request.param])


def test_posteriors_move_less_than_by_the_error_of_the_noise(case):
    change = moved(case.polar, case.exact)
    error = moved(case.exact * (1 + NOISE_ERROR), case.exact)
    assert change.mean() < error.mean()
    assert change.max() < 0.04
    assert posterior(case.exact).entropy.mean() > 1  # there is something to move: about three alternatives or more


def test_log_likelihoods_differ_by_a_constant(case):
    """A constant for each image changes nothing: what is left among the alternatives in play, and further away."""
    found = posterior(case.exact)
    difference = case.polar - case.exact
    mean = np.sum(found.probability * difference, axis=(1, 2, 3), keepdims=True)
    spread = np.sqrt(np.sum(found.probability * (difference - mean) ** 2, axis=(1, 2, 3)))
    assert spread.max() < IN_PLAY * 1.5 and spread.mean() < IN_PLAY
    near = case.exact > case.exact.max(axis=(1, 2, 3), keepdims=True) - 10
    assert np.abs((difference - mean)[near]).max() < FAR


@pytest.mark.parametrize("colour", [0.0, 3.0])
def test_evidence(colour):
    """The sums over the lowest rings are over few pixels, which do not lie as evenly as the points: a fraction of a nat, the same for all
    alternatives of an image. A nat in the evidence of an image is what one number more or less in the model would make.
    """
    both = tables(*CASES["wide"], colour=colour)
    exact, polar = posterior(both.exact).log_evidence, posterior(both.polar).log_evidence
    assert np.abs(polar - exact).max() < 1
    assert abs(np.mean(polar - exact)) < 0.25
    assert exact.mean() > 5


def test_what_is_most_probable_is_the_same(case):
    exact, polar = posterior(case.exact), posterior(case.polar)
    same = np.all(exact.best == polar.best, axis=1)
    assert same.mean() >= 0.8
    other = exact.probability[(np.arange(COUNT), *polar.best.T)]
    np.testing.assert_allclose(other, exact.maximum, rtol=0.25)  # where it is not, it was a draw


def test_wrong_signs_and_factors_are_noticed():
    case = tables(*CASES["even"], snr=0.3)
    assert moved(case.polar, case.exact).max() < 0.04
    truth = (np.arange(COUNT), *case.truth.T)
    assert posterior(case.exact).probability[truth].mean() > 0.5
    assert moved(case.polar[:, :, ::-1], case.exact).mean() > 0.9  # psi -> -psi
    assert moved(case.polar[..., ::-1], case.exact).mean() > 0.8  # t -> -t
    assert moved(case.polar / 2, case.exact).mean() > 0.1  # half the circle
    assert moved(-case.polar, case.exact).mean() > 0.9  # contrast


def test_the_quadrature_is_what_is_left_over():
    """A box that is large against the particle leaves less of it: what lies more than a box apart aliases."""
    near, far = tables(32, 9.0, 14, snr=0.05), tables(48, 9.0, 21, snr=0.05 * (32 / 48) ** 2)
    assert moved(far.polar, far.exact).mean() < 0.75 * moved(near.polar, near.exact).mean()
