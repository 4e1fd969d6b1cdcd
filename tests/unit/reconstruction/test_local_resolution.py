"""Local resolution: the definition, the limits, noise, maps of known local resolution, and the local filter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, gaussian_low_pass, low_pass, sigma_k_of_blur, soft_sphere
from vitreous.fourier.shells import spread_shells
from vitreous.fourier.transforms import forward, radial_frequency
from vitreous.reconstruction.fsc import fourier_shell_correlation, half_map_curves, resolution_at, shell_frequencies
from vitreous.reconstruction.local_resolution import (
    FWHM,
    band,
    band_frequencies,
    default_window,
    filter_locally,
    local_correlation,
    local_resolution,
    noise_deviation,
    whitened,
)
from vitreous.reference import local_resolution as reference

PIXEL = 2.0
# Power spectra signal : noise of the two halves of `two_halves`: exp(-B k^2 / 2) / NOISE^2, of B factors 1000 and 200.
B_FACTORS, NOISE = (1000.0, 200.0), 0.1


def white(size: int, seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, size, size, size))


def two_halves(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Half maps of a white object that is blurred by B = 1000 where x < 0 and by B = 200 elsewhere, in white noise."""
    k = radial_frequency((size,) * 3, PIXEL)
    objects = [apply_filter(white(size, 3, 1)[0], np.exp(-b / 4 * k**2), 3) for b in B_FACTORS]
    signal = np.where(np.arange(size) < size // 2, *objects)
    return tuple((signal + NOISE * noise).astype(np.float32) for noise in white(size, 4))


def true_resolution(b_factor: float) -> float:
    """Where signal and noise are equal, FSC = 1/2: exp(-B k^2 / 2) = NOISE^2."""
    return math.sqrt(b_factor / (-4 * math.log(NOISE)))


# --- the definition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [11, 12])
@pytest.mark.parametrize("masked", [False, True])
def test_the_correlation_is_the_definition(size, masked):
    a, b = white(size, 0)
    b = b + 0.7 * a
    shape = (size,) * 3
    mask = soft_sphere(size, 3.0, 2.0) if masked else None
    transfer = band(radial_frequency(shape, PIXEL), 0.15, 0.05)
    kernel = gaussian_low_pass(radial_frequency(shape, PIXEL), sigma_k_of_blur(3.0))
    fast, whole = local_correlation(forward(a, 3), forward(b, 3), transfer, kernel, shape, mask)
    full = np.fft.fftfreq(size, PIXEL)
    k = np.sqrt(sum(f**2 for f in np.meshgrid(full, full, full, indexing="ij")))
    spread = np.where(
        (k > 0) & (k <= (1 + 1e-6) * (size // 2) / (size * PIXEL)), np.exp(-0.5 * ((k - 0.15) / 0.05) ** 2), 0
    )
    window = np.fft.fftshift(np.fft.ifftn(np.exp(-0.5 * (k * 2 * np.pi * 3.0) ** 2)).real)
    if size % 2:  # fftshift brings index 0 to N // 2 for both parities
        assert window.argmax() == np.ravel_multi_index((size // 2,) * 3, shape)
    for voxel in ((size // 2,) * 3, (4, 6, 5), (7, 3, 6)):
        weights = window
        if mask is not None:  # the window at the voxel times the mask, moved back
            back = [size // 2 - r for r in voxel]
            weights = window * np.roll(mask, back, axis=(0, 1, 2))
        expected = reference.local_correlation(a, b, spread, weights, voxel)
        # float64 sums of at most 1728 terms
        assert fast[voxel] == pytest.approx(expected, abs=1e-12)
    uniform = np.ones(shape) if mask is None else mask
    total = reference.local_correlation(a, b, spread, uniform, (size // 2,) * 3)
    assert whole == pytest.approx(total, abs=1e-12)


def test_the_reading_is_the_definition():
    first, second = two_halves(32)
    found = local_resolution(first, second, PIXEL, window=20.0)
    transforms = whitened(forward(np.stack([first, second]), 3), first.shape)
    k = radial_frequency(first.shape, PIXEL, dtype=np.float32)
    blur = sigma_k_of_blur(20.0 / FWHM)
    kernel = gaussian_low_pass(k, blur).astype(np.float32)
    curves = np.stack(
        [local_correlation(*transforms, band(k, f, blur), kernel, first.shape)[0] for f in found.frequency]
    )
    for voxel in ((16, 16, 6), (10, 20, 26), (5, 5, 16), (20, 16, 1)):
        frequency = reference.first_crossing(curves[(slice(None), *voxel)], found.level, found.frequency)
        expected = 1 / frequency if 0 < frequency < math.inf else (math.inf if frequency == 0 else 2 * PIXEL)
        assert found.values[voxel] == pytest.approx(expected, rel=1e-5)  # float32


def test_a_window_as_wide_as_the_box_gives_the_fsc_of_the_band():
    """Parseval: with constant weights the sums over voxels are sums over frequencies."""
    size = 16
    a, b = white(size, 1)
    b = b + a
    shape = (size,) * 3
    constant = np.zeros((size, size, size // 2 + 1))
    constant[0, 0, 0] = 1.0
    shell = 5
    one = spread_shells((np.arange(size // 2 + 1) == shell).astype(float), shape)
    fast, whole = local_correlation(forward(a, 3), forward(b, 3), one, constant, shape)
    expected = fourier_shell_correlation(a, b).correlation[shell]
    np.testing.assert_allclose(fast, expected, atol=1e-12)
    assert whole == pytest.approx(expected, abs=1e-12)


def test_jax_gives_the_same_and_finite_gradients():
    jax = pytest.importorskip("jax")
    size = 12
    a, b = white(size, 2).astype(np.float32)
    k = radial_frequency((size,) * 3, PIXEL, dtype=np.float32)
    transfer, kernel = band(k, 0.15, 0.05), gaussian_low_pass(k, 0.06).astype(np.float32)

    def correlation(x, y):
        return local_correlation(forward(x, 3), forward(y, 3), transfer, kernel, (size,) * 3)[0]

    expected = correlation(a, b)
    # single precision, sums of about a thousand terms
    np.testing.assert_allclose(correlation(jax.numpy.asarray(a), jax.numpy.asarray(b)), expected, atol=3e-5)
    gradient = jax.grad(lambda x: correlation(x, jax.numpy.asarray(b)).sum())(jax.numpy.zeros_like(a))
    assert np.isfinite(np.asarray(gradient)).all()  # an empty map is the place where 0/0 lurks


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [0.08, 0.16])
def test_noise_scatters_as_predicted(frequency):
    size, sigma = 48, 5.0
    shape = (size,) * 3
    k = radial_frequency(shape, PIXEL)
    transfer, kernel = (
        band(k, frequency, sigma_k_of_blur(sigma * PIXEL)),
        gaussian_low_pass(k, sigma_k_of_blur(sigma * PIXEL)),
    )
    values = np.concatenate(
        [
            local_correlation(*forward(white(size, seed), 3), transfer, kernel, shape)[0][::8, ::8, ::8].ravel()
            for seed in range(6)
        ]
    )
    # 1296 values, of which some hundreds are independent: a relative error of 4 %. Normalising by the windows' own power, whose scatter
    # is of the same kind, changes the deviation by less.
    assert values.std() == pytest.approx(noise_deviation(transfer, sigma, shape), rel=0.12)
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(200)


def test_noise_has_no_resolution():
    first, second = white(48, 7).astype(np.float32)
    for threshold in (0.5, 0.143):
        found = local_resolution(first, second, PIXEL, soft_sphere(48, 18, 3), threshold=threshold)
        # a level of three standard deviations at least: one voxel in 740 by chance
        assert found.unresolved > 0.995
        assert found.overall is None
        assert (found.level >= 3 * found.deviation - 1e-12).all() and (found.level >= threshold).all()
    assert found.window == default_window(None, 48, PIXEL) == 48.0  # half the box
    assert default_window(6.0, 48, PIXEL) == 30.0 and default_window(30.0, 48, PIXEL) == 48.0


def test_a_map_with_itself_is_limited_by_the_pixel_size():
    first, _ = white(32, 8).astype(np.float32)
    found = local_resolution(first, first, PIXEL, window=24.0)
    assert (found.values == 2 * PIXEL).all() and found.overall == 2 * PIXEL


# --- maps of known resolution -----------------------------------------------------------------------------------------


def test_two_halves_of_a_volume_are_told_apart():
    first, second = two_halves(84)
    before = first.copy()
    found = local_resolution(first, second, PIXEL, window=30.0)
    assert np.array_equal(first, before)
    # The box is periodic: the halves meet at x = 0 too, 38 angstrom from these voxels.
    left, right = found.values[:, :, 19:24], found.values[:, :, 61:66]
    for region, b_factor in ((left, B_FACTORS[0]), (right, B_FACTORS[1])):
        # Hundreds of independent windows, so that scatter is far below; a percent or two is left to the width of the bands, over which the
        # correlation is no straight line, and to the other half in the tails of the windows
        assert float(np.median(region)) == pytest.approx(true_resolution(b_factor), rel=0.03)
    assert true_resolution(B_FACTORS[0]) / true_resolution(B_FACTORS[1]) > 2  # the two are far apart
    mirrored = local_resolution(first[:, :, ::-1], second[:, :, ::-1], PIXEL, window=30.0)
    # it knows no direction; what the even box's origin moves is below single precision's rounding
    np.testing.assert_allclose(mirrored.values[:, :, ::-1], found.values, rtol=2e-3)


def test_even_resolution_agrees_with_the_fsc_of_the_whole_map():
    size = 64
    k = radial_frequency((size,) * 3, PIXEL)
    signal = apply_filter(white(size, 9, 1)[0], np.exp(-400 / 4 * k**2), 3)
    first, second = ((signal + NOISE * noise).astype(np.float32) for noise in white(size, 10))
    mask = soft_sphere(size, 24, 3, dtype=np.float32)
    found = local_resolution(first, second, PIXEL, mask)
    curves = half_map_curves(first, second, PIXEL, mask=mask)
    whole = curves.resolution(0.5).value
    # The mean over voxels of the frequency of the crossing, against that of the mean curve: scatter is symmetric about it to first order
    assert 1 / np.mean(1 / found.resolved) == pytest.approx(whole, rel=0.02)
    assert found.overall == pytest.approx(whole, rel=0.02)
    assert found.quantile(0.5) == pytest.approx(true_resolution(400.0), rel=0.02)
    assert found.unresolved == 0 and found.window == pytest.approx(5 * curves.resolution().value)
    assert np.isinf(found.values[~found.inside]).all() and found.inside.sum() == (mask > 0.5).sum()
    unmasked = resolution_at(curves.unmasked, 0.5, shell_frequencies(size, PIXEL)).value
    assert local_resolution(first, second, PIXEL, window=found.window).overall == pytest.approx(unmasked, rel=0.02)


def test_the_mask_keeps_solvent_out_of_the_windows():
    """A particle beside empty noise: windows at its rim are half solvent, and only the mask takes that away."""
    size = 64
    k = radial_frequency((size,) * 3, PIXEL)
    ball = soft_sphere(size, 16, 3)
    signal = ball * apply_filter(white(size, 11, 1)[0], np.exp(-400 / 4 * k**2), 3)
    first, second = ((signal + NOISE * noise).astype(np.float32) for noise in white(size, 12))
    rim = (soft_sphere(size, 15, 0) - soft_sphere(size, 12, 0)) > 0
    with_mask = np.median(local_resolution(first, second, PIXEL, ball, window=30.0).values[rim])
    without = np.median(local_resolution(first, second, PIXEL, window=30.0).values[rim])
    assert with_mask == pytest.approx(true_resolution(400.0), rel=0.05)
    assert without > 1.03 * with_mask


# --- the filter -------------------------------------------------------------------------------------------------------


def test_an_even_resolution_is_the_plain_filter():
    size = 32
    volume = white(size, 13, 1)[0]
    k = radial_frequency((size,) * 3, PIXEL)
    even = filter_locally(volume, np.full(volume.shape, 9.0), PIXEL, coarsest=40.0)
    expected = apply_filter(volume, low_pass(k, 1 / 9.0, 2 / (size * PIXEL)), 3)
    np.testing.assert_allclose(even, expected, atol=1e-12)


def test_each_voxel_is_filtered_to_its_own_resolution():
    size = 48
    volume = white(size, 14, 1)[0]
    resolution = np.where(np.arange(size) < size // 2, 12.0, 5.0) * np.ones_like(volume)
    resolution[:4] = math.inf
    done = filter_locally(volume, resolution, PIXEL, coarsest=30.0)
    k = radial_frequency((size,) * 3, PIXEL)
    step = (1 / 5 - 1 / 30) / 23
    for place, cutoff in (
        ((slice(4, None), slice(None), slice(0, 24)), 12.0),
        ((slice(4, None), slice(None), slice(24, None)), 5.0),
    ):
        plain = apply_filter(volume, low_pass(k, 1 / cutoff, max(step, 2 / (size * PIXEL))), 3)[place]
        # linear between two cut-offs a few thousandths of 1/A apart, whose edges are five times as wide
        assert np.corrcoef(done[place].ravel(), plain.ravel())[0, 1] > 0.995
    coarse = apply_filter(volume, low_pass(k, 1 / 30.0, max(step, 2 / (size * PIXEL))), 3)
    np.testing.assert_allclose(done[:4], coarse[:4], atol=1e-12)
    assert filter_locally(volume.astype(np.float32), resolution, PIXEL, coarsest=30.0).dtype == np.float32


# --- faults and the rest ----------------------------------------------------------------------------------------------


def test_bands_run_from_the_window_to_nyquist():
    bands = band_frequencies(40.0, PIXEL)
    assert bands[0] == pytest.approx(1.25 / 40) and bands[-1] == pytest.approx(0.25)
    assert (np.diff(bands) <= sigma_k_of_blur(40.0 / FWHM) * (1 + 1e-9)).all()
    k = radial_frequency((16,) * 3, PIXEL)
    transfer = band(k, 0.25, 0.02)
    assert transfer[0, 0, 0] == 0 and (transfer[k > 0.25 + 1e-9] == 0).all() and transfer.max() == 1


def test_whitening_gives_every_shell_the_same_power():
    maps = white(16, 15) * 7.0
    shape = (16,) * 3
    transforms = forward(maps, 3)
    flat = whitened(transforms, shape)
    from vitreous.fourier.shells import shell_mean

    np.testing.assert_allclose(shell_mean(np.abs(flat) ** 2, shape).mean(axis=0), 1.0, rtol=1e-12)
    # phases, and the FSC of each shell, stay
    np.testing.assert_allclose(np.angle(flat), np.angle(transforms), atol=1e-9)


FAULTS = {
    "shapes": ({"second": np.zeros((8, 8, 8))}, DataProblem, "one grid"),
    "no cube": ({"first": np.zeros((16, 16, 8)), "second": np.zeros((16, 16, 8))}, DataProblem, "cubes"),
    "nan": ({"first": np.full((16,) * 3, np.nan)}, DataProblem, "NaN"),
    "mask of another grid": ({"mask": np.ones((8,) * 3)}, DataProblem, "one grid"),
    "empty mask": ({"mask": np.zeros((16,) * 3)}, DataProblem, "above 0.5"),
    "threshold": ({"threshold": 1.5}, SettingsProblem, "between 0 and 1"),
    "window too small": ({"window": 8.0}, SettingsProblem, "ten voxels"),
    "window too large": ({"window": 20.0}, SettingsProblem, "half the box"),
    "significance": ({"significance": -1.0}, SettingsProblem, "0 or more"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_refused(name):
    change, error, message = FAULTS[name]
    given = {"first": white(16, 0)[0], "second": white(16, 0)[1], "mask": None} | change
    options = {key: given.pop(key) for key in ("threshold", "window", "significance") if key in given}
    pixel = 1.0
    with pytest.raises(error, match=message):
        local_resolution(given["first"], given["second"], pixel, given["mask"], **options)


@pytest.mark.parametrize(
    ("resolution", "coarsest"),
    [(np.full((8,) * 3, np.nan), 9.0), (np.full((4,) * 3, 5.0), 9.0), (np.full((8,) * 3, 5.0), 0.0)],
)
def test_the_filter_refuses_faults(resolution, coarsest):
    with pytest.raises((DataProblem, SettingsProblem)):
        filter_locally(np.zeros((8,) * 3), resolution, PIXEL, coarsest=coarsest)
