from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import fft, forward, frequencies, ifft
from vitreous.optics.aberrations import beam_tilt_phase
from vitreous.optics.aperture import aperture_cutoff, objective_aperture
from vitreous.optics.ctf import ctf
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.optics.imaging import image_of_wave, linear_image, wave_transfer, with_amplitude_contrast
from vitreous.optics.phase_plate import phase_plate
from vitreous.reference import ctf as reference_ctf
from vitreous.reference import imaging as reference

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7}
SIGMA, WAVE = interaction_constant(300e3), wavelength(300e3)
AXIS = np.arange(64) - 32
GAUSSIAN = np.exp(-(AXIS[:, None] ** 2 + AXIS**2) / (2 * 1.5**2))
GRID = frequencies((64, 64), 1.0, half=False)


def weak_object(rng, n, phase=1.0):
    """Random phases of rms `phase`, free of frequencies beyond 2/3 of Nyquist, so that nothing folds back on the linear terms."""
    k = np.hypot(np.fft.fftfreq(n), np.fft.fftfreq(n)[:, None])
    values = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, n))) * (k < 1 / 3)).real
    return phase * values / values.std()


def a_wave(rng, shape):
    return 1 + 0.2 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))


# --- definition -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 14), (13, 11)])
@pytest.mark.parametrize("tilt", [None, (2e-3, -1e-3)])
def test_is_the_definition(rng, shape, tilt):
    pixel_size, cutoff, shift, b_factor = 1.3, 0.3, 0.7, 12.0
    kx, ky = frequencies(shape, pixel_size, half=False)
    wave = a_wave(rng, shape)
    astigmatism = 400 * np.array([np.cos(2 * 0.4), np.sin(2 * 0.4)])

    def chi(x, y):
        defocus = reference_ctf.defocus_along(np.arctan2(y, x), 9400.0, 8600.0, 0.4)
        return reference_ctf.chi(np.hypot(x, y), defocus, WAVE, 2.7e7)

    fx, fy = np.meshgrid(reference.frequencies(shape[1], pixel_size), reference.frequencies(shape[0], pixel_size))
    k = np.hypot(fx, fy)
    phase = reference.tilted_chi(fx, fy, tilt or (0.0, 0.0), WAVE, chi) + shift * (k > 0.05)
    lens = np.exp(1j * phase) * (k <= cutoff) * np.exp(-b_factor * k**2 / 4)
    expected = reference.intensity(reference.wave_behind_lens(wave, lens))

    transfer = wave_transfer(
        kx,
        ky,
        9000.0,
        astigmatism,
        phase_shift=shift,
        cut_on=0.05,
        aperture=cutoff,
        b_factor=b_factor,
        beam_tilt=tilt,
        **LENS,
    )
    # rounding of a phase of some hundred radian, and of sums of 200 terms
    np.testing.assert_allclose(image_of_wave(wave, transfer), expected, atol=1e-11)
    assert np.abs(image_of_wave(wave, transfer.conj()) - expected).max() > 0.1


def test_a_detector_counts_the_square_of_the_wave(rng):
    wave = a_wave(rng, (6, 7))
    np.testing.assert_allclose(image_of_wave(wave), np.abs(wave) ** 2, rtol=1e-14)
    assert np.abs(image_of_wave(wave) - np.abs(wave)).max() > 0.05


# --- the sign contract ------------------------------------------------------------------------------------------------


def test_propagation_is_undone_by_underfocus(rng):
    """physics.md (a), sign test 2."""
    kx, ky = GRID
    propagated = ifft(fft(a_wave(rng, (64, 64)), 2) * np.exp(-1j * np.pi * WAVE * 700.0 * (kx**2 + ky**2)), 2)
    lens = {"voltage": 300e3, "spherical_aberration": 0.0}
    wave = a_wave(np.random.default_rng(20261122), (64, 64))
    refocused = image_of_wave(propagated, wave_transfer(kx, ky, 700.0, **lens))
    np.testing.assert_allclose(refocused, np.abs(wave) ** 2, atol=1e-12)
    assert np.abs(image_of_wave(propagated, wave_transfer(kx, ky, -700.0, **lens)) - np.abs(wave) ** 2).max() > 0.1


