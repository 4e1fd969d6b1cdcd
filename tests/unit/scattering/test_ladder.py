from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import SettingsProblem
from vitreous.model.slices import PotentialSlices
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.reference import scattering as reference
from vitreous.scattering.ladder import ScatteringModel, exit_wave
from vitreous.scattering.propagation import band, filtered, propagate

MODELS = [model for model in ScatteringModel if model is not ScatteringModel.PROJECTION]
SINGLE = [ScatteringModel.WEAK_PHASE, ScatteringModel.EWALD]


def random_slices(shape, seed=0, *, absorbing=False, scale=60.0, pixel_size=1.3, thickness=7.0, height=-11.0):
    rng = np.random.default_rng(seed)
    projected = scale * rng.uniform(size=shape)
    if absorbing:
        projected = projected + 0.1j * scale * rng.uniform(size=shape)
    return PotentialSlices(projected, pixel_size, thickness, height)


def smooth_slices(count=40, size=64, thickness=4.0, scale=60.0):
    """Slabs whose waves lie inside the band, to 1e-9: Gaussians of rms 1.5 A on pixels of 0.5 A, a depth of 160 A."""
    rng = np.random.default_rng(4)
    axis = 0.5 * (np.arange(size) - size // 2)
    centre = rng.uniform(-6, 6, size=(count, 2))
    x = np.exp(-((axis - centre[:, :1]) ** 2) / 4.5)
    y = np.exp(-((axis - centre[:, 1:]) ** 2) / 4.5)
    return PotentialSlices(scale * y[:, :, None] * x[:, None, :], 0.5, thickness, -(count - 1) / 2 * thickness)


def definition(model, slices, voltage, fraction):
    lens = (wavelength(voltage), interaction_constant(voltage))
    heights = slices.height + slices.thickness * np.arange(len(slices))
    plane, slabs, pixel_size = heights[-1] + slices.thickness, slices.projected, slices.pixel_size
    if model is ScatteringModel.MULTISLICE:
        return reference.multislice(slabs, slices.thickness, pixel_size, lens, fraction)
    wave = {
        ScatteringModel.WEAK_PHASE: lambda: reference.weak_phase(slabs, lens[1]),
        ScatteringModel.PHASE_OBJECT: lambda: reference.phase_object(slabs, lens[1]),
        ScatteringModel.EWALD: lambda: reference.ewald(slabs, heights, pixel_size, lens),
        ScatteringModel.THICK_PHASE_GRATING: lambda: reference.thick_phase_grating(slabs, heights, pixel_size, lens),
        ScatteringModel.RYTOV: lambda: reference.rytov(slabs, heights, plane, pixel_size, lens),
    }[model]()
    return wave if fraction is None else reference.limited(wave, fraction)


def relative_error(wave, expected):
    return np.linalg.norm(wave - expected) / np.linalg.norm(expected - 1)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=10, deadline=None)  # the first call loads SciPy
@given(
    st.tuples(st.integers(1, 5), st.integers(7, 24), st.integers(7, 24)),
    st.sampled_from([None, 0.5, 2 / 3]),
    st.booleans(),
    st.sampled_from([100e3, 300e3]),
)
def test_is_the_definition(model, shape, fraction, absorbing, voltage):
    slices = random_slices(shape, absorbing=absorbing)
    given_potential = slices.projected.copy()
    wave = exit_wave(slices, voltage, model, band_limit=fraction)
    # values of order 1 after a few transforms
    np.testing.assert_allclose(wave.wave, definition(model, slices, voltage, fraction), atol=1e-12)
    np.testing.assert_array_equal(slices.projected, given_potential)
    beyond = model in (ScatteringModel.MULTISLICE, ScatteringModel.RYTOV)
    assert wave.height == pytest.approx(-11.0 + 7.0 * shape[0] if beyond else 0.0)


def test_single_precision_stays_single():
    slices = random_slices((8, 32, 32))
    single = PotentialSlices(slices.projected.astype(np.float32), 1.3, 7.0, -11.0)
    for model in MODELS:
        wave = exit_wave(single, 300e3, model).wave
        assert wave.dtype == np.complex64
        # phases of 0.3 radian in single precision, eight slabs: the production bar of physics.md (c) is 1e-5
        np.testing.assert_allclose(wave, exit_wave(slices, 300e3, model).wave, atol=1e-5)


@pytest.mark.parametrize("dtype, bar", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_a_real_potential_scatters_without_loss(dtype, bar):
    """The bars of physics.md (c) 5, after 40 slabs whose waves lie inside the band."""
    smooth = smooth_slices()
    slices = PotentialSlices(smooth.projected.astype(dtype), 0.5, 4.0, smooth.height)
    wave = exit_wave(slices, 300e3).wave
    assert np.mean(np.abs(wave.astype(complex)) ** 2) == pytest.approx(1, abs=bar)
    assert np.std(np.abs(wave) ** 2) > 1e-3  # something was scattered


@pytest.mark.parametrize("absorbing", [False, True])
def test_one_slab_is_a_phase_object(absorbing):
    slices = random_slices((1, 32, 48), absorbing=absorbing, height=0.0)
    back = propagate(exit_wave(slices, 300e3), -7.0, 300e3)
    np.testing.assert_allclose(back.wave, exit_wave(slices, 300e3, "phase_object").wave, atol=1e-12)
    # without depth, all models of many encounters are one, and all of a single one
    for model in MODELS:
        wave = exit_wave(slices, 300e3, model)
        same = exit_wave(slices, 300e3, "weak_phase" if model in SINGLE else "phase_object")
        if wave.height == 0:
            np.testing.assert_allclose(wave.wave, same.wave, atol=1e-12)


def test_weak_phase_is_wrong_by_the_square_of_the_potential():
    errors = []
    for scale in (1.0, 0.5, 0.25):
        slices = random_slices((4, 32, 32), scale=scale)
        weak, full = (exit_wave(slices, 300e3, model).wave for model in ("weak_phase", "phase_object"))
        errors.append(np.linalg.norm(weak - full))
    # the next term is smaller by sigma V / 3, at most 1e-3
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4, rtol=2e-3)


