"""Templates: the correlation is Pearson's, the basis loses nothing that counts, and angles, signs and the CTF are the house's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, gaussian_low_pass, soft_disc
from vitreous.fourier.transforms import forward, frequencies, inverse, radial_frequency
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.volume import Volume
from vitreous.optics.ctf import ctf_of_particles
from vitreous.picking.correlation import (
    Correlator,
    best_correlations,
    exact_correlations,
    principal_basis,
    template_vectors,
)
from vitreous.picking.selection import Selection
from vitreous.picking.template_search import (
    NoiseFilter,
    filtered_image,
    noise_filter,
    pick_templates,
    quiet_power,
    seen_templates,
    usual_threshold,
)
from vitreous.picking.templates import diameter_of, projected_views, template_bank, view_angles
from vitreous.picking.working_image import WorkingImage, working_image
from vitreous.reference.picking import normalised_correlation

PIXEL_SIZE = 4.0
BOX = 48
SHAPE = (420, 480)


def letter(box: int = BOX) -> np.ndarray:
    """An image without any symmetry: no turn and no mirror image of it looks like it."""
    y, x = np.mgrid[:box, :box] - box // 2
    image = np.zeros((box, box))
    for cx, cy, size, height in ((0, -8, 4, 1.0), (0, 0, 4, 1.0), (0, 8, 4, 1.2), (7, 8, 3, 0.9), (4, -8, 2.5, 0.7)):
        image += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))
    return image


def turned(image: np.ndarray, psi: float) -> np.ndarray:
    """The particle whose pose is psi: what was at r is at Rz(psi) r (conventions), by a sum of waves, which is exact."""
    box = image.shape[0]
    y, x = np.mgrid[:box, :box] - box // 2
    kx, ky = np.meshgrid(np.fft.fftfreq(box), np.fft.fftfreq(box))
    transform = np.fft.fft2(np.fft.ifftshift(image))
    # out(r) = in(R^T r), R = [[c, s], [-s, c]]
    c, s = math.cos(psi), math.sin(psi)
    px, py = c * x - s * y, s * x + c * y
    waves_x = np.exp(2j * np.pi * px.reshape(-1, 1) * kx[0])
    waves_y = np.exp(2j * np.pi * py.reshape(-1, 1) * ky[:, 0])
    return np.einsum("pk,kl,pl->p", waves_y, transform, waves_x).real.reshape(box, box) / box**2


def scene(rng, places, angles, *, shape=SHAPE, noise=0.5, transfer=None, which=None, images=None) -> np.ndarray:
    """A micrograph as recorded: particles dark."""
    sum_ = np.zeros(shape)
    images = [letter()] if images is None else images
    for index, ((column, row), psi) in enumerate(zip(places, angles)):
        image = turned(images[0 if which is None else which[index]], psi)
        sum_[row - BOX // 2 : row + BOX // 2, column - BOX // 2 : column + BOX // 2] += image
    if transfer is not None:
        kx, ky = frequencies(shape, PIXEL_SIZE)
        sum_ = inverse(forward(sum_, 2) * transfer(kx, ky), shape)
    return (20 - sum_ + noise * rng.normal(size=shape)).astype(np.float32)


def bank_of(images, **more):
    chosen = {"diameter": 140.0, "resolution": 24.0, "psi_step": math.radians(10), **more}
    return template_bank(np.asarray(images, dtype=np.float32), PIXEL_SIZE, **chosen)


def find(image, bank, ctf=None, *, contrast="raw", **limits):
    chosen = {"threshold": 5.0, "distance": 90.0, "border": 70.0, "variance": math.inf, **limits}
    small = working_image(image, PIXEL_SIZE, bank.pixel_size, contrast=contrast)
    return pick_templates(small, bank, Selection(**chosen), ctf).picks


def lens(defocus: float = 12000.0):
    group = OpticsGroup(pixel_size=PIXEL_SIZE, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    parameters = CtfParameters.of(defocus, defocus, 0.0)
    return lambda kx, ky: ctf_of_particles(group, parameters, kx, ky)[0]


GRID = [(x, y) for y in (60, 160, 260, 360) for x in (60, 180, 300, 420)]


# --- the correlation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, bar", [(np.float64, 1e-10), (np.float32, 2e-5)])
def test_the_correlation_is_pearsons(rng, dtype, bar):
    """float32: sums of 600 products of unit size, and a difference of squares of which a fifth is left."""
    image = (3 + rng.normal(size=(90, 110))).astype(dtype)
    templates = rng.normal(size=(4, 28, 28)).astype(dtype)
    vectors = template_vectors(templates, 12.0)
    assert vectors.values.dtype == dtype
    correlator = Correlator.of(image, 12.0)
    deviations = correlator.deviations(vectors.offset)
    maps = correlator.sums(vectors.values, vectors.offset) / deviations
    for row, column in ((14, 15), (45, 60), (70, 90)):
        for template, found in zip(templates, maps):
            expected = normalised_correlation(image.astype(float), template.astype(float), row, column, 12.0)
            assert found[row, column] == pytest.approx(expected, abs=bar)
            assert abs(found[row, column] + expected) > 100 * bar
    places = np.array([[14, 15], [45, 60], [70, 90]])
    best, which = exact_correlations(correlator, vectors, places)
    np.testing.assert_allclose(best, maps[:, places[:, 0], places[:, 1]].max(axis=0), atol=bar)
    np.testing.assert_array_equal(which, maps[:, places[:, 0], places[:, 1]].argmax(axis=0))


def test_a_full_basis_loses_nothing_and_a_small_one_little(rng):
    image = rng.normal(size=(80, 90))
    bank = np.stack([turned(letter(), psi) for psi in np.arange(36) * math.radians(10)])
    vectors = template_vectors(bank, 17.0)
    correlator = Correlator.of(image, 17.0)
    deviations = correlator.deviations(vectors.offset)
    exact = (correlator.sums(vectors.values, vectors.offset) / deviations).max(axis=0)
    for lost, bar, most in ((1e-14, 1e-6, 60), (0.02, 0.02**0.5, 12)):
        basis = principal_basis(vectors.values, lost)
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-10)
        sums = correlator.sums(basis, vectors.offset)
        scores = best_correlations(sums, vectors.values @ basis.T, deviations)
        assert len(basis) <= most < len(vectors.offset)
        # what the basis leaves out of a template of norm 1 is sqrt(lost) on average: no score is off by more
        assert np.abs(scores - exact).max() < bar


def test_a_constant_image_matches_nothing():
    vectors = template_vectors(letter()[None], 17.0)
    for image in (np.zeros((80, 90), np.float32), np.full((80, 90), 1e4, np.float32)):
        correlator = Correlator.of(image, 17.0)
        assert np.isinf(correlator.deviations(vectors.offset)).all()
        best, _ = exact_correlations(correlator, vectors, np.array([[40, 40]]))
        assert best[0] == 0


# --- finding ----------------------------------------------------------------------------------------------------------


def test_place_angle_and_template_are_found(rng):
    """Two templates, mirror images of each other, at random angles."""
    images = [letter(), letter()[:, ::-1]]
    images[1] = np.roll(images[1], 1, axis=1)  # the origin stays where it is
    angles, which = rng.uniform(0, 2 * math.pi, len(GRID)), rng.integers(0, 2, len(GRID))
    image = scene(rng, GRID, angles, which=which, images=images)
    found = find(image, bank_of(images))
    assert len(found) == len(GRID) and found.psi is not None and found.template is not None
    distance = np.hypot(*(found.position[:, None] - np.array(GRID)).transpose(2, 0, 1))
    nearest = distance.argmin(axis=1)
    assert sorted(nearest) == list(range(len(GRID)))
    assert distance.min(axis=1).max() < 1.5
    np.testing.assert_array_equal(found.template, which[nearest])
    away = np.abs(np.angle(np.exp(1j * (found.psi - angles[nearest]))))
    assert away.max() < math.radians(12)  # the step is 10 degrees, noise moves a few
    other = np.abs(np.angle(np.exp(1j * (found.psi + angles[nearest]))))
    assert other.max() > math.radians(60)  # the other sense of turning fits none of it


def test_the_score_is_the_correlation(rng):
    """That of the filtered micrograph with the filtered template, by definition; brightness and strength do not change it."""
    image = scene(rng, [(180, 160)], [math.radians(40)], noise=0.3)
    bank = bank_of([letter()])
    found = find(image, bank)
    np.testing.assert_allclose(found.position[0], (180, 160), atol=1.0)
    assert math.degrees(found.psi[0]) == pytest.approx(40)
    small = working_image(image, PIXEL_SIZE, bank.pixel_size)
    gain = noise_filter(small, bank.resolution, bank.diameter)
    template = seen_templates(bank, gain)[np.flatnonzero(np.isclose(bank.psi, math.radians(40)))[0]]
    column, row = np.rint(found.position[0] * np.array(small.values.shape[::-1]) / np.array(SHAPE[::-1])).astype(int)
    filtered = filtered_image(small, gain)
    radius = bank.diameter / 2 / small.pixel_size
    definition = normalised_correlation(filtered.astype(float), template.astype(float), row, column, radius)
    assert found.score[0] == pytest.approx(definition, abs=1e-4)  # float32
    again = find(500 + 8 * image, bank)
    np.testing.assert_allclose(again.score[0], found.score[0], atol=1e-3)
    inverted = find(40 - image, bank, contrast="inverted")
    np.testing.assert_allclose(inverted.position[0], found.position[0], atol=1e-2)
    wrong = find(image, bank, contrast="inverted")
    assert not len(wrong) or wrong.score.max() < 0.7 * found.score[0]


def test_the_ctf_of_the_micrograph_is_applied(rng):
    """A particle with detail as fine as the CTF's rings: through the right CTF the templates are likest, through its negative not at all."""
    detail = rng.normal(size=(BOX, BOX)) * soft_disc(BOX, 13, 4)
    detail = apply_filter(detail, gaussian_low_pass(radial_frequency((BOX, BOX), PIXEL_SIZE), 1 / 25))
    detail *= 5 / detail.max()
    transfer, other = lens(15000.0), lens(35000.0)
    image = scene(rng, GRID, np.zeros(len(GRID)), transfer=transfer, noise=0.7, images=[detail])
    bank = bank_of([detail], resolution=12.0, psi_step=math.radians(60))
    limits = {"most": len(GRID), "threshold": 3.0}
    found = find(image, bank, transfer, **limits)
    right, none, wrong = (
        np.median(one.score) for one in (found, *(find(image, bank, c, **limits) for c in (None, other)))
    )
    assert right > 1.2 * none and right > 1.2 * wrong
    near = np.hypot(*(found.position[:, None] - np.array(GRID)).transpose(2, 0, 1))
    assert near.min(axis=0).max() < 1.5
    negative = find(image, bank, lambda kx, ky: -transfer(kx, ky), **limits)
    assert not len(negative) or np.median(negative.score) < 0.7 * right


