"""2D classification of simulated views: what it finds, that it always finds the same, and what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, blobs, correlation, in_plane, particles_of
from threadpoolctl import threadpool_limits

from vitreous.alignment.cells import turned
from vitreous.alignment.classification import Classification, ClassifySettings
from vitreous.alignment.classify2d import classify2d
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.polar import from_polar, polar_grid, to_polar
from vitreous.model.particles import LoadedImages, Particles

BOX, VIEWS, CLASSES, COUNT = 32, 3, 5, 240
SETTINGS = ClassifySettings(
    classes=CLASSES,
    iterations=12,
    diameter=104.0,
    psi_step=float(np.deg2rad(10.0)),
    shift_range=12.0,
    shift_step=4.0,
    seed=3,
)
ONE = LocalWorkers(1)


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


def views() -> list:
    rng = np.random.default_rng(11)
    return [blobs(rng, count, reach=6.5) for count in (4, 7, 10)]


def simulated(count: int = COUNT, snr: float = 0.1) -> tuple[Particles, np.ndarray]:
    rng = np.random.default_rng(12)
    kind = rng.permutation(np.arange(count) % VIEWS)
    psi, origin = rng.uniform(-np.pi, np.pi, count), rng.uniform(-1.2, 1.2, (count, 2))
    objects = views()
    signal = np.concatenate(
        [objects[k].images(in_plane(psi[i : i + 1]), origin[i : i + 1], BOX) for i, k in enumerate(kind)]
    )
    return particles_of(signal, snr=snr, rng=rng)[0], kind


@pytest.fixture(scope="module")
def particles() -> Particles:
    return simulated()[0]


@pytest.fixture(scope="module")
def kind() -> np.ndarray:
    return simulated()[1]


@pytest.fixture(scope="module")
def states(particles) -> list[Classification]:
    """The states after each iteration of one run."""
    found: list[Classification] = []
    result = classify2d(particles, SETTINGS, workers=ONE, on_iteration=found.append)
    assert result is found[-1]
    return found


def same(one, other) -> bool:
    """Whether two states are the same to the last bit."""
    if is_dataclass(one):
        return all(same(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f")


def stop_after(count: int, found: list[Classification]):
    """What to do after each iteration: keep the state, and stop."""

    def kept(state: Classification) -> None:
        found.append(state)
        if len(found) == count:
            raise StopIteration

    return kept


def purity(kind: np.ndarray, found: np.ndarray) -> float:
    """Share of particles that are of the commonest view of their class."""
    return sum(np.bincount(kind[found == k]).max() for k in np.unique(found)) / len(kind)


def best_correlation(average: np.ndarray, projection: np.ndarray) -> float:
    """Largest correlation over in-plane turns and small shifts of one of them."""
    grid = polar_grid(BOX, 14, extent=26.0)
    psi = 2 * np.pi * np.arange(72) / 72
    many = np.broadcast_to(to_polar(projection[None], grid), (72, *grid.shape))
    images = from_polar(turned(many, psi, grid.band).astype(np.complex64), grid)
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(correlation(average, np.roll(image, shift, axis=(0, 1))) for image in images for shift in shifts)


def test_each_class_holds_one_view(states, kind):
    found = states[-1].assignment.class_index
    assert purity(kind, found) > 0.93
    assert {np.bincount(kind[found == k]).argmax() for k in np.unique(found)} == set(range(VIEWS))
    np.testing.assert_allclose(states[-1].population, np.bincount(found, minlength=CLASSES) / COUNT, atol=0.05)
    shuffled = np.random.default_rng(0).permutation(kind)
    assert purity(shuffled, found) < 0.55  # what chance gives


def test_averages_are_the_projections(states, kind):
    final = states[-1]
    projections = np.concatenate([one.images(in_plane(np.zeros(1)), np.zeros((1, 2)), BOX) for one in views()])
    for k in np.flatnonzero(final.population > 0.12):
        average = final.averages[k]
        own = np.bincount(kind[final.assignment.class_index == k]).argmax()
        found = [best_correlation(average, projection) for projection in projections]
        assert int(np.argmax(found)) == own
        assert found[own] > 0.7  # and bright; some thirty particles of SNR 0.1 and more


def test_the_evidence_rises(states):
    """Of the same images, whose noise spectrum and band change a little: at least no large step down, and much more at the end than at first."""
    evidence = states[-1].log_likelihood
    assert len(evidence) == SETTINGS.iterations
    assert evidence[-1] > evidence[1] > evidence[0]
    assert (np.diff(evidence) > -0.02 * evidence[-1]).all()
    assert states[-1].changed[-1] < 0.05 < states[-1].changed[1]


def test_origins_and_angles_are_those_of_the_particles(states, kind):
    """Relative to those of its class, which has a frame of its own: angles and origins of two particles of one class differ as they should."""
    rng = np.random.default_rng(12)
    rng.permutation(COUNT)
    psi, origin = rng.uniform(-np.pi, np.pi, COUNT), rng.uniform(-1.2, 1.2, (COUNT, 2))
    final = states[-1].assignment
    agreement, angles = [], []
    for k in np.flatnonzero(states[-1].population > 0.12):
        own = final.class_index == k
        own &= kind == np.bincount(kind[own]).argmax()

        def spread(found: np.ndarray, truth: np.ndarray, own: np.ndarray = own) -> float:
            # 1: all differ by the same, or by a half or a quarter of a turn more, after which some of these views look much the same.
            return max(abs(np.exp(1j * turns * (found[own] - truth[own])).mean()) for turns in (1, 2, 4))

        # Chance alone gives 1 / sqrt(particles of the class), below 0.25. One of the views has little to tell its turns by.
        angles.append(spread(final.pose.euler[:, 2], psi))
        assert spread(-final.pose.euler[:, 2], psi) < 0.45
        agreement.append(np.corrcoef(final.pose.shift[own].ravel() / PIXEL_SIZE, origin[own].ravel())[0, 1])
    assert np.mean(angles) > 0.7 and min(angles) > 0.5
    # Origins of up to 1.2 pixels, in steps of one, and each average has a centre of its own, which turns with the particles.
    assert np.mean(agreement) > 0.3 and min(agreement) > 0.1
    assert not final.pose.euler[:, :2].any()


def test_uncertainties_are_probabilities(states):
    found = states[-1].assignment
    assert ((found.probability > 0) & (found.probability <= found.class_probability + 1e-6)).all()
    assert (found.class_probability <= 1).all() and (found.entropy >= 0).all()
    assert np.isfinite(found.log_evidence).all() and found.log_evidence.mean() > 5
    np.testing.assert_allclose(found.norm.mean(), 1, atol=0.05)  # all images have the same noise


def test_a_seed_gives_the_same_bits(particles, states):
    again: list[Classification] = []
    with pytest.raises(
        StopIteration
    ):  # the schedule of the band follows from the number of iterations: stop after two of them
        classify2d(particles, SETTINGS, workers=ONE, on_iteration=stop_after(2, again))
    assert same(again[1], states[1])
    other: list[Classification] = []
    with pytest.raises(StopIteration):
        classify2d(particles, replace(SETTINGS, seed=4), workers=ONE, on_iteration=stop_after(1, other))
    assert not np.array_equal(other[0].averages, states[0].averages)


def test_resumed_is_unbroken(particles, states):
    resumed = classify2d(particles, SETTINGS, state=states[4], workers=ONE)
    assert same(resumed, states[-1])


def test_workers_do_not_change_the_bits(particles, states, monkeypatch):
    """Chunks of a hundred, so that there are several."""
    monkeypatch.setattr("vitreous.alignment.classify2d.CHUNK", 100)
    few = replace(SETTINGS, iterations=1)
    found = [classify2d(particles, few, workers=LocalWorkers(count)) for count in (1, 2)]
    assert same(*found)


@pytest.mark.slow
def test_mini_batches_find_the_views_too(particles, kind):
    """Every iteration looks at a third; assignments of the others stay."""
    settings = replace(SETTINGS, batch=120, iterations=14)
    states: list[Classification] = []
    classify2d(particles, settings, workers=ONE, on_iteration=states.append)
    looked_at = states[0].assignment.class_index >= 0
    assert looked_at.sum() == 120
    final = states[-1].assignment
    assert (final.class_index >= 0).mean() > 0.95
    known = final.class_index >= 0
    assert purity(kind[known], final.class_index[known]) > 0.85
    changed = [(a.assignment.class_index != b.assignment.class_index).sum() for a, b in itertools.pairwise(states)]
    assert max(changed) <= 120
    resumed = classify2d(particles, settings, state=states[9], workers=ONE)
    assert same(resumed, states[-1])


def test_exact_is_pruned_but_for_little(particles, states):
    """One iteration from the same state."""
    before = states[-2]
    exact = classify2d(particles, replace(SETTINGS, exact=True), state=before, workers=ONE)
    loss = exact.log_likelihood[-1] - states[-1].log_likelihood[-1]
    # Either may be above: cells reach a little further, and the shifts in them are those of the turned frame.
    assert abs(loss) < 0.1 * exact.log_likelihood[-1]
    assert (exact.assignment.class_index == states[-1].assignment.class_index).mean() > 0.9


def test_progress_counts_particles(particles):
    seen: list[tuple[int, int]] = []
    classify2d(
        particles, replace(SETTINGS, iterations=1), workers=ONE, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (COUNT, COUNT) and seen == sorted(seen)


def test_too_few_particles(particles):
    with pytest.raises(DataProblem, match=r"2 particles for 5 classes"):
        classify2d(particles.rows(slice(0, 2)), SETTINGS)
    with pytest.raises(DataProblem, match=r"1 particles for 5 classes"):
        classify2d(particles.rows(slice(0, 1)), SETTINGS)


def test_one_particle_is_a_class(particles):
    found = classify2d(particles.rows(slice(0, 1)), replace(SETTINGS, classes=1, iterations=2), workers=ONE)
    assert np.isfinite(found.averages).all() and found.assignment.class_index.tolist() == [0]


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "p.mrcs"), (np.inf, "p.mrcs"), (0.0, r"image 8@p\.mrcs is constant")]
)
def test_bad_images_are_named(particles, value, message):
    pixels = particles.images.read(slice(None)).copy()
    pixels[7] = value
    with pytest.raises(DataProblem, match=message):
        classify2d(replace(particles, images=LoadedImages(pixels)), SETTINGS, workers=ONE)


def test_numbers_that_break_on_the_way_name_the_particle(particles, states):
    """A reference that is not finite: the state before is what remains."""
    averages = states[1].averages.copy()
    averages[0, 16, 16] = np.nan
    with pytest.raises(DataProblem, match="the likelihood of image"):
        classify2d(particles, SETTINGS, state=replace(states[1], averages=averages), workers=ONE)


@pytest.mark.parametrize("diameter", [10.0, 300.0])
def test_masks_that_do_not_fit(particles, diameter):
    with pytest.raises(SettingsProblem, match="mask of"):
        classify2d(particles, replace(SETTINGS, diameter=diameter))


def test_settings_are_checked():
    with pytest.raises(SettingsProblem, match="classes"):
        ClassifySettings(classes=0)
    with pytest.raises(SettingsProblem, match="iterations"):
        ClassifySettings(iterations=0)


def test_particles_without_images(particles):
    with pytest.raises(DataProblem, match="without images"):
        classify2d(replace(particles, images=None), SETTINGS)
