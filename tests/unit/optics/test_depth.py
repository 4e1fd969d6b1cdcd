from __future__ import annotations

import math

import pytest

from vitreous.errors import SettingsProblem
from vitreous.optics.depth import defocus_error_of_loss, defocus_error_of_phase, depth_of_field, ewald_sagitta
from vitreous.optics.electrons import wavelength

# physics.md b6: kV; d^2/lambda, defocus error of 90 degrees, of 10 % loss, each at 2, 3 and 4 A; parabolic sagitta at
# 2 and 3 A
TABLE = [
    (80, (96, 216, 383), (47.9, 107.8, 191.6), (13.8, 30.9, 55.0), (0.00521965, 0.00231984)),
    (100, (108, 243, 432), (54.0, 121.6, 216.1), (15.5, 34.9, 62.1), (0.00462680, 0.00205635)),
    (120, (119, 269, 478), (59.7, 134.4, 238.9), (17.1, 38.6, 68.6), (0.00418652, 0.00186068)),
    (200, (159, 359, 638), (79.7, 179.4, 319.0), (22.9, 51.5, 91.6), (0.00313492, 0.00139330)),
    (300, (203, 457, 813), (101.6, 228.6, 406.3), (29.2, 65.6, 116.7), (0.00246094, 0.00109375)),
]


@pytest.mark.parametrize(("kv", "depth", "quarter", "loss", "sagitta"), TABLE)
def test_table(kv, depth, quarter, loss, sagitta):
    voltage = kv * 1e3
    # tolerances: half a unit of the last printed digit
    assert [depth_of_field(d, voltage) for d in (2, 3, 4)] == pytest.approx(depth, abs=0.5)
    assert [defocus_error_of_phase(math.pi / 2, d, voltage) for d in (2, 3, 4)] == pytest.approx(quarter, abs=0.0501)
    assert [defocus_error_of_loss(0.1, d, voltage) for d in (2, 3, 4)] == pytest.approx(loss, abs=0.0501)
    assert [wavelength(voltage) / d**2 / 2 for d in (2, 3)] == pytest.approx(sagitta, abs=0.51e-8)
    # the sphere exceeds the parabola by (lambda k / 2)^2, 1e-4 at most here
    assert [ewald_sagitta(d, voltage) for d in (2, 3)] == pytest.approx(sagitta, rel=2e-4)


def test_sphere():
    assert ewald_sagitta(2, 300e3) == pytest.approx(0.00246100, abs=0.51e-8)  # physics.md b6


def test_faces_of_the_depth_of_field_are_a_quarter_turn_from_the_middle():
    half = depth_of_field(3.0, 300e3) / 2
    assert half == pytest.approx(defocus_error_of_phase(math.pi / 2, 3.0, 300e3), rel=1e-12)


def test_bad_settings():
    with pytest.raises(SettingsProblem, match="fraction"):
        defocus_error_of_loss(1.2, 3.0, 300e3)
    with pytest.raises(SettingsProblem, match="wavelength"):
        ewald_sagitta(0.01, 300e3)
