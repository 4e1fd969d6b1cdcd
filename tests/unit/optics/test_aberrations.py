from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import SettingsProblem
from vitreous.optics import aberrations
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.reference import ctf as reference_ctf
from vitreous.reference import optics as reference

WAVE = wavelength(300e3)
CS = 2.7e7
KX, KY = np.meshgrid(np.fft.rfftfreq(31, 1.1), np.fft.fftfreq(31, 1.1))
RNG = np.random.default_rng(3)


@given(st.floats(-3e4, 5e4), st.floats(0, 4e3), st.floats(-10, 10), st.sampled_from([80e3, 200e3, 300e3]))
def test_chi_is_the_definition_in_defoci_and_angle(mean, half, angle, voltage):
    u, v = mean + half, mean - half
    wave = wavelength(voltage)
    along = reference_ctf.defocus_along(np.arctan2(KY, KX), u, v, angle)
    expected = reference_ctf.chi(np.hypot(KX, KY), along, wave, CS)
    astigmatism = (half * math.cos(2 * angle), half * math.sin(2 * angle))
    chi = aberrations.defocus_phase(KX, KY, mean, astigmatism, wavelength=wave, spherical_aberration=CS)
    # 1e-12 of the largest phase here, 1e3 radian
    np.testing.assert_allclose(chi, expected, rtol=1e-12, atol=1e-9)


def test_signs_of_chi():
    low = 0.02
    assert aberrations.defocus_phase(low, 0.0, 1e4, wavelength=WAVE, spherical_aberration=CS) > 0.07  # underfocus
    assert aberrations.defocus_phase(low, 0.0, -1e4, wavelength=WAVE, spherical_aberration=CS) < -0.07
    # U > V with the angle at 30 degrees: more underfocus along (cos 30, sin 30) than along (cos -30, sin -30)
    half = (100 * math.cos(math.pi / 3), 100 * math.sin(math.pi / 3))
    along, mirrored = (
        aberrations.defocus_phase(0.3 * math.cos(t), 0.3 * math.sin(t), 1e4, half, wavelength=WAVE)
        for t in (math.pi / 6, -math.pi / 6)
    )
    assert along - mirrored == pytest.approx(math.pi * WAVE * 0.3**2 * 150, rel=1e-9)


def test_refocusing_undoes_propagation():
    """Sign test 2 of physics.md: `exp(-i pi lambda dz k^2)` and the phase of df = +dz."""
    propagator = np.exp(-1j * np.pi * WAVE * 321.0 * (KX**2 + KY**2))
    refocused = propagator * aberrations.wave_factor(aberrations.defocus_phase(KX, KY, 321.0, wavelength=WAVE))
    np.testing.assert_allclose(refocused, 1, atol=1e-12)
    wrong = propagator * aberrations.wave_factor(aberrations.defocus_phase(KX, KY, -321.0, wavelength=WAVE))
    assert np.abs(wrong - 1).max() > 1


@pytest.mark.parametrize(("defocus", "expected"), [(5000, 0.996320), (10000, 0.998119), (-10000, 1.001971)])
def test_protein_is_dark_at_underfocus(defocus, expected):
    """Sign test 3 of physics.md: a Gaussian atom of 20 V A, rms 1.5 A, on 64 x 64 pixels of 1 A."""
    x = np.arange(64) - 32.0
    projected = 20 * np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    exit_wave = np.fft.fft2(np.exp(1j * interaction_constant(300e3) * projected))
    ky, kx = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
    chi = aberrations.defocus_phase(kx, ky, defocus, wavelength=WAVE, spherical_aberration=CS)
    image = np.abs(np.fft.ifft2(exit_wave * aberrations.wave_factor(chi))) ** 2
    assert image[32, 32] == pytest.approx(
        expected, abs=0.51e-6
    )  # printed digits; the wrong pair gives 1.003686 at 5000 A