@pytest.mark.parametrize("defocus,expected", [(5000.0, 0.996320), (10000.0, 0.998119), (-10000.0, 1.001971)])
def test_protein_is_dark_at_underfocus(defocus, expected):
    """physics.md (a), sign test 3, its printed digits."""
    wave = np.exp(1j * SIGMA * 20.0 * GAUSSIAN)
    image = image_of_wave(wave, wave_transfer(*GRID, defocus, **LENS))
    assert image[32, 32] == pytest.approx(expected, abs=0.51e-6)
    # the modulus instead of its square shows half of the contrast
    assert np.sqrt(image[32, 32]) != pytest.approx(expected, abs=1e-4)


def test_the_wrong_pair_of_signs_is_the_one_of_the_contract():
    wave = np.exp(1j * SIGMA * 20.0 * GAUSSIAN)
    wrong = image_of_wave(wave, wave_transfer(*GRID, 5000.0, **LENS).conj())
    assert wrong[32, 32] == pytest.approx(1.003686, abs=0.51e-6)


def test_inverted_contrast_correlates_with_the_filtered_potential():
    image = image_of_wave(np.exp(1j * SIGMA * 20.0 * GAUSSIAN), wave_transfer(*GRID, 5000.0, **LENS))
    filtered = ifft(fft(GAUSSIAN, 2) * ctf(*GRID, 5000.0, amplitude_contrast=0.0, **LENS), 2).real
    assert np.corrcoef(-(image - 1).ravel(), filtered.ravel())[0, 1] > 0.999


def test_half_sum_of_the_two_sidebands_is_the_ctf():
    """P = -i T exp(i asin w) for +k, Q = conj P for -k: (P + Q)/2 = sin(gamma), the bar of physics.md (c) 6."""
    kx, ky = GRID
    astigmatism, loss = np.array([300.0, -200.0]), 0.07
    transfer = wave_transfer(kx, ky, 12000.0, astigmatism, b_factor=20.0, **LENS)
    one = -1j * transfer * np.exp(1j * np.arcsin(loss))
    expected = ctf(kx, ky, 12000.0, astigmatism, amplitude_contrast=loss, b_factor=20.0, **LENS)
    np.testing.assert_allclose((one + one.conj()) / 2, expected, atol=1e-12)


# --- the weak limit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_the_linear_image_is_the_weak_limit_of_the_wave(rng, loss):
    transfer = wave_transfer(*GRID, 9000.0, (300.0, -400.0), **LENS)

    def residue(phase):
        potential = weak_object(rng, 64, phase / 3) / SIGMA  # three rms is the largest phase, about
        wave = np.exp(1j * SIGMA * with_amplitude_contrast(potential, loss))
        linear = linear_image(potential, 1.0, 9000.0, (300.0, -400.0), amplitude_contrast=loss, **LENS)
        return np.abs(image_of_wave(wave, transfer) - linear).max(), linear, image_of_wave(wave, transfer)

    small, linear, image = residue(1e-4)
    assert small < 4e-8  # of order phi^2: the square of the scattered wave, at most 4 phi^2
    assert np.abs((2 - linear) - image).max() > 1e-4  # a flipped sign of the contrast
    assert np.abs(np.sqrt(image) - linear).max() > 1e-5
    rng = np.random.default_rng(20261122)
    (large, *_), rng = residue(1e-3), np.random.default_rng(20261122)
    assert 30 < large / small < 300  # ten times the phase, a hundred times the residue; the noise is another


def test_residue_of_the_gaussian_of_the_contract():
    phase = 1e-4 * GAUSSIAN
    image = image_of_wave(np.exp(1j * phase), wave_transfer(*GRID, 5000.0, **LENS))
    linear = linear_image(phase / SIGMA, 1.0, 5000.0, **LENS)
    assert np.abs(image - linear).max() < 1e-9  # phi^2 = 1e-8 times the spread of the wave over the image
    assert np.abs(linear - 1).max() > 1e-5


