"""The convention doctor on simulated particles whose faults are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler
from vitreous.geometry.symmetry import point_group
from vitreous.model.particles import LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles
from vitreous.optics.ctf_correction import corrected_images, corrected_optics
from vitreous.reconstruction.diagnosis import (
    Status,
    clearly_more,
    diagnose,
    pixel_size_verdict,
    power_at_zeros,
    power_left_at_zeros,
)
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.trial import image_power, predicted_power, run_trial

BOX, PIXEL_SIZE, COUNT = 32, 4.0, 900
C1 = InversionSettings(point_group("C1").operators)


@pytest.fixture
def particles(blob_particles) -> Particles:
    return blob_particles


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
    assert {v.check for v in verdicts} == {
        "contrast sign",
        "CTF state",
        "CTF values",
        "rotation convention",
        "shift sign and unit",
    }
    return {v.check: v.evidence for v in verdicts if v.status is Status.FAULT}


def test_right_conventions_pass(particles):
    verdicts, _ = diagnose(particles, C1)
    assert [v.status for v in verdicts] == [Status.PASS] * 5


FAULTS = {
    "inverted contrast": (lambda p: replace(p, images=LoadedImages(-p.images.pixels)), "contrast sign", "dark"),
    "negated shifts": (lambda p: replace(p, pose=Pose(p.pose.euler, -p.pose.shift)), "shift sign and unit", "negated"),
    "shifts in pixels": (
        lambda p: replace(p, pose=Pose(p.pose.euler, p.pose.shift / PIXEL_SIZE)),
        "shift sign and unit",
        "in pixels",
    ),
    "shifts times pixel size": (
        lambda p: replace(p, pose=Pose(p.pose.euler, p.pose.shift * PIXEL_SIZE)),
        "shift sign and unit",
        "in angstrom",
    ),
    "shift axes exchanged": (
        lambda p: replace(p, pose=Pose(p.pose.euler, p.pose.shift[:, ::-1])),
        "shift sign and unit",
        "exchanged",
    ),
    "transposed rotations": (
        lambda p: replace(
            p, pose=Pose(euler_from_matrix(np.swapaxes(matrix_from_euler(p.pose.euler), 1, 2)), p.pose.shift)
        ),
        "rotation convention",
        "transposed",
    ),
    "upside down": (
        lambda p: replace(
            p, pose=Pose(euler_from_matrix(np.diag([1.0, -1, -1]) @ matrix_from_euler(p.pose.euler)), p.pose.shift)
        ),
        "rotation convention",
        "upside down",
    ),
    "defocus exchanged": (
        lambda p: replace(p, ctf=replace(p.ctf, defocus_u=p.ctf.defocus_v, defocus_v=p.ctf.defocus_u)),
        "CTF values",
        "exchanged",
    ),
    "defocus of other particles": (
        lambda p: replace(p, ctf=p.ctf.rows(np.random.default_rng(0).permutation(COUNT))),
        "CTF values",
        "",
    ),
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
    spoiled = replace(
        particles, images=LoadedImages(-particles.images.pixels), pose=Pose(particles.pose.euler, -particles.pose.shift)
    )
    assert set(faults(spoiled)) == {"contrast sign", "shift sign and unit"}


def test_dark_protein_that_is_declared_dark_passes(particles):
    dark = replace(particles, images=LoadedImages(-particles.images.pixels))
    assert faults(dark, replace(C1, contrast=Contrast.RAW)) == {}


@pytest.mark.parametrize(("scale", "status"), [(1.0, Status.PASS), (1.05, Status.FAULT), (0.95, Status.FAULT)])
def test_pixel_size_against_a_map(particles, blob_map, scale, status):
    _, case = diagnose(particles, C1)
    verdict = pixel_size_verdict(case, blob_map, PIXEL_SIZE / scale)
    assert verdict.status is status
    measured = float(verdict.evidence.split("scaled by ")[1].split()[0])
    assert measured == pytest.approx(scale, abs=0.01)


def test_a_mirrored_map_tests_the_pixel_size_as_well(particles, blob_map):
    _, case = diagnose(particles, C1)
    mirrored = np.roll(blob_map[::-1], 1, axis=0)  # z to -z about the origin at N // 2
    verdict = pixel_size_verdict(case, mirrored, PIXEL_SIZE)
    assert verdict.status is Status.PASS and "mirror image" in verdict.evidence


def test_a_map_of_something_else_decides_nothing(particles):
    _, case = diagnose(particles, C1)
    noise = np.random.default_rng(0).normal(size=(BOX,) * 3).astype(np.float32)
    assert pixel_size_verdict(case, noise, PIXEL_SIZE).status is Status.UNKNOWN


def test_the_gain_has_a_sign(particles):
    """A map predicts the images of the other half; its negative predicts them as wrongly."""
    trial = run_trial(particles, C1, image_power(particles.images.pixels))
    assert trial.gain.shape == (BOX // 2 + 1,) and trial.total > 1000
    first, second = trial.halves
    gain = predicted_power(first, second)
    assert np.all(gain[2:8] > 0)
    assert np.array_equal(predicted_power(replace(first, values=-first.values), second), -gain)


def test_the_gain_is_that_of_projected_images(particles):
    """The sums over voxels equal the sums over images that they stand for: slices of the map against each image."""
    from vitreous.reconstruction.projection import FourierVolume, project, slice_grid
    from vitreous.reconstruction.trial import accumulate

    few = particles.rows(np.arange(60))
    source = accumulate(particles.rows(np.arange(60, 500)), C1)
    target = accumulate(few, C1)
    size = source.values.shape[0]
    # A map that is the same in both computations: the source's values, one voxel of border added as slices are read.
    border = ((1, 1), (1, 1), (0, 1))
    data = np.pad(source.values, border)
    grid = slice_grid(BOX)
    ctf = ctf_of_particles(few.optics[0], few.ctf, grid.kx / (BOX * PIXEL_SIZE), grid.ky / (BOX * PIXEL_SIZE))
    slices = project(FourierVolume(data[:, :, : size // 2 + 2], BOX, 2), matrix_from_euler(few.pose.euler), grid)
    images = np.fft.rfft2(np.fft.ifftshift(few.images.pixels, axes=(1, 2)))[:, grid.row, grid.column]
    origin = few.pose.shift / PIXEL_SIZE
    images = images * np.exp(-2j * np.pi / BOX * (np.outer(origin[:, 0], grid.kx) + np.outer(origin[:, 1], grid.ky)))
    by_images = np.real(np.conj(images) * ctf * slices).sum()
    inner = np.real(np.conj(target.values) * source.values)
    # Voxels at x = 0 hold both of each pair (k, -k) of the target's points: they count half.
    by_voxels = inner[:, :, 1:].sum() + inner[:, :, 0].sum() / 2
    assert by_voxels == pytest.approx(
        by_images, rel=0.02
    )  # a slice through x = 0 is read from one side and inserted from both


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


@pytest.mark.parametrize(("snr", "values"), [(0.1, Status.PASS), (10.0, Status.UNKNOWN)])
def test_wiener_filtered_images_are_known_by_the_power_that_their_filter_leaves(particles, snr, values):
    group = particles.optics[0]
    pixels = corrected_images(particles.images.pixels, group, particles.ctf, CtfState.WIENER, snr=snr)
    optics = (corrected_optics(group, CtfState.WIENER, snr=snr),)
    verdicts = {v.check: v for v in diagnose(replace(particles, images=LoadedImages(pixels), optics=optics), C1)[0]}
    assert {v.status for v in verdicts.values()} <= {Status.PASS, values}
    assert verdicts["CTF state"].status is Status.PASS and "wiener_filtered" in verdicts["CTF state"].evidence
    assert verdicts["CTF values"].status is values
    if snr < 1:  # raw images that are called filtered; those filtered for a high ratio look like raw ones
        assert "the images are not" in faults(replace(particles, optics=optics))["CTF state"]


def test_power_left_at_zeros():
    """Nothing has been taken away, or all that the CTF takes, or something has been added."""
    assert power_left_at_zeros(CtfState.PHASE_FLIPPED) == power_left_at_zeros(CtfState.RAW) == 1
    assert power_left_at_zeros(CtfState.WIENER, 1e-6) == pytest.approx(
        power_left_at_zeros(CtfState.PREMULTIPLIED), rel=1e-4
    )
    assert power_left_at_zeros(CtfState.WIENER, 10.0) > 1  # what the CTF has weakened is raised


def test_clearly_more_wants_both_nats_and_share():
    assert clearly_more(1100, 1000) and not clearly_more(1050, 1000)
    assert not clearly_more(1_000_100, 1_000_000)
