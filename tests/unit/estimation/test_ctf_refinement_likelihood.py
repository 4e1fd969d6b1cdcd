"""The likelihood of a particle as a function of its CTF: definition, derivatives, scan; slices and transforms behind it."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.estimation import particle_likelihood
from vitreous.estimation.agreement_survey import CtfRows, ShellAgreement, ctf_values, shell_agreement, survey_chunk
from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.particle_likelihood import (
    ParticleLikelihood,
    finer,
    likelihood_of_chunk,
    scan_offsets,
)
from vitreous.estimation.reference_images import ReferenceImages, References, magnified_rotation
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.optics.ctf import odd_phase
from vitreous.reconstruction.projection import fourier_volume, project
from vitreous.reference import ctf_refinement as definition

LENS = Lens(300e3, 2.7e7, 0.1)
ROWS = np.arange(5)


@pytest.fixture(scope="module")
def images(blob_particles, blob_map):
    return ReferenceImages(References((blob_map,), 4.0, 60.0, 8.2), blob_particles.optics)


@pytest.fixture(scope="module")
def part(blob_particles):
    return blob_particles.rows(ROWS)


def rows_of(part) -> CtfRows:
    ctf = part.ctf
    return CtfRows(
        np.column_stack([ctf.defocus, ctf.astigmatism]), np.column_stack([ctf.phase_shift, ctf.b_factor, ctf.scale])
    )


def slices_of(images, part) -> np.ndarray:
    """Slices in double precision by the same interpolation."""
    volume = fourier_volume(images.references.maps[0].astype(np.float64))
    return project(volume, matrix_from_euler(part.pose.euler), images.grid)


def recorded_of(images, part) -> np.ndarray:
    """Transforms about the box centre, not moved, as the definition has them."""
    whole = np.fft.rfft2(np.fft.ifftshift(part.images.read(slice(None)).astype(np.float64), axes=(1, 2)))
    return whole[:, images.grid.row, images.grid.column]


def agreement_of(images, gain=0.8, noise=2000.0) -> ShellAgreement:
    shells = images.shells.max() + 1
    gains = gain - 0.02 * np.arange(shells)
    ones = np.ones(shells)
    return ShellAgreement(gains, noise * (1 + 0.1 * np.arange(shells)), ones, ones, ones, 1.0)


def likelihood_of(images, part, agreement) -> ParticleLikelihood:
    optics = images.optics(part.optics[0])
    chunk = images.read(part, optics, 0)
    data, power = likelihood_of_chunk(images, chunk, optics, agreement, len(part))
    return ParticleLikelihood(data, power, rows_of(part), optics, LENS)


def by_definition(images, part, agreement, change=0.0, tilt_phase=0.0) -> np.ndarray:
    """Log-likelihood of each particle, one pixel at a time in double precision."""
    kx, ky = images.frequencies
    phase, fixed = rows_of(part).phase, rows_of(part).fixed
    phase = phase + np.array([1.0, 0, 0]) * change
    ctf = np.asarray(ctf_values(LENS, (kx, ky, None), phase, fixed))
    gain, noise = agreement.gain[images.shells], agreement.noise[images.shells]
    recorded, slices = recorded_of(images, part), slices_of(images, part)
    return np.array(
        [
            definition.log_likelihood(
                x, gain * definition.expected_transform(a, c, tilt_phase, kx, ky, tuple(-origin)), noise
            )
            for x, a, c, origin in zip(recorded, slices, ctf, part.pose.shift)
        ]
    )


def test_the_likelihood_is_its_definition(images, part):
    agreement = agreement_of(images)
    fast = likelihood_of(images, part, agreement)
    slow = by_definition(images, part, agreement)
    # single precision: 250 pixels of order 1 each
    np.testing.assert_allclose(fast.at(np.zeros((5, 3))).value, slow, rtol=1e-4, atol=1e-3)
    other = replace(part, pose=replace(part.pose, shift=-part.pose.shift))
    assert np.abs(by_definition(images, other, agreement) - slow).max() > 1  # a shift of the wrong sign is seen


def test_odd_phase_is_taken_out_with_its_sign(images, part):
    group = replace(part.optics[0], beam_tilt=(2e-2, -1e-2))
    tilted = replace(part, optics=(group,))
    agreement = agreement_of(images)

    fast = likelihood_of(images, tilted, agreement).at(np.zeros((5, 3))).value
    phase = odd_phase(group, *images.frequencies)
    np.testing.assert_allclose(fast, by_definition(images, part, agreement, tilt_phase=phase), rtol=1e-4, atol=1e-3)
    assert np.abs(fast - by_definition(images, part, agreement, tilt_phase=-phase)).max() > 0.5


def test_an_image_shift_is_where_the_particles_lie(images, part):
    """Particles at (3, -2) angstrom beside their origins: the same as origins that say so."""
    agreement, zero = agreement_of(images), np.zeros((5, 3))
    optics = images.optics(part.optics[0], (3.0, -2.0))
    chunk = images.read(part, optics, 0)
    shifted = ParticleLikelihood(*likelihood_of_chunk(images, chunk, optics, agreement, 5), rows_of(part), optics, LENS)
    told = replace(part, pose=replace(part.pose, shift=part.pose.shift - np.array([3.0, -2.0])))
    wrong = replace(part, pose=replace(part.pose, shift=part.pose.shift + np.array([3.0, -2.0])))
    value = shifted.at(zero).value
    np.testing.assert_allclose(value, likelihood_of(images, told, agreement).at(zero).value, rtol=1e-4, atol=1e-3)
    assert np.abs(value - likelihood_of(images, wrong, agreement).at(zero).value).max() > 0.5


def test_the_scan_is_the_likelihood_at_each_offset(images, part):
    fast = likelihood_of(images, part, agreement_of(images))
    offsets = scan_offsets(1 / 8.0, LENS, 2000.0)
    table = fast.scan(offsets)
    for offset in (offsets[0], offsets[3], 0.0, offsets[-1]):
        change = np.zeros((5, 3))
        change[:, 0] = offset
        np.testing.assert_allclose(table[:, np.argmin(abs(offsets - offset))], fast.at(change).value, atol=2e-3)
    between, fine = finer(table, offsets, 60.0)
    assert fine[len(fine) // 2] == 0 and np.diff(fine).max() <= 60.0
    change = np.zeros((5, 3))
    change[:, 0] = fine[11]
    # L turns by at most one radian between two points of the scan: a spline is good to a thousandth of its variation
    np.testing.assert_allclose(between[:, 11], fast.at(change).value, atol=1e-3 * np.ptp(table))
    assert np.abs(table - table[:, ::-1]).max() > 0.1  # more and less underfocus are told apart


def random_case(rng, count=4, pixels=90):
    kx, ky = rng.uniform(-0.3, 0.3, (2, pixels))
    phase = np.column_stack([rng.uniform(8e3, 2e4, count), rng.normal(0, 300, (count, 2))])
    fixed = np.column_stack([np.full(count, 0.3), np.full(count, 20.0), np.full(count, 0.9)])
    return rng.normal(0, 1, (count, pixels)), rng.uniform(0, 1, (count, pixels)), (kx, ky, 0 * kx), phase, fixed


def test_derivatives_are_those_of_the_forward_model(rng):
    """Against automatic differentiation of the CTF, and finite differences, in double precision."""
    with jax.enable_x64(True):
        data, power, places, phase, fixed = (jax.tree.map(jnp.asarray, each) for each in random_case(rng))

        def value(phase):
            transfer = ctf_values(LENS, places, phase, fixed)
            return jnp.sum(data * transfer - power * transfer**2 / 2, axis=1)

        total = jax.jit(lambda p: value(p).sum())
        found = particle_likelihood._compiled_slopes()(data, power, places, (phase, fixed), LENS)
        np.testing.assert_allclose(found[0], value(phase), rtol=1e-10)
        gradient = jax.grad(total)(phase)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-8, atol=1e-12)
        exact = particle_likelihood._symmetric(np.asarray(found[2]))
        hessian = jax.jit(jax.jacfwd(jax.grad(total)))(phase)
        own = np.stack([hessian[i, :, i, :] for i in range(4)])
        np.testing.assert_allclose(exact, -own, rtol=1e-8, atol=1e-12)
        jacobian = jax.jit(jax.jacfwd(lambda p: ctf_values(LENS, places, p, fixed)))(phase)
        slopes = np.stack([jacobian[i, :, i, :] for i in range(4)])
        fisher = np.einsum("npj,np,npl->njl", slopes, np.asarray(power), slopes)
        np.testing.assert_allclose(particle_likelihood._symmetric(np.asarray(found[3])), fisher, rtol=1e-8, atol=1e-12)
        each = jax.jit(value)
        step = 0.05  # angstrom: the fourth derivative makes an error of 1e-6 of the slope
        for j in range(3):
            move = np.zeros((4, 3))
            move[:, j] = step
            slope = (each(phase + move) - each(phase - move)) / (2 * step)
            np.testing.assert_allclose(found[1][:, j], slope, rtol=1e-4, atol=1e-8)
        assert np.abs(np.asarray(found[1] + gradient)).max() > 1e-3  # a flipped sign would be seen


def test_single_precision_follows_double(rng):
    data, power, places, phase, fixed = random_case(rng)
    single = particle_likelihood._compiled_slopes()(
        *(jnp.asarray(a, jnp.float32) for a in (data, power)),
        tuple(np.float32(p) for p in places),
        (np.float32(phase), np.float32(fixed)),
        LENS,
    )
    with jax.enable_x64(True):
        double = particle_likelihood._slopes(data, power, jax.tree.map(jnp.asarray, places), (phase, fixed), LENS)
    assert all(np.asarray(part).dtype == np.float32 for part in single)
    for one, two in zip(single, double):
        # phases of 40 turns in float32, places rounded to 6e-8 of themselves
        np.testing.assert_allclose(one, two, atol=2e-3 * np.abs(two).max())


def test_survey_finds_gain_and_noise(images, blob_particles):
    part = blob_particles.rows(np.arange(64))
    optics = images.optics(part.optics[0])
    sums = survey_chunk(images, images.read(part, optics, 0), optics, rows_of(part), LENS, magnification=False)
    agreement = shell_agreement(sums, images.shells)
    kx, ky = images.frequencies
    expected = np.array(
        [
            definition.expected_transform(a, c, 0.0, kx, ky, tuple(-origin))
            for a, c, origin in zip(
                slices_of(images, part),
                np.asarray(ctf_values(LENS, (kx, ky, None), rows_of(part).phase, rows_of(part).fixed)),
                part.pose.shift,
            )
        ]
    )
    recorded = recorded_of(images, part)
    for shell in (0, 3, 5):
        here = images.shells == shell
        gain = definition.shell_gain(recorded[:, here], expected[:, here])
        assert agreement.gain[shell] == pytest.approx(gain, rel=1e-4)
        noise = np.mean(np.abs(recorded[:, here] - gain * expected[:, here]) ** 2)
        assert agreement.noise[shell] == pytest.approx(noise, rel=1e-4)
    assert agreement.gain[:6] == pytest.approx(1.0, abs=0.15)  # the map is the truth; 64 images know it to 5 %


def test_empty_images_that_fill_a_chunk_add_nothing(images, blob_particles):
    few = blob_particles.rows(np.arange(3))
    optics = images.optics(few.optics[0])
    whole = survey_chunk(images, images.read(few, optics, 0), optics, rows_of(few), LENS, magnification=True)
    ones = [
        survey_chunk(images, images.read(one, optics, 0), optics, rows_of(one), LENS, magnification=True)
        for one in (few.rows(np.array([i])) for i in range(3))
    ]
    added = ones[0] + ones[1] + ones[2]
    for name in ("count", "cross", "power", "recorded", "slope_cross", "slope_power", "slope_slope"):
        left, right = getattr(whole, name), getattr(added, name)
        np.testing.assert_allclose(left, right, atol=1e-4 * np.abs(right).max())


def test_slopes_are_derivatives_of_slices_by_the_magnification(images, part):
    """Against finite differences over a tenth of a voxel; trilinear slices have kinks, hence the mean over pixels."""
    optics = images.optics(part.optics[0])
    slopes = np.asarray(images.slopes(images.read(part, optics, 0)))[: len(part)]
    rotation = matrix_from_euler(part.pose.euler)
    volume = fourier_volume(images.references.maps[0].astype(np.float64))
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        step = np.zeros((2, 2))
        step[row, column] = 2e-3
        there = project(volume, magnified_rotation(rotation, np.eye(2) + step), images.grid)
        back = project(volume, magnified_rotation(rotation, np.eye(2) - step), images.grid)
        difference = (there - back) / 4e-3
        error = np.linalg.norm(slopes[..., number] - difference) / np.linalg.norm(difference)
        assert error < 0.12
        assert np.linalg.norm(slopes[..., number] + difference) > np.linalg.norm(difference)


def test_magnified_rotation_slices_at_magnified_frequencies(rng):
    rotation = matrix_from_euler(rng.uniform(0, 3, (4, 3)))
    matrix, k = np.array([[1.02, 0.01], [-0.03, 0.98]]), rng.normal(size=2)
    turned = magnified_rotation(rotation, matrix)
    expected = np.einsum("nji,j->ni", rotation[:, :2], matrix @ k)
    np.testing.assert_allclose(np.einsum("nji,j->ni", turned[:, :2], k), expected, atol=1e-12)
    assert np.abs(np.einsum("nji,j->ni", rotation[:, :2], matrix.T @ k) - expected).max() > 1e-3


def test_two_resolutions_must_leave_something_to_compare(blob_map, blob_particles):
    with pytest.raises(DataProblem, match="two rings"):
        ReferenceImages(References((blob_map,), 4.0, 12.0, 11.5), blob_particles.optics)
