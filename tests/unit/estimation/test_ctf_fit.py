"""Estimates of known rings: right, with honest error bars, and none where there are no rings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tests.unit.estimation.ring_images import LENS, components, deviations, ring_image

from vitreous.errors import SettingsProblem
from vitreous.estimation.coarse_search import coarse_search
from vitreous.estimation.ctf_estimate import Lens, Search
from vitreous.estimation.ctf_fit import correlation_factor, estimate_ctf, estimate_from_spectrum
from vitreous.estimation.ring_pixels import RingPixels, ring_pixels
from vitreous.estimation.spectrum import Spectrum, spectrum_of_image
from vitreous.optics.electrons import wavelength
from vitreous.reference.ctf_estimation import ring_phase, search_score

FIVE_SIGMA = 5.0  # what an estimate with the right error bars exceeds once in two million


@pytest.mark.parametrize("angle_deg", [-80.0, 0.0, 33.0])
def test_defocus_and_astigmatism_are_found(angle_deg):
    truth = components(500.0, angle_deg)
    estimate = estimate_ctf(ring_image(1, 15000.0, truth), 1.5, LENS)
    assert estimate.found and np.abs(deviations(estimate, 15000.0, truth)).max() < FIVE_SIGMA
    assert estimate.sigma("defocus") < 15
    assert 2 * estimate.amplitude == pytest.approx(500, abs=60)
    assert abs((math.degrees(estimate.defocus_angle) - angle_deg + 90) % 180 - 90) < 4
    assert estimate.defocus_u - estimate.defocus_v == pytest.approx(2 * estimate.amplitude)
    mirrored = components(500.0, -angle_deg)
    if angle_deg:  # an angle of the wrong sign is another lens
        assert np.abs(deviations(estimate, 15000.0, mirrored)).max() > FIVE_SIGMA


def test_no_astigmatism_keeps_an_error_bar():
    """Size and angle have no meaning near zero; the two components do."""
    estimate = estimate_ctf(ring_image(2, 18000.0), 1.5, LENS)
    assert np.abs(deviations(estimate, 18000.0, (0.0, 0.0))).max() < FIVE_SIGMA
    assert 0 < estimate.sigma("astigmatism_along") < 50 and np.isfinite(estimate.defocus_angle)


@pytest.mark.parametrize(
    ("defocus", "lens"),
    [
        (4000.0, LENS),
        (42000.0, LENS),
        (70000.0, LENS),
        (12000.0, Lens(200e3, 1.4e7, 0.1)),
        (9000.0, Lens(100e3, 2e7, 0.07)),
    ],
)
def test_no_defocus_of_the_range_is_missed(defocus, lens):
    estimate = estimate_ctf(ring_image(3, defocus, (90.0, -60.0), size=1024, lens=lens), 1.5, lens)
    assert estimate.found and np.abs(deviations(estimate, defocus, (90.0, -60.0))).max() < FIVE_SIGMA


def test_large_astigmatism_is_part_of_the_search():
    truth = components(2600.0, 20.0)
    estimate = estimate_ctf(ring_image(4, 20000.0, truth), 1.5, LENS)
    assert estimate.found and np.abs(deviations(estimate, 20000.0, truth)).max() < FIVE_SIGMA


def test_a_phase_plate_is_found_if_looked_for():
    image = ring_image(5, 9000.0, phase_shift=math.radians(70), size=1024)
    search = Search(phase_shift=(0.0, math.pi))
    estimate = estimate_ctf(image, 1.5, LENS, search)
    sigma = estimate.sigma("phase_shift")
    assert sigma is not None and abs(estimate.phase_shift - math.radians(70)) < FIVE_SIGMA * sigma < math.radians(25)
    assert estimate.parameters.phase_shift[0] == estimate.phase_shift


def test_contrast_and_scale_do_not_matter():
    image = ring_image(6, 15000.0)
    first = estimate_ctf(image, 1.5, LENS)
    second = estimate_ctf(5000 - 30 * image, 1.5, LENS)
    # float32 sums of other sizes: a small part of the error bar
    assert abs(first.defocus - second.defocus) < 0.05 * (first.sigma("defocus") or 0)


def test_the_pixel_size_scales_the_defocus():
    """The rings of pixels declared larger are those of a larger defocus: with Cs = 0, as the square."""
    flat = Lens(300e3, 0.0, 0.1)
    image = ring_image(7, 15000.0, lens=flat)
    first, second = estimate_ctf(image, 1.5, flat), estimate_ctf(image, 1.6, flat)
    assert second.defocus / first.defocus == pytest.approx((1.6 / 1.5) ** 2, rel=2e-3)


def test_thickness_is_seen_beyond_a_node():
    image = ring_image(8, 15000.0, thickness=1500.0, signal=4.0, b_factor=15.0, size=1024)
    estimate = estimate_ctf(image, 1.5, LENS)
    assert estimate.thickness is not None and estimate.thickness == pytest.approx(1500, abs=50)
    assert abs(estimate.thickness - 1500) < FIVE_SIGMA * (estimate.sigma("thickness") or 0)
    assert np.abs(deviations(estimate, 15000.0, (0.0, 0.0))).max() < FIVE_SIGMA


def test_a_thin_specimen_has_no_thickness():
    estimate = estimate_ctf(ring_image(9, 15000.0), 1.5, LENS)
    assert estimate.thickness is None and estimate.sigma("thickness") is None


def test_a_node_does_not_bend_the_defocus():
    """Taken for thin, the rings are followed up to the node and no further."""
    image = ring_image(8, 15000.0, thickness=1500.0, signal=4.0, b_factor=15.0, size=1024)
    estimate = estimate_ctf(image, 1.5, LENS, Search(thickness=None))
    assert estimate.thickness is None and np.abs(deviations(estimate, 15000.0, (0.0, 0.0))).max() < FIVE_SIGMA


def test_the_fit_resolution_follows_the_rings():
    strong, weak = (estimate_ctf(ring_image(10, 15000.0, b_factor=b), 1.5, LENS) for b in (30.0, 250.0))
    assert strong.fit_resolution < 4.0 < 5.5 < weak.fit_resolution
    assert weak.b_factor > strong.b_factor + 100
    assert 0.9 < strong.score <= 1


def test_the_b_factor_is_that_of_the_rings():
    """The power of the rings is exp(-B k^2 / 2); the sampling of the spectrum does not add to it."""
    estimate = estimate_ctf(ring_image(11, 15000.0, b_factor=60.0, size=1024), 1.5, LENS)
    assert abs(estimate.b_factor - 60) < FIVE_SIGMA * estimate.b_factor_sigma < 60


def nothing(kind: str) -> np.ndarray:
    rng = np.random.default_rng(12)
    white = rng.normal(size=(640, 640))
    if kind == "stripes":
        return (white + 2 * rng.normal(size=(1, 640)) + 2 * rng.normal(size=(640, 1))).astype(np.float32)
    if kind == "falling":  # thick carbon in focus: power that falls, without rings
        k = np.hypot(np.fft.fftfreq(640)[:, None], np.fft.rfftfreq(640))
        return np.fft.irfft2(np.fft.rfft2(white) / (0.02 + k), s=(640, 640)).astype(np.float32)
    if kind == "ice":  # rings of crystals, not of a lens
        k = np.hypot(np.fft.fftfreq(640, 1.2)[:, None], np.fft.rfftfreq(640, 1.2))
        rings = sum(np.exp(-(((k - 1 / d) / 0.002) ** 2)) for d in (3.90, 3.67, 3.44, 2.67))
        return np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(1 + 20 * rings), s=(640, 640)).astype(np.float32)
    if kind == "hole":  # half of the image without ice, and its edge
        return (white + 10 * (np.arange(640) > 300)).astype(np.float32)
    return white.astype(np.float32)


@pytest.mark.parametrize("kind", ["noise", "stripes", "falling", "ice", "hole"])
def test_without_rings_there_is_no_ctf(kind):
    estimate = estimate_ctf(nothing(kind), 1.2, LENS)
    assert not estimate.found
    assert estimate.evidence.endswith(".") and estimate.significance < 8


def test_faint_rings_are_found_or_refused_but_never_wrong():
    for seed, signal in enumerate((0.3, 0.15, 0.08, 0.04, 0.02)):
        estimate = estimate_ctf(ring_image(20 + seed, 15000.0, signal=signal, size=512), 1.5, LENS)
        if estimate.found:
            assert np.abs(deviations(estimate, 15000.0, (0.0, 0.0))).max() < FIVE_SIGMA
    assert not estimate.found  # the faintest are too faint


def test_ice_is_measured_and_does_not_bend_the_fit():
    image = ring_image(13, 12000.0, size=1024)
    k = np.hypot(np.fft.fftfreq(1024, 1.5)[:, None], np.fft.rfftfreq(1024, 1.5))
    icy = np.fft.irfft2(np.fft.rfft2(image) * np.sqrt(1 + 8 * np.exp(-(((k - 1 / 3.67) / 0.003) ** 2))), s=image.shape)
    clean, iced = (estimate_ctf(one.astype(np.float32), 1.5, LENS) for one in (image, icy))
    assert clean.ice_ring is not None and abs(clean.ice_ring) < 0.1
    assert iced.ice_ring is not None and iced.ice_ring > 0.3
    assert np.abs(deviations(iced, 12000.0, (0.0, 0.0))).max() < FIVE_SIGMA


@pytest.mark.slow
def test_error_bars_cover_what_they_promise():
    """68 % intervals of 96 independent parameters: 60 to 76 % is what the contract asks (physics.md (c) 11). The standard error of this
    count is 4.8 %, and the seeds are fixed."""
    inside = []
    rng = np.random.default_rng(14)
    for seed in range(32):
        truth, defocus = tuple(rng.normal(0, 120, 2)), rng.uniform(1e4, 3e4)
        estimate = estimate_ctf(ring_image(100 + seed, defocus, truth, size=640), 1.5, LENS)
        inside += list(np.abs(deviations(estimate, defocus, truth)) < 1)
    assert 0.60 <= np.mean(inside) <= 0.76


def test_the_search_scores_by_its_definition():
    """Without the smooth part and the grid of cells, the best score is the definition's: near it, as cells are small beside a ring."""
    rng = np.random.default_rng(15)
    k = np.sqrt(rng.uniform(0.04**2, 0.2**2, 6000))
    theta = rng.uniform(0, np.pi, 6000)
    kx, ky = k * np.cos(theta), k * np.sin(theta)
    lam = wavelength(LENS.voltage)

    def phases(defocus: float, along: float, across: float) -> np.ndarray:
        lens = (lam, LENS.spherical_aberration, LENS.amplitude_contrast)
        return np.array([ring_phase(*place, defocus, along, across, *lens) for place in zip(kx, ky)])

    rings = -0.5 * np.cos(2 * phases(14000.0, 0.0, 0.0)) + rng.normal(0, 1, 6000)
    pixels = RingPixels(kx, ky, rings + 1, (np.zeros(1, int), np.zeros(1, int)), (0.04, 0.2), 1e-3)
    best = coarse_search(pixels, rings, LENS, Search(defocus=(6000.0, 30000.0), astigmatism=600.0))[0]
    ring = 1 / (lam * best.end**2)
    assert abs(best.defocus - 14000.0) < ring / 4
    used = k <= best.end

    def score(defocus: float) -> float:
        return search_score(rings[used], phases(defocus, *best.astigmatism)[used]) / rings.std()

    # the polynomials that stand for the background take part of the few rings up to there, and the grid of the search is coarse
    assert best.score == pytest.approx(score(best.defocus), rel=0.15)
    assert score(best.defocus + ring) < best.score / 2


