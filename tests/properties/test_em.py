"""Expectation-maximisation never makes images less probable: exact turns as operators, with every update alone and with all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.unit.alignment.small_images import SmallSet, references_of, small_set
from threadpoolctl import threadpool_limits

from vitreous.alignment.likelihood import (
    FourierImages,
    Posterior,
    log_likelihood,
    log_noise,
    log_prior,
    log_shift_prior,
    log_weights,
    posterior,
)
from vitreous.alignment.maximisation import (
    expected_match,
    expected_sums,
    solved_references,
    updated_noise,
    updated_norm,
    updated_scale,
    updated_shares,
    updated_shift_spread,
)
from vitreous.fourier.shells import shell_index
from vitreous.reference import alignment as definition

PSEUDO_COUNT = 0.5
PSI = tuple(2 * math.pi * np.arange(6) / 6)


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    """Products of small matrices: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class State:
    """All that is estimated; the images carry noise, scale and norm."""

    images: FourierImages
    averages: np.ndarray
    classes: np.ndarray
    orientations: np.ndarray
    spread: float


@dataclass(frozen=True)
class Problem:
    """A small set, and the inverse covariance of the prior of its averages."""

    small: SmallSet
    precision: np.ndarray

    def e_step(self, state: State) -> tuple[Posterior, float]:
        """The posterior, and the log of the evidence of all images times the priors of averages and shares."""
        prior = log_prior(
            log_weights(state.classes),
            log_weights(state.orientations),
            log_shift_prior(self.small.shifts, state.spread),
        )
        references = references_of(state.averages, self.small.operators)
        found = posterior(log_likelihood(state.images, references, self.small.shifts), prior)
        value = np.sum(found.log_evidence + log_noise(state.images))
        value -= 0.5 * np.sum((state.averages @ self.precision) * state.averages)
        return found, value + PSEUDO_COUNT * np.log(state.classes).sum()

    def match(self, state: State, found: Posterior):
        references = references_of(state.averages, self.small.operators)
        return expected_match(state.images, references, self.small.shifts, found.probability)

    def averages(self, state: State, found: Posterior) -> State:
        sums = expected_sums(state.images, self.small.shifts, found.probability)
        pixels = state.images.pixels
        return replace(state, averages=solved_references(sums, self.small.operators, pixels, self.precision))

    def noise(self, state: State, found: Posterior) -> State:
        noise = updated_noise(state.images, self.match(state, found))
        return replace(state, images=replace(state.images, noise=noise))

    def scale(self, state: State, found: Posterior) -> State:
        scale = updated_scale(state.images, self.match(state, found), self.small.micrograph)
        return replace(state, images=replace(state.images, scale=scale))

    def norm(self, state: State, found: Posterior) -> State:
        norm = updated_norm(state.images, self.match(state, found))
        return replace(state, images=replace(state.images, norm=norm))

    def classes(self, state: State, found: Posterior) -> State:
        return replace(state, classes=updated_shares(found.classes, pseudo_count=PSEUDO_COUNT))

    def orientations(self, state: State, found: Posterior) -> State:
        of_class = [updated_shares(of) for of in np.moveaxis(found.orientations, 1, 0)]
        return replace(state, orientations=np.array([share / share.sum() for share in of_class]))

    def spread(self, state: State, found: Posterior) -> State:
        return replace(state, spread=updated_shift_spread(found.shifts, self.small.shifts))


UPDATES = ("averages", "noise", "scale", "norm", "classes", "orientations", "spread")


def problem(shape: tuple[int, int] = (8, 8), *, seed: int = 3, count: int = 40, noise_level: float = 1.0) -> Problem:
    small = small_set(shape, count=count, psi=PSI, noise_level=noise_level, seed=seed)
    signal = 1.0 / (1 + shell_index(shape, half=False)) ** 2
    return Problem(small, np.linalg.inv(definition.noise_covariance(signal)))


def start_of(task: Problem, seed: int = 0) -> State:
    """Nothing known: averages of noise, everything else even."""
    rng = np.random.default_rng(seed)
    small, images = task.small, task.small.images
    count, classes = len(images), len(small.averages)
    blank = replace(images, noise=np.full_like(images.noise, 1.0), scale=np.ones(count), norm=np.ones(count))
    even = np.full((classes, len(small.rotations)), 1 / len(small.rotations))
    return State(blank, rng.normal(0, 0.3, small.averages.shape), np.full(classes, 1 / classes), even, 10.0)


