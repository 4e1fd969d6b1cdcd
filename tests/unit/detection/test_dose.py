from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.detection.dose import (
    Exposure,
    critical_exposure,
    exposure_weight,
    fading_rate,
    mean_exposure_weight,
    optimal_exposure,
    optimal_sum,
)
from vitreous.errors import SettingsProblem
from vitreous.reference import detection as reference

# physics.md b11: k, Ne, weights at 10, 20, 30, 40 e/A^2
TABLE = [
    (1 / 20, 38.734, (0.8789, 0.7725, 0.6789, 0.5967)),
    (1 / 10, 14.138, (0.7021, 0.4930, 0.3461, 0.2430)),
    (1 / 4, 5.274, (0.3875, 0.1501, 0.0582, 0.0225)),
]


@pytest.mark.parametrize(("k", "critical", "weights"), TABLE)
def test_critical_exposures_and_weights(k, critical, weights):
    assert critical_exposure(np.array(k)) == pytest.approx(critical, abs=5e-4)
    np.testing.assert_allclose(exposure_weight(np.array(k), np.array([10, 20, 30, 40])), weights, atol=5e-5)
    for exposure in (3.0, 25.0):
        assert exposure_weight(np.array(k), exposure) == pytest.approx(
            reference.exposure_weight(k, exposure), rel=1e-12
        )


def test_is_not_the_filter_with_the_constant_in_the_wrong_place():
    """physics.md (f) 12: exp(-(N - c) / (a k^b)) gives 0.0540 and 0.0907."""
    for k, exposure, right, wrong in ((1 / 4, 10.0, 0.3875, 0.0540), (1 / 10, 30.0, 0.3461, 0.0907)):
        assert np.exp(-(exposure - 2.81) / (0.245 * k**-1.665)) == pytest.approx(wrong, abs=5e-5)
        value = float(exposure_weight(np.array(k), exposure))
        assert value == pytest.approx(right, abs=5e-5) and abs(value - wrong) > 0.2


def test_amplitude_not_power():
    # At the critical exposure the power has fallen to 1/e, the amplitude to its root.
    k = np.array(0.2)
    assert exposure_weight(k, critical_exposure(k)) == pytest.approx(np.exp(-0.5), rel=1e-12)


def test_nothing_fades_at_zero_frequency():
    zero = np.zeros(2)
    assert (critical_exposure(zero) == np.inf).all() and (fading_rate(zero) == 0).all()
    assert (exposure_weight(zero, 100.0) == 1).all() and (mean_exposure_weight(zero, 10.0, 90.0) == 1).all()
    with jax.enable_x64(True):
        for weight in (lambda k: exposure_weight(k, 30.0), lambda k: mean_exposure_weight(k, 20.0, 30.0)):
            assert np.isfinite(jax.grad(weight)(0.0)) and np.isfinite(jax.grad(weight)(0.2))
        assert np.isfinite(jax.grad(lambda n: mean_exposure_weight(jnp.zeros(()), n, n + 1))(2.0))


def test_voltage_scale_shortens_life():
    k = np.array(0.25)
    assert critical_exposure(k, voltage_scale=0.8) == pytest.approx(0.8 * critical_exposure(k), rel=1e-12)
    assert exposure_weight(k, 10.0, voltage_scale=0.8) < exposure_weight(k, 10.0) - 0.05
    with pytest.raises(SettingsProblem, match="voltage scale"):
        critical_exposure(k, voltage_scale=0.0)


def test_optimal_exposure_is_where_the_signal_to_noise_ratio_peaks():
    k = np.array(0.2)
    doses = np.linspace(0.5, 100, 20_000)
    rate = float(fading_rate(k))
    ratio = (1 - np.exp(-0.5 * doses * rate)) / np.sqrt(doses)
    assert optimal_exposure(k) == pytest.approx(doses[ratio.argmax()], abs=0.01)  # twice the step of the doses
    assert optimal_exposure(k) / critical_exposure(k) == pytest.approx(2.51286, abs=1e-5)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.5), (20.0, 60.0), (5.0, 5.0001)])