def test_linear_image_is_the_sine_on_the_transform(rng):
    potential = rng.normal(size=(20, 22))
    image = linear_image(potential, 1.2, 8000.0, (100.0, 50.0), amplitude_contrast=0.1, b_factor=30.0, **LENS)
    kx, ky = frequencies((20, 22), 1.2)
    values = ctf(kx, ky, 8000.0, np.array([100.0, 50.0]), amplitude_contrast=0.1, b_factor=30.0, contrast="raw", **LENS)
    expected = forward(potential, 2) * values * 2 * SIGMA
    measured = forward(image - 1, 2)
    inner = np.s_[1:10, 1:11]  # Nyquist terms of a real image are those of its Hermitian part
    np.testing.assert_allclose(measured[inner], expected[inner], atol=1e-12)
    assert image.mean() - 1 == pytest.approx(-2 * SIGMA * 0.1 * potential.mean(), rel=1e-10)


def test_absorption_of_a_complex_potential(rng):
    """A potential V + i Vim: the linear image holds both, and w is one way to write Vim."""
    potential = weak_object(rng, 32)
    loss = 0.08
    written = linear_image(with_amplitude_contrast(potential, loss), 1.0, 7000.0, **LENS)
    np.testing.assert_allclose(
        written, linear_image(potential, 1.0, 7000.0, amplitude_contrast=loss, **LENS), atol=1e-12
    )
    flipped = linear_image(with_amplitude_contrast(potential, loss).conj(), 1.0, 7000.0, **LENS)
    assert np.abs(flipped - written).max() > 1e-5


# --- phase plate, aperture, beam tilt -----------------------------------------------------------------------------------


def test_phase_plate_turns_the_sine_into_a_cosine(rng):
    lens = {"voltage": 300e3, "spherical_aberration": 0.0}
    potential = weak_object(rng, 64, 1e-4) / SIGMA
    image = image_of_wave(np.exp(1j * SIGMA * potential), wave_transfer(*GRID, 0.0, phase_shift=np.pi / 2, **lens))
    linear = linear_image(potential, 1.0, 0.0, phase_shift=np.pi / 2, **lens)
    np.testing.assert_allclose(image, linear, atol=1e-6)  # phi^2 with phi up to 5e-4
    assert np.corrcoef((image - 1).ravel(), potential.ravel())[0, 1] < -0.999  # dark protein without any defocus
    opposite = linear_image(potential, 1.0, 0.0, phase_shift=-np.pi / 2, **lens)
    assert np.abs(opposite - image).max() > 1e-4


def test_phase_plate_leaves_what_passes_its_hole():
    kx, ky = GRID
    plate = phase_plate(kx, ky, 1.0, cut_on=0.1)
    k = np.hypot(kx, ky)
    np.testing.assert_array_equal(plate, np.where(k <= 0.1, 0.0, 1.0))
    plain, shifted = (wave_transfer(kx, ky, 9000.0, phase_shift=p, cut_on=0.1, **LENS) for p in (0.0, 1.0))
    np.testing.assert_allclose(shifted / plain, np.exp(1j * plate), atol=1e-12)
    assert phase_plate(0.0 * kx, 0.0 * kx, 1.0).max() == 0
    soft = phase_plate(k, 0.0, 1.0, cut_on=0.1, edge_width=0.1)
    np.testing.assert_allclose(
        soft[np.isclose(k, 6 / 64)], 0.5 - 0.5 * np.cos(np.pi * (6 / 64 - 0.05) / 0.1), rtol=1e-12
    )


def test_aperture_takes_what_it_stops_from_the_intensity(rng):
    """Parseval: the mean intensity is the power of the amplitudes that pass."""
    wave = a_wave(rng, (64, 64))
    kx, ky = GRID
    image = image_of_wave(wave, wave_transfer(kx, ky, 8000.0, aperture=0.25, **LENS))
    power = np.abs(fft(wave, 2) / wave.size) ** 2
    assert image.mean() == pytest.approx(power[np.hypot(kx, ky) <= 0.25].sum(), rel=1e-12)
    assert image.mean() < 0.99 * power.sum()


