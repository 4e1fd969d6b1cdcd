"""Thick specimens: the averages over layers, the limit of no thickness, nodes, precision, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.optics.ctf import ctf, gamma
from vitreous.optics.electrons import wavelength
from vitreous.optics.thickness import amplitude_nodes, power_nodes, thick_ctf, thick_power, thickness_damping
from vitreous.reference import thickness as reference

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
KX, KY = np.meshgrid(np.fft.rfftfreq(48, 1.0), np.fft.fftfreq(48, 1.0))
HEIGHT = math.pi * wavelength(300e3) * (KX**2 + KY**2)
ASTIGMATISM = np.array([300.0, -200.0])


@pytest.mark.parametrize("thickness", [500.0, 1000.0, 3000.0])
def test_power_is_the_average_over_unrelated_layers(thickness):
    values = thick_power(KX, KY, 15000.0, ASTIGMATISM, thickness=thickness, phase_shift=0.3, **LENS)
    phase = gamma(KX, KY, 15000.0, ASTIGMATISM, phase_shift=0.3, **LENS)
    layers = reference.power_of_layers(phase, HEIGHT, thickness, 1000)
    assert np.abs(values - layers).max() < 1e-4  # the bar of physics.md (c) 9
    swapped = 0.5 * (1 + np.sinc(HEIGHT * thickness / math.pi) * np.cos(2 * phase))
    assert np.abs(swapped - layers).max() > 0.1  # the other sign
    single = thick_power(KX.astype("f4"), KY.astype("f4"), 15000.0, ASTIGMATISM, thickness=thickness, **LENS)
    plain = thick_power(KX, KY, 15000.0, ASTIGMATISM, thickness=thickness, **LENS)
    assert single.dtype == np.float32 and np.abs(single - plain).max() < 1e-3


def test_errors_of_the_explicit_average_are_those_of_the_table():
    """Table b7, 1000 A: 1.2e-4 with 100 layers, 1.2e-6 with 1000, 1.2e-8 with 10000, up to k = 1/2 on the axis."""
    k = np.linspace(0, 0.5, 301)
    height = math.pi * wavelength(300e3) * k**2
    values = thick_power(k, 0.0 * k, 15000.0, thickness=1000.0, **LENS)
    phase = gamma(k, 0.0 * k, 15000.0, **LENS)
    for count, error in ((100, 1.2e-4), (1000, 1.2e-6), (10000, 1.2e-8)):
        found = np.abs(values - reference.power_of_layers(phase, height, 1000.0, count)).max()
        assert found == pytest.approx(error, rel=0.2)


def test_amplitude_is_the_average_over_equal_layers():
    values = thick_ctf(KX, KY, 15000.0, ASTIGMATISM, thickness=1200.0, **LENS)
    layers = reference.amplitude_of_layers(gamma(KX, KY, 15000.0, ASTIGMATISM, **LENS), HEIGHT, 1200.0, 1000)
    assert np.abs(values - layers).max() < 1e-4
    assert np.abs(values + layers).max() > 0.1
    raw = thick_ctf(KX, KY, 15000.0, ASTIGMATISM, thickness=1200.0, contrast="raw", b_factor=20.0, **LENS)
    np.testing.assert_allclose(raw, -values * np.exp(-5.0 * (KX**2 + KY**2)), atol=1e-14)


def test_no_thickness_is_the_plain_ctf_with_its_sign():
    """Mistake (f) 3: thick and thin functions of opposite sign."""
    plain = ctf(KX, KY, 9000.0, ASTIGMATISM, **LENS)
    for thickness in (0.0, 1e-6):
        np.testing.assert_allclose(
            thick_ctf(KX, KY, 9000.0, ASTIGMATISM, thickness=thickness, **LENS), plain, atol=1e-12
        )
        power = thick_power(KX, KY, 9000.0, ASTIGMATISM, thickness=thickness, **LENS)
        np.testing.assert_allclose(power, plain**2, atol=1e-10)
    assert np.abs(thick_ctf(KX, KY, 9000.0, ASTIGMATISM, thickness=0.0, **LENS) + plain).max() > 0.1
    assert thick_ctf(0.0, 0.0, 9000.0, thickness=2000.0, **LENS) == pytest.approx(0.1, abs=1e-15)


def test_nodes():
    """Table b7, and that the two averages are not one."""
    assert power_nodes(1000.0, 300e3)[0] == pytest.approx(0.225375, abs=5e-7)
    assert power_nodes(2000.0, 300e3)[0] == pytest.approx(0.159364, abs=5e-7)
    assert 1 / power_nodes(1000.0, 300e3)[0] == pytest.approx(4.437, abs=5e-4)
    assert 1 / power_nodes(2000.0, 300e3)[0] == pytest.approx(6.275, abs=5e-4)
    for count in (1, 4):
        nodes = power_nodes(1500.0, 200e3, count)
        lens = {**LENS, "voltage": 200e3}
        np.testing.assert_allclose(thick_power(nodes, 0 * nodes, 2e4, thickness=1500.0, **lens), 0.5, atol=1e-12)
        nodes = amplitude_nodes(1500.0, 200e3, count)
        np.testing.assert_allclose(thick_ctf(nodes, 0 * nodes, 2e4, thickness=1500.0, **lens), 0.0, atol=1e-12)
    assert amplitude_nodes(1000.0, 300e3)[0] == pytest.approx(math.sqrt(2) * power_nodes(1000.0, 300e3)[0])
    # beyond a node the rings have the opposite contrast
    damping = thickness_damping(np.array([0.3, 0.4]), np.zeros(2), 1000.0, voltage=300e3)
    assert damping[0] > 0 > damping[1]


@pytest.mark.parametrize("bad", [0.0, -5.0, math.nan])
def test_nodes_of_no_specimen(bad):
    with pytest.raises(SettingsProblem, match="thick"):
        power_nodes(bad, 300e3)
    with pytest.raises(SettingsProblem, match="nodes"):
        amplitude_nodes(100.0, 300e3, 0)


def test_gradients_are_finite_and_right():
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        kx, ky = jnp.asarray(KX[:3, :5]), jnp.asarray(KY[:3, :5])
        for function in (thick_ctf, thick_power):

            def total(t, function=function):
                return jnp.sum(function(kx, ky, 8000.0, thickness=t, **LENS) ** 2)

            for thickness in (0.0, 900.0):
                slope = float(jax.grad(total)(thickness))
                step = 1e-2
                numeric = (total(thickness + step) - total(thickness - step)) / (2 * step)
                assert slope == pytest.approx(float(numeric), rel=1e-4, abs=1e-9)
            values = function(kx, ky, 8000.0, thickness=900.0, **LENS)
            np.testing.assert_allclose(
                values, function(KX[:3, :5], KY[:3, :5], 8000.0, thickness=900.0, **LENS), atol=1e-11
            )
