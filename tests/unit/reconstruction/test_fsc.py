"""Fourier shell correlation, phase randomisation, and the resolutions read from the curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.shells import shell_index, shell_size
from vitreous.fourier.transforms import forward, inverse
from vitreous.reconstruction.fsc import (
    FscCurves,
    Resolution,
    correlate_shells,
    correlation_at,
    fourier_shell_correlation,
    half_bit,
    half_map_curves,
    randomise_phases,
    reference_correlation,
    remove_mask_effect,
    resolution_at,
    shell_frequencies,
)
from vitreous.reference import fsc as reference


def noise(size: int, seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, size, size, size))


# --- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [11, 12])
def test_is_the_definition(size):
    a, b = noise(size, 0)
    b = b + 0.7 * a
    fast = fourier_shell_correlation(a, b)
    # float64 sums of at most 1728 terms: rounding stays below 1e-13
    np.testing.assert_allclose(fast.correlation, reference.fourier_shell_correlation(a, b), atol=1e-13)
    assert (
        fast.voxels.sum()
        == (np.rint(np.sqrt(sum(k**2 for k in np.meshgrid(*[np.fft.fftfreq(size) * size] * 3)))) <= size // 2).sum()
    )


def test_rings_of_images():
    a, b = np.random.default_rng(1).standard_normal((2, 16, 16))
    np.testing.assert_allclose(
        fourier_shell_correlation(a, a + b).correlation, reference.fourier_shell_correlation(a, a + b), atol=1e-13
    )


def test_correction_is_the_definition():
    masked, randomised = np.linspace(1, 0.3, 9), np.linspace(0.9, 0.0, 9)
    np.testing.assert_allclose(
        remove_mask_effect(masked, randomised, 4),
        reference.phase_randomisation_corrected(masked, randomised, 4),
        rtol=1e-14,
    )


def test_jax_gives_the_same_and_finite_gradients():
    jax = pytest.importorskip("jax")
    a, b = noise(8, 2).astype(np.float32)
    pair = [jax.numpy.asarray(x) for x in (a, b)]

    def curve(x, y):
        return correlate_shells(forward(x, 3), forward(y, 3), (8, 8, 8))

    # single precision, sums of a few hundred terms
    np.testing.assert_allclose(curve(*pair), fourier_shell_correlation(a, b).correlation, atol=2e-5)
    gradient = jax.grad(lambda x: curve(x, pair[1])[1:].sum())(jax.numpy.zeros((8, 8, 8), dtype="float32"))
    assert np.isfinite(np.asarray(gradient)).all()  # an empty map is the place where 0/0 lurks


# --- properties ------------------------------------------------------------------------------------------------------


def test_identical_maps_agree_and_inverted_ones_disagree():
    a, _ = noise(16, 3)
    np.testing.assert_allclose(fourier_shell_correlation(a, a).correlation, 1, atol=1e-12)
    np.testing.assert_allclose(fourier_shell_correlation(a, -2 * a).correlation, -1, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.tuples(*[st.integers(-5, 5)] * 3), seed=st.integers(0, 99))
def test_scale_common_shift_and_order_do_not_matter(scale, shift, seed):
    a, b = noise(12, seed)
    b = b + a
    curve = fourier_shell_correlation(a, b).correlation
    moved = [np.roll(x, shift, (0, 1, 2)) for x in (a, b)]
    np.testing.assert_allclose(fourier_shell_correlation(scale * a, b).correlation, curve, atol=1e-12)
    np.testing.assert_allclose(fourier_shell_correlation(*moved).correlation, curve, atol=1e-12)
    np.testing.assert_allclose(fourier_shell_correlation(b, a).correlation, curve, atol=1e-12)


def test_an_empty_shell_has_no_correlation():
    a, b = noise(12, 4)
    a = a - a.mean()
    assert abs(fourier_shell_correlation(a, np.zeros_like(b)).correlation).max() == 0


def test_inputs_stay_as_they_are():
    a, b = noise(16, 5)
    mask = soft_sphere(16, 5, 3)
    copies = a.copy(), b.copy(), mask.copy()
    half_map_curves(a, b, 2.0, mask=mask)
    for array, copy in zip((a, b, mask), copies):
        np.testing.assert_array_equal(array, copy)


# --- statistics ------------------------------------------------------------------------------------------------------


def test_independent_noise_scatters_about_zero():
    a, b = noise(48, 6)
    result = fourier_shell_correlation(a, b)
    # n voxels, in Friedel pairs, hold n independent real numbers: the standard deviation of the FSC is 1/sqrt(n)
    z = result.correlation[1:] * np.sqrt(result.voxels[1:])
    assert abs(z).max() < 4  # 24 shells: chance of more is 0.0015
    assert 0.6 < z.std() < 1.5


@pytest.mark.parametrize("snr", [0.2, 1.0, 5.0])
def test_known_snr_gives_the_expected_value(snr):
    rng = np.random.default_rng(7)
    signal = np.sqrt(snr) * rng.standard_normal((48, 48, 48))
    a, b = signal + noise(48, 8)
    result = fourier_shell_correlation(a, b)
    expected = snr / (1 + snr)
    # variance of a correlation coefficient: (1 - r^2)^2 / n, here over all shells but the smallest
    average = np.average(result.correlation[4:], weights=result.voxels[4:])
    assert average == pytest.approx(expected, abs=4 * (1 - expected**2) / np.sqrt(result.voxels[4:].sum()))


def test_reference_correlation_is_the_fsc_of_the_mean_with_the_truth():
    rng = np.random.default_rng(9)
    truth = rng.standard_normal((48, 48, 48))
    a, b = truth + 1.5 * noise(48, 10)
    half = fourier_shell_correlation(a, b)
    whole = fourier_shell_correlation((a + b) / 2, truth)
    # C_ref has about the relative error of the FSC, 1/sqrt(n)
    difference = (reference_correlation(half.correlation) - whole.correlation)[6:]
    assert (abs(difference) * np.sqrt(half.voxels[6:])).max() < 5
    assert reference_correlation(np.array([-0.3, 0.0, 1.0, 1 / 7])) == pytest.approx([0, 0, 1, 0.5])


# --- phase randomisation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [15, 16])
def test_random_phases_keep_amplitudes_and_low_shells_and_a_real_map(size):
    shape = (size,) * 3
    transform = forward(noise(size, 11), 3)
    random = randomise_phases(transform, shape, 4, np.random.default_rng(0))
    low = shell_index(shape) < 4
    np.testing.assert_allclose(random[:, low], transform[:, low], rtol=1e-12)
    # turned by a float32 angle: amplitudes hold to single precision
    np.testing.assert_allclose(abs(random), abs(transform), rtol=1e-6)
    # if both of each Friedel pair were not turned oppositely, a real map could not hold them
    np.testing.assert_allclose(forward(inverse(random, shape), 3), random, atol=1e-4 * abs(random).max())
    turned = fourier_shell_correlation(inverse(transform[0], shape), inverse(random[0], shape))
    assert abs(turned.correlation[5:] * np.sqrt(turned.voxels[5:])).max() < 5
    assert turned.correlation[:4] == pytest.approx(1, abs=1e-6)


def test_the_work_of_a_tight_mask_is_taken_out():
    """Maps that share nothing but a flat density: a hard mask makes its own edge correlate, and the correction finds
    that out.
    """
    rng = np.random.default_rng(12)
    size = 48
    flat = 3.0 * soft_sphere(size, 17, 6)
    a, b = flat + rng.standard_normal((2, size, size, size))
    mask = soft_sphere(size, 12, 0)
    curves = half_map_curves(a, b, 1.0, mask=mask)
    high = slice(16, 24)
    voxels = curves.voxels[high] * mask.mean()  # the mask leaves this share of the independent voxels
    assert curves.masked is not None and curves.phase_randomised is not None and curves.corrected is not None
    assert curves.masked[high].mean() > 0.25  # what a naive reading would take for resolution
    assert abs(curves.unmasked[high] * np.sqrt(curves.voxels[high])).max() < 4
    np.testing.assert_array_less(abs(curves.corrected[high]) * np.sqrt(voxels), 5)
    assert abs(curves.corrected[high].mean()) < 0.05
    assert curves.resolution().value > 2 * 1.5 * 1.0  # not at Nyquist, where the masked curve never falls below 0.143
    assert resolution_at(curves.masked, 0.143, curves.frequency).limited_by == "nyquist"


def test_a_gentle_mask_changes_little_where_there_is_signal():
    rng = np.random.default_rng(13)
    size = 32
    signal = inverse(forward(rng.standard_normal((size,) * 3), 3) * (shell_index((size,) * 3) < 10), (size,) * 3)
    signal = 4 * signal * soft_sphere(size, 7, 3)
    a, b = signal + 0.3 * rng.standard_normal((2, size, size, size))
    curves = half_map_curves(a, b, 1.0, mask=soft_sphere(size, 10, 4))
    assert curves.corrected is not None and curves.masked is not None
    assert (curves.masked[1:8] >= curves.unmasked[1:8] - 0.02).all()
    np.testing.assert_array_equal(curves.corrected[: curves.randomised_from], curves.masked[: curves.randomised_from])
    same = half_map_curves(a, b, 1.0, mask=soft_sphere(size, 10, 4))
    np.testing.assert_array_equal(same.corrected, curves.corrected)  # the seed is fixed
    other = half_map_curves(a, b, 1.0, mask=soft_sphere(size, 10, 4), seed=1)
    assert not np.array_equal(other.phase_randomised, curves.phase_randomised)


def test_maps_that_agree_everywhere_leave_nothing_to_randomise():
    a, _ = noise(16, 14)
    curves = half_map_curves(a, a, 1.0, mask=soft_sphere(16, 5, 2))
    assert curves.randomised_from is None and curves.phase_randomised is None
    np.testing.assert_allclose(curves.best, 1, atol=1e-12)
    assert half_map_curves(a, a, 1.0).masked is None


# --- reading curves --------------------------------------------------------------------------------------------------


def test_resolution_is_the_first_crossing():
    frequency = np.arange(6) / 60.0
    curve = np.array([1, 0.9, 0.5, 0.1, 0.9, 0.0])
    result = resolution_at(curve, 0.3, frequency)
    assert result == Resolution(pytest.approx(60 / 2.5), "crossing", 0.3)
    assert reference.first_crossing(curve, 0.3) == pytest.approx(60 / result.value)
    assert resolution_at(curve, -0.1, frequency) == Resolution(pytest.approx(12.0), "nyquist", -0.1)
    assert resolution_at(np.array([1, 0.1, 0.9]), 0.143, frequency[:3]) == Resolution(None, "noise", 0.143)
    assert resolution_at(np.array([0, 0.9, np.nan]), 0.143, frequency[:3]).limited_by == "crossing"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=20), st.floats(-0.9, 0.9))
def test_resolution_agrees_with_the_definition(values, threshold):
    curve = np.array([1.0, *values])
    result = resolution_at(curve, threshold, np.arange(len(curve)) / len(curve))
    crossing = reference.first_crossing(curve, threshold) if curve[1] >= threshold else None
    if crossing is None:
        assert result.limited_by in ("nyquist", "noise")
    else:
        assert result.value == pytest.approx(len(curve) / crossing)


def test_words_for_resolutions():
    assert str(Resolution(7.9, "crossing", 0.143)) == "7.90 Å"
    assert str(Resolution(7.08, "nyquist", 0.143)) == "7.08 Å (Nyquist)"
    assert str(Resolution(None, "noise", 0.143)) == "none"


def test_correlation_at_a_resolution():
    frequency = shell_frequencies(64, 3.54)
    assert len(frequency) == 33 and frequency[-1] == pytest.approx(1 / 7.08)
    curve = np.linspace(1, 0, 33)
    assert correlation_at(curve, 64 * 3.54 / 19, frequency) == pytest.approx(curve[19])
    assert FscCurves(frequency, shell_size((64, 64, 64)), curve).at(7.08) == pytest.approx(0, abs=1e-12)
    with pytest.raises(SettingsProblem, match=r"7\.08"):
        correlation_at(curve, 5.0, frequency)


def test_half_bit_is_the_snr_of_half_a_bit():
    # half a bit per voxel: log2(1 + SNR) = 1/2 for the mean map, and half that SNR for each half map
    snr = (2**0.5 - 1) / 2
    n = np.array([10.0, 100.0, 1e4])
    expected = (snr + 2 * np.sqrt(snr / n) + 1 / np.sqrt(n)) / (snr + 2 * np.sqrt(snr / n) + 1)
    np.testing.assert_allclose(half_bit(2 * n), expected, rtol=2e-4)  # the paper's constants have four decimals
    assert half_bit(np.array([1e12]))[0] == pytest.approx(0.1716, abs=1e-3)
    np.testing.assert_allclose(half_bit(8 * n, symmetry_order=4), half_bit(2 * n))


def test_wrong_input_is_named():
    a, b = noise(8, 15)
    with pytest.raises(DataProblem, match="same grid"):
        fourier_shell_correlation(a, b[:6, :6, :6])
    with pytest.raises(DataProblem, match="cube"):
        fourier_shell_correlation(a[:6], b[:6])
    with pytest.raises(DataProblem, match="no numbers"):
        half_map_curves(a, np.where(b > 1, np.nan, b), 1.0)
    with pytest.raises(DataProblem, match="mask"):
        half_map_curves(a, b, 1.0, mask=np.ones((4, 4, 4)))