def test_noise_gives_about_one_pick_at_the_usual_threshold(rng):
    count = 0
    bank = bank_of([letter(), letter()[::-1]])
    for _ in range(3):
        small = working_image(rng.normal(size=SHAPE).astype(np.float32), PIXEL_SIZE, bank.pixel_size)
        found = pick_templates(small, bank, Selection(0.0, 90.0, 70.0, variance=math.inf), usual=True)
        count += len(found.picks)
    assert count <= 6
    # 10 of so many independent normal numbers are higher
    z = usual_threshold(10_000, 500)
    assert 0.5 * math.erfc(z / math.sqrt(2)) * 5e6 == pytest.approx(10.0, rel=1e-6)


def test_whitening_makes_all_frequencies_alike(rng):
    """Noise whose power falls sixfold is flat after the filter, up to the resolution, and gone beyond."""
    kx, ky = frequencies((256, 256), 5.0)
    k = np.hypot(kx, ky)
    image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(256, 256))) / (0.05 + 10 * k), s=(256, 256)).astype(np.float32)
    small = WorkingImage(image, 5.0, (256, 256), 5.0)
    gain = noise_filter(small, 20.0, 200.0)
    before = np.abs(np.fft.rfft2(image)) ** 2
    after = before * gain.on((256, 256), 5.0) ** 2

    def fall(power: np.ndarray) -> float:
        return float(power[(k > 0.009) & (k < 0.013)].mean() / power[(k > 0.03) & (k < 0.038)].mean())

    assert fall(before) > 5 and fall(after) == pytest.approx(1.0, rel=0.2)  # means of 500 and 3000 values, and of rings
    assert after[k > 0.052].max() == 0  # the filter is a table, of samples 1.6e-3 apart


