from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.optics.ctf import ctf, gamma
from vitreous.optics.electrons import wavelength
from vitreous.optics.zeros import ctf_zeros, first_zero

# physics.md b5: kV, Cs mm, w, defocus A; first six zeros
TABLE = [
    (300, 2.7, 0.07, 10000, (0.0705625, 0.1004929, 0.1234766, 0.1429071, 0.1600850, 0.1756738)),
    (300, 2.7, 0.10, 15000, (0.0572890, 0.0817318, 0.1004304, 0.1161921, 0.1300891, 0.1426675)),
    (300, 2.7, 0.10, 20000, (0.0496013, 0.0707456, 0.0869080, 0.1005210, 0.1125139, 0.1233601)),
    (200, 2.7, 0.10, 15000, (0.0507665, 0.0724382, 0.0890252, 0.1030141, 0.1153544, 0.1265295)),
    (100, 2.0, 0.10, 10000, (0.0512343, 0.0731880, 0.0900495, 0.1043204, 0.1169550, 0.1284392)),
    (300, 0.0, 0.00, 10000, (0.0712697, 0.1007906, 0.1234427, 0.1425394, 0.1593639, 0.1745744)),
]


def settings(kv, cs_mm, w):
    return {"voltage": kv * 1e3, "spherical_aberration": cs_mm * 1e7, "amplitude_contrast": w}


@pytest.mark.parametrize(("kv", "cs_mm", "w", "defocus", "expected"), TABLE)
def test_table(kv, cs_mm, w, defocus, expected):
    lens = settings(kv, cs_mm, w)
    zeros = ctf_zeros(6, defocus=defocus, **lens)
    np.testing.assert_allclose(zeros, expected, atol=0.51e-7)  # half a unit of the last printed digit; the bar is 1e-6
    assert first_zero(defocus=defocus, **lens) == zeros[0]
    # The CTF itself changes sign there: a wrong sign of asin(w) would move the first zero by 1e-3.
    values = ctf(np.stack([zeros - 1e-5, zeros + 1e-5]), 0.0, defocus, **lens)
    assert np.all(values[0] * values[1] < 0)


def test_without_spherical_aberration():
    zeros = ctf_zeros(50, defocus=1e4, voltage=300e3)
    np.testing.assert_allclose(zeros, np.sqrt(np.arange(1, 51) / (wavelength(300e3) * 1e4)), rtol=1e-13)


@given(
    st.floats(-3e4, 5e4),
    st.sampled_from([80, 100, 200, 300]),
    st.floats(0, 4),
    st.floats(0, 0.3),
    st.floats(0, 3.1),
)
def test_zeros_are_all_the_zeros(defocus, kv, cs_mm, w, phase_shift):
    """Every sign change of the CTF on a fine grid is near a listed zero, and the CTF vanishes at each of these."""
    if abs(defocus) < 500:
        defocus = 500.0
    lens = {**settings(kv, cs_mm, w), "phase_shift": phase_shift}
    zeros = ctf_zeros(8, defocus=defocus, **lens)
    # gamma is known to 1e-13 of its size; its size here is below 1e4 radian
    np.testing.assert_allclose(np.sin(gamma(zeros, 0.0, defocus, **lens)), 0, atol=1e-8)
    assert np.all(np.diff(zeros) >= 0)
    k = np.linspace(1e-6, zeros[-1], 40001)
    values = ctf(k, 0.0, defocus, **lens)
    crossings = k[1:][np.sign(values[1:]) != np.sign(values[:-1])]
    # The grid's step is the error of a crossing; the last zero is the end of the grid.
    distance = np.abs(crossings[:, None] - zeros).min(axis=1)
    assert np.all(distance <= 2 * (k[1] - k[0]))


def test_overfocus_and_the_turn_of_the_phase():
    # With w > 0 an overfocused phase falls through 0 first: n = 0, then -1.
    zeros = ctf_zeros(2, defocus=-1e4, voltage=300e3, amplitude_contrast=0.1)
    expected = np.sqrt((np.arcsin(0.1) + np.array([0, np.pi])) / (np.pi * wavelength(300e3) * 1e4))
    np.testing.assert_allclose(zeros, expected, rtol=1e-12)
    # physics.md b5: chi turns at sqrt(df / (Cs lambda^2)) = 0.977525; zeros lie symmetrically in k^2 about it
    turn = math.sqrt(1e4 / (2.7e7 * wavelength(300e3) ** 2))
    assert turn == pytest.approx(0.977525, abs=0.51e-6)
    all_zeros = ctf_zeros(400, defocus=1e4, voltage=300e3, spherical_aberration=2.7e7)
    count = np.count_nonzero(all_zeros < turn)
    np.testing.assert_allclose(all_zeros[count : 2 * count] ** 2, 2 * turn**2 - all_zeros[:count][::-1] ** 2, rtol=1e-9)


def test_no_zeros():
    assert len(ctf_zeros(3, defocus=0.0, voltage=300e3)) == 0
    with pytest.raises(DataProblem, match="zero defocus"):
        first_zero(defocus=0.0, voltage=300e3)
    with pytest.raises(SettingsProblem, match="0 zeros"):
        ctf_zeros(0, defocus=1e4, voltage=300e3)