@pytest.mark.parametrize("k", [0.02, 0.1, 0.35])
def test_frame_weight_is_the_mean_over_the_frame(k, start, end):
    # The mean over 20,000 moments is good to 1e-9 of its second derivative.
    assert mean_exposure_weight(np.array(k), start, end) == pytest.approx(
        reference.frame_weight(k, start, end), rel=1e-8
    )


def test_frame_weight_is_not_that_of_the_middle():
    middle = exposure_weight(np.array(0.35), 30.0)
    assert mean_exposure_weight(np.array(0.35), 10.0, 50.0) > 1.5 * middle


def test_frames_add_up_to_the_exposure():
    exposure = Exposure.even(40.0, 25, pre_exposure=3.0)
    np.testing.assert_allclose(exposure.boundaries[[0, -1]], (3, 43))
    k = np.linspace(0, 0.5, 6)
    mean = np.mean([exposure.fading(i, k) for i in range(25)], axis=0)
    np.testing.assert_allclose(mean, mean_exposure_weight(k, 3.0, 43.0), rtol=1e-12)


def test_optimal_sum_keeps_the_power_of_white_noise_and_beats_the_plain_sum(rng):
    k = np.linspace(0, 0.5, 40)
    exposure = Exposure((1.0, 1.0, 3.0, 5.0, 10.0, 20.0))
    doses = np.array(exposure.dose_per_frame)
    noise = rng.standard_normal((6, 3000, 40)) * np.sqrt(doses / doses.mean())[:, None, None]
    power = (optimal_sum(list(noise), k, exposure) ** 2).mean(axis=0)
    np.testing.assert_allclose(power, 1, atol=0.13)  # 3000 draws: 2.6 % each, five of them for 40 frequencies

    signal = [dose * exposure.fading(i, k) for i, dose in enumerate(doses)]
    weighted = optimal_sum(signal, k, exposure)  # noise power: mean dose
    plain = sum(signal) / np.sqrt(doses.sum() / doses.mean())  # to the same noise power
    assert (weighted >= plain * (1 - 1e-12)).all() and weighted[-1] > 1.5 * plain[-1]
    # It is the highest: by Cauchy and Schwarz its square is sum signal^2 / noise.
    np.testing.assert_allclose(weighted**2, sum(s**2 / d for s, d in zip(signal, doses)) * doses.mean(), rtol=1e-12)


def test_optimal_sum_of_equal_frames_is_the_published_one(rng):
    k, exposure = np.array([0.1, 0.3]), Exposure.even(6.0, 3)
    frames = list(rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2)))
    q = np.array([exposure.fading(i, k) for i in range(3)])
    np.testing.assert_allclose(
        optimal_sum(frames, k, exposure),
        sum(w * f for w, f in zip(q, frames)) / np.sqrt((q**2).sum(axis=0)),
        rtol=1e-13,
    )


def test_single_and_double_precision_and_jax():
    k = np.linspace(0, 0.6, 50)
    single = mean_exposure_weight(k.astype(np.float32), 3.0, 4.0)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, mean_exposure_weight(k, 3.0, 4.0), rtol=2e-6)
    traced = jax.jit(lambda k: mean_exposure_weight(k, 3.0, 4.0))(jnp.asarray(k, jnp.float32))
    assert isinstance(traced, jax.Array)
    np.testing.assert_allclose(traced, single, rtol=2e-6)
    with jax.enable_x64(True):
        np.testing.assert_allclose(exposure_weight(jnp.asarray(k), 9.0), exposure_weight(k, 9.0), rtol=1e-12)


def test_bad_exposures():
    for doses in ((), (1.0, -1.0), (np.nan,)):
        with pytest.raises(SettingsProblem, match="doses per frame"):
            Exposure(doses)
    with pytest.raises(SettingsProblem, match="pre-exposure"):
        Exposure((1.0,), -2.0)
    with pytest.raises(SettingsProblem, match="at least one"):
        Exposure.even(10.0, 0)
