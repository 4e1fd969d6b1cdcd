"""Correction of tilted images: definitions, series, least squares, what it is worth, bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse, radial_frequency
from vitreous.optics.ctf import ctf
from vitreous.optics.tilt import TiltedCtf, tilted_contrast, tilted_contrast_adjoint
from vitreous.optics.tilt_correction import (
    filtered_by_phase,
    phase_flipped,
    sign_series,
    wiener_filtered,
    wiener_series,
)
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.reference import ctf as reference_ctf
from vitreous.reference import optics as reference_optics
from vitreous.reference import tilt as reference

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
TILT, AXIS = math.radians(41), 0.8
SHAPE, PIXEL_SIZE, DEFOCUS = (12, 13), 1.2, 9000.0


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def lens_of(tilt=TILT, **more):
    return TiltedCtf(TiltedPlane(tilt, AXIS), DEFOCUS, **LENS, **more)


def phase_of(shape, pixel_size):
    ky, kx = np.fft.fftfreq(shape[0], pixel_size)[:, None], np.fft.fftfreq(shape[1], pixel_size)[None, :]
    k, wave = np.hypot(kx, ky), reference_optics.wavelength(300e3)
    return lambda defocus: reference_ctf.chi(k, defocus, wave, 2.7e7) + np.arcsin(0.1)


phase = phase_of(SHAPE, PIXEL_SIZE)


def local_defocus(tilt=TILT):
    axis = (math.cos(AXIS), math.sin(AXIS))
    return reference.local_defocus(*reference.positions(SHAPE, PIXEL_SIZE), DEFOCUS, tilt, axis)


def test_flip_is_the_blurred_sign_of_every_pixel(rng):
    image = rng.standard_normal(SHAPE)
    fast = phase_flipped(image, PIXEL_SIZE, lens_of())
    slow = reference.filtered_by_pixel(image, local_defocus(), phase, lambda g: reference.smoothed_sign(g, 0.15))
    np.testing.assert_allclose(fast, slow, atol=2e-3)  # the series leaves less than 1e-3 of each frequency
    wrong = reference.filtered_by_pixel(image, local_defocus(-TILT), phase, lambda g: reference.smoothed_sign(g, 0.15))
    assert np.abs(fast - wrong).max() > 0.02
    raw = phase_flipped(image, PIXEL_SIZE, lens_of(), contrast="raw")
    np.testing.assert_allclose(raw, -fast, atol=1e-12)
    single = phase_flipped(image.astype(np.float32), PIXEL_SIZE, lens_of())
    assert single.dtype == np.float32 and np.abs(single - fast).max() < 1e-4 * np.abs(fast).max()


def test_wiener_series_is_the_wiener_filter_of_every_pixel(rng):
    image = rng.standard_normal(SHAPE)
    for snr in (0.2, 2.0):
        fast = filtered_by_phase(image, PIXEL_SIZE, lens_of(), wiener_series(snr, tolerance=1e-8))
        slow = reference.filtered_by_pixel(
            image, local_defocus(), phase, lambda g, snr=snr: reference.wiener_weight(g, snr)
        )
        np.testing.assert_allclose(fast, slow, atol=1e-7)
        assert np.abs(fast + slow).max() > 0.1


@pytest.mark.parametrize("snr", [0.1, 5.0])
def test_wiener_is_the_least_squares_solution(snr, rng):
    shape = (6, 7)
    image, pixel_size = rng.standard_normal(shape), 2.0
    axis = (math.cos(AXIS), math.sin(AXIS))
    local = reference.local_defocus(*reference.positions(shape, pixel_size), DEFOCUS, TILT, axis)
    fast = wiener_filtered(image, pixel_size, lens_of(), snr=snr, tolerance=1e-9)
    slow = reference.least_squares(image, local, phase_of(shape, pixel_size), snr)
    np.testing.assert_allclose(fast, slow, atol=1e-7)
    assert np.abs(fast + slow).max() > 0.1
    quick = wiener_filtered(image, pixel_size, lens_of(), snr=snr)
    # A residual of 1e-3 is an error of at most 1e-3 times the condition of the matrix, (1 + 1/snr) snr.
    assert np.linalg.norm(quick - slow) < 1e-3 * (1 + snr) * np.linalg.norm(slow)
    single = wiener_filtered(image.astype(np.float32), pixel_size, lens_of(), snr=snr)
    assert single.dtype == np.float32 and np.linalg.norm(single - quick) < 1e-3 * np.linalg.norm(quick)


def test_premultiplication_is_the_ctf_of_every_pixel(rng):
    image = rng.standard_normal(SHAPE)
    fast = tilted_contrast_adjoint(image, PIXEL_SIZE, lens_of())
    np.testing.assert_allclose(fast, reference.filtered_by_pixel(image, local_defocus(), phase), atol=1e-8)


def test_ratios_by_frequency_solve_their_own_equations(rng):
    """(S^T S + 1/snr(k)) o = S^T image, with an envelope, from the operators alone."""
    shape, pixel_size = (24, 27), 1.5
    k = radial_frequency(shape, pixel_size)
    snr, envelope = 3 * np.exp(-60 * k**2), np.exp(-4 * k**2)
    lens, image = lens_of(b_factor=10.0), rng.standard_normal(shape)
    image = inverse(forward(image, 2) * (np.abs(frequencies(shape)[1]) < 0.5), shape)
    o = wiener_filtered(image, pixel_size, lens, snr=snr, envelope=envelope, contrast="raw", tolerance=1e-8)
    kind = {"contrast": "raw", "envelope": envelope}
    left = tilted_contrast_adjoint(tilted_contrast(o, pixel_size, lens, **kind), pixel_size, lens, **kind)
    left += inverse(forward(o, 2) / snr, shape)
    right = tilted_contrast_adjoint(image, pixel_size, lens, **kind)
    assert np.linalg.norm(left - right) < 1e-7 * np.linalg.norm(right)


@pytest.mark.parametrize("shape", [(16, 18), (15, 17)])
def test_without_a_tilt_they_are_the_plain_filters(shape, rng):
    image = rng.standard_normal((2, *shape))
    lens = TiltedCtf(TiltedPlane(0.0), np.array([7000.0, 9000.0]), **LENS, b_factor=20.0)
    kx, ky = frequencies(shape, 1.3)
    keep = (np.abs(ky * 1.3) < 0.5) * (np.abs(kx * 1.3) < 0.5)
    transfer = ctf(kx, ky, lens.defocus, **LENS, b_factor=20.0, contrast="raw")
    flipped = inverse(forward(image, 2) * np.sign(transfer) * keep, shape)
    np.testing.assert_allclose(phase_flipped(image, 1.3, lens, contrast="raw"), flipped, atol=1e-12)
    restored = inverse(forward(image, 2) * transfer / (transfer**2 + 0.5) * keep, shape)
    np.testing.assert_allclose(wiener_filtered(image, 1.3, lens, snr=2.0, contrast="raw"), restored, atol=1e-12)
    almost = TiltedCtf(TiltedPlane(1e-9), lens.defocus, **LENS, b_factor=20.0)
    np.testing.assert_allclose(
        wiener_filtered(image, 1.3, almost, snr=2.0, contrast="raw", tolerance=1e-9), restored, atol=1e-7
    )


def test_series():
    """Against the functions themselves, and the number of terms that is said."""
    g = np.linspace(-4, 9, 400)

    def total(coefficients):
        return sum(b * np.sin((2 * n + 1) * g) for n, b in enumerate(coefficients))

    for rms in (0.05, 0.15, 0.5):
        assert np.abs(total(sign_series(rms)) - reference.smoothed_sign(g, rms)).max() < 1e-3
    assert len(sign_series(0.15)) == 10
    # |CTF| is missed by less than 0.35 rms: what the docstring says.
    lost = np.abs(np.sin(g)) - np.sin(g) * reference.smoothed_sign(g, 0.15)
    assert lost.min() > -1e-9 and 0.3 * 0.15 < lost.max() < 0.35 * 0.15
    for snr, ratio in ((0.1, 0.0238), (1.0, 0.1716), (10.0, 0.5367)):
        series = wiener_series(snr, tolerance=1e-9)
        expected = reference.wiener_weight(g, snr)
        assert np.abs(total(series) - expected).max() < 1e-8 * np.abs(expected).max() * (1 + snr)
        assert np.array(series[1:]) / np.array(series[:-1]) == pytest.approx(ratio, abs=5e-5)


def test_a_batch_is_a_loop(rng):
    images = rng.standard_normal((3, 14, 15))
    batch = TiltedCtf(TiltedPlane(0.5, 0.2), np.array([6e3, 7e3, 8e3]), **LENS, phase_shift=0.3)
    flipped = phase_flipped(images, 1.0, batch)
    restored = wiener_filtered(images, 1.0, batch, snr=1.0, tolerance=1e-9)
    for i, image in enumerate(images):
        one = TiltedCtf(batch.plane, float(batch.defocus[i]), **LENS, phase_shift=0.3)
        np.testing.assert_allclose(phase_flipped(image, 1.0, one), flipped[i], atol=1e-9)
        np.testing.assert_allclose(wiener_filtered(image, 1.0, one, snr=1.0, tolerance=1e-9), restored[i], atol=1e-8)


def correlations(image, truth, edges):
    """Correlation with the truth in rings of frequency."""
    a, b, k = forward(image, 2), forward(truth, 2), radial_frequency(image.shape)
    found = []
    for low, high in itertools.pairwise(edges):
        ring = (k > low) & (k <= high)
        product = np.sum((a * b.conj()).real[ring])
        found.append(product / math.sqrt(np.sum(np.abs(a[ring]) ** 2) * np.sum(np.abs(b[ring]) ** 2)))
    return np.array(found)


def test_what_a_tilted_correction_is_worth(rng):
    """60 degrees, 1.5 um, pixels of 1 angstrom: with one defocus nothing is left at 3 A, with the right ones it is all there."""
    size, snr = 256, 4.0
    truth = rng.standard_normal((size, size))
    lens = TiltedCtf(TiltedPlane(math.radians(60), 0.3), 15000.0, **LENS)
    image = tilted_contrast(truth, 1.0, lens, contrast="raw") + rng.standard_normal((size, size)) / math.sqrt(snr)
    edges = (0.05, 0.2, 0.3, 0.45)
    best = correlations(wiener_filtered(image, 1.0, lens, snr=snr, contrast="raw"), truth, edges)
    local = correlations(filtered_by_phase(image, 1.0, lens, wiener_series(snr), contrast="raw"), truth, edges)
    flat = TiltedCtf(TiltedPlane(0.0), 15000.0, **LENS)
    one = correlations(wiener_filtered(image, 1.0, flat, snr=snr, contrast="raw"), truth, edges)
    wrong = TiltedCtf(TiltedPlane(-math.radians(60), 0.3), 15000.0, **LENS)
    hand = correlations(wiener_filtered(image, 1.0, wrong, snr=snr, contrast="raw"), truth, edges)
    flipped = correlations(phase_flipped(image, 1.0, lens, contrast="raw"), truth, edges)
    # sqrt(mean of CTF^2 snr / (CTF^2 snr + 1)) is 0.74 for sines of even phase at this ratio
    assert best == pytest.approx(0.744, abs=0.02)
    assert (flipped > 0.6).all() and (flipped < best).all()
    assert (local < best).all() and local[-1] < best[-1] - 0.05  # why the least squares are worth their steps
    assert one[-1] < 0.35 and hand[-1] < 0.2


LINE = np.zeros((8, 8))
BAD = {
    "snr 0": (lambda: wiener_filtered(LINE, 1.0, lens_of(), snr=0.0), SettingsProblem, "signal-to-noise"),
    "snr nan": (lambda: wiener_filtered(LINE, 1.0, lens_of(), snr=math.nan), SettingsProblem, "signal-to-noise"),
    "snr shape": (lambda: wiener_filtered(LINE, 1.0, lens_of(), snr=np.ones((8, 8))), DataProblem, "half grid"),
    "snr of the series": (lambda: wiener_series(-1.0), SettingsProblem, "signal-to-noise"),
    "sharp sign": (lambda: phase_flipped(LINE, 1.0, lens_of(), sign_rms=0.0), SettingsProblem, "blurred"),
    "blunt sign": (lambda: sign_series(2.0), SettingsProblem, "blurred"),
    "contrast": (lambda: phase_flipped(LINE, 1.0, lens_of(), contrast="dark"), SettingsProblem, "inverted"),
    "pixel size": (lambda: wiener_filtered(LINE, -1.0, lens_of(), snr=1.0), DataProblem, "pixel size"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call()


def test_a_ratio_that_does_not_converge_is_told(rng, monkeypatch):
    monkeypatch.setattr("vitreous.optics.tilt_correction.MOST_STEPS", 5)
    with pytest.raises(SettingsProblem, match="5 steps"):
        wiener_filtered(rng.standard_normal((24, 24)), 1.0, lens_of(), snr=1e5)
    assert not wiener_filtered(np.zeros((24, 24)), 1.0, lens_of(), snr=1e5).any()
