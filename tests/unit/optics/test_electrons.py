from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous import constants
from vitreous.errors import SettingsProblem
from vitreous.optics.electrons import interaction_constant, lorentz_factor, speed_ratio, wavelength
from vitreous.reference import optics as reference

# physics.md b1: kV, wavelength (A), gamma, beta, sigma (rad/V/A)
TABLE = [
    (80, 0.0417571607, 1.156556094, 0.502398886, 1.008706600e-3),
    (100, 0.0370143661, 1.195695118, 0.548220862, 9.243958175e-4),
    (120, 0.0334921527, 1.234834142, 0.586671024, 8.638113196e-4),
    (200, 0.0250793404, 1.391390236, 0.695314471, 7.288401044e-4),
    (300, 0.0196874890, 1.587085354, 0.776525493, 6.526161424e-4),
]


@pytest.mark.parametrize(("kv", "wave", "gamma", "beta", "sigma"), TABLE)
def test_table(kv, wave, gamma, beta, sigma):
    # 1e-9 is the bar; the second term is half a unit of the last digit that the table prints.
    assert wavelength(kv * 1e3) == pytest.approx(wave, rel=1e-9, abs=0.51e-10)
    assert lorentz_factor(kv * 1e3) == pytest.approx(gamma, rel=1e-9)
    assert speed_ratio(kv * 1e3) == pytest.approx(beta, rel=1e-9, abs=0.51e-9)
    assert interaction_constant(kv * 1e3) == pytest.approx(sigma, rel=1e-9)


def test_short_formulas_are_told_apart():
    assert 12.2643247 / math.sqrt(3e5 * (1 + 0.978466e-6 * 3e5)) / wavelength(3e5) - 1 == pytest.approx(
        6.4e-6, abs=1e-7
    )
    assert 12.2639 / math.sqrt(3e5 + 0.97845e-6 * 3e5**2) / wavelength(3e5) - 1 == pytest.approx(-2.6e-5, abs=1e-6)


@given(st.floats(1e3, 3e6))
def test_is_the_definition(voltage):
    # 1e-11: the definition subtracts the squared rest energy, which costs up to three digits at 1 kV.
    assert wavelength(voltage) == pytest.approx(reference.wavelength(voltage), rel=1e-11)
    assert interaction_constant(voltage) == pytest.approx(reference.interaction_constant(voltage), rel=1e-11)


@given(st.floats(1e3, 3e6))
def test_relativity_is_consistent(voltage):
    gamma, beta = lorentz_factor(voltage), speed_ratio(voltage)
    assert gamma == pytest.approx(1 / math.sqrt(1 - beta**2), rel=1e-9)
    # sigma = 2 pi / (lambda V) (mc^2 + eV)/(2 mc^2 + eV) is 1 / (hbar v) in volts and angstrom
    hbar_c = constants.PLANCK_LIGHT_EV_ANGSTROM / (2 * math.pi)
    assert interaction_constant(voltage) == pytest.approx(1 / (hbar_c * beta), rel=1e-12)


def test_constants():
    assert (
        pytest.approx(510998.95069, abs=2e-3) == constants.ELECTRON_REST_ENERGY_EV
    )  # CODATA 2022 lists 510998.95069(16)
    assert pytest.approx(47.8776472, abs=0.51e-7) == constants.POTENTIAL_PER_FACTOR  # physics.md b2


def test_scalars_are_python_floats():
    assert all(type(f(300e3)) is float for f in (wavelength, lorentz_factor, speed_ratio, interaction_constant))


@pytest.mark.parametrize("voltage", [0, -300e3, float("nan"), float("inf")])
@pytest.mark.parametrize("function", [wavelength, lorentz_factor, speed_ratio, interaction_constant])
def test_impossible_voltages_are_refused(function, voltage):
    with pytest.raises(SettingsProblem, match="positive number of volts"):
        function(voltage)


def test_kilovolts_are_refused():
    with pytest.raises(SettingsProblem, match="300e3"):
        wavelength(300)
