from __future__ import annotations

import numpy as np
import pytest

from vitreous.detection.curve import NYQUIST, Curve, Provenance, SquarePixel
from vitreous.detection.detector import Detector, Mode
from vitreous.detection.detectors import WHITE, detector, detector_names, voltages_of
from vitreous.errors import DataProblem, SettingsProblem

ALL = [(name, voltage) for name in detector_names() for voltage in voltages_of(name) or (300e3,)]

# physics.md b10: MTF at half Nyquist and at Nyquist
MTF_TABLE = {
    ("k2", 300e3): (0.733, 0.388),
    ("k2-fl2", 300e3): (0.858, 0.607),
    ("k2-fl2", 200e3): (0.829, 0.545),
    ("k3", 300e3): (0.889, 0.636),
    ("k3-cds", 300e3): (0.914, 0.721),
    ("falcon4", 300e3): (0.535, 0.093),
    ("falcon4", 200e3): (0.475, 0.072),
    ("falcon3", 300e3): (0.572, 0.152),
    ("falcon3", 200e3): (0.552, 0.135),
    ("falcon2", 300e3): (0.219, 0.052),
    ("de20", 300e3): (0.570, 0.204),
}


@pytest.mark.parametrize("key", MTF_TABLE, ids=str)
def test_mtf_is_that_of_the_makers(key):
    measured = detector(*key).mtf(np.array([0.25, 0.5]))
    # Three digits in the table; the Falcon 4 curves begin at 0.9995 and are divided by it.
    np.testing.assert_allclose(measured, MTF_TABLE[key], atol=8e-4)
    # Read on an axis of fractions of Nyquist, physics.md (f) 8, the value at half Nyquist comes out as that at Nyquist.
    assert abs(detector(*key).mtf(np.array(0.25)) - MTF_TABLE[key][1]) > 0.15


@pytest.mark.parametrize("key", ALL, ids=str)
def test_three_curves_of_each_detector(key):
    known = detector(*key)
    k = np.linspace(0, NYQUIST, 101)
    mtf, ntf, dqe = known.mtf(k), known.ntf(k), known.dqe(k)
    assert mtf[0] == pytest.approx(1) and ntf[0] == pytest.approx(1) and dqe[0] == pytest.approx(known.dqe_at_zero)
    np.testing.assert_allclose(dqe, known.dqe_at_zero * mtf**2 / ntf**2, rtol=1e-12)
    assert (dqe > 0).all() and (dqe <= 1).all() and (ntf < 1.05).all()
    # They are distinct: the DQE is no MTF and no square of one (physics.md (f) 14), except where the noise is white.
    assert np.abs(dqe - mtf).max() > 0.02
    assert known.is_white == bool(np.allclose(dqe, known.dqe_at_zero * mtf**2, rtol=1e-9))


@pytest.mark.parametrize("key", ALL, ids=str)
def test_each_curve_says_where_it_is_from(key):
    known = detector(*key).provenance()
    assert set(known) == {"MTF", "NTF", "DQE", "DQE(0)"}
    assert all(isinstance(how, Provenance) and source for how, source in known.values())
    assert known["MTF"][0] in (Provenance.MEASURED, Provenance.EXACT)
    # What is computed is at best derived, and no better than what it was computed from.
    if known["NTF"][0] is Provenance.ASSUMED or known["DQE(0)"][0] is Provenance.ASSUMED:
        assert known["DQE"][0] is Provenance.ASSUMED


def test_published_dqe():
    # McMullan et al. 2014: the K2 is better than the Falcon II at low frequencies and worse at high ones.
    k2, falcon2 = detector("k2", 300e3), detector("falcon2", 300e3)
    low, high = np.array(0.05), np.array(0.45)
    assert k2.dqe(low) > falcon2.dqe(low) + 0.2 and k2.dqe(high) < falcon2.dqe(high)
    # White noise, assumed for the maker's MTF of the K2, against the measured DQE: what docs/detectors.md says
    assumed = detector("k2-fl2", 300e3)
    ratio = assumed.dqe(np.array([0.25, 0.5])) / k2.dqe(np.array([0.25, 0.5]))
    np.testing.assert_allclose(ratio, (1.05, 1.28), atol=0.01)


@pytest.mark.parametrize("points", [(0.95, 0.713, 0.322), (0.80, 0.55, 0.26)])  # physics.md b10, two dose rates
def test_dqe_through_published_points(points):
    known = detector("falcon3", 300e3).with_dqe_points(*points, "a table")
    np.testing.assert_allclose(known.dqe(np.array([0, 0.25, 0.5])), points, rtol=1e-12)
    # physics.md (f) 8: on the axis of fractions of Nyquist the value at Nyquist would be that at half Nyquist
    assert abs(known.dqe(np.array(0.5)) - points[1]) > 0.2
    between = known.dqe(np.linspace(0, 0.5, 200))
    assert (np.diff(between) <= 1e-12).all()  # monotone, as the points are: no overshoot
    assert known.provenance()["DQE"] == (Provenance.QUOTED, "a table")
    np.testing.assert_array_equal(known.mtf(np.array(0.3)), detector("falcon3", 300e3).mtf(np.array(0.3)))