def course(task: Problem, state: State, updates, iterations: int) -> tuple[np.ndarray, State]:
    """The objective before each iteration and after the last; in an iteration the updates follow one another."""
    values = []
    for _ in range(iterations):
        found, value = task.e_step(state)
        values.append(value)
        for update in updates:
            state = (getattr(task, update) if isinstance(update, str) else update)(state, found)
    return np.array([*values, task.e_step(state)[1]]), state


def never_falls(values: np.ndarray) -> bool:
    """By more than the rounding of a sum of some ten thousand terms in double precision."""
    return bool(np.all(np.diff(values) >= -1e-10 * np.abs(values[1:])))


@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (8, 9)])
@pytest.mark.parametrize("update", UPDATES)
def test_each_update_alone(update, shape):
    task = problem(shape, noise_level=0.3)
    state = start_of(task)
    if update != "averages":  # near the truth, so that there is something to match; and priors that are wrong
        rare = np.where(np.arange(2) == np.bincount(task.small.truth[:, 0]).argmin(), 0.95, 0.05)
        state = replace(state, averages=0.7 * task.small.averages, classes=rare, spread=1.0)
    if update in ("classes", "orientations", "spread"):
        state = replace(state, images=task.small.images)
    values, _ = course(task, state, [update], 6)
    assert never_falls(values), np.diff(values)
    assert values[-1] > values[0] + 0.1  # it does something


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("order", [UPDATES, UPDATES[::-1]], ids=["averages first", "averages last"])
def test_all_updates_together(order, seed):
    task = problem(seed=seed)
    values, after = course(task, start_of(task, seed), order, 25)
    assert never_falls(values), np.diff(values)
    # What fits these images best is more probable than what they were made from.
    truth = replace(
        after, images=task.small.images, averages=task.small.averages, classes=np.full(2, 0.5), spread=math.inf
    )
    even = np.full_like(after.orientations, 1 / len(PSI))
    likelihood_of_truth = task.e_step(replace(truth, orientations=even))[1]
    assert values[-1] > likelihood_of_truth > values[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_classes_come_out_of_nothing(seed):
    """From averages of noise to the classes, up to their order; as often right as the true parameters, but for 5 %."""
    task = problem((9, 9), count=120, noise_level=0.08)
    values, state = course(task, start_of(task, seed), UPDATES, 40)
    assert never_falls(values)
    small, even = task.small, np.full_like(state.orientations, 1 / len(PSI))
    truth = State(small.images, small.averages, np.full(2, 0.5), even, math.inf)

    def right(state: State) -> float:
        return float(np.mean(task.e_step(state)[0].classes.argmax(axis=1) == small.truth[:, 0]))

    assert right(truth) > 0.95
    assert max(right(state), 1 - right(state)) > right(truth) - 0.05


def test_an_update_of_the_wrong_sign_or_size_falls():
    """The bar can fail: what is nearly an update lowers the objective."""
    task = problem()
    state = course(task, start_of(task), UPDATES, 12)[1]

    def with_shifts(sign):
        def update(state, found):
            sums = expected_sums(state.images, sign * task.small.shifts, found.probability)
            solved = solved_references(sums, task.small.operators, state.images.pixels, task.precision)
            return replace(state, averages=solved)

        return update

    def with_ctf(sign):
        def update(state, found):
            images = replace(state.images, transfer=sign * state.images.transfer)
            sums = expected_sums(images, task.small.shifts, found.probability)
            solved = solved_references(sums, task.small.operators, state.images.pixels, task.precision)
            return replace(state, averages=solved)

        return update

    def noise_times(factor):
        return lambda state, found: replace(
            state, images=replace(state.images, noise=factor * task.noise(state, found).images.noise)
        )

    for make in (with_shifts, with_ctf, noise_times):
        assert never_falls(course(task, state, [make(1.0)], 2)[0])
        wrong = -1.0 if make is not noise_times else 1.05
        before, after = course(task, state, [make(wrong)], 1)[0]
        assert after < before - 0.1


def test_the_definition_in_real_space_never_falls_either():
    small = small_set((7, 7), count=12, noise_level=1.0)
    covariance = definition.noise_covariance(1.0 / (1 + shell_index((7, 7), half=False)) ** 2)
    prior = np.full(small.views.shape[:2], -math.log(2 * small.views[..., 0, 0].size))
    averages = np.random.default_rng(0).normal(0, 0.3, small.averages.shape)
    values = []
    for _ in range(6):
        tables = [definition.log_likelihood(image, averages, small.views) for image in small.matrices]
        evidence = sum(definition.posterior(table, prior)[1] for table in tables)
        values.append(evidence - 0.5 * sum(a @ np.linalg.solve(covariance, a) for a in averages))
        averages = definition.em_step(small.matrices, averages, small.views, prior, covariance)
    assert never_falls(np.array(values)) and values[-1] > values[0] + 1
