"""The model of the rings: its definition, and the equations of its likelihood."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from tests.unit.estimation.ring_images import LENS

from vitreous.estimation.ctf_estimate import PARAMETERS
from vitreous.estimation.ring_model import (
    Samples,
    State,
    normal_equations,
    relative_residual,
    ring_wave,
)
from vitreous.estimation.ring_pixels import splines
from vitreous.estimation.ring_profile import equal_phase_frequency
from vitreous.optics.electrons import wavelength
from vitreous.optics.thickness import thick_power
from vitreous.reference.ctf_estimation import local_defocus, log_likelihood, ring_phase, ring_power

LIMITS = (0.03, 0.3)


def made_up(count: int = 400, parts: int = 2) -> tuple[Samples, State]:
    rng = np.random.default_rng(5)
    k, theta = rng.uniform(*LIMITS, count), rng.uniform(-np.pi / 2, np.pi / 2, count)
    state = State(
        np.array([12000.0, 150.0, -80.0, 0.3, 0.1, -0.2, 900.0]), rng.normal(0, 0.2, 6), rng.uniform(0.05, 0.3, 5)
    )
    power = rng.gamma(9, 1 / 9, size=(parts, count))
    x, y = rng.uniform(-1000, 1000, (2, parts))
    kx, ky = k * np.cos(theta), k * np.sin(theta)
    return Samples(kx, ky, power, x, y, 300.0, splines(k, LIMITS, 6).T, splines(k, LIMITS, 5).T), state


def expected_power(samples: Samples, state: State, part: int) -> list[float]:
    """By the definition, sample by sample."""
    df, along, across, phase_shift, slope_x, slope_y, thickness = state.lens
    lam = wavelength(LENS.voltage)
    values = []
    for i, (kx, ky) in enumerate(zip(samples.kx, samples.ky)):
        local = local_defocus(df, slope_x, slope_y, samples.x[part], samples.y[part])
        gamma = ring_phase(
            kx, ky, local, along, across, lam, LENS.spherical_aberration, LENS.amplitude_contrast, phase_shift
        )
        k2 = kx * kx + ky * ky
        within = np.sinc(lam * k2 * slope_x * samples.side) * np.sinc(lam * k2 * slope_y * samples.side)
        depth = float(samples.depth[:, i] @ state.depth) * within
        values.append(
            ring_power(
                math.exp(samples.background[:, i] @ state.background), depth, gamma, lam, math.sqrt(k2), thickness
            )
        )
    return values


def test_it_is_the_definition():
    samples, state = made_up()
    rest = relative_residual(samples, state, LENS)
    for part in range(2):
        expected = samples.power[part] / np.array(expected_power(samples, state, part)) - 1
        np.testing.assert_allclose(rest[part], expected, rtol=1e-9, atol=1e-9)  # the phase has up to 100 turns


def test_full_depth_is_the_power_of_unrelated_layers():
    kx, ky = np.linspace(0.03, 0.2, 50), np.linspace(-0.1, 0.1, 50)
    lens = np.array([15000.0, 100.0, 50.0, 0.2, 0.0, 0.0, 1500.0])
    wave = ring_wave(lens, kx, ky, 0.0, 0.0, 0.0, LENS)
    power = thick_power(
        kx, ky, 15000.0, np.array([100.0, 50.0]), thickness=1500.0, voltage=LENS.voltage,
        spherical_aberration=LENS.spherical_aberration, amplitude_contrast=LENS.amplitude_contrast, phase_shift=0.2,
    )  # fmt: skip
    np.testing.assert_allclose((1 - wave) / 2, power, atol=1e-12)


def test_the_step_is_the_slope_of_the_likelihood():
    """In float64, against finite differences of the definition of Whittle's likelihood."""
    samples, state = made_up(count=150, parts=2)
    names = PARAMETERS
    with jax.enable_x64(True):
        normal = normal_equations(samples, state, LENS, names, 1e6)
    units = (1e3, 1e3, 1e3, 1.0, 1.0, 1.0, 1e3)

    def likelihood(lens_change: np.ndarray, background: np.ndarray, depth: np.ndarray) -> float:
        moved = State(state.lens + lens_change, state.background + background, state.depth + depth)
        return sum(log_likelihood(samples.power[p], expected_power(samples, moved, p)) for p in range(2))

    zero = (np.zeros(7), np.zeros(6), np.zeros(5))
    slopes = []
    for block, count in enumerate((7, 6, 5)):
        for i in range(count):
            step = 1e-6 * (units[i] if block == 0 else 1.0)
            up, down = ([part.copy() for part in zero] for _ in range(2))
            up[block][i] += step
            down[block][i] -= step
            slopes.append((likelihood(*up) - likelihood(*down)) / 2e-6)
    # central differences of a sum of 300 terms in double: 1e-9 / 1e-6, beside third derivatives of 1e-12 * (turns)^3
    np.testing.assert_allclose(normal.gradient, slopes, rtol=1e-4, atol=5e-3)
    assert np.abs(normal.gradient).max() > 10  # the slopes are not small beside the tolerance