def test_aperture_in_milliradian_and_its_soft_edge():
    assert aperture_cutoff(10.0, 300e3) == pytest.approx(0.01 / 0.0196874890, rel=1e-9)
    k = np.linspace(0, 0.5, 501)
    hard, soft = objective_aperture(k, 0.0, 0.3), objective_aperture(k, 0.0, 0.3, edge_width=0.1)
    np.testing.assert_array_equal(hard, (k <= 0.3).astype(float))
    assert (
        soft[250] == pytest.approx(1) and soft[300] == pytest.approx(0.5) and soft[350] == pytest.approx(0, abs=1e-12)
    )
    assert soft[275] == pytest.approx(0.5 + 0.5 * np.cos(np.pi / 4), rel=1e-9)


def test_beam_tilt_is_a_tilted_incident_wave(rng):
    """A thin specimen under the wave exp(2 pi i q.r), through the lens on its axis, q a frequency of the grid."""
    kx, ky = GRID
    k = np.hypot(kx, ky)
    specimen = ifft(fft(a_wave(rng, (64, 64)), 2) * (k < 0.3), 2)
    steps = np.array([3, -2])
    r = AXIS / 64
    incident = np.exp(2j * np.pi * (steps[0] * r + steps[1] * r[:, None]))
    expected = image_of_wave(specimen * incident, wave_transfer(kx, ky, 4000.0, **LENS))
    tilt = tuple(steps / 64 * WAVE)
    image = image_of_wave(specimen, wave_transfer(kx, ky, 4000.0, beam_tilt=tilt, **LENS))
    np.testing.assert_allclose(image, expected, atol=1e-11)
    opposite = image_of_wave(specimen, wave_transfer(kx, ky, 4000.0, beam_tilt=tuple(-steps / 64 * WAVE), **LENS))
    assert np.abs(opposite - expected).max() > 0.1


def test_beam_tilt_holds_the_coma_and_a_displacement():
    """The odd part, twice the frequency less twice the part: what is linear in k drops out, the cubic stays."""
    tilt = (3e-3, -2e-3)
    k = np.array([0.05, 0.11, 0.2])

    def odd(kx, ky):
        there, back = (wave_transfer(s * kx, s * ky, 5000.0, beam_tilt=tilt, **LENS) for s in (1, -1))
        return np.unwrap(np.angle(there * back.conj())) / 2

    fine = np.linspace(0, 0.4, 20001)
    measured = np.interp(2 * k, fine, odd(fine, 0.3 * fine)) - 2 * np.interp(k, fine, odd(fine, 0.3 * fine))
    coma = beam_tilt_phase(2 * k, 0.6 * k, tilt, wavelength=WAVE, spherical_aberration=2.7e7)
    coma = coma - 2 * beam_tilt_phase(k, 0.3 * k, tilt, wavelength=WAVE, spherical_aberration=2.7e7)
    np.testing.assert_allclose(measured, coma, rtol=1e-4, atol=1e-4)  # interpolation of a phase of some radian
    assert np.abs(coma).max() > 0.5


def test_underfocus_displaces_against_the_tilt():
    """The image is that of a plane upstream, where the beam had not yet moved: by -df t."""
    wave = 1 - 0.5 * np.exp(-(AXIS[:, None] ** 2 + AXIS**2) / (2 * 3.0**2))
    lens = {"voltage": 300e3, "spherical_aberration": 0.0}
    image = image_of_wave(wave, wave_transfer(*GRID, 1000.0, beam_tilt=(4e-3, 0.0), **lens))
    dip = (1 - image).sum(axis=0)
    assert (dip * AXIS).sum() / dip.sum() == pytest.approx(-4.0, abs=0.02)


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_batches_are_the_single_ones():
    kx, ky = frequencies((10, 12), 1.5, half=False)
    defocus, astigmatism = np.array([5e3, 9e3]), np.array([[100.0, 0.0], [0.0, -300.0]])
    tilt, b_factor = np.array([[1e-3, 0.0], [0.0, 2e-3]]), np.array([0.0, 30.0])
    batch = wave_transfer(
        kx, ky, defocus, astigmatism, beam_tilt=tilt, b_factor=b_factor, phase_shift=defocus / 1e4, **LENS
    )
    assert batch.shape == (2, 10, 12)
    for i in range(2):
        single = wave_transfer(
            kx,
            ky,
            defocus[i],
            astigmatism[i],
            beam_tilt=tilt[i],
            b_factor=b_factor[i],
            phase_shift=defocus[i] / 1e4,
            **LENS,
        )
        np.testing.assert_allclose(batch[i], single, atol=1e-13)