def test_beam_tilt_is_the_cubic_part_of_the_shifted_phase():
    tilt = np.array([0.8e-3, -0.3e-3])

    def cubic(sign):
        """The part of chi(k + tilt/lambda) that is odd in k and third order: found by scaling k."""
        shift = tilt / WAVE
        parts = [
            (
                aberrations.defocus_phase(
                    s * KX + shift[0], s * KY + shift[1], 0.0, wavelength=WAVE, spherical_aberration=CS
                )
                - aberrations.defocus_phase(
                    -s * KX + shift[0], -s * KY + shift[1], 0.0, wavelength=WAVE, spherical_aberration=CS
                )
            )
            / 2
            for s in (1, 2)
        ]
        return sign * (parts[1] - 2 * parts[0]) / 6  # odd(s) = linear s + cubic s^3

    phase = aberrations.beam_tilt_phase(KX, KY, tilt, wavelength=WAVE, spherical_aberration=CS)
    np.testing.assert_allclose(phase, cubic(1), atol=1e-9 * np.abs(phase).max() + 1e-10)
    assert np.abs(phase - cubic(-1)).max() > np.abs(phase).max()


def test_odd_aberrations_multiply_the_image_of_a_weak_object():
    """`F_image = -2 phi sin(chi_even) exp(+i chi_odd)` from the squared modulus of the aberrated wave."""
    n = 33
    kx, ky = np.meshgrid(np.fft.fftfreq(n, 1.2), np.fft.fftfreq(n, 1.2))
    chi = aberrations.defocus_phase(kx, ky, 8e3, (100.0, -50.0), wavelength=WAVE, spherical_aberration=CS)
    odd = aberrations.beam_tilt_phase(kx, ky, (1e-3, 2e-3), wavelength=WAVE, spherical_aberration=CS)
    odd = odd + aberrations.trefoil_phase(kx, ky, (2e3, 1e3), wavelength=WAVE)
    phi = 1e-6 * RNG.normal(size=(n, n))
    wave = np.fft.ifft2(np.fft.fft2(1 + 1j * phi) * aberrations.wave_factor(chi + odd))
    image = np.fft.fft2(np.abs(wave) ** 2 - 1)
    expected = -2 * np.fft.fft2(phi) * np.sin(chi) * aberrations.wave_factor(odd)
    scale = np.abs(expected).max()
    # second-order terms are 1e-6 of the first
    np.testing.assert_allclose(image, expected, atol=1e-4 * scale)
    assert np.abs(image - expected * aberrations.wave_factor(-2 * odd)).max() > 0.1 * scale


def test_coma_of_a_tilt():
    tilt = (0.8e-3, -0.3e-3)
    np.testing.assert_allclose(
        aberrations.coma_phase(KX, KY, (CS * tilt[0], CS * tilt[1]), wavelength=WAVE),
        aberrations.beam_tilt_phase(KX, KY, tilt, wavelength=WAVE, spherical_aberration=CS),
        rtol=1e-13,
    )


@pytest.mark.parametrize(
    ("function", "fold", "factor"),
    [
        (aberrations.trefoil_phase, 3, 2 * math.pi / 3 * WAVE**2),
        (aberrations.tetrafoil_phase, 4, math.pi / 2 * WAVE**3),
    ],
)
def test_foils_turn_with_their_fold(function, fold, factor):
    angle = np.linspace(0, 2 * np.pi, 60)
    phase = function(0.3 * np.cos(angle), 0.3 * np.sin(angle), (900.0, 500.0), wavelength=WAVE)
    expected = -factor * 0.3**fold * (900 * np.cos(fold * angle) + 500 * np.sin(fold * angle))
    np.testing.assert_allclose(phase, expected, atol=1e-13)
    assert np.abs(phase).max() > 10 * 1e-13


@given(st.integers(0, 8).flatmap(lambda n: st.tuples(st.just(n), st.sampled_from(range(-n, n + 1, 2)))))
def test_zernike_is_the_definition(indices):
    order, azimuthal = indices
    x, y = RNG.uniform(-1, 1, (2, 50))
    # coefficients grow to 70 at order 8: 1e-12 is 100 roundings
    expected = reference.zernike(order, azimuthal, x, y)
    np.testing.assert_allclose(aberrations.zernike(order, azimuthal, x, y), expected, atol=1e-12)