def test_single_precision_is_near_enough():
    samples, state = made_up(count=4000, parts=3)
    with jax.enable_x64(True):
        double = normal_equations(samples, state, LENS, PARAMETERS, 2.0)
    single = normal_equations(Samples(*(np.asarray(a, np.float32) for a in samples)), state, LENS, PARAMETERS, 2.0)
    scale = np.sqrt(np.outer(np.diag(double.matrix), np.diag(double.matrix)))
    assert np.abs((single.matrix - double.matrix) / scale).max() < 1e-4
    assert np.abs(single.gradient - double.gradient).max() < 1e-3 * np.sqrt(np.diag(double.matrix)).max()


def test_beyond_its_reach_there_are_no_rings():
    samples, state = made_up()
    near = state._replace(reach=0.1)
    k = np.hypot(samples.kx, samples.ky)
    rest = relative_residual(samples, near, LENS)
    plain = samples.power / np.exp(state.background @ samples.background) - 1
    np.testing.assert_allclose(rest[:, k > 0.1], plain[:, k > 0.1], rtol=1e-12)
    assert np.abs(rest[:, k < 0.1] - plain[:, k < 0.1]).max() > 0.01


def test_gradients_are_finite_without_astigmatism_tilt_and_thickness():
    samples, state = made_up()
    round_lens = state._replace(lens=np.array([12000.0, 0, 0, 0, 0, 0, 0]))
    normal = normal_equations(Samples(*(np.asarray(a, np.float32) for a in samples)), round_lens, LENS, PARAMETERS, 2.0)
    assert np.isfinite(normal.matrix).all() and np.isfinite(normal.gradient).all()
    assert (np.diag(normal.matrix)[[0, 1, 2, 3, 4, 5]] > 0).all()  # the thickness alone has no slope at 0: it is even


@pytest.mark.parametrize("defocus", [3000.0, 15000.0, 60000.0])
def test_equal_phases_come_back_to_their_frequency(defocus):
    k = np.linspace(0.01, 0.3, 30)
    lam = wavelength(LENS.voltage)
    chi = np.array([ring_phase(one, 0.0, defocus, 0, 0, lam, LENS.spherical_aberration, 0.0) for one in k])
    np.testing.assert_allclose(equal_phase_frequency(chi, defocus, LENS), k, rtol=1e-9)
    without = np.array([ring_phase(one, 0.0, defocus, 0, 0, lam, 0.0, 0.0) for one in k])
    from vitreous.estimation.ctf_estimate import Lens

    np.testing.assert_allclose(equal_phase_frequency(without, defocus, Lens(300e3, 0.0, 0.1)), k, rtol=1e-9)


def test_splines_add_up_to_one():
    k = np.linspace(*LIMITS, 40)
    basis = splines(k, LIMITS, 9)
    assert basis.shape == (40, 9) and (basis >= 0).all()
    np.testing.assert_allclose(basis.sum(axis=1), 1.0, rtol=1e-12)
