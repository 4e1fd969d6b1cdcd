"""Beam tilt and magnification of an optics group from the sums of a survey."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.estimation.agreement_survey import AgreementSums, shell_agreement
from vitreous.estimation.beam_tilt import fit_beam_tilt, odd_phase_basis
from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.magnification import defocus_after, magnification_step
from vitreous.estimation.reference_images import ReferenceImages, References
from vitreous.model.optics import OpticsGroup
from vitreous.optics.aberrations import defocus_phase

LENS = Lens(300e3, 2.7e7, 0.1)
BOX, PIXEL_SIZE, COUNT = 64, 1.5, 500
TILT, SHIFT = (0.8e-3, -0.5e-3), (0.4, -0.2)


@pytest.fixture(scope="module")
def images():
    group = OpticsGroup(pixel_size=PIXEL_SIZE, box=BOX, voltage=300e3, spherical_aberration=2.7e7)
    return ReferenceImages(References((np.zeros((BOX,) * 3, np.float32),), PIXEL_SIZE, 30.0, 3.2), [group])


def sums_with(phase, rng, images, level=1.0) -> AgreementSums:
    """What a survey of COUNT images with this odd phase gives: power falls outwards, noise of variance 100."""
    radius = np.hypot(images.grid.kx, images.grid.ky)
    power = COUNT * np.exp(-radius / 12) * level
    noise = rng.normal(0, np.sqrt(100 * power / 2), (2, len(power)))
    return AgreementSums(COUNT, power * np.exp(1j * phase) + noise[0] + 1j * noise[1], power, power + 100.0 * COUNT)


def test_beam_tilt_is_found_with_its_sign_and_error(images, rng):
    basis = odd_phase_basis(images, LENS)
    truth = np.array([*TILT, *SHIFT])
    scores = []
    for _ in range(60):
        found = fit_beam_tilt(sums_with(basis @ truth, rng, images), images, basis)
        scores.append((np.array([*found.tilt, *found.shift]) - truth) / np.sqrt(np.diag(found.covariance)))
    scores = np.array(scores)
    assert np.abs(scores.mean(axis=0)).max() < 4 / np.sqrt(60)  # unbiased
    assert 0.8 < scores.std() < 1.2  # 240 numbers: their standard deviation is known to 5 %, correlated in pairs
    turned = fit_beam_tilt(sums_with(-(basis @ truth), rng, images), images, basis)
    assert turned.tilt == pytest.approx((-TILT[0], -TILT[1]), abs=0.3e-3)
    assert np.abs(truth[:2]).max() > 5 * max(turned.tilt_sigma)  # so that a wrong sign could not pass


def test_a_tilt_whose_phase_goes_round_is_found_without_unwrapping(images, rng):
    """6 mrad: 5 radian at 3.2 angstrom."""
    basis = odd_phase_basis(images, LENS)
    truth = np.array([5e-3, -3.5e-3, 0.0, 0.0])
    assert np.abs(basis @ truth).max() > 4
    found = fit_beam_tilt(sums_with(basis @ truth, rng, images, level=5.0), images, basis)
    assert np.abs(np.array(found.tilt) - truth[:2]).max() < 4 * max(found.tilt_sigma)


def test_no_tilt_stays_none(images, rng):
    basis = odd_phase_basis(images, LENS)
    found = fit_beam_tilt(sums_with(0.0, rng, images), images, basis)
    assert np.abs(np.array(found.tilt)).max() < 4 * max(found.tilt_sigma)


def test_the_basis_is_the_phase_of_the_optics(images):
    basis, kx = odd_phase_basis(images, LENS), images.frequencies[0]
    group = OpticsGroup(pixel_size=PIXEL_SIZE, voltage=300e3, spherical_aberration=2.7e7, beam_tilt=(TILT[0], TILT[1]))
    undo = images.optics(group, SHIFT).undo
    np.testing.assert_allclose(undo, np.exp(-1j * (basis @ [*TILT, *SHIFT])), atol=1e-6)
    assert np.abs(undo - np.exp(1j * (basis @ [*TILT, *SHIFT]))).max() > 0.1
    np.testing.assert_allclose(basis[:, 2], -2 * np.pi * kx, rtol=1e-12)


def test_a_lens_without_spherical_aberration_shows_no_tilt(images, rng):
    basis = odd_phase_basis(images, Lens(300e3, 0.0, 0.1))
    with pytest.raises(DataProblem, match="spherical aberration"):
        fit_beam_tilt(sums_with(0.0, rng, images), images, basis)


def test_a_magnification_step_solves_its_least_squares(images, rng):
    """Against a dense fit of gain and magnification to simulated derivatives, for one shell at a time."""
    pixels, count = len(images.grid), 40
    seen = rng.normal(0, 1, (count, pixels)) + 1j * rng.normal(0, 1, (count, pixels))
    slopes = rng.normal(0, 1, (4, count, pixels)) + 1j * rng.normal(0, 1, (4, count, pixels)) + 0.3 * seen
    truth = np.array([4e-3, -2e-3, 1e-3, 6e-3])
    noise = rng.normal(0, 0.3, (2, count, pixels))
    recorded = 0.9 * (seen + np.einsum("j,jnp->np", truth, slopes)) + noise[0] + 1j * noise[1]
    sums = AgreementSums(
        count,
        (seen.conj() * recorded).sum(axis=0),
        (np.abs(seen) ** 2).sum(axis=0),
        (np.abs(recorded) ** 2).sum(axis=0),
        (slopes.conj() * recorded).real.sum(axis=1),
        (slopes.conj() * seen).real.sum(axis=1),
        np.einsum("jnp,lnp->jlp", slopes.conj(), slopes).real,
    )
    step = magnification_step(sums, shell_agreement(sums, images.shells), images.shells)
    scores = (step.change.ravel() - truth) / np.sqrt(np.diag(step.covariance))
    assert (
        np.abs(scores).max() < 4
    )  # what the derivatives have of the gain, 0.3, changes the elements by 1 % of themselves
    assert np.abs((step.change.ravel() + truth) / np.sqrt(np.diag(step.covariance))).max() > 4


def test_the_ctf_of_the_recorded_image_survives_a_change_of_magnification(rng):
    """defocus_phase at stretched frequencies with the new defocus is the old one at the old frequencies."""
    stretch = np.array([[1.012, 0.004], [-0.003, 0.991]])
    defocus, astigmatism = rng.uniform(5e3, 2e4, 6), rng.normal(0, 400, (6, 2))
    mean, components = defocus_after(defocus, astigmatism, stretch)
    k = rng.uniform(-0.3, 0.3, (2, 50))
    there = stretch @ k
    for i in range(6):
        before = defocus_phase(*k, defocus[i], astigmatism[i], wavelength=0.02)
        after = defocus_phase(*there, mean[i], components[i], wavelength=0.02)
        np.testing.assert_allclose(after, before, rtol=1e-10)
        turned = defocus_phase(*(stretch.T @ k), mean[i], components[i], wavelength=0.02)
        assert np.abs(turned - before).max() > 0.01  # the transpose would be another one
