from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from vitreous.detection.detectors import detector, detector_names, voltages_of
from vitreous.detection.measurement import dqe_of_measurements, find_edge, mtf_of_edge, noise_power
from vitreous.detection.recording import record
from vitreous.errors import DataProblem, SettingsProblem

ALL = [(name, voltage) for name in detector_names() for voltage in voltages_of(name) or (300e3,)]
SLOPE, SOFTNESS, DOSE = 0.0928, 0.35, 4.0


def edge(shape, slope=SLOPE, softness=SOFTNESS, offset=0.0):
    """An edge as blurred as it needs to be to have no frequencies far beyond Nyquist; from 0.5 to 1.5."""
    y, x = np.arange(shape[0]) - shape[0] // 2, np.arange(shape[1]) - shape[1] // 2
    return 0.5 + ndtr((x - offset - slope * y[:, None]) / np.hypot(1, slope) / softness)


def blur(k):
    """Transform of the edge's own Gaussian softness."""
    return np.exp(-2 * (np.pi * SOFTNESS * k) ** 2)


@pytest.mark.parametrize("key", ALL, ids=str)
def test_dqe_of_flat_fields_and_an_edge_is_that_put_in(key):
    """physics.md (c) 10: the DQE recovered from simulated flat fields and edges within 2 %, at all frequencies."""
    camera, rng = detector(*key), np.random.default_rng(3)
    # The K2 sends 1.4 % of its signal farther than 500 pixels: a narrow image would lose it and call the rest more.
    shape = (320, 4096) if camera.name == "k2" else (320, 1024)
    image = record(edge(shape), 1e8, camera, rng)[48:-48, shape[1] // 4 : -shape[1] // 4]
    flats = np.stack([record(np.ones((384, 384)), DOSE, camera, rng) for _ in range(24)])

    k, power = noise_power(flats)
    mtf = mtf_of_edge(image, k) / blur(k)
    measured = dqe_of_measurements(mtf, power, mean_counts=flats.mean(), electrons_per_pixel=DOSE)
    # One shell has few terms: means of 1/DQE, which is linear in the noise, over 12 shells, weighted by their terms.
    rings = [slice(s, s + 12) for s in range(12, 192, 12)]

    def ring_means(dqe):
        return np.array([1 / np.average(1 / dqe[ring], weights=k[ring]) for ring in rings])

    # Noise power: 24 images of 670 independent terms in the first ring, 0.8 %; MTF: 0.4 % at Nyquist
    np.testing.assert_allclose(ring_means(measured), ring_means(camera.dqe(k)), rtol=0.02)
    # The MTF taken for the DQE is told apart
    assert np.abs(ring_means(measured) / ring_means(camera.mtf(k)) - 1).max() > 0.05


def test_square_pixels_have_the_mtf_of_a_square(rng):
    image = record(edge((320, 512)), 1e9, detector("ideal"), rng)[48:-48, 128:-128]
    k = np.linspace(0.02, 0.5, 13)
    # The corrections for bins and differences are 1.3 % at Nyquist; without them this fails.
    np.testing.assert_allclose(mtf_of_edge(image, k) / blur(k), np.sinc(k), rtol=3e-3)


@pytest.mark.parametrize("turned", range(4))
@pytest.mark.parametrize("slope", [0.0928, -0.0517])
def test_edges_in_all_directions(turned, slope, rng):
    image = np.rot90(edge((240, 240), slope, 0.8, 3.3), turned) * 40 + 7
    k = np.array([0.1, 0.3])
    # A Gaussian blur of 0.8 px and no noise: bins are not quite filled evenly
    np.testing.assert_allclose(mtf_of_edge(image, k), np.exp(-2 * (np.pi * 0.8 * k) ** 2), rtol=4e-3)


def test_the_edge_is_found(rng):
    image = edge((200, 260), 0.06, 1.0, -4.3)
    offset, slope = find_edge(image)
    assert offset == pytest.approx(130 - 4.3, abs=0.01) and slope == pytest.approx(0.06, abs=1e-4)
    noisy = rng.poisson(30 * image)  # 30 electrons per pixel: rows good to 1.5 px, the line of 200 rows to 0.2
    offset, slope = find_edge(noisy.astype(float))
    assert offset == pytest.approx(130 - 4.3, abs=0.6) and slope == pytest.approx(0.06, abs=0.01)
    assert abs(slope + 0.06) > 0.05  # the sign of the slant


def test_noise_power_of_white_noise_and_fixed_patterns(rng):
    pattern = rng.uniform(0, 50, (64, 48))
    k, power = noise_power(pattern + 3.0 * rng.standard_normal((60, 64, 48)))
    assert k[0] == 0 and k[-1] == 0.5 and len(k) == 25
    # 60 images of some 20 terms in the smallest rings
    np.testing.assert_allclose(power[2:], 9.0, rtol=0.1)
    assert np.mean(power[2:]) == pytest.approx(9.0, rel=0.01)


def test_bad_measurements(rng):
    k = np.array([0.1])
    with pytest.raises(DataProblem, match="equally bright"):
        mtf_of_edge(rng.normal(10, 1, (128, 128)), k)
    with pytest.raises(DataProblem, match="slant"):
        mtf_of_edge(edge((128, 128), 0.0), k)
    with pytest.raises(DataProblem, match="leaves the image"):
        mtf_of_edge(edge((128, 128), 0.1, 1.0, 56.0), k)
    with pytest.raises(DataProblem, match="finite"):
        mtf_of_edge(np.ones((16, 16)), k)
    with pytest.raises(SettingsProblem, match="either side"):
        mtf_of_edge(edge((128, 128)), k, half_width=80)
    with pytest.raises(DataProblem, match="two or more"):
        noise_power(np.ones((1, 8, 8)))
    with pytest.raises(SettingsProblem, match="positive"):
        dqe_of_measurements(k, k, mean_counts=1.0, electrons_per_pixel=0.0)
