"""Spectra: the mean over squares of Fourier space, at the right frequency, with the right noise."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.estimation.spectrum import FINEST, spectrum_of_image, stored_spectrum, tile_spectra
from vitreous.reference.ctf_estimation import mean_power


def frequency_of_peak(power: np.ndarray, pixel_size: float) -> tuple[float, float]:
    row, column = np.unravel_index(np.argmax(power), power.shape)
    box = power.shape[0]
    return column / (box * pixel_size), np.fft.fftfreq(box, pixel_size)[row]


def test_it_is_the_mean_of_the_definition(rng):
    # Sizes that are odd multiples of the box need no padding, and the taper is applied before both.
    image = rng.normal(size=(96, 96)).astype(np.float32)
    spectrum = spectrum_of_image(image, 1.0, finest=3.0, period=32.0)
    assert spectrum.averaged == 9
    window = np.ones(96)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(3) + 0.5) / 3)
    window[:3], window[-3:] = rise, rise[::-1]
    flat = image - image.mean(axis=0)
    tapered = (flat - flat.mean(axis=1, keepdims=True)) * window[:, None] * window
    for column, row in ((1, 0), (3, 5), (7, -4), (9, -9)):
        expected = mean_power(tapered, 1 / 32, column / 32, row / 32)
        # float32 transforms: 1e-6 of the power, with a margin
        assert spectrum.power[row, column] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(700, 512), (601, 433), (1024, 1024)])
@pytest.mark.parametrize("k", [(0.113, -0.061), (0.02, 0.15)])
def test_a_grating_is_at_its_frequency(shape, k):
    y, x = np.mgrid[: shape[0], : shape[1]] * 1.3
    image = np.cos(2 * np.pi * (k[0] * x + k[1] * y)).astype(np.float32)
    spectrum = spectrum_of_image(image, 1.3)
    found = frequency_of_peak(spectrum.power, spectrum.pixel_size)
    assert found == pytest.approx(k, abs=0.51 * spectrum.step)
    assert found != pytest.approx((k[0], -k[1]), abs=0.51 * spectrum.step)  # the mirrored one is another grating


def test_noise_is_averaged_as_it_says(rng):
    spectrum = spectrum_of_image(rng.normal(size=(1500, 1500)).astype(np.float32), 1.0, period=300.0)
    inner = spectrum.power[5:60, 5:60]
    # n independent values have a relative deviation of 1/sqrt(n); padding and taper (6 %) make some of them alike
    assert inner.std() / inner.mean() == pytest.approx(1 / np.sqrt(spectrum.averaged), rel=0.1)
    alike = (inner[1:] * inner[:-1]).mean() / inner.mean() ** 2 - 1
    assert abs(alike) < 0.1 * inner.var() / inner.mean() ** 2


def test_it_ends_where_asked(rng):
    image = rng.normal(size=(300, 300)).astype(np.float32)
    assert spectrum_of_image(image, 1.0).finest == FINEST
    assert spectrum_of_image(image, 1.0, finest=5.0).finest == 5.0
    assert spectrum_of_image(image, 4.0).finest > 8.0  # the pixels allow no more than Nyquist
    spectrum = spectrum_of_image(image, 1.0, finest=5.0)
    assert 1 / 5 <= 1 / (2 * spectrum.pixel_size) <= 1 / 5 + 2 * spectrum.step


def test_hot_pixels_do_not_cover_the_spectrum(rng):
    image = rng.normal(size=(400, 400)).astype(np.float32)
    hot = image.copy()
    hot[100, 200], hot[300, 50] = 1e4, 3e4
    clean, dirty = (spectrum_of_image(one, 1.5).power[5:, 5:].mean() for one in (image, hot))
    assert clean < dirty * 400  # a pixel of 1e4 would add 1e8 to every value of 1.6e5
    assert np.isfinite(dirty)


def test_the_input_is_not_changed(rng):
    image = rng.normal(size=(200, 200)).astype(np.float32)
    before = image.copy()
    spectrum_of_image(image, 1.0)
    tile_spectra(image, 1.0, side=64)
    assert np.array_equal(image, before)


def test_a_stored_spectrum_keeps_its_frequencies(rng):
    amplitudes = rng.uniform(1, 2, size=(128, 128))
    amplitudes[64 + 10, 64 + 20] = 50  # +y, +x
    spectrum = stored_spectrum(amplitudes, 2.0)
    kx, ky = frequency_of_peak(spectrum.power, 2.0)
    assert (kx, ky) == pytest.approx((20 / 256, 10 / 256))
    assert spectrum.power.max() == pytest.approx(2500)  # amplitude, not power, is stored


def test_tiles_lie_where_they_say():
    image = np.zeros((400, 600), dtype=np.float32)
    rng = np.random.default_rng(0)
    image[:200, 400:] = rng.normal(size=(200, 200))  # upper right in rows and columns: y < 0, x > 0
    tiles = tile_spectra(image + 1e-3 * rng.normal(size=image.shape), 2.0, side=400.0)
    assert tiles.side == 400.0 and len(tiles.x) == 6
    loudest = int(np.argmax(tiles.power[:, 5:-5, 5:].mean(axis=(1, 2))))
    assert (tiles.x[loudest], tiles.y[loudest]) == pytest.approx((400.0, -200.0))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((100, 100), 7.0), "all have the value 7"),
        (np.full((100, 100), np.nan), "NaN"),
        (np.zeros((40, 100)), "64 x 64"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(DataProblem, match=words):
        spectrum_of_image(image.astype(np.float32), 1.0)


@pytest.mark.parametrize("amplitudes", [np.zeros((128, 128)), np.ones((128, 64)), np.full((128, 128), np.nan)])
def test_what_is_no_stored_spectrum_is_refused(amplitudes):
    with pytest.raises(DataProblem):
        stored_spectrum(amplitudes, 1.0)
