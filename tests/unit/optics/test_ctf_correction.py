"""Correction for the CTF: the definition, what is left of the microscope afterwards, and what cannot be corrected."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse, without_nyquist
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics import ctf_correction
from vitreous.optics.aberrations import even_zernike_phase, odd_zernike_phase, wave_factor
from vitreous.optics.ctf import ctf_of_particles, odd_phase
from vitreous.optics.ctf_correction import (
    corrected_images,
    corrected_optics,
    correction_factor,
    state_factor,
    unfiltered_factor,
)
from vitreous.optics.electrons import wavelength
from vitreous.reference import ctf_correction as definition
from vitreous.reference.ctf import chi, defocus_along
from vitreous.reference.dft import frequency_numbers

PIXEL_SIZE, COUNT, SNR = 2.0, 3, 0.4
ODD, EVEN = (0.5, -0.3, 40.0, 20.0, -30.0, 50.0), (0.2, 3.0, -4.0, 5.0, 20.0, -30.0, 10.0, 15.0, -25.0)
STRETCH = ((1.02, 0.011), (-0.004, 0.985))
PLAIN = OpticsGroup(pixel_size=PIXEL_SIZE, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
ABERRATED = replace(PLAIN, odd_zernike=ODD, even_zernike=EVEN, magnification=STRETCH)
RNG = np.random.default_rng(4)
PARAMETERS = CtfParameters.of(
    [9000.0, 7000.0, 12000.0], [8000.0, 7300.0, 11000.0], [0.3, -1.0, 2.0], [0.0, 0.5, 1.5], [0.0, 20.0, 5.0], [1.0, 0.8, 1.2]
)  # fmt: skip


def by_definition(images: np.ndarray, group: OpticsGroup, state: str) -> np.ndarray:
    """All frequencies at once, by the formulas of the contract and sums for transforms."""
    rows, columns = images.shape[1:]
    kx, ky = np.meshgrid(frequency_numbers(columns) / columns, frequency_numbers(rows) / rows)
    (a, b), (c, d) = group.magnification
    x, y = (a * kx + b * ky) / PIXEL_SIZE, (c * kx + d * ky) / PIXEL_SIZE
    k, theta = np.hypot(x, y), np.arctan2(y, x)
    even = even_zernike_phase(x, y, group.even_zernike) if group.even_zernike else 0.0
    odd = odd_zernike_phase(x, y, group.odd_zernike) if group.odd_zernike else 0 * x
    result = []
    for image, u, v, angle, phase, b_factor, scale in zip(images, *vars(PARAMETERS).values()):
        gamma = chi(k, defocus_along(theta, u, v, angle), wavelength(300e3), 2.7e7) + even + phase + np.arcsin(0.1)
        values = scale * np.sin(gamma) * np.exp(-b_factor * k**2 / 4)
        result.append(definition.corrected(image, values, state, odd, SNR))
    return np.array(result)


@pytest.mark.parametrize("state", list(CtfState))
@pytest.mark.parametrize("group", [PLAIN, ABERRATED], ids=["plain", "aberrated"])
@pytest.mark.parametrize("shape", [(16, 16), (15, 18)])
def test_is_the_definition(state, group, shape):
    images = RNG.standard_normal((COUNT, *shape))
    kept = images.copy()
    snr = SNR if state is CtfState.WIENER else None
    double = corrected_images(images, group, PARAMETERS, state, snr=snr)
    expected = by_definition(images, group, state.value)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(double, expected, atol=1e-10 * scale)
    assert np.array_equal(images, kept)
    single = corrected_images(images.astype(np.float32), group, PARAMETERS, state, snr=snr)
    assert single.dtype == np.float32
    # A CTF rounded to single precision keeps its sign but within 1e-7 of its zeros, which no frequency here is near.
    np.testing.assert_allclose(single, expected, atol=3e-6 * scale)
    if state is not CtfState.RAW:
        assert np.abs(-double - expected).max() > scale  # the other sign


@pytest.mark.parametrize(
    "change",
    [
        {"odd_zernike": tuple(-c for c in ODD)},
        {"even_zernike": tuple(-c for c in EVEN)},
        {"magnification": tuple(map(tuple, np.linalg.inv(STRETCH)))},
    ],
    ids=["odd sign", "even sign", "inverse magnification"],
)
def test_the_comparison_sees_signs_and_directions(change):
    images = RNG.standard_normal((COUNT, 16, 16))
    expected = by_definition(images, ABERRATED, "premultiplied")
    wrong = corrected_images(images, replace(ABERRATED, **change), PARAMETERS, "premultiplied")
    assert np.abs(wrong - expected).max() > 1e-2 * np.abs(expected).max()


def test_blocks_of_frequencies_do_not_change_a_bit(monkeypatch):
    images = RNG.standard_normal((COUNT, 20, 21)).astype(np.float32)
    whole = corrected_images(images, ABERRATED, PARAMETERS, CtfState.PREMULTIPLIED)
    monkeypatch.setattr(ctf_correction, "BLOCK", 100)
    assert np.array_equal(corrected_images(images, ABERRATED, PARAMETERS, CtfState.PREMULTIPLIED), whole)


def test_nothing_is_left_of_a_beam_tilt():
    """Images of one object, with the odd phase and without, are the same once they are corrected; with the wrong sign they are not."""
    objects = RNG.standard_normal((COUNT, 24, 24))
    grid = frequencies((24, 24), PIXEL_SIZE)
    transfer = ctf_of_particles(PLAIN, PARAMETERS, *grid)
    tilted = replace(PLAIN, beam_tilt=(2e-3, -1e-3))
    spectrum = without_nyquist(forward(objects, 2) * transfer, (24, 24))
    seen = {
        name: spectrum * wave_factor(sign * odd_phase(tilted, *grid)) for name, sign in (("right", 1), ("wrong", -1))
    }
    plain = corrected_images(inverse(spectrum, (24, 24)), PLAIN, PARAMETERS, CtfState.PHASE_FLIPPED)
    images = {name: inverse(one, (24, 24)) for name, one in seen.items()}
    right, wrong = (
        corrected_images(images[name], tilted, PARAMETERS, CtfState.PHASE_FLIPPED) for name in ("right", "wrong")
    )
    np.testing.assert_allclose(right, plain, atol=1e-12)
    assert np.abs(wrong - plain).max() > 0.1 * np.abs(plain).max()
    after = corrected_optics(tilted, CtfState.PHASE_FLIPPED)
    assert after.beam_tilt == (0.0, 0.0) and after.ctf_state is CtfState.PHASE_FLIPPED


def test_a_wiener_filter_is_undone_exactly():
    """CTF^2 + 1/snr makes premultiplied images of Wiener-filtered ones, also at the zeros of the CTF."""
    transfer = np.linspace(-1, 1, 201)
    for snr in (1e-3, 1.0, 1e3):
        product = state_factor(transfer, CtfState.WIENER, snr=snr) * unfiltered_factor(transfer, snr)
        np.testing.assert_allclose(product, state_factor(transfer, CtfState.PREMULTIPLIED), atol=1e-14)


def test_the_wiener_filter_has_the_least_error():
    """On objects and noise of the powers that it is told, 25,000 samples: any other ratio errs more, by much more than chance."""
    objects = RNG.standard_normal((40, 25, 25))
    parameters = CtfParameters.of(np.full(40, 9000.0), np.full(40, 8000.0), np.zeros(40))
    transfer = ctf_of_particles(PLAIN, parameters, *frequencies((25, 25), PIXEL_SIZE))
    images = inverse(forward(objects, 2) * transfer, (25, 25)) + RNG.standard_normal(objects.shape) / np.sqrt(SNR)
    errors = {
        snr: float(np.mean((corrected_images(images, PLAIN, parameters, CtfState.WIENER, snr=snr) - objects) ** 2))
        for snr in (SNR / 4, SNR, SNR * 4)
    }
    assert min(errors, key=lambda snr: errors[snr]) == SNR
    assert errors[SNR] < np.mean(objects**2)


def test_ratios_may_change_with_the_frequency():
    transfer = np.array([0.5, 0.5])
    np.testing.assert_allclose(state_factor(transfer, "wiener_filtered", snr=np.array([1.0, 4.0])), [0.4, 1.0])


def test_jax_gives_the_values_of_numpy_and_a_gradient():
    images = RNG.standard_normal((COUNT, 12, 14)).astype(np.float32)
    function = lambda x: corrected_images(x, ABERRATED, PARAMETERS, CtfState.WIENER, snr=SNR)
    ours = function(jnp.asarray(images))
    assert isinstance(ours, jax.Array)
    np.testing.assert_allclose(ours, function(images), atol=1e-6)
    np.testing.assert_allclose(jax.jit(function)(jnp.asarray(images)), ours, atol=1e-6)
    slope = jax.grad(lambda transfer: jnp.sum(state_factor(transfer, CtfState.WIENER, snr=SNR)))(jnp.zeros(3))
    np.testing.assert_allclose(slope, SNR, rtol=1e-6)  # at a zero of the CTF the filter rises as snr * CTF


def test_a_ctf_is_applied_once():
    grid = frequencies((16, 16), PIXEL_SIZE)
    for state in (CtfState.PHASE_FLIPPED, CtfState.PREMULTIPLIED, CtfState.WIENER):
        done = corrected_optics(PLAIN, state, snr=SNR)
        assert done.wiener_snr == (SNR if state is CtfState.WIENER else None)
        with pytest.raises(DataProblem, match=f"{state.value.replace('_', ' ')} already.*applied once"):
            correction_factor(done, PARAMETERS, *grid, CtfState.PREMULTIPLIED)


@pytest.mark.parametrize("snr", [None, 0.0, -1.0, np.nan, np.inf])
def test_ratios_that_cannot_be(snr):
    with pytest.raises(SettingsProblem, match="signal-to-noise"):
        state_factor(np.ones(2), CtfState.WIENER, snr=snr)
    if snr is not None:
        with pytest.raises(DataProblem, match="signal-to-noise"):
            replace(PLAIN, wiener_snr=snr)
