"""Direct Fourier inversion: what it must recover, and what must not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.fourier.shells import shell_sum
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler, random_rotations
from vitreous.geometry.symmetry import point_group
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.direct_inversion import (
    InversionSettings,
    accumulate,
    noise_to_signal,
    reconstruct,
    split_symmetry,
    symmetrise,
)
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid

PIXEL_SIZE, BOX, COUNT = 4.0, 24, 600
SNR = 3.0  # of Wiener-filtered images
OPTICS = OpticsGroup(pixel_size=PIXEL_SIZE, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)


def truth(symmetry: str = "C1", seed: int = 5) -> np.ndarray:
    """Gaussian blobs in a third of the box, repeated by the point group."""
    rng = np.random.default_rng(seed)
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3)
    for centre in rng.uniform(-6, 6, size=(6, 3)):
        for operator in point_group(symmetry).operators:
            a, b, c = operator @ centre
            volume += np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 1.2**2))
    return volume.astype(np.float32)


def particles_of(
    volume: np.ndarray,
    *,
    state: CtfState = CtfState.RAW,
    contrast: Contrast = Contrast.INVERTED,
    noise: float = 0.0,
    optics: OpticsGroup = OPTICS,
) -> Particles:
    """Images by the definition of the image: slice x CTF, moved from the centre to -origin."""
    rng = np.random.default_rng(1)
    grid = slice_grid(BOX)
    rotation = random_rotations(COUNT, rng)
    slices = half_plane(project(fourier_volume(volume), rotation.astype(np.float32), grid), grid)
    defocus = rng.uniform(8e3, 2.2e4, COUNT)
    parameters = CtfParameters.of(defocus + 300, defocus - 300, rng.uniform(0, np.pi, COUNT))
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX, PIXEL_SIZE), np.fft.rfftfreq(BOX, PIXEL_SIZE), indexing="ij")
    ctf = ctf_of_particles(optics, parameters, kx, ky, contrast=contrast)
    sign = (
        1 if contrast is Contrast.INVERTED else -1
    )  # dark protein stays dark when phases are flipped or the CTF multiplied in
    factor = {
        CtfState.RAW: ctf,
        CtfState.PHASE_FLIPPED: sign * np.abs(ctf),
        CtfState.PREMULTIPLIED: sign * ctf**2,
        CtfState.WIENER: sign * ctf**2 / (ctf**2 + 1 / SNR),
    }[state]
    origin = rng.normal(0, 6.0, size=(COUNT, 2))
    moved = np.exp(2j * np.pi * (kx * origin[:, 0, None, None] + ky * origin[:, 1, None, None]))
    images = np.fft.fftshift(np.fft.irfft2(slices * factor * moved, s=(BOX, BOX)), axes=(1, 2))
    images += noise * rng.normal(size=images.shape)
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    halves = (np.arange(COUNT) % 2 + 1).astype(np.int8)
    pose = Pose(euler_from_matrix(rotation), origin)
    return Particles(
        names,
        (replace(optics, ctf_state=state, wiener_snr=SNR if state is CtfState.WIENER else None),),
        np.zeros(COUNT, dtype=int),
        pose,
        parameters,
        halves,
        contrast,
        LoadedImages(images.astype(np.float32)),
    )


C1 = point_group("C1").operators


def agreement(volume: np.ndarray, other: np.ndarray) -> np.ndarray:
    return fourier_shell_correlation(volume.astype(np.float64), other.astype(np.float64)).correlation[1:11]


def amplitude(volume: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Per shell, how much of the true amplitude a map has: `<map, truth> / <truth, truth>`."""
    a, b = (np.fft.rfftn(np.fft.ifftshift(v)) for v in (volume, true))
    return shell_sum(np.real(a * np.conj(b)), true.shape) / shell_sum(np.abs(b) ** 2, true.shape)