def test_quiet_power_is_that_of_white_noise_with_and_without_particles(rng):
    """The power of a ring of the tiles is known to some percent; balls in a third of the tiles do not count."""
    shape = (400, 400)
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = rng.normal(size=shape)
    balls = np.zeros(shape)
    for cx, cy in rng.uniform(20, 380, (25, 2)):
        balls += 8 * np.sqrt(np.maximum(1 - ((x - cx) ** 2 + (y - cy) ** 2) / 12**2, 0))
    window = np.hanning(26)[1:-1]
    expected = np.square(window).sum() ** 2
    for image, bar in ((noise, 0.12), (noise + balls, 0.5)):
        frequency, power = quiet_power(WorkingImage(image.astype(np.float32), 8.0, shape, 8.0), 192.0)
        assert frequency[1] == pytest.approx(1 / 192)
        inside = slice(2, 13)
        np.testing.assert_allclose(power[inside] / expected, 1.0, atol=bar)
    assert np.abs(np.fft.rfft2(noise + balls)[1:6, 1:6]).mean() > 3 * np.abs(np.fft.rfft2(noise)[1:6, 1:6]).mean()


def test_the_filter_does_not_spread_particles_over_their_neighbours():
    """Strong balls: the filter's own picture ends within a diameter or so of its middle, however fine the structure of the spectrum."""
    y, x = np.mgrid[:300, :300] * 8.0
    image = np.zeros((300, 300))
    rng = np.random.default_rng(3)
    for cx, cy in rng.uniform(200, 2200, (25, 2)):
        image += 8 * np.sqrt(np.maximum(1 - ((x - cx) ** 2 + (y - cy) ** 2) / 100**2, 0))
    image += rng.normal(size=image.shape)
    small = WorkingImage((image - image.mean()).astype(np.float32), 8.0, (300, 300), 8.0)
    gain = noise_filter(small, 24.0, 200.0)
    kernel = np.fft.fftshift(np.fft.irfft2(gain.on((300, 300), 8.0), s=(300, 300)))
    radius = np.hypot(*(np.mgrid[:300, :300] - 150)) * 8.0
    assert np.sum(kernel[radius > 300] ** 2) < 3e-3 * np.sum(kernel**2)


