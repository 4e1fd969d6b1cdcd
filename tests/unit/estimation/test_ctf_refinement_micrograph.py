"""The fit of one micrograph: arrow equations against dense ones, prior, scan, spread, edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.estimation import micrograph_fit
from vitreous.estimation.ctf_refinement import most_likely_spread
from vitreous.estimation.micrograph_fit import Freedom, fit_micrograph, spread_evidence
from vitreous.estimation.particle_likelihood import Slopes
from vitreous.reference import ctf_refinement as definition

OFFSETS = np.linspace(-2000.0, 2000.0, 101)


class Quadratic:
    """A likelihood `L_i = -(x - t_i)^T H_i (x - t_i) / 2`: everything about it is known."""

    def __init__(self, truth, curvature):
        self.truth, self.curvature = truth, curvature

    def __len__(self):
        return len(self.truth)

    def at(self, change):
        d = change - self.truth
        value = -np.einsum("ni,nij,nj->n", d, self.curvature, d) / 2
        gradient = -np.einsum("nij,nj->ni", self.curvature, d)
        return Slopes(value, gradient, self.curvature, self.curvature)

    def scan(self, offsets):
        return np.array([self.at(np.tile([o, 0.0, 0.0], (len(self), 1))).value for o in offsets]).T


def quadratic(rng, count=7, sigma=150.0):
    root = rng.normal(0, 0.4, (count, 3, 3)) + np.eye(3)
    curvature = np.einsum("nij,nkj->nik", root, root) / sigma**2
    truth = rng.normal([300.0, 80.0, -60.0], [120.0, 30.0, 30.0], (count, 3))
    return Quadratic(truth, curvature)


def dense(likelihood, freedom):
    """Most probable (m, a1, a2, e_1 ... e_n) and its covariance by one large matrix."""
    count = len(likelihood)
    size = 3 + count
    matrix, right = np.zeros((size, size)), np.zeros(size)
    for i in range(count):
        into = np.zeros((3, size))
        into[:, :3] = np.eye(3)
        into[0, 3 + i] = 1
        matrix += into.T @ likelihood.curvature[i] @ into
        right += into.T @ likelihood.curvature[i] @ likelihood.truth[i]
    prior = np.diag([0.0, *[freedom.astigmatism_spread**-2] * 2, *[freedom.spread**-2] * count])
    covariance = np.linalg.inv(matrix + prior)
    return covariance @ right, covariance


def test_the_arrow_gives_what_a_dense_solution_gives(rng):
    likelihood, freedom = quadratic(rng), Freedom(spread=100.0, astigmatism_spread=200.0)
    fit = fit_micrograph(likelihood, freedom, OFFSETS)
    expected, covariance = dense(likelihood, freedom)
    np.testing.assert_allclose(fit.common, expected[:3], atol=1e-3)
    np.testing.assert_allclose(fit.change[:, 0], expected[0] + expected[3:], atol=1e-3)
    np.testing.assert_allclose(fit.common_sigma, np.sqrt(np.diag(covariance)[:3]), rtol=1e-6)
    for i in range(len(likelihood)):
        sums = np.zeros(len(expected))
        sums[[0, 3 + i]] = 1
        assert fit.sigma[i] == pytest.approx(np.sqrt(sums @ covariance @ sums), rel=1e-6)
    gain = likelihood.at(fit.change).value - likelihood.at(np.zeros((7, 3))).value
    np.testing.assert_allclose(fit.gain, gain)
    assert not fit.at_edge.any()


def test_what_is_not_free_does_not_change(rng):
    likelihood = quadratic(rng)
    none = fit_micrograph(likelihood, Freedom("none"), OFFSETS)
    assert (none.change[:, 0] == 0).all() and np.isnan(none.sigma).all() and np.isnan(none.common[0])
    assert (np.ptp(none.change, axis=0) == 0).all() and np.abs(none.change[0, 1:]).min() > 1
    one = fit_micrograph(likelihood, Freedom("micrograph", astigmatism=False), OFFSETS)
    weights = likelihood.curvature[:, 0, 0]
    slope = np.einsum("nj,nj->n", likelihood.curvature[:, 0], likelihood.truth)
    np.testing.assert_allclose(one.change[:, 0], slope.sum() / weights.sum(), rtol=1e-6)
    assert (one.change[:, 1:] == 0).all()
    np.testing.assert_allclose(one.sigma, weights.sum() ** -0.5, rtol=1e-6)
    alone = fit_micrograph(likelihood, Freedom(astigmatism=False, common=False, spread=100.0), OFFSETS)
    np.testing.assert_allclose(alone.change[:, 0], slope / (weights + 1e-4), rtol=1e-5)


def test_a_particle_that_says_nothing_gets_its_micrograph_s_defocus(rng):
    likelihood = quadratic(rng)
    likelihood.curvature[3] *= 1e-6
    likelihood.truth[3, 0] = -1900.0  # what the noise of a poor image may ask for
    fit = fit_micrograph(likelihood, Freedom(spread=80.0, astigmatism=False), OFFSETS)
    assert fit.change[3, 0] == pytest.approx(fit.common[0], abs=1.0)
    assert fit.sigma[3] == pytest.approx(np.hypot(80.0, fit.common_sigma[0]), rel=0.02)


def test_the_range_is_kept_and_told(rng):
    likelihood = quadratic(rng, sigma=20.0)
    likelihood.truth[:, 0] += 3000.0
    fit = fit_micrograph(likelihood, Freedom(astigmatism=False), OFFSETS)
    assert fit.at_edge.all() and np.abs(fit.change[:, 0]).max() <= 2000.0


def test_the_scan_escapes_a_neighbouring_optimum(rng):
    """Fringes of 800 angstrom whose true one is the highest but is not the nearest."""

    class Fringes(Quadratic):
        def at(self, change):
            d = change[:, 0] - 1350.0
            wave, envelope = np.cos(2 * np.pi * d / 800), np.exp(-((d / 3000) ** 2))
            value = 40 * wave * envelope
            slope = -40 * (2 * np.pi / 800 * np.sin(2 * np.pi * d / 800) + 2 * d / 3000**2 * wave) * envelope
            curvature = np.zeros((len(self), 3, 3))
            curvature[:, 0, 0] = 40 * (2 * np.pi / 800) ** 2
            gradient = np.zeros((len(self), 3))
            gradient[:, 0] = slope
            return Slopes(value, gradient, curvature, curvature)

    likelihood = Fringes(np.zeros((4, 3)), np.zeros((4, 3, 3)))
    fit = fit_micrograph(likelihood, Freedom(astigmatism=False), OFFSETS)
    np.testing.assert_allclose(fit.change[:, 0], 1350.0, atol=2.0)


def test_a_step_that_would_lead_down_is_shortened():
    """A likelihood far steeper on one side: undamped Newton steps with the mean curvature would jump to and fro."""

    class Steep(Quadratic):
        def at(self, change):
            d = change[:, 0] - 500.0
            value, slope = -np.sqrt(1 + (d / 20) ** 2), -d / 400 / np.sqrt(1 + (d / 20) ** 2)
            curvature, gradient = np.zeros((len(self), 3, 3)), np.zeros((len(self), 3))
            curvature[:, 0, 0] = 1e-5  # too flat by far: steps are too long
            gradient[:, 0] = slope
            return Slopes(100 * value, 100 * gradient, curvature, curvature)

    fit = fit_micrograph(
        Steep(np.zeros((3, 3)), np.zeros((3, 3, 3))), Freedom("micrograph", astigmatism=False), OFFSETS
    )
    before = Steep(np.zeros((3, 3)), np.zeros((3, 3, 3))).at(np.zeros((3, 3))).value
    assert (fit.gain > 0).all() and fit.gain[0] > 0.9 * -before[0] - 101


def test_spread_evidence_is_its_definition(rng):
    table = rng.normal(0, 3, (6, len(OFFSETS)))
    for spread in (100.0, 400.0):
        found = spread_evidence(table, OFFSETS, (spread,))
        each = [definition.spread_likelihood(table, OFFSETS, mean, spread) for mean in OFFSETS]
        assert found[0] == pytest.approx(max(each), rel=1e-9)
        centred = spread_evidence(table, OFFSETS, (spread,), common=False)
        assert centred[0] == pytest.approx(definition.spread_likelihood(table, OFFSETS, 0.0, spread), rel=1e-9)


def test_the_spread_is_measured_from_particles_that_each_say_little(rng):
    """400 particles in 10 micrographs, defoci spread by 150, each known to 250: the spread is known to 25 or so."""
    evidence = np.zeros(len(micrograph_fit.SPREADS))
    for _ in range(10):
        truth = rng.normal(rng.normal(0, 300), 150, 40) + rng.normal(0, 250, 40)
        evidence += spread_evidence(-((OFFSETS - truth[:, None]) ** 2) / (2 * 250**2), OFFSETS)
    assert most_likely_spread(micrograph_fit.SPREADS, evidence) == pytest.approx(150, abs=80)
    none = np.zeros(len(micrograph_fit.SPREADS))
    for _ in range(10):
        truth = rng.normal(0, 300) + rng.normal(0, 100, 40)
        none += spread_evidence(-((OFFSETS - truth[:, None]) ** 2) / (2 * 100**2), OFFSETS)
    assert most_likely_spread(micrograph_fit.SPREADS, none) < 45


def test_inputs_are_not_modified(rng):
    likelihood = quadratic(rng)
    kept = (likelihood.truth.copy(), likelihood.curvature.copy())
    fit_micrograph(likelihood, replace(Freedom(), spread=90.0), OFFSETS)
    assert (likelihood.truth == kept[0]).all() and (likelihood.curvature == kept[1]).all()