@pytest.mark.parametrize("state", list(CtfState))
@pytest.mark.parametrize("contrast", [Contrast.INVERTED, Contrast.RAW])
def test_noiseless_images_give_the_truth_back(state, contrast):
    """Every CTF state and both contrasts; the sign of the density comes out positive. What is lost is interpolation: a percent up to
    3/4 of Nyquist and more beyond, where blobs of 1.2 voxels have 1 % of their amplitude left."""
    volume = truth()
    result = reconstruct(particles_of(volume, state=state, contrast=contrast), InversionSettings(C1, contrast=contrast))
    assert agreement(volume, result.map)[:9].min() > 0.99
    assert np.vdot(volume, result.map) > 0


@pytest.mark.parametrize("contrast", [Contrast.INVERTED, Contrast.RAW])
def test_wiener_filtered_images_give_the_map_of_premultiplied_ones(contrast):
    """With noise and the ratio of the filter known, nothing is lost: CTF^2 + 1/snr takes one to the other. Float32 leaves 1e-6."""
    noisy, settings = particles_of(truth(), noise=0.3, contrast=contrast), InversionSettings(C1, contrast=contrast)
    kx, ky = np.fft.rfftfreq(BOX, PIXEL_SIZE)[None, :], np.fft.fftfreq(BOX, PIXEL_SIZE)[:, None]
    ctf = ctf_of_particles(OPTICS, noisy.ctf, kx, ky)
    maps = {}
    for state, factor in {CtfState.PREMULTIPLIED: ctf, CtfState.WIENER: ctf / (ctf**2 + 1 / SNR)}.items():
        images = np.fft.irfft2(np.fft.rfft2(noisy.images.pixels) * factor, s=(BOX, BOX)).astype(np.float32)
        optics = (replace(OPTICS, ctf_state=state, wiener_snr=SNR if state is CtfState.WIENER else None),)
        maps[state] = reconstruct(replace(noisy, images=LoadedImages(images), optics=optics), settings).map
        if state is CtfState.WIENER:
            believed = (replace(optics[0], wiener_snr=SNR / 4),)
            wrong = reconstruct(replace(noisy, images=LoadedImages(images), optics=believed), settings).map
    scale = np.abs(maps[CtfState.PREMULTIPLIED]).max()
    assert np.abs(maps[CtfState.WIENER] - maps[CtfState.PREMULTIPLIED]).max() < 1e-5 * scale
    assert np.abs(wrong - maps[CtfState.PREMULTIPLIED]).max() > 1e-2 * scale  # another ratio is seen


def test_wiener_filtered_images_of_unknown_ratio_are_refused():
    particles = particles_of(truth())
    unknown = replace(particles, optics=(replace(OPTICS, ctf_state=CtfState.WIENER),))
    with pytest.raises(DataProblem, match=r"unknown signal-to-noise ratio.*--no-ctf"):
        reconstruct(unknown, InversionSettings(C1))
    reconstruct(unknown, InversionSettings(C1, use_ctf=False))  # as plain projections


def test_amplitudes_are_those_of_the_object():
    """No free scale factor: the density itself comes back."""
    volume = truth()
    result = reconstruct(particles_of(volume), InversionSettings(C1))
    slope = np.vdot(volume, result.map) / np.vdot(volume, volume)
    assert slope == pytest.approx(1.0, abs=0.05)  # Wiener damping and interpolation take a few percent


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: replace(p, pose=Pose(p.pose.euler, -p.pose.shift)),
        lambda p: replace(p, pose=Pose(-p.pose.euler[:, ::-1], p.pose.shift)),
        lambda p: replace(p, ctf=replace(p.ctf, defocus_u=p.ctf.defocus_u * 2, defocus_v=p.ctf.defocus_v * 2)),
    ],
    ids=["shifts negated", "rotations transposed", "defocus doubled"],
)
def test_a_wrong_convention_spoils_the_map(spoil):
    volume = truth()
    result = reconstruct(spoil(particles_of(volume)), InversionSettings(C1))
    assert agreement(volume, result.map)[5:].max() < 0.9