# --- banks ------------------------------------------------------------------------------------------------------------


def test_views_are_projections_of_the_map():
    """Three Gaussians: the projection of each is a Gaussian at the first two coordinates of R r."""
    z, y, x = np.mgrid[:33, :33, :33] - 16
    balls = (((5, 1, -2), 1.0), ((-3, 4, 5), 0.7), ((0, -6, 1), 0.8))
    data = sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 18) for (a, b, c), h in balls)
    views = projected_views(Volume(data.astype(np.float32), 3.0), 1)
    angles = view_angles(1)
    assert views.shape == (48, 33, 33) and angles.shape == (48, 3) and (angles[:, 2] == 0).all()
    row, column = np.mgrid[:33, :33] - 16
    for index in (0, 17, 40):
        rotation, exact = matrix_from_euler(angles[index]), np.zeros((33, 33))
        for place, h in balls:
            px, py, _ = rotation @ np.array(place)
            exact += h * math.sqrt(18 * math.pi) * np.exp(-((column - px) ** 2 + (row - py) ** 2) / 18)
        # trilinear interpolation in a transform that was padded twofold
        np.testing.assert_allclose(views[index], exact, atol=0.03 * exact.max())
        assert np.abs(views[index] - exact[:, ::-1]).max() > 0.2 * exact.max()


