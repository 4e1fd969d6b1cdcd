from __future__ import annotations

import numpy as np
import pytest

from vitreous.detection.detectors import detector
from vitreous.detection.dose import Exposure
from vitreous.detection.movie import Drift, motion, movie_frames, smooth_drift, sum_frames
from vitreous.detection.recording import expected_counts
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.shells import shell_sum
from vitreous.fourier.transforms import forward, inverse, radial_frequency, translate
from vitreous.reference import detection as reference

PIXEL, BOX = 1.25, 96
K3 = detector("k3", 300e3)


def specimen(rng, contrast=0.15):
    """A smooth random intensity about 1."""
    k = radial_frequency((BOX, BOX), PIXEL)
    field = inverse(forward(rng.standard_normal((BOX, BOX)), 2) * np.exp(-((k / 0.25) ** 2)), (BOX, BOX))
    return 1 + contrast * field / np.abs(field).max()


def streams(seed=0):
    return lambda frame: np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, frame]))


def expected_frames(intensity, exposure, camera, drift=None, fading=True):
    """What frames are on average, without noise."""
    k = radial_frequency(intensity.shape, PIXEL)
    for i, dose in enumerate(exposure.dose_per_frame):
        transform = forward(intensity, 2) * (exposure.fading(i, k) if fading else 1)
        if drift is not None:
            transform = transform * motion(drift, i, intensity.shape, PIXEL)
        yield expected_counts(inverse(transform, intensity.shape), dose * PIXEL**2, camera)


def test_frames_of_an_undamaged_still_movie_sum_to_the_total_counts(rng):
    intensity, exposure = specimen(rng), Exposure.even(400.0, 8)
    frames = list(movie_frames(intensity, PIXEL, exposure, K3, streams(), fading=False))
    assert len(frames) == 8
    total = sum_frames(frames)
    expected = expected_counts(intensity, 400 * PIXEL**2, K3)
    deviation = np.sqrt(expected.mean())  # white Poisson noise
    assert abs(total.mean() - expected.mean()) < 3 * deviation / BOX
    scaled = (total - expected) / np.sqrt(expected)
    assert scaled.std() == pytest.approx(1, abs=0.03)  # 9216 pixels: 0.7 %
    # Frames have noise of their own: the same stream in each would give 8 times the variance
    assert np.corrcoef((frames[0] - expected / 8).ravel(), (frames[1] - expected / 8).ravel())[0, 1] < 0.05


def test_fading_keeps_the_mean_and_takes_the_detail(rng):
    intensity, exposure = specimen(rng), Exposure((1e4, 1e4), pre_exposure=0.0, voltage_scale=2e3)
    k = radial_frequency(intensity.shape, PIXEL)
    for i, frame in enumerate(movie_frames(intensity, PIXEL, exposure, K3, streams())):
        clean = forward(intensity, 2) * exposure.fading(i, k) * K3.mtf(k * PIXEL) * K3.gain * 1e4 * PIXEL**2
        ring = (np.abs(k - 0.15) < 0.02) & (k > 0)
        transform = forward(frame, 2)
        gain = (transform * clean.conj())[ring].real.sum() / (np.abs(clean[ring]) ** 2).sum()
        # Noise: sqrt(12,500 electrons per pixel * 9216) against the power of the ring; measured 3e-3
        assert gain == pytest.approx(1, abs=0.02)
        assert frame.mean() == pytest.approx(K3.gain * 1e4 * PIXEL**2, rel=1e-3)
    assert exposure.fading(1, np.array(0.15)) < 0.8 * exposure.fading(0, np.array(0.15))  # seen: the two differ


def test_motion_is_a_shift_and_a_smear(rng):
    intensity = specimen(rng)
    start, end = np.array([1.0, -2.0]), np.array([4.5, 1.25])
    drift = Drift(np.stack([start, end]))
    moved = inverse(forward(intensity, 2) * motion(drift, 0, intensity.shape, PIXEL), intensity.shape)
    expected = reference.smear(intensity, start, end, PIXEL, moments=400)
    # 400 moments of waves that turn by less than two cycles: (2 pi 2 / 400)^2 / 24 = 4e-5 of a contrast of 0.15
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    opposite = reference.smear(intensity, -start, -end, PIXEL, moments=50)
    assert np.abs(moved - opposite).max() > 0.05  # towards positive x and y, not away
    still = Drift(np.array([[1.0, -2.0], [1.0, -2.0]]))
    shifted = inverse(forward(intensity, 2) * motion(still, 0, intensity.shape, PIXEL), intensity.shape)
    np.testing.assert_allclose(shifted, translate(intensity, np.array([1.0, -2.0]), PIXEL), atol=1e-12)