@pytest.mark.parametrize("symmetry", ["C3", "D2", "T", "O"])
def test_symmetry_uses_every_copy(symmetry):
    """A symmetric object: the map has the symmetry, is right, and each image counts once per operator."""
    volume = truth(symmetry)
    operators = point_group(symmetry).operators
    particles = particles_of(volume).rows(np.arange(76))
    result = reconstruct(particles, InversionSettings(operators))
    assert agreement(volume, result.map)[:8].min() > 0.98
    assert np.median(
        result.shell_weight[2:8] / reconstruct(particles, InversionSettings(C1)).shell_weight[2:8]
    ) == pytest.approx(len(operators), rel=0.05)


@pytest.mark.parametrize("symmetry", ["D2", "C4", "O", "I", "C3"])
def test_grid_symmetries_and_insertions_make_up_the_group(symmetry):
    operators = point_group(symmetry).operators
    exact, inserted = split_symmetry(operators)
    products = (inserted[:, None] @ exact[None]).reshape(-1, 3, 3)
    assert len(products) == len(operators)
    distances = np.abs(products[:, None] - operators[None]).max(axis=(2, 3))
    assert np.all(distances.min(axis=0) < 1e-6)


def test_grid_symmetry_equals_inserting_the_copies():
    particles = particles_of(truth("O")).rows(np.arange(40))
    operators = point_group("O").operators
    exact, inserted = split_symmetry(operators)
    assert len(exact) == 24 and len(inserted) == 1
    by_grid = accumulate(particles, InversionSettings(operators))
    total = None
    for operator in operators:
        turned = replace(
            particles,
            pose=Pose(euler_from_matrix(matrix_from_euler(particles.pose.euler) @ operator), particles.pose.shift),
        )
        part = accumulate(turned, InversionSettings(C1))
        total = part if total is None else total + part
    # float32 sums of some hundred terms in another order
    assert np.abs(by_grid.values - total.values).max() < 1e-4 * np.abs(total.values).max()
    assert np.abs(by_grid.weights - total.weights).max() < 1e-4 * total.weights.max()


def test_symmetrise_turns_the_cube():
    """A single point goes to its images, with the conjugate on the other side."""
    sums = np.zeros((7, 7, 4, 3))
    x, y, z = 2, 1, -1
    sums[z + 3, y + 3, x] = (1.0, 0.5, 2.0)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    group = np.array([np.linalg.matrix_power(quarter, i) for i in range(4)])
    total = symmetrise(sums, group)
    expected = np.zeros_like(sums)
    for operator in group:
        a, b, c = np.rint(operator.T @ (x, y, z)).astype(int)
        sign = -1 if a < 0 else 1
        expected[sign * c + 3, sign * b + 3, sign * a] += (1.0, sign * 0.5, 2.0)
    assert np.array_equal(total, expected)


def test_half_maps_have_a_mean_gain_of_one_in_each_shell():
    """Unfiltered: with even sampling each voxel is N / D, whatever the noise has made of lambda."""
    from vitreous.reconstruction.direct_inversion import Sums, solve

    rng = np.random.default_rng(0)
    shape = (2 * BOX, 2 * BOX, BOX + 1)
    signal = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    halves = [signal + (rng.normal(size=shape) + 1j * rng.normal(size=shape)) for _ in range(2)]
    even = np.full(shape, 7.0, dtype=np.float32)
    sums = [Sums((7 * half).astype(np.complex64), even, BOX) for half in halves]
    noisy = solve((sums[0], sums[1]))
    assert 0.7 < np.median(noisy.regularisation) / 7 < 1.4  # as much noise as signal: a constant that matters
    exact = solve(
        (replace(sums[0], values=sums[0].values), replace(sums[0], values=sums[0].values))
    )  # no noise seen: lambda about 0
    assert np.abs(noisy.half_maps[0] - exact.half_maps[0]).max() < 2e-3 * np.abs(exact.half_maps[0]).max()


