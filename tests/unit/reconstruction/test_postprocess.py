"""Guinier plots, B factors, and what sharpening does to a map."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import b_factor_envelope
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.reconstruction.fsc import fourier_shell_correlation, shell_frequencies
from vitreous.reconstruction.postprocess import (
    PostprocessSettings,
    guinier_plot,
    mtf_at_shells,
    postprocess,
    until_first_zero,
)

BOX, PIXEL = 48, 1.5  # Nyquist 3 angstrom
SHAPE = (BOX,) * 3
K = radial_frequency(SHAPE, PIXEL)


def blurred(b_factor: float, seed: int = 0) -> np.ndarray:
    """White noise, whose spectrum is level, with a known blur."""
    white = np.random.default_rng(seed).standard_normal(SHAPE)
    return inverse(forward(white, 3) * b_factor_envelope(K, b_factor), SHAPE)


def level_curve(value: float = 1.0) -> np.ndarray:
    return np.full(BOX // 2 + 1, value)


@pytest.mark.parametrize("b_factor", [30.0, 100.0, 250.0])
def test_guinier_plot_recovers_the_blur(b_factor):
    fit = postprocess(blurred(b_factor), level_curve(), PIXEL).guinier.fit
    # an amplitude in a shell of n voxels is known to 1/sqrt(2n), here to 2 %, and B from 17 shells to about 0.7 A^2
    assert fit is not None
    assert fit.b_factor == pytest.approx(b_factor, abs=max(0.02 * b_factor, 1.5))
    assert fit.standard_error < 1.5
    assert fit.fit_from >= 0.1 and fit.fit_to <= 1 / 3 + 1e-9 and fit.shells == 17


def test_the_sign_of_the_blur_is_seen():
    plot = postprocess(blurred(-80.0), level_curve(), PIXEL).guinier
    assert plot.fit is not None and plot.fit.b_factor == pytest.approx(-80, abs=2)
    assert "do not fall" in plot.reason and plot.b_factor is None  # nobody sharpens by that


def test_weighting_leaves_the_amplitude_of_the_signal():
    signal = blurred(200.0)
    halves = signal + 0.15 * np.random.default_rng(1).standard_normal((2, *SHAPE))
    mean = halves.mean(axis=0)
    fsc = fourier_shell_correlation(halves[0], halves[1], PIXEL).correlation
    result = postprocess(mean, fsc, PIXEL)
    unweighted = guinier_plot(forward(mean, 3), BOX, PIXEL, resolution=result.resolution.value)
    assert result.guinier.fit is not None and unweighted.fit is not None
    assert result.guinier.fit.b_factor == pytest.approx(200, rel=0.05)
    assert unweighted.fit.b_factor < 180  # the level noise at high frequency makes the blur look smaller


def test_sharpening_undoes_the_blur():
    white = blurred(0.0)
    settings = PostprocessSettings(b_factor=90.0, low_pass=3.001, fsc_weighting=False)
    result = postprocess(blurred(90.0), level_curve(), PIXEL, settings=settings)
    low = K < 0.29  # the final low-pass filter begins one shell before Nyquist
    ratio = abs(forward(result.volume, 3)[low] / forward(white, 3)[low])
    np.testing.assert_allclose(
        ratio, 1, rtol=0.01
    )  # the gain is a straight line between shells, off by B^2 k^2 / 32 of a squared shell
    blunt = postprocess(blurred(90.0), level_curve(), PIXEL, settings=PostprocessSettings(b_factor=-90.0))
    assert blunt.gain[16] == pytest.approx(np.exp(-90 / 4 * blunt.guinier.frequency[16] ** 2))
    assert result.gain[16] > 1 > blunt.gain[16]


def test_automatic_sharpening_uses_the_measured_blur():
    result = postprocess(blurred(100.0), level_curve(), PIXEL)
    assert result.b_factor == result.guinier.fit.b_factor  # type: ignore[union-attr]
    inside = (result.guinier.frequency > 0.1) & (result.guinier.frequency < 0.3)
    level = result.sharpened_amplitude[inside]
    assert np.ptp(level) < 0.15  # ln|F| fell by 2 over this range before


def test_noise_is_weighted_and_cut():
    fsc = np.clip(1.2 - np.arange(25) / 15.0, -0.05, 1)  # crosses 0.143 between shells 15 and 16
    volume = blurred(50.0)
    result = postprocess(volume, fsc, PIXEL, settings=PostprocessSettings(b_factor=0.0))
    shell = (1.2 - 0.143) * 15
    assert result.low_pass == pytest.approx(BOX * PIXEL / shell)
    np.testing.assert_allclose(result.gain[:14], np.sqrt(2 * fsc[:14] / (1 + fsc[:14])))
    assert (result.gain[18:] == 0).all()
    # shells and the sphere of the filter meet in whole voxels: nothing is left beyond
    assert abs(forward(result.volume, 3)[K > 18 / (BOX * PIXEL)]).max() < 1e-9 * abs(forward(volume, 3)).max()
    assert result.volume.mean() == pytest.approx(volume.mean())


def test_detector_is_taken_out_before_the_fit():
    frequency = shell_frequencies(BOX, PIXEL)
    mtf = 1 - 0.6 * frequency / frequency[-1]
    volume = blurred(100.0)
    recorded = inverse(forward(volume, 3) * (1 - 0.6 * np.minimum(K * 3, 1)), SHAPE)
    with_mtf = postprocess(recorded, level_curve(), PIXEL, mtf=mtf)
    without = postprocess(recorded, level_curve(), PIXEL)
    assert with_mtf.b_factor == pytest.approx(100, rel=0.02)
    assert without.b_factor > 115  # the detector's fall taken for blur
    np.testing.assert_allclose(with_mtf.gain[10] / np.exp(with_mtf.b_factor / 4 * frequency[10] ** 2), 1 / mtf[10])


def test_no_fit_without_ground():
    cut = np.where(np.arange(25) < 6, 1.0, 0.0)  # 12 to 14 angstrom
    low = postprocess(blurred(100.0), cut, PIXEL)
    assert low.guinier.fit is None and "before the plot is a straight line" in low.guinier.reason
    assert low.b_factor == 0
    nothing = postprocess(blurred(100.0), level_curve(0.05), PIXEL)
    assert nothing.guinier.fit is None and nothing.resolution.value is None and nothing.low_pass is None
    few = postprocess(blurred(100.0), np.where(np.arange(25) < 9, 1.0, 0.0), PIXEL)
    assert few.guinier.fit is None and "too few" in few.guinier.reason
    short = postprocess(blurred(100.0), np.where(np.arange(25) < 20, 1.0, 0.0), 2 * PIXEL)  # 7.3 angstrom
    assert short.guinier.fit is not None and short.guinier.fit.b_factor > 300  # B of 100 at twice the pixel size is 400
    assert "one to 7.1 Å or finer is needed" in short.guinier.reason and short.b_factor == 0


def test_uncertain_fits_are_not_used():
    rng = np.random.default_rng(2)
    ragged = np.exp(rng.normal(0, 0.5, BOX // 2 + 1))[np.minimum(np.rint(K * BOX * PIXEL).astype(int), BOX // 2)]
    result = postprocess(inverse(forward(blurred(30.0), 3) * ragged, SHAPE), level_curve(), PIXEL)
    assert result.guinier.fit is not None and result.guinier.fit.standard_error > 6
    assert "uncertain" in result.guinier.reason or "do not fall" in result.guinier.reason
    assert result.b_factor == 0


def test_curves_that_come_back_are_chance():
    np.testing.assert_array_equal(
        until_first_zero(np.array([0.5, 0.9, 0.2, -0.1, 0.3, np.nan])), [1, 0.9, 0.2, 0, 0, 0]
    )


def test_mtf_tables():
    axis, values = np.linspace(0, 0.5, 51), np.linspace(1, 0.4, 51)
    np.testing.assert_allclose(mtf_at_shells(axis, values, 64), 1 - 0.6 * np.arange(33) / 32)
    np.testing.assert_allclose(mtf_at_shells(axis, values, 64, binning=4)[-1], 1 - 0.6 / 4)
    with pytest.raises(DataProblem, match="cycles per pixel"):
        mtf_at_shells(np.linspace(0, 1, 51), values, 64)  # a table against the fraction of Nyquist


def test_tables_and_single_precision():
    volume = blurred(100.0).astype(np.float32)
    copy = volume.copy()
    result = postprocess(volume, level_curve(), PIXEL)
    assert result.volume.dtype == np.float32
    np.testing.assert_array_equal(volume, copy)
    columns = result.columns()
    assert {len(column) for column in columns.values()} == {25}
    np.testing.assert_allclose(
        columns["log_amplitude_sharpened"][:-1], columns["log_amplitude"][:-1] + np.log(result.gain[:-1])
    )


def test_wrong_input_is_named():
    with pytest.raises(DataProblem, match="25"):
        postprocess(blurred(1.0), np.ones(10), PIXEL)
    with pytest.raises(DataProblem, match="positive"):
        postprocess(blurred(1.0), level_curve(), PIXEL, mtf=np.zeros(25))
    with pytest.raises(SettingsProblem, match="low pass"):
        PostprocessSettings(low_pass=-2.0)
