"""What is kept of an estimate: numbers with their errors, there and back through JSON, and the sentences that reject it."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from vitreous.estimation.ctf_estimate import Alternative, CtfEstimate, Lens, RingProfile
from vitreous.estimation.spectrum import Spectrum
from vitreous.jobs.ctf_limits import CtfLimits, reasons_to_reject
from vitreous.jobs.ctf_row import CURVE_SAMPLES, UNKNOWN_AXIS, UNKNOWN_DIRECTION, CtfRow, sigmas
from vitreous.jobs.folder import plain

NAMES = ("defocus", "astigmatism_along", "astigmatism_across", "slope_x", "slope_y")


def covariance(seed: int = 4) -> np.ndarray:
    """Positive, correlated, with the sizes of real ones: tens of angstrom, slopes of a few thousandths."""
    factor = np.random.default_rng(seed).normal(size=(5, 5)) + 2 * np.eye(5)
    scale = np.array([10.0, 15.0, 15.0, 0.004, 0.004])
    return factor @ factor.T * np.outer(scale, scale) / 10


def estimate(**changes) -> CtfEstimate:
    frequency = np.linspace(1 / 30, 1 / 3, 1500)
    curve = np.cos(40 * frequency)
    made = CtfEstimate(
        lens=Lens(300e3, 2.7e7, 0.1),
        defocus=15000.0,
        astigmatism=(300.0, 400.0),
        phase_shift=0.0,
        b_factor=90.0,
        b_factor_sigma=3.0,
        names=NAMES,
        covariance=covariance(),
        found=True,
        evidence="Thon rings to 4 A.",
        score=0.9,
        significance=40.0,
        fit_resolution=4.0,
        ice_ring=0.1,
        alternatives=(Alternative(30000.0, 9.0),),
        profile=RingProfile(frequency, *(curve for _ in range(7))),
        spectrum=Spectrum(np.ones((64, 33), dtype=np.float32), 1.5, 3.3),
        slope=(0.2, -0.4),
    )
    return replace(made, **changes)


def row_of(made: CtfEstimate, **changes) -> CtfRow:
    about = {"name": "m", "path": "m.mrc", "micrograph": "m.mrc", "kind": "micrograph", "optics_group": 1}
    about |= {"pixel_size": 1.5, "shape": (400, 500), "reasons": (), "seconds": 1.0}
    return CtfRow.of_estimate(made, **(about | changes))


def derived(made: CtfEstimate) -> dict[str, float]:
    """What follows from the fitted parameters."""
    return {
        "defocus_sigma": made.defocus,
        "defocus_u_sigma": made.defocus_u,
        "defocus_v_sigma": made.defocus_v,
        "amplitude_sigma": made.amplitude,
        "angle_sigma": made.defocus_angle,
        "tilt_sigma": made.plane.tilt,
        "axis_sigma": made.plane.axis_angle,
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_of_derived_numbers_are_those_of_many_draws(seed, rng):
    """The covariance is made small, so that first order is exact enough: 0.01 of the size of astigmatism and slope."""
    made = estimate(covariance=covariance(seed) * 0.01)
    start = np.array([made.defocus, *made.astigmatism, *made.slope])
    draws = rng.multivariate_normal(start, made.covariance, size=4000)
    values = [
        derived(replace(made, defocus=d[0], astigmatism=(d[1], d[2]), slope=(d[3], d[4]))) for d in draws.tolist()
    ]
    found = sigmas(made)
    for name in values[0]:
        spread = np.std([value[name] for value in values])
        assert found[name] == pytest.approx(spread, rel=0.05)  # of 4000 draws: 1.1 %; four and a half times that


def test_directions_of_nothing_are_unknown_not_infinite():
    made = estimate(astigmatism=(0.0, 0.0), slope=(0.0, 0.0))
    found = sigmas(made)
    assert found["angle_sigma"] == UNKNOWN_AXIS and found["axis_sigma"] == UNKNOWN_DIRECTION
    assert all(value is None or math.isfinite(value) for value in found.values())
    weak = sigmas(estimate(astigmatism=(0.5, 0.5)))
    assert weak["angle_sigma"] == UNKNOWN_AXIS
    strong = sigmas(estimate(astigmatism=(3000.0, 0.0)))
    assert strong["angle_sigma"] < 0.01 * UNKNOWN_AXIS


def test_what_was_not_fitted_has_no_error():
    lens = estimate(names=NAMES[:3], covariance=covariance()[:3, :3], slope=None)
    row = row_of(lens)
    assert row.defocus_sigma is not None and row.tilt is None and row.tilt_sigma is None and row.plane is None
    assert row.phase_shift_sigma is None and row.thickness_sigma is None


def test_a_row_survives_its_file():
    row = row_of(estimate(b_factor=math.nan, b_factor_sigma=math.nan), reasons=("Too bad.",))
    again = CtfRow.from_json(json.loads(json.dumps(plain(row.as_json()), allow_nan=False)))
    assert again == row and again.b_factor is None and not again.good
    assert again.plane is not None and again.plane.slope == pytest.approx((0.2, -0.4))
    with pytest.raises(TypeError):
        CtfRow.from_json({**row.as_json(), "surprise": 1})


def test_numbers_are_those_of_the_estimate():
    made = estimate()
    row = row_of(made)
    assert (row.defocus_u, row.defocus_v) == (15500.0, 14500.0) == (made.defocus_u, made.defocus_v)
    assert row.angle == pytest.approx(math.atan2(400, 300) / 2) and row.amplitude == 500.0
    assert row.tilt == pytest.approx(math.atan(math.hypot(0.2, 0.4)))
    assert row.good and row.alternatives == ((30000.0, 9.0),)


def test_curves_are_thinned_evenly():
    row = row_of(estimate())
    assert {len(curve) for curve in row.curves.values()} == {CURVE_SAMPLES}
    assert set(row.curves) == {curve.name for curve in fields(RingProfile)}
    k = np.array(row.curves["frequency"])
    assert k[0] == pytest.approx(1 / 30, rel=1e-4) and k[-1] == pytest.approx(1 / 3, rel=1e-4)
    assert np.abs(np.array(row.curves["rings"]) - np.cos(40 * k)).max() < 1e-3  # five digits of k times 40


LIMITS = CtfLimits(resolution=5.0, astigmatism=1000.0, ice_ring=0.2, defocus=(5000.0, 20000.0))


def test_a_good_micrograph_has_no_reason():
    at_the_limits = estimate(fit_resolution=5.0, ice_ring=0.2, defocus=20000.0)  # U - V is 1000
    assert reasons_to_reject(at_the_limits, LIMITS) == ()
    anything = estimate(fit_resolution=29.0, ice_ring=9.0, defocus=1.0, astigmatism=(9e3, 0.0))
    assert reasons_to_reject(anything, CtfLimits()) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fit_resolution": 5.01}, "5.0 Å only"),
        ({"astigmatism": (0.0, -501.0)}, "astigmatism is 1002 Å"),
        ({"ice_ring": 0.21}, "Ice crystals"),
        ({"defocus": 20001.0}, "defocus is 2.00 µm"),
        ({"defocus": 4999.0}, "defocus is 0.50 µm"),
    ],
)
def test_each_limit_has_its_sentence(changes, words):
    reasons = reasons_to_reject(estimate(**changes), LIMITS)
    assert len(reasons) == 1 and words in reasons[0] and reasons[0].endswith(".")


def test_reasons_add_up():
    reasons = reasons_to_reject(estimate(fit_resolution=9.0, ice_ring=0.5), LIMITS)
    assert len(reasons) == 2 and "9.0 Å" in reasons[0] and reasons[1].startswith("Ice crystals")


def test_no_ice_can_be_seen_where_the_spectrum_ends_before():
    assert reasons_to_reject(estimate(ice_ring=None), LIMITS) == ()


def test_numbers_that_mean_nothing_are_not_judged():
    made = estimate(found=False, fit_resolution=29.0, defocus=1.0, ice_ring=9.0)
    assert reasons_to_reject(made, LIMITS) == ()
    assert not row_of(made).good
