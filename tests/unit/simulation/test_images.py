"""Images of a volume: against the definition, and every sign that could be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.fourier.nonuniform import transform_at
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume
from vitreous.optics.electrons import wavelength
from vitreous.reference import ctf as reference_ctf
from vitreous.reference import dft as reference_dft
from vitreous.simulation.images import Projector, signal_variance, simulate_images
from vitreous.simulation.noise import Noise
from vitreous.simulation.particles import ParticleDistribution, draw_particles

BOX, PIXEL = 32, 3.0
LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
OPTICS = OpticsGroup(pixel_size=PIXEL, box=BOX, **LENS)
STATES = list(CtfState)
SNR = 0.5  # of Wiener-filtered images


def blob(box: int = BOX) -> Volume:
    """A handful of Gaussian blobs without symmetry, well inside the box and well sampled."""
    rng = np.random.default_rng(2)
    z, y, x = np.meshgrid(*[np.arange(box) - box // 2] * 3, indexing="ij")
    data = np.zeros((box,) * 3)
    for centre, height in zip(rng.uniform(-box / 5, box / 5, (6, 3)), (1.0, 2.0, 1.5, 0.7, 1.2, 0.9)):
        data += height * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * 1.6**2))
    return Volume(data.astype(np.float32), PIXEL)


@pytest.fixture(scope="module")
def projector():
    return Projector(blob())


def particles_of(
    count: int = 6,
    *,
    box: int = BOX,
    state: CtfState = CtfState.RAW,
    contrast: Contrast = Contrast.INVERTED,
    seed: int = 1,
):
    optics = replace(OPTICS, box=box, ctf_state=state, wiener_snr=SNR if state is CtfState.WIENER else None)
    return draw_particles(
        ParticleDistribution(optics, (8e3, 1.6e4), astigmatism=2500.0, shift=5.0, contrast=contrast, seed=seed), count
    )


def images_of(projector, particles, noise=None, **options):
    return np.concatenate(list(simulate_images(projector, particles, noise, **options)))


def by_definition(volume: Volume, particles, row: int) -> np.ndarray:
    """The transform by direct (non-uniform) sums in double precision times the reference CTF times the shift's phase,
    without Nyquist.
    """
    box = volume.box
    n = reference_dft.frequency_numbers(box)
    nx, ny = np.meshgrid(n, n)
    k = np.stack([nx, ny, 0 * nx], axis=-1).reshape(-1, 3) / box
    inside = np.hypot(nx, ny) < box / 2
    rotation = matrix_from_euler(particles.pose.euler[row])
    slices = transform_at(volume.data.astype(np.float64), k @ rotation, eps=1e-9).reshape(box, box)
    kx, ky = nx / (box * PIXEL), ny / (box * PIXEL)
    ctf = particles.ctf
    lens = (wavelength(LENS["voltage"]), LENS["spherical_aberration"], LENS["amplitude_contrast"])
    transfer = reference_ctf.ctf(kx, ky, (ctf.defocus_u[row], ctf.defocus_v[row], ctf.defocus_angle[row]), lens)
    ox, oy = particles.pose.shift[row]
    phase = np.exp(2j * np.pi * (kx * ox + ky * oy))  # the particle sits at -origin
    return reference_dft.idft(slices * transfer * phase * inside, 2).real


@pytest.mark.parametrize("box", [32, 33])
def test_noiseless_image_is_projection_times_ctf_times_shift(box):
    volume = blob(box)
    particles = particles_of(3, box=box)
    images = images_of(Projector(volume), particles)

    def error(truth) -> float:
        expected = np.stack([by_definition(volume, truth, row) for row in range(len(truth))])
        return float(np.linalg.norm(images - expected) / np.linalg.norm(expected))

    # Trilinear interpolation in a transform padded twice leaves ghosts of the object at the border, below 2 % of its
    # norm for an object that fills half the box.
    assert error(particles) < 0.02
    # Every sign counts: shift, astigmatism (across instead of along; mirrored), in-plane angle.
    pose, ctf = particles.pose, particles.ctf
    assert error(replace(particles, pose=Pose(pose.euler, -pose.shift))) > 0.3
    assert error(replace(particles, pose=Pose(pose.euler * [1, 1, -1], pose.shift))) > 0.3
    assert error(replace(particles, ctf=replace(ctf, defocus_angle=ctf.defocus_angle + np.pi / 2))) > 0.1
    assert error(replace(particles, ctf=replace(ctf, defocus_angle=-ctf.defocus_angle))) > 0.1


def test_particle_sits_at_minus_its_origin(projector):
    """The centre of mass of a bare projection moves by -origin from where it is without a shift."""
    particles = particles_of(8)
    still = replace(particles, pose=Pose(particles.pose.euler, np.zeros((8, 2))))
    moved, centred = (images_of(projector, p, use_ctf=False) for p in (particles, still))
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    step = np.stack([(i.sum(axis=1) @ axis) / i.sum(axis=(1, 2)) for i in (moved, centred)])
    step_y = np.stack([(i.sum(axis=2) @ axis) / i.sum(axis=(1, 2)) for i in (moved, centred)])
    found = np.stack([step[0] - step[1], step_y[0] - step_y[1]], axis=-1)
    # Ghosts of the interpolation at the border have long levers: a fifth of a pixel.
    assert np.abs(found + particles.pose.shift).max() < 0.2 * PIXEL
    assert np.abs(found - particles.pose.shift).max() > PIXEL


def test_projection_is_the_sum_along_the_beam(projector):
    """Identity orientation: the image is the volume summed along z, on its own scale."""
    particles = replace(particles_of(1), pose=Pose(np.zeros((1, 3)), np.zeros((1, 2))))
    image = images_of(projector, particles, use_ctf=False)[0]
    expected = blob().data.sum(axis=0)
    # On the points of the grid nothing is interpolated, and the correction for interpolation, up to 10 % towards half
    # the radius of the box, corrects for nothing: the worst case. On average over orientations it is right, see the
    # test above.
    assert np.abs(image - expected).max() < 0.1 * expected.max()
    assert np.sum(image * expected) / np.sum(expected**2) == pytest.approx(1, abs=0.05)
    assert (
        np.sum(image[::-1] * expected) / np.sum(expected**2) < 0.8
        and np.sum(image.T * expected) / np.sum(expected**2) < 0.8
    )


def test_contrast_is_the_sign_of_the_image(projector):
    inverted, raw = (images_of(projector, particles_of(contrast=c)) for c in (Contrast.INVERTED, Contrast.RAW))
    assert np.array_equal(raw, -inverted)
    bare = images_of(projector, particles_of(), use_ctf=False)
    # At underfocus protein is bright in inverted images: they correlate with the projections.
    assert all(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.2 for a, b in zip(inverted, bare))


def test_states_are_raw_times_sign_and_times_ctf(projector):
    """Phase-flipped transforms are the raw ones times sign(CTF), premultiplied ones times CTF, noise included; so the others."""
    from vitreous.fourier.transforms import forward, frequencies
    from vitreous.optics.ctf import ctf_of_particles

    for contrast in (Contrast.INVERTED, Contrast.RAW):
        raw, flipped, multiplied, wiener = (
            forward(images_of(projector, particles_of(state=s, contrast=contrast), Noise(0.5, seed=2)), 2)
            for s in STATES
        )
        particles = particles_of()
        ctf = ctf_of_particles(OPTICS, particles.ctf, *frequencies((BOX, BOX), PIXEL))
        inner = np.s_[
            :, np.arange(BOX) != BOX // 2, : BOX // 2
        ]  # at Nyquist k and -k are one pixel, astigmatic CTFs differ there
        scale = np.abs(raw).max()
        assert np.abs((raw * np.sign(ctf) - flipped)[inner]).max() < 1e-5 * scale  # float32 transforms
        assert np.abs((raw * ctf - multiplied)[inner]).max() < 1e-5 * scale
        assert np.abs((flipped * np.abs(ctf) - multiplied)[inner]).max() < 1e-5 * scale
        assert np.abs((raw * ctf / (ctf**2 + 1 / SNR) - wiener)[inner]).max() < 1e-5 * scale


def test_beam_tilt_gives_antisymmetric_phases(projector):
    """Group with beam tilt: the transform is that without it times exp(+i odd_phase); images stay real."""
    from vitreous.fourier.transforms import forward, frequencies
    from vitreous.optics.ctf import odd_phase

    particles = particles_of()
    tilted = replace(OPTICS, beam_tilt=(2e-3, -1e-3))
    with_tilt = forward(images_of(projector, replace(particles, optics=(tilted,))), 2)
    without = forward(images_of(projector, particles), 2)
    phase = odd_phase(tilted, *frequencies((BOX, BOX), PIXEL))
    inner = np.s_[:, np.arange(BOX) != BOX // 2, : BOX // 2]
    assert np.abs((without * np.exp(1j * phase) - with_tilt)[inner]).max() < 1e-5 * np.abs(without).max()
    assert np.abs((without * np.exp(-1j * phase) - with_tilt)[inner]).max() > 1e-2 * np.abs(without).max()


def test_optics_groups_keep_to_their_particles(projector):
    """Two groups interleaved: each particle has the image that it has in a set of its own group alone."""
    other = replace(OPTICS, name="other", voltage=200e3, beam_tilt=(1e-3, 0.0))
    particles = particles_of(10)
    mixed = replace(particles, optics=(OPTICS, other), optics_index=np.arange(10) % 2)
    alone = [images_of(projector, replace(particles, optics=(group,))) for group in (OPTICS, other)]
    expected = np.stack([alone[i % 2][i] for i in range(10)])
    assert np.allclose(images_of(projector, mixed), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("state", STATES)
def test_images_do_not_depend_on_chunks_or_selection(projector, state):
    particles, noise = particles_of(11, state=state), Noise(1.0, seed=4)
    whole = images_of(projector, particles, noise)
    scale = np.abs(whole).max()
    for size in (1, 4, 11):
        # The compiler may order sums otherwise for another chunk: rounding of float32, nothing else.
        assert np.abs(images_of(projector, particles, noise, images_per_chunk=size) - whole).max() < 2e-6 * scale
    rows = np.array([9, 0, 4])
    assert np.abs(images_of(projector, particles.rows(rows), noise) - whole[rows]).max() < 2e-6 * scale


def test_same_seed_same_images(projector):
    first, again = (images_of(projector, particles_of(5), Noise(1.0, seed=4)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, images_of(projector, particles_of(5), Noise(1.0, seed=5)))


def test_signal_variance_scales_noise_to_the_asked_ratio(projector):
    """Images with signal / noise variance r have total variance (1 + r) times that of the noise."""
    particles = particles_of(300)
    variance = signal_variance(projector, particles)
    assert variance == pytest.approx(images_of(projector, particles).var(axis=(1, 2)).mean(), rel=1e-5)
    ratio = 0.5
    noise = Noise(np.sqrt(variance / ratio), seed=1)
    whole = images_of(projector, particles, noise).var(axis=(1, 2)).mean()
    # Relative standard error of the noise variance over 300 images of 1024 pixels: sqrt(2 / 307200) = 0.26 %, five of
    # them.
    assert whole / noise.deviation**2 - 1 == pytest.approx(ratio, abs=0.013 * (1 + ratio))


def test_signal_variance_is_that_of_raw_images(projector):
    raw = signal_variance(projector, particles_of())
    assert signal_variance(projector, particles_of(state=CtfState.PREMULTIPLIED)) == pytest.approx(raw, rel=1e-6)
    assert signal_variance(projector.times(3.0), particles_of()) == pytest.approx(9 * raw, rel=1e-5)


def test_inputs_are_unchanged(projector):
    particles = particles_of()
    before = [np.copy(c) for c in (particles.pose.euler, particles.pose.shift, particles.ctf.defocus_u)]
    images_of(projector, particles, Noise(1.0))
    for old, new in zip(before, (particles.pose.euler, particles.pose.shift, particles.ctf.defocus_u)):
        assert np.array_equal(old, new)


def test_particles_that_do_not_fit_are_refused(projector):
    with pytest.raises(DataProblem, match="one box and one pixel size"):
        next(simulate_images(projector, particles_of(box=40)))
    with pytest.raises(DataProblem, match="one box and one pixel size"):
        next(simulate_images(projector, replace(particles_of(), optics=(replace(OPTICS, pixel_size=2.9),))))
    with pytest.raises(DataProblem, match="magnification"):
        next(
            simulate_images(
                projector, replace(particles_of(), optics=(replace(OPTICS, magnification=((1.01, 0), (0, 1))),))
            )
        )
    with pytest.raises(DataProblem, match="contrast"):
        next(simulate_images(projector, replace(particles_of(), contrast=Contrast.UNKNOWN)))
    with pytest.raises(DataProblem, match="orientations"):
        next(simulate_images(projector, replace(particles_of(), pose=None)))


def test_defoci_without_values_are_not_assumed(projector):
    ctf = CtfParameters.of(np.full(6, 1e4), np.full(6, 1e4), np.zeros(6))
    assert images_of(projector, replace(particles_of(), ctf=ctf)).shape == (6, BOX, BOX)
    with pytest.raises(DataProblem, match="CTF parameters"):
        next(simulate_images(projector, replace(particles_of(), ctf=None)))
