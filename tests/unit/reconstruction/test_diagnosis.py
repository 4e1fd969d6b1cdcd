"""The convention doctor on simulated particles whose faults are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler, random_rotations
from vitreous.geometry.symmetry import point_group
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.diagnosis import Status, clearly_more, diagnose, pixel_size_verdict, power_at_zeros
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid
from vitreous.reconstruction.trial import image_power, run_trial

BOX, PIXEL_SIZE, COUNT = 32, 4.0, 900
C1 = InversionSettings(point_group("C1").operators)


def blobs() -> np.ndarray:
    rng = np.random.default_rng(8)
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3, dtype=np.float32)
    for centre in rng.uniform(-7, 7, size=(9, 3)):
        volume += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * 1.3**2))
    return volume


@pytest.fixture(scope="module")
def particles() -> Particles:
    """Noisy, astigmatic, shifted images of blobs: SNR about 0.2."""
    rng = np.random.default_rng(2)
    grid = slice_grid(BOX)
    rotation = random_rotations(COUNT, rng)
    slices = half_plane(project(fourier_volume(blobs()), rotation.astype(np.float32), grid), grid)
    group = OpticsGroup(pixel_size=PIXEL_SIZE, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    defocus = rng.uniform(1e4, 2.4e4, COUNT)
    ctf = CtfParameters.of(defocus + 1500, defocus - 1500, np.full(COUNT, 0.4))
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX, PIXEL_SIZE), np.fft.rfftfreq(BOX, PIXEL_SIZE), indexing="ij")
    origin = rng.normal(0, 9.0, size=(COUNT, 2))
    moved = np.exp(2j * np.pi * (kx * origin[:, 0, None, None] + ky * origin[:, 1, None, None]))
    images = np.fft.fftshift(np.fft.irfft2(slices * ctf_of_particles(group, ctf, kx, ky) * moved, s=(BOX, BOX)), axes=(1, 2))
    images += rng.normal(0, images.std() / np.sqrt(0.2), size=images.shape)
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    halves = (np.arange(COUNT) % 2 + 1).astype(np.int8)
    return Particles(
        names, (group,), np.zeros(COUNT, dtype=int), Pose(euler_from_matrix(rotation), origin), ctf, halves, images=LoadedImages(images.astype(np.float32))
    )


def with_state(p: Particles, state: CtfState) -> Particles:
    return replace(p, optics=tuple(replace(g, ctf_state=state) for g in p.optics))


def filtered(p: Particles, power: bool) -> Particles:
    """The images really phase-flipped, or (`power`) really multiplied by their CTF; the file still says raw."""
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX, PIXEL_SIZE), np.fft.rfftfreq(BOX, PIXEL_SIZE), indexing="ij")
    ctf = ctf_of_particles(p.optics[0], p.ctf, kx, ky)
    transform = np.fft.rfft2(p.images.pixels) * (ctf if power else np.sign(ctf))
    return replace(p, images=LoadedImages(np.fft.irfft2(transform, s=(BOX, BOX)).astype(np.float32)))


def faults(p: Particles, settings: InversionSettings = C1) -> dict[str, str]:
    verdicts, _ = diagnose(p, settings)
    assert {v.check for v in verdicts} == {"contrast sign", "CTF state", "CTF values", "rotation convention", "shift sign and unit"}
    return {v.check: v.evidence for v in verdicts if v.status is Status.FAULT}


def test_right_conventions_pass(particles):
    verdicts, _ = diagnose(particles, C1)
    assert [v.status for v in verdicts] == [Status.PASS] * 5


FAULTS = {
    "inverted contrast": (lambda p: replace(p, images=LoadedImages(-p.images.pixels)), "contrast sign", "dark"),
    "negated shifts": (lambda p: replace(p, pose=Pose(p.pose.euler, -p.pose.shift)), "shift sign and unit", "negated"),
    "shifts in pixels": (lambda p: replace(p, pose=Pose(p.pose.euler, p.pose.shift / PIXEL_SIZE)), "shift sign and unit", "in pixels"),
    "shifts times pixel size": (lambda p: replace(p, pose=Pose(p.pose.euler, p.pose.shift * PIXEL_SIZE)), "shift sign and unit", "in angstrom"),
    "shift axes exchanged": (lambda p: replace(p, pose=Pose(p.pose.euler, p.pose.shift[:, ::-1])), "shift sign and unit", "exchanged"),
    "transposed rotations": (
        lambda p: replace(p, pose=Pose(euler_from_matrix(np.swapaxes(matrix_from_euler(p.pose.euler), 1, 2)), p.pose.shift)),
        "rotation convention",
        "transposed",
    ),
    "upside down": (
        lambda p: replace(p, pose=Pose(euler_from_matrix(np.diag([1.0, -1, -1]) @ matrix_from_euler(p.pose.euler)), p.pose.shift)),
        "rotation convention",
        "upside down",
    ),
    "defocus exchanged": (lambda p: replace(p, ctf=replace(p.ctf, defocus_u=p.ctf.defocus_v, defocus_v=p.ctf.defocus_u)), "CTF values", "exchanged"),
    "defocus of other particles": (lambda p: replace(p, ctf=p.ctf.rows(np.random.default_rng(0).permutation(COUNT))), "CTF values", ""),
    "flipped, called raw": (lambda p: filtered(p, False), "CTF state", "phase-flipped"),
    "raw, called flipped": (lambda p: with_state(p, CtfState.PHASE_FLIPPED), "CTF state", "raw"),
    "premultiplied, called raw": (lambda p: filtered(p, True), "CTF state", "premultiplied"),
    "raw, called premultiplied": (lambda p: with_state(p, CtfState.PREMULTIPLIED), "CTF state", "premultiplied"),
    "shuffled poses": (
        lambda p: replace(p, pose=Pose(p.pose.euler[np.random.default_rng(0).permutation(COUNT)], p.pose.shift)),
        "rotation convention",
        "say nothing",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_and_nothing_else(particles, name):
    spoil, check, words = FAULTS[name]
    found = faults(spoil(particles))
    assert list(found) == [check]
    assert words in found[check]


def test_two_faults_are_both_named(particles):
    spoiled = replace(particles, images=LoadedImages(-particles.images.pixels), pose=Pose(particles.pose.euler, -particles.pose.shift))
    assert set(faults(spoiled)) == {"contrast sign", "shift sign and unit"}


def test_dark_protein_that_is_declared_dark_passes(particles):
    dark = replace(particles, images=LoadedImages(-particles.images.pixels))
    assert faults(dark, replace(C1, contrast=Contrast.RAW)) == {}


@pytest.mark.parametrize(("scale", "status"), [(1.0, Status.PASS), (1.05, Status.FAULT), (0.95, Status.FAULT)])
def test_pixel_size_against_a_map(particles, scale, status):
    _, case = diagnose(particles, C1)
    verdict = pixel_size_verdict(case, blobs(), PIXEL_SIZE / scale)
    assert verdict.status is status
    measured = float(verdict.evidence.split("scaled by ")[1].split()[0])
    assert measured == pytest.approx(scale, abs=0.01)


def test_a_map_of_something_else_decides_nothing(particles):
    _, case = diagnose(particles, C1)
    noise = np.random.default_rng(0).normal(size=(BOX,) * 3).astype(np.float32)
    assert pixel_size_verdict(case, noise, PIXEL_SIZE).status is Status.UNKNOWN


def test_the_gain_is_the_explained_log_likelihood(particles):
    """The gain from sums of voxels equals the one from projected images: the definition, evaluated image by image."""
    from vitreous.reconstruction.backprojection import Accumulator
    from vitreous.reconstruction.trial import predicted_power

    power = image_power(particles.images.pixels)
    trial = run_trial(particles, C1, power)
    assert trial.gain.shape == (BOX // 2 + 1,)
    assert trial.total > 1000
    # Target of a single noiseless image set that the source's own map predicts: p = |p|, gain positive in every shell that has signal.
    first, second = trial.halves
    assert np.all(predicted_power(first, second)[2:8] > 0)
    assert np.all(predicted_power(replace(first, values=-first.values), second)[2:8] < 0)
    assert Accumulator(BOX).box == first.box


def test_noise_explains_nothing(particles):
    rng = np.random.default_rng(1)
    noise = replace(particles, images=LoadedImages(rng.normal(size=particles.images.shape).astype(np.float32)))
    total = run_trial(noise, C1, image_power(noise.images.pixels)).total
    # p has the standard deviation of root q: each of 17 shells gives a difference of a few nats at most.
    assert abs(total) < 72


def test_image_power_of_white_noise():
    images = np.random.default_rng(0).normal(0, 2.0, size=(400, 16, 16)).astype(np.float32)
    # sigma^2 N^2 in every shell; 400 images of at least 4 pixels a shell: 3 % standard error.
    assert image_power(images)[1:] == pytest.approx(np.full(8, 4.0 * 256), rel=0.15)


def test_power_at_zeros_tells_premultiplied_images(particles):
    assert power_at_zeros(particles) > 0.65
    assert power_at_zeros(filtered(particles, True)) < 0.35


def test_clearly_more_wants_both_nats_and_share():
    assert clearly_more(1100, 1000) and not clearly_more(1050, 1000)
    assert not clearly_more(1_000_100, 1_000_000)
