from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.fourier.filters import b_factor_envelope
from vitreous.optics import envelopes
from vitreous.optics.ctf import gamma
from vitreous.optics.envelopes import focal_spread, spatial_coherence, temporal_coherence

K = np.array([1 / 4, 1 / 3, 0.498, 1 / 2])
LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7}
SIGMA_EV = 0.7 / envelopes.FWHM_PER_SIGMA


def test_spatial_table():
    values = spatial_coherence(K, 1e4, one_over_e_mrad=0.1, **LENS)
    np.testing.assert_allclose(
        values, [0.58345, 0.42468, 0.26131, 0.26049], atol=0.51e-5
    )  # physics.md b9, printed digits
    # The other sign of the defocus, a mistake seen in released software, gives 0.0206 at the third row.
    assert spatial_coherence(K, -1e4, one_over_e_mrad=0.1, **LENS)[2] == pytest.approx(0.0206, abs=1e-4)


def test_spatial_is_the_average_over_the_source():
    """Tilted illumination shifts the frequency: the mean of exp(i gamma) over a Gaussian of angles, to first order."""
    angle = 1e-5  # radian, 1/e half-angle: small, because the closed form keeps only the slope of the phase
    nodes, weights = np.polynomial.hermite.hermgauss(40)
    shifts = nodes * angle / (0.0196874890)
    phases = gamma(K[:, None] + shifts, 0.0, 1e4, amplitude_contrast=0.0, **LENS)
    average = np.abs((np.exp(1j * phases) @ weights) / weights.sum())
    closed = spatial_coherence(K, 1e4, one_over_e_mrad=0.01, **LENS)
    np.testing.assert_allclose(average, closed, atol=1e-3)  # the bar of physics.md (c) 7
    assert closed.min() < 0.99


def test_temporal_table():
    spread = focal_spread(2.7e7, sigma_ev=SIGMA_EV, voltage=300e3)
    assert spread == pytest.approx(26.754, abs=0.51e-3)
    values = temporal_coherence(K, focal_sigma=spread, voltage=300e3)
    np.testing.assert_allclose(values, [0.99467, 0.98324, 0.91924, 0.91799], atol=0.51e-5)
    # A full width taken for an rms gives 0.627 instead of 0.919 at the third row.
    wrong = focal_spread(2.7e7, sigma_ev=0.7, voltage=300e3)
    assert temporal_coherence(K, focal_sigma=wrong, voltage=300e3)[2] == pytest.approx(0.627, abs=1e-3)


def test_temporal_relativistic_option():
    spread = focal_spread(2.7e7, sigma_ev=SIGMA_EV, voltage=300e3, relativistic=True)
    assert spread == pytest.approx(32.825, abs=0.51e-3)
    assert temporal_coherence(0.5, focal_sigma=spread, voltage=300e3) == pytest.approx(0.87914, abs=0.51e-5)


def test_temporal_is_the_average_over_the_energies():
    spread = 26.754
    nodes, weights = np.polynomial.hermite.hermgauss(40)
    defoci = 1e4 + nodes * math.sqrt(2) * spread
    phases = gamma(K, 0.0, defoci, amplitude_contrast=0.0, **LENS)
    average = np.abs(weights @ np.exp(1j * phases)) / weights.sum()
    # exact: the phase is linear in the defocus
    np.testing.assert_allclose(average, temporal_coherence(K, focal_sigma=spread, voltage=300e3), atol=1e-10)


def test_b_factor_table():
    for b_factor, k, expected in [(100, 1 / 4, 0.209611), (50, 1 / 3, 0.249352), (20, 1 / 2, 0.286505)]:
        assert float(b_factor_envelope(np.array(k), b_factor)) == pytest.approx(expected, abs=0.51e-6)
    assert 20 / (8 * math.pi**2) == pytest.approx(0.25330, abs=0.51e-5)


def test_widths():
    assert pytest.approx(2.354820, abs=0.51e-6) == envelopes.FWHM_PER_SIGMA
    assert pytest.approx(1.414214, abs=0.51e-6) == envelopes.ONE_OVER_E_PER_SIGMA
    assert pytest.approx(1.665109, abs=0.51e-6) == envelopes.FWHM_PER_ONE_OVER_E


def test_dtype_follows_the_frequencies():
    k = K.astype(np.float32)
    assert spatial_coherence(k, 1e4, one_over_e_mrad=0.1, **LENS).dtype == np.float32
    assert temporal_coherence(k, focal_sigma=26.0, voltage=300e3).dtype == np.float32