def test_alternatives_are_told():
    estimate = estimate_ctf(ring_image(16, 15000.0), 1.5, LENS)
    assert estimate.alternatives and all(other.score < estimate.significance for other in estimate.alternatives)
    assert all(abs(other.defocus - estimate.defocus) > 500 for other in estimate.alternatives)


def test_neighbours_that_are_alike_widen_the_error_bars(rng):
    white = rng.normal(size=(200, 101))
    smooth = white + np.roll(white, 1, axis=0)  # the sum of the autocorrelation is 2
    rows, columns = (index.ravel() for index in np.indices((180, 90)))
    pixels = RingPixels(rows, columns, rows, (rows, columns), (0.0, 1.0), 1.0)
    # 16,000 samples: the factor is good to a few percent
    assert correlation_factor(pixels, white[rows, columns], 200) == pytest.approx(1.0, abs=0.1)
    assert correlation_factor(pixels, smooth[rows, columns], 200) == pytest.approx(2.0, abs=0.15)


def test_a_spectrum_gives_what_its_image_gives():
    image = ring_image(17, 15000.0)
    from_image = estimate_ctf(image, 1.5, LENS)
    from_spectrum = estimate_from_spectrum(spectrum_of_image(image, 1.5), LENS)
    assert from_image.defocus == from_spectrum.defocus and np.array_equal(
        from_image.covariance, from_spectrum.covariance
    )


def test_what_cannot_be_estimated_is_refused():
    spectrum = spectrum_of_image(ring_image(18, 15000.0), 1.5)
    with pytest.raises(SettingsProblem, match="micrograph"):
        estimate_from_spectrum(spectrum, LENS, Search(tilt=True))
    with pytest.raises(SettingsProblem, match="500 samples"):
        ring_pixels(spectrum, (6.0, 5.99))
    tiny = Spectrum(np.ones((16, 9), np.float32), 2.0, 4.1)
    with pytest.raises(SettingsProblem, match="500 samples"):
        estimate_from_spectrum(tiny, LENS)


def test_the_estimate_is_the_same_again():
    image = ring_image(19, 15000.0, size=512)
    first, second = (estimate_ctf(image, 1.5, LENS) for _ in range(2))
    for one in dataclasses.fields(first):
        if one.name in ("defocus", "astigmatism", "score", "evidence", "alternatives"):
            assert getattr(first, one.name) == getattr(second, one.name)
