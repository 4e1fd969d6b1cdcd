from __future__ import annotations

import numpy as np
import pytest

from vitreous.optics.electrons import interaction_constant
from vitreous.reference import scattering as reference
from vitreous.scattering.multislice import multislice, transmission_less_one
from vitreous.scattering.propagation import band, fresnel_propagator

VOLTAGE = 300e3


def slabs(shape=(6, 40, 52), seed=1):
    return 60 * np.random.default_rng(seed).uniform(size=shape)


@pytest.mark.parametrize("limit_transmission", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_blocks_and_threads_do_not_matter(monkeypatch, workers, limit_transmission):
    settings = {"limit_transmission": limit_transmission}
    expected = multislice(slabs(), 1.0, 2.0, VOLTAGE, **settings)
    monkeypatch.setattr("vitreous.scattering.multislice.BLOCK", 300)  # seven rows at a time
    found = multislice(slabs(), 1.0, 2.0, VOLTAGE, workers=workers, **settings)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_limited_transmission_is_the_textbook_scheme():
    potential, inside = slabs(), band((40, 52))
    sigma, propagator = interaction_constant(VOLTAGE), fresnel_propagator((40, 52), 1.0, 2.0, VOLTAGE)
    wave = np.ones((40, 52), dtype=complex)
    for slab in potential:
        wave = wave * reference.limited(np.exp(1j * sigma * slab), 2 / 3)
        wave = np.fft.ifft2(np.fft.fft2(wave) * propagator * inside)
    found = multislice(potential, 1.0, 2.0, VOLTAGE, limit_transmission=True)
    np.testing.assert_allclose(found, wave, atol=1e-12)
    assert np.abs(found - multislice(potential, 1.0, 2.0, VOLTAGE)).max() > 1e-4


def test_two_halves_in_a_row_are_the_whole():
    potential = slabs()
    middle = multislice(potential[:2], 1.0, 2.0, VOLTAGE)
    before = middle.copy()
    whole = multislice(potential[2:], 1.0, 2.0, VOLTAGE, incident=middle)
    np.testing.assert_allclose(whole, multislice(potential, 1.0, 2.0, VOLTAGE), atol=1e-14)
    np.testing.assert_array_equal(middle, before)


def test_transmission_of_what_absorbs():
    sigma = interaction_constant(VOLTAGE)
    potential = np.array([0.0, 100.0, 100.0 + 20j])
    found = 1 + transmission_less_one(potential, VOLTAGE)
    np.testing.assert_allclose(found, np.exp(1j * sigma * potential), atol=1e-15)
    assert abs(found[2]) < 1


def test_single_precision_is_relative_to_the_scattered_wave():
    """Forty slabs cost hardly more than rounding the exact wave once."""
    weak = slabs((40, 48, 48)) / 150
    weak -= weak.mean()  # a mean potential turns the phase of the beam itself
    expected = multislice(weak, 1.0, 2.0, VOLTAGE)
    found = multislice(weak.astype(np.float32), 1.0, 2.0, VOLTAGE)
    once = np.linalg.norm(expected.astype(np.complex64) - expected)
    assert np.linalg.norm(found - expected) < 1.2 * once
    potential = 1e-3 * weak
    tiny = transmission_less_one(potential.astype(np.float32), VOLTAGE)
    np.testing.assert_allclose(tiny, np.expm1(1j * interaction_constant(VOLTAGE) * potential), rtol=1e-6)


def atoms(count, size, pixel_size, slab_count, voxels):
    """Random carbon-like atoms (two Gaussians, integral 120 V A^3, B 30), at the density of a protein, projected per slab,
    on `size` pixels with the frequencies of `voxels` pixels.
    """
    rng = np.random.default_rng(7)
    place = rng.uniform(0, size * pixel_size, size=(count, 2))
    slab = rng.integers(0, slab_count, count)
    k = np.fft.fftfreq(size, pixel_size)
    k2 = k[:, None] ** 2 + k**2
    form = 60 * (np.exp(-50 * k2 / 4) + np.exp(-33 * k2 / 4)) / pixel_size**2
    kept = np.abs(k) * pixel_size * size < voxels / 2
    form = form * kept[:, None] * kept
    waves_x, waves_y = (np.exp(-2j * np.pi * np.outer(k, place[:, axis])) for axis in (0, 1))
    return np.stack(
        [np.fft.ifft2(form * (waves_y[:, slab == s] @ waves_x[:, slab == s].T)).real for s in range(slab_count)]
    )


def test_which_limit_loses_least():
    """The statement of the module's docstring, against the same atoms on pixels three times finer."""
    count = int(0.05 * 48**2 * 24 * 5)
    fine = multislice(atoms(count, 144, 1 / 3, 24, 144), 1 / 3, 5.0, VOLTAGE, band_limit=None)
    index = np.fft.fftfreq(48, 1 / 48).astype(int)
    truth = np.fft.fft2(fine)[np.ix_(index, index)] / 9
    inside = band((48, 48))
    inside[0, 0] = False
    potential = atoms(count, 48, 1.0, 24, 48)

    def error(**settings):
        wave = np.fft.fft2(multislice(potential, 1.0, 5.0, VOLTAGE, **settings))
        return np.linalg.norm((wave - truth)[inside]) / np.linalg.norm(truth[inside])

    textbook, ours, unlimited = error(limit_transmission=True), error(), error(band_limit=None)
    assert unlimited < 0.6 * ours
    assert ours < 0.9 * textbook < 0.03