def test_chunks_do_not_matter(monkeypatch):
    particles = particles_of(truth(), noise=0.5)
    whole = accumulate(particles, InversionSettings(C1))
    monkeypatch.setattr("vitreous.reconstruction.direct_inversion.chunk_size", lambda box: 37)
    pieces = accumulate(particles, InversionSettings(C1))
    assert np.abs(whole.values - pieces.values).max() < 1e-4 * np.abs(whole.values).max()  # float32 sums, other order


def test_inputs_are_left_alone():
    particles = particles_of(truth())
    before = particles.images.pixels.copy(), particles.pose.euler.copy(), particles.pose.shift.copy()
    reconstruct(particles, InversionSettings(C1, mask_radius=8.0))
    assert np.array_equal(before[0], particles.images.pixels)
    assert np.array_equal(before[1], particles.pose.euler) and np.array_equal(before[2], particles.pose.shift)


def test_half_maps_have_independent_noise_and_agree_by_their_snr():
    """FSC = SNR / (1 + SNR) shell by shell: the noise of the maps, measured against the truth, predicts it."""
    volume = truth()
    result = reconstruct(particles_of(volume, noise=4.0), InversionSettings(C1))
    first, second = (m.astype(np.float64) for m in result.half_maps)
    noise = fourier_shell_correlation(first - volume, second - volume).correlation[4:10]
    assert np.abs(noise).max() < 0.2  # some hundred independent voxels per shell, and a common interpolation error
    to_truth = agreement(volume, first)[4:10]
    between = agreement(first, second)[4:10]
    assert np.allclose(between, to_truth**2, atol=0.12)


def test_masking_discs_removes_neighbours():
    """A second particle at the edge of every image is gone from the masked sums; the particle stays."""
    volume = truth()
    particles = particles_of(volume)
    images = particles.images.pixels.copy()
    rng = np.random.default_rng(3)
    corner = rng.normal(0, 20, size=(COUNT, 4, 4)).astype(np.float32)
    images[:, :4, :4] += corner
    spoiled = replace(particles, images=LoadedImages(images))
    plain = agreement(volume, reconstruct(spoiled, InversionSettings(C1)).map)
    masked = agreement(volume, reconstruct(spoiled, InversionSettings(C1, mask_radius=9.0)).map)
    assert masked[4:].mean() > plain[4:].mean() + 0.05


def test_magnification_and_beam_tilt_are_undone():
    matrix = ((1.05, 0.02), (0.02, 0.95))
    optics = replace(OPTICS, magnification=matrix, beam_tilt=(15e-3, -8e-3))
    volume = truth()
    particles = particles_of(volume, optics=optics)
    # The images of a tilted beam and a stretched lens, by their definition.
    from vitreous.optics.aberrations import magnify, wave_factor
    from vitreous.optics.ctf import odd_phase

    grid = slice_grid(BOX)
    unit = 1 / (BOX * PIXEL_SIZE)
    true_x, true_y = magnify(grid.kx * unit, grid.ky * unit, matrix)
    stretched = replace(grid, kx=true_x / unit, ky=true_y / unit)
    rotation = matrix_from_euler(particles.pose.euler)
    points = stretched.kx[:, None] * rotation[:, None, 0, :] + stretched.ky[:, None] * rotation[:, None, 1, :]
    inside = np.abs(points).max(axis=(0, 2)) < BOX / 2 - 1
    slices = np.where(inside, project(fourier_volume(volume.astype(np.float64)), rotation, stretched), 0)
    slices = (
        slices
        * ctf_of_particles(optics, particles.ctf, grid.kx * unit, grid.ky * unit)
        * wave_factor(odd_phase(optics, grid.kx * unit, grid.ky * unit))
    )
    origin = particles.pose.shift
    slices = slices * np.exp(2j * np.pi * unit * (np.outer(origin[:, 0], grid.kx) + np.outer(origin[:, 1], grid.ky)))
    images = np.fft.fftshift(np.fft.irfft2(half_plane(slices, grid), s=(BOX, BOX)), axes=(1, 2)).astype(np.float32)
    particles = replace(particles, images=LoadedImages(images))
    ignored = replace(particles, optics=(OPTICS,))
    right, wrong = (
        amplitude(reconstruct(p, InversionSettings(C1)).map, volume)[7:10].mean() for p in (particles, ignored)
    )
    # Random in-plane angles turn the errors into a loss of amplitude at high resolution.
    assert abs(right - 1) < 0.1 and wrong < right - 0.2


