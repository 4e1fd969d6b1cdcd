from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.model.microscope import Microscope
from vitreous.model.slices import ExitWave
from vitreous.optics.aberrations import beam_tilt_phase, even_zernike_phase, odd_zernike_phase
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.optics.imaging import image_of_wave, linear_image, wave_transfer, with_amplitude_contrast
from vitreous.optics.lens import lens_transfer, projection_image, wave_image

SIGMA = interaction_constant(300e3)
PLAIN = Microscope(voltage=300e3, spherical_aberration=2.7e7, defocus=9e3, astigmatism=(300.0, -400.0))
SETTINGS = {
    "plain": {},
    "other focus": {"defocus": -5e3, "astigmatism": (0.0, 800.0)},
    "amplitude contrast": {"amplitude_contrast": 0.1},
    "phase plate": {"phase_shift": 1.2, "phase_plate_cut_on": 0.06},
    "aperture": {"aperture": 0.2, "aperture_edge": 0.05},
    "beam tilt": {"beam_tilt": (2e-3, -1e-3)},
    "coma": {"coma_tilt": (6e-3, -3e-3)},
    "coherence": {"one_over_e_mrad": 0.1, "focal_sigma": 60.0},
    "B factor": {"b_factor": 50.0},
    "Zernike": {"even_zernike": (0.3, 1.0, -2.0, 3.0), "odd_zernike": (0.5, 1.0, 4.0, -6.0)},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_wave_and_projection_agree_for_a_weak_object(rng, name):
    """Each setting acts on the wave and on the linear image in the same way, and it acts."""
    k = np.hypot(np.fft.fftfreq(48), np.fft.fftfreq(48)[:, None])
    phase = np.fft.ifft2(np.fft.fft2(rng.normal(size=(48, 48))) * (k < 1 / 3)).real
    phase *= 1e-5 / np.abs(phase).max()
    microscope = replace(PLAIN, **SETTINGS[name])
    linear = projection_image(phase / SIGMA, 1.0, microscope)
    absorbing = with_amplitude_contrast(phase / SIGMA, microscope.amplitude_contrast)
    image = wave_image(ExitWave(np.exp(1j * SIGMA * absorbing), 1.0, 0.0), microscope)
    assert np.abs(image - linear).max() < 4e-10  # at most 4 phi^2
    assert np.abs(image - projection_image(-phase / SIGMA, 1.0, microscope)).max() > 1e-5
    if name != "plain":
        assert np.abs(linear - projection_image(phase / SIGMA, 1.0, PLAIN)).max() > 1e-6


def test_settings_are_those_of_the_functions(rng):
    """Names, order and units, with everything set."""
    grid = frequencies((12, 14), 1.1, half=False)
    odd = odd_zernike_phase(*grid, (1.0, 2.0)) + beam_tilt_phase(
        *grid, (3e-3, 1e-3), wavelength=wavelength(200e3), spherical_aberration=1.4e7
    )
    expected = wave_transfer(
        *grid,
        7e3,
        (100.0, 50.0),
        voltage=200e3,
        spherical_aberration=1.4e7,
        phase_shift=0.5,
        cut_on=0.05,
        aperture=0.3,
        aperture_edge=0.1,
        beam_tilt=(1e-3, 2e-3),
        even_phase=even_zernike_phase(*grid, (0.1, 2.0)),
        odd_phase=odd,
        b_factor=40.0,
    )
    microscope = Microscope(
        voltage=200e3,
        spherical_aberration=1.4e7,
        defocus=7e3,
        astigmatism=(100.0, 50.0),
        phase_shift=0.5,
        phase_plate_cut_on=0.05,
        aperture=0.3,
        aperture_edge=0.1,
        beam_tilt=(1e-3, 2e-3),
        coma_tilt=(3e-3, 1e-3),
        b_factor=40.0,
        even_zernike=(0.1, 2.0),
        odd_zernike=(1.0, 2.0),
    )
    np.testing.assert_allclose(lens_transfer(microscope, *grid), expected, atol=1e-12)


def test_a_wave_downstream_is_further_underfocused(rng):
    wave = np.exp(0.1j * rng.normal(size=(16, 16)))
    grid = frequencies((16, 16), 1.0, half=False)
    image = wave_image(ExitWave(wave, 1.0, 200.0), PLAIN)
    lens = {"voltage": 300e3, "spherical_aberration": 2.7e7}
    np.testing.assert_allclose(
        image, image_of_wave(wave, wave_transfer(*grid, 9200.0, (300.0, -400.0), **lens)), atol=1e-12
    )
    upstream = image_of_wave(wave, wave_transfer(*grid, 8800.0, (300.0, -400.0), **lens))
    assert np.abs(image - upstream).max() > 1e-2


def test_projection_image_is_the_linear_image(rng):
    projected = rng.normal(size=(16, 16))
    expected = linear_image(
        projected, 1.5, 9e3, (300.0, -400.0), voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.07
    )
    image = projection_image(projected, 1.5, replace(PLAIN, amplitude_contrast=0.07))
    np.testing.assert_allclose(image, expected, atol=1e-13)


def test_single_precision(rng):
    wave = ExitWave(np.ones((8, 8), np.complex64), 1.0, 0.0)
    microscope = replace(PLAIN, one_over_e_mrad=0.05, focal_sigma=10.0, beam_tilt=(1e-3, 0.0))
    assert wave_image(wave, microscope).dtype == np.float32
    assert wave_image(wave, microscope, coherence="sum", nodes=2).dtype == np.float32
    assert projection_image(np.ones((8, 8), np.float32), 1.0, microscope).dtype == np.float32


@pytest.mark.parametrize(
    "wrong,words",
    [
        ({"voltage": -1.0}, "voltage"),
        ({"amplitude_contrast": 1.5}, "amplitude contrast"),
        ({"aperture": 0.0}, "aperture"),
        ({"one_over_e_mrad": float("nan")}, "one_over_e_mrad"),
    ],
)
def test_microscopes_that_are_refused(wrong, words):
    with pytest.raises((DataProblem, SettingsProblem), match=words):
        replace(PLAIN, **wrong)
