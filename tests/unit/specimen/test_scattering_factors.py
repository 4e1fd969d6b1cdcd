from __future__ import annotations

import gemmi
import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.reference import scattering_factors as reference
from vitreous.specimen.scattering_factors import gaussians, potential_transform, scattering_factor

# physics.md b2, Peng: f(0) in angstrom
AT_ZERO = {
    "H": 0.5288, "C": 2.5088, "N": 2.2135, "O": 1.9834, "Na": 4.7758, "Mg": 5.2078, "Ca": 9.9131,
    "P": 5.4876, "S": 5.1604, "K": 8.9834, "Fe": 7.1637, "Zn": 6.0634, "Au": 10.5714, "U": 19.1164,
}  # fmt: skip
S = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0)
TABLE = {
    "H": (0.50804, 0.45332, 0.31077, 0.24901, 0.08903, 0.02377, 0.00411),
    "C": (2.40574, 2.13794, 1.45961, 1.16855, 0.41358, 0.11739, 0.03359),
    "P": (5.19285, 4.45786, 2.79635, 2.17018, 0.79732, 0.28453, 0.07996),
    "S": (4.93814, 4.36267, 2.92638, 2.32632, 0.86058, 0.29804, 0.08615),
}
# Kirkland and Lobato, f(0)
OTHERS = {
    "C": (2.5114, 2.5097),
    "N": (2.2188, 2.2488),
    "O": (1.9897, 2.0291),
    "K": (8.9466, 8.9862),
    "U": (19.0991, 19.3884),
}
SYMBOLS = [gemmi.Element(z).name for z in range(1, 99)]


@pytest.mark.parametrize("element", AT_ZERO)
def test_at_zero(element):
    assert float(scattering_factor(element, 0.0)) == pytest.approx(AT_ZERO[element], abs=0.51e-4)  # printed digits
    for other in OTHERS.get(element, ()):
        assert float(scattering_factor(element, 0.0)) == pytest.approx(other, rel=0.025)  # physics.md (c) 2


@pytest.mark.parametrize("element", TABLE)
def test_table(element):
    np.testing.assert_allclose(scattering_factor(element, np.array(S)), TABLE[element], atol=0.51e-5)


def test_nitrogen_and_oxygen():
    np.testing.assert_allclose(
        scattering_factor("N", np.array([0.05, 0.1, 1])), [2.14545, 1.96338, 0.13766], atol=0.51e-5
    )
    np.testing.assert_allclose(
        scattering_factor("O", np.array([0.05, 0.1, 1])), [1.93652, 1.80754, 0.15891], atol=0.51e-5
    )


@pytest.mark.parametrize("element", SYMBOLS)
def test_every_factor_is_positive_and_falls(element):
    values = scattering_factor(element, np.linspace(0, 2, 201))
    assert np.all(values > 0) and np.all(np.diff(values) < 0)


@pytest.mark.parametrize("z", range(2, 99))
def test_mott_bethe(z):
    """f_e = 0.02393366 (Z - f_x) / s^2 from the independent X-ray table; the bounds are those of physics.md (e)."""
    element = gemmi.Element(z)
    for s, bound in [(0.25, 0.008), (0.5, 0.014), (1.0, 0.021)]:
        from_x_rays = 0.02393366 * (z - element.it92.calculate_sf(s * s)) / s**2
        assert float(scattering_factor(element.name, s)) == pytest.approx(from_x_rays, rel=bound)


def test_is_the_definition():
    k = np.linspace(0, 4, 30)
    for element in ("H", "C", "ZN", "RB"):
        a, b = gaussians(element)
        np.testing.assert_allclose(
            scattering_factor(element, k / 2), reference.scattering_factor(k / 2, a, b), rtol=1e-13
        )
        np.testing.assert_allclose(
            potential_transform(element, k, 17.0), reference.potential_transform(k, a, b, 17.0), rtol=1e-8
        )  # the definition's constant has nine digits


def test_definition_of_the_potential_is_its_transform():
    """V(r) of the Gaussians, integrated over a sphere with sin(2 pi k r)/(2 pi k r), is V(k)."""
    a, b = gaussians("S")
    r = np.linspace(0, 15, 150001)  # fine, because an atom without B factor is sharp
    profile = reference.potential(r, a, b, 5.0)
    for k in (0.0, 0.2, 0.7):
        transform = np.trapezoid(4 * np.pi * r**2 * profile * np.sinc(2 * k * r), r)
        expected = reference.potential_transform(np.array(k), a, b, 5.0)
        assert transform == pytest.approx(float(expected), rel=1e-6)


def test_symbols_in_either_case():
    assert gaussians("ZN") == gaussians("Zn") == gaussians("zn")
    assert gaussians("CA") != gaussians("C")
    assert gaussians("D") == gaussians("H")


@pytest.mark.parametrize("symbol", ["X", "", "QQ", "Es", "CARBON"])
def test_unknown_elements_are_named(symbol):
    with pytest.raises(DataProblem, match=f"unknown element '{symbol}'"):
        gaussians(symbol)


def test_same_code_under_jax():
    import jax
    import jax.numpy as jnp

    s = np.linspace(0, 1, 10, dtype=np.float32)
    values = jax.jit(lambda s: scattering_factor("C", s))(jnp.asarray(s))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, scattering_factor("C", s), rtol=1e-6)
    assert scattering_factor("C", s).dtype == np.float32