def test_models_that_scatter_once_agree_with_multislice_in_the_weak_limit():
    weak = smooth_slices(scale=0.02)
    expected = propagate(exit_wave(weak, 300e3), -exit_wave(weak, 300e3).height, 300e3).wave
    for model in (ScatteringModel.EWALD, ScatteringModel.THICK_PHASE_GRATING, ScatteringModel.RYTOV):
        wave = exit_wave(weak, 300e3, model)
        assert relative_error(propagate(wave, -wave.height, 300e3).wave, expected) < 1e-3  # physics.md (c) 5
    flat = exit_wave(weak, 300e3, "phase_object").wave
    assert relative_error(flat, expected) > 1e-2  # 160 A of depth are seen
    opposite = PotentialSlices(weak.projected[::-1], 0.5, 4.0, weak.height)
    assert relative_error(exit_wave(opposite, 300e3, "ewald").wave, expected) > 1e-2  # and their order


def test_the_exponent_keeps_what_multislice_keeps():
    """At 40 slabs of up to 0.4 radian the exponentials are closer to multislice than the linear models."""
    slices = smooth_slices(scale=60.0)
    full = exit_wave(slices, 300e3)
    at_zero = propagate(full, -full.height, 300e3).wave
    error = {model: relative_error(exit_wave(slices, 300e3, model).wave, at_zero) for model in MODELS[:4]}
    error["rytov"] = relative_error(exit_wave(slices, 300e3, "rytov").wave, full.wave)
    assert error["thick_phase_grating"] < error["phase_object"] < error["weak_phase"]
    assert error["rytov"] < error["phase_object"]
    assert error["thick_phase_grating"] < error["ewald"]


def slabs_of_a_blob(count):
    """A Gaussian of rms 3 A (x, y) and 12 A (z), 4000 V A in the middle, integrated exactly over `count` slabs of 96 A."""
    axis = np.arange(32) - 16.0
    edges = np.linspace(-48, 48, count + 1) / (12 * math.sqrt(2))
    share = np.diff([math.erf(edge) for edge in edges]) / 2
    blob = 4000 * np.exp(-(axis[:, None] ** 2 + (axis - 2) ** 2) / 18)
    thickness = 96 / count
    return PotentialSlices(share[:, None, None] * blob, 1.0, thickness, -48 + thickness / 2)


def test_halving_the_slabs_converges_at_second_order():
    """Transmission in the middle of each slab and half a flight on either side is the symmetric splitting."""

    def wave(count):
        result = exit_wave(slabs_of_a_blob(count), 300e3, band_limit=None)
        return propagate(result, -result.height, 300e3).wave

    best = wave(256)
    errors = [np.linalg.norm(wave(count) - best) for count in (8, 16, 32)]
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4, rtol=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_absorption_by_one_mean_free_path(model):
    """`Vim = 1/(2 sigma Lambda)` over a depth Lambda leaves exp(-1) of the intensity (physics.md b4)."""
    mean_free_path, sigma = 400.0, interaction_constant(300e3)
    slabs = np.full((40, 16, 16), 1j * 10 / (2 * sigma * mean_free_path))
    intensity = np.abs(exit_wave(PotentialSlices(slabs, 2.0, 10.0, -195.0), 300e3, model).wave) ** 2
    expected = (1 - 0.5) ** 2 if model in SINGLE else math.exp(-1)
    np.testing.assert_allclose(intensity, expected, rtol=1e-12)


def test_the_band_is_what_it_says():
    assert band((12, 12)).sum() == sum(
        math.hypot(x, y) < 4 - 1e-6 for x in range(-6, 6) for y in range(-6, 6)
    )  # 1/3 cycle per pixel is 4 periods in 12 pixels, not included
    wave = exit_wave(random_slices((3, 24, 20)), 300e3)
    assert np.abs(np.fft.fft2(wave.wave))[~band((24, 20))].max() < 1e-12 * 480
    assert band((9, 9), None).all()


def test_a_filter_takes_real_and_complex_arrays(rng):
    image = rng.normal(size=(9, 12))
    inside = band((9, 12))
    np.testing.assert_allclose(filtered(image, inside), filtered(image + 0j, inside), atol=1e-14)
    np.testing.assert_allclose(filtered(image, inside), reference.limited(image, 2 / 3), atol=1e-14)


def test_refuses_what_has_no_wave():
    slices = random_slices((2, 8, 8))
    with pytest.raises(SettingsProblem, match=r"projection.*linear_image"):
        exit_wave(slices, 300e3, "projection")
    with pytest.raises(SettingsProblem, match=r"'bloch'.*weak_phase.*multislice"):
        exit_wave(slices, 300e3, "bloch")
    for limit in (0, -1, 1.5, float("nan")):
        with pytest.raises(SettingsProblem, match="band limit"):
            exit_wave(slices, 300e3, band_limit=limit)
    with pytest.raises(SettingsProblem, match="0 threads"):
        exit_wave(slices, 300e3, workers=0)
    with pytest.raises(SettingsProblem, match="volts"):
        exit_wave(slices, 300)