def test_aligned_sum_recovers_what_drift_smeared(rng):
    intensity, exposure = specimen(rng), Exposure.even(40.0, 20)
    drift = smooth_drift(exposure, 12.0, rng)
    frames = list(expected_frames(intensity, exposure, K3, drift, fading=False))
    still = expected_counts(intensity, 40 * PIXEL**2, K3)
    aligned, blurred = sum_frames(frames, PIXEL, drift=drift), sum_frames(frames)
    # What is left is the smear within frames, 4 A along the first one and less in each that follows
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX, PIXEL), np.fft.fftfreq(BOX, PIXEL), indexing="ij")
    smear = np.mean([np.sinc(kx * x + ky * y) for x, y in drift.step], axis=0)
    smear[BOX // 2] = smear[:, BOX // 2] = 0  # Nyquist terms are dropped
    np.testing.assert_allclose(aligned, np.fft.ifft2(np.fft.fft2(still) * smear).real, atol=1e-10)
    assert np.linalg.norm(aligned - still) < 0.06 * np.linalg.norm(still - still.mean())
    assert np.linalg.norm(blurred - still) > 0.3 * np.linalg.norm(still - still.mean())
    reversed_drift = Drift(-drift.position)
    wrong = sum_frames(frames, PIXEL, drift=reversed_drift)
    assert np.linalg.norm(wrong - still) > 0.3 * np.linalg.norm(still - still.mean())


def test_noise_of_an_aligned_sum_stays_white(rng):
    exposure = Exposure.even(20.0, 5)
    drift = smooth_drift(exposure, 6.0, rng)
    frames = movie_frames(np.ones((BOX, BOX)), PIXEL, exposure, K3, streams(), drift=drift)
    total = sum_frames(frames, PIXEL, drift=drift)
    assert total.var() == pytest.approx(K3.gain * 20 * PIXEL**2, rel=0.05)  # 9216 pixels: 1.5 %


def test_dose_weighted_sum_has_the_best_signal_to_noise_in_every_shell(rng):
    intensity, exposure = specimen(rng), Exposure.even(60.0, 30)
    shape = intensity.shape
    frames = list(expected_frames(intensity, exposure, K3))

    def shells(image):
        return np.sqrt(shell_sum(np.abs(forward(image - image.mean(), 2)) ** 2, shape))[1:]

    # Signal over noise of one frame's white noise: the plain sum has sqrt(30) times that
    plain, weighted = shells(sum_frames(frames)) / np.sqrt(30), shells(sum_frames(frames, PIXEL, exposure=exposure))
    assert (weighted >= plain * (1 - 1e-9)).all()
    assert weighted[-1] > 1.5 * plain[-1]
    # and its noise is that of one frame
    noise = [rng.standard_normal(shape) for _ in range(30)]
    assert sum_frames(noise, PIXEL, exposure=exposure).var() == pytest.approx(1, abs=0.06)


def test_frames_depend_on_their_streams_alone(rng):
    intensity, exposure = specimen(rng).astype(np.float32), Exposure.even(30.0, 3)
    first = list(movie_frames(intensity, PIXEL, exposure, K3, streams(4)))
    again = list(movie_frames(intensity, PIXEL, exposure, K3, streams(4)))
    other = list(movie_frames(intensity, PIXEL, exposure, K3, streams(5)))
    np.testing.assert_array_equal(first, again)
    assert all((a != b).any() for a, b in zip(first, other)) and first[0].dtype == np.float32


def test_frames_are_made_one_at_a_time():
    drawn = []

    def rng_of_frame(frame):
        drawn.append(frame)
        return np.random.default_rng(frame)

    frames = movie_frames(np.ones((16, 16)), 1.0, Exposure.even(10.0, 5), K3, rng_of_frame)
    next(frames)
    assert drawn == [0]


def test_inputs_are_left_alone(rng):
    intensity = specimen(rng)
    copy = intensity.copy()
    frames = list(movie_frames(intensity, PIXEL, Exposure.even(10.0, 2), K3, streams()))
    kept = [frame.copy() for frame in frames]
    sum_frames(frames)
    sum_frames(frames, PIXEL, drift=Drift(np.ones((3, 2))), exposure=Exposure.even(10.0, 2))
    np.testing.assert_array_equal(intensity, copy)
    np.testing.assert_array_equal(frames, kept)


def test_smooth_drift_is_fast_at_first(rng):
    exposure = Exposure.even(50.0, 50)
    drift = smooth_drift(exposure, 10.0, rng, wander=0.0)
    lengths = np.linalg.norm(drift.step, axis=1)
    assert lengths.sum() == pytest.approx(10.0, rel=1e-9) and (np.diff(lengths) < 0).all()
    assert len(drift) == 50 and np.abs(drift.position[25]).max() == 0


def test_bad_movies(rng):
    exposure = Exposure.even(10.0, 4)
    image = np.ones((16, 16))
    with pytest.raises(DataProblem, match="drift of 2 frames"):
        movie_frames(image, 1.0, exposure, K3, streams(), drift=Drift(np.zeros((3, 2))))
    with pytest.raises(DataProblem, match="negative or not finite"):
        movie_frames(image * np.nan, 1.0, exposure, K3, streams())
    with pytest.raises(DataProblem, match="finite positions"):
        Drift(np.zeros((3, 3)))
    with pytest.raises(DataProblem, match="0 frames"):
        sum_frames([])
    with pytest.raises(DataProblem, match="3 frames; expected as many"):
        sum_frames([image] * 3, exposure=exposure)
    with pytest.raises(DataProblem, match="more than 4 frames"):
        sum_frames([image] * 5, exposure=exposure)
    with pytest.raises(DataProblem, match="one size"):
        sum_frames([image, image[:8]])
    with pytest.raises(SettingsProblem, match="drift of length"):
        smooth_drift(exposure, -1.0, rng)