def test_ideal_pixel_is_exact():
    ideal = detector("ideal")
    assert ideal.dqe(np.array(0.5)) == pytest.approx(0.405285, abs=5e-7)  # physics.md b10
    assert ideal.dqe(np.array(0.5), np.array(0.5)) == pytest.approx(0.164256, abs=5e-7)
    # A square has no rotational symmetry: the same |k| along the axis would be 0.0313.
    assert ideal.dqe(np.array(np.sqrt(0.5))) < 0.14
    # The mean over a pixel of a wave, as a sum
    x = (np.arange(20_000) + 0.5) / 20_000 - 0.5
    assert ideal.mtf(np.array(0.37)) == pytest.approx(np.cos(2 * np.pi * 0.37 * x).mean(), abs=1e-9)
    assert ideal.provenance()["DQE"][0] is Provenance.EXACT


def test_beyond_the_table_the_last_value_holds():
    falcon = detector("falcon4", 300e3)  # its table ends at 63/128
    assert falcon.mtf(np.array(0.5)) == falcon.mtf(np.array(63 / 128)) == falcon.mtf(np.array(0.5), np.array(0.5))
    k3 = detector("k3", 300e3)
    assert k3.mtf(np.array(0.3), np.array(0.4)) == pytest.approx(k3.mtf(np.array(0.5)))  # radial


def test_binned_pixels_see_lower_frequencies_of_the_detector():
    from dataclasses import replace

    k2 = detector("k2", 300e3)
    k = np.linspace(0, 0.5, 7)
    for curve in ("mtf", "ntf", "dqe"):
        np.testing.assert_allclose(getattr(replace(k2, binning=2.0), curve)(k), getattr(k2, curve)(k / 2), rtol=1e-14)
    with pytest.raises(SettingsProblem, match="1 or more"):
        replace(k2, binning=0.5)


def test_names_and_voltages():
    assert detector("Falcon 4", 200e3) == detector("falcon4", 200e3)
    assert detector("K3_CDS", 300e3).name == "k3-cds"
    with pytest.raises(SettingsProblem, match=r"'eagle'; expected k2 or .*ideal"):
        detector("eagle", 300e3)
    with pytest.raises(SettingsProblem, match=r"'k2' at 200 kV; expected 300 kV.*there is k2-fl2"):
        detector("k2", 200e3)
    with pytest.raises(SettingsProblem, match="no voltage; expected 200 kV or 300 kV"):
        detector("k3")


def test_a_detector_of_ones_own():
    mtf = Curve((0.0, 0.25, 0.5), (0.998, 0.8, 0.5), Provenance.MEASURED, "our camera")
    own = Detector.of_ntf("ours", 120e3, Mode.COUNTING, mtf, WHITE, 0.7)
    assert own.mtf(np.array(0.0)) == 1 and own.mtf(np.array(0.25)) == pytest.approx(0.8 / 0.998)
    assert own.dqe(np.array(0.5)) == pytest.approx(0.7 * (0.5 / 0.998) ** 2)
    better = own.with_dqe_at_zero(0.9)
    np.testing.assert_allclose(better.dqe(np.array(0.4)), own.dqe(np.array(0.4)) * 0.9 / 0.7)
    assert own.dqe_at_zero == 0.7 and own.gain == 0.7
    same = Detector.of_dqe("ours", None, Mode.INTEGRATING, SquarePixel(), mtf)
    assert same.gain == 1.0 and same.dqe_at_zero == 0.998


def test_fractions_of_nyquist_are_refused_or_said():
    with pytest.raises(DataProblem, match="run to 1; expected cycles per pixel"):
        Curve((0.0, 0.5, 1.0), (0.95, 0.713, 0.322), Provenance.MEASURED, "x")
    said = Curve.from_fraction_of_nyquist((0, 0.5, 1), (0.95, 0.713, 0.322), Provenance.MEASURED, "x")
    np.testing.assert_allclose(said.at(np.array([0.25, 0.5])), (0.713, 0.322))


@pytest.mark.parametrize(
    ("frequency", "value", "message"),
    [
        ((0.0, 0.5), (1.0,), "two lists"),
        ((0.1, 0.5), (1.0, 0.5), "rising frequencies from 0"),
        ((0.0, 0.3, 0.2, 0.5), (1.0, 0.9, 0.8, 0.5), "rising"),
        ((0.0, 0.5), (1.0, 0.0), "positive"),
        ((0.0, 0.5), (1.0, np.nan), "positive"),
        ((0.0, 0.25), (1.0, 0.7), "run to 0.25"),
    ],
)
def test_bad_curves(frequency, value, message):
    with pytest.raises(DataProblem, match=message):
        Curve(frequency, value, Provenance.MEASURED, "x")


def test_bad_detectors():
    curve = Curve((0.0, 0.5), (1.0, 0.5), Provenance.MEASURED, "x")
    with pytest.raises(DataProblem, match="at most 1"):
        Detector.of_ntf("x", None, Mode.COUNTING, curve, WHITE, 1.2)
    with pytest.raises(DataProblem, match="exactly one"):
        Detector("x", None, Mode.COUNTING, curve, 0.9)
    with pytest.raises(DataProblem, match="of_dqe"):
        Detector(
            "x", None, Mode.COUNTING, Curve((0.0, 0.5), (0.9, 0.5), Provenance.MEASURED, "x"), 0.9, ntf_curve=WHITE
        )