def test_a_magnification_beyond_the_box_is_cut_off():
    """Frequencies that the lens has pushed out of the box's sphere are dropped: nothing is written beyond the sums."""
    from vitreous.reconstruction.direct_inversion import recorded_grid

    stretched = replace(OPTICS, magnification=((1.3, 0.0), (0.0, 1.3)))
    grid = recorded_grid(slice_grid(BOX), stretched)
    assert 0 < len(grid) < len(slice_grid(BOX))
    assert np.hypot(grid.kx, grid.ky).max() * 1.3 < BOX / 2
    particles = replace(particles_of(truth()), optics=(stretched,))
    assert np.isfinite(reconstruct(particles, InversionSettings(C1)).map).all()


@pytest.mark.parametrize("contrast", [Contrast.INVERTED, Contrast.RAW])
def test_without_ctf_the_contrast_still_counts(contrast):
    volume = truth()
    particles = particles_of(volume)
    slices = half_plane(
        project(fourier_volume(volume), matrix_from_euler(particles.pose.euler).astype(np.float32), slice_grid(BOX)),
        slice_grid(BOX),
    )
    images = np.fft.fftshift(np.fft.irfft2(slices, s=(BOX, BOX)), axes=(1, 2)).astype(np.float32)
    bare = replace(
        particles,
        images=LoadedImages(images if contrast is Contrast.INVERTED else -images),
        pose=Pose(particles.pose.euler, 0 * particles.pose.shift),
        ctf=None,
    )
    result = reconstruct(bare, InversionSettings(C1, use_ctf=False, contrast=contrast))
    assert agreement(volume, result.map)[:9].min() > 0.99 and np.vdot(volume, result.map) > 0


def test_angles_that_are_no_numbers_are_refused():
    particles = particles_of(truth())
    euler = particles.pose.euler.copy()
    euler[5, 1] = np.nan
    with pytest.raises(DataProblem, match="not rotations"):
        reconstruct(replace(particles, pose=Pose(euler, particles.pose.shift)), InversionSettings(C1))


def test_noise_to_signal_is_the_wiener_constant():
    assert noise_to_signal(np.array([1.0, 0.5, 0.2])) == pytest.approx([1e-3 / (1 - 1e-3), 1.0, 4.0], rel=1e-6)
    assert np.all(noise_to_signal(np.array([0.9, 0.0, 0.5]))[1:] > 900)  # what comes back after zero is chance


@pytest.mark.parametrize("change", ["images", "pose", "half_set"])
def test_what_is_missing_is_named(change):
    with pytest.raises(DataProblem):
        reconstruct(replace(particles_of(truth()), **{change: None}), InversionSettings(C1))


def test_an_image_of_nan_is_named():
    particles = particles_of(truth())
    particles.images.pixels[7, 3, 3] = np.nan
    with pytest.raises(DataProblem, match=r"image 8@p\.mrcs"):
        reconstruct(particles, InversionSettings(C1))


def test_an_empty_half_is_refused():
    particles = replace(particles_of(truth()), half_set=np.ones(COUNT, dtype=np.int8))
    with pytest.raises(DataProblem, match="half set 2"):
        reconstruct(particles, InversionSettings(C1))