def test_symmetry_leaves_views_out():
    counts = {name: len(view_angles(2, name)) for name in ("C1", "C2", "D2", "O")}
    assert counts["C1"] == 192
    for name, fold in (("C2", 2), ("D2", 4), ("O", 24)):
        assert counts[name] == pytest.approx(
            192 / fold, rel=0.35
        )  # directions on the border of the unit belong to one side
    with pytest.raises(SettingsProblem, match="order"):
        view_angles(0, "I")


def test_a_bank_turns_as_the_convention_says():
    bank = bank_of([letter()], psi_step=math.radians(30), resolution=16.0)
    assert len(bank) == 12 and bank.template.tolist() == [0] * 12
    np.testing.assert_allclose(np.degrees(bank.psi), np.arange(12) * 30, atol=1e-9)
    images = inverse(bank.transforms, (bank.box, bank.box))
    for row in (0, 1, 5):
        small = bank_of([turned(letter(), bank.psi[row])], psi_step=2 * math.pi, resolution=16.0)
        expected = inverse(small.transforms, (small.box, small.box))[0]
        likeness = np.corrcoef(images[row].ravel(), expected.ravel())[0, 1]
        assert likeness > 0.999
    wrong = bank_of([turned(letter(), -bank.psi[1])], psi_step=2 * math.pi, resolution=16.0)
    assert np.corrcoef(images[1].ravel(), inverse(wrong.transforms, (wrong.box, wrong.box))[0].ravel())[0, 1] < 0.9


def test_empty_classes_keep_their_numbers():
    bank = bank_of([np.zeros((BOX, BOX)), letter(), np.zeros((BOX, BOX)), letter()[::-1]])
    assert set(bank.template.tolist()) == {1, 3}


def test_the_diameter_follows_the_particle():
    y, x = np.mgrid[:128, :128] - 64
    sizes = []
    for radius in (12, 24):
        ball = 2 * np.sqrt(np.maximum(radius**2 - x**2 - y**2, 0.0))
        sizes.append(diameter_of(ball[None], 3.0))
        # 97 % of the power of a ball's image, 1 - (1 - q)^2 of r^2 = q R^2, are within 0.91 of its radius
        assert sizes[-1] == pytest.approx(1.5 * 2 * radius * 3.0 * math.sqrt(1 - 0.03**0.5), rel=0.06)
    noisy = ball + np.random.default_rng(1).normal(size=ball.shape)
    assert diameter_of(noisy[None], 3.0) == pytest.approx(sizes[1], rel=0.1)
    with pytest.raises(DataProblem, match="contrast"):
        diameter_of(np.ones((1, 16, 16)), 3.0)


def test_banks_refuse_what_cannot_be():
    for wrong, words in (
        (np.full((2, BOX, BOX), np.nan), "NaN"),
        (np.zeros((2, BOX, BOX)), "same value"),
        (np.ones((2, BOX, BOX + 1)), "square"),
        (np.ones((BOX, BOX)), "square"),
    ):
        with pytest.raises(DataProblem, match=words):
            bank_of(wrong)
    with pytest.raises(SettingsProblem, match="templates hold"):
        bank_of([letter()], diameter=500.0)
    with pytest.raises(SettingsProblem, match="or finer"):
        bank_of([letter()], resolution=80.0)
    image = working_image(np.random.default_rng(1).normal(size=(30, 200)).astype(np.float32), PIXEL_SIZE, 8.0)
    with pytest.raises(SettingsProblem, match="micrograph of"):
        pick_templates(image, bank_of([letter()]), Selection(5.0, 90.0, 70.0))


def test_the_noise_filter_is_its_table_between_samples():
    table = NoiseFilter(np.array([0.0, 0.1, 0.2]), np.array([0.0, 1.0, 0.5]))
    grid = table.on((8, 8), 2.0)
    kx, ky = frequencies((8, 8), 2.0)
    np.testing.assert_allclose(grid, np.interp(np.hypot(kx, ky), [0, 0.1, 0.2], [0, 1, 0.5], right=0.0), atol=1e-6)