def test_zernike_order_and_parity():
    assert aberrations.odd_zernike_indices(6) == [(1, -1), (1, 1), (3, -3), (3, -1), (3, 1), (3, 3)]
    even = aberrations.even_zernike_indices(9)
    assert even == [(0, 0), (2, -2), (2, 0), (2, 2), (4, -4), (4, -2), (4, 0), (4, 2), (4, 4)]
    x, y = RNG.uniform(-1, 1, (2, 20))
    odd_phase = aberrations.odd_zernike_phase(x, y, (0.5, -0.3, 4, 2, -3, 5))
    np.testing.assert_allclose(aberrations.odd_zernike_phase(-x, -y, (0.5, -0.3, 4, 2, -3, 5)), -odd_phase, atol=1e-14)
    even_phase = aberrations.even_zernike_phase(x, y, range(1, 10))
    np.testing.assert_allclose(aberrations.even_zernike_phase(-x, -y, range(1, 10)), even_phase, atol=1e-14)


def test_zernike_sums_are_the_definition_with_relions_signs():
    x, y = RNG.uniform(-1, 1, (2, 20))
    odd, even = RNG.normal(size=6), RNG.normal(size=9)
    expected_odd = sum(c * reference.zernike(n, m, x, y) for c, (n, m) in zip(odd, aberrations.odd_zernike_indices(6)))
    expected_even = sum(
        c * reference.zernike(n, m, x, y) for c, (n, m) in zip(even, aberrations.even_zernike_indices(9))
    )
    np.testing.assert_allclose(aberrations.odd_zernike_phase(x, y, odd), expected_odd, atol=1e-13)
    np.testing.assert_allclose(aberrations.even_zernike_phase(x, y, even), -expected_even, atol=1e-13)
    assert np.all(aberrations.odd_zernike_phase(x, y, ()) == 0)


def test_defocus_is_an_even_zernike_term():
    """Z(2,0) = 2 r^2 - 1: what RELION calls -c (2 k^2 - 1) is a defocus of -2 c / (pi lambda)."""
    phase = aberrations.even_zernike_phase(KX, KY, (7.0, 0.0, 7.0))
    expected = aberrations.defocus_phase(KX, KY, -14.0 / (math.pi * WAVE), wavelength=WAVE)
    np.testing.assert_allclose(phase, expected, atol=1e-12)


@pytest.mark.parametrize(("order", "azimuthal"), [(2, 1), (1, 3), (3, -5)])
def test_impossible_zernike_indices_are_refused(order, azimuthal):
    with pytest.raises(SettingsProblem, match="Zernike"):
        aberrations.zernike(order, azimuthal, 0.1, 0.1)


def test_magnify():
    x, y = aberrations.magnify(0.1, 0.2, ((1.01, 0.02), (-0.03, 0.99)))
    assert (x, y) == pytest.approx((0.1 * 1.01 + 0.2 * 0.02, -0.1 * 0.03 + 0.2 * 0.99))


def test_precision_follows_the_frequencies():
    kx, ky = KX.astype(np.float32), KY.astype(np.float32)
    for phase in (
        aberrations.defocus_phase(kx, ky, 1e4, (10.0, 20.0), wavelength=WAVE, spherical_aberration=CS),
        aberrations.beam_tilt_phase(kx, ky, (1e-3, 0.0), wavelength=WAVE, spherical_aberration=CS),
        aberrations.trefoil_phase(kx, ky, (1.0, 0.0), wavelength=WAVE),
        aberrations.tetrafoil_phase(kx, ky, (1.0, 0.0), wavelength=WAVE),
        aberrations.odd_zernike_phase(kx, ky, (1.0, 2.0, 3.0)),
        aberrations.even_zernike_phase(kx, ky, (1.0, 2.0, 3.0)),
    ):
        assert phase.dtype == np.float32
        assert aberrations.wave_factor(phase).dtype == np.complex64
