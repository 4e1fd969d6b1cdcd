"""Agreement with the others of the class: as defined, blind to contrast and to the particle's own noise, lost with a wrong pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.alignment.assignment import Assignment, unassigned
from vitreous.alignment.class_agreement import class_agreement, overall_agreement
from vitreous.alignment.classification import Classification, ClassifySettings
from vitreous.alignment.polar_images import masked_about
from vitreous.engine.workers import LocalWorkers
from vitreous.fourier.polar import polar_grid
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.direct_inversion import MASK_EDGE

BOX, PIXEL_SIZE, COUNT = 32, 4.0, 120
SETTINGS = ClassifySettings(classes=2, diameter=100.0)
LAST = 9  # rings with signal
# Blobs of two molecules, x and y in angstrom.
PLACES = (
    np.array([[-20.0, 4], [14, 12], [6, -18], [22, -6]]),
    np.array([[0.0, 22], [-18, -12], [16, -14], [2, 4]]),
)


def drawn(places: np.ndarray, psi: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Blobs at Rz(psi) r - origin, one image each."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL_SIZE
    cosine, sine = np.cos(psi)[:, None], np.sin(psi)[:, None]
    x = cosine * places[:, 0] + sine * places[:, 1] - origin[:, :1]
    y = -sine * places[:, 0] + cosine * places[:, 1] - origin[:, 1:]
    square = (axis - x[..., None])[:, :, None, :] ** 2 + (axis - y[..., None])[:, :, :, None] ** 2
    return np.exp(-square / (2 * 7.0**2)).sum(axis=1)


def made(noise: float, *, seed: int = 0) -> tuple[Particles, Classification]:
    """Images of two molecules through astigmatic CTFs with noise; the state of a classification that has found the truth."""
    rng = np.random.default_rng(seed)
    member = rng.integers(0, 2, COUNT).astype(np.int32)
    psi, origin = rng.uniform(-np.pi, np.pi, COUNT), rng.normal(0, 5, (COUNT, 2))
    images = np.where((member == 0)[:, None, None], drawn(PLACES[0], psi, origin), drawn(PLACES[1], psi, origin))
    group = OpticsGroup(
        pixel_size=PIXEL_SIZE, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    defocus = rng.uniform(1e4, 2e4, COUNT)
    ctf = CtfParameters.of(defocus + 2000, defocus - 2000, np.full(COUNT, 0.5))
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX, PIXEL_SIZE), np.fft.rfftfreq(BOX, PIXEL_SIZE), indexing="ij")
    images = np.fft.irfft2(np.fft.rfft2(images) * ctf_of_particles(group, ctf, kx, ky), s=(BOX, BOX))
    images += rng.normal(0, noise, images.shape)
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    particles = Particles(
        names, (group,), np.zeros(COUNT, dtype=int), ctf=ctf, images=LoadedImages(images.astype(np.float32))
    )
    euler = np.stack([np.zeros(COUNT), np.zeros(COUNT), psi], axis=-1)
    assignment = replace(unassigned(COUNT, Pose(euler, origin)), class_index=member)
    ratio = np.where(np.arange(BOX // 2) <= LAST, 20.0, 0.01)
    state = Classification(
        1,
        np.zeros((2, BOX, BOX), dtype=np.float32),
        np.array([0.5, 0.5]),
        np.full(2, 14.0),
        np.tile(ratio, (2, 1)),
        np.full((1, BOX // 2), noise**2),
        assignment,
    )
    return particles, state


def with_assignment(state: Classification, **changes) -> Classification:
    return replace(state, assignment=replace(state.assignment, **changes))


def turned_psi(assignment: Assignment, factor: float) -> Pose:
    return Pose(assignment.pose.euler * factor, assignment.pose.shift)


def by_definition(particles: Particles, state: Classification, row: int) -> np.ndarray:
    """The agreement of one particle by direct sums: transforms at turned points, and the average of the others made anew."""
    radius = SETTINGS.diameter / 2 / PIXEL_SIZE - MASK_EDGE / 2
    grid = polar_grid(BOX, LAST, extent=2 * (radius + MASK_EDGE))
    ring, theta = grid.ring[:, None], 2 * np.pi * np.arange(grid.angles // 2) / grid.angles
    place = np.arange(BOX) - BOX // 2
    member = state.assignment.class_index

    def own(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        psi, origin = state.assignment.pose.euler[i, 2], state.assignment.pose.shift[i] / PIXEL_SIZE
        image = masked_about(particles.images.read(np.array([i])), -origin[None], radius)[0]
        kx, ky = ring * np.cos(theta - psi) / BOX, ring * np.sin(theta - psi) / BOX
        across, up = (np.exp(-2j * np.pi * np.multiply.outer(k, place)) for k in (kx, ky))
        value = np.einsum("rhx,rhy,yx->rh", across, up, image.astype(float))
        value *= np.exp(-2j * np.pi * (kx * origin[0] + ky * origin[1]))
        transfer = ctf_of_particles(
            particles.optics[0], particles.ctf.rows(np.array([i])), kx / PIXEL_SIZE, ky / PIXEL_SIZE
        )[0]
        return value, value * transfer, transfer**2

    sums = [own(i) for i in np.flatnonzero(member == member[row])]
    value, data, weight = own(row)
    total, whole = sum(s[1] for s in sums) - data, sum(s[2] for s in sums)
    penalty = whole.mean(axis=1, keepdims=True) / (SETTINGS.tau_fudge * 20.0)
    average = total / (whole - weight + penalty)
    cross = (np.conj(average) * data).real.sum(axis=1)
    return cross / np.sqrt((np.abs(average) ** 2 * weight).sum(axis=1) * (np.abs(value) ** 2).sum(axis=1))


def test_it_is_what_the_definition_says():
    particles, state = made(0.3)
    found = class_agreement(particles, state, SETTINGS)
    assert found.shape == (COUNT, LAST)
    for row in (0, 7):
        # the non-uniform FFT is exact to 1e-4 of the largest value, sums are float32
        assert found[row] == pytest.approx(by_definition(particles, state, row), abs=3e-3)


def test_true_images_agree_and_noise_does_not():
    particles, state = made(0.3)
    pixels = particles.images.read(slice(None)).copy()
    pixels[:30] = np.random.default_rng(1).normal(0, 0.3, (30, BOX, BOX))
    mixed = replace(particles, images=LoadedImages(pixels))
    each, rings = overall_agreement(class_agreement(mixed, state, SETTINGS))
    assert 5 <= rings <= LAST
    # noise: the mean over 30 images of about pi k^2 points each is 0 within a few hundredths
    assert abs(each[:30].mean()) < 0.05 and each[30:].mean() > 0.3
    assert (each[:30] < 0.25).all()


def test_the_sign_of_an_image_counts_and_its_contrast_does_not():
    particles, state = made(0.1)
    before = class_agreement(particles, state, SETTINGS)
    for factor in (-1, 9):
        pixels = particles.images.read(slice(None)).copy()
        pixels[3] *= factor
        changed = class_agreement(replace(particles, images=LoadedImages(pixels)), state, SETTINGS)
        # it does not enter the average that it is compared with, but for the rounding of float32 sums
        assert changed[3] == pytest.approx(np.sign(factor) * before[3], abs=1e-3)
    assert before[3].mean() > 0.5


def test_a_wrong_pose_costs_the_agreement():
    particles, state = made(0.1)
    right = overall_agreement(class_agreement(particles, state, SETTINGS))[0].mean()
    pose = state.assignment.pose
    mirrored = with_assignment(state, pose=turned_psi(state.assignment, -1.0))
    moved = with_assignment(state, pose=Pose(pose.euler, -pose.shift))
    swapped = with_assignment(
        state, class_index=np.random.default_rng(2).permutation(state.assignment.class_index).astype(np.int32)
    )
    assert right > 0.8
    for wrong in (mirrored, moved, swapped):
        assert class_agreement(particles, wrong, SETTINGS).mean() < right - 0.1


def test_who_is_alone_or_in_no_class_agrees_with_nobody():
    particles, state = made(0.3)
    member = state.assignment.class_index.copy()
    member[member == 1] = 0
    member[5], member[9] = 1, -1
    found = class_agreement(particles, with_assignment(state, class_index=member), SETTINGS)
    assert (found[[5, 9]] == 0).all() and np.abs(found[0]).max() > 0
    nobody = with_assignment(state, class_index=np.full(COUNT, -1, dtype=np.int32))
    assert (class_agreement(particles, nobody, SETTINGS) == 0).all()


def test_the_number_of_workers_changes_nothing():
    particles, state = made(0.3)
    one, two = (class_agreement(particles, state, SETTINGS, workers=LocalWorkers(n)) for n in (1, 2))
    assert np.array_equal(one, two)


def test_progress_comes_to_its_end():
    particles, state = made(0.3)
    seen: list[tuple[int, int]] = []
    class_agreement(particles, state, SETTINGS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_rings_on_which_nobody_agrees_do_not_count():
    agreement = np.tile([0.05, 0.5, 0.4, 0.3, 0.1, 0.3], (6, 1))  # a low value on the innermost rings means little
    each, rings = overall_agreement(agreement)
    assert rings == 4 and each == pytest.approx(0.3125)
