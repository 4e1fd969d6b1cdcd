from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.optics.ctf import gamma
from vitreous.optics.delocalisation import aliasing_frequency, delocalisation, is_aliased, largest_defocus_that_fits
from vitreous.optics.electrons import wavelength

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7}


def test_is_the_slope_of_the_phase():
    k, step = np.linspace(0, 0.6, 200), 1e-6
    ends = [gamma(k + side * step, 0.0, 1.2e4, amplitude_contrast=0.1, **LENS) for side in (-1, 1)]
    slope = (ends[1] - ends[0]) / (2 * step) / (2 * math.pi)
    # the difference of two phases of 200 radian over 2e-6 keeps 1e-8 A of the 100 A
    np.testing.assert_allclose(delocalisation(k, defocus=1.2e4, **LENS), slope, atol=1e-6)
    assert np.abs(slope).max() > 50


@given(st.sampled_from([64, 100, 128, 301]), st.floats(0.5, 4), st.sampled_from([100e3, 200e3, 300e3]))
def test_largest_defocus_is_where_aliasing_reaches_nyquist(box, pixel_size, voltage):
    defocus = largest_defocus_that_fits(box, pixel_size, wavelength(voltage))
    nyquist = 0.5 / pixel_size
    assert aliasing_frequency(box, pixel_size, defocus=defocus, voltage=voltage) == pytest.approx(nyquist, rel=1e-9)
    assert is_aliased(box, pixel_size, defocus=1.001 * defocus, voltage=voltage)
    assert is_aliased(box, pixel_size, defocus=-1.001 * defocus, voltage=voltage)
    assert not is_aliased(box, pixel_size, defocus=0.999 * defocus, voltage=voltage)


def test_two_samples_for_each_oscillation_at_the_limit():
    box, pixel_size = 128, 1.5
    defocus = largest_defocus_that_fits(box, pixel_size, wavelength(300e3))
    assert defocus == pytest.approx(128 * 2.25 / 0.0196874890, rel=1e-8)
    nyquist, sample = 0.5 / pixel_size, 1 / (box * pixel_size)
    k = np.array([nyquist - 2 * sample, nyquist])
    # two samples are one turn, up to the curvature of the phase: (2 samples)^2 df lambda / 2 of a turn = 0.016
    turn = np.diff(gamma(k, 0.0, defocus, voltage=300e3, spherical_aberration=0.0, amplitude_contrast=0.0))
    assert turn[0] == pytest.approx(2 * math.pi, rel=0.02)


def test_spherical_aberration_works_against_underfocus():
    plain = aliasing_frequency(128, 1.0, defocus=1.5e4, voltage=300e3)
    assert plain == pytest.approx(64 / (wavelength(300e3) * 1.5e4), rel=1e-12)
    assert aliasing_frequency(128, 1.0, defocus=1.5e4, **LENS) > plain
    assert aliasing_frequency(128, 1.0, defocus=-1.5e4, **LENS) < plain
    displaced = delocalisation(aliasing_frequency(128, 1.0, defocus=-1.5e4, **LENS), defocus=-1.5e4, **LENS)
    assert abs(displaced) == pytest.approx(64, rel=1e-9)


def test_nothing_is_aliased_without_aberrations():
    assert aliasing_frequency(64, 1.0, defocus=0.0, voltage=300e3) == math.inf
    assert not is_aliased(64, 1.0, defocus=0.0, voltage=300e3)