def test_single_precision_keeps_its_bar():
    """physics.md (c) 6: 1e-3 up to 0.5 A per pixel and 5 um, corners included; here a tilted beam too."""
    kx, ky = frequencies((128, 128), 0.5, half=False)
    settings = {"astigmatism": (400.0, 300.0), "beam_tilt": (1e-3, 0.0), **LENS}
    exact = wave_transfer(kx, ky, 5e4, **settings)
    single = wave_transfer(kx, ky, 5e4, dtype=np.float32, **settings)
    assert single.dtype == np.complex64
    assert (
        np.abs(single - exact).max() < 2e-6
    )  # the phase is formed in double; sums of a few fractions of a turn are not
    wave = np.exp(0.3j * GAUSSIAN).astype(np.complex64)
    image = image_of_wave(wave, wave_transfer(*GRID, 1e4, dtype=np.float32, **LENS))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, image_of_wave(wave.astype(complex), wave_transfer(*GRID, 1e4, **LENS)), atol=1e-5)
    assert linear_image(GAUSSIAN.astype(np.float32), 1.0, 1e4, **LENS).dtype == np.float32


def test_jax_gives_the_same(rng):
    import jax

    with jax.enable_x64(True):
        jnp = jax.numpy
        wave = a_wave(rng, (16, 18))
        kx, ky = frequencies((16, 18), 1.0, half=False)

        def image(defocus, tilt):
            transfer = wave_transfer(
                kx, ky, defocus, (100.0, 20.0), beam_tilt=tilt, aperture=0.4, aperture_edge=0.1, **LENS
            )
            return image_of_wave(jnp.asarray(wave), transfer)

        expected = wave_transfer(
            kx, ky, 8e3, (100.0, 20.0), beam_tilt=(1e-3, 0.0), aperture=0.4, aperture_edge=0.1, **LENS
        )
        expected = image_of_wave(wave, expected)
        for compute in (image, jax.jit(image)):
            values = compute(jnp.asarray(8e3), jnp.asarray([1e-3, 0.0]))
            np.testing.assert_allclose(values, expected, atol=1e-12)


def test_jax_in_single_precision_keeps_the_whole_turns(rng):
    import jax
    import jax.numpy as jnp

    kx, ky = frequencies((64, 64), 0.5, half=False)
    values = jax.jit(lambda df: wave_transfer(kx, ky, df, **LENS))(jnp.float32(5e4))
    assert values.dtype == jnp.complex64
    assert np.abs(values - wave_transfer(kx, ky, 5e4, **LENS)).max() < 1e-3  # the production bar of physics.md (c) 6


def test_inputs_are_not_changed(rng):
    wave, potential = a_wave(rng, (8, 8)), rng.normal(size=(8, 8))
    kept_wave, kept_potential = wave.copy(), potential.copy()
    kx, ky = frequencies((8, 8), 1.0, half=False)
    transfer = wave_transfer(kx, ky, 5e3, **LENS)
    kept = transfer.copy()
    image_of_wave(wave, transfer)
    linear_image(potential, 1.0, 5e3, **LENS)
    np.testing.assert_array_equal(wave, kept_wave)
    np.testing.assert_array_equal(potential, kept_potential)
    np.testing.assert_array_equal(transfer, kept)


@pytest.mark.parametrize(
    "wrong,words",
    [
        ({"aperture": 0.0}, "aperture"),
        ({"aperture": 0.2, "aperture_edge": 0.5}, "edge"),
        ({"phase_shift": 1.0, "cut_on": -0.1}, "cut-on"),
        ({"voltage": 300}, "300e3"),
    ],
)
def test_settings_that_cannot_work(wrong, words):
    with pytest.raises(SettingsProblem, match=words):
        wave_transfer(*GRID, 5e3, **{**LENS, **wrong})


def test_angles_and_plates_that_cannot_work():
    with pytest.raises(SettingsProblem, match="mrad"):
        aperture_cutoff(-1.0, 300e3)
    with pytest.raises(SettingsProblem, match="edge"):
        phase_plate(*GRID, 1.0, cut_on=0.1, edge_width=0.3)
